//! A whole model: config.json, the header of its file and its data, with a zero byte between them. Without config, the
//! first is empty.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lutmul::checkpoint::fuzzing;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let (Some(config), Some(header)) = (parts.next(), parts.next()) else { return };
    let Ok(config) = str::from_utf8(config) else { return };
    let data = parts.next().unwrap_or_default();
    let bytes = lutmul_fuzz::safetensors(header, data);
    let Ok(file) = fuzzing::tensors("x", bytes) else { return };
    let config = (!config.is_empty()).then_some(config);
    if let Ok(model) = fuzzing::checkpoint(config, None, vec![("x".into(), file)]) {
        lutmul_fuzz::read(&model);
    }
});
