//! Running the program on files made by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value, json};

/// A safetensors file, put together without lutmul's code, so that it can be wrong at will.
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
        self.header.insert(
            name.into(),
            json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }),
        );
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
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

pub fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Weights like those of a layer: bell-shaped, the same in every run.
pub fn weights(count: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 0.05).collect()
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

/// A directory of its own, with files in it.
pub struct Dir(pub tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Everything in it.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), fs::read(&path).unwrap_or_default())).collect()
    }

    /// Runs `lutmul` in it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(Command::new(env!("CARGO_BIN_EXE_lutmul")).args(args))
    }

    pub fn command(&self, command: &mut Command) -> Output {
        command.current_dir(self.0.path()).output().unwrap()
    }

    /// Runs `lutmul`, which must succeed, and returns what it printed.
    pub fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "lutmul {args:?}: {err}");
        assert_eq!(err, "", "lutmul {args:?} says something on stderr");
        out
    }

    /// Runs `lutmul`, which must fail with an error that has all the `words`, print no panic, and
    /// leave every file in the directory as it was and none besides.
    pub fn fail(&self, args: &[&str], words: &[&str]) {
        let before = self.contents();
        let output = self.run(args);
        self.check_failure(&output, &before, &format!("lutmul {args:?}"), words);
    }

    pub fn check_failure(
        &self,
        output: &Output,
        before: &BTreeMap<PathBuf, Vec<u8>>,
        what: &str,
        words: &[&str],
    ) {
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {err}");
        assert_eq!(text(&output.stdout), "", "{what}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{what}: {err}");
        assert!(!err.contains("panic"), "{what}: {err}");
        for word in words {
            assert!(err.contains(word), "{what}: no {word:?} in {err}");
        }
        let after = self.contents();
        let (names, were) = (after.keys(), before.keys());
        assert!(after == *before, "{what}: files are {names:?} and were {were:?}");
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}
