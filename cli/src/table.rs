//! Tables of text.

use std::io::{self, Write};

/// Writes rows in columns: the first flush left, the others flush right.
pub fn write<const COLUMNS: usize>(
    out: &mut dyn Write,
    head: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> io::Result<()> {
    let width = |c: usize| {
        let cells = rows.iter().map(|row| row[c].chars().count());
        cells.chain([head[c].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in std::iter::once(&head.map(String::from)).chain(rows) {
        for (c, (cell, width)) in row.iter().zip(widths).enumerate() {
            match c {
                0 => write!(out, "{cell:<width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A name out of a file, so that it cannot command the terminal.
pub fn name(name: &str) -> String {
    name.escape_debug().to_string()
}

/// Bytes in the largest unit that leaves at least one.
pub fn bytes(bytes: usize) -> String {
    indicatif::HumanBytes(bytes as u64).to_string()
}
