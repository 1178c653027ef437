//! GGUF files, put together without lutmul's code, so that they can be wrong at will.

/// A file of version 3: metadata, tensors, and their data, each at the next multiple of 32.
#[derive(Clone, Default)]
pub struct Gguf {
    metadata: Vec<Vec<u8>>,
    tensors: Vec<(String, Vec<u64>, u32, u64)>,
    data: Vec<u8>,
}

/// Types of tensors.
pub const F32: u32 = 0;
pub const Q4_0: u32 = 2;
pub const Q8_0: u32 = 8;
pub const MXFP4: u32 = 39;

impl Gguf {
    /// One whose rows of q and k are not permuted.
    pub fn new() -> Self {
        Self::default().with_text("general.architecture", "gpt2")
    }

    pub fn with_text(mut self, key: &str, value: &str) -> Self {
        self.metadata.push([&text(key)[..], &8u32.to_le_bytes(), &text(value)].concat());
        self
    }

    pub fn with_number(mut self, key: &str, value: u32) -> Self {
        self.metadata.push([&text(key)[..], &4u32.to_le_bytes(), &value.to_le_bytes()].concat());
        self
    }

    /// Adds a tensor of this shape, row-major, after the others.
    pub fn with(mut self, name: &str, kind: u32, shape: &[u64], data: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        self.data.extend(data);
        self.with_place(name, kind, shape, offset)
    }

    /// Adds a tensor that begins anywhere.
    pub fn with_place(mut self, name: &str, kind: u32, shape: &[u64], offset: u64) -> Self {
        self.tensors.push((name.into(), shape.iter().rev().copied().collect(), kind, offset));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        bytes.extend(self.metadata.concat());
        for (name, dimensions, kind, offset) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((dimensions.len() as u32).to_le_bytes());
            bytes.extend(dimensions.iter().flat_map(|d| d.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
