//! Models in several files: a directory of shards, and an index that says which tensor is in which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::convert::{Conversion, NOTHING, Summary, convert_file};
use super::temporary::{Directory, directory};
use super::tensors::TensorFile;
use crate::error::{Error, Result};
use crate::show::{message, quoted};

/// The name of the index in a directory of shards.
pub const INDEX: &str = "model.safetensors.index.json";

/// What the index says; whatever else is in it is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Index {
    #[serde(default)]
    metadata: Map<String, Value>,
    weight_map: BTreeMap<String, String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A directory of safetensors files with an index, all of them open.
pub struct ShardedModel {
    path: PathBuf,
    index: Index,
    shards: Vec<(String, TensorFile)>,
}

impl ShardedModel {
    /// Opens the index of a directory and the shards that it names.
    ///
    /// # Errors
    /// An index that is missing or not valid, or that names a file outside of the directory; a shard
    /// that [`TensorFile::open`] refuses, or that lacks a tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let at = path.join(INDEX);
        let error = |why: String| Error::file(&at, why);
        let json = fs::read_to_string(&at).map_err(|e| error(e.to_string()))?;
        let index: Index = serde_json::from_str(&json)
            .map_err(|e| error(format!("is no valid index: {}", message(e))))?;
        let names: BTreeSet<_> = index.weight_map.values().collect();
        let mut shards = Vec::new();
        for name in names {
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                let name = quoted(name);
                return Err(error(format!("{name} is not the name of a file in its directory")));
            }
            shards.push((name.clone(), TensorFile::open(path.join(name))?));
        }
        for (tensor, name) in &index.weight_map {
            let shard = shards.binary_search_by_key(&name, |s| &s.0).map(|i| &shards[i].1);
            if shard.is_ok_and(|shard| shard.tensor(tensor).is_none()) {
                let (tensor, name) = (quoted(tensor), quoted(name));
                return Err(error(format!("tensor {tensor} is not in {name}")));
            }
        }
        Ok(Self { path: path.into(), index, shards })
    }

    /// The shards, by name.
    pub fn shards(&self) -> impl Iterator<Item = &TensorFile> {
        self.shards.iter().map(|shard| &shard.1)
    }

    /// Converts every shard, into a new directory with the same files and an index of its own.
    ///
    /// The directory appears under its name when it is whole; after an error there is no trace of it.
    /// See [`convert`](super::convert()) for `progress`.
    ///
    /// # Errors
    /// An output that exists (whatever the conversion says of overwriting) or cannot be written; else
    /// as of [`convert`](super::convert()).
    pub fn convert(
        &self,
        output: &Path,
        conversion: &Conversion<'_>,
        progress: &mut dyn FnMut(&str, usize) -> Result<()>,
    ) -> Result<Summary> {
        let error = |e: io::Error| Error::file(output, e);
        match output.symlink_metadata() {
            Ok(_) => return Err(Error::file(output, "exists already")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (),
            Err(e) => return Err(error(e)),
        }
        let parent = directory(output);
        if !parent.is_dir() {
            let why = format!("there is no directory {}", parent.display());
            return Err(Error::file(output, why));
        }
        let temporary = Directory::beside(output).map_err(error)?;
        let made = temporary.path("out");
        fs::create_dir(&made).map_err(error)?;

        let mut index = self.index.clone();
        index.weight_map.clear();
        let mut tensor_bytes = 0;
        let mut summary =
            Summary { layers: Vec::new(), carried: 0, bytes_before: 0, bytes_after: 0 };
        for (name, shard) in &self.shards {
            let path = made.join(name);
            let done = convert_file(shard, &path, conversion, progress, false)
                .map_err(|e| rename(e, &path, &output.join(name)))?;
            summary.layers.extend(done.layers);
            summary.carried += done.carried;
            summary.bytes_before += done.bytes_before;
            summary.bytes_after += done.bytes_after;
            for tensor in TensorFile::open(&path)?.tensors() {
                tensor_bytes += tensor.bytes.len();
                if index.weight_map.insert(tensor.name.into(), name.clone()).is_some() {
                    let why = format!("two tensors would have the name {}", quoted(tensor.name));
                    return Err(Error::file(output, why));
                }
            }
        }
        if summary.layers.is_empty() {
            return Err(Error::file(&self.path, NOTHING));
        }
        index.metadata.insert("total_size".into(), tensor_bytes.into());
        let json = serde_json::to_vec_pretty(&index).map_err(|e| error(e.into()))?;
        fs::write(made.join(INDEX), json).map_err(error)?;
        fs::rename(made, output).map_err(error)?;
        Ok(summary)
    }
}

/// Errors speak of the file that was asked for, not of the temporary one.
fn rename(error: Error, from: &Path, to: &Path) -> Error {
    match error {
        Error::File { path, why } if Path::new(&path) == from => Error::file(to, why),
        other => other,
    }
}
