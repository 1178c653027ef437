//! Formats as options name them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use lutmul::checkpoint::show::quoted;
use lutmul::{Format, Lut};

/// A format by name, or the file of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum FormatArg {
    /// One of [`Format::NAMED`].
    Named(Format),
    /// `table:FILE`.
    Table(PathBuf),
}

impl FromStr for FormatArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("table", "")) => Err("table: no file is named".into()),
            Some(("table", file)) => Ok(Self::Table(file.into())),
            _ => text.parse().map(Self::Named).map_err(|e| format!("{e}, table:FILE")),
        }
    }
}

/// What `--help` says of formats.
pub fn help() -> String {
    let names = Format::NAMED.map(|format| format.name()).join(", ");
    format!("{names}, or table:FILE (256 numbers as text, or 1024 bytes of little-endian f32)")
}

impl FormatArg {
    /// The format, reading the table's file if it is one.
    pub fn load(&self) -> Result<Format> {
        match self {
            Self::Named(format) => Ok(format.clone()),
            Self::Table(file) => {
                let table = read_table(file).with_context(|| file.display().to_string())?;
                Ok(Format::Table(table))
            }
        }
    }
}

/// Reads a table: 256 numbers as text (apart by white space or commas, brackets around them or not),
/// or 1024 bytes of little-endian f32.
fn read_table(file: &Path) -> Result<Lut> {
    /// More than 256 numbers ever take; a device or a model is not read to its end.
    const MOST: u64 = 1 << 20;
    let mut bytes = Vec::new();
    File::open(file)?.take(MOST + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MOST, "a table of 256 numbers does not take over {MOST} bytes");
    let is_text = bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let values: Vec<f32> = if is_text {
        let text = str::from_utf8(&bytes)?.trim();
        let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|number| !number.is_empty())
            .enumerate()
            .map(|(i, number)| {
                number
                    .parse()
                    .with_context(|| format!("entry {i}: {} is no number", quoted(number)))
            })
            .collect::<Result<_>>()?
    } else {
        let (floats, rest) = bytes.as_chunks();
        ensure!(rest.is_empty(), "{} bytes are no number of f32", bytes.len());
        floats.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let count = values.len();
    let values = values.try_into().ok();
    let values = values.with_context(|| format!("has {count} entries; a table has 256"))?;
    Ok(Lut::new(&values)?)
}
