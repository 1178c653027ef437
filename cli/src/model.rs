//! A model on disk: one file, or a directory of shards.

use std::path::Path;

use lutmul::checkpoint::{INDEX, ShardedModel, TensorFile};
use lutmul::{Error, Result};

/// The file of a directory whose model is not in shards.
const SINGLE: &str = "model.safetensors";

/// A model whose files are open.
pub enum Model {
    /// A safetensors file.
    File(TensorFile),
    /// A directory with an index.
    Shards(ShardedModel),
}

impl Model {
    /// Opens a file, or all the files of a directory: those that its index names, or else the one that models
    /// without an index have.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Ok(Self::File(TensorFile::open(path)?));
        }
        let is_there = |name: &str| path.join(name).symlink_metadata().is_ok();
        if is_there(INDEX) {
            Ok(Self::Shards(ShardedModel::open(path)?))
        } else if is_there(SINGLE) {
            Ok(Self::File(TensorFile::open(path.join(SINGLE))?))
        } else {
            let why = format!("is a directory with neither {INDEX} nor {SINGLE}: No such file");
            Err(Error::File { path: path.display().to_string(), why })
        }
    }

    /// The files, by name.
    pub fn files(&self) -> Vec<&TensorFile> {
        match self {
            Self::File(file) => vec![file],
            Self::Shards(shards) => shards.shards().collect(),
        }
    }
}
