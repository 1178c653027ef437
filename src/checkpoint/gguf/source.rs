//! A GGUF file as a [`Checkpoint`](crate::checkpoint::Checkpoint): its matrices, and what else there is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use super::blocks::Decode;
use super::{Entry, GROUP, GgufFile, MAGIC, Matrices};
use crate::bytes::Bytes;
use crate::checkpoint::Dtype;
use crate::checkpoint::matrix::{Access, Matrix};
use crate::checkpoint::model::{Coding, Linear, Reason, SourceFile};
use crate::checkpoint::source::{Listing, Origin, Source, TensorId, TensorInfo};
use crate::error::Result;
use crate::format::Format;
use crate::scales::Granularity;

/// The embedding, which is the head as well where there is no other.
const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

/// An open file, and which of its tensors are what.
struct Gguf {
    file: GgufFile,
    info: [SourceFile; 1],
    metadata: BTreeMap<String, String>,
    /// The number of a tensor, and that of the matrix in it.
    stored: Vec<(usize, usize)>,
    others: Vec<(TensorId, Reason)>,
}

/// Whether a path is that of a file that begins as GGUF files do.
pub fn is_gguf(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let is_file = fs::metadata(path).is_ok_and(|kind| kind.is_file());
    let mut read = || File::open(path)?.read_exact(&mut start);
    is_file && read().is_ok() && start == MAGIC
}

/// Opens a file.
pub(in crate::checkpoint) fn open(path: &Path) -> Result<Listing> {
    matrices(GgufFile::open(path)?)
}

/// Finds the matrices of a file.
pub(in crate::checkpoint) fn matrices(file: GgufFile) -> Result<Listing> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for (number, entry) in file.tensors.iter().enumerate() {
        if let Some(reason) = why_not(&file, entry) {
            others.push((TensorId { file: 0, tensor: number as u32 }, reason));
            continue;
        }
        let Matrices { count, n, k } = entry.matrices();
        let module = entry.name.strip_suffix(".weight").unwrap_or(&entry.name);
        for part in 0..count {
            let fused = entry.shape.len() > 2;
            let coded = matches!(entry.encoding.decode, Decode::Int8);
            let granularity = Granularity::Group(GROUP);
            let linear = Linear {
                name: if fused { format!("{module}.{part}") } else { module.into() },
                tensor: entry.name.clone(),
                part: fused.then_some((part, count)),
                shape: (n, k),
                dtype: entry.encoding.name,
                coding: coded.then(|| Coding { format: Format::Int8, granularity, signs: false }),
                bytes: n * entry.encoding.row_bytes(k),
                file: 0,
                skipped: false,
                own: false,
                number: 0,
            };
            found.push((linear, (number, part)));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    for ((a, _), (b, _)) in found.iter().zip(found.iter().skip(1)) {
        if a.name == b.name {
            return Err(file.error(&b.tensor, format!("and tensor {:?} have one name", a.tensor)));
        }
    }
    let (linears, stored) = found.into_iter().unzip();
    let info = [SourceFile { path: file.path().into(), size: file.size() }];
    let source = Gguf { file, info, metadata: BTreeMap::new(), stored, others };
    Ok(Listing { source: Box::new(source), linears })
}

/// Why a tensor is no weight of a linear.
fn why_not(file: &GgufFile, entry: &Entry) -> Option<Reason> {
    /// More than any model has: each is an entry of a list.
    const MOST: usize = 1 << 16;
    let name = &entry.name;
    if !(2..=3).contains(&entry.shape.len()) || entry.matrices().count > MOST {
        return Some(Reason::Dimensions);
    }
    if !name.ends_with(".weight") {
        return Some(Reason::Name);
    }
    // One that is in blocks is of no use to anybody else as it is.
    let floats = matches!(entry.encoding.decode, Decode::Floats(_));
    let looked_up = floats && name == EMBEDDING && file.index.contains_key(HEAD);
    (looked_up || name.contains("norm") || name.contains("position_embd")).then_some(Reason::Lookup)
}

impl Source for Gguf {
    fn files(&self) -> &[SourceFile] {
        &self.info
    }

    fn origin(&self) -> Origin<'_> {
        Origin { metadata: vec![&self.metadata], index: None }
    }

    fn matrix(&self, linear: usize, access: Access) -> Result<Matrix> {
        let (tensor, part) = self.stored[linear];
        self.file.matrix(&self.file.tensors[tensor], part, access)
    }

    fn parts(&self, _: usize) -> Vec<TensorId> {
        Vec::new()
    }

    fn others(&self) -> &[(TensorId, Reason)] {
        &self.others
    }

    /// As [`Source::read`] hands it out: blocks are floats then.
    fn tensor(&self, id: TensorId) -> TensorInfo<'_> {
        let entry = &self.file.tensors[id.tensor as usize];
        let dtype = match entry.encoding.decode {
            Decode::Floats(dtype) => dtype,
            Decode::Int8 | Decode::Blocks(_) => Dtype::F32,
        };
        let bytes = entry.shape.iter().product::<usize>() * (dtype.bitsize() / 8);
        TensorInfo { name: &entry.name, dtype, shape: &entry.shape, bytes }
    }

    fn read(&self, id: TensorId, range: Range<usize>, access: Access) -> Result<Bytes<'static>> {
        let entry = &self.file.tensors[id.tensor as usize];
        let (_, bytes) = self.file.floats(entry, 0..entry.matrices().count, access)?;
        let part = bytes.part(range);
        part.ok_or_else(|| self.file.error(&entry.name, "has fewer bytes"))
    }

    fn prefault(&self) -> Result<()> {
        self.file.prefault()
    }
}
