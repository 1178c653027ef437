//! What fuzzers call: the readers, of bytes in memory. Compiled for them alone.

use std::path::Path;
use std::sync::Arc;

use super::config::Config;
use super::files::Files;
use super::index::Index;
use super::map::FileBytes;
use super::{Checkpoint, GgufFile, TensorFile, gguf, safetensors};
use crate::error::{Error, Result};

fn file(bytes: Vec<u8>) -> Arc<FileBytes> {
    Arc::new(FileBytes::Read(bytes))
}

/// A safetensors file.
pub fn tensors(name: &str, bytes: Vec<u8>) -> Result<TensorFile> {
    TensorFile::parse(name.as_ref(), file(bytes))
}

/// A model of files by name, which an index names if there are several, and a config.json.
pub fn checkpoint(
    config: Option<&str>,
    index: Option<&str>,
    files: Vec<(String, TensorFile)>,
) -> Result<Checkpoint> {
    let path = Path::new("model");
    let index = index.map(|text| {
        let error = |why| Error::file(path, why);
        let (index, names) = Index::parse(text.into()).map_err(error)?;
        if !names.iter().eq(files.iter().map(|(name, _)| name)) {
            return Err(error("names other files".into()));
        }
        index.check(&files).map_err(error)?;
        Ok(index)
    });
    let config = match config {
        Some(text) => Config::parse("config.json".into(), text)?,
        None => Config::default(),
    };
    let files = files.into_iter().map(|(_, file)| file).collect();
    let files = Files::new(files, config, index.transpose()?)?;
    Ok(Checkpoint::new(path, safetensors::list(files)?))
}

/// A GGUF file, as itself and as a model.
pub fn gguf(bytes: Vec<u8>) -> Result<(GgufFile, Checkpoint)> {
    let path = Path::new("model.gguf");
    let found = GgufFile::parse(path, file(bytes)).map_err(|why| Error::file(path, why))?;
    Ok((found.clone(), Checkpoint::new(path, gguf::matrices(found)?)))
}
