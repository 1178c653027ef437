//! Pages about a machine: `lutmul bench --report`. What was measured is a record, in JSON; a page and two pictures are made
//! of it and of nothing else, so that the same record gives the same files.

mod page;
mod pictures;
mod record;
mod view;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::files;
pub use record::Record;

/// Makes the folder of a report, if there is none, and sees whether the report could be written: before minutes of
/// measuring, and not after them.
pub fn check(record: &Record, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    names(record).iter().try_for_each(|name| files::check(&dir.join(name)))
}

/// The record, the pictures and the page.
fn names(record: &Record) -> [String; 4] {
    [".json", "-error.svg", "-tokens.svg", ".md"].map(|end| format!("{}{end}", record.name))
}

/// Writes a record, its pictures and its page, each whole or not at all, and returns their paths.
pub fn write(record: &Record, dir: &Path) -> Result<Vec<PathBuf>> {
    check(record, dir)?;
    let texts = [
        record.json()?,
        pictures::by_error(record).svg(),
        pictures::by_tokens(record).svg(),
        page::markdown(record),
    ];
    let mut paths = Vec::new();
    for (name, text) in names(record).iter().zip(texts) {
        let path = dir.join(name);
        files::write(&path, &text)?;
        paths.push(path);
    }
    Ok(paths)
}
