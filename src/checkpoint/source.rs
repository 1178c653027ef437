//! What a [`Checkpoint`](super::Checkpoint) reads from: a container of tensors.
//!
//! `safetensors.rs` is one, a GGUF file may be another. A container finds its matrices when it is opened, as a
//! [`Listing`], and reads them when asked. What of a safetensors file is a matrix, `layouts` know.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::Dtype;

use super::index::Index;
use super::matrix::{Access, Matrix};
use super::model::{Linear, Reason, SourceFile};
use crate::bytes::Bytes;
use crate::error::Result;

/// A tensor of a source: the numbers of its file, and of the tensor in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TensorId {
    pub file: u32,
    pub tensor: u32,
}

/// A tensor, without its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorInfo<'a> {
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [usize],
    /// How many bytes it has.
    pub bytes: usize,
}

/// A container that was opened.
pub(super) trait Source: Send + Sync {
    /// Its files, in the order of their names.
    fn files(&self) -> &[SourceFile];

    /// What a conversion keeps of the files, beside tensors.
    fn origin(&self) -> Origin<'_>;

    /// The matrix of a number in the list that came with this source.
    fn matrix(&self, linear: usize, access: Access) -> Result<Matrix>;

    /// The tensors that it is in, to be carried over as they are. None, if they could not be read back from a
    /// safetensors file: it is written as lutmul's own then.
    fn parts(&self, linear: usize) -> Vec<TensorId>;

    /// The tensors that belong to no matrix, and why.
    fn others(&self) -> &[(TensorId, Reason)];

    /// A tensor that is one of `others` or `parts`.
    fn tensor(&self, id: TensorId) -> TensorInfo<'_>;

    /// Some of its bytes, little-endian.
    fn read(&self, id: TensorId, range: Range<usize>, access: Access) -> Result<Bytes<'static>>;

    /// Reads all files now, and has their pages ready.
    fn prefault(&self) -> Result<()>;
}

/// What opening gives.
pub(super) struct Listing {
    pub source: Box<dyn Source>,
    /// In the order of their names; the position is the number that [`Source::matrix`] takes.
    pub linears: Vec<Linear>,
}

/// What a conversion keeps of files, beside tensors.
pub(super) struct Origin<'a> {
    /// The metadata of each file.
    pub metadata: Vec<&'a BTreeMap<String, String>>,
    /// The index, where there are several.
    pub index: Option<&'a Index>,
}
