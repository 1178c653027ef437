//! `bench`, `demo` and `kernels` with tiny shapes, and options that are wrong. Mostly with nine tokens and more, whose
//! weights need not be cold: copies of them would fill four last caches for every product, some seconds each.

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Dir, text};
use serde_json::Value;
use testing::files::model;

/// The buffer that the bandwidth is measured with is large: one test at a time has one.
fn alone() -> MutexGuard<'static, ()> {
    static MEASURING: Mutex<()> = Mutex::new(());
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines of JSON.
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

const FIELDS: &str = "layer peer format scales mode kernel shape m n k threads pages seconds_best seconds_median \
    gflops weight_gb_s read_gb_s roofline peak_gflops gemm_f32_gflops speedup_vs_gemm_f32 rel_rms_error \
    image_bytes image_rel_rms_error product_rel_rms_error weight_bytes workspace_bytes cpu version";

/// Once through everything.
const ONCE: &str = "--repetitions=1";
const QUICK: [&str; 2] = [ONCE, "--seconds=1"];

#[test]
fn every_combination_is_a_line_with_all_fields() {
    let (_alone, dir) = (alone(), Dir::new());
    let lists = [
        "bench",
        "--json",
        "--scales=row,block:8x16",
        "--kernel=scalar,best",
        "--threads=1,2",
        "--pages=4k",
    ];
    let bench = |more: &[&str]| objects(&dir.succeed(&[&lists[..], more, &QUICK].concat()));
    let formats = ["--format=e4m3,qins-linear", "--format=kmeans-signed"];
    let warm = bench(&[&["--shape=40x70,7x130", "--tokens=9,20"], &formats[..]].concat());
    let kernels: BTreeSet<_> = warm.iter().map(|row| row["kernel"].as_str()).collect();
    assert_eq!(warm.len(), 2 * 2 * 3 * 2 * kernels.len() * 2);
    let cold = bench(&["--shape=40x70", "--tokens=1", "--format=e4m3"]);
    assert_eq!(cold.len(), 2 * kernels.len() * 2);
    for row in warm.iter().chain(&cold) {
        assert_eq!(keys(row), FIELDS.split_whitespace().collect(), "{row}");
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
        assert!(number("seconds_best") > 0.0 && number("seconds_median") >= number("seconds_best"));
        assert!(number("gflops") > 0.0 && number("weight_gb_s") > 0.0 && number("read_gb_s") > 0.0);
        let roofline = number("weight_gb_s") / number("read_gb_s");
        assert!((number("roofline") / roofline - 1.0).abs() < 1e-6);
        assert!(number("rel_rms_error") < 1e-6, "{row}");
        let whole = number("product_rel_rms_error");
        assert!(whole < 0.1 && (whole > 1e-3 || row["format"] != "e4m3"), "{row}");
        assert!(number("weight_bytes") >= number("n") * number("k"));
        assert!(number("workspace_bytes") > 0.0);
        assert_eq!(row["shape"], if row["m"] == 1 { "gemv" } else { "gemm" });
        assert_eq!((&row["mode"], &row["pages"]), (&"f32".into(), &"4k".into()));
        for key in ["peer", "image_bytes", "image_rel_rms_error"] {
            assert!(row[key].is_null(), "{key} of {row}");
        }
        let peers = cfg!(feature = "peers");
        assert_eq!(row["gemm_f32_gflops"].is_null(), !peers);
        assert_eq!(row["speedup_vs_gemm_f32"].is_null(), !peers);
    }
}

#[test]
fn warm_weights_have_no_roofline() {
    let dir = Dir::new();
    let args = ["bench", "--json", "--warm", "--shape=100000x512", "--tokens=1", "--format=int8"];
    let rows = objects(&dir.succeed(&[&args[..], &QUICK].concat()));
    assert_eq!(rows.len(), 1);
    assert!(rows[0]["read_gb_s"].is_null() && rows[0]["roofline"].is_null());
    let n = rows[0]["n"].as_u64().expect("n");
    assert!(n > 0 && n < 100_000, "{n} rows of 512 don't fit half of a second-level cache");
}

/// The accuracy of integer modes at k = 3072: the arithmetic against the table's image, which for a8 and
/// a8t is the rounding of activations, and the image against the table.
#[test]
fn accuracy_of_integer_modes() {
    let (_alone, dir) = (alone(), Dir::new());
    let lists = [
        "bench",
        "--json",
        "--shape=256x3072",
        "--tokens=9",
        "--format=qins-linear,int8,e4m3,kmeans-signed",
        "--mode=a24,a16,a8,a8t",
        "--image=2,3",
        "--pages=4k",
    ];
    let limits = [
        // mode, Gaussian, with outliers
        ("a24", 2e-7, 1.5e-6),
        ("a16", 5e-5, 5e-4),
        ("a8", 6.1e-3, 1.43e-2),
        ("a8t", 8.7e-3, 7e-2),
    ];
    for outliers in [false, true] {
        let option: &[&str] = if outliers { &["--outliers"] } else { &[] };
        let rows = objects(&dir.succeed(&[&lists[..], &QUICK, option].concat()));
        assert_eq!(rows.len(), 4 * limits.len() * 2);
        let mut wide = 0;
        for row in &rows {
            let error = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
            let (_, gaussian, with_outliers) =
                limits.iter().find(|(mode, ..)| row["mode"] == *mode).expect("a mode");
            let limit = if outliers { with_outliers } else { gaussian };
            assert!(error("rel_rms_error") <= *limit, "{row}");
            let (format, image) = (row["format"].as_str(), error("image_rel_rms_error"));
            let right = match (format, row["image_bytes"].as_u64()) {
                (Some("qins-linear" | "int8"), Some(1)) => image == 0.0,
                (Some("e4m3" | "kmeans-signed"), Some(2)) => image > 1e-7 && image < 1e-4,
                (Some("e4m3"), Some(3)) => image == 0.0,
                (Some("kmeans-signed"), Some(3)) => image > 0.0 && image < 2e-7,
                _ => false,
            };
            assert!(right, "{row}");
            wide += usize::from(row["image_bytes"] == 3);
        }
        assert_eq!(wide, 2 * limits.len());
    }
}

#[test]
fn weights_in_a_mapped_file() {
    let (_alone, dir) = (alone(), Dir::new());
    let args = ["bench", "--json", "--shape=30x100", "--tokens=1", "--pages=file", "--outliers"];
    let rows = objects(&dir.succeed(&[&args[..], &QUICK].concat()));
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["pages"] == "file"));
}

#[test]
fn tables_for_people() {
    let (_alone, dir) = (alone(), Dir::new());
    let args = ["bench", "--shape=30x100", "--tokens=9", "--pages=4k"];
    let out = dir.succeed(&[&args[..], &QUICK].concat());
    for word in ["qins-linear", "e4m3", "kmeans-signed", "30×100", "GB/s with 1 thread"] {
        assert!(out.contains(word), "no {word:?} in {out}");
    }
    let out = dir.succeed(&["demo", "--shape=70x130", "--tokens=3", "--plot=plot.svg", ONCE]);
    for word in ["70 outputs × 130 inputs", "e4m3, block:128x128", "3 TOKENS", "a8t"] {
        assert!(out.contains(word), "no {word:?} in {out}");
    }
    // How long it takes is said before anything is measured, what to use last.
    assert!(
        out.lines().nth(3).is_some_and(|line| line.starts_with("Measuring, for about ")),
        "{out}"
    );
    let last: Vec<_> = out.lines().rev().take(4).collect();
    for (line, word) in
        last.iter().rev().zip(["WHAT TO USE", "To write", "To read, 3", "Least error"])
    {
        assert!(line.starts_with(word), "no {word:?} in {line}");
    }
    check_picture(&dir, "plot.svg", &["1 token", "3 tokens", "kmeans-signed", "a8t"]);
    dir.fail(&["demo", "--plot=missing/plot.svg"], &["missing/plot.svg"]);
    dir.fail(&["demo", "--plot=."], &[".: is a directory"]);
}

/// That a file is a picture, with these texts.
fn check_picture(dir: &Dir, name: &str, texts: &[&str]) {
    let svg = std::fs::read_to_string(dir.path(name)).expect(name);
    let document = roxmltree::Document::parse(&svg).expect(name);
    let found: Vec<_> = document.descendants().filter_map(|node| node.text()).collect();
    for text in texts {
        assert!(found.contains(text), "no {text:?} in {found:?}");
    }
}

#[test]
fn reports() {
    let (_alone, dir) = (alone(), Dir::new());
    let args = [
        "bench",
        "--report=first",
        "--name=machine",
        "--shape=40x128",
        "--tokens=1,9",
        "--threads=1,2",
        "--kernel=best,scalar",
        "--pages=4k",
    ];
    let out = dir.succeed(&[&args[..], &QUICK].concat());
    // 6 codings by all modes and two kernels, and a peer; by 2 numbers of tokens, with one thread and with two.
    let peers = usize::from(cfg!(feature = "peers"));
    let count = (6 * lutmul::Mode::ALL.len() * 2 + peers) * 2 * 2;
    assert!(out.starts_with(&format!("Measuring {count} products for about 1 minute. ")), "{out}");
    let names = ["machine.json", "machine-error.svg", "machine-tokens.svg", "machine.md"];
    for name in names {
        assert!(out.contains(&format!("first/{name}")), "no {name} in {out}");
    }
    let read = |folder: &str, name: &str| {
        std::fs::read_to_string(dir.path(folder).join(name)).expect(name)
    };
    let page = read("first", "machine.md");
    for word in [
        "reading memory",
        "## e4m3, block:128x128, 2 threads",
        "| a8t |",
        "9 tokens",
        "against scalar",
    ] {
        assert!(page.contains(word), "no {word:?} in {page}");
    }
    check_picture(&dir, "first/machine-error.svg", &["1 token", "9 tokens", "int8, group:32"]);
    check_picture(&dir, "first/machine-tokens.svg", &["kmeans-signed", "tokens", "a16"]);

    let from = ["bench", "--from=first/machine.json", "--report=second"];
    assert_eq!(dir.succeed(&from).lines().count(), names.len());
    for name in names {
        assert!(read("first", name) == read("second", name), "{name}");
    }

    // PyTorch's figures, and another name.
    let record: Value = serde_json::from_str(&read("first", "machine.json")).expect("JSON");
    let cpu = record["machine"]["cpu"].as_str().expect("a CPU");
    let product = serde_json::json!({"product": "PyTorch bf16", "tokens": 9, "best_gflops": 99.0,
        "median_gflops": 90.0, "error": 0.002, "kernel": "oneDNN"});
    let beside = |machine: &str| {
        let json = serde_json::json!({"machine": machine, "pytorch": "2.9.1", "n": 40, "k": 128,
            "products": [product], "ratios": [], "missing": {}});
        dir.put("beside.json", json.to_string().as_bytes());
    };
    beside(&format!("{cpu}, 2 CPUs"));
    let args = [&from[..], &["--beside=beside.json", "--name=other"]].concat();
    dir.succeed(&args);
    assert!(read("second", "other.md").contains("| PyTorch bf16 | 0.20 % | 99.0 |"));
    check_picture(&dir, "second/other-error.svg", &["PyTorch bf16"]);
    beside("another CPU");
    dir.fail(&args, &["beside.json", "another CPU"]);

    dir.put("broken.json", &read("first", "machine.json").as_bytes()[..100]);
    dir.put("old.json", br#"{"schema": 0}"#);
    for (file, word) in [("broken", "EOF"), ("old", "version 1"), ("missing", "No such file")] {
        let from = format!("--from={file}.json");
        dir.fail(&["bench", &from, "--report=third"], &[&format!("{file}.json"), word]);
    }
    dir.put("file", b"");
    dir.fail(&["bench", "--report=file"], &["file: "]);
    dir.fail(&["bench", "--report=third", "--name=../x"], &["name", "../x"]);
    for wrong in [["--from=a", "--seed=1"], ["--from=a", "--json"], ["--report=a", "--json"]] {
        let output = dir.run(&["bench", wrong[0], wrong[1]]);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", text(&output.stderr));
    }
}

const DEMO_FIELDS: &str = "layer model seed format scales kernel mode m n k rows_measured threads pages \
    seconds_best gweights_s gflops weight_gb_s read_gb_s roofline speedup_vs_f32 weight_bytes \
    f32_bytes weight_sqnr_db product_rel_rms_error rel_rms_error encoding_gweights_s cpu version";

fn check_demo(out: &str) -> Vec<Value> {
    let rows = objects(out);
    for row in &rows {
        assert_eq!(keys(row), DEMO_FIELDS.split_whitespace().collect(), "{row}");
        assert!(row["gweights_s"].as_f64().expect("a rate") > 0.0, "{row}");
        if row["format"] != "f32" {
            let error = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"));
            // Against the weights themselves, so that the error of the table's image counts.
            let limit = match row["mode"].as_str() {
                Some("f32") => 1e-6,
                Some("a24" | "a16") => 1e-3,
                _ => 0.2,
            };
            assert!(error("rel_rms_error") < limit, "{row}");
            assert!(error("product_rel_rms_error") >= 0.0 && error("weight_sqnr_db") > -99.0);
        }
    }
    rows
}

#[test]
fn demo_of_a_made_up_layer() {
    let (_alone, dir) = (alone(), Dir::new());
    let out =
        dir.succeed(&["demo", "--json", "--shape=100x200", "--tokens=20", "--threads=2", ONCE]);
    let rows = check_demo(&out);
    let formats: BTreeSet<_> = rows.iter().map(|row| row["format"].as_str()).collect();
    // All but AMD's two, and f32.
    assert_eq!(formats.len(), lutmul::Format::NAMED.len() - 2 + 1, "{formats:?}");
    assert!(rows.iter().any(|row| row["scales"] == "block:128x128"));
    assert!(rows.iter().any(|row| row["kernel"] == "scalar" && row["m"] == 20));
    let coded = rows.iter().filter(|row| row["format"] == "e4m3");
    let modes: BTreeSet<_> = coded.map(|row| row["mode"].as_str()).collect();
    assert_eq!(modes.len(), lutmul::Mode::ALL.len(), "{modes:?}");
    let sqnr = |format: &str| {
        let row = rows.iter().find(|row| row["format"] == format).expect(format);
        row["weight_sqnr_db"].as_f64().expect("dB")
    };
    assert!(sqnr("qins-linear") > sqnr("e5m2") && sqnr("e5m2") > sqnr("qins-inverse"));
}

#[test]
fn demo_of_a_model() {
    let (_alone, dir) = (alone(), Dir::new());
    dir.put("in", &model().bytes());
    let rows =
        check_demo(&dir.succeed(&["demo", "in", "--json", "--layers=1", "--tokens=4", ONCE]));
    assert!(rows.iter().all(|row| row["layer"] == "layer.1.dense.weight" && row["model"] == "in"));
    let both = check_demo(&dir.succeed(&["demo", "in", "--json", "--tokens=1", ONCE]));
    assert!(both.iter().any(|row| row["layer"] == "layer.0.dense.weight"));
}

#[test]
fn layers_of_a_model() {
    let (_alone, dir) = (alone(), Dir::new());
    dir.put("in", &model().bytes());
    let bench = |model: &str, options: &[&str]| {
        let args = ["bench", "--json", "--model", model, "--tokens=9", "--pages=4k"];
        objects(&dir.succeed(&[&args[..], options, &QUICK].concat()))
    };
    let floats = bench("in", &["--layers=2", "--format=e4m3,int8"]);
    let names: Vec<_> =
        floats.iter().map(|r| (r["layer"].as_str(), r["format"].as_str())).collect();
    let expected = ["layer.1.dense", "layer.0.dense"];
    let expected = expected.map(|l| [(Some(l), Some("e4m3")), (Some(l), Some("int8"))]).concat();
    assert_eq!(names, expected);
    // Codes are multiplied as they are.
    dir.succeed(&["convert", "in", "coded", "--format", "qins-linear", "--scales", "group:32"]);
    let coded = bench("coded", &["--format=e4m3"]);
    let row = &coded[0];
    assert_eq!((&row["format"], &row["scales"]), (&"qins-linear".into(), &"group:32".into()));
    assert_eq!((&row["n"], &row["k"], coded.len()), (&64.into(), &128.into(), 1));
    assert!(row["rel_rms_error"].as_f64().unwrap() < 1e-6);
}

#[test]
fn models_that_are_none() {
    let dir = Dir::new();
    dir.put("in", &model().bytes());
    dir.succeed(&["convert", "in", "coded"]);
    dir.put("short", &model().bytes()[..40]);
    dir.put("nothing", &testing::files::File::default().with_f32("bias", &[3], &[1.0; 3]).bytes());
    let nan = testing::files::File::default().with_f32("a.weight", &[1, 2], &[1.0, f32::NAN]);
    dir.put("nan", &nan.bytes());
    // Codes are a model as well: the weights that they stand for.
    dir.succeed(&["demo", "coded", "--layers=1", "--tokens=1", ONCE]);
    dir.fail(&["demo", "short"], &["short: "]);
    dir.fail(&["demo", "nothing"], &["nothing: ", "no 2-D weights"]);
    dir.fail(&["demo", "nan"], &["a.weight", "NaN", "row 0, column 1"]);
    dir.fail(&["demo", "missing"], &["missing: "]);
}

/// One pass through a model: what is coded, in every mode; floats are said to be left aside.
#[test]
fn a_whole_model() {
    let (_alone, dir) = (alone(), Dir::new());
    dir.put("in", &model().bytes());
    dir.fail(&["bench", "--model=in", "--whole"], &["in: has no coded layers", "lutmul convert"]);
    dir.succeed(&["convert", "in", "out", "--exclude=layer.1.*"]);
    let args =
        ["bench", "--model=out", "--whole", "--tokens=1,5", "--mode=f32,a8t", "--threads=1,2"];
    let json = dir.succeed(&[&args[..], &["--json", ONCE]].concat());
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2 * 2 * 2, "{report}");
    let weights = 12 * 70;
    assert_eq!(
        (&report["weights"], &report["f32_bytes"]),
        (&weights.into(), &(4 * weights).into())
    );
    assert_eq!((&report["layers"]["qins-linear row"], &report["floats"]), (&1.into(), &1.into()));
    for row in rows {
        let [m, best, rate] = ["m", "seconds_best", "tokens_s"].map(|key| row[key].as_f64());
        assert_eq!(rate, m.zip(best).map(|(m, best)| m / best), "{row}");
    }
    let table = dir.succeed(&[&args[..], &[ONCE]].concat());
    for words in ["1 of qins-linear row", "1 of floats left aside", "tokens/s"] {
        assert!(table.contains(words), "no {words:?} in {table}");
    }
    for wrong in ["--pages=4k", "--format=int8", "--layers=2", "--warm"] {
        let output = dir.run(&["bench", "--model=out", "--whole", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn the_list_of_kernels() {
    let dir = Dir::new();
    let rows = objects(&dir.succeed(&["kernels", "--json"]));
    assert_eq!(rows.iter().filter(|row| row["picked"] == true).count(), 1);
    // Kernels for comparison only may follow the scalar one.
    let scalar = |rows: &[Value]| {
        rows.iter().find(|row| row["name"] == "scalar").expect("the scalar kernel").clone()
    };
    assert_eq!(scalar(&rows)["available"], true);
    for row in &rows {
        assert_eq!(row["available"] == true, row["missing"] == serde_json::json!([]), "{row}");
        assert_eq!(row["available"] == true, row["decoders"].is_object(), "{row}");
    }
    let lutmul = || Command::new(env!("CARGO_BIN_EXE_lutmul"));
    let output = dir.command(lutmul().args(["kernels", "--json"]).env("LUTMUL_ISA", "scalar"));
    let picked = objects(&text(&output.stdout));
    assert_eq!(scalar(&picked)["picked"], true);
    for command in ["kernels", "bench", "demo"] {
        let output = dir.command(lutmul().arg(command).env("LUTMUL_ISA", "mmx"));
        dir.check_failure(&output, &dir.contents(), command, &["kernel", "\"mmx\""]);
    }
    assert!(dir.succeed(&["kernels"]).contains("taken"));
}

#[test]
fn values_that_are_wrong() {
    let dir = Dir::new();
    for (option, words) in [
        ("--shape=0x", "NxK"),
        ("--shape=0x5", "NxK"),
        ("--shape=5", "NxK"),
        ("--shape=99999999999x99999999999", "overflow"),
        ("--tokens=0", "from 1 on"),
        ("--threads=-1", "from 1 on"),
        ("--format=int4", "qins-linear"),
        ("--scales=block:0x1", "block:RxC"),
        ("--mode=f64", "f32"),
        ("--image=4", "2..=3"),
        ("--pages=1g", "4k, 2m, file"),
    ] {
        let output = dir.run(&["bench", option]);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{option}: {err}");
        assert!(err.contains(words) && !err.contains("panic"), "{option}: {err}");
    }
    dir.fail(&["bench", "--kernel=sse9"], &["kernel", "\"sse9\"", "scalar"]);
    dir.fail(&["bench", "--format=table:missing"], &["missing"]);
    let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx512vbmi" };
    dir.fail(&["bench", "--kernel", foreign], &["kernel", foreign]);
    if cfg!(target_os = "linux") {
        for command in ["bench", "demo"] {
            let huge = [command, "--shape=1000000x10000000"];
            dir.fail(&huge, &["shape 1000000x10000000", "memory are needed"]);
        }
        dir.fail(&["bench", "--tokens=9999999999999999"], &["9999999999999999 tokens"]);
    }
    let output = dir.run(&["demo", "--tokens=9999999999999"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("panic"));
}

/// A slip of the keyboard does not make threads for minutes.
#[test]
fn more_threads_than_make_sense() {
    let dir = Dir::new();
    for threads in ["1025", "99999", "4294967297", "1,1025"] {
        for program in ["bench", "demo"] {
            if program == "demo" && threads.contains(',') {
                continue;
            }
            let output = dir.run(&[program, "--threads", threads]);
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{program}: {err}");
            assert!(err.contains("threads are more than 1024"), "{program}: {err}");
        }
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_lutmul"));
    let output = dir.command(command.arg("kernels").env("RAYON_NUM_THREADS", "99999"));
    let words = ["RAYON_NUM_THREADS: 99999 threads are more than 1024"];
    dir.check_failure(&output, &dir.contents(), "RAYON_NUM_THREADS", &words);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lutmul"));
    let output = dir.command(command.arg("kernels").env("RAYON_NUM_THREADS", "1024"));
    assert!(output.status.success());
}
