//! The header of a safetensors file: which tensors there are, and where.
//!
//! Parsed here and not by the safetensors crate, whose errors don't say which tensor is wrong and
//! whose sums of sizes can overflow on a hostile header. Names and shapes of all tensors lie in one piece of memory
//! each: a header of a million tensors takes little more than its text.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;
use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use crate::show::{self, message, quoted};

/// Headers of this size and more are refused, as by everything that reads safetensors.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// The key of the metadata in a header.
pub(super) const METADATA: &str = "__metadata__";

/// A tensor of a header: where its name, its shape and its bytes are. (Headers are below 4 GiB.)
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: [u32; 2],
    shape: [u32; 2],
    dtype: Dtype,
    /// Its bytes, counted from the beginning of the data.
    start: usize,
    end: usize,
}

/// A header: tensors by their place, and the file's metadata.
#[derive(Clone, Default)]
pub(super) struct Header {
    entries: Vec<Entry>,
    names: String,
    sizes: Vec<usize>,
    /// Numbers of tensors, by name.
    index: HashTable<u32>,
    hasher: RandomState,
    pub metadata: BTreeMap<String, String>,
}

/// Bytes that a shape and dtype ask for; `None` if they are no `usize`, or no whole number.
pub(super) fn size_of(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
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
        header.entries.sort_unstable_by_key(|t| (t.start, t.end, t.name));
        header.find_names()?;
        header.validate(rest.len() - json.len())?;
        Ok((header, 8 + json.len()))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The name of a tensor.
    pub fn name(&self, i: usize) -> &str {
        let [start, end] = self.entries[i].name.map(|at| at as usize);
        &self.names[start..end]
    }

    /// Its shape.
    pub fn shape(&self, i: usize) -> &[usize] {
        let [start, end] = self.entries[i].shape.map(|at| at as usize);
        &self.sizes[start..end]
    }

    /// The type of its elements.
    pub fn dtype(&self, i: usize) -> Dtype {
        self.entries[i].dtype
    }

    /// Where its bytes are in the data.
    pub fn range(&self, i: usize) -> Range<usize> {
        self.entries[i].start..self.entries[i].end
    }

    /// The number of the tensor of a name.
    pub fn find(&self, name: &str) -> Option<usize> {
        let same = |i: &u32| self.name(*i as usize) == name;
        self.index.find(self.hasher.hash_one(name), same).map(|i| *i as usize)
    }

    /// Makes the index of names.
    fn find_names(&mut self) -> Result<(), String> {
        let mut index = HashTable::with_capacity(self.len());
        for i in 0..self.len() {
            let name = self.name(i);
            let hash = self.hasher.hash_one(name);
            if index.find(hash, |other: &u32| self.name(*other as usize) == name).is_some() {
                let name = quoted(name);
                return Err(format!(
                    "not a safetensors file: its header is not valid: tensor {name} occurs twice"
                ));
            }
            // There is room for all of them: nothing is moved, and nothing hashed again.
            index.insert_unique(hash, i as u32, |_| hash);
        }
        self.index = index;
        Ok(())
    }

    /// Checks that the tensors fill `length` bytes of data without overlap or hole.
    fn validate(&self, length: usize) -> Result<(), String> {
        let (mut end, mut before) = (0, 0);
        for i in 0..self.len() {
            let (dtype, shape, range) = (self.dtype(i), self.shape(i), self.range(i));
            let says = || format!("tensor {}", quoted(self.name(i)));
            let size = size_of(dtype, shape).ok_or_else(|| {
                let shape = show::shape(shape);
                format!("{}: a {dtype} of shape {shape} has no size in bytes", says())
            })?;
            if range.end.checked_sub(range.start) != Some(size) {
                return Err(format!(
                    "{}: a {dtype} of shape {} has {size} bytes, but its offsets are {range:?}",
                    says(),
                    show::shape(shape)
                ));
            }
            if range.end > length {
                return Err(format!(
                    "{} is out of range: its offsets are {range:?}, but the file has {length} \
                     bytes of data (is it truncated?)",
                    says()
                ));
            }
            if range.start < end {
                return Err(format!(
                    "{} overlaps {}: its offsets are {range:?}, the other's end at {end}",
                    says(),
                    quoted(self.name(before))
                ));
            }
            if range.start > end {
                return Err(format!(
                    "{}: bytes {end}..{} before it belong to no tensor",
                    says(),
                    range.start
                ));
            }
            (end, before) = (range.end, i);
        }
        if end < length {
            return Err(format!("bytes {end}..{length} after the last tensor belong to no tensor"));
        }
        Ok(())
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
        let (mut names, mut has_metadata) = (String::new(), false);
        let end = |length: usize| u32::try_from(length).map_err(A::Error::custom);
        loop {
            let start = names.len();
            if map.next_key_seed(Append(&mut names))?.is_none() {
                break;
            }
            let name = &names[start..];
            let named =
                |e: A::Error| A::Error::custom(format!("tensor {}: {}", quoted(name), message(e)));
            if name == METADATA {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(A::Error::custom(format!("tensor {} occurs twice", quoted(name))));
                }
                header.metadata = map.next_value().map_err(named)?;
                names.truncate(start);
            } else {
                let info: TensorInfo = map.next_value().map_err(named)?;
                let TensorInfo { dtype, shape, data_offsets: (first, last) } = info;
                let sizes = end(header.sizes.len())?;
                header.sizes.extend(shape);
                header.entries.push(Entry {
                    name: [end(start)?, end(names.len())?],
                    shape: [sizes, end(header.sizes.len())?],
                    dtype,
                    start: first,
                    end: last,
                });
            }
        }
        header.names = names;
        Ok(header)
    }
}

/// Reads a string to the end of another one.
struct Append<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}
