//! Models of several files.

mod common;

use std::fs;

use common::Dir;
use serde_json::{Value, json};
use testing::files::{File, model, weights};

/// A model of two shards, one of them with nothing to code.
fn with_shards() -> Dir {
    let dir = Dir::new();
    fs::create_dir(dir.path("model")).unwrap();
    dir.put("model/1.safetensors", &model().bytes());
    let second = File::default().with_f32("embed.weight", &[2, 2], &weights(4));
    dir.put("model/2.safetensors", &second.bytes());
    let names = |file: &File| -> Vec<String> {
        file.header.keys().filter(|name| *name != "__metadata__").cloned().collect()
    };
    let map = names(&model()).into_iter().map(|name| (name, Value::from("1.safetensors")));
    let map = map.chain([("embed.weight".into(), "2.safetensors".into())]);
    write_index(&dir, map.collect());
    dir
}

fn write_index(dir: &Dir, map: serde_json::Map<String, Value>) {
    let index = json!({ "metadata": { "total_size": 1, "note": "kept" }, "weight_map": map });
    dir.put("model/model.safetensors.index.json", index.to_string().as_bytes());
}

#[test]
fn shards_and_index_are_kept() {
    let dir = with_shards();
    dir.succeed(&["convert", "model", "out", "--format", "e4m3"]);
    dir.succeed(&["verify", "model/1.safetensors", "out/1.safetensors"]);
    let verified = dir.succeed(&["verify", "model", "out", "--json"]);
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(verified["layers"].as_array().unwrap().len(), 2);
    assert_eq!(verified["carried_identical"], 5);
    for model in ["model", "out"] {
        let text = dir.succeed(&["inspect", model, "--json"]);
        let inspected: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(inspected["metadata"], Value::Null);
        assert!(dir.succeed(&["inspect", model]).contains("layer.1.dense"));
    }
    dir.fail(&["verify", "model", "out/1.safetensors"], &["\"embed.weight\"", "missing"]);
    dir.fail(&["verify", "model/1.safetensors", "out"], &["no tensor \"embed.weight\""]);

    assert_eq!(fs::read_dir(dir.path("out")).unwrap().count(), 3);
    let index = fs::read(dir.path("out/model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["metadata"]["note"], "kept");
    assert!(index["metadata"]["total_size"].as_u64().unwrap() > 8192);
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(map["embed.weight"], "2.safetensors");
    assert_eq!(map["layer.1.dense.codes"], "1.safetensors");
    assert_eq!(map.len(), 4 + 2 * 3 + 1);
    assert_eq!(dir.contents().len(), 2, "nothing temporary is left");

    dir.fail(&["convert", "model", "out", "--force"], &["out: exists already"]);
    dir.fail(&["convert", "model", "model", "--force"], &["model: exists already"]);
    dir.fail(&["convert", "model", "no/out"], &["no/out: there is no directory no"]);
    dir.fail(&["convert", "model", "one.safetensors"], &["has 2 files"]);
}

#[test]
fn faulty_indexes() {
    let dir = with_shards();
    let map = |name: &str, shard: &str| {
        write_index(&dir, [(name.into(), shard.into())].into_iter().collect())
    };
    let fail = |words: &[&str]| dir.fail(&["convert", "model", "out"], words);
    for outside in ["../1.safetensors", "/etc/passwd", "..", ".", "", "a/b"] {
        map("ids", outside);
        fail(&["index.json", &format!("{outside:?}"), "not the name of a file"]);
    }
    map("ids", "3.safetensors");
    fail(&["index.json", "\"1.safetensors\"", "beside it"]);
    map("ids", "1.safetensors");
    fail(&["index.json", "\"2.safetensors\""]);
    fs::remove_file(dir.path("model/2.safetensors")).unwrap();
    fail(&["index.json", "names no tensor \"embeddings.word.weight\""]);
    map("ids", "1.safetensors");
    let stray = File::default().with_f32("embed.weight", &[2, 2], &weights(4));
    let whole = fs::read(dir.path("model/1.safetensors")).unwrap();
    dir.put("model/1.safetensors", &stray.bytes());
    map("embed.weight", "1.safetensors");
    fail(&["model: has no 2-D weights"]);
    map("ids", "1.safetensors");
    fail(&["index.json", "\"ids\" is not in \"1.safetensors\""]);
    dir.put("model/1.safetensors", &whole);
    dir.put("model/model.safetensors.index.json", b"{}");
    fail(&["index.json", "no valid index", "weight_map"]);
    dir.put("model/model.safetensors.index.json", b"");
    fail(&["index.json", "no valid index"]);
    fs::remove_file(dir.path("model/model.safetensors.index.json")).unwrap();
    fs::remove_file(dir.path("model/1.safetensors")).unwrap();
    fail(&["index.json", "No such file"]);

    let dir = with_shards();
    let bad = model().with_f32("bad.weight", &[1, 2], &[0.0, f32::NAN]);
    dir.put("model/1.safetensors", &bad.bytes());
    let at = dir.path("model/model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&at).unwrap()).unwrap();
    index["weight_map"]["bad.weight"] = "1.safetensors".into();
    fs::write(&at, index.to_string()).unwrap();
    dir.fail(&["convert", "model", "out"], &["1.safetensors", "\"bad.weight\"", "column 1"]);
}

/// A folder as models that need no shards have it.
#[test]
fn one_file_without_an_index() {
    let dir = Dir::new();
    fs::create_dir(dir.path("model")).unwrap();
    dir.put("model/model.safetensors", &model().bytes());
    dir.put("model/config.json", b"{}");
    dir.succeed(&["convert", "model", "out"]);
    dir.succeed(&["convert", "model/model.safetensors", "same"]);
    let made = fs::read(dir.path("out/model.safetensors")).unwrap();
    assert!(made == fs::read(dir.path("same")).unwrap());
    assert!(dir.succeed(&["inspect", "model"]).contains("layer.1.dense"));
    dir.succeed(&["verify", "model", "out"]);
    dir.succeed(&["convert", "model", "one.safetensors"]);
    assert!(made == fs::read(dir.path("one.safetensors")).unwrap());
    dir.succeed(&["verify", "model", "one.safetensors"]);
    dir.fail(&["convert", "model", "out"], &["out: exists already"]);
    dir.fail(&["convert", "model/model.safetensors", "out", "--force"], &["out: is a directory"]);
    dir.fail(&["convert", "model", "model/model.safetensors", "--force"], &["is the input"]);
    dir.put("model/model.safetensors", b"");
    dir.fail(&["inspect", "model"], &["model/model.safetensors: not a safetensors file"]);
}
