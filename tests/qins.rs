//! QINS as its original project saved it, made by hand: each variant's formula, its traps, and errors. Whole matrices
//! through the exporter, against numpy, are tests/fixtures.
#![cfg(feature = "checkpoint")]

use lutmul::checkpoint::{Checkpoint, Matrix};
use lutmul::{Format, Lut, Weights};
use serde_json::Value;
use testing::files::{File, Folder, le_bytes};

/// Six weights: codes, and their signs.
const CODES: [u8; 6] = [255, 128, 1, 0, 254, 2];
const SIGNS: [i8; 6] = [1, -1, -1, 1, 0, -1];

fn signed() -> File {
    let signs = SIGNS.map(|sign| sign as u8);
    File::default().with("m.stored", "U8", &[2, 3], &CODES).with("m.sign", "I8", &[2, 3], &signs)
}

fn number(file: File, name: &str, value: f32) -> File {
    file.with(name, "F32", &[], &le_bytes(&[value]))
}

fn log(low: f32, high: f32) -> File {
    number(number(signed(), "m.log_min", low), "m.log_max", high)
}

fn with_lut(values: &[f32]) -> File {
    signed().with("m.lut", "F32", &[values.len()], &le_bytes(values))
}

/// The weights of `m`, and what they are.
fn read(file: &File) -> (Format, Weights<'static>, [f32; 6]) {
    let folder = Folder::of(file, Value::Null);
    let model = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(model.others().len(), 0);
    let [linear] = model.linears() else { panic!("one matrix") };
    assert_eq!((&*linear.name, linear.shape), ("m", (2, 3)));
    let coding = linear.coding.clone().unwrap();
    let weights = model.weights(linear).unwrap();
    assert_eq!(coding.signs, weights.signs().is_some());
    assert_eq!(coding.granularity, weights.scales().granularity());
    let Matrix::Coded(loaded) = model.load(linear).unwrap() else { panic!("codes") };
    assert_eq!((loaded.codes(), loaded.signs()), (weights.codes(), weights.signs()));
    let values = std::array::from_fn(|i| weights.at(i / 3, i % 3));
    (coding.format, weights, values)
}

#[test]
fn the_log_variant() {
    let (format, weights, found) = read(&log(-8.0, -1.0));
    let of = |c: f64| (-8.0 + (255.0 - c) / 254.0 * 7.0f64).exp() as f32;
    // Code 0 is a weight that was dropped, and so is one without a sign.
    assert_eq!(found, [of(255.0), -of(128.0), -of(1.0), 0.0, 0.0, -of(2.0)]);
    assert_eq!((of(255.0), of(1.0)), ((-8f64).exp() as f32, (-1f64).exp() as f32));
    assert_eq!(format, Format::QinsLog);
    assert_eq!(weights.codes(), [255, 128, 1, 0, 0, 2]);
    assert_eq!(weights.signs().unwrap(), [0b110, 0b100]);
}

#[test]
fn the_linear_variant() {
    let expected = [254.0, -127.0, 0.0, 0.0, 0.0, -1.0].map(|v: f32| v * (0.75f32 / 254.0));
    let (format, _, by_max) = read(&number(signed(), "m.max", 0.75));
    assert_eq!((format, by_max), (Format::QinsLinear, expected));
    // As that project makes it, in f32: the first entry is negative, and of no meaning.
    let lut: Vec<f32> = (0..256).map(|c| (c as f32 - 1.0) / 254.0 * 0.75).collect();
    let (format, weights, by_lut) = read(&with_lut(&lut));
    assert_eq!((format, by_lut), (Format::QinsLinear, expected));
    assert_eq!(*weights.lut(), Lut::qins_linear());
}

#[test]
fn the_inverse_variant() {
    for (scale, named) in [(256.0, true), (3.0, false)] {
        let entry = |c: usize| if c == 0 { 0.0 } else { scale / c as f32 };
        let lut: Vec<f32> = (0..256).map(entry).collect();
        let (format, _, found) = read(&with_lut(&lut));
        assert_eq!(found, [entry(255), -entry(128), -entry(1), 0.0, 0.0, -entry(2)]);
        assert_eq!(format == Format::QinsInverse, named, "{format}");
    }
}

#[test]
fn the_rational_variant() {
    let file = File::default().with("m.w_encoded", "U8", &[2, 3], &[0, 127, 128, 255, 64, 254]);
    let (format, weights, found) = read(&number(file, "m.alpha", 2.0));
    let of = |c: f64| {
        let z = c / 127.5 - 1.0;
        z.signum() * (1.0 - z.abs()) / (2.0 * z.abs().max(1e-12))
    };
    assert_eq!((found[1], found[2]), (-127.0, 127.0));
    for (found, c) in found.iter().zip([0.0, 127.0, 128.0, 255.0, 64.0, 254.0]) {
        assert!((f64::from(*found) - of(c)).abs() <= of(c).abs() * 1e-7, "{c}: {found}");
    }
    assert!(matches!(format, Format::Table(_)) && weights.signs().is_none());
    assert_eq!((found[0], found[3]), (0.0, 0.0));
}

#[test]
fn what_is_wrong_is_named() {
    let refused = |file: &File, words: &[&str]| {
        let folder = Folder::of(file, Value::Null);
        let error = match Checkpoint::open(folder.path()) {
            Err(error) => error.to_string(),
            Ok(model) => model.validate(&mut |_| Ok(())).first().expect("an error").to_string(),
        };
        for word in words.iter().chain(&["model.safetensors"]) {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
    };
    let signs = |signs: [u8; 6]| {
        let file = File::default().with("m.stored", "U8", &[2, 3], &CODES);
        number(file.with("m.sign", "I8", &[2, 3], &signs), "m.max", 1.0)
    };
    refused(&signs([1, 1, 255, 0, 2, 1]), &["m.sign", "2 at row 1, column 1"]);
    refused(&signs([1, 1, 255, 0, 128, 1]), &["m.sign", "-128 at row 1, column 1"]);
    // The logarithm of a weight that was 0.
    refused(&log(f32::NEG_INFINITY, -1.0), &["m.log_min", "-inf"]);
    refused(&log(f32::NAN, -1.0), &["m.log_min", "NaN"]);
    refused(&log(0.0, -1.0), &["m.log_min", "0..-1"]);
    refused(&log(0.0, 100.0), &["m.log_min", "0..100"]);
    refused(&number(signed(), "m.max", f32::INFINITY), &["m.max", "inf"]);
    refused(&number(signed(), "m.log_min", -1.0), &["m.stored", "log_max"]);
    refused(&signed(), &["m.stored", "lut"]);
    refused(&with_lut(&[1.0; 255]), &["m.lut", "[255]", "[256]"]);
    let mut lut = [1.0; 256];
    for (value, shown) in [(f32::NAN, "NaN"), (-0.5, "-0.5")] {
        lut[7] = value;
        refused(&with_lut(&lut), &["m.lut", "entry 7", shown]);
    }
    let max = |file| number(file, "m.max", 1.0);
    refused(&max(File::default().with("m.stored", "U8", &[2, 3], &CODES)), &["m.stored", "sign"]);
    let other = File::default().with("m.stored", "U8", &[2, 3], &CODES);
    refused(&max(other.with("m.sign", "I8", &[3, 2], &[1; 6])), &["m.sign", "[3, 2]", "[2, 3]"]);
    let cube = File::default().with("m.stored", "U8", &[1, 2, 3], &CODES);
    refused(&max(cube.with("m.sign", "I8", &[1, 2, 3], &[1; 6])), &["m.stored", "[1, 2, 3]"]);
    let rational = || File::default().with("m.w_encoded", "U8", &[2, 3], &CODES);
    refused(&rational(), &["m.w_encoded", "alpha"]);
    refused(&number(rational(), "m.alpha", 0.0), &["m.alpha", "0"]);
    let two = rational().with("m.alpha", "F32", &[2], &le_bytes(&[1.0, 2.0]));
    refused(&two, &["m.alpha", "[2]"]);
}
