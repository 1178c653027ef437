//! GGUF, llama.cpp's files: its tensors as lutmul's weights, or as f32.
//!
//! The crate gguf-rs-lib reads the container (header, metadata, places of tensors), within bounds of its own on what a
//! hostile file can make it allocate. What blocks mean is [`blocks`], in which order rows are is [`rows`].

mod blocks;
mod metadata;
mod rows;
mod source;

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gguf_rs_lib::format::metadata::Metadata;
use gguf_rs_lib::reader::file_reader::{GGUFFileReader, GGUFReaderConfig};
use gguf_rs_lib::tensor::TensorType;

pub use self::source::is_gguf;
#[cfg(fuzzing)]
pub(super) use self::source::matrices;
pub(super) use self::source::open;

use self::blocks::{Decode, Encoding};
use self::metadata::{list, number, text};
use self::rows::{Heads, Rows};
use super::Dtype;
use super::map::{self, FileBytes};
use super::matrix::{Access, Floats, Matrix, scales, weights};
use crate::bands;
use crate::buffer::Buffer;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::lut::Lut;
use crate::scales::Granularity;
use crate::show::{self, message, quoted};
use crate::weights::Weights;

/// What a GGUF file begins with.
const MAGIC: [u8; 4] = *b"GGUF";

/// A GGUF file, memory-mapped: its metadata, and its tensors as weights.
#[derive(Clone)]
pub struct GgufFile {
    path: PathBuf,
    bytes: Arc<FileBytes>,
    metadata: Arc<Metadata>,
    tensors: Vec<Entry>,
    index: HashMap<String, usize>,
}

/// A tensor's place in a file.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    encoding: &'static Encoding,
    /// Row-major, as everywhere but in GGUF, where the columns come first.
    shape: Vec<usize>,
    range: Range<usize>,
    rows: Rows,
}

/// A tensor of a [`GgufFile`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct GgufTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// The type of its elements, as ggml calls it.
    pub dtype: &'static str,
    /// Its shape, row-major: the last is the number of columns.
    pub shape: &'a [usize],
    /// Its bytes as in the file: rows of blocks.
    pub bytes: &'a [u8],
}

impl GgufFile {
    /// Opens a file of version 3 and checks that every tensor's bytes are within it, and its own alone.
    ///
    /// No weights are read. The file is mapped where the system can; no other program may shorten or rewrite it
    /// meanwhile (replacing it under its name is fine).
    ///
    /// # Errors
    /// [`Error::File`]: a file that cannot be read, is no sound GGUF file, or has a tensor of a type that is not read
    /// (of ggml's, all but F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and Q2_K to Q6_K).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, map::map(path)?).map_err(|why| Error::file(path, why))
    }

    pub(super) fn parse(path: &Path, bytes: Arc<FileBytes>) -> Result<Self, String> {
        let file = (*bytes).as_ref();
        if !file.starts_with(&MAGIC) {
            return Err("not a GGUF file: it does not begin with \"GGUF\"".into());
        }
        let config = GGUFReaderConfig { validate_integrity: false, ..GGUFReaderConfig::default() };
        let reader = GGUFFileReader::with_config(Cursor::new(file), config)
            .map_err(|e| format!("not a sound GGUF file: {}", message(e)))?;
        if let Some(count @ 2..) =
            reader.metadata().get("split.count").and_then(number).map(|n| n as u64)
        {
            return Err(format!(
                "is one of {count} files of a model: llama-gguf-split --merge makes one of them"
            ));
        }
        let heads = Heads::new(reader.metadata());
        let mut tensors = Vec::new();
        for info in reader.tensor_infos() {
            let place = (reader.tensor_data_offset(), info.data_offset());
            let dimensions = info.shape().dims().iter().rev();
            let entry = Entry::new(info.name(), info.tensor_type(), dimensions, place, file.len())
                .and_then(|mut entry| {
                    entry.rows = heads.rows(&entry)?;
                    Ok(entry)
                });
            tensors.push(entry.map_err(|why| format!("tensor {}: {why}", quoted(info.name())))?);
        }
        tensors.sort_by_key(|t| (t.range.start, t.range.end));
        for (one, next) in tensors.iter().zip(tensors.iter().skip(1)) {
            if next.range.start < one.range.end {
                let (next, one) = (quoted(&next.name), quoted(&one.name));
                return Err(format!("tensor {next} overlaps {one}"));
            }
        }
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        let metadata = Arc::new(reader.metadata().clone());
        Ok(Self { path: path.into(), bytes, metadata, tensors, index })
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    /// Reads the whole file now: see [`TensorFile::prefault`](super::TensorFile::prefault).
    ///
    /// # Errors
    /// [`Error::File`]: the file cannot be read.
    pub fn prefault(&self) -> Result<()> {
        self.bytes.prefault().map_err(|e| Error::file(&self.path, e))
    }

    /// A text of the metadata: `general.architecture`, say.
    pub fn text(&self, key: &str) -> Option<&str> {
        text(self.metadata.get(key)?)
    }

    /// A number of the metadata, or a boolean as 0 or 1; integers beyond 2⁵³ are rounded.
    pub fn number(&self, key: &str) -> Option<f64> {
        number(self.metadata.get(key)?)
    }

    /// A list of texts of the metadata: `tokenizer.ggml.tokens`, say.
    pub fn texts(&self, key: &str) -> Option<Vec<&str>> {
        list(self.metadata.get(key)?)?.map(text).collect()
    }

    /// A list of numbers of the metadata; see [`GgufFile::number`].
    pub fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        list(self.metadata.get(key)?)?.map(number).collect()
    }

    /// The tensors, as they follow each other in the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = GgufTensor<'_>> {
        self.tensors.iter().map(|entry| self.view(entry))
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<GgufTensor<'_>> {
        self.index.get(name).map(|i| self.view(&self.tensors[*i]))
    }

    /// A tensor as f32, row-major, with the rows of q and k in the original's order.
    ///
    /// # Errors
    /// [`Error::File`]: there is no such tensor. [`Error::Memory`].
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name)?;
        let size = entry.shape.iter().product();
        let mut values = zeros("weights", size)?;
        let Matrices { count, n, k } = entry.matrices();
        for part in 0..count {
            let bytes = self.part(entry, part..part + 1, Access::Map)?;
            decode(entry, &bytes, &mut values[part * n * k..][..n * k]);
        }
        Ok(values)
    }

    /// A matrix of Q8_0, or one of those that a tensor of three dimensions has, as weights: its blocks are taken apart,
    /// into codes of int8 and scales, one for every 32 of a row, in memory of its own. Exact.
    ///
    /// # Errors
    /// [`Error::File`]: there is no such matrix, or it is of another type; a scale that is NaN or infinite.
    /// [`Error::Memory`].
    pub fn weights(&self, name: &str, part: usize) -> Result<Weights<'static>> {
        let entry = self.entry(name)?;
        if part < entry.matrices().count
            && let Matrix::Coded(weights) = self.matrix(entry, part, Access::Map)?
        {
            return Ok(weights.with_name(name));
        }
        let (dtype, shape) = (entry.encoding.name, show::shape(&entry.shape));
        let why = format!("has no matrix {part} in Q8_0: it is {dtype} of shape {shape}");
        Err(self.error(name, why))
    }

    /// A matrix of a tensor: weights of Q8_0, floats of anything else.
    fn matrix(&self, entry: &Entry, part: usize, access: Access) -> Result<Matrix> {
        let Matrices { n, k, .. } = entry.matrices();
        if !matches!(entry.encoding.decode, Decode::Int8) {
            let (dtype, bytes) = self.floats(entry, part..part + 1, access)?;
            return Ok(Matrix::Floats(Floats::new((n, k), dtype, bytes)?));
        }
        let bytes = self.part(entry, part..part + 1, access)?;
        let mut codes = Buffer::try_zeroed(n * k).ok_or(no_memory("codes", n * k))?;
        let mut values = zeros("scales", n * k / GROUP)?;
        if n * k > 0 {
            let band = bands::band_rows(k);
            let parts = codes.chunks_mut(band * k).zip(values.chunks_mut(band * k / GROUP));
            bands::map(
                parts.enumerate().collect(),
                |(i, (codes, scales)): (usize, (&mut [u8], &mut [f32]))| {
                    let rows = codes.chunks_mut(k).zip(scales.chunks_mut(k / GROUP));
                    for (j, (codes, scales)) in rows.enumerate() {
                        blocks::split_int8(entry.row(&bytes, i * band + j), codes, scales);
                    }
                },
            );
        }
        let scales = scales(Granularity::Group(GROUP), (n, k), values);
        let weights =
            scales.and_then(|scales| weights((n, k), codes.into(), Lut::int8(), None, scales));
        Ok(Matrix::Coded(weights.map_err(|e| self.error(&entry.name, e))?))
    }

    /// Matrices of a tensor as floats, little-endian: as they are if they are floats, else in F32.
    fn floats(
        &self,
        entry: &Entry,
        parts: Range<usize>,
        access: Access,
    ) -> Result<(Dtype, Bytes<'static>)> {
        let Matrices { n, k, .. } = entry.matrices();
        let bytes = self.part(entry, parts.clone(), access)?;
        match (entry.encoding.decode, entry.rows) {
            (Decode::Floats(dtype), Rows::Same) => Ok((dtype, bytes)),
            (Decode::Floats(dtype), Rows::Heads(_)) => {
                let size = entry.encoding.row_bytes(k);
                let mut sorted =
                    Buffer::try_zeroed(bytes.len()).ok_or(no_memory("weights", bytes.len()))?;
                let rows = sorted.chunks_mut(size.max(1)).enumerate();
                rows.for_each(|(i, to)| to.copy_from_slice(entry.row(&bytes, i)));
                Ok((dtype, sorted.into()))
            }
            _ => {
                let size = parts.len() * n * k * size_of::<f32>();
                let mut values = Buffer::try_zeroed(size).ok_or(no_memory("weights", size))?;
                decode(entry, &bytes, bytemuck::cast_slice_mut(&mut values));
                if cfg!(target_endian = "big") {
                    values.as_chunks_mut::<4>().0.iter_mut().for_each(|v| v.reverse());
                }
                Ok((Dtype::F32, values.into()))
            }
        }
    }

    /// The bytes of some matrices of a tensor.
    fn part(&self, entry: &Entry, parts: Range<usize>, access: Access) -> Result<Bytes<'static>> {
        let Matrices { n, k, .. } = entry.matrices();
        let (size, start) = (n * entry.encoding.row_bytes(k), entry.range.start);
        let range = start + parts.start * size..start + parts.end * size;
        self.bytes.part(range, access).map_err(|e| self.error(&entry.name, e))
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let entry = self.index.get(name).map(|i| &self.tensors[*i]);
        entry.ok_or_else(|| self.error(name, "is missing"))
    }

    /// An error that names a tensor.
    fn error(&self, tensor: &str, why: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("tensor {}: {why}", quoted(tensor)))
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> GgufTensor<'a> {
        let Entry { name, encoding, shape, range, .. } = entry;
        let bytes = &(*self.bytes).as_ref()[range.clone()];
        GgufTensor { name, dtype: encoding.name, shape, bytes }
    }
}

/// Columns that have a scale of Q8_0.
const GROUP: usize = 32;

/// A tensor as matrices: experts are fused into one of three dimensions.
struct Matrices {
    count: usize,
    n: usize,
    k: usize,
}

/// Decodes matrices of a tensor, of which these are the bytes.
fn decode(entry: &Entry, bytes: &[u8], to: &mut [f32]) {
    let k = entry.matrices().k;
    if to.is_empty() {
        return;
    }
    let band = bands::band_rows(k);
    bands::map(to.chunks_mut(band * k).enumerate().collect(), |(i, to): (usize, &mut [f32])| {
        for (j, to) in to.chunks_mut(k).enumerate() {
            entry.encoding.decode_row(entry.row(bytes, i * band + j), to);
        }
    });
}

fn no_memory(what: &'static str, bytes: usize) -> Error {
    Error::Memory { what, bytes }
}

fn zeros(what: &'static str, count: usize) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| no_memory(what, count * size_of::<f32>()))?;
    values.resize(count, 0.0);
    Ok(values)
}

impl Entry {
    fn new<'a>(
        name: &str,
        kind: TensorType,
        shape: impl Iterator<Item = &'a u64>,
        (data, offset): (u64, u64),
        size: usize,
    ) -> Result<Self, String> {
        let encoding = Encoding::of(kind).ok_or_else(|| {
            format!("is {}, which is not read; {} are", kind.name(), Encoding::names())
        })?;
        let shape: Option<Vec<usize>> = shape.map(|d| usize::try_from(*d).ok()).collect();
        let bytes = shape.as_ref().and_then(|shape| {
            // As many f32 must be a size, too, and so must what is left of a shape without its zeros.
            let size = |size: usize, d: &usize| size.checked_mul((*d).max(1));
            let most = shape.iter().try_fold(size_of::<f32>(), size)?;
            let (weights, bytes) = encoding.block;
            let elements: usize = shape.iter().product();
            let blocks = shape.last()?.is_multiple_of(weights) && most <= isize::MAX as usize;
            blocks.then_some(elements / weights * bytes)
        });
        let (Some(shape), Some(bytes)) = (shape, bytes) else {
            return Err(format!("is {} of a shape that has no size in bytes", encoding.name));
        };
        let start = data.checked_add(offset).and_then(|start| usize::try_from(start).ok());
        let range = start.and_then(|start| Some(start..start.checked_add(bytes)?));
        let range = range.filter(|range| range.end <= size).ok_or_else(|| {
            let shape = show::shape(&shape);
            format!(
                "is out of range: {} of shape {shape} has {bytes} bytes from {offset} of the data on, but the \
                 file ends before that (is it truncated?)",
                encoding.name
            )
        })?;
        Ok(Self { name: name.into(), encoding, shape, range, rows: Rows::Same })
    }

    /// A row, in the original's order, of the bytes of matrices.
    fn row<'a>(&self, bytes: &'a [u8], row: usize) -> &'a [u8] {
        let size = self.encoding.row_bytes(self.matrices().k);
        &bytes[self.rows.source(row) * size..][..size]
    }

    fn matrices(&self) -> Matrices {
        match (&*self.shape, self.rows) {
            // A bias of permuted rows.
            (&[n], Rows::Heads(_)) => Matrices { count: 1, n, k: 1 },
            (&[.., n, k], _) => {
                let count = self.shape[..self.shape.len() - 2].iter().product();
                Matrices { count, n, k }
            }
            (shape, _) => Matrices { count: 1, n: 1, k: shape.iter().product() },
        }
    }
}
