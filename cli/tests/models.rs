//! Models of other projects: folders in, folders out.

mod common;

use std::fs;

use common::{Dir, text};
use half::{bf16, f16};
use lutmul::checkpoint::{Checkpoint, Matrix, TensorFile};
use serde_json::{Value, json};
use testing::files::{File, le_bytes, weights};

/// A folder as DeepSeek's models have it: FP8 in blocks, a head and a router that were left as they were, experts, and
/// what is needed beside weights.
fn deepseek() -> Dir {
    let dir = Dir::new();
    fs::create_dir_all(dir.path("model/1_Pooling")).unwrap();
    fs::create_dir(dir.path("model/.git")).unwrap();
    let codes = |count: usize| {
        (0..count).map(|i| (i * 37 % 120) as u8 ^ (i as u8 & 0x80)).collect::<Vec<_>>()
    };
    let bf: Vec<u8> = weights(96).iter().flat_map(|w| bf16::from_f32(*w).to_le_bytes()).collect();
    let one = File::default()
        .with_metadata("format", "pt")
        .with("model.embed_tokens.weight", "BF16", &[12, 8], &bf)
        .with("model.layers.0.mlp.up_proj.weight", "F8_E4M3", &[20, 36], &codes(720))
        .with_f32("model.layers.0.mlp.up_proj.weight_scale_inv", &[2, 3], &weights(6))
        .with_f32("model.layers.0.mlp.up_proj.input_scale", &[], &[0.5])
        .with("model.layers.0.mlp.experts.down_proj", "F8_E4M3", &[2, 20, 36], &codes(1440))
        .with_f32("model.layers.0.mlp.experts.down_proj_scale_inv", &[2, 2, 3], &weights(12));
    let two = File::default()
        .with("lm_head.weight", "BF16", &[12, 8], &bf)
        .with("model.layers.0.mlp.gate.weight", "BF16", &[12, 8], &bf)
        .with("model.layers.0.self_attn.o_proj.weight", "BF16", &[12, 8], &bf);
    let mut map = serde_json::Map::new();
    for (name, file) in [("model-1.safetensors", &one), ("model-2.safetensors", &two)] {
        dir.put(&format!("model/{name}"), &file.bytes());
        for tensor in file.header.keys().filter(|name| *name != "__metadata__") {
            map.insert(tensor.clone(), name.into());
        }
    }
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    dir.put("model/model.safetensors.index.json", index.to_string().as_bytes());
    let config = json!({ "model_type": "deepseek_v3", "torch_dtype": "bfloat16", "rope_theta": 10000.0,
        "quantization_config": { "quant_method": "fp8", "weight_block_size": [16, 16],
                                 "modules_to_not_convert": ["lm_head", "re:.*mlp\\.gate$"] } });
    dir.put("model/config.json", config.to_string().as_bytes());
    for name in [
        "tokenizer.json",
        "generation_config.json",
        "merges.txt",
        "LICENSE",
        "1_Pooling/config.json",
    ] {
        dir.put(&format!("model/{name}"), name.as_bytes());
    }
    for name in ["pytorch_model.bin", "consolidated.safetensors", ".git/config"] {
        dir.put(&format!("model/{name}"), name.as_bytes());
    }
    dir
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn names(values: &Value, key: &str) -> Vec<String> {
    let values = values.as_array().unwrap().iter();
    values.map(|v| if key.is_empty() { v } else { &v[key] }.as_str().unwrap().into()).collect()
}

#[test]
fn folders_are_converted_with_all_that_is_needed() {
    let dir = deepseek();
    let options = ["--format", "qins-linear", "--scales", "row", "--json"];
    let plan =
        json_of(&dir.succeed(&[&["convert", "model", "out", "--dry-run"], &options[..]].concat()));
    assert!(!dir.path("out").exists() && !dir.path("out.partial").exists());
    let mut done = json_of(&dir.succeed(&[&["convert", "model", "out"], &options[..]].concat()));
    assert_eq!((&plan["dry_run"], &done["dry_run"]), (&true.into(), &false.into()));
    done["dry_run"] = true.into();
    assert_eq!(plan, done, "what would be done is what is done");

    let converted = [
        "model.layers.0.mlp.experts.down_proj.0",
        "model.layers.0.mlp.experts.down_proj.1",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.self_attn.o_proj",
    ];
    assert_eq!(names(&done["layers"], "name"), converted);
    let left: Vec<_> =
        names(&done["left"], "tensor").into_iter().zip(names(&done["left"], "reason")).collect();
    let skipped = "config.json says that it is not to be quantised";
    let expected = [
        ("lm_head.weight", skipped),
        ("model.layers.0.mlp.gate.weight", skipped),
        ("model.embed_tokens.weight", "an embedding or a norm, by its name"),
    ];
    assert_eq!(left, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    assert_eq!(names(&done["dropped"], ""), ["model.layers.0.mlp.up_proj.input_scale"]);
    let copied = [
        "1_Pooling/config.json",
        "LICENSE",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "tokenizer.json",
    ];
    assert_eq!(names(&done["copied_files"], ""), copied);
    assert_eq!(
        names(&done["not_copied_files"], ""),
        ["consolidated.safetensors", "pytorch_model.bin"]
    );
    for name in copied.iter().filter(|name| **name != "config.json") {
        assert_eq!(fs::read(dir.path(&format!("out/{name}"))).unwrap(), name.as_bytes());
    }
    assert!(!dir.path("out/.git").exists() && !dir.path("out/.lutmul-journal").exists());
    assert!(!dir.path("out.partial").exists());
    let config = json_of(&fs::read_to_string(dir.path("out/config.json")).unwrap());
    assert_eq!(
        (&config["model_type"], &config["rope_theta"]),
        (&"deepseek_v3".into(), &10000.0.into())
    );
    assert_eq!(config["quantization_config"]["quant_method"], "lutmul");
    let index = json_of(&fs::read_to_string(dir.path("out/model.safetensors.index.json")).unwrap());
    assert_eq!(index["weight_map"]["model.layers.0.mlp.up_proj.codes"], "model-1.safetensors");

    let verified = json_of(&dir.succeed(&["verify", "model", "out", "--json"]));
    // Three matrices of FP8 and four of QINS.
    assert_eq!(
        (&verified["oracle_identical"], &verified["layers_identical"]),
        (&7.into(), &2.into())
    );
    assert_eq!(verified["carried_identical"], 1);
    for layer in verified["layers"].as_array().unwrap() {
        assert!(layer["weights"]["sqnr_db"].as_f64().unwrap() > 40.0, "{layer}");
    }
    let inspected = json_of(&dir.succeed(&["inspect", "out", "--json"]));
    let formats = names(&inspected["layers"], "format");
    assert_eq!(formats.iter().filter(|format| *format == "qins-linear").count(), 4);
    assert_eq!(json_of(&dir.succeed(&["verify", "model", "--json"]))["oracle_identical"], 3);
    assert!(dir.succeed(&["inspect", "model", "--validate"]).contains("block:16x16"));
}

/// The weights of every linear, by name, as f32.
fn decoded(dir: &Dir, model: &str) -> Vec<(String, Vec<f32>)> {
    let model = Checkpoint::open(dir.path(model)).unwrap();
    let decode = |l| (l, model.matrix(l).unwrap().to_f32().unwrap().into_owned());
    model.linears().iter().map(decode).map(|(l, values)| (l.name.clone(), values)).collect()
}

#[test]
fn floats_for_programs_that_know_no_codes() {
    let dir = deepseek();
    let source = decoded(&dir, "model");
    type Round = fn(f32) -> f32;
    let rounds: [(&str, &str, &str, Round); 3] = [
        ("f32", "F32", "float32", |w| w),
        ("bf16", "BF16", "bfloat16", |w| bf16::from_f32(w).to_f32()),
        ("f16", "F16", "float16", |w| f16::from_f32(w).to_f32()),
    ];
    for (format, dtype, torch, round) in rounds {
        let out = format!("out-{format}");
        dir.succeed(&["convert", "model", &out, "--format", format]);
        let config = json_of(&fs::read_to_string(dir.path(&format!("{out}/config.json"))).unwrap());
        assert_eq!(
            (&config["quantization_config"], &config["torch_dtype"]),
            (&Value::Null, &torch.into())
        );
        let file = TensorFile::open(dir.path(&format!("{out}/model-1.safetensors"))).unwrap();
        let experts = file.tensor("model.layers.0.mlp.experts.down_proj").unwrap();
        assert_eq!(
            (experts.dtype.to_string(), experts.shape),
            (dtype.to_owned(), &[2, 20, 36][..])
        );
        assert!(file.tensors().all(|tensor| !tensor.name.contains("scale")));
        let made = decoded(&dir, &out);
        assert_eq!(made.len(), source.len());
        for ((name, made), (_, source)) in made.iter().zip(&source) {
            let rounded: Vec<f32> = source.iter().map(|w| round(*w)).collect();
            assert!(*made == rounded, "{format}: {name}");
        }
        dir.succeed(&["verify", "model", &out]);
    }
    // lutmul's own files, too: the tensors have their first names and shapes again.
    dir.succeed(&["convert", "model", "coded"]);
    dir.succeed(&["convert", "coded", "back", "--format", "f32"]);
    assert_eq!(decoded(&dir, "back"), decoded(&dir, "coded"));
    let file = TensorFile::open(dir.path("back/model-1.safetensors")).unwrap();
    assert_eq!(file.tensor("model.layers.0.mlp.experts.down_proj").unwrap().shape, [2, 20, 36]);
    assert!(!file.metadata().contains_key("lutmul"));
    dir.fail(
        &["convert", "out-f32", "again", "--format", "f32"],
        &["nothing"].map(|_| "to convert"),
    );
}

#[test]
fn codes_of_the_format_asked_for_stay_as_they_are() {
    let dir = deepseek();
    dir.succeed(&["convert", "model", "out", "--format", "e4m3", "--scales", "block:16x16"]);
    let models = ["model", "out"].map(|path| Checkpoint::open(dir.path(path)).unwrap());
    for linear in models[0].linears().iter().filter(|linear| linear.coding.is_some()) {
        let made = models[1].linear(&linear.name).unwrap();
        let [a, b] = [models[0].weights(linear).unwrap(), models[1].weights(made).unwrap()];
        assert!(a.codes() == b.codes() && a.scales() == b.scales(), "{}", linear.name);
    }
    // Again, from lutmul's own files, to another format and back.
    dir.succeed(&["convert", "out", "int8", "--format", "int8", "--scales", "group:32"]);
    dir.succeed(&["convert", "int8", "same", "--format", "int8", "--scales", "group:32"]);
    assert_eq!(decoded(&dir, "int8"), decoded(&dir, "same"));
    assert!(dir.succeed(&["inspect", "same"]).contains("group:32"));
}

/// What is excluded keeps its layout, and so does config.json.
#[test]
fn layers_that_keep_their_layout() {
    let dir = deepseek();
    let options = ["--exclude", "*experts*", "--include", "model.embed_tokens.weight"];
    dir.succeed(&[&["convert", "model", "out"], &options[..]].concat());
    let config = json_of(&fs::read_to_string(dir.path("out/config.json")).unwrap());
    assert_eq!(config["quantization_config"]["quant_method"], "fp8");
    let model = Checkpoint::open(dir.path("out")).unwrap();
    let format = |name: &str| model.linear(name).unwrap().coding.as_ref().unwrap().format.name();
    assert_eq!(format("model.layers.0.mlp.experts.down_proj.1"), "e4m3");
    assert_eq!(
        (format("model.layers.0.mlp.up_proj"), format("model.embed_tokens")),
        ("qins-linear", "qins-linear")
    );
    dir.succeed(&["verify", "model", "out"]);
}

#[test]
fn weights_that_a_format_cannot_hold() {
    let dir = Dir::new();
    dir.put(
        "in",
        &File::default().with_f32("a.weight", &[2, 2], &[1.0, 2.0, 3.0, 70000.0]).bytes(),
    );
    dir.fail(
        &["convert", "in", "out", "--format", "f16"],
        &["in: tensor \"a.weight\"", "70000", "row 1, column 1", "F16"],
    );
    dir.succeed(&["convert", "in", "out", "--format", "bf16"]);
    let codes = File::default().with("a.weight", "F8_E4M3", &[1, 3], &[0x38, 0x38, 0xFF]).with_f32(
        "a.weight_scale",
        &[],
        &[1.0],
    );
    dir.put("nan", &codes.bytes());
    for format in ["e4m3", "qins-linear", "bf16"] {
        let args = ["convert", "nan", "new", "--format", format, "--scales", "tensor"];
        dir.fail(&args, &["nan: tensor \"a.weight\"", "NaN at row 0, column 2"]);
    }
    dir.fail(&["verify", "nan"], &["\"a\"", "NaN at row 0, column 2"]);
    dir.fail(&["inspect", "nan", "--validate"], &["\"a.weight\"", "NaN at row 0, column 2"]);
    dir.succeed(&["inspect", "nan"]);
    let codes = File::default().with("a.weight", "F8_E4M3", &[1, 3], &[0x38; 3]).with(
        "a.weight_scale",
        "F32",
        &[],
        &f32::NAN.to_le_bytes(),
    );
    dir.put("nan", &codes.bytes());
    for command in [&["convert", "nan", "new"][..], &["inspect", "nan"], &["verify", "nan"]] {
        dir.fail(command, &["nan: tensor \"a.weight_scale\"", "NaN at row 0, column 0"]);
    }
}

#[test]
fn every_layout_is_decoded_as_by_others() {
    let dir = Dir::new();
    let check = |name: &str, file: File, config: Value| {
        fs::create_dir(dir.path(name)).unwrap();
        dir.put(&format!("{name}/model.safetensors"), &file.bytes());
        let config = json!({ "quantization_config": config });
        dir.put(&format!("{name}/config.json"), config.to_string().as_bytes());
        let verified = json_of(&dir.succeed(&["verify", name, "--json"]));
        assert_eq!(verified["oracle_identical"], 1, "{name}");
        dir.succeed(&["convert", name, &format!("{name}-out")]);
        dir.succeed(&["verify", name, &format!("{name}-out"), "--min-sqnr", "30"]);
        let Matrix::Coded(weights) = ({
            let model = Checkpoint::open(dir.path(name)).unwrap();
            model.matrix(&model.linears()[0]).unwrap()
        }) else {
            panic!("{name}: floats")
        };
        assert_eq!(weights.n(), 6);
    };
    let codes: Vec<u8> = (0..6 * 40).map(|i| (i * 7 % 112) as u8).collect();
    let half: Vec<u8> = weights(6).iter().flat_map(|w| f16::from_f32(*w).to_le_bytes()).collect();
    for dtype in ["F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"] {
        let file = File::default().with("a.weight", dtype, &[6, 40], &codes).with(
            "a.weight_scale",
            "F16",
            &[6, 1],
            &half,
        );
        check(dtype, file, json!({ "quant_method": "fbgemm_fp8" }));
    }
    let mx = json!({ "quant_method": "compressed-tensors", "format": "mxfp8-quantized", "config_groups":
        { "g": { "targets": ["Linear"], "weights": { "num_bits": 8, "type": "float", "group_size": 32 } } } });
    let file = File::default().with("a.weight", "F8_E4M3", &[6, 40], &codes).with(
        "a.weight_scale",
        "U8",
        &[6, 2],
        &[120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131],
    );
    check("mx", file, mx);
    let zero = json!({ "quant_method": "compressed-tensors", "format": "int-quantized", "config_groups":
        { "g": { "targets": ["Linear"], "weights": { "num_bits": 8, "type": "int", "strategy": "channel",
                                                     "symmetric": false } } } });
    let file = File::default()
        .with("a.weight", "I8", &[6, 40], &codes)
        .with("a.weight_scale", "F16", &[6, 1], &half)
        .with("a.weight_zero_point", "I8", &[1], &[0xF9]);
    check("int8", file, zero);
    let file = File::default().with("a.weight", "I8", &[6, 40], &codes).with(
        "a.SCB",
        "F32",
        &[6],
        &le_bytes(&weights(6)),
    );
    check("bnb", file, json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }));
}

#[test]
fn links_of_a_cache_are_followed() {
    if cfg!(not(unix)) {
        return;
    }
    #[cfg(unix)]
    {
        let dir = deepseek();
        fs::create_dir(dir.path("blobs")).unwrap();
        for entry in fs::read_dir(dir.path("model")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                fs::rename(&path, dir.path(&format!("blobs/{name}"))).unwrap();
                std::os::unix::fs::symlink(format!("../blobs/{name}"), &path).unwrap();
            }
        }
        dir.succeed(&["convert", "model", "out"]);
        let copied = dir.path("out/tokenizer.json");
        assert!(copied.symlink_metadata().unwrap().is_file(), "files, not links");
        assert_eq!(text(&fs::read(copied).unwrap()), "tokenizer.json");
    }
}
