//! Scales of any type, shape and values, of a matrix or of several, under any of the methods.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lutmul::checkpoint::fuzzing;

#[derive(Arbitrary, Debug)]
struct Input {
    shape: (u8, u8),
    experts: Option<u8>,
    codes: u8,
    scale: u8,
    scale_shape: Vec<u8>,
    name: u8,
    beside: u8,
    method: u8,
    block: (u8, u8),
    strategy: u8,
    exponents: bool,
    bytes: Vec<u8>,
}

/// Types and their bytes.
const CODES: [&str; 6] = ["F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8"];
const SCALES: [(&str, usize); 7] =
    [("F32", 4), ("BF16", 2), ("F16", 2), ("F8_E8M0", 1), ("U8", 1), ("F64", 8), ("I32", 4)];
const NAMES: [&str; 6] =
    ["m.weight_scale_inv", "m.weight_scale", "m.SCB", "m.scale", "m.sign", "m.weight_scale_inv"];
const BESIDE: [&str; 6] = [
    "",
    "m.weight_zero_point",
    "m.weight_g_idx",
    "m.weight_format",
    "m.input_scale",
    "m.weight_shape",
];
const STRATEGIES: [&str; 6] = ["tensor", "channel", "group", "block", "token", "tensor_group"];

fn config(input: &Input) -> Option<String> {
    let (rows, cols) = input.block;
    let format = ["float-quantized", "int-quantized", "mxfp8-quantized", "naive-quantized"];
    Some(match input.method % 6 {
        0 => return None,
        1 => format!(
            r#"{{"quant_method":"fp8","weight_block_size":[{rows},{cols}],"scale_fmt":"{}"}}"#,
            if input.exponents { "ue8m0" } else { "float" }
        ),
        2 => r#"{"quant_method":"fp8"}"#.into(),
        3 => r#"{"quant_method":"fbgemm_fp8"}"#.into(),
        4 => r#"{"quant_method":"bitsandbytes","load_in_8bit":true}"#.into(),
        _ => {
            let strategy = STRATEGIES[input.strategy as usize % STRATEGIES.len()];
            let kind = if input.codes % 6 == 4 { "int" } else { "float" };
            let format = format[input.name as usize / 8 % format.len()];
            format!(
                r#"{{"quant_method":"compressed-tensors","format":"{format}","config_groups":{{"group_0":{{"targets":["Linear"],"weights":{{"num_bits":8,"type":"{kind}","strategy":"{strategy}","group_size":{cols},"block_structure":[{rows},{cols}],"symmetric":{}}}}}}}}}"#,
                !input.exponents
            )
        }
    })
}

fuzz_target!(|input: Input| {
    let (mut header, mut size) = (Vec::new(), 0);
    let mut add = |name: &str, dtype: &str, shape: &[u8], bytes: usize| {
        let start = size;
        size += shape.iter().map(|d| *d as usize).product::<usize>() * bytes;
        header.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{size}]}}"#
        ));
    };
    let (n, k) = (input.shape.0 % 70, input.shape.1 % 200);
    let codes = CODES[input.codes as usize % CODES.len()];
    let shape = [input.experts.map(|count| count % 4), Some(n), Some(k)];
    let shape: Vec<u8> = shape.into_iter().flatten().collect();
    let (dtype, bytes) = SCALES[input.scale as usize % SCALES.len()];
    let scale: Vec<u8> = input.scale_shape.iter().take(4).copied().collect();
    let beside = BESIDE[input.beside as usize % BESIDE.len()];
    add("m.weight", codes, &shape, 1);
    add(NAMES[input.name as usize % NAMES.len()], dtype, &scale, bytes);
    if !beside.is_empty() {
        add(beside, "I8", &[n, 1], 1);
    }
    if size > 1 << 16 {
        return;
    }
    let mut data = input.bytes.clone();
    data.resize(size, 0x38);
    let header = format!("{{{}}}", header.join(","));
    let bytes = lutmul_fuzz::safetensors(header.as_bytes(), &data);
    let Ok(file) = fuzzing::tensors("x", bytes) else { return };
    let config = config(&input).map(|q| format!(r#"{{"quantization_config":{q}}}"#));
    if let Ok(model) = fuzzing::checkpoint(config.as_deref(), None, vec![("x".into(), file)]) {
        lutmul_fuzz::read(&model);
    }
});
