//! GGUF files made by hand: what is in them by hand's arithmetic, and errors of those that are wrong. Every type against
//! llama.cpp's own Python, and the real SmolLM2, are tests/fixtures.
#![cfg(feature = "checkpoint")]

use std::path::PathBuf;

use half::f16;
use lutmul::checkpoint::{Checkpoint, GgufFile, Matrix, Reason};
use lutmul::{Format, Granularity};
use testing::gguf::{F32, Gguf, MXFP4, Q4_0, Q8_0};

struct File(tempfile::TempDir);

impl File {
    fn new(bytes: &[u8]) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        // How it is called does not matter.
        self.0.path().join("model.bin")
    }
}

/// A block of Q8_0.
fn block(scale: f32, codes: impl Fn(usize) -> i8) -> Vec<u8> {
    let codes = (0..32).map(|i| codes(i) as u8);
    f16::from_f32(scale).to_le_bytes().into_iter().chain(codes).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn q8_0_is_taken_apart() {
    let blocks = [
        block(0.5, |i| i as i8),
        block(-2.0, |i| -(i as i8)),
        block(0.25, |_| -128),
        block(1.0, |_| 127),
    ];
    let norm = floats(&[1.0; 64]);
    let file = Gguf::new()
        .with("blk.0.ffn_up.weight", Q8_0, &[2, 64], &blocks.concat())
        .with("blk.0.attn_norm.weight", F32, &[64], &norm)
        .with("token_embd.weight", F32, &[2, 64], &floats(&[0.5; 128]))
        .with("output.weight", F32, &[2, 64], &floats(&[0.25; 128]));
    let file = File::new(&file.bytes());
    let model = Checkpoint::open(file.path()).unwrap();
    let names: Vec<_> = model.linears().iter().map(|linear| &*linear.name).collect();
    assert_eq!(names, ["blk.0.ffn_up", "output"]);
    let linear = model.linear("blk.0.ffn_up.weight").unwrap();
    let coding = linear.coding.as_ref().unwrap();
    assert_eq!((&coding.format, coding.granularity), (&Format::Int8, Granularity::Group(32)));
    assert_eq!((linear.dtype, linear.shape, linear.bytes), ("Q8_0", (2, 64), 136));
    let weights = model.weights(linear).unwrap();
    assert_eq!(weights.scales().values(), [0.5, -2.0, 0.25, 1.0]);
    let found = [weights.at(0, 3), weights.at(0, 35), weights.at(1, 0), weights.at(1, 63)];
    assert_eq!(found, [1.5, 6.0, -32.0, 127.0]);
    let Matrix::Coded(loaded) = model.load(linear).unwrap() else { panic!("codes") };
    assert_eq!((loaded.codes(), loaded.scales()), (weights.codes(), weights.scales()));

    let others: Vec<_> = model.others().map(|other| (other.name, other.reason)).collect();
    assert_eq!(
        others,
        [("blk.0.attn_norm.weight", Reason::Dimensions), ("token_embd.weight", Reason::Lookup)]
    );
    assert!(model.weights(model.linear("output").unwrap()).is_err());
    assert!(model.validate(&mut |_| Ok(())).is_empty());
}

#[test]
fn rows_of_q_and_k_have_the_original_s_order() {
    let rows: Vec<f32> = (0..12).map(|row| row as f32).collect();
    let llama = |heads: &[(&str, u32)]| {
        let file = Gguf::default().with_text("general.architecture", "llama");
        let file = heads.iter().fold(file, |file, (key, heads)| {
            file.with_number(&format!("llama.attention.{key}"), *heads)
        });
        file.with("blk.7.attn_q.weight", F32, &[12, 1], &floats(&rows))
            .with("blk.7.attn_k.weight", F32, &[12, 1], &floats(&rows))
            .with("blk.7.attn_q.bias", F32, &[12], &floats(&rows))
            .with("blk.7.attn_v.weight", F32, &[12, 1], &floats(&rows))
    };
    let file = File::new(&llama(&[("head_count", 3), ("head_count_kv", 2)]).bytes());
    let file = GgufFile::open(file.path()).unwrap();
    let heads_of_four = [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11].map(|row| row as f32);
    let heads_of_six = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11].map(|row| row as f32);
    let found = |name: &str| file.to_f32(&format!("blk.7.{name}")).unwrap();
    assert_eq!(found("attn_q.weight"), heads_of_four);
    assert_eq!(found("attn_q.bias"), heads_of_four);
    assert_eq!(found("attn_k.weight"), heads_of_six);
    assert_eq!(found("attn_v.weight"), rows);

    for (heads, words) in [
        (&[][..], "no llama.attention.head_count"),
        (&[("head_count", 5)], "12 rows, which are not 5 heads"),
        (&[("head_count", 12)], "12 rows, which are not 12 heads"),
        (&[("head_count", 0)], "12 rows, which are not 0 heads"),
    ] {
        fails(&llama(heads).bytes(), &["blk.7.attn_q.weight", words]);
    }
}

/// What opening, or looking at all weights, says.
fn fails(bytes: &[u8], words: &[&str]) {
    let file = File::new(bytes);
    let error = match Checkpoint::open(file.path()) {
        Err(error) => error.to_string(),
        Ok(model) => model.validate(&mut |_| Ok(())).first().expect("an error").to_string(),
    };
    for word in words.iter().chain(&["model.bin"]) {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn bad_files() {
    let name = "blk.0.ffn_up.weight";
    let good =
        Gguf::new().with(name, Q8_0, &[1, 64], &[block(1.0, |_| 1), block(1.0, |_| 1)].concat());
    let bytes = good.bytes();
    assert!(Checkpoint::open(File::new(&bytes).path()).is_ok());
    for length in 4..bytes.len() {
        let file = File::new(&bytes[..length]);
        assert!(Checkpoint::open(file.path()).is_err(), "the first {length} bytes of it");
    }
    fails(&bytes[..bytes.len() - 1], &[name, "truncated"]);
    let nan = [block(1.0, |_| 1), block(f32::NAN, |_| 1)].concat();
    fails(
        &Gguf::new().with(name, Q8_0, &[1, 64], &nan).bytes(),
        &[name, "NaN", "row 0", "column 1"],
    );
    fails(&good.clone().with(name, F32, &[1], &[0; 4]).bytes(), &["name"]);
    fails(
        &good.clone().with_place("b.weight", F32, &[9], 32).bytes(),
        &["b.weight", "overlaps", name],
    );
    fails(&good.clone().with_place("b.weight", F32, &[9], 1 << 60).bytes(), &["b.weight", "range"]);
    fails(&Gguf::new().with(name, MXFP4, &[1, 32], &[0; 17]).bytes(), &[name, "MXFP4", "Q8_0"]);
    let huge = Gguf::new().with(name, F32, &[1 << 40, 1 << 40], &[]);
    fails(&huge.bytes(), &["overflow"]);
    let nothing = Gguf::new().with(name, F32, &[1 << 40, 0, 1 << 40], &[]);
    fails(&nothing.bytes(), &["too large"]);
    fails(&good.clone().with_number("split.count", 3).bytes(), &["one of 3 files"]);
    let mut many = bytes.clone();
    many[8..16].fill(0xFF);
    fails(&many, &[]);
}

#[test]
fn other_types_are_floats() {
    let mut data = f16::from_f32(0.5).to_le_bytes().to_vec();
    data.extend((0..16).map(|i| i | (15 - i) << 4));
    let file = File::new(&Gguf::new().with("a.weight", Q4_0, &[1, 32], &data).bytes());
    let model = Checkpoint::open(file.path()).unwrap();
    let linear = model.linear("a").unwrap();
    assert!(linear.coding.is_none() && linear.dtype == "Q4_0");
    let low = (0..16).map(|i| 0.5 * (i as f32 - 8.0));
    let expected: Vec<f32> = low.chain((0..16).map(|i| 0.5 * (7.0 - i as f32))).collect();
    assert_eq!(*model.matrix(linear).unwrap().to_f32().unwrap(), expected);
    let coded = model.matrix(linear).unwrap().encode(&Format::Int8, Granularity::Row).unwrap();
    assert_eq!((coded.n(), coded.k()), (1, 32));
}
