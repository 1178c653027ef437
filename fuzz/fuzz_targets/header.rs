//! A safetensors file: its bytes, and after them as many zeros as the first four bytes say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lutmul::checkpoint::fuzzing;

fuzz_target!(|input: &[u8]| {
    let Some((zeros, file)) = input.split_first_chunk() else { return };
    let zeros = u32::from_le_bytes(*zeros) as usize % (1 << 20);
    let mut bytes = file.to_vec();
    bytes.resize(bytes.len() + zeros, 0);
    let Ok(file) = fuzzing::tensors("x", bytes) else { return };
    let mut size = 0;
    for tensor in file.tensors() {
        assert_eq!(
            file.tensor(tensor.name).expect("by its name").bytes.as_ptr(),
            tensor.bytes.as_ptr()
        );
        size += tensor.bytes.len();
    }
    assert!(size < file.size());
    if let Ok(model) = fuzzing::checkpoint(None, None, vec![("x".into(), file)]) {
        lutmul_fuzz::read(&model);
    }
});
