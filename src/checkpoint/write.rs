//! Safetensors files that are being written: their headers, and where each tensor belongs.

use std::collections::{BTreeMap, HashSet};

use safetensors::tensor::{Dtype, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::header::{MAX_HEADER, METADATA, size_of};
use crate::show::{self, quoted};

/// Where data begins is a multiple of this: a cache line.
const LINE: usize = 64;

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Planned {
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }
}

/// A file that will be written.
#[derive(Debug)]
pub(super) struct Layout {
    /// Its beginning: the length of the header, the header, padding.
    pub head: Vec<u8>,
    /// Its tensors by name: where each begins in the file, and its length.
    pub places: BTreeMap<String, (u64, usize)>,
    /// Bytes in all.
    pub size: u64,
}

impl Layout {
    /// Gives every tensor a place, and writes the header.
    ///
    /// Tensors of whole cache lines come first, so that their rows of codes don't straddle lines for
    /// nothing; the rest goes by the size of its elements, so that everything is aligned for its type.
    pub fn new(tensors: Vec<Planned>, metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut names = HashSet::new();
        let mut sized = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            let Planned { name, dtype, shape } = tensor;
            if name == METADATA || !names.insert(name) {
                return Err(format!("two tensors would have the name {}", quoted(name)));
            }
            let size = size_of(*dtype, shape).ok_or_else(|| {
                let (name, shape) = (quoted(name), show::shape(shape));
                format!("tensor {name}: a {dtype} of shape {shape} has no size in bytes")
            })?;
            sized.push((size, tensor));
        }
        sized.sort_by_key(|(size, t)| (size % LINE != 0, std::cmp::Reverse(t.dtype.bitsize())));
        let mut end = 0usize;
        let mut entries = Vec::with_capacity(sized.len());
        for (size, tensor) in sized {
            let start = end;
            let too_large = || format!("tensor {}: too large", quoted(&tensor.name));
            end = start.checked_add(size).ok_or_else(too_large)?;
            entries.push((tensor, start, end));
        }
        let mut head = vec![0; 8];
        let header = Header { entries: &entries, metadata };
        serde_json::to_writer(&mut head, &header).map_err(|e| e.to_string())?;
        head.resize(head.len().next_multiple_of(LINE), b' ');
        let length = head.len() as u64 - 8;
        if length >= MAX_HEADER {
            return Err(format!("its header of {length} bytes would be too large"));
        }
        head[..8].copy_from_slice(&length.to_le_bytes());
        let data = head.len() as u64;
        let places = entries
            .iter()
            .map(|(t, start, end)| (t.name.clone(), (data + *start as u64, end - start)))
            .collect();
        Ok(Self { head, places, size: data + end as u64 })
    }
}

/// A header, to be written.
struct Header<'a> {
    entries: &'a [(&'a Planned, usize, usize)],
    metadata: &'a BTreeMap<String, String>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (Planned { name, dtype, shape }, start, end) in self.entries {
            let (dtype, shape, data_offsets) = (*dtype, shape.clone(), (*start, *end));
            map.serialize_entry(name, &TensorInfo { dtype, shape, data_offsets })?;
        }
        map.end()
    }
}
