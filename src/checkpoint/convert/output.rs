//! Where a conversion may write to.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::checkpoint::files::directory;
use crate::checkpoint::model::Checkpoint;
use crate::error::{Error, Result};

/// Whether a folder is to be made.
pub(super) fn is_folder(model: &Checkpoint, output: &Path) -> Result<bool> {
    let one = output.extension() == Some(OsStr::new("safetensors"));
    if !model.path().is_dir() {
        return Ok(false);
    }
    if one && model.files().len() > 1 {
        let why = format!("the model has {} files: name a folder", model.files().len());
        return Err(Error::file(output, why));
    }
    Ok(!one)
}

/// Refuses what must not be written to, before any work is done.
pub(super) fn check_output(
    model: &Checkpoint,
    output: &Path,
    is_folder: bool,
    overwrite: bool,
) -> Result<()> {
    let fail = |why: &str| Err(Error::file(output, why));
    if let Ok(to) = output.canonicalize() {
        let inputs = model.files().iter().map(|file| &*file.path);
        if inputs.filter_map(|path| path.canonicalize().ok()).any(|from| from == to) {
            return fail("is the input as well as the output");
        }
    }
    match output.symlink_metadata() {
        Ok(_) if is_folder => fail("exists already"),
        Ok(kind) if kind.is_dir() => fail("is a directory"),
        // A rename would put a file in the place of /dev/null.
        Ok(kind) if !kind.is_file() && !kind.is_symlink() => fail("is not a regular file"),
        Ok(_) if !overwrite => fail("exists already"),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && output.file_name().is_some() => {
            match directory(output) {
                dir if dir.is_dir() => Ok(()),
                dir => fail(&format!("there is no directory {}", dir.display())),
            }
        }
        Err(e) => fail(&e.to_string()),
    }
}
