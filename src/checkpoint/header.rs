//! The header of a safetensors file: which tensors there are, and where.
//!
//! Parsed here and not by the safetensors crate, whose errors don't say which tensor is wrong and
//! whose sums of sizes can overflow on a hostile header.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::show::{self, message, quoted};

/// Headers of this size and more are refused, as by everything that reads safetensors.
const MAX_HEADER: u64 = 100_000_000;

/// Where data begins is a multiple of this: a cache line.
const LINE: usize = 64;

/// The key of the metadata in a header.
const METADATA: &str = "__metadata__";

/// A tensor's place in a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Its bytes, counted from the beginning of the data.
    pub range: Range<usize>,
}

/// A header: tensors by their place, and the file's metadata.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    pub tensors: Vec<Entry>,
    pub metadata: BTreeMap<String, String>,
}

impl Entry {
    /// A tensor that has no place yet.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype, shape: shape.into(), range: 0..0 }
    }

    /// Bytes that its shape and dtype ask for; `None` if they are no `usize`, or no whole number.
    fn size(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let bits = elements.checked_mul(self.dtype.bitsize())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl Header {
    /// Reads the header of a whole file: the header, and where the data begins.
    pub fn parse(file: &[u8]) -> Result<(Self, usize), String> {
        let Some((length, rest)) = file.split_first_chunk() else {
            return Err(format!("not a safetensors file: it has only {} bytes", file.len()));
        };
        let length = u64::from_le_bytes(*length);
        if length >= MAX_HEADER {
            return Err(format!(
                "not a safetensors file, or a hostile one: it claims a header of {length} bytes, \
                 and {MAX_HEADER} are too many"
            ));
        }
        let Some(json) = rest.get(..length as usize) else {
            return Err(format!(
                "truncated, or not a safetensors file: it claims a header of {length} bytes and has \
                 {} after its first 8",
                rest.len()
            ));
        };
        let mut header: Self = serde_json::from_slice(json).map_err(|e| {
            format!("not a safetensors file: its header is not valid: {}", message(e))
        })?;
        header.tensors.sort_by_key(|t| (t.range.start, t.range.end));
        header.validate(rest.len() - json.len())?;
        Ok((header, 8 + json.len()))
    }

    /// Checks that the tensors fill `length` bytes of data without overlap or hole.
    fn validate(&self, length: usize) -> Result<(), String> {
        let (mut end, mut before) = (0, "");
        for tensor in &self.tensors {
            let Entry { name, dtype, shape, range } = tensor;
            let says = format!("tensor {}", quoted(name));
            let size = tensor.size().ok_or_else(|| {
                format!("{says}: a {dtype} of shape {} has no size in bytes", show::shape(shape))
            })?;
            if range.end.checked_sub(range.start) != Some(size) {
                return Err(format!(
                    "{says}: a {dtype} of shape {} has {size} bytes, but its offsets are {range:?}",
                    show::shape(shape)
                ));
            }
            if range.end > length {
                return Err(format!(
                    "{says} is out of range: its offsets are {range:?}, but the file has {length} \
                     bytes of data (is it truncated?)"
                ));
            }
            if range.start < end {
                return Err(format!(
                    "{says} overlaps {}: its offsets are {range:?}, the other's end at {end}",
                    quoted(before)
                ));
            }
            if range.start > end {
                return Err(format!(
                    "{says}: bytes {end}..{} before it belong to no tensor",
                    range.start
                ));
            }
            (end, before) = (range.end, name);
        }
        if end < length {
            return Err(format!("bytes {end}..{length} after the last tensor belong to no tensor"));
        }
        Ok(())
    }

    /// Gives every tensor a place, and writes the header: its length, its text, padding.
    ///
    /// Tensors of whole cache lines come first, so that their rows of codes don't straddle lines for
    /// nothing; the rest goes by the size of its elements, so that everything is aligned for its type.
    pub fn lay_out(&mut self) -> Result<Vec<u8>, String> {
        let mut names = HashSet::new();
        let mut end = 0usize;
        for tensor in &mut self.tensors {
            let Entry { name, dtype, shape, .. } = &*tensor;
            if name == METADATA || !names.insert(name.clone()) {
                return Err(format!("two tensors would have the name {}", quoted(name)));
            }
            let size = tensor.size().ok_or_else(|| {
                let (name, shape) = (quoted(name), show::shape(shape));
                format!("tensor {name}: a {dtype} of shape {shape} has no size in bytes")
            })?;
            tensor.range = 0..size;
        }
        self.tensors
            .sort_by_key(|t| (t.range.end % LINE != 0, std::cmp::Reverse(t.dtype.bitsize())));
        for Entry { name, range, .. } in &mut self.tensors {
            let start = end;
            end = start
                .checked_add(range.end)
                .ok_or_else(|| format!("tensor {}: too large", quoted(name)))?;
            *range = start..end;
        }
        let mut bytes = vec![0; 8];
        serde_json::to_writer(&mut bytes, self).map_err(|e| e.to_string())?;
        bytes.resize(bytes.len().next_multiple_of(LINE), b' ');
        let length = bytes.len() as u64 - 8;
        if length >= MAX_HEADER {
            return Err(format!("its header of {length} bytes would be too large"));
        }
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        Ok(bytes)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Reads a header entry by entry, so that an error can name the tensor it is in.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("tensor {} occurs twice", quoted(&name))));
            }
            let named =
                |e: A::Error| A::Error::custom(format!("tensor {}: {}", quoted(&name), message(e)));
            if name == METADATA {
                header.metadata = map.next_value().map_err(named)?;
            } else {
                let info: TensorInfo = map.next_value().map_err(named)?;
                let TensorInfo { dtype, shape, data_offsets: (start, end) } = info;
                header.tensors.push(Entry { name, dtype, shape, range: start..end });
            }
        }
        Ok(header)
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, &self.metadata)?;
        }
        for Entry { name, dtype, shape, range } in &self.tensors {
            let (dtype, shape) = (*dtype, shape.clone());
            let data_offsets = (range.start, range.end);
            map.serialize_entry(name, &TensorInfo { dtype, shape, data_offsets })?;
        }
        map.end()
    }
}
