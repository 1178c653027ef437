//! Bytes that are borrowed, owned or shared, at any alignment.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::buffer::Buffer;

/// Codes or sign planes: the caller's, our own, or a part of something shared (a mapped file).
#[derive(Clone)]
pub enum Bytes<'a> {
    /// The caller's bytes.
    Borrowed(&'a [u8]),
    /// Bytes of our own, in memory as it came. Large ones are faster to read in a [`Buffer`].
    Owned(Vec<u8>),
    /// A part of a shared buffer; made by [`Bytes::shared`].
    Shared(SharedBytes),
}

/// Part of a buffer that several matrices may share: a memory-mapped file, a [`Buffer`].
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes<'static> {
    /// The part `range` of a shared buffer; `None` if the buffer is shorter.
    pub fn shared(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Self> {
        (*owner).as_ref().get(range.clone())?;
        Some(Self::Shared(SharedBytes { owner, range }))
    }

    /// A part of them, shared where they are; `None` if they are fewer.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn part(self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let SharedBytes { owner, range: whole } = match self {
            Self::Shared(shared) => shared,
            Self::Borrowed(bytes) => return Some(Self::Borrowed(&bytes[range])),
            Self::Owned(bytes) => return Some(Self::Owned(bytes[range].to_vec())),
        };
        let range = whole.start + range.start..whole.start + range.end;
        Some(Self::Shared(SharedBytes { owner, range }))
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(SharedBytes { owner, range }) => &(**owner).as_ref()[range.clone()],
        }
    }
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl From<Vec<u8>> for Bytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<Buffer> for Bytes<'_> {
    fn from(buffer: Buffer) -> Self {
        let range = 0..buffer.len();
        Self::Shared(SharedBytes { owner: Arc::new(buffer), range })
    }
}

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Borrowed(_) => "borrowed",
            Self::Owned(_) => "owned",
            Self::Shared(_) => "shared",
        };
        write!(f, "{} {kind} bytes", self.len())
    }
}
