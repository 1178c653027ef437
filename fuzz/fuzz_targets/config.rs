//! The config.json of a model that has weights of every type, with scales of several shapes.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use lutmul::checkpoint::{TensorFile, fuzzing};

static FILE: OnceLock<TensorFile> = OnceLock::new();

/// Names, types and shapes; every byte is 0x38, which is 1 in E4M3.
const TENSORS: [(&str, &str, &[usize], usize); 12] = [
    ("lm_head.weight", "BF16", &[3, 5], 2),
    ("model.norm.weight", "BF16", &[5], 2),
    ("model.layers.0.attn.weight", "F8_E4M3", &[6, 40], 1),
    ("model.layers.0.attn.weight_scale", "BF16", &[6, 1], 2),
    ("model.layers.0.mlp.weight", "F8_E4M3", &[6, 40], 1),
    ("model.layers.0.mlp.weight_scale_inv", "F32", &[2, 2], 4),
    ("model.layers.1.mlp.weight", "F8_E4M3", &[6, 40], 1),
    ("model.layers.1.mlp.weight_scale", "U8", &[6, 2], 1),
    ("model.layers.2.mlp.weight", "I8", &[6, 40], 1),
    ("model.layers.2.mlp.weight_scale", "F16", &[1], 2),
    ("model.layers.3.mlp.weight", "I8", &[6, 40], 1),
    ("model.layers.3.mlp.SCB", "F32", &[6], 4),
];

fn file(pick: u8) -> TensorFile {
    let (mut header, mut end) = (String::from("{"), 0);
    for (i, (name, dtype, shape, size)) in TENSORS.iter().enumerate() {
        if i >= 2 && pick & 1 << (i / 2 - 1) == 0 {
            continue;
        }
        let start = end;
        end += shape.iter().product::<usize>() * size;
        let comma = if header.len() == 1 { "" } else { "," };
        header += &format!(
            r#"{comma}"{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
        );
    }
    header += "}";
    let bytes = lutmul_fuzz::safetensors(header.as_bytes(), &vec![0x38; end]);
    fuzzing::tensors("x", bytes).expect("a sound file")
}

fuzz_target!(|input: (u8, &str)| {
    let (pick, config) = input;
    // One file of all is kept; of some they are put together anew.
    let file = if pick >= 0x40 { FILE.get_or_init(|| file(0xFF)).clone() } else { file(pick) };
    if let Ok(model) = fuzzing::checkpoint(Some(config), None, vec![("x".into(), file)]) {
        lutmul_fuzz::read(&model);
    }
});
