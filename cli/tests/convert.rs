//! Files there and back: what is read is, bit for bit, what was written.

mod common;

use common::{Dir, as_str, text};
use half::{bf16, f16};
use lutmul::checkpoint::{Checkpoint, TensorFile};
use lutmul::{Element, Format, Granularity, Lut, Weights};
use serde_json::Value;
use testing::files::{File, le_bytes, model, weights};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The same codes, signs, table and scales.
fn assert_same(got: &Weights<'_>, expected: &Weights<'_>, what: &str) {
    assert_eq!((got.n(), got.k()), (expected.n(), expected.k()), "{what}");
    assert!(got.codes() == expected.codes(), "{what}: codes");
    assert!(got.signs() == expected.signs(), "{what}: signs");
    assert_eq!(bits(got.lut().values()), bits(expected.lut().values()), "{what}: table");
    let (got, expected) = (got.scales(), expected.scales());
    assert_eq!(got.granularity(), expected.granularity(), "{what}");
    assert_eq!(bits(got.values()), bits(expected.values()), "{what}: scales");
}

/// Converts a tensor of type `T`, and compares with encoding it in memory.
fn round_trip<T: Element>(format: &Format, option: &str, granularity: Granularity, dir: &Dir) {
    for (n, k) in [(5, 70), (1, 1), (3, 129), (130, 64), (0, 4), (4, 0)] {
        let mut values = vec![T::from_f32(0.0); n * k];
        T::narrow(&weights(n * k), &mut values);
        let dtype = T::NAME.to_uppercase();
        let file = model().with("w.weight", &dtype, &[n, k], bytemuck::cast_slice(&values));
        dir.put("in", &file.bytes());
        let scales = granularity.to_string();
        let options = ["--format", option, "--scales", &scales, "--force"];
        dir.succeed(&[&["convert", "in", "out"], &options[..]].concat());

        let what = format!("{n}×{k} {dtype} as {option} per {scales}");
        let checkpoint = Checkpoint::open(dir.path("out")).unwrap();
        let layer = checkpoint.linear("w").unwrap();
        assert_eq!((layer.tensor.as_str(), layer.dtype), ("w.weight", dtype.as_str()));
        let expected = Weights::encode(&values, (n, k), format, granularity).unwrap();
        assert_same(&checkpoint.weights(layer).unwrap(), &expected, &what);
    }
}

const GRANULARITIES: [Granularity; 4] =
    [Granularity::Tensor, Granularity::Row, Granularity::Group(32), Granularity::Block(2, 64)];

#[test]
fn every_format_and_granularity() {
    let dir = Dir::new();
    for format in Format::NAMED {
        for granularity in GRANULARITIES {
            round_trip::<f32>(&format, format.name(), granularity, &dir);
        }
    }
}

#[test]
fn every_type() {
    let dir = Dir::new();
    for format in [Format::QinsLinear, Format::E4m3] {
        round_trip::<f16>(&format, format.name(), Granularity::Row, &dir);
        round_trip::<bf16>(&format, format.name(), Granularity::Group(32), &dir);
    }
}

#[test]
fn tables_of_ones_own() {
    let dir = Dir::new();
    let signed = std::array::from_fn(|i| (i as f32 - 100.0) / 32.0);
    let magnitudes = std::array::from_fn(|i| (i as f32).powi(2));
    for values in [signed, magnitudes] {
        let format = Format::Table(Lut::new(&values).unwrap());
        dir.put("raw", &le_bytes(&values));
        dir.put("text", values.map(|v| v.to_string()).join("\n").as_bytes());
        dir.put("json", serde_json::to_string(&values.to_vec()).unwrap().as_bytes());
        for file in ["raw", "text", "json"] {
            round_trip::<f32>(&format, &format!("table:{file}"), Granularity::Row, &dir);
        }
    }
}

#[test]
fn everything_else_is_carried_over() {
    let file = model()
        .with("scalar", "F64", &[], &1.5f64.to_le_bytes())
        .with("odd", "U8", &[3], &[1, 2, 3])
        .with("nan.bias", "F32", &[2], &[0xFF; 8])
        .with("w8.weight", "F8_E4M3", &[2, 2], &[0x7F; 4])
        .with("w8.weight_scale", "F32", &[], &[0; 4])
        .with("none", "F32", &[0, 7], &[])
        .with("wide.weight", "F64", &[1, 1], &[7; 8])
        .with("ids.weight", "I32", &[1, 1], &[7; 4])
        .with_metadata("note", "§ \"quoted\"\n");
    let dir = Dir::new();
    let input = dir.put("in", &file.bytes());
    let text = dir.succeed(&["convert", "in", "out", "--json", "--exclude", "w8.weight"]);
    let summary: Value = serde_json::from_str(&text).unwrap();
    let input = TensorFile::open(&input).unwrap();
    let output = Checkpoint::open(dir.path("out")).unwrap();

    let layers: Vec<_> = output.linears().iter().map(|l| l.name.as_str()).collect();
    assert_eq!(layers, ["layer.0.dense", "layer.1.dense", "w8"]);
    assert_eq!(summary["carried"], input.tensors().count() - 2);
    let made = TensorFile::open(dir.path("out")).unwrap();
    assert_eq!(made.tensors().count(), input.tensors().count() - 2 + 8);
    for tensor in input.tensors().filter(|t| !t.name.contains("dense.weight")) {
        let got = made.tensor(tensor.name).unwrap();
        assert_eq!((got.dtype, got.shape), (tensor.dtype, tensor.shape), "{}", tensor.name);
        assert!(got.bytes == tensor.bytes, "{}", tensor.name);
    }
    let mut metadata = output.metadata(0).unwrap().clone();
    assert!(metadata.remove("lutmul").is_some());
    assert_eq!(&metadata, input.metadata());

    // What is of two dimensions, or FP8, and not converted, is named.
    let left = summary["left"].as_array().unwrap();
    let left: Vec<_> = left.iter().map(|l| (l["tensor"].as_str(), l["reason"].as_str())).collect();
    let expected = [
        ("w8.weight", "excluded"),
        ("ids", "not of a type that weights have"),
        ("embeddings.word.weight", "an embedding or a norm, by its name"),
        ("none", "not called .weight"),
        ("wide.weight", "not of a type that weights have"),
        ("ids.weight", "not of a type that weights have"),
    ];
    for (tensor, reason) in expected {
        assert!(left.contains(&(Some(tensor), Some(reason))), "{tensor}: {left:?}");
    }
    assert_eq!((left.len(), &summary["left_2d"]), (expected.len(), &expected.len().into()));
    let text = dir.succeed(&["convert", "in", "again", "--exclude", "w8.weight"]);
    assert!(
        expected.iter().all(|(tensor, why)| text.contains(tensor) && text.contains(why)),
        "{text}"
    );
    // FP8 is never left aside unless it is said: here its codes are NaN.
    dir.fail(&["convert", "in", "third"], &["in: tensor \"w8.weight\": NaN at row 0, column 0"]);
}

/// The file is one that others read too: safetensors' own reader, which wants elements aligned.
#[test]
fn the_output_is_a_sound_safetensors_file() {
    let dir = Dir::new();
    dir.put("in", &model().with("odd", "U8", &[3], &[1, 2, 3]).bytes());
    dir.succeed(&["convert", "in", "out", "--scales", "group:32"]);
    let bytes = std::fs::read(dir.path("out")).unwrap();
    let (header, _) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!((8 + header) % 64, 0, "data starts at a cache line");
    for (name, tensor) in safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let offset = tensor.data().as_ptr().addr() - bytes.as_ptr().addr();
        assert_eq!(8 * offset % tensor.dtype().bitsize(), 0, "{name}");
        if tensor.data().len() % 64 == 0 {
            assert_eq!(offset % 64, 0, "{name}");
        }
    }
}

#[test]
fn the_same_file_every_time() {
    let dir = Dir::new();
    dir.put("in", &model().bytes());
    dir.succeed(&["convert", "in", "a", "--format", "kmeans"]);
    dir.succeed(&["convert", "in", "b", "--format", "kmeans"]);
    assert!(std::fs::read(dir.path("a")).unwrap() == std::fs::read(dir.path("b")).unwrap());
}

#[test]
fn which_tensors_are_coded() {
    let dir = Dir::new();
    let file = model()
        .with_f32("head", &[2, 2], &[1.0; 4])
        .with_f32("conv.weight", &[2, 2, 1], &[1.0; 4])
        .with_f32("router.weight", &[2, 2], &[1.0; 4]);
    dir.put("in", &file.bytes());
    let coded = |options: &[&str]| -> Vec<String> {
        let args = [&["convert", "in", "out", "--force", "--json"], options].concat();
        let summary: Value = serde_json::from_str(&dir.succeed(&args)).unwrap();
        let layers = summary["layers"].as_array().unwrap();
        layers.iter().map(|l| l["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(coded(&[]), ["layer.0.dense", "layer.1.dense", "router"]);
    let options = ["--exclude", "router.*", "--exclude", "layer.1*", "--include", "hea?"];
    assert_eq!(coded(&options), ["layer.0.dense", "head"]);
    let options = ["--include", "*.word.weight", "--exclude", "layer.*"];
    assert_eq!(coded(&options), ["router", "embeddings.word"]);
    // Names are whole: a part of one is another.
    for option in ["--include", "--exclude"] {
        dir.fail(
            &["convert", "in", "new", option, "word"],
            &[option, "\"word\"", "in has no tensor"],
        );
    }
    dir.fail(&["convert", "in", "new", "--include", "ids"], &["\"ids\"", "could be converted"]);
}

#[test]
fn inspecting_and_verifying() {
    let dir = Dir::new();
    dir.put("in", &model().bytes());
    dir.succeed(&["convert", "in", "out"]);

    let plain: Value = serde_json::from_str(&dir.succeed(&["inspect", "in", "--json"])).unwrap();
    assert_eq!(plain["tensors"][0]["name"], "ids");
    let first = &plain["layers"][0];
    assert_eq!((&first["name"], &first["format"]), (&"layer.0.dense".into(), &"f32".into()));
    assert_eq!((&first["scales"], &first["bytes"]), (&Value::Null, &(4 * 12 * 70).into()));
    assert!(dir.succeed(&["inspect", "in"]).contains("layer.1.dense"));

    let layers: Value = serde_json::from_str(&dir.succeed(&["inspect", "out", "--json"])).unwrap();
    let layer = &layers["layers"][1];
    assert_eq!((&layer["name"], &layer["n"]), (&"layer.1.dense".into(), &64.into()));
    assert_eq!((&layer["format"], &layer["scales"]), (&"qins-linear".into(), &"row".into()));
    // 9 bits a weight, and a table and 64 scales.
    let bytes = 64 * 128 + 64 * 16 + 1024 + 64 * 4;
    assert_eq!(layer["bytes"], bytes);
    assert_eq!(layer["bits_per_weight"], 8.0 * f64::from(bytes) / 8192.0);
    assert_eq!(layers["coded"]["bytes_bf16"], 2 * (12 * 70 + 64 * 128));
    assert_eq!(layers["file_bytes"], dir.path("out").metadata().unwrap().len());

    let verified: Value =
        serde_json::from_str(&dir.succeed(&["verify", "in", "out", "--json"])).unwrap();
    assert_eq!(verified["carried_identical"], 4);
    assert_eq!(verified["oracle_identical"], 2);
    for layer in verified["layers"].as_array().unwrap() {
        for what in ["weights", "products"] {
            let db = layer[what]["sqnr_db"].as_f64().unwrap();
            assert!((40.0..70.0).contains(&db), "{what} of {}: {db} dB", layer["name"]);
        }
    }
    let output = dir.run(&["verify", "in", "out", "--min-sqnr", "90"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("less than 90"));
}

#[test]
fn verifying_against_another_file() {
    let dir = Dir::new();
    dir.put("in", &model().bytes());
    dir.succeed(&["convert", "in", "out"]);
    let original = |file: File, words: &[&str]| {
        dir.put("other", &file.bytes());
        dir.fail(&["verify", "other", "out"], words);
    };
    let without = |name: &str| {
        let model = model();
        let mut file = File::default();
        for (tensor, entry) in
            model.header.iter().filter(|(t, _)| *t != "__metadata__" && *t != name)
        {
            let place = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
            let shape: Vec<_> = entry["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d.as_u64().unwrap() as usize)
                .collect();
            let bytes = &model.data[place(0)..place(1)];
            file = file.with(tensor, entry["dtype"].as_str().unwrap(), &shape, bytes);
        }
        file
    };
    let layer = "layer.1.dense.weight";
    original(without(layer), &["other: no tensor \"layer.1.dense.weight\""]);
    original(without("ids"), &["no tensor \"ids\""]);
    original(without(layer).with_f32(layer, &[128, 64], &weights(8192)), &[layer, "[128, 64]"]);
    original(without(layer).with(layer, "I32", &[64, 128], &[0; 32768]), &[layer, "I32"]);
    original(without("ids").with("ids", "I64", &[1, 3], &[8; 24]), &["out", "\"ids\"", "byte 0"]);
    original(without("ids").with("ids", "I64", &[3, 1], &[7; 24]), &["\"ids\"", "[3, 1]"]);
    original(model().with("extra", "U8", &[1], &[0]), &["out: tensor \"extra\"", "missing"]);
    let out = dir.path("out");
    assert!(dir.run(&["verify", "in", as_str(&out)]).status.success());
}
