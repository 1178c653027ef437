//! Files as bytes in memory: mapped where the system can, read where it cannot.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The bytes of a file, shared by everything that was read from it.
pub(super) type FileBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Maps a regular file.
#[expect(unsafe_code, reason = "a memory map is only as constant as the file behind it")]
pub(super) fn map(path: &Path) -> Result<FileBytes> {
    let error = |e| Error::file(path, e);
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let kind = std::fs::metadata(path).map_err(error)?;
    if kind.is_dir() {
        return Err(Error::file(path, "is a directory, not a file"));
    }
    if !kind.is_file() {
        return Err(Error::file(path, "is not a regular file"));
    }
    let mut file = File::open(path).map_err(error)?;
    // SAFETY: the map is read only, and lutmul never writes to a file in place: it makes a new file
    // and renames it, which leaves this one's bytes alone. That no other program shortens or rewrites
    // the file while it is mapped is a precondition that `TensorFile::open` documents.
    if let Ok(map) = unsafe { memmap2::Mmap::map(&file) } {
        return Ok(Arc::new(map));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(error)?;
    Ok(Arc::new(bytes))
}
