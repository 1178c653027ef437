//! F32: what its kernels are handed, and what an instruction set brings for them.
//!
//! `Float` is a vector of floats on some ISA, `Decoder` a way to turn a line of codes into such vectors. The loops,
//! gemv for few tokens and gemm for many, are written once over both. A `FloatEntry` lists what an ISA has.

pub mod bf16;
mod gemm;
mod gemv;

use std::ops::Range;

use bytemuck::Pod;

use crate::isa::{Feature, Isa};
use crate::table::{ClosedForm, Planes, Table};
use crate::weights::{Codes, LINE};

pub(crate) use gemm::{Microkernel, microkernel};
pub(crate) use gemv::{Gemv, LINES, QUARTERS, WHOLE, gemv};

/// Columns of a panel (`kc`). 48 rows of it are 96 KiB, which leaves most of an L2 to the activations; the sum of a
/// block goes on in registers, so it also sets how often sums are stored.
pub const KC: usize = 512;

/// A decoded row of a panel. The 16 extra columns keep equal columns of neighbouring rows out of
/// the same L1 set.
pub type PanelRow = [f32; KC + 16];

/// Some rows of a matrix of weights, in full width, with what decodes them.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Codes and signs.
    pub codes: Codes<'a>,
    /// The table.
    pub table: &'a Table,
    /// Whether formulas may be used that don't give the entries that are not finite.
    pub finite: bool,
    /// Scales.
    pub scales: Scales<'a>,
}

impl Weights<'_> {
    /// Whether there is a plane of signs.
    pub(crate) fn signed(&self) -> bool {
        self.codes.signs.is_some()
    }

    /// The table's formula, if it gives all entries that are in use and [suits](ClosedForm::suits) the signs.
    pub(crate) fn closed_form(&self) -> Option<ClosedForm> {
        let total = self.finite || self.table.closed_form_total;
        self.table.closed_form.filter(|form| total && form.suits(self.signed()))
    }

    /// Whether half of the table is enough, in two byte planes: codes have their sign in the top bit, and no
    /// plane of signs is beside them.
    pub(crate) fn sign_magnitude(&self) -> bool {
        self.table.needed == Planes::Two && self.table.sign_magnitude && !self.signed()
    }
}

/// The scales of some rows.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// The scales of the whole matrix, row-major.
    pub values: &'a [f32],
    /// Scales in a row of `values`.
    pub stride: usize,
    /// Rows of weights that share a row of `values`.
    pub block_rows: usize,
    /// The first of the rows within the matrix.
    pub first_row: usize,
    /// Which of its row's scales a weight has.
    pub groups: Groups<'a>,
}

impl<'a> Scales<'a> {
    /// The scales of a row.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[self.offset(row)..][..self.stride]
    }

    /// Where the scales of a row begin; rows beyond the last have theirs too.
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
    /// Other groups of a multiple of 16: the indices of the scales of each line's four quarters.
    Quarters(&'a [[u32; 4]]),
}

/// The order in which a kernel decodes a line: the weight at position `p` is that of code `order[p]`.
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

/// Activations of gemv: `[lines][tokens][64]`, each line in the kernel's order, zero
/// beyond k. Tokens lie side by side because a k of 1024 or 3072 would put the same column of all
/// of them into one L1 set. Align them to 64 bytes: loads across cache lines take twice as long.
#[derive(Clone, Copy, Debug)]
pub struct GemvX<'a> {
    /// The packed activations.
    pub x: &'a [f32],
    /// Tokens, at least 1.
    pub tokens: usize,
}

/// Activations of gemm for one tile and one block of k: `[columns][width]` with the
/// tile's tokens as `width` neighbouring floats.
#[derive(Clone, Copy, Debug)]
pub struct TileX<'a> {
    /// The packed activations, a row for each column of the panel.
    pub x: &'a [f32],
    /// Tokens of the tile, padded to a multiple of the kernel's lanes.
    pub width: usize,
}

/// The sums of one panel and one tile.
#[derive(Debug)]
pub struct TileSums<'a> {
    /// `[MC][stride]`, the tile's tokens first.
    pub values: &'a mut [f32],
    /// Distance of rows.
    pub stride: usize,
    /// Rows of the panel that count.
    pub rows: usize,
    /// Whether to add to the sums rather than to start them.
    pub add: bool,
}

/// Vectors of floats on an ISA.
pub(crate) trait Float: Sized + 'static {
    type Isa: Isa;
    /// A vector.
    type V: Copy;
    /// What a vector is in memory.
    type Lanes: Pod;
    /// A decoded line, `[V; 64 / lanes]`.
    type Line: Copy + AsRef<[Self::V]> + AsMut<[Self::V]>;

    fn zero(isa: Self::Isa) -> Self::V;
    fn splat(isa: Self::Isa, value: f32) -> Self::V;
    fn load(isa: Self::Isa, from: &Self::Lanes) -> Self::V;
    fn store(isa: Self::Isa, v: Self::V, to: &mut Self::Lanes);
    fn mul(isa: Self::Isa, a: Self::V, b: Self::V) -> Self::V;
    fn add(isa: Self::Isa, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`.
    fn fma(isa: Self::Isa, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The sum of all lanes, in an order of its own.
    fn sum(isa: Self::Isa, v: Self::V) -> f32;
    fn zero_line(isa: Self::Isa) -> Self::Line;

    /// Lanes of a vector.
    const LANES: usize = size_of::<Self::Lanes>() / size_of::<f32>();
}

/// A way to decode a line of codes, and its signs.
pub(crate) trait Decoder<O: Float> {
    /// What README, the CLI and tests call it.
    const NAME: &'static str;
    /// Whether it is for weights with a plane of signs, or for those without.
    const SIGNED: bool;
    /// What decoded weights are to be multiplied with: a power of two.
    const UNIT: f32 = 1.0;
    /// Whether gemv unrolls the rows of a line by hand: see there.
    const UNROLLED: bool = false;
    /// The order of a decoded line.
    type Order: LineOrder<O>;
    /// What it needs of a table, in registers if it fits.
    type Regs<'a>;

    fn load(isa: O::Isa, table: &Table) -> Self::Regs<'_>;

    /// A line of weights as they stand. `signs` is 0 without a plane of them.
    fn decode(isa: O::Isa, regs: &Self::Regs<'_>, codes: &[u8; LINE], signs: u64) -> O::Line;
}

/// An order of decoded lines, and where the scales of a line's quarters belong in it.
pub(crate) trait LineOrder<O: Float> {
    const ORDER: Order;
    /// A vector of scales for each class of vectors of a line: as many neighbouring ones as make up a class.
    type Classes: Copy + AsRef<[O::V]>;
    fn classes(isa: O::Isa, scales: [f32; 4]) -> Self::Classes;
    /// One scale for all classes: to make four of one costs loads that wait for stores.
    fn same(isa: O::Isa, scale: f32) -> Self::Classes;
}

/// The codes as they stand: a quarter of a line is one vector or some neighbouring ones.
pub(crate) struct Natural;

impl<O: Float> LineOrder<O> for Natural {
    const ORDER: Order = NATURAL;
    type Classes = [O::V; 4];

    #[inline(always)]
    fn classes(isa: O::Isa, scales: [f32; 4]) -> [O::V; 4] {
        quarter_classes::<O>(isa, scales)
    }

    #[inline(always)]
    fn same(isa: O::Isa, scale: f32) -> [O::V; 4] {
        [O::splat(isa, scale); 4]
    }
}

/// A vector of each scale.
#[inline(always)]
pub(crate) fn quarter_classes<O: Float>(isa: O::Isa, s: [f32; 4]) -> [O::V; 4] {
    [O::splat(isa, s[0]), O::splat(isa, s[1]), O::splat(isa, s[2]), O::splat(isa, s[3])]
}

/// The F32 part of a kernel. What has to be run is unsafe: its caller vouches for the features.
pub(crate) struct FloatEntry {
    pub features: &'static [Feature],
    /// Lanes of a vector.
    pub lanes: usize,
    /// The decoder of these weights.
    pub decoder: fn(&Weights<'_>) -> &'static FloatDecoder,
    /// gemm's micro-kernels, the one for the most vectors of tokens first and the one for a single one last.
    pub gemm: &'static [Microkernel],
}

impl FloatEntry {
    /// The widest tile, in tokens.
    pub fn tile_width(&self) -> usize {
        self.lanes * self.gemm[0].vectors
    }
}

/// A decoder, and the loops it is compiled into.
pub(crate) struct FloatDecoder {
    pub name: &'static str,
    pub order: &'static Order,
    /// By layout of scales: [`WHOLE`], [`LINES`], [`QUARTERS`]. Those for more tokens first, the one for one last.
    pub gemv: [&'static [Gemv]; 3],
    /// Decodes some lines of all rows into a panel, scales multiplied in.
    pub decode: unsafe fn(&Weights<'_>, Range<usize>, &mut [PanelRow]),
}

/// The gemv loops that a decoder is compiled into.
pub(crate) trait Loops<D> {
    const GEMV: [&'static [Gemv]; 3];
}

/// A decoder as the lists of an ISA have it.
pub(crate) const fn decoder<O: Float + Loops<D>, D: Decoder<O>>() -> &'static FloatDecoder {
    const {
        &FloatDecoder {
            name: D::NAME,
            order: &D::Order::ORDER,
            gemv: O::GEMV,
            decode: gemm::decode::<O, D>,
        }
    }
}

/// Decoders for weights with a plane of signs and without.
pub(crate) fn either(
    w: &Weights<'_>,
    signed: &'static FloatDecoder,
    unsigned: &'static FloatDecoder,
) -> &'static FloatDecoder {
    if w.signed() { signed } else { unsigned }
}
