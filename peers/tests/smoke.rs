//! Every peer computes what it should, and is set beside lutmul. Nothing is said of times.

use std::process::{Command, Output};

use serde_json::Value;

fn run(args: &[&str]) -> Output {
    let once = ["--repetitions=1", "--seconds=1", "--pages=4k"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_lutmul-peers"));
    command.args(once).args(args).env_remove("CANDLE_NUM_THREADS").output().expect("the program")
}

fn text(output: &Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.is_empty(), "{err}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn peers_compute_what_they_should() {
    let out = text(&run(&[
        "--json",
        "--shape=256x256",
        // Up to 8 tokens products go through copies that are cold, a gigabyte of them with a large cache: minutes
        // for libraries that are compiled without optimisation here.
        "--tokens=9,16",
        "--threads=2,1",
        "--mode=a8t,f32",
    ]));
    let rows: Vec<Value> = out.lines().map(|row| serde_json::from_str(row).expect(row)).collect();
    let of =
        |peer: Option<&'static str>| rows.iter().filter(move |row| row["peer"].as_str() == peer);
    assert_eq!(of(None).count(), 2 * 2 * 2);
    for (peer, count, limit) in [
        ("gemm-f32", 2 * 2, 1e-6),
        // One scale a token; candle: one for 32 or 256 of k.
        ("rten-u8i8", 2 * 2, 9e-3),
        // With the first number of threads only.
        ("candle-q8-0", 2, 9e-3),
    ] {
        assert_eq!(of(Some(peer)).count(), count, "{out}");
        for row in of(Some(peer)) {
            let error = row["rel_rms_error"].as_f64().expect("an error");
            // Where rten takes 7 bits only, its steps are twice as large.
            let limit = if row["mode"] == "u7" { 2.0 * limit } else { limit };
            assert!(error > 0.0 && error < limit, "{row}");
            assert!(row["seconds_best"].as_f64().expect("a time") > 0.0, "{row}");
        }
        let key = format!("speedup_vs_{}", peer.replace('-', "_"));
        for row in of(None) {
            let compared = peer != "candle-q8-0" || row["threads"] == 2;
            assert_eq!(row[&key].is_f64(), compared, "{key} of {row}");
        }
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vnni") {
        let vnni =
            |row: &Value| row["kernel"] == "x86_64-u8i8i32-avx512-vnni" && row["mode"] == "u8";
        assert!(of(Some("rten-u8i8")).all(vnni));
    }
}

#[test]
fn tables_for_people() {
    let out = text(&run(&["--shape=256x256", "--tokens=9", "--peer=gemm-f32,candle-q8-0"]));
    for word in ["a8t", "a24", "vs gemm-f32", "vs candle-q8-0", "q8_0"] {
        assert!(out.contains(word), "no {word:?} in {out}");
    }
    assert!(!out.contains("rten"), "{out}");
}

#[test]
fn what_a_peer_cannot_do_names_it() {
    let output = run(&["--shape=16x33", "--tokens=1", "--peer=candle-q8-0"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("error: candle-q8-0: ") && err.contains("33"), "{err}");
    let output = run(&["--peer=mkl"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("rten-u8i8"));
}

#[test]
fn more_threads_than_make_sense() {
    let output = run(&["--threads=99999"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("threads are more than 1024"), "{err}");
}
