//! Files that are broken, by accident or on purpose: an error that names what is wrong, no panic, no
//! trace in the directory.

mod common;

use common::Dir;
use lutmul::checkpoint::Checkpoint;
use serde_json::json;
use testing::files::{File, le_bytes, model, raw, weights};

/// The commands that read a file must all refuse it.
fn refused(name: &str, bytes: &[u8], words: &[&str]) {
    let dir = Dir::new();
    dir.put(name, bytes);
    dir.put("good", &model().bytes());
    let words = [&[name], words].concat();
    dir.fail(&["inspect", name], &words);
    dir.fail(&["convert", name, "out"], &words);
    dir.fail(&["verify", name, "good"], &words);
}

/// A header of one F32 tensor "w" with these entries, and 16 bytes of data.
fn one(dtype: &str, shape: &str, offsets: &str) -> Vec<u8> {
    let entry = format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#);
    raw(&format!(r#"{{"w":{entry}}}"#), &[0; 16])
}

#[test]
fn what_is_no_safetensors_file() {
    refused("empty", b"", &["not a safetensors file", "0 bytes"]);
    refused("short", b"12345", &["not a safetensors file", "5 bytes"]);
    refused("text", b"# A file of text\n", &["not a safetensors file"]);
    refused("zip", b"PK\x03\x04\0\0\0\0 and so on", &["not a safetensors file"]);
    refused("list", &raw("[1, 2]", &[]), &["header is not valid"]);
    refused("no-json", &raw("{oh", &[]), &["header is not valid"]);
    refused("deep", &raw(&"[".repeat(100_000), &[]), &["header is not valid"]);
    let deep = format!(r#"{{"w":{}"#, r#"{"a":"#.repeat(50_000));
    refused("deeper", &raw(&deep, &[]), &["header is not valid"]);
    let mut latin = raw("{\"w\":1}", &[]);
    latin[10] = 0xFF;
    refused("latin", &latin, &["header is not valid"]);
}

#[test]
fn headers_of_100_mb() {
    for length in [100_000_000, 104_857_600, 1 << 40, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([b' '; 64]);
        refused("huge", &bytes, &["header", &length.to_string()]);
    }
    // One that is really there: 100 MB of spaces, sparse on disk.
    let dir = Dir::new();
    let file = std::fs::File::create(dir.path("sparse")).unwrap();
    file.set_len(8 + 100_000_000).unwrap();
    std::io::Write::write_all(&mut &file, &100_000_000u64.to_le_bytes()).unwrap();
    dir.fail(&["inspect", "sparse"], &["sparse", "header of 100000000 bytes"]);
}

#[test]
fn truncated_files() {
    let whole = model().bytes();
    for length in (0..whole.len()).step_by(577).chain([7, 8, 9, whole.len() - 1]) {
        refused("cut", &whole[..length], &[]);
    }
    let cut = &whole[..whole.len() - 1];
    refused("cut", cut, &["layer.1.dense.weight", "out of range", "truncated"]);
    refused("longer", &[&whole[..], &[0]].concat(), &["after the last tensor"]);
}

#[test]
fn offsets() {
    let two = |a: [u64; 2], b: [u64; 2]| {
        let mut file = File { data: vec![0; 16], ..File::default() };
        for (name, offsets) in [("a", a), ("b", b)] {
            let shape = [offsets[1] - offsets[0]];
            let entry = json!({ "dtype": "U8", "shape": shape, "data_offsets": offsets });
            file.header.insert(name.into(), entry);
        }
        file.bytes()
    };
    refused("overlap", &two([0, 10], [8, 16]), &["\"b\" overlaps \"a\""]);
    refused("inside", &two([0, 16], [4, 8]), &["\"b\" overlaps \"a\""]);
    refused("same", &two([0, 16], [0, 16]), &["overlaps"]);
    refused("beyond", &two([0, 8], [8, 17]), &["\"b\" is out of range"]);
    refused("hole", &two([0, 4], [8, 16]), &["\"b\"", "bytes 4..8"]);
    refused("front", &two([1, 8], [8, 16]), &["\"a\"", "bytes 0..1"]);
    refused("end", &two([0, 4], [4, 15]), &["bytes 15..16"]);
    refused("backwards", &one("F32", "[4]", "[16,0]"), &["\"w\"", "16..0"]);
    refused("far", &one("F32", "[4]", "[18446744073709551599,18446744073709551615]"), &["\"w\""]);
    refused("negative", &one("F32", "[4]", "[-16,0]"), &["\"w\""]);
    refused("fraction", &one("F32", "[4]", "[0.0,16.0]"), &["\"w\""]);
}

#[test]
fn shapes_and_types() {
    refused("dtype", &one("F33", "[4]", "[0,16]"), &["\"w\"", "F33"]);
    refused("size", &one("F32", "[5]", "[0,16]"), &["\"w\"", "[5]", "20 bytes"]);
    refused("bits", &one("F4", "[3]", "[0,16]"), &["\"w\"", "no size in bytes"]);
    let big = "[4294967296,4294967296]";
    refused("overflow", &one("F32", big, "[0,16]"), &["\"w\"", "no size in bytes"]);
    refused("negative", &one("F32", "[-4]", "[0,16]"), &["\"w\""]);
    refused("keys", &raw(r#"{"w":{"dtype":"F32"}}"#, &[]), &["\"w\"", "shape"]);
    refused("meta", &raw(r#"{"__metadata__":{"a":1}}"#, &[]), &["__metadata__"]);
    let twice = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let twice = format!(r#"{{"w":{twice},"w":{twice}}}"#);
    refused("twice", &raw(&twice, &[0]), &["\"w\" occurs twice"]);
    // Sizes whose sum overflows.
    let mut file = File::default();
    let each = (1u64 << 61) - 1;
    for i in 0..9 {
        let entry =
            json!({ "dtype": "U8", "shape": [each], "data_offsets": [i * (each / 9), each] });
        file.header.insert(format!("t{i}"), entry);
    }
    refused("sum", &file.bytes(), &["\"t"]);
}

#[test]
fn what_is_no_regular_file() {
    let dir = Dir::new();
    dir.fail(&["inspect", "missing"], &["missing", "No such file"]);
    dir.fail(&["inspect", "."], &["index.json", "model.safetensors"]);
    if cfg!(unix) {
        dir.fail(&["inspect", "/dev/zero"], &["/dev/zero", "not a regular file"]);
        dir.fail(&["convert", "x", "y", "--format", "table:/dev/zero"], &["/dev/zero"]);
    }
}

#[test]
fn weights_that_are_not_finite() {
    let bits: [(&str, &[u8], &[u8]); 3] = [
        ("F32", &1f32.to_le_bytes(), &f32::NAN.to_le_bytes()),
        ("F16", &[0x00, 0x3C], &[0x00, 0xFC]),
        ("BF16", &[0x80, 0x3F], &[0x80, 0x7F]),
    ];
    for (dtype, good, bad) in bits {
        let mut values = vec![good; 6 * 70];
        values[4 * 70 + 33] = bad;
        let file = model().with("bad.weight", dtype, &[6, 70], &values.concat());
        for format in ["qins-linear", "e4m3", "kmeans"] {
            for scales in ["row", "tensor", "group:32"] {
                let dir = Dir::new();
                dir.put("in", &file.bytes());
                let args = ["convert", "in", "out", "--format", format, "--scales", scales];
                dir.fail(&args, &["in: tensor \"bad.weight\"", "row 4", "column 33"]);
            }
        }
    }
}

#[test]
fn nothing_to_convert() {
    let dir = Dir::new();
    dir.put("ints", &File::default().with("a.weight", "I32", &[1, 1], &[0; 4]).bytes());
    dir.fail(&["convert", "ints", "out"], &["ints", "no 2-D weights"]);
    dir.put("nothing", &File::default().bytes());
    dir.fail(&["convert", "nothing", "out"], &["nothing", "no 2-D weights"]);
    dir.put("in", &model().bytes());
    dir.fail(&["convert", "in", "out", "--include", "typo"], &["--include", "typo"]);
    dir.succeed(&["convert", "in", "out"]);
    let clash = model().with("layer.0.dense.codes", "U8", &[1], &[0]);
    dir.put("clash", &clash.bytes());
    dir.fail(&["convert", "clash", "again"], &["two tensors", "layer.0.dense.codes"]);
    let clash = model().with_f32("layer.0.dense", &[1, 1], &[0.0]);
    dir.put("clash", &clash.bytes());
    let args = ["convert", "clash", "again", "--include", "layer.0.dense"];
    dir.fail(&args, &["two tensors", "layer.0.dense"]);
}

#[test]
fn tables() {
    let dir = Dir::new();
    dir.put("in", &model().bytes());
    let table = |bytes: &[u8], words: &[&str]| {
        dir.put("table", bytes);
        dir.fail(
            &["convert", "in", "out", "--format", "table:table"],
            &[&["table"], words].concat(),
        );
    };
    table(&[0; 1020], &["255 entries"]);
    table(&[0; 1023], &["1023 bytes"]);
    table(b"1 2 3", &["3 entries"]);
    table(b"1, 2, x", &["entry 2", "\"x\""]);
    table(&le_bytes(&[f32::NAN; 256]), &["none of its 256 entries is finite"]);
    dir.fail(&["convert", "in", "out", "--format", "table:none"], &["none", "No such file"]);
}

/// A lutmul file of one layer, as `CHECKPOINTS.md` describes it; some of it left out or changed.
fn lutmul(skip: &str, change: impl Fn(&mut serde_json::Value)) -> File {
    let mut record = json!({ "version": 1, "layers": { "a": {
        "tensor": "a.weight", "dtype": "F32", "shape": [3, 10], "format": "qins-linear",
        "scales": "row", "signs": true } } });
    change(&mut record);
    let parts: [(&str, &str, &[usize], Vec<u8>); 4] = [
        ("a.codes", "U8", &[3, 10], vec![1; 30]),
        ("a.signs", "U8", &[3, 2], vec![0; 6]),
        ("a.table", "F32", &[256], le_bytes(&weights(256))),
        ("a.scales", "F32", &[3], le_bytes(&[1.0; 3])),
    ];
    let file = File::default().with_metadata("lutmul", &record.to_string());
    let parts = parts.into_iter().filter(|part| part.0 != skip);
    parts.fold(file, |file, (name, dtype, shape, bytes)| file.with(name, dtype, shape, &bytes))
}

/// The commands that read lutmul files must refuse this one.
fn refused_lutmul(file: &File, words: &[&str]) {
    let dir = Dir::new();
    dir.put("bad", &file.bytes());
    dir.put("original", &File::default().with_f32("a.weight", &[3, 10], &[0.5; 30]).bytes());
    let words = [&["bad"], words].concat();
    dir.fail(&["inspect", "bad"], &words);
    dir.fail(&["verify", "original", "bad"], &words);
}

#[test]
fn faulty_lutmul_files() {
    let same = |_: &mut serde_json::Value| ();
    let dir = Dir::new();
    dir.put("good", &lutmul("", same).bytes());
    dir.succeed(&["inspect", "good"]);

    for part in ["a.codes", "a.signs", "a.table", "a.scales"] {
        refused_lutmul(&lutmul(part, same), &["layer \"a\"", part, "is missing"]);
    }
    let table = lutmul("a.table", same).with_f32("a.table", &[255], &[1.0; 255]);
    refused_lutmul(&table, &["\"a.table\"", "[255]", "[256]"]);
    let table = lutmul("a.table", same).with("a.table", "F16", &[256], &[0; 512]);
    refused_lutmul(&table, &["\"a.table\"", "F16", "F32"]);
    let table = lutmul("a.table", same).with_f32("a.table", &[256], &[f32::NAN; 256]);
    refused_lutmul(&table, &["layer \"a\"", "table", "finite"]);
    let scales = lutmul("a.scales", same).with_f32("a.scales", &[3], &[1.0, f32::NAN, 1.0]);
    refused_lutmul(&scales, &["layer \"a\"", "scales: NaN at row 1"]);
    let scales = lutmul("a.scales", same).with_f32("a.scales", &[3, 1], &[1.0; 3]);
    refused_lutmul(&scales, &["\"a.scales\"", "[3, 1]", "[3]"]);
    let codes = lutmul("a.codes", same).with("a.codes", "U8", &[10, 3], &[1; 30]);
    refused_lutmul(&codes, &["\"a.codes\"", "[10, 3]", "[3, 10]"]);
    let signs = lutmul("a.signs", same).with("a.signs", "U8", &[3, 1], &[1; 3]);
    refused_lutmul(&signs, &["\"a.signs\"", "[3, 1]", "[3, 2]"]);
}

#[test]
fn faulty_metadata_of_lutmul_files() {
    let with = |key: &'static str, value: serde_json::Value| {
        lutmul("", move |record| record["layers"]["a"][key] = value.clone())
    };
    refused_lutmul(&with("shape", json!([4, 10])), &["\"a.codes\"", "[3, 10]", "[4, 10]"]);
    refused_lutmul(&with("shape", json!([3])), &["metadata"]);
    let huge = json!([u64::MAX, u64::MAX]);
    refused_lutmul(&with("shape", huge), &["\"a.codes\""]);
    refused_lutmul(&with("format", json!("qins-cubic")), &["layer \"a\"", "qins-cubic"]);
    refused_lutmul(&with("format", json!("int8")), &["layer \"a\"", "signs", "int8"]);
    refused_lutmul(&with("scales", json!("group:0")), &["layer \"a\"", "group:0"]);
    refused_lutmul(&with("scales", json!("tensor")), &["\"a.scales\"", "[3]", "[]"]);
    refused_lutmul(&with("signs", json!(false)), &["layer \"a\"", "signs"]);
    refused_lutmul(&with("dtype", json!("F99")), &["metadata", "F99"]);
    let version = lutmul("", |record| record["version"] = json!(2));
    refused_lutmul(&version, &["version 2"]);
    let json = File::default().with_metadata("lutmul", "{");
    refused_lutmul(&json, &["metadata", "not valid"]);
}

#[test]
fn codes_that_stand_for_nan() {
    let mut table = weights(256);
    table[77] = f32::NAN;
    let mut codes = vec![1; 30];
    codes[27] = 77;
    let file = lutmul("a.table", |_| ()).with_f32("a.table", &[256], &table);
    let mut bytes = file.clone();
    bytes.data[..30].copy_from_slice(&codes);
    let dir = Dir::new();
    dir.put("bad", &bytes.bytes());
    dir.put("original", &File::default().with_f32("a.weight", &[3, 10], &[0.5; 30]).bytes());
    dir.fail(&["verify", "original", "bad"], &["bad", "layer \"a\"", "NaN at row 2, column 7"]);
    dir.put("unused", &file.bytes());
    dir.succeed(&["verify", "original", "unused"]);
}

/// Any byte of the header may be any other: what comes of it is a file that can be read, or an error.
#[test]
fn headers_with_wrong_bytes() {
    let dir = Dir::new();
    let good = lutmul("", |_| ()).bytes();
    let header = good.len() - 30 - 6 - 1024 - 12;
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut read, mut refused) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..=random(2) {
            // Digits and punctuation go further than bytes that no JSON has.
            let candidates = b"0123456789,:[]{}\"\\ -.eUFn\0\xFF";
            bytes[random(header)] = candidates[random(candidates.len())];
        }
        let path = dir.put("file", &bytes);
        match Checkpoint::open(&path) {
            Err(error) => {
                assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
                refused += 1;
            }
            Ok(checkpoint) => {
                for layer in checkpoint.linears().iter().filter(|l| l.coding.is_some()) {
                    let weights = checkpoint.weights(layer).unwrap();
                    assert!(weights.bytes() <= bytes.len());
                }
                read += 1;
            }
        }
    }
    assert!(read > 10 && refused > 1000, "{read} read, {refused} refused");
}

/// What is said of a file is of a size to be read, whatever the file holds.
#[test]
fn names_and_shapes_of_any_length() {
    let long = "\u{1b}long".repeat(1 << 16);
    let dir = Dir::new();
    let short = |text: &str, what: &str| {
        assert!(text.len() < 40_000 && !text.contains('\u{1b}'), "{what}: {} bytes", text.len());
    };
    // Sound files.
    let file = model().with_f32(&format!("{long}.weight"), &[2, 3], &[1.0; 6]).with_f32(
        "ones",
        &vec![1; 100_000],
        &[1.0],
    );
    dir.put("in", &file.bytes());
    let out = dir.succeed(&["inspect", "in"]);
    short(&out, "inspect");
    assert!(out.contains("(327680 characters)") && out.contains("×1 (100000 dimensions)"), "{out}");
    dir.succeed(&["convert", "in", "out"]);
    for args in [&["inspect", "out"][..], &["verify", "in", "out"]] {
        let out = dir.succeed(args);
        short(&out, args[0]);
        assert!(out.contains(" (327680 characters)"), "{out}");
    }
    // In JSON they are data.
    for file in ["in", "out"] {
        let json: serde_json::Value =
            serde_json::from_str(&dir.succeed(&["inspect", file, "--json"])).unwrap();
        assert!(json.to_string().len() > 500_000);
    }
    // In errors, wherever one can be.
    let fails = |args: &[&str], words: &[&str]| {
        let before = dir.contents();
        let output = dir.run(args);
        dir.check_failure(&output, &before, &format!("lutmul {args:?}"), words);
        short(&common::text(&output.stderr), args[0]);
    };
    let reads = |file: &[u8], words: &[&str]| {
        dir.put("bad", file);
        fails(&["inspect", "bad"], words);
        fails(&["convert", "bad", "new"], words);
        fails(&["verify", "bad", "out"], words);
        fails(&["verify", "in", "bad"], words);
    };
    let named = |name: &str, dtype: &str, shape: &[u64], offsets: [u64; 2]| {
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        raw(&json!({ (name): entry }).to_string(), &[0; 16])
    };
    reads(&named(&long, "F32", &[5], [0, 16]), &["20 bytes", "characters)"]);
    reads(&named(&long, "F32", &[5], [0, 20]), &["out of range", "characters)"]);
    reads(&named(&long, &long, &[4], [0, 16]), &["unknown variant", "characters)"]);
    reads(&named("w", "F32", &vec![1; 100_000], [0, 16]), &["\"w\"", "dimensions)"]);
    reads(&named("w", "F32", &vec![2; 100_000], [0, 16]), &["no size in bytes", "dimensions)"]);
    let both = |a: [u64; 2], b: [u64; 2]| {
        let entry = |at: [u64; 2]| json!({ "dtype": "U8", "shape": [8], "data_offsets": at });
        let header = json!({ (format!("{long}1")): entry(a), (format!("{long}2")): entry(b) });
        raw(&header.to_string(), &[0; 16])
    };
    reads(&both([0, 8], [4, 12]), &["overlaps", "characters)"]);
    reads(&both([0, 8], [9, 17]), &["out of range", "characters)"]);
    let key = serde_json::Value::from(long.as_str()).to_string();
    let twice = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    reads(
        &raw(&format!("{{{key}:{twice},{key}:{twice}}}"), &[0]),
        &["occurs twice", "characters)"],
    );
    reads(&raw(&key, &[]), &["header is not valid"]);
    reads(&raw(&format!(r#"{{"__metadata__":{key}}}"#), &[]), &["__metadata__"]);

    // lutmul's own files.
    let own = |change: &dyn Fn(&mut serde_json::Value), words: &[&str]| {
        dir.put("bad", &lutmul("", change).bytes());
        dir.put("original", &File::default().with_f32("a.weight", &[3, 10], &[0.5; 30]).bytes());
        fails(&["inspect", "bad"], words);
        fails(&["verify", "original", "bad"], words);
    };
    for field in ["format", "scales", "dtype"] {
        own(&|record| record["layers"]["a"][field] = long.clone().into(), &["characters)"]);
    }
    own(&|record| record["version"] = long.clone().into(), &["metadata"]);
    own(
        &|record| record["layers"] = json!({ (long.clone()): record["layers"]["a"] }),
        &["missing"],
    );
    let tensor = lutmul("", |record| record["layers"]["a"]["tensor"] = long.clone().into());
    dir.put("bad", &tensor.bytes());
    dir.succeed(&["inspect", "bad"]);
    dir.put("nothing", &File::default().bytes());
    fails(&["verify", "nothing", "bad"], &["no tensor", "characters)"]);
    let shape = lutmul("a.scales", |_| ()).with_f32("a.scales", &vec![1; 100_000], &[1.0]);
    dir.put("bad", &shape.bytes());
    fails(&["inspect", "bad"], &["\"a.scales\"", "dimensions)"]);

    // Weights that differ, are not finite, or would clash.
    let with = |value: f32, shape: &[usize]| {
        let file = model().with_f32(&format!("{long}.weight"), shape, &[value; 6]);
        file.with_f32("ones", &vec![1; 100_000], &[1.0]).bytes()
    };
    dir.put("nan", &with(f32::NAN, &[2, 3]));
    fails(&["convert", "nan", "new"], &["characters)", "row 0, column 0"]);
    fails(&["verify", "nan", "out"], &["characters)", "row 0, column 0"]);
    dir.put("turned", &with(1.0, &[3, 2]));
    fails(&["verify", "turned", "out"], &["characters)", "2×3"]);
    dir.put("less", &model().bytes());
    fails(&["verify", "less", "out"], &["no tensor"]);
    let carried = |value: f32| {
        let name = format!("{long}.bias");
        model().with_f32(&name, &[1; 100_000], &[value]).bytes()
    };
    dir.put("first", &carried(1.0));
    dir.put("second", &carried(2.0));
    dir.succeed(&["convert", "first", "coded"]);
    fails(&["verify", "second", "coded"], &["characters)", "differs"]);
    fails(&["verify", "less", "coded"], &["no tensor", "characters)"]);
    dir.succeed(&["convert", "less", "coded-less"]);
    fails(&["verify", "first", "coded-less"], &["missing", "characters)"]);
    let clash = model()
        .with_f32(&format!("{long}.weight"), &[1, 1], &[1.0])
        .with("x", "U8", &[1], &[0])
        .with(&format!("{long}.codes"), "U8", &[1], &[0]);
    dir.put("clash", &clash.bytes());
    fails(&["convert", "clash", "new"], &["two tensors", "characters)"]);

    // An index.
    std::fs::create_dir(dir.path("model")).unwrap();
    for (tensor, shard) in
        [("ids", &long[..]), (&long, "1.safetensors"), ("ids", &format!("a/{long}"))]
    {
        let index = json!({ "weight_map": { (tensor): shard } });
        dir.put("model/model.safetensors.index.json", index.to_string().as_bytes());
        if shard == "1.safetensors" {
            dir.put("model/1.safetensors", &model().bytes());
        } else {
            let _ = std::fs::remove_file(dir.path("model/1.safetensors"));
        }
        fails(&["convert", "model", "new"], &["characters)"]);
    }
}

/// A matrix without weights can have any number of rows or columns: it is no work, and takes no memory.
#[test]
fn no_weights_of_any_size() {
    let dir = Dir::new();
    let limited = |args: &[&str]| {
        // So much memory, and seconds of CPU.
        let lutmul = env!("CARGO_BIN_EXE_lutmul");
        let command = format!("ulimit -v 1500000 -t 20; exec {lutmul} {}", args.join(" "));
        let output = dir.command(std::process::Command::new("bash").args(["-c", &command]));
        let err = common::text(&output.stderr);
        assert!(output.status.success() && err.is_empty(), "lutmul {args:?}: {err}");
        common::text(&output.stdout)
    };
    for shape in [[1usize << 28, 0], [1 << 32, 0], [usize::MAX, 0], [0, 1 << 28], [0, usize::MAX]] {
        let file = File::default().with_f32("w.weight", &shape, &[]).bytes();
        dir.put("in", &file);
        for scales in ["row", "tensor", "group:32", "block:128x128", "block:1x1"] {
            for format in ["qins-linear", "qins-log", "e4m3", "kmeans", "kmeans-signed"] {
                let options = ["--force", "--scales", scales, "--format", format];
                limited(&[&["convert", "in", "out"], &options[..]].concat());
                let size = dir.path("out").metadata().unwrap().len();
                assert!(size < 3000, "{shape:?} per {scales} as {format}: {size} bytes");
                assert!(
                    limited(&["inspect", "out"]).contains(&format!("{}×{}", shape[0], shape[1]))
                );
                limited(&["verify", "in", "out"]);
            }
        }
    }
    // Files of former versions, which had a scale for each of those rows.
    let json = json!({ "version": 1, "layers": { "w": { "tensor": "w.weight", "dtype": "F32",
        "shape": [1000, 0], "format": "e4m3", "scales": "row", "signs": false } } });
    let former = File::default()
        .with_metadata("lutmul", &json.to_string())
        .with("w.codes", "U8", &[1000, 0], &[])
        .with_f32("w.table", &[256], &[1.0; 256])
        .with_f32("w.scales", &[1000], &[0.0; 1000]);
    dir.put("former", &former.bytes());
    dir.put("in", &File::default().with_f32("w.weight", &[1000, 0], &[]).bytes());
    dir.succeed(&["inspect", "former"]);
    dir.succeed(&["verify", "in", "former"]);
    let checkpoint = Checkpoint::open(dir.path("former")).unwrap();
    let weights = checkpoint.weights(checkpoint.linear("w").unwrap()).unwrap();
    assert_eq!((weights.n(), weights.k(), weights.scales().values().len()), (1000, 0, 0));
}
