//! `lutmul synth`: a model of true names and shapes, whole or absent, and the same each time.

mod common;

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use common::{Dir, text};
use half::bf16;
use lutmul::checkpoint::{Checkpoint, Matrix};
use serde_json::Value;

#[test]
fn a_small_phi_3_5_mini() {
    let dir = Dir::new();
    let make = |name: &str, threads: &str, seed: &str| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lutmul"));
        command.args(["synth", "phi-3.5-mini", name, "--seed", seed, "--json"]);
        command.args(["--layers", "1", "--vocabulary", "40", "--shard", "160000000"]);
        let output = dir.command(command.env("RAYON_NUM_THREADS", threads));
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let summary = make("a", "1", "3");
    let weights = (9216 + 3072 + 16384 + 8192) * 3072 + 2 * 3072 + 2 * 40 * 3072 + 3072;
    assert_eq!(summary["weights"], weights);
    assert_eq!((&summary["tensors"], &summary["shards"]), (&9.into(), &2.into()));
    make("b", "3", "3");
    make("c", "2", "4");

    let files = |name: &str| {
        let mut files: Vec<_> = fs::read_dir(dir.path(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    };
    let names = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(files("a"), names);
    let read = |model: &str, file: &str| fs::read(dir.path(model).join(file)).unwrap();
    for name in names {
        assert!(read("a", name) == read("b", name), "{name}: threads make no difference");
    }
    assert!(read("a", names[1]) != read("c", names[1]), "the seed does");
    let config: Value = serde_json::from_slice(&read("a", names[0])).unwrap();
    assert_eq!((&config["num_hidden_layers"], &config["vocab_size"]), (&1.into(), &40.into()));
    let index: Value = serde_json::from_slice(&read("a", names[3])).unwrap();
    assert_eq!(index["metadata"]["total_size"], 2 * weights);

    let model = Checkpoint::open(dir.path("a")).unwrap();
    assert_eq!(model.files().len(), 2);
    let linears: Vec<_> = model.linears().iter().map(|l| (&*l.name, l.shape)).collect();
    let expected = [
        ("lm_head", (40, 3072)),
        ("model.layers.0.mlp.down_proj", (3072, 8192)),
        ("model.layers.0.mlp.gate_up_proj", (16384, 3072)),
        ("model.layers.0.self_attn.o_proj", (3072, 3072)),
        ("model.layers.0.self_attn.qkv_proj", (9216, 3072)),
    ];
    assert_eq!(linears, expected);
    assert!(model.validate(&mut |_| Ok(())).is_empty());
    for linear in model.linears() {
        let Matrix::Floats(floats) = model.matrix(linear).unwrap() else { panic!("floats") };
        plausible(&linear.name, &floats.to_f32(), linear.shape.1);
    }
}

/// As trained weights are: around 0, and a few of them far away; no two rows are alike.
fn plausible(name: &str, w: &[f32], k: usize) {
    let n = w.len() as f64;
    let moment = |p: i32| w.iter().map(|v| f64::from(*v).powi(p)).sum::<f64>() / n;
    let (mean, variance) = (moment(1), moment(2));
    assert!((0.015..0.05).contains(&variance.sqrt()), "{name}: {variance}");
    assert!(mean.abs() < 6.0 * (variance / n).sqrt(), "{name}: {mean}");
    // 3 if they were all normal of one size.
    let kurtosis = moment(4) / (variance * variance);
    assert!((3.5..6.0).contains(&kurtosis), "{name}: {kurtosis}");
    let rows: HashSet<Vec<u16>> = w
        .chunks(k)
        .map(|row| row[..8].iter().map(|v| bf16::from_f32(*v).to_bits()).collect())
        .collect();
    assert_eq!(rows.len(), w.len() / k, "{name}");
}

#[test]
fn bad_arguments() {
    let dir = Dir::new();
    dir.put("there", b"precious");
    dir.fail(&["synth", "phi-3.5-mini", "there"], &["there", "exists already"]);
    dir.fail(
        &["synth", "phi-3.5-mini", "none/out", "--layers", "0"],
        &["none/out", "No such file"],
    );
    for wrong in [&["phi-5", "x"][..], &["phi-3.5-mini", "x", "--vocabulary", "0"]] {
        let output = dir.run(&[&["synth"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", text(&output.stderr));
    }
    assert_eq!(dir.contents().len(), 1);
}
