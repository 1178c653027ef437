//! The order of rows. llama.cpp's converter permutes the rows of q and k for architectures whose rotary embedding it
//! computes on neighbouring pairs: within each head, row `j + half·i` of the original (i being 0 or 1) is row `2·j + i`
//! of the file. Read here, rows have the original's order, in which a head's halves are rotated.

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

/// Whether an architecture is one of those.
pub(super) fn permutes(architecture: &str) -> bool {
    PERMUTED.contains(&architecture)
}

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
