//! A model on disk as matrices of weights, whoever wrote it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::safetensors::tensor::Dtype;

use super::gguf;
use super::matrix::{Access, Matrix};
use super::safetensors;
use super::scale::within;
use super::source::{Listing, Source, TensorId, TensorInfo};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::scales::Granularity;
use crate::show::quoted;
use crate::weights::Weights;

/// A model on disk: which matrices of weights it has, in which format, and what else there is.
///
/// Opening reads headers and config.json, and touches no weights. [`Checkpoint::weights`] shares the memory map:
/// codes stay in the file, scales are copied.
///
/// No other program may shorten or rewrite the files while they are mapped (to replace one under its name is
/// fine): what is read beyond the new end kills the process with SIGBUS on Unix. [`Checkpoint::load`] reads by
/// ordinary calls instead and gives an error.
#[derive(Clone)]
pub struct Checkpoint {
    path: PathBuf,
    linears: Arc<[Linear]>,
    source: Arc<dyn Source>,
}

/// A matrix of weights of a [`Checkpoint`]: what it is, without reading it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Linear {
    /// Its name: that of the tensor without `.weight`; of a matrix in a tensor of several, with `.0`, `.1`, … after it.
    pub name: String,
    /// The tensor that holds its codes or floats; in lutmul's own files the tensor that it was made from.
    pub tensor: String,
    /// Which matrix of how many, in a tensor of three dimensions (fused experts).
    pub part: Option<(usize, usize)>,
    /// Out features and in features: rows and columns.
    pub shape: (usize, usize),
    /// The type of the elements on disk, as its format calls them: `F8_E4M3`, `BF16`, `Q8_0`; in lutmul's own files
    /// that of the tensor it was made from.
    pub dtype: &'static str,
    /// How it is coded; `None` for floats, which are to be encoded before they can be multiplied with.
    pub coding: Option<Coding>,
    /// Bytes on disk: codes, signs, table and scales.
    pub bytes: usize,
    /// The number of the file that it is in, of [`Checkpoint::files`].
    pub file: usize,
    /// Whether config.json says that this module is not to be quantised.
    pub skipped: bool,
    /// Whether it is a layer of a lutmul file.
    pub(super) own: bool,
    /// Its number among [`Checkpoint::linears`].
    pub(super) number: usize,
}

/// How a [`Linear`] is coded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Coding {
    /// The format of the codes.
    pub format: Format,
    /// What each scale covers.
    pub granularity: Granularity,
    /// Whether it has a sign plane.
    pub signs: bool,
}

/// A tensor of a [`Checkpoint`] that belongs to no [`Linear`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Other<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape; none for a scalar.
    pub shape: &'a [usize],
    /// Its bytes on disk.
    pub bytes: usize,
    /// The number of the file that it is in, of [`Checkpoint::files`].
    pub file: usize,
    /// Why it is no linear's.
    pub reason: Reason,
    id: TensorId,
}

/// Why a tensor belongs to no linear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It has not two dimensions (three, if it is of experts).
    Dimensions,
    /// Its elements are not of a type that weights have.
    Dtype,
    /// By its name it is an embedding, a position table or a norm: looked up, or multiplied elementwise.
    Lookup,
    /// Its name does not end in `.weight`.
    Name,
    /// A static scale of activations: lutmul finds scales of x itself.
    ActivationScale,
}

/// A file of a [`Checkpoint`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub size: usize,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dimensions => "not two dimensions",
            Self::Dtype => "not of a type that weights have",
            Self::Lookup => "an embedding or a norm, by its name",
            Self::Name => "not called .weight",
            Self::ActivationScale => "a static scale of activations: ignored",
        })
    }
}

impl Checkpoint {
    /// Opens a safetensors or GGUF file, or the folder of a Hugging Face model: `model.safetensors`, or shards with
    /// their index. The size of blocks, and which modules are not quantised, is read from the config.json beside them.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File), naming file and tensor: whatever cannot be read or is not sound; layouts
    /// that are not known; zero points of rows or groups, and orders of columns, which cannot be multiplied with.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let listing = if gguf::is_gguf(path) { gguf::open(path) } else { safetensors::open(path) };
        Ok(Self::new(path, listing?))
    }

    /// What opening gave.
    pub(super) fn new(path: &Path, listing: Listing) -> Self {
        let Listing { source, mut linears } = listing;
        linears.iter_mut().enumerate().for_each(|(i, linear)| linear.number = i);
        let (source, linears) = (source.into(), linears.into());
        Self { path: path.into(), linears, source }
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that weights are in, in the order of their names.
    pub fn files(&self) -> &[SourceFile] {
        self.source.files()
    }

    /// The matrices, in the order of their names.
    pub fn linears(&self) -> &[Linear] {
        &self.linears
    }

    /// The matrix of a name, which may be that of its tensor.
    pub fn linear(&self, name: &str) -> Option<&Linear> {
        let find = |name: &str| {
            let found = self.linears.binary_search_by(|linear| linear.name.as_str().cmp(name));
            found.ok().map(|i| &self.linears[i])
        };
        let of_tensor = || find(name.strip_suffix(".weight")?).filter(|l| l.tensor == name);
        find(name).or_else(of_tensor)
    }

    /// The tensors that belong to no matrix, and why.
    pub fn others(&self) -> impl ExactSizeIterator<Item = Other<'_>> {
        self.source.others().iter().map(|(id, reason)| {
            let TensorInfo { name, dtype, shape, bytes } = self.source.tensor(*id);
            Other { name, dtype, shape, bytes, file: id.file as usize, reason: *reason, id: *id }
        })
    }

    /// The bytes of such a tensor of this checkpoint, where they are mapped.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a tensor of another checkpoint.
    pub fn bytes(&self, other: &Other<'_>) -> Result<Bytes<'static>> {
        let mine = self.source.others().binary_search_by_key(&other.id, |(id, _)| *id);
        if mine.is_err() || self.source.tensor(other.id).name != other.name {
            return Err(foreign(other.name));
        }
        self.source.read(other.id, 0..other.bytes, Access::Map)
    }

    /// The metadata of a file, by its number in [`Checkpoint::files`], if it is one that has any.
    pub fn metadata(&self, file: usize) -> Option<&BTreeMap<String, String>> {
        self.source.origin().metadata.get(file).copied()
    }

    /// The weights of a coded matrix of this checkpoint: codes and signs stay where they are mapped.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File): a matrix of floats; a scale that is NaN or infinite.
    pub fn weights(&self, linear: &Linear) -> Result<Weights<'static>> {
        match self.matrix(linear)? {
            Matrix::Coded(weights) => Ok(weights),
            Matrix::Floats(_) => {
                let why = format!("is {}: encode it before it is multiplied with", linear.dtype);
                Err(self.error(linear, why))
            }
        }
    }

    /// Any matrix of this checkpoint, coded or floats, where it is mapped.
    ///
    /// # Errors
    /// As of [`Checkpoint::weights`], but floats are fine.
    pub fn matrix(&self, linear: &Linear) -> Result<Matrix> {
        self.read(linear, Access::Map)
    }

    /// Any matrix of this checkpoint, in memory of its own ([`Buffer`](crate::Buffer)).
    ///
    /// # Errors
    /// As of [`Checkpoint::matrix`], and a file that is shorter than it was.
    pub fn load(&self, linear: &Linear) -> Result<Matrix> {
        self.read(linear, Access::Copy)
    }

    fn read(&self, linear: &Linear, access: Access) -> Result<Matrix> {
        let known = self.linears.get(linear.number).is_some_and(|mine| mine.name == linear.name);
        if !known {
            return Err(foreign(&linear.name));
        }
        Ok(match self.source.matrix(linear.number, access)? {
            Matrix::Coded(weights) => Matrix::Coded(weights.with_name(&linear.name)),
            floats @ Matrix::Floats(_) => floats,
        })
    }

    /// Looks at all codes and scales, and at all floats: is any of them NaN or infinite? An error for each matrix
    /// of which that is so; none, and the checkpoint is sound.
    ///
    /// Each is an [`Error::File`](crate::Error::File) that names file, tensor, row and column of the first such weight
    /// or scale. `progress` is told of every matrix done; what it returns as an error ends the search, and is the last.
    pub fn validate(&self, progress: &mut dyn FnMut(&Linear) -> Result<()>) -> Vec<Error> {
        let mut errors = Vec::new();
        for linear in self.linears.iter() {
            errors.extend(self.check(linear).err());
            if let Err(error) = progress(linear) {
                errors.push(error);
                break;
            }
        }
        errors
    }

    fn check(&self, linear: &Linear) -> Result<()> {
        let found = match self.matrix(linear)? {
            Matrix::Coded(weights) => weights.prepare(),
            Matrix::Floats(floats) => floats.check(),
        };
        found.map_err(|e| self.error(linear, within(e)))
    }

    /// Reads all files now, and has their pages ready: otherwise the first product with a matrix waits for the disk,
    /// and for the system every few pages even if the file is in memory already.
    ///
    /// Worth it for models whose matrices are all used, more than once. The system may still take pages back when
    /// memory is short.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File): a file cannot be read.
    pub fn prefault(&self) -> Result<()> {
        self.source.prefault()
    }

    /// What is behind it.
    pub(super) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// An error that names a matrix by its tensor, and its file.
    pub(super) fn error(&self, linear: &Linear, why: impl fmt::Display) -> Error {
        let path = self.files().get(linear.file).map_or(&*self.path, |file| &file.path);
        let part = linear.part.map_or(String::new(), |(i, _)| format!(" (matrix {i})"));
        Error::file(path, format!("tensor {}{part}: {why}", quoted(&linear.tensor)))
    }
}

/// The error of something that is not this checkpoint's.
fn foreign(name: &str) -> Error {
    Error::invalid("checkpoint", format!("{} is another checkpoint's", quoted(name)))
}
