//! What integer kernels are handed. See [`crate::image`] for what stands for a weight.

use crate::image::{Image, Magnitudes};
use crate::portion::LINE;

/// Steps of an integer panel: a step is 32 bits of a row, four bytes or two 16-bit words. With 48
/// rows a plane of it is 147 KiB: a panel and a tile of tokens share a second-level cache of 512 KiB. On a
/// Zen 4 512, 768 and 1024 steps did the same by themselves; fewer blocks of k are fewer sums to add.
pub const PANEL_STEPS: usize = 768;

/// A plane of a decoded row of an integer panel, padded as [`PanelRow`](crate::PanelRow) is.
pub type IntRow = [u32; PANEL_STEPS + 16];

/// Codes for which A8 has a multiplier.
pub const MULTIPLIED: usize = 32;

/// Steps of a panel of bytes for which it has.
pub(crate) const MULTIPLIER_STEPS: usize = MULTIPLIED / 4;

/// The integers that stand for activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    /// How many balanced base-255 digits they have: 1, 2 or 3.
    pub count: usize,
    /// Whether they are one digit times an integer in 1…255 that 32 of k share.
    pub multiplied: bool,
}

/// How kernels take activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Digits as bytes.
    Bytes,
    /// Digits as 16-bit words, the two lowest in one word.
    Words,
    /// One digit as a byte, and multipliers apart, as i32.
    Multiplied,
}

/// The parts that an integer activation is cut into, each an i8 or an i16: `X = Σ limb · weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limbs {
    /// How they are held.
    pub form: Form,
    /// What a limb of 1 stands for, the most significant first.
    pub weights: &'static [i64],
}

impl Limbs {
    /// The limbs of integers in a form.
    pub fn new(form: Form, digits: Digits) -> Self {
        let weights: &[i64] = match (form, digits.count) {
            (Form::Multiplied, _) | (_, 1) => &[1],
            (Form::Words, 2) => &[1],
            (Form::Words, _) => &[65_025, 1],
            (Form::Bytes, 2) => &[255, 1],
            (Form::Bytes, _) => &[65_025, 255, 1],
        };
        Self { form, weights }
    }

    /// Whether limbs are words rather than bytes.
    pub fn words(self) -> bool {
        self.form == Form::Words
    }

    /// Codes in a step of a panel.
    pub fn step(self) -> usize {
        if self.words() { 2 } else { 4 }
    }

    /// Bytes of a limb.
    pub fn size(self) -> usize {
        if self.words() { 2 } else { 1 }
    }

    /// Cuts a line of integers into limbs, the most significant first: as many as there are weights.
    ///
    /// In a balanced system of an odd base the digits are unique, so any way to find them will do:
    /// this one rounds in f64, which compilers vectorise where they don't an integer division.
    #[inline(always)]
    pub fn cut(self, line: [i32; LINE], limbs: &mut [[i32; LINE]; 3]) {
        let mut rest = line;
        for (limb, weight) in limbs.iter_mut().zip(self.weights) {
            if *weight == 1 {
                *limb = rest;
                continue;
            }
            let (weight, inverse) = (*weight as i32, 1.0 / *weight as f64);
            for (limb, rest) in limb.iter_mut().zip(&mut rest) {
                *limb = round_half_even(f64::from(*rest) * inverse);
                *rest -= *limb * weight;
            }
        }
    }
}

/// The nearest integer, half to even, of an f64 below 2³¹ in magnitude.
///
/// One addition, which every vector unit has, where rounding instructions are not part of every x86-64:
/// it moves the integer to the lowest bits. (`as` would check for numbers that don't fit.)
#[inline(always)]
pub fn round_half_even(v: f64) -> i32 {
    /// 1.5 · 2⁵², whose last bit is 1.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    (v + ROUND).to_bits() as i32
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

impl<'a> IntPortion<'a> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.codes.len() / self.stride
    }

    /// Lines of the portion, the last one possibly partial.
    pub fn lines(&self) -> usize {
        self.cols.div_ceil(LINE)
    }

    /// The image's formula, if it goes with the signs there are, as in
    /// [`Portion::closed_form`](crate::Portion::closed_form).
    pub fn closed_form(&self) -> Option<Magnitudes> {
        self.image
            .closed_form
            .filter(|form| self.signs.is_some() == matches!(form, Magnitudes::BelowOne))
    }

    /// A row's codes from the portion's first column to the end of the row.
    pub fn row_codes(&self, row: usize) -> &'a [u8] {
        &self.codes[row * self.stride..][self.first..self.stride]
    }

    /// A row's signs from the portion's first column on; empty without a sign plane.
    pub fn row_signs(&self, row: usize) -> &'a [u8] {
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

/// Activations of the panel shape: a tile's columns of a block of k.
#[derive(Clone, Copy, Debug)]
pub struct IntTileInput<'a> {
    /// `[limbs][steps][width]`, a `u32` being the four bytes or two words of a token's step; in
    /// [`Form::Multiplied`] then the multipliers, `[steps/8][width]`.
    pub x: &'a [u32],
    /// Steps of the block: a multiple of 8 bytes or 16 words, zero beyond its columns.
    pub steps: usize,
    /// Tokens of the tile, padded to a multiple of the kernel's lanes.
    pub width: usize,
    /// How activations are cut.
    pub limbs: Limbs,
    /// Codes that will be decoded soon: they are asked for, line by line, between products.
    pub ahead: &'a [u8],
}

/// What becomes of the integer sums of one panel and one tile.
///
/// A sum S is over a group of columns. It is exact in f64 while it is below 2⁵³ in magnitude, but for the third
/// plane of an image: that has sums of its own, and S is rounded when both are added. At the end of its group
/// it is scaled: `total (+)= (S · sx) · scale`, each operation rounded.
#[derive(Debug)]
pub struct IntTileSums<'a> {
    /// Sums of a group that began in an earlier block or goes on in the next one, `[PANEL_ROWS][stride]`,
    /// the tile's tokens first. With three planes, the same of the third behind them.
    pub sums: &'a mut [f64],
    /// Scaled sums, `[PANEL_ROWS][stride]`.
    pub totals: &'a mut [f64],
    /// Distance of rows.
    pub stride: usize,
    /// Rows of the panel that count.
    pub rows: usize,
    /// Whether the first group began in an earlier block.
    pub resume: bool,
    /// Whether the last group ends in this block.
    pub ends: bool,
    /// Whether there are totals of earlier groups to add to.
    pub add: bool,
    /// sx of the tile's tokens.
    pub steps: &'a [f64],
    /// The image's step times the scale of each row and group of the block, `[PANEL_ROWS][groups]`.
    pub scales: &'a [f64],
}

/// Steps of a group that is short.
pub(crate) const SHORT_GROUP: usize = 64;

/// The loops of a tile: sums over many steps, or over short groups of columns, or with multipliers.
pub(crate) const WHOLE_TILE: u8 = 0;
pub(crate) const GROUPS_TILE: u8 = 1;
pub(crate) const MULTIPLIED_TILE: u8 = 2;

/// Starts of a panel, from some row on.
#[derive(Clone, Copy)]
pub(crate) struct Starts<'a> {
    pub values: &'a [i32],
    pub row: usize,
    pub per_row: usize,
}

/// Which sums a fold is about.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The first row.
    pub row: usize,
    /// The group, of those in the block.
    pub group: usize,
    pub groups: usize,
    /// Whether nothing has been summed of this group.
    pub start: bool,
    /// Whether all of this group has been.
    pub end: bool,
}

/// A decoded integer panel.
///
/// For each row and plane it has steps of 32 bits: four magnitudes as bytes, or two signed words. With
/// bytes a further plane holds what x is xored with, by the weights' signs. That makes another integer of
/// x; what is wrong with it is made good by where sums start.
#[derive(Clone, Copy, Debug)]
pub struct IntPanel<'a> {
    /// For each row its planes, and with bytes its signs, side by side.
    pub rows: &'a [IntRow],
    /// Where sums start, with bytes: `[PANEL_ROWS][⌈steps/start_steps⌉][planes]`.
    pub starts: &'a [i32],
    /// Steps that have a start in common: those of a group, or of a multiplier. A multiple of 8.
    pub start_steps: usize,
    /// Steps of a group.
    pub group_steps: usize,
}

/// Where a panel is decoded to; the parts are those of [`IntPanel`].
#[derive(Debug)]
pub struct IntPanelMut<'a> {
    /// See [`IntPanel::rows`].
    pub rows: &'a mut [IntRow],
    /// See [`IntPanel::starts`].
    pub starts: &'a mut [i32],
    /// See [`IntPanel::start_steps`].
    pub start_steps: usize,
}

impl IntPanel<'_> {
    /// The number of [`IntRow`]s that a row of a panel takes.
    pub fn pitch(planes: usize, words: bool) -> usize {
        planes + usize::from(!words)
    }
}
