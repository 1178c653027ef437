//! Writing files whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// Writes a file under another name, and gives it its own when it is whole.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let place = || path.display().to_string();
    let mut file = beside(path)?;
    file.write_all(text.as_bytes()).with_context(place)?;
    file.as_file().sync_all().with_context(place)?;
    file.persist(path).map_err(|error| error.error).with_context(place)?;
    Ok(())
}

/// Whether a file could be written: to know it before minutes of work, and not after them.
pub fn check(path: &Path) -> Result<()> {
    beside(path)?.close().with_context(|| path.display().to_string())
}

fn beside(path: &Path) -> Result<NamedTempFile> {
    let place = || path.display().to_string();
    ensure!(!path.is_dir(), "{}: is a directory", place());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // As any new file, under the user's umask; temporary files are private otherwise.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(dir.unwrap_or(Path::new("."))).with_context(place)
}
