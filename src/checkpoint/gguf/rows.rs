//! The order of rows. llama.cpp's converter permutes the rows of q and k for architectures whose rotary embedding it
//! computes on neighbouring pairs: within each head, row `j + half·i` of the original (i being 0 or 1) is row `2·j + i`
//! of the file. Read here, rows have the original's order, in which a head's halves are rotated.

use gguf_rs_lib::format::metadata::Metadata;

use super::Entry;
use super::metadata::{list, number, text};
use crate::show;

/// Architectures, as GGUF calls them, whose q and k are permuted in files and not in the original.
const PERMUTED: [&str; 12] = [
    "llama",
    "arcee",
    "baichuan",
    "deci",
    "deepseek",
    "granite",
    "granitemoe",
    "internlm2",
    "minicpm",
    "olmo",
    "smollm3",
    "xverse",
];

/// Where a row of the original is in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rows {
    /// Where it was.
    Same,
    /// Permuted within heads of so many rows, an even number.
    Heads(usize),
}

impl Rows {
    /// The order of n rows in so many heads; `None` if they are no pairs.
    pub fn of_heads(n: usize, heads: usize) -> Option<Self> {
        let size = n.checked_div(heads)?;
        (n.is_multiple_of(heads) && size.is_multiple_of(2)).then_some(Self::Heads(size))
    }

    /// The row of the file that is a row of the original.
    pub fn source(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Heads(size) => {
                let (head, within, half) = (row / size, row % size, size / 2);
                head * size + within % half * 2 + within / half
            }
        }
    }
}

/// How many heads the layers have whose q and k are permuted.
pub(super) struct Heads<'a> {
    metadata: &'a Metadata,
    architecture: Option<&'a str>,
}

impl<'a> Heads<'a> {
    pub fn new(metadata: &'a Metadata) -> Self {
        let architecture = metadata.get("general.architecture").and_then(text);
        Self { metadata, architecture: architecture.filter(|name| PERMUTED.contains(name)) }
    }

    /// The order of a tensor's rows.
    pub fn rows(&self, entry: &Entry) -> Result<Rows, String> {
        let Some(architecture) = self.architecture else { return Ok(Rows::Same) };
        let mut parts = entry.name.split('.');
        let of_layer = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
        let (Some("blk"), Some(layer), Some(part), Some("weight" | "bias"), None) = of_layer else {
            return Ok(Rows::Same);
        };
        let key = match part {
            "attn_q" => "head_count",
            "attn_k" => "head_count_kv",
            _ => return Ok(Rows::Same),
        };
        // Without a number of their own, k's heads are as many as q's.
        let count = |key: &str| {
            let value = self.metadata.get(&format!("{architecture}.attention.{key}"))?;
            match list(value) {
                Some(mut layers) => number(layers.nth(layer.parse().ok()?)?),
                None => number(value),
            }
        };
        let heads = count(key).or_else(|| count("head_count")).ok_or_else(|| {
            format!("the metadata has no {architecture}.attention.{key}, which the order of its rows depends on")
        })?;
        let n = match *entry.shape {
            [n] if entry.encoding.block.0 == 1 => n,
            [n, _] => n,
            _ => return Err(format!("has shape {}", show::shape(&entry.shape))),
        };
        let order = Rows::of_heads(n, heads as usize);
        order.ok_or_else(|| {
            format!("has {n} rows, which are not {heads} heads of an even number of rows")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_unpermuted() {
        // Two heads of six: 0 3 1 4 2 5 is what `reshape(2, 2, 3).swapaxes(1, 2)` makes of rows 0…5.
        let rows = Rows::of_heads(12, 2).unwrap();
        let file = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11];
        let original: Vec<_> = (0..12).map(|row| file[rows.source(row)]).collect();
        assert_eq!(original, (0..12).collect::<Vec<_>>());
        assert_eq!((0..5).map(|row| Rows::Same.source(row)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!([(12, 5), (6, 2), (4, 0)].map(|(n, heads)| Rows::of_heads(n, heads)), [None; 3]);
        assert_eq!(Rows::of_heads(0, 2), Some(Rows::Heads(0)));
    }
}
