//! What a kernel is handed: a portion of the weights, packed activations, and room for the result.

use crate::table::{ClosedForm, Planes, Table};

/// Codes in a line: a cache line of codes, whose signs are one `u64`.
pub const LINE: usize = 64;

/// Rows of a panel, the unit in which the panel shape decodes. A multiple of every micro-kernel's rows.
pub const PANEL_ROWS: usize = 48;

/// Columns of a panel: a block of k. 48 rows of it are 96 KiB, which leaves most of an L2 to the
/// activations; the sum of a block goes on in registers, so it also sets how often sums are stored.
pub const PANEL_COLS: usize = 512;

/// A decoded row of a panel. The 16 extra columns keep equal columns of neighbouring rows out of
/// the same L1 set.
pub type PanelRow = [f32; PANEL_COLS + 16];

/// Some rows of a matrix of weights, in full width: `rows × k` codes with what decodes them.
#[derive(Clone, Copy, Debug)]
pub struct Portion<'a> {
    /// The table.
    pub table: &'a Table,
    /// Whether formulas may be used that don't give the entries that are not finite.
    pub finite: bool,
    /// Columns; at least 1.
    pub k: usize,
    /// Codes, `[rows, k]`.
    pub codes: &'a [u8],
    /// Sign plane, `[rows, ⌈k/8⌉]`.
    pub signs: Option<&'a [u8]>,
    /// Scales.
    pub scales: Scales<'a>,
}

impl Portion<'_> {
    /// Rows of the portion.
    pub fn rows(&self) -> usize {
        self.codes.len() / self.k
    }

    /// The table's formula, if it gives all entries that are in use and goes with the signs there are: a
    /// plane of them beside magnitudes, none beside entries that have their own. No checkpoint has the
    /// other two; they are looked up, so that kernels need no code for them.
    pub fn closed_form(&self) -> Option<ClosedForm> {
        let total = self.finite || self.table.closed_form_total;
        self.table
            .closed_form
            .filter(|form| total && self.signs.is_some() == matches!(form, ClosedForm::Magnitude))
    }

    /// Whether half of the table is enough, in two byte planes: codes have their sign in the top bit, and no
    /// plane of signs is beside them.
    pub fn sign_magnitude(&self) -> bool {
        let table = self.table;
        table.needed == Planes::Two && table.sign_magnitude && self.signs.is_none()
    }

    /// Lines of a row, the last one possibly partial.
    pub fn lines(&self) -> usize {
        self.k.div_ceil(LINE)
    }

    /// The codes of a row.
    pub fn row_codes(&self, row: usize) -> &[u8] {
        &self.codes[row * self.k..][..self.k]
    }

    /// The signs of a row; empty without a sign plane.
    pub fn row_signs(&self, row: usize) -> &[u8] {
        let stride = self.k.div_ceil(8);
        self.signs.map_or(&[], |signs| &signs[row * stride..][..stride])
    }
}

/// The scales of a portion.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// The scales of the whole matrix, row-major.
    pub values: &'a [f32],
    /// Scales in a row of `values`.
    pub stride: usize,
    /// Rows of weights that share a row of `values`.
    pub block_rows: usize,
    /// The portion's first row within the matrix.
    pub first_row: usize,
    /// Which of its row's scales a weight has.
    pub groups: Groups<'a>,
}

impl<'a> Scales<'a> {
    /// The scales of the portion's row `row`.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.values[self.offset(row)..][..self.stride]
    }

    /// Where the scales of row `row` begin; rows beyond the portion have theirs too.
    pub(crate) fn offset(&self, row: usize) -> usize {
        (self.first_row + row) / self.block_rows * self.stride
    }
}

/// How scales are laid along k.
#[derive(Clone, Copy, Debug)]
pub enum Groups<'a> {
    /// One scale a row.
    Whole,
    /// Groups of whole lines: the index of each line's scale.
    Lines(&'a [u32]),
    /// Groups of 32: two scales a line.
    Pairs,
    /// Other groups of a multiple of 16: the indices of the scales of each line's four quarters.
    Quarters(&'a [[u32; 4]]),
}

/// A line's worth of packed activations in the order in which a kernel decodes: the weight at
/// position `p` of a decoded line is that of code `order[p]`.
pub type Order = [u8; LINE];

/// The codes as they stand.
pub const NATURAL: Order = {
    let mut order = [0; LINE];
    let mut p = 0;
    while p < LINE {
        order[p] = p as u8;
        p += 1;
    }
    order
};

/// Activations of the row shape: `[lines][tokens][64]`, each line in the kernel's order, zero
/// beyond k. Tokens lie side by side because a k of 1024 or 3072 would put the same column of all
/// of them into one L1 set. Align them to 64 bytes: loads across cache lines take twice as long.
#[derive(Clone, Copy, Debug)]
pub struct RowInput<'a> {
    /// The packed activations.
    pub x: &'a [f32],
    /// Tokens: 1, 2, 4 or 8.
    pub tokens: usize,
}

/// Activations of the panel shape for one tile and one block of k: `[columns][width]` with the
/// tile's tokens as `width` neighbouring floats.
#[derive(Clone, Copy, Debug)]
pub struct TileInput<'a> {
    /// The packed activations, a row for each column of the panel.
    pub x: &'a [f32],
    /// Tokens of the tile, padded to a multiple of the kernel's lanes.
    pub width: usize,
}

/// The sums of one panel and one tile.
#[derive(Debug)]
pub struct TileSums<'a> {
    /// `[PANEL_ROWS][stride]`, the tile's tokens first.
    pub values: &'a mut [f32],
    /// Distance of rows.
    pub stride: usize,
    /// Rows of the panel that count.
    pub rows: usize,
    /// Whether to add to the sums rather than to start them.
    pub add: bool,
}
