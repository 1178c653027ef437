//! A GGUF file: its metadata, and every tensor as f32 and as weights.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lutmul::checkpoint::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    let Ok((file, model)) = fuzzing::gguf(bytes.to_vec()) else { return };
    let _ = (file.text("general.architecture"), file.texts("tokenizer.ggml.tokens"));
    let _ = (file.number("llama.attention.head_count"), file.numbers("llama.attention.head_count"));
    for tensor in file.tensors() {
        let size: usize = tensor.shape.iter().product();
        // Blocks of few bytes are many weights, but not without end.
        assert!(size <= 8 * bytes.len(), "{tensor:?}");
        assert_eq!(file.to_f32(tensor.name).expect("a tensor").len(), size);
        if let Ok(weights) = file.weights(tensor.name, 0) {
            lutmul_fuzz::multiply(weights);
        }
    }
    lutmul_fuzz::read(&model);
});
