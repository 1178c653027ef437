//! Safetensors files and model folders, put together without lutmul's code, so that they can be wrong at will.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// A safetensors file.
#[derive(Clone, Default)]
pub struct File {
    pub header: Map<String, Value>,
    pub data: Vec<u8>,
}

impl File {
    /// Adds a tensor after the others.
    pub fn with(mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) -> Self {
        let start = self.data.len();
        self.data.extend(bytes);
        let offsets = [start, self.data.len()];
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        self.header.insert(name.into(), entry);
        self
    }

    /// Adds a tensor of f32.
    pub fn with_f32(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.with(name, "F32", shape, &le_bytes(values))
    }

    /// Adds an entry to the file's metadata.
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.header.entry("__metadata__").or_insert(json!({}))[key] = value.into();
        self
    }

    /// The file's bytes, with a header as long as it comes: data is at any alignment.
    pub fn bytes(&self) -> Vec<u8> {
        raw(&serde_json::to_string(&self.header).unwrap(), &self.data)
    }
}

/// A file of any header and data.
pub fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A small model: two linears and what else models have.
pub fn model() -> File {
    File::default()
        .with_metadata("format", "pt")
        .with("ids", "I64", &[1, 3], &[7; 24])
        .with_f32("embeddings.word.weight", &[5, 3], &weights(15))
        .with_f32("layer.0.dense.weight", &[12, 70], &weights(840))
        .with_f32("layer.0.dense.bias", &[12], &weights(12))
        .with_f32("layer.0.norm.weight", &[12], &[1.0; 12])
        .with_f32("layer.1.dense.weight", &[64, 128], &weights(8192))
}

/// A folder of a model, which goes when this does.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// With nothing in it.
    pub fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One of a single file, whose config.json says this of its quantisation (null: there is none).
    pub fn of(file: &File, quantisation: Value) -> Self {
        let folder = Self::empty();
        folder.put("model.safetensors", &file.bytes());
        if !quantisation.is_null() {
            let config = json!({ "model_type": "llama", "quantization_config": quantisation });
            folder.put("config.json", config.to_string().as_bytes());
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.at(name), bytes).unwrap();
        self.at(name)
    }

    /// Writes an index: which tensor is in which file.
    pub fn index<'a>(&self, map: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let map: Map<_, _> = map.into_iter().map(|(t, f)| (t.to_owned(), f.into())).collect();
        let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        self.put("model.safetensors.index.json", index.to_string().as_bytes());
    }
}

/// Numbers that look random, the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.draw() as u8).collect()
    }

    /// Around 1, either sign.
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.draw() as f32 / (1u32 << 30) as f32 - 1.0).collect()
    }
}

pub fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Weights like those of a layer: bell-shaped, the same in every run.
pub fn weights(count: usize) -> Vec<f32> {
    let mut numbers = Numbers(0x9E37_79B9);
    (0..count).map(|_| numbers.floats(4).iter().sum::<f32>() * 0.025).collect()
}
