//! Reading safetensors files, whoever wrote them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::Dtype;

use super::header::Header;
use super::map::{self, FileBytes};
use super::matrix::{Access, floats};
use crate::bytes::Bytes;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::show::quoted;
use half::{bf16, f16};

/// A safetensors file, memory-mapped: its header is checked, its tensors are read where they stand.
///
/// Cheap to clone: clones share header and map.
#[derive(Clone)]
pub struct TensorFile {
    path: PathBuf,
    bytes: Arc<FileBytes>,
    data: usize,
    header: Arc<Header>,
}

/// A tensor of a [`TensorFile`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape; none for a scalar.
    pub shape: &'a [usize],
    /// Its bytes as in the file: little-endian, row-major, at any alignment.
    pub bytes: &'a [u8],
}

impl TensorFile {
    /// Opens a file and checks its header: every tensor's bytes are within the file, as many as its
    /// shape asks for, and its own alone.
    ///
    /// The file is mapped where the system can. No other program may shorten or rewrite it meanwhile
    /// (replacing it under its name is fine): on Unix, reading what is not there any more ends the process
    /// with SIGBUS.
    ///
    /// # Errors
    /// [`Error::File`]: a file that cannot be read, or that is no sound safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, map::map(path)?)
    }

    /// The same of bytes that are there.
    pub(super) fn parse(path: &Path, bytes: Arc<FileBytes>) -> Result<Self> {
        let (header, data) =
            Header::parse((*bytes).as_ref()).map_err(|why| Error::file(path, why))?;
        Ok(Self { path: path.into(), bytes, data, header: Arc::new(header) })
    }

    /// Reads the whole file now, and has its pages ready: otherwise the first product with a layer waits for
    /// the disk, and for the system every few pages even if the file is in memory already.
    ///
    /// Worth it for files whose layers are all used, more than once; opening alone reads no more than the
    /// header. The system may still take pages back when memory is short. Where a file could not be mapped,
    /// it has been read by [`TensorFile::open`], and nothing is left to do.
    ///
    /// # Errors
    /// [`Error::File`]: the file cannot be read.
    pub fn prefault(&self) -> Result<()> {
        self.bytes.prefault().map_err(|e| Error::file(&self.path, e))
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    /// The file's own key-value metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The tensors, as they follow each other in the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        (0..self.header.len()).map(|i| self.view(i))
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.header.find(name).map(|i| self.view(i))
    }

    /// How many tensors there are.
    pub(super) fn len(&self) -> usize {
        self.header.len()
    }

    /// The number of the tensor of a name, in the order of [`TensorFile::tensors`].
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.header.find(name)
    }

    /// The tensor of a number.
    pub(super) fn view(&self, i: usize) -> Tensor<'_> {
        let (name, dtype, shape) =
            (self.header.name(i), self.header.dtype(i), self.header.shape(i));
        let bytes = &(*self.bytes).as_ref()[self.data..][self.header.range(i)];
        Tensor { name, dtype, shape, bytes }
    }

    /// Some of the bytes of a tensor, which it has: sharing the map, or in memory of their own.
    pub(super) fn part(
        &self,
        i: usize,
        part: Range<usize>,
        access: Access,
    ) -> Result<Bytes<'static>> {
        let start = self.data + self.header.range(i).start;
        let range = start + part.start..start + part.end;
        let error = |e: std::io::Error| {
            let name = quoted(self.header.name(i));
            Error::file(&self.path, format!("reading tensor {name}: {e}"))
        };
        self.bytes.part(range, access).map_err(error)
    }
}

impl<'a> Tensor<'a> {
    /// Its elements, if they are of type `T`; copied only where they aren't aligned for it.
    pub fn values<T: Element>(&self) -> Option<Cow<'a, [T]>> {
        if !self.dtype.to_string().eq_ignore_ascii_case(T::NAME) {
            return None;
        }
        Some(floats(self.bytes))
    }

    /// Its elements as f32, if they are F32, F16 or BF16.
    pub fn to_f32(&self) -> Option<Cow<'a, [f32]>> {
        fn widen<T: Element>(from: &[T]) -> Cow<'static, [f32]> {
            let mut to = vec![0.0; from.len()];
            T::widen(from, &mut to);
            Cow::Owned(to)
        }
        match self.dtype {
            Dtype::F32 => self.values::<f32>(),
            Dtype::F16 => self.values::<f16>().map(|v| widen(&v)),
            Dtype::BF16 => self.values::<bf16>().map(|v| widen(&v)),
            _ => None,
        }
    }
}
