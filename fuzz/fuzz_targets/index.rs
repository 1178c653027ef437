//! The index of a model of two files, `a` and `b`, that have two tensors each, `0` and `1`, `2` and `3`.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use lutmul::checkpoint::{TensorFile, fuzzing};

static FILES: OnceLock<Vec<(String, TensorFile)>> = OnceLock::new();

fn files() -> Vec<(String, TensorFile)> {
    [("a", 0), ("b", 2)]
        .map(|(name, first)| {
            let header = format!(
                r#"{{"{first}":{{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}},"{}":{{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}}}"#,
                first + 1
            );
            let bytes = lutmul_fuzz::safetensors(header.as_bytes(), &[0; 16]);
            (name.to_owned(), fuzzing::tensors(name, bytes).expect("a sound file"))
        })
        .into()
}

fuzz_target!(|index: &str| {
    let files = FILES.get_or_init(files);
    if let Ok(model) = fuzzing::checkpoint(None, Some(index), files.clone()) {
        lutmul_fuzz::read(&model);
    }
});
