//! A model on disk: one file, or a directory of shards.

use std::path::Path;

use lutmul::Result;
use lutmul::checkpoint::{ShardedModel, TensorFile};

/// A model whose files are open.
pub enum Model {
    /// A safetensors file.
    File(TensorFile),
    /// A directory with an index.
    Shards(ShardedModel),
}

impl Model {
    /// Opens a file, or all the files of a directory.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(if path.is_dir() {
            Self::Shards(ShardedModel::open(path)?)
        } else {
            Self::File(TensorFile::open(path)?)
        })
    }

    /// The files, by name.
    pub fn files(&self) -> Vec<&TensorFile> {
        match self {
            Self::File(file) => vec![file],
            Self::Shards(shards) => shards.shards().collect(),
        }
    }
}
