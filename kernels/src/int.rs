//! What integer kernels are handed. See [`crate::image`] for what stands for a weight.

use crate::image::Image;
use crate::portion::LINE;

/// Steps of an integer panel: a step is 32 bits of a row, four bytes or two 16-bit words. With 48
/// rows a plane of it is 96 KiB.
pub const PANEL_STEPS: usize = 512;

/// A plane of a decoded row of an integer panel, padded as [`PanelRow`](crate::PanelRow) is.
pub type IntRow = [u32; PANEL_STEPS + 16];

/// The parts that an integer activation is cut into, each an i8 or an i16: `X = Σ limb · weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limbs {
    /// Whether limbs are i16 rather than i8.
    pub words: bool,
    /// What a limb of 1 stands for, the most significant first.
    pub weights: &'static [i64],
}

impl Limbs {
    /// Balanced base-255 digits in −127…127, held as bytes.
    pub const fn bytes(digits: usize) -> Self {
        let weights: &[i64] = match digits {
            1 => &[1],
            2 => &[255, 1],
            _ => &[65_025, 255, 1],
        };
        Self { words: false, weights }
    }

    /// The same digits as 16-bit words, two lower ones in one word.
    pub const fn words(digits: usize) -> Self {
        let weights: &[i64] = if digits < 3 { &[1] } else { &[65_025, 1] };
        Self { words: true, weights }
    }

    /// Codes in a step of a panel.
    pub fn step(self) -> usize {
        if self.words { 2 } else { 4 }
    }

    /// Bytes of a limb.
    pub fn size(self) -> usize {
        if self.words { 2 } else { 1 }
    }

    /// Cuts a line of integers into limbs, the most significant first (as many as there are weights).
    ///
    /// In a balanced system of an odd base the digits are unique, so any way to find them will do:
    /// this one rounds in f64, which compilers vectorise where they don't an integer division.
    pub fn cut(self, line: [i32; LINE]) -> [[i32; LINE]; 3] {
        let mut limbs = [[0; LINE]; 3];
        let mut rest = line;
        for (limb, weight) in limbs.iter_mut().zip(self.weights) {
            if *weight == 1 {
                *limb = rest;
                continue;
            }
            let (weight, inverse) = (*weight as i32, 1.0 / *weight as f64);
            for (limb, rest) in limb.iter_mut().zip(&mut rest) {
                *limb = round_half_even(f64::from(*rest) * inverse) as i32;
                *rest -= *limb * weight;
            }
        }
        limbs
    }
}

/// The nearest integer, half to even, of an f64 below 2⁵¹ in magnitude: two additions, which every
/// vector unit has, where rounding instructions are not part of every x86-64.
#[inline(always)]
pub fn round_half_even(v: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    (v + ROUND) - ROUND
}

/// Some columns of some rows of a matrix of weights, for integer kernels.
#[derive(Clone, Copy, Debug)]
pub struct IntPortion<'a> {
    /// The image of the table.
    pub image: &'a Image,
    /// The rows' codes in full width, `[rows, stride]`.
    pub codes: &'a [u8],
    /// Sign plane of the rows in full width, `[rows, ⌈stride/8⌉]`.
    pub signs: Option<&'a [u8]>,
    /// Columns of the whole matrix.
    pub stride: usize,
    /// First column of the portion; a multiple of 8.
    pub first: usize,
    /// Columns of the portion; at least 1.
    pub cols: usize,
    /// Lines after which the row shape starts a new sum; at least 1.
    pub group_lines: usize,
}

impl IntPortion<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.codes.len() / self.stride
    }

    /// Lines of the portion, the last one possibly partial.
    pub fn lines(&self) -> usize {
        self.cols.div_ceil(LINE)
    }

    /// A row's codes from the portion's first column to the end of the row.
    pub fn row_codes(&self, row: usize) -> &[u8] {
        &self.codes[row * self.stride..][self.first..self.stride]
    }

    /// A row's signs from the portion's first column on; empty without a sign plane.
    pub fn row_signs(&self, row: usize) -> &[u8] {
        let stride = self.stride.div_ceil(8);
        self.signs.map_or(&[], |signs| &signs[row * stride..][self.first / 8..stride])
    }
}

/// Activations of the row shape: `[lines][tokens][limbs][64]`, as bytes or words, zero beyond the
/// portion's columns. (So what codes stand there does not matter: an image has no NaN.)
#[derive(Clone, Copy, Debug)]
pub struct IntRowInput<'a> {
    /// The packed limbs.
    pub x: &'a [u8],
    /// Tokens: 1, 2, 4 or 8.
    pub tokens: usize,
    /// How activations are cut.
    pub limbs: Limbs,
}

/// Activations of the panel shape, one limb of a tile: `[steps][width]`, a `u32` being the four bytes
/// or two words of a token's step.
#[derive(Clone, Copy, Debug)]
pub struct IntTileInput<'a> {
    /// The packed limbs.
    pub x: &'a [u32],
    /// Tokens of the tile, padded to a multiple of the kernel's lanes.
    pub width: usize,
    /// What the limb's 1 stands for.
    pub weight: i64,
}

/// The integer sums of one panel and one tile.
#[derive(Debug)]
pub struct IntTileSums<'a> {
    /// `[PANEL_ROWS][stride]`, the tile's tokens first.
    pub values: &'a mut [i64],
    /// Distance of rows.
    pub stride: usize,
    /// Rows of the panel that count.
    pub rows: usize,
    /// Whether to add to the sums rather than to start them.
    pub add: bool,
}

/// One plane of a decoded integer panel.
#[derive(Clone, Copy, Debug)]
pub struct IntPanel<'a> {
    /// For each row its planes, and in a panel of bytes its signs, side by side.
    pub rows: &'a [IntRow],
    /// Where accumulators start: `[PANEL_ROWS][planes]`.
    pub starts: &'a [i32],
    /// The plane to multiply by.
    pub plane: usize,
    /// Planes of the image.
    pub planes: usize,
}

impl IntPanel<'_> {
    /// The number of [`IntRow`]s that a row of a panel takes.
    pub fn pitch(planes: usize, words: bool) -> usize {
        planes + usize::from(!words)
    }
}
