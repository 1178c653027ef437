//! What every kernel is handed of the weights: codes and signs as they lie in the file.

/// Codes in a line: a cache line of codes, whose signs are one `u64`.
pub const LINE: usize = 64;

/// Rows of a panel, the unit in which gemm decodes (`mc` in the BLIS papers, with weights in the role of A). A
/// multiple of every micro-kernel's rows.
pub const MC: usize = 48;

/// Some columns of some rows of a matrix of codes. Rows are in full width.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// Codes, `[rows, k]`.
    pub codes: &'a [u8],
    /// Sign plane, `[rows, ⌈k/8⌉]`.
    pub signs: Option<&'a [u8]>,
    /// Columns of the whole matrix; at least 1.
    pub k: usize,
    /// First column; a multiple of 8.
    pub first: usize,
    /// Columns from there on; at least 1.
    pub cols: usize,
}

impl<'a> Codes<'a> {
    /// All columns of some rows.
    pub fn whole(codes: &'a [u8], signs: Option<&'a [u8]>, k: usize) -> Self {
        Self { codes, signs, k, first: 0, cols: k }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.codes.len() / self.k
    }

    /// Lines of a row, the last one possibly partial.
    pub fn lines(&self) -> usize {
        self.cols.div_ceil(LINE)
    }

    /// Lines that can be read in full: a last, partial line is where the row goes on.
    pub(crate) fn full_lines(&self) -> usize {
        ((self.k - self.first) / LINE).min(self.lines())
    }

    /// A row's codes from the first column to the end of the row.
    pub(crate) fn row_codes(&self, row: usize) -> &'a [u8] {
        &self.codes[row * self.k..][self.first..self.k]
    }

    /// A row's signs from the first column on; empty without a sign plane.
    pub(crate) fn row_signs(&self, row: usize) -> &'a [u8] {
        let stride = self.k.div_ceil(8);
        self.signs.map_or(&[], |signs| &signs[row * stride..][self.first / 8..stride])
    }

    /// The full lines of a row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> Row<'a> {
        let full = self.full_lines();
        let signs = match self.signs {
            Some(_) => &self.row_signs(row).as_chunks().0[..full],
            None => &[],
        };
        Row { codes: &self.row_codes(row).as_chunks().0[..full], signs }
    }

    /// What is left of a row behind its full lines, padded by a code and by signs of 0. Not inlined: it is in every loop,
    /// and seldom needed.
    #[inline(never)]
    pub(crate) fn tail(&self, row: usize, pad: u8) -> Tail {
        let full = self.full_lines();
        let mut tail = Tail { codes: [[pad; LINE]], signs: [[0; 8]] };
        let rest = &self.row_codes(row)[full * LINE..];
        let len = rest.len().min(LINE);
        tail.codes[0][..len].copy_from_slice(&rest[..len]);
        let rest = self.row_signs(row).get(8 * full..).unwrap_or(&[]);
        let len = rest.len().min(8);
        tail.signs[0][..len].copy_from_slice(&rest[..len]);
        tail
    }
}

/// Lines of a row.
#[derive(Clone, Copy, Default)]
pub(crate) struct Row<'a> {
    pub codes: &'a [[u8; LINE]],
    /// Empty without a sign plane.
    pub signs: &'a [[u8; 8]],
}

/// A padded last line.
#[derive(Clone, Copy)]
pub(crate) struct Tail {
    pub codes: [[u8; LINE]; 1],
    pub signs: [[u8; 8]; 1],
}

impl Tail {
    pub const EMPTY: Self = Self { codes: [[0; LINE]], signs: [[0; 8]] };

    /// As a row of one line.
    #[inline(always)]
    pub fn row(&self, signed: bool) -> Row<'_> {
        Row { codes: &self.codes, signs: if signed { &self.signs } else { &[] } }
    }
}
