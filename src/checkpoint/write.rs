//! Writing safetensors files: tensor by tensor, under a temporary name, all or nothing.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::header::{Entry, Header};
use super::temporary::{directory, file_beside};
use crate::error::{Error, Result};
use crate::show::quoted;

/// A safetensors file that is being written; nothing is left of it unless it is finished.
pub(super) struct Writer {
    temporary: NamedTempFile,
    target: PathBuf,
    overwrite: bool,
    size: usize,
    /// Where each tensor belongs in the file, and how long it is; written ones are taken out.
    missing: BTreeMap<String, (u64, usize)>,
}

impl Writer {
    /// Begins a file that will hold exactly `tensors`, whose places are found here.
    pub fn create(
        target: &Path,
        tensors: Vec<Entry>,
        metadata: BTreeMap<String, String>,
        overwrite: bool,
    ) -> Result<Self> {
        check_target(target, overwrite)?;
        let mut header = Header { tensors, metadata };
        let bytes = header.lay_out().map_err(|why| Error::file(target, why))?;
        let error = |e: io::Error| Error::file(target, e);
        let mut temporary = file_beside(target).map_err(error)?;
        temporary.write_all(&bytes).map_err(error)?;
        let size = bytes.len() + header.tensors.last().map_or(0, |t| t.range.end);
        let places = header.tensors.into_iter();
        let missing = places
            .map(|t| (t.name, ((bytes.len() + t.range.start) as u64, t.range.len())))
            .collect();
        Ok(Self { temporary, target: target.into(), overwrite, size, missing })
    }

    /// Bytes that the file will have.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Writes a tensor to its place.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let place = self.missing.remove(name).filter(|(_, length)| *length == bytes.len());
        let Some((offset, _)) = place else {
            let why =
                format!("tensor {}: {} bytes were not planned for", quoted(name), bytes.len());
            return Err(Error::file(&self.target, why));
        };
        let mut put = || {
            self.temporary.seek(SeekFrom::Start(offset))?;
            self.temporary.write_all(bytes)
        };
        put()
            .map_err(|e| Error::file(&self.target, format!("writing tensor {}: {e}", quoted(name))))
    }

    /// Makes the file permanent, under its own name.
    pub fn finish(self) -> Result<()> {
        let error = |e: io::Error| Error::file(&self.target, e);
        if let Some(name) = self.missing.keys().next() {
            return Err(Error::file(
                &self.target,
                format!("tensor {} was never written", quoted(name)),
            ));
        }
        // On disk before it has its name, so that a crash leaves the whole file or none.
        self.temporary.as_file().sync_all().map_err(error)?;
        if self.overwrite {
            self.temporary.persist(&self.target).map_err(|e| error(e.error))?;
        } else {
            self.temporary.persist_noclobber(&self.target).map_err(|e| error(e.error))?;
        }
        Ok(())
    }
}

/// Refuses what must not be written to, before any work is done.
fn check_target(target: &Path, overwrite: bool) -> Result<()> {
    let fail = |why: &str| Err(Error::file(target, why));
    match target.symlink_metadata() {
        Ok(kind) if kind.is_dir() => fail("is a directory"),
        // A rename would put a file in the place of /dev/null.
        Ok(kind) if !kind.is_file() && !kind.is_symlink() => fail("is not a regular file"),
        Ok(_) if !overwrite => fail("exists already"),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => match directory(target) {
            dir if dir.is_dir() => Ok(()),
            dir => fail(&format!("there is no directory {}", dir.display())),
        },
        Err(e) => fail(&e.to_string()),
    }
}
