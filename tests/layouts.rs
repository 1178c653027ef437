//! Models of every layout: the weights that they stand for are those of the layout's own definition.
#![cfg(feature = "checkpoint")]

use lutmul::checkpoint::{Checkpoint, Matrix};
use lutmul::{Format, Granularity, Weights, bf16, f16};
use serde_json::{Value, json};
use testing::files::{File, Folder, Numbers, le_bytes};

/// A float of 8 bits, by its fields: so many bits of mantissa, so much bias.
fn float8(code: u8, mantissa: u32, bias: i32) -> f64 {
    let (e, m) = (i32::from(code & 0x7F) >> mantissa, f64::from(code & ((1 << mantissa) - 1)));
    let unit = 2f64.powi(-(mantissa as i32));
    let magnitude = if e == 0 {
        m * unit * 2f64.powi(1 - bias)
    } else {
        (1.0 + m * unit) * 2f64.powi(e - bias)
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The types of codes: what they stand for, and whether a code is finite.
type Decode = (fn(u8) -> f64, fn(u8) -> bool);

fn decoder(dtype: &str) -> Decode {
    match dtype {
        "F8_E4M3" => (|c| float8(c, 3, 7), |c| c & 0x7F != 0x7F),
        "F8_E5M2" => (|c| float8(c, 2, 15), |c| c & 0x7F < 0x7C),
        "F8_E4M3FNUZ" => (|c| float8(c, 3, 8), |c| c != 0x80),
        "F8_E5M2FNUZ" => (|c| float8(c, 2, 16), |c| c != 0x80),
        "I8" => (|c| f64::from(c as i8), |_| true),
        other => panic!("{other}"),
    }
}

/// Codes of a type, none of them NaN or infinite.
fn codes(dtype: &str, count: usize, numbers: &mut Numbers) -> Vec<u8> {
    let finite = decoder(dtype).1;
    (0..count)
        .map(|_| {
            loop {
                let code = numbers.draw() as u8;
                if finite(code) {
                    return code;
                }
            }
        })
        .collect()
}

/// Scales of a type: their bytes, and what they stand for.
fn scales(dtype: &str, count: usize, numbers: &mut Numbers) -> (Vec<u8>, Vec<f64>) {
    let values = numbers.floats(count);
    match dtype {
        "F32" => (le_bytes(&values), values.iter().map(|v| f64::from(*v)).collect()),
        "BF16" => {
            let values: Vec<_> = values.iter().map(|v| bf16::from_f32(*v)).collect();
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (bytes, values.iter().map(|v| f64::from(v.to_f32())).collect())
        }
        "F16" => {
            let values: Vec<_> = values.iter().map(|v| f16::from_f32(*v)).collect();
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (bytes, values.iter().map(|v| f64::from(v.to_f32())).collect())
        }
        // Products of exponents near the ends are no f32 any more.
        "U8" | "F8_E8M0" => {
            let bytes: Vec<u8> = (0..count).map(|_| 100 + numbers.draw() as u8 % 56).collect();
            let values = bytes.iter().map(|b| 2f64.powi(i32::from(*b) - 127)).collect();
            (bytes, values)
        }
        other => panic!("{other}"),
    }
}

/// Every weight is its code times its scale, multiplied in f32.
fn check(weights: &Weights<'_>, (n, k): (usize, usize), weight: impl Fn(usize, usize) -> f64) {
    assert_eq!((weights.n(), weights.k()), (n, k));
    let mut decoded = vec![f32::NAN; n * k];
    weights.decode(&mut decoded).unwrap();
    for (i, decoded) in decoded.iter().enumerate() {
        let expected = weight(i / k, i % k) as f32;
        assert_eq!(decoded.to_bits(), expected.to_bits(), "row {}, column {}", i / k, i % k);
    }
}

/// A layout of one matrix, called `m`.
struct Case<'a> {
    codes: &'a str,
    shape: (usize, usize),
    scale: (&'a str, &'a str, &'a [usize]),
    block: (usize, usize),
    config: Value,
    expected: Granularity,
}

impl Case<'_> {
    fn run(&self) {
        let Self { shape: (n, k), scale: (name, dtype, scale_shape), block, .. } = *self;
        let mut numbers = Numbers(7);
        let bytes = codes(self.codes, n * k, &mut numbers);
        let (scale_bytes, values) = scales(dtype, scale_shape.iter().product(), &mut numbers);
        let file = File::default()
            .with("odd", "U8", &[3], &[1, 2, 3])
            .with("m.weight", self.codes, &[n, k], &bytes)
            .with(&format!("m.{name}"), dtype, scale_shape, &scale_bytes)
            .with("m.input_scale", "F32", &[], &[0; 4]);
        let folder = Folder::of(&file, self.config.clone());
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let [linear] = checkpoint.linears() else { panic!("{:?}", checkpoint.linears()) };
        assert_eq!((linear.name.as_str(), linear.tensor.as_str()), ("m", "m.weight"));
        assert_eq!((linear.shape, linear.dtype), ((n, k), self.codes));
        assert_eq!(linear.bytes, n * k + scale_bytes.len());
        let coding = linear.coding.as_ref().unwrap();
        assert_eq!(coding.granularity, self.expected);
        let others: Vec<_> = checkpoint.others().map(|o| (o.name, o.reason.to_string())).collect();
        assert!(others.iter().any(|(name, _)| *name == "odd"), "{others:?}");
        let activation = others.iter().find(|(name, _)| *name == "m.input_scale").unwrap();
        assert!(activation.1.contains("activations"), "{others:?}");
        assert_eq!(others.len(), 2, "{others:?}");

        let (decode, divisor) = (decoder(self.codes).0, if name == "SCB" { 127.0 } else { 1.0 });
        let cols = k.div_ceil(block.1);
        let scale = |row: usize, col: usize| {
            let at = if values.len() == 1 { 0 } else { row / block.0 * cols + col / block.1 };
            f64::from(values[at] as f32 / divisor)
        };
        let weight = |row: usize, col: usize| decode(bytes[row * k + col]) * scale(row, col);
        for matrix in [checkpoint.matrix(linear), checkpoint.load(linear)] {
            let Matrix::Coded(weights) = matrix.unwrap() else { panic!("floats") };
            assert!(weights.codes() == bytes);
            check(&weights, (n, k), weight);
        }
        assert!(checkpoint.validate(&mut |_| Ok(())).is_empty());
    }
}

const WHOLE: (usize, usize) = (usize::MAX, usize::MAX);
const ROW: (usize, usize) = (1, usize::MAX);

#[test]
fn fp8_with_one_scale_or_one_a_row() {
    let row: [&[usize]; 2] = [&[70], &[70, 1]];
    for codes in ["F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"] {
        for dtype in ["F32", "BF16", "F16", "F8_E8M0"] {
            for name in ["weight_scale", "weight_scale_inv"] {
                let config = || json!({ "quant_method": "fp8", "activation_scheme": "static" });
                let meta =
                    || json!({ "quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0 });
                for config in [config(), meta(), Value::Null] {
                    for shape in [&[][..], &[1]] {
                        let scale = (name, dtype, shape);
                        let (block, expected) = (WHOLE, Granularity::Tensor);
                        let (shape, config) = ((70, 33), config.clone());
                        Case { codes, shape, scale, block, config, expected }.run();
                    }
                    for shape in row {
                        let scale = (name, dtype, shape);
                        let (block, expected) = (ROW, Granularity::Row);
                        let (shape, config) = ((70, 33), config.clone());
                        Case { codes, shape, scale, block, config, expected }.run();
                    }
                }
            }
        }
    }
}

#[test]
fn fp8_in_blocks_with_partial_ones_at_the_edges() {
    // 576 is 4.5 blocks; 1,000 rows in blocks of 128 are 8, and dividing says 125.
    for ((n, k), grid) in
        [((576, 576), [5, 5]), ((1000, 200), [8, 2]), ((128, 256), [1, 2]), ((5, 7), [1, 1])]
    {
        for dtype in ["F32", "BF16", "F8_E8M0"] {
            let config = json!({ "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128],
                                 "modules_to_not_convert": ["lm_head"] });
            Case {
                codes: "F8_E4M3",
                shape: (n, k),
                scale: ("weight_scale_inv", dtype, &grid),
                block: (128, 128),
                config,
                expected: Granularity::Block(128, 128),
            }
            .run();
        }
    }
    // DeepSeek's exponents, where they are plain bytes; blocks of one row.
    for (dtype, format) in
        [("U8", json!("ue8m0")), ("F8_E8M0", json!("ue8m0")), ("F32", Value::Null)]
    {
        Case {
            codes: "F8_E4M3",
            shape: (9, 100),
            scale: ("weight_scale_inv", dtype, &[9, 4]),
            block: (1, 32),
            config: json!({ "quant_method": "fp8", "weight_block_size": [1, 32], "scale_fmt": format }),
            expected: Granularity::Group(32),
        }
        .run();
    }
}

/// What compressed-tensors says of weights.
fn compressed(format: &str, weights: Value) -> Value {
    json!({ "quant_method": "compressed-tensors", "format": format, "ignore": ["lm_head", "re:.*gate$"],
            "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } } })
}

#[test]
fn compressed_tensors() {
    let group = Granularity::Group(32);
    let block = Granularity::Block(16, 48);
    /// Its name, the shapes of the scales and of the weights, and what that is.
    type Strategy<'a> = (&'a str, &'a [usize], (usize, usize), Granularity);
    let strategies: [Strategy<'_>; 6] = [
        ("tensor", &[1], WHOLE, Granularity::Tensor),
        ("tensor", &[], WHOLE, Granularity::Tensor),
        ("channel", &[70, 1], ROW, Granularity::Row),
        ("channel", &[70], ROW, Granularity::Row),
        ("group", &[70, 4], (1, 32), group),
        ("block", &[5, 3], (16, 48), block),
    ];
    for (codes, kind, format) in [
        ("F8_E4M3", "float", "float-quantized"),
        ("I8", "int", "int-quantized"),
        ("I8", "int", "naive-quantized"),
    ] {
        for dtype in ["F32", "BF16", "F16"] {
            for (strategy, scale, block, expected) in strategies {
                let weights = json!({ "num_bits": 8, "type": kind, "strategy": strategy, "symmetric": true,
                                      "group_size": 32, "block_structure": [16, 48] });
                let config = compressed(format, weights);
                let scale = ("weight_scale", dtype, scale);
                Case { codes, shape: (70, 100), scale, block, config, expected }.run();
            }
        }
    }
    let weights = json!({ "num_bits": 8, "type": "float", "strategy": "group", "group_size": 32 });
    let config = compressed("mxfp8-quantized", weights);
    for dtype in ["U8", "F8_E8M0"] {
        let (scale, config) = (("weight_scale", dtype, &[3, 4][..]), config.clone());
        let (shape, block) = ((3, 100), (1, 32));
        Case { codes: "F8_E4M3", shape, scale, block, config, expected: group }.run();
    }
}

#[test]
fn int8_of_bitsandbytes_and_without_a_config() {
    for config in [json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }), Value::Null] {
        let scale = ("SCB", "F32", &[70][..]);
        let expected = Granularity::Row;
        Case { codes: "I8", shape: (70, 33), scale, block: ROW, config, expected }.run();
    }
    let scale = ("weight_scale", "BF16", &[70, 1][..]);
    let (config, expected) = (Value::Null, Granularity::Row);
    Case { codes: "I8", shape: (70, 33), scale, block: ROW, config, expected }.run();

    let file = File::default()
        .with("m.weight", "I8", &[2, 2], &[1, 255, 3, 127])
        .with("m.SCB", "F32", &[2], &le_bytes(&[127.0, 254.0]))
        .with("m.weight_format", "U8", &[], &[0]);
    let checkpoint = Folder::of(&file, Value::Null);
    let checkpoint = Checkpoint::open(checkpoint.path()).unwrap();
    assert_eq!(checkpoint.others().len(), 0, "the layout's own are no others");
    let weights = checkpoint.weights(checkpoint.linear("m").unwrap()).unwrap();
    assert_eq!((weights.at(0, 1), weights.at(1, 1)), (-1.0, 254.0));
}

#[test]
fn one_zero_point_is_in_the_table() {
    let weights =
        json!({ "num_bits": 8, "type": "int", "strategy": "channel", "symmetric": false });
    for zero in [-3i8, 0, 127, -128] {
        let file = File::default()
            .with("m.weight", "I8", &[2, 2], &[1, 255, 3, 127])
            .with("m.weight_scale", "F32", &[2, 1], &le_bytes(&[1.0, 2.0]))
            .with("m.weight_zero_point", "I8", &[1], &[zero as u8]);
        let folder = Folder::of(&file, compressed("int-quantized", weights.clone()));
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(checkpoint.others().len(), 0);
        let weights = checkpoint.weights(&checkpoint.linears()[0]).unwrap();
        let zero = f32::from(zero);
        assert_eq!((weights.at(0, 1), weights.at(1, 0)), (-1.0 - zero, 2.0 * (3.0 - zero)));
    }
}

#[test]
fn codes_without_scales() {
    // Where nothing is said of quantisation they are the weights.
    let bytes = [0x38, 0xB8, 0x40, 0x7E, 0, 0x01];
    let file = File::default().with("m.weight", "F8_E4M3", &[2, 3], &bytes);
    let folder = Folder::of(&file, Value::Null);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let weights = checkpoint.weights(checkpoint.linear("m.weight").unwrap()).unwrap();
    assert_eq!((weights.at(0, 0), weights.at(0, 1), weights.at(1, 0)), (1.0, -1.0, 448.0));
    // Where it is said that they have some, they are missing; but not of modules that are left as they were.
    let fail = Folder::of(&file, json!({ "quant_method": "fp8" }));
    let error = Checkpoint::open(fail.path()).err().unwrap().to_string();
    assert!(error.contains("model.safetensors: tensor \"m.weight\": FP8 codes without"), "{error}");
    let skip = json!({ "quant_method": "fp8", "ignored_layers": ["m"] });
    let folder = Folder::of(&file, skip);
    assert!(Checkpoint::open(folder.path()).unwrap().linears()[0].skipped);
}

#[test]
fn experts_are_lists_of_matrices() {
    let (count, n, k) = (3, 20, 36);
    let mut numbers = Numbers(3);
    let bytes = codes("F8_E4M3", count * n * k, &mut numbers);
    let floats = numbers.floats(count * n * k);
    type Of = fn(usize, usize, usize) -> usize;
    let layouts: [(&[usize], Value, Of); 6] = [
        (&[3, 3, 3], json!([8, 16]), |e, r, c| e * 9 + r / 8 * 3 + c / 16),
        (&[3, 20, 1], Value::Null, |e, r, _| e * 20 + r),
        (&[3, 20], Value::Null, |e, r, _| e * 20 + r),
        (&[3, 1, 1], Value::Null, |e, _, _| e),
        (&[3], Value::Null, |e, _, _| e),
        (&[], Value::Null, |_, _, _| 0),
    ];
    for (shape, block, of) in layouts {
        let (scale_bytes, values) = scales("BF16", shape.iter().product(), &mut numbers);
        let file = File::default()
            .with("l.experts.up", "F8_E4M3", &[count, n, k], &bytes)
            .with("l.experts.up_scale_inv", "BF16", shape, &scale_bytes)
            .with("l.experts.down", "F32", &[count, n, k], &le_bytes(&floats))
            .with("conv.weight", "F32", &[count, n, k], &le_bytes(&floats));
        let folder =
            Folder::of(&file, json!({ "quant_method": "fp8", "weight_block_size": block }));
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let names: Vec<_> = checkpoint.linears().iter().map(|l| l.name.as_str()).collect();
        let down = ["l.experts.down.0", "l.experts.down.1", "l.experts.down.2"];
        assert_eq!(
            names,
            [&down[..], &["l.experts.up.0", "l.experts.up.1", "l.experts.up.2"]].concat()
        );
        assert_eq!(checkpoint.others().map(|o| o.name).collect::<Vec<_>>(), ["conv.weight"]);
        for e in 0..count {
            let linear = checkpoint.linear(&format!("l.experts.up.{e}")).unwrap();
            assert_eq!(linear.part, Some((e, count)));
            let scale = |r, c| values[of(e, r, c)];
            let weight = |r, c| float8(bytes[(e * n + r) * k + c], 3, 7) * scale(r, c);
            check(&checkpoint.weights(linear).unwrap(), (n, k), weight);
            let linear = checkpoint.linear(down[e]).unwrap();
            assert!(checkpoint.weights(linear).is_err());
            let matrix = checkpoint.matrix(linear).unwrap();
            assert!(matrix.to_f32().unwrap()[..] == floats[e * n * k..][..n * k]);
        }
    }
}

#[test]
fn floats_and_what_config_json_leaves_as_it_was() {
    let mut numbers = Numbers(5);
    let floats = numbers.floats(12);
    let half: Vec<u8> = floats.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
    let brain: Vec<u8> = floats.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
    let file = File::default()
        .with("odd", "U8", &[1], &[0])
        .with("model.layers.1.q.weight", "F32", &[3, 4], &le_bytes(&floats))
        .with("model.layers.10.q.weight", "F16", &[3, 4], &half)
        .with("model.layers.2.mlp.gate.weight", "BF16", &[3, 4], &brain)
        .with("model.layers.2.mlp.gate_proj.weight", "BF16", &[3, 4], &brain)
        .with("lm_head.weight", "BF16", &[3, 4], &brain)
        .with("model.embed_tokens.weight", "F32", &[3, 4], &le_bytes(&floats))
        .with("model.norm.weight", "F32", &[12], &le_bytes(&floats))
        .with("head", "F32", &[3, 4], &le_bytes(&floats))
        .with("wide.weight", "F64", &[1, 1], &[0; 8]);
    let skip = json!({ "quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {},
                       "ignore": ["lm_head", "model.layers.1", r"re:.*\.mlp\.gate$"] });
    let folder = Folder::of(&file, skip);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let skipped: Vec<_> =
        checkpoint.linears().iter().map(|l| (l.name.as_str(), l.skipped)).collect();
    let expected = [
        ("lm_head", true),
        ("model.layers.1.q", true),
        ("model.layers.10.q", false),
        ("model.layers.2.mlp.gate", true),
        ("model.layers.2.mlp.gate_proj", false),
    ];
    assert_eq!(skipped, expected);
    let reasons: Vec<_> = checkpoint.others().map(|o| (o.name, o.reason.to_string())).collect();
    let reasons: Vec<_> = reasons.iter().map(|(name, why)| (*name, why.as_str())).collect();
    let expected = [
        ("odd", "not of a type that weights have"),
        ("model.embed_tokens.weight", "an embedding or a norm, by its name"),
        ("model.norm.weight", "not two dimensions"),
        ("head", "not called .weight"),
        ("wide.weight", "not of a type that weights have"),
    ];
    assert_eq!(reasons, expected);
    for (linear, exact) in checkpoint.linears().iter().zip([false, true, false, false, false]) {
        let Matrix::Floats(matrix) = checkpoint.matrix(linear).unwrap() else { panic!("codes") };
        let wide = matrix.to_f32();
        assert!(wide.iter().zip(&floats).all(|(a, b)| (a - b).abs() < 0.01));
        assert!(!exact || wide[..] == floats);
        let (format, row) = (Format::QinsLinear, Granularity::Row);
        let expected = Weights::encode(&wide, (3, 4), &format, row).unwrap();
        assert!(matrix.encode(&format, row).unwrap().codes() == expected.codes());
    }
}

/// What weights are encoded into from codes is what they are encoded into from floats.
#[test]
fn recoding() {
    let mut numbers = Numbers(11);
    let (n, k) = (70, 130);
    let bytes = codes("F8_E4M3", n * k, &mut numbers);
    let (scale_bytes, _) = scales("F32", 6, &mut numbers);
    let file = File::default().with("m.weight", "F8_E4M3", &[n, k], &bytes).with(
        "m.weight_scale_inv",
        "F32",
        &[2, 3],
        &scale_bytes,
    );
    let block = Granularity::Block(64, 64);
    let folder = Folder::of(&file, json!({ "quant_method": "fp8", "weight_block_size": [64, 64] }));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let matrix = checkpoint.matrix(&checkpoint.linears()[0]).unwrap();
    let floats = matrix.to_f32().unwrap().into_owned();
    for format in Format::NAMED {
        for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(32), block] {
            let got = matrix.clone().encode(&format, granularity).unwrap();
            let expected = Weights::encode(&floats, (n, k), &format, granularity).unwrap();
            if (format.clone(), granularity) == (Format::E4m3, block) {
                assert!(got.codes() == bytes, "codes of the format asked for stay as they are");
                continue;
            }
            assert!(got.codes() == expected.codes(), "{format} {granularity}");
            assert!(got.signs() == expected.signs() && got.scales() == expected.scales());
            assert_eq!(got.lut(), expected.lut());
        }
    }
}
