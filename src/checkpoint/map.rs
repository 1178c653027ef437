//! Files as bytes in memory: mapped where the system can, read where it cannot.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::matrix::Access;
use crate::buffer::Buffer;
use crate::bytes::Bytes;
use crate::error::{Error, Result};

/// The bytes of a file, shared by everything that was read from it.
pub(super) enum FileBytes {
    Mapped(memmap2::Mmap, File),
    Read(Vec<u8>),
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Read(bytes) => bytes,
        }
    }
}

impl FileBytes {
    /// Some of the bytes, wherever they are to be.
    pub fn part(
        self: &Arc<Self>,
        range: Range<usize>,
        access: Access,
    ) -> io::Result<Bytes<'static>> {
        match access {
            Access::Map => Bytes::shared(Arc::clone(self) as _, range).ok_or_else(shorter),
            Access::Window => self.window(range),
            Access::Copy => self.copy(range),
        }
    }

    /// Some of the bytes, in a map of their own that is read already: whoever goes through a large file doesn't have
    /// all of it in memory at the end. Where the file was shortened meanwhile there is an error.
    fn window(&self, range: Range<usize>) -> io::Result<Bytes<'static>> {
        self.as_ref().get(range.clone()).ok_or_else(shorter)?;
        #[cfg(target_os = "linux")]
        if let Self::Mapped(_, file) = self
            && !range.is_empty()
            && let Ok(window) = map_part(file, range.clone())
            && window.advise(memmap2::Advice::PopulateRead).is_ok()
        {
            // The rest of a page would be zeros.
            if file.metadata()?.len() < range.end as u64 {
                return Err(shorter());
            }
            let length = range.len();
            return Bytes::shared(Arc::new(window), 0..length).ok_or_else(shorter);
        }
        self.copy(range)
    }

    /// Some of the bytes, in memory of their own, read by ordinary calls.
    fn copy(&self, range: Range<usize>) -> io::Result<Bytes<'static>> {
        let part = self.as_ref().get(range.clone()).ok_or_else(shorter)?;
        let mut buffer = Buffer::try_zeroed(part.len()).ok_or(io::ErrorKind::OutOfMemory)?;
        match self {
            #[cfg(unix)]
            Self::Mapped(_, file) => {
                use std::os::unix::fs::FileExt;
                file.read_exact_at(&mut buffer, range.start as u64).map_err(|e| {
                    match e.kind() {
                        io::ErrorKind::UnexpectedEof => shorter(),
                        _ => e,
                    }
                })?;
            }
            _ => buffer.copy_from_slice(part),
        }
        Ok(buffer.into())
    }

    /// Has all pages of a map read and entered into the page table.
    pub fn prefault(&self) -> std::io::Result<()> {
        let Self::Mapped(map, _) = self else { return Ok(()) };
        #[cfg(target_os = "linux")]
        match map.advise(memmap2::Advice::PopulateRead) {
            // Linux before 5.14 does not know it.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
            done => return done,
        }
        // The smallest page there is.
        let touched = map.iter().step_by(4096).fold(0, |all, byte| all ^ byte);
        std::hint::black_box(touched);
        Ok(())
    }
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than when it was opened")
}

/// Maps a regular file.
pub(super) fn map(path: &Path) -> Result<Arc<FileBytes>> {
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
    let length = file.metadata().map_err(error)?.len();
    if let Some(map) = usize::try_from(length).ok().and_then(|end| map_part(&file, 0..end).ok()) {
        return Ok(Arc::new(FileBytes::Mapped(map, file)));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(error)?;
    Ok(Arc::new(FileBytes::Read(bytes)))
}

/// Maps a part of a file, at any alignment.
#[expect(unsafe_code, reason = "a memory map is only as constant as the file behind it")]
fn map_part(file: &File, range: Range<usize>) -> io::Result<memmap2::Mmap> {
    let mut options = memmap2::MmapOptions::new();
    options.offset(range.start as u64).len(range.len());
    // SAFETY: the map is read only, and lutmul never writes to a file in place: it makes a new file
    // and renames it, which leaves this one's bytes alone. That no other program shortens or rewrites
    // the file while it is mapped is a precondition that `TensorFile::open` documents.
    unsafe { options.map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::tests::resident;

    #[test]
    fn prefault() {
        for len in [0usize, 1, 4096, 3_000_001] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            std::fs::write(file.path(), &bytes).unwrap();
            let mapped = map(file.path()).unwrap();
            let before = resident((*mapped).as_ref());
            mapped.prefault().unwrap();
            match (before, resident((*mapped).as_ref())) {
                (Some(before), Some(after)) if len > 1 << 20 => {
                    assert!(before < len && after >= len, "{before}, {after} of {len}");
                }
                _ => println!("of {len} bytes only that they are there was tested"),
            }
            assert!((*mapped).as_ref() == bytes);
            for read in [FileBytes::window, FileBytes::copy] {
                assert!(read(&mapped, len / 3..len).unwrap()[..] == bytes[len / 3..]);
                assert!(read(&mapped, 0..len + 1).is_err());
            }
            if cfg!(unix) && len > 2 * 4096 {
                for less in [1, 4096] {
                    std::fs::write(file.path(), &bytes[less..]).unwrap();
                    for read in [FileBytes::window, FileBytes::copy] {
                        let error = read(&mapped, 0..len).err().unwrap();
                        assert!(error.to_string().contains("shorter"), "{error}");
                    }
                }
            }
        }
    }
}
