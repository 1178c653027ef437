//! Tables of text.

use std::io::{self, Write};
use std::iter;

use lutmul::checkpoint::show;

/// Writes rows in columns: the first flush left, the others flush right.
pub fn write(
    out: &mut dyn Write,
    head: &[impl AsRef<str>],
    rows: &[impl AsRef<[String]>],
) -> io::Result<()> {
    let head: Vec<String> = head.iter().map(|head| head.as_ref().into()).collect();
    let rows: Vec<&[String]> =
        iter::once(&head[..]).chain(rows.iter().map(AsRef::as_ref)).collect();
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in rows {
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Formatting has no wider fields.
            let width = (*width).min(u16::MAX.into());
            match c {
                0 => write!(out, "{cell:<width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A name out of a file, so that it can neither command the terminal nor fill it.
pub fn name(name: &str) -> String {
    show::name(name)
}

/// Bytes in the largest unit that leaves at least one.
pub fn bytes(bytes: usize) -> String {
    indicatif::HumanBytes(bytes as u64).to_string()
}

/// `1 thread`, `2 threads`.
pub fn threads(count: usize) -> String {
    if count == 1 { "1 thread".into() } else { format!("{count} threads") }
}
