//! Models that cannot be read as what they claim to be: errors that name file and tensor.
#![cfg(feature = "checkpoint")]

use std::fs;

use lutmul::checkpoint::Checkpoint;
use serde_json::{Value, json};
use testing::files::{File, Folder, le_bytes};

/// Opening fails, with an error that has all the words.
fn refused(folder: &Folder, words: &[&str]) {
    let error = Checkpoint::open(folder.path()).err().expect("an error").to_string();
    let words = [&[folder.path().to_str().unwrap()], words].concat();
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
}

/// A matrix of FP8 and its scales.
fn fp8(shape: [usize; 2], scale: &str, dtype: &str, scale_shape: &[usize]) -> File {
    let size = scale_shape.iter().product::<usize>() * if dtype == "F32" { 4 } else { 8 };
    let size = if dtype == "U8" { size / 8 } else { size };
    File::default().with("m.weight", "F8_E4M3", &shape, &vec![0x38; shape[0] * shape[1]]).with(
        scale,
        dtype,
        scale_shape,
        &vec![0; size],
    )
}

#[test]
fn scales_that_don_t_fit() {
    let method = || json!({ "quant_method": "fp8" });
    for config in [method(), Value::Null] {
        let scale = |dtype, shape: &[usize], words: &[&str]| {
            let file = fp8([4, 6], "m.weight_scale", dtype, shape);
            let words = [&["model.safetensors: tensor \"m.weight_scale\""], words].concat();
            refused(&Folder::of(&file, config.clone()), &words);
        };
        scale("F32", &[1, 4], &["shape [1, 4]", "4×6"]);
        scale("F32", &[1, 6], &["shape [1, 6]"]);
        scale("F32", &[6], &["shape [6]"]);
        scale("F32", &[3], &["shape [3]"]);
        scale("F32", &[1, 1], &["shape [1, 1]"]);
        scale("F32", &[4, 1, 1], &["shape [4, 1, 1]"]);
        scale("F32", &[2, 3], &["shape [2, 3]", "config.json"]);
        scale("F32", &[0], &["shape [0]"]);
        scale("F64", &[4], &["F64"]);
        scale("U8", &[4], &["U8"]);
    }
    let block = json!({ "quant_method": "fp8", "weight_block_size": [128, 128] });
    let wrong = |shape: [usize; 2], grid: &[usize], words: &[&str]| {
        let file = fp8(shape, "m.weight_scale_inv", "F32", grid);
        let words = [&["\"m.weight_scale_inv\""], words].concat();
        refused(&Folder::of(&file, block.clone()), &words);
    };
    wrong([576, 576], &[4, 5], &["[4, 5]", "[5, 5]", "block:128x128"]);
    wrong([576, 576], &[4, 4], &["[5, 5]"]);
    wrong([576, 576], &[25], &["[5, 5]"]);
    wrong([576, 576], &[], &["[5, 5]"]);
    wrong([1000, 128], &[125, 1], &["[8, 1]"]);
    for sizes in [json!([128]), json!([0, 128]), json!("big"), json!([1.5, 2]), json!(128)] {
        let config = json!({ "quant_method": "fp8", "weight_block_size": sizes });
        let file = fp8([4, 6], "m.weight_scale", "F32", &[1, 1]);
        refused(&Folder::of(&file, config), &["config.json", "weight_block_size"]);
    }
    let both =
        fp8([4, 6], "m.weight_scale", "F32", &[]).with("m.weight_scale_inv", "F32", &[], &[0; 4]);
    refused(&Folder::of(&both, method()), &["other scales"]);
}

#[test]
fn methods_that_are_not_known() {
    let file = fp8([4, 6], "m.weight_scale", "F32", &[]);
    let config = |config: Value, words: &[&str]| {
        refused(&Folder::of(&file, config), &[&["config.json"], words].concat());
    };
    config(json!({ "quant_method": "gptq", "bits": 4 }), &["\"gptq\"", "bitsandbytes"]);
    config(json!({ "bits": 8 }), &["quant_method"]);
    config(json!({ "quant_method": 8 }), &["quant_method"]);
    config(json!([1]), &["quantization_config"]);
    config(json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }), &["load_in_4bit"]);
    config(
        json!({ "quant_method": "fp8", "ignored_layers": ["re:("] }),
        &["ignored_layers", "re:("],
    );
    config(json!({ "quant_method": "fp8", "ignored_layers": "x" }), &["ignored_layers"]);
    let group = |format: &str, weights: Value| {
        json!({ "quant_method": "compressed-tensors", "format": format,
                "config_groups": { "g": { "targets": ["Linear"], "weights": weights } } })
    };
    let ok = json!({ "num_bits": 8, "type": "float", "strategy": "tensor" });
    config(group("pack-quantized", ok), &["pack-quantized", "\"g\""]);
    let bits = json!({ "num_bits": 4, "type": "float", "strategy": "tensor" });
    config(group("float-quantized", bits), &["4 bits"]);
    let strategy = json!({ "num_bits": 8, "type": "float", "strategy": "token" });
    config(group("float-quantized", strategy), &["token"]);
    let size = json!({ "num_bits": 8, "type": "float", "strategy": "group", "group_size": 0 });
    config(group("float-quantized", size), &["group_size"]);
    let block = json!({ "num_bits": 8, "type": "float", "strategy": "block" });
    config(group("float-quantized", block), &["block_structure"]);
    let folder = Folder::of(&file, Value::Null);
    folder.put("config.json", b"{");
    refused(&folder, &["config.json", "no valid config"]);
}

#[test]
fn config_json_in_other_places() {
    let file = fp8([576, 200], "m.weight_scale_inv", "F32", &[5, 2]);
    let fp8 = json!({ "quant_method": "fp8", "weight_block_size": [128, 128] });
    for config in [
        json!({ "text_config": { "quantization_config": fp8 } }),
        json!({ "quantization_config": null, "compression_config": fp8 }),
        json!({ "quantization_config": fp8, "text_config": {} }),
    ] {
        let folder = Folder::of(&file, Value::Null);
        folder.put("config.json", config.to_string().as_bytes());
        // The file by itself is read with the config beside it.
        for path in [folder.path().to_path_buf(), folder.at("model.safetensors")] {
            assert_eq!(Checkpoint::open(path).unwrap().linears().len(), 1);
        }
    }
}

#[test]
fn groups_that_say_something_else() {
    let config = |weights: Value, targets: Value| {
        json!({ "quant_method": "compressed-tensors", "format": "float-quantized",
                "config_groups": { "g": { "targets": targets, "weights": weights } } })
    };
    let weights =
        |kind: &str, strategy: &str| json!({ "num_bits": 8, "type": kind, "strategy": strategy });
    let channel = fp8([4, 6], "m.weight_scale", "F32", &[4, 1]);
    let linear = json!(["Linear"]);
    refused(
        &Folder::of(&channel, config(weights("float", "tensor"), linear.clone())),
        &["[4, 1]", "per tensor"],
    );
    refused(
        &Folder::of(&channel, config(weights("int", "channel"), linear.clone())),
        &["F8_E4M3", "type int"],
    );
    refused(
        &Folder::of(&channel, config(weights("float", "channel"), json!(["re:other"]))),
        &["\"m.weight\"", "no group"],
    );
    let file = File::default().with("m.weight", "F8_E4M3", &[1, 1], &[0]);
    refused(
        &Folder::of(&file, config(weights("float", "channel"), linear)),
        &["\"m.weight\"", "without scales"],
    );
    for targets in [json!(["Linear"]), json!(["m"]), json!(["re:^m$"])] {
        let folder = Folder::of(&channel, config(weights("float", "channel"), targets));
        assert_eq!(Checkpoint::open(folder.path()).unwrap().linears().len(), 1);
    }
}

#[test]
fn zero_points_and_orders_of_columns() {
    let asymmetric = json!({ "quant_method": "compressed-tensors", "format": "int-quantized", "config_groups":
        { "g": { "targets": ["Linear"], "weights": { "num_bits": 8, "type": "int", "strategy": "group",
                                                     "group_size": 4, "symmetric": false } } } });
    let int8 = || {
        File::default().with("m.weight", "I8", &[2, 8], &[0; 16]).with(
            "m.weight_scale",
            "F32",
            &[2, 2],
            &[0; 16],
        )
    };
    let zero = int8().with("m.weight_zero_point", "I8", &[2, 2], &[0; 4]);
    refused(
        &Folder::of(&zero, asymmetric.clone()),
        &["\"m.weight_zero_point\"", "[2, 2]", "zero points"],
    );
    let rows = int8().with("m.weight_zero_point", "I8", &[2, 1], &[0; 2]);
    refused(&Folder::of(&rows, asymmetric.clone()), &["\"m.weight_zero_point\""]);
    let order = int8().with("m.weight_g_idx", "I32", &[8], &[0; 32]);
    refused(&Folder::of(&order, asymmetric.clone()), &["\"m.weight_g_idx\"", "order"]);
    refused(&Folder::of(&int8(), asymmetric), &["\"m.weight\"", "no zero point"]);
    let blocks = File::default()
        .with("m.weight", "I8", &[2, 2], &[0; 4])
        .with("m.SCB", "F32", &[2], &[0; 8])
        .with("m.weight_format", "U8", &[], &[2]);
    refused(&Folder::of(&blocks, Value::Null), &["\"m.weight_format\"", "GPU"]);
    let scb = File::default().with("m.weight", "I8", &[2, 2], &[0; 4]).with(
        "m.SCB",
        "F32",
        &[3],
        &[0; 12],
    );
    refused(&Folder::of(&scb, Value::Null), &["\"m.SCB\"", "[3]"]);
    let none = File::default().with("m.weight", "I8", &[2, 2], &[0; 4]);
    refused(
        &Folder::of(&none, json!({ "quant_method": "bitsandbytes" })),
        &["\"m.weight\"", "m.SCB"],
    );
}

#[test]
fn scales_and_codes_that_are_not_finite() {
    let block = json!({ "quant_method": "fp8", "weight_block_size": [2, 2] });
    for (dtype, bad) in [
        ("F32", f32::NAN.to_le_bytes().to_vec()),
        ("F32", f32::INFINITY.to_le_bytes().to_vec()),
        ("F8_E8M0", vec![255]),
    ] {
        let mut scales = vec![0; 6 * bad.len()];
        scales[4 * bad.len()..][..bad.len()].copy_from_slice(&bad);
        let mut codes = vec![0x38; 24];
        codes[3 * 6 + 5] = 0xFF;
        let file = File::default()
            .with("m.weight", "F8_E4M3", &[4, 6], &[0x38; 24])
            .with("m.weight_scale_inv", dtype, &[2, 3], &scales)
            .with("nan.weight", "F8_E4M3", &[4, 6], &codes)
            .with("nan.weight_scale_inv", "F32", &[2, 3], &le_bytes(&[1.0; 6]))
            .with("f.weight", "F32", &[1, 3], &le_bytes(&[0.0, f32::NEG_INFINITY, 1.0]));
        let folder = Folder::of(&file, block.clone());
        // Opening touches no scales.
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let error = checkpoint.weights(checkpoint.linear("m").unwrap()).unwrap_err().to_string();
        assert!(error.contains("tensor \"m.weight_scale_inv\": "), "{error}");
        assert!(error.contains("row 1, column 1"), "{error}");
        let mut seen = 0;
        let errors = checkpoint.validate(&mut |_| {
            seen += 1;
            Ok(())
        });
        let errors: Vec<_> = errors.iter().map(|e| e.to_string()).collect();
        assert_eq!((seen, errors.len()), (3, 3), "{errors:?}");
        assert!(errors[0].contains("tensor \"f.weight\": -inf at row 0, column 1"), "{errors:?}");
        assert!(
            errors[1].contains("\"m.weight_scale_inv\"") && errors[1].contains("row 1, column 1")
        );
        assert!(errors[2].contains("tensor \"nan.weight\": NaN at row 3, column 5"), "{errors:?}");
        assert!(errors.iter().all(|e| e.contains("model.safetensors")));
    }
}

/// Two shards, sound.
fn shards() -> (Folder, File, File) {
    let folder = Folder::empty();
    let one = File::default().with("a.weight", "F8_E4M3", &[2, 2], &[0x38; 4]).with(
        "b",
        "U8",
        &[1],
        &[0],
    );
    let two = File::default().with("a.weight_scale", "F32", &[], &le_bytes(&[2.0]));
    folder.put("1.safetensors", &one.bytes());
    folder.put("2.safetensors", &two.bytes());
    folder.index([
        ("a.weight", "1.safetensors"),
        ("b", "1.safetensors"),
        ("a.weight_scale", "2.safetensors"),
    ]);
    (folder, one, two)
}

#[test]
fn shards_and_their_index() {
    let (folder, ..) = shards();
    // Scales may be in another shard than codes.
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.files().len(), 2);
    assert_eq!(checkpoint.weights(&checkpoint.linears()[0]).unwrap().at(1, 1), 2.0);

    let text = r#"{"weight_map": {"b": "1.safetensors", "a.weight": "1.safetensors",
                   "a.weight_scale": "2.safetensors", "b": "1.safetensors"}}"#;
    folder.put("model.safetensors.index.json", text.as_bytes());
    refused(&folder, &["index.json", "\"b\" is named twice"]);
    folder.index([("a.weight", "1.safetensors"), ("a.weight_scale", "2.safetensors")]);
    refused(&folder, &["index.json", "no tensor \"b\"", "1.safetensors"]);
    folder.index([("a.weight", "1.safetensors"), ("b", "1.safetensors")]);
    refused(&folder, &["index.json", "2.safetensors", "beside it"]);
    folder.index([
        ("a.weight", "1.safetensors"),
        ("b", "2.safetensors"),
        ("a.weight_scale", "2.safetensors"),
    ]);
    refused(&folder, &["index.json", "\"b\" is not in \"2.safetensors\""]);
    folder.put("model.safetensors.index.json", br#"{"weight_map": {}, "weight_map": {}}"#);
    refused(&folder, &["index.json", "two"]);

    let (folder, ..) = shards();
    folder.put("3.safetensors", &File::default().with("c", "U8", &[1], &[0]).bytes());
    refused(&folder, &["index.json", "\"3.safetensors\""]);
    let (folder, ..) = shards();
    fs::remove_file(folder.at("2.safetensors")).unwrap();
    refused(&folder, &["2.safetensors", "No such file"]);
    // Both say that they have it.
    let (folder, one, two) = shards();
    folder.put("2.safetensors", &two.with("b", "U8", &[1], &[0]).bytes());
    refused(&folder, &["no tensor \"b\"", "2.safetensors"]);
    drop(one);
    let folder = Folder::empty();
    folder.put("x-1.safetensors", &File::default().bytes());
    folder.put("x-2.safetensors", &File::default().bytes());
    refused(&folder, &["x-1.safetensors", "index.json"]);
}

/// What the cache of Hugging Face's programs looks like: names are links to files that are called by their hashes.
#[cfg(unix)]
#[test]
fn links_of_a_cache() {
    let (folder, one, two) = shards();
    fs::create_dir_all(folder.at("cache/blobs")).unwrap();
    fs::create_dir_all(folder.at("cache/snapshots/abc")).unwrap();
    for (name, bytes) in [
        ("1.safetensors", one.bytes()),
        ("2.safetensors", two.bytes()),
        (
            "model.safetensors.index.json",
            fs::read(folder.at("model.safetensors.index.json")).unwrap(),
        ),
        ("config.json", br#"{"quantization_config": {"quant_method": "fp8"}}"#.to_vec()),
    ] {
        let blob = format!("cache/blobs/{}", name.len());
        folder.put(&format!("{blob}-{name}"), &bytes);
        std::os::unix::fs::symlink(
            format!("../../blobs/{}-{name}", name.len()),
            folder.at(&format!("cache/snapshots/abc/{name}")),
        )
        .unwrap();
    }
    let checkpoint = Checkpoint::open(folder.at("cache/snapshots/abc")).unwrap();
    assert_eq!(checkpoint.weights(&checkpoint.linears()[0]).unwrap().at(0, 0), 2.0);
    // A link to nothing.
    fs::remove_file(folder.at("cache/blobs/13-2.safetensors")).unwrap();
    let error = Checkpoint::open(folder.at("cache/snapshots/abc")).err().unwrap().to_string();
    assert!(error.contains("2.safetensors: No such file"), "{error}");
}
