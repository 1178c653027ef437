//! Safetensors files as a source of matrices: which there are, [`layouts`] know.

use std::ops::Range;
use std::path::Path;

use super::files::Files;
use super::layouts::{self, Role, Stored};
use super::matrix::{Access, Matrix};
use super::model::{Reason, SourceFile};
use super::source::{Listing, Origin, Source, TensorId, TensorInfo};
use crate::bytes::Bytes;
use crate::error::Result;

/// The files of a model, and what they hold.
struct Safetensors {
    files: Files,
    stored: Vec<Box<dyn Stored>>,
    others: Vec<(TensorId, Reason)>,
}

/// Opens a file or a folder.
pub(super) fn open(path: &Path) -> Result<Listing> {
    list(Files::open(path)?)
}

/// Finds the matrices of files.
pub(super) fn list(files: Files) -> Result<Listing> {
    let found = layouts::find(&files)?;
    let (linears, stored) = found.linears.into_iter().unzip();
    let roles = found.roles.iter().flatten();
    let reasons = files.ids().zip(roles).filter_map(|(id, role)| match role {
        Role::Other(reason) => Some((id, *reason)),
        Role::Free | Role::Taken => None,
    });
    let others = reasons.collect();
    Ok(Listing { source: Box::new(Safetensors { files, stored, others }), linears })
}

impl Source for Safetensors {
    fn files(&self) -> &[SourceFile] {
        self.files.infos()
    }

    fn origin(&self) -> Origin<'_> {
        let metadata = self.files.files().iter().map(|file| file.metadata()).collect();
        Origin { metadata, index: self.files.index.as_ref() }
    }

    fn matrix(&self, linear: usize, access: Access) -> Result<Matrix> {
        self.stored[linear].matrix(&self.files, access)
    }

    fn parts(&self, linear: usize) -> Vec<TensorId> {
        self.stored[linear].parts()
    }

    fn others(&self) -> &[(TensorId, Reason)] {
        &self.others
    }

    fn tensor(&self, id: TensorId) -> TensorInfo<'_> {
        let tensor = self.files.tensor(id);
        let (name, dtype, shape) = (tensor.name, tensor.dtype, tensor.shape);
        TensorInfo { name, dtype, shape, bytes: tensor.bytes.len() }
    }

    fn read(&self, id: TensorId, range: Range<usize>, access: Access) -> Result<Bytes<'static>> {
        self.files.file(id).part(id.tensor as usize, range, access)
    }

    fn prefault(&self) -> Result<()> {
        self.files.files().iter().try_for_each(|file| file.prefault())
    }
}
