//! The safetensors files of a model: one, or those that an index names.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use hashbrown::HashTable;

use super::config::Config;
use super::index::{INDEX, Index};
use super::model::SourceFile;
use super::source::TensorId;
use super::tensors::{Tensor, TensorFile};
use crate::error::{Error, Result};
use crate::show::quoted;

/// The file of a folder whose model is not in shards.
pub(super) const SINGLE: &str = "model.safetensors";

/// How the names of safetensors files end.
const EXTENSION: &str = ".safetensors";

/// The files of a model, open, and what config.json says of them.
pub(super) struct Files {
    files: Vec<TensorFile>,
    infos: Vec<SourceFile>,
    pub config: Config,
    pub index: Option<Index>,
    /// All tensors by name, where there are several files.
    names: HashTable<TensorId>,
    hasher: RandomState,
}

impl Files {
    /// Opens a file, or those of a folder.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let file = TensorFile::open(path)?;
            return Self::new(vec![file], Config::beside(directory(path))?, None);
        }
        let config = Config::beside(path)?;
        let there = safetensors_in(path).map_err(|e| Error::file(path, e))?;
        if path.join(INDEX).symlink_metadata().is_ok() {
            return Self::shards(path, &there, config);
        }
        match &there[..] {
            [file] => Self::new(vec![TensorFile::open(path.join(file))?], config, None),
            [] => {
                let why = format!("is a directory with neither {INDEX} nor {SINGLE}: No such file");
                Err(Error::file(path, why))
            }
            [first, second, ..] => {
                let why = format!(
                    "there is no {INDEX} that says how {} and {} belong together; open one of them",
                    quoted(first),
                    quoted(second)
                );
                Err(Error::file(path, why))
            }
        }
    }

    /// Opens the shards that the index of a folder names.
    fn shards(folder: &Path, there: &[String], config: Config) -> Result<Self> {
        let at = folder.join(INDEX);
        let error = |why: String| Error::file(&at, why);
        let text = fs::read_to_string(&at).map_err(|e| error(e.to_string()))?;
        let (index, names) = Index::parse(text).map_err(error)?;
        if let Some(stray) = there.iter().find(|file| !names.contains(*file)) {
            let why = format!("names no tensor of {}, which is beside it", quoted(stray));
            return Err(error(why));
        }
        let open = |name: String| {
            let file = TensorFile::open(folder.join(&name))?;
            Ok((name, file))
        };
        let shards = names.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        index.check(&shards).map_err(error)?;
        Self::new(shards.into_iter().map(|shard| shard.1).collect(), config, Some(index))
    }

    /// Files that are open.
    pub(super) fn new(
        files: Vec<TensorFile>,
        config: Config,
        index: Option<Index>,
    ) -> Result<Self> {
        let infos = files
            .iter()
            .map(|file| SourceFile { path: file.path().into(), size: file.size() })
            .collect();
        let (names, hasher) = (HashTable::new(), RandomState::new());
        let mut all = Self { files, infos, config, index, names, hasher };
        if all.files.len() > 1 {
            all.find_names()?;
        }
        Ok(all)
    }

    fn find_names(&mut self) -> Result<()> {
        let mut names = HashTable::with_capacity(self.files.iter().map(TensorFile::len).sum());
        for id in self.ids() {
            let name = self.tensor(id).name;
            let hash = self.hasher.hash_one(name);
            let other: Option<&TensorId> = names.find(hash, |id| self.tensor(*id).name == name);
            if let Some(other) = other {
                let (name, other) = (quoted(name), self.file(*other).path().display());
                let why = format!("tensor {name} is in {other} too");
                return Err(Error::file(self.file(id).path(), why));
            }
            names.insert_unique(hash, id, |_| hash);
        }
        self.names = names;
        Ok(())
    }

    /// The files, by name.
    pub fn files(&self) -> &[TensorFile] {
        &self.files
    }

    /// The same, as a checkpoint tells of them.
    pub fn infos(&self) -> &[SourceFile] {
        &self.infos
    }

    /// The file of a tensor.
    pub fn file(&self, id: TensorId) -> &TensorFile {
        &self.files[id.file as usize]
    }

    /// A tensor.
    pub fn tensor(&self, id: TensorId) -> Tensor<'_> {
        self.file(id).view(id.tensor as usize)
    }

    /// The tensor of a name, in whichever file.
    pub fn find(&self, name: &str) -> Option<TensorId> {
        match &self.files[..] {
            [file] => file.find(name).map(|i| TensorId { file: 0, tensor: i as u32 }),
            _ => {
                let hash = self.hasher.hash_one(name);
                self.names.find(hash, |id| self.tensor(*id).name == name).copied()
            }
        }
    }

    /// All tensors, file by file.
    pub fn ids(&self) -> impl Iterator<Item = TensorId> + use<> {
        let lengths: Vec<usize> = self.files.iter().map(TensorFile::len).collect();
        lengths.into_iter().enumerate().flat_map(|(file, length)| {
            (0..length as u32).map(move |tensor| TensorId { file: file as u32, tensor })
        })
    }

    /// An error that names a tensor and its file.
    pub fn error(&self, id: TensorId, why: impl std::fmt::Display) -> Error {
        let name = quoted(self.tensor(id).name);
        Error::file(self.file(id).path(), format!("tensor {name}: {why}"))
    }
}

/// The names of the safetensors files in a folder, sorted; links to files are files.
///
/// `consolidated*.safetensors` are left out: Mistral's own copies of a model's weights, beside those that an index
/// names.
fn safetensors_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let copy = name.starts_with("consolidated");
        if name.ends_with(EXTENSION) && !name.starts_with('.') && !copy && !entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The folder that something is in.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
