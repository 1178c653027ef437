//! Integer modes: what their kernels are handed, and what an instruction set brings for them.
//!
//! An [`Operand`] says how weights and activations meet: as words (i16 · i16), or as bytes (u8 · i8, signs on x). The
//! weights of a [`QuantisedTable`] are decoded into planes of one byte each, the activations cut into [`Limbs`]; products
//! of both are summed exactly, in i32. `Int` is an operand on some ISA, `Decoder` a way to decode a line for it. The
//! loops, gemv for few tokens and gemm for many, are written once over both.

mod gemm;
mod gemv;
mod limbs;
pub mod tiles;

use bytemuck::Pod;

use crate::isa::{Feature, Isa};
use crate::quantised::QuantisedTable;
use crate::table::ClosedForm;
use crate::weights::{Codes, LINE, MC};

pub(crate) use gemm::{GemmEntry, Groups, Microkernel, Microkernels, groups, multiplied, whole};
pub(crate) use gemv::Gemv;
pub use limbs::{Digits, Limbs, MULTIPLIED, Operand, round_half_even};

/// 32-bit words of a panel's row (`kc`): four codes as bytes, or two as words. With 48
/// rows a plane of it is 147 KiB: a panel and a tile of tokens share a second-level cache of 512 KiB. On a
/// Zen 4 512, 768 and 1024 did the same by themselves; fewer blocks of k are fewer sums to add.
pub const KC: usize = 768;

/// A plane of a decoded row of a panel, padded as [`float::PanelRow`](crate::float::PanelRow) is.
pub type PanelRow = [u32; KC + 16];

/// Words of a panel of bytes for which A8 has a multiplier.
pub(crate) const MULTIPLIED_WORDS: usize = MULTIPLIED / 4;

/// Words of a group of columns that is short.
pub(crate) const SHORT_GROUP: usize = 64;

/// Some columns of some rows of a matrix of weights.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Codes and signs.
    pub codes: Codes<'a>,
    /// The table.
    pub table: &'a QuantisedTable,
    /// Lines after which gemv starts a new sum; at least 1.
    pub group_lines: usize,
}

impl Weights<'_> {
    /// Whether there is a plane of signs.
    pub(crate) fn signed(&self) -> bool {
        self.codes.signs.is_some()
    }

    /// The table's formula, if it [suits](ClosedForm::suits) the signs.
    pub(crate) fn closed_form(&self) -> Option<ClosedForm> {
        self.table.closed_form.filter(|form| form.suits(self.signed()))
    }
}

/// Activations of gemv: `[lines][tokens][limbs][64]`, as bytes or words, zero beyond the
/// columns. (So what codes stand there does not matter: a quantised table has no NaN.)
#[derive(Clone, Copy, Debug)]
pub struct GemvX<'a> {
    /// The packed limbs.
    pub x: &'a [u8],
    /// Tokens, at least 1.
    pub tokens: usize,
    /// How activations are cut.
    pub limbs: Limbs,
}

/// Activations of gemm: a tile's columns of a block of k.
#[derive(Clone, Copy, Debug)]
pub struct TileX<'a> {
    /// `[limbs][words][width]`, a `u32` being four bytes or two words of a token; with
    /// [multipliers](Limbs::multiplied) then those, `[words/8][width]`.
    pub x: &'a [u32],
    /// Words of the block: a multiple of 8 with bytes or 16 with words, zero beyond its columns.
    pub words: usize,
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
/// plane of a table: that has sums of its own, and S is rounded when both are added. At the end of its group
/// it is scaled: `total (+)= (S · sx) · scale`, each operation rounded.
#[derive(Debug)]
pub struct TileSums<'a> {
    /// Sums of a group that began in an earlier block or goes on in the next one, `[MC][stride]`,
    /// the tile's tokens first. With three planes, the same of the third behind them.
    pub sums: &'a mut [f64],
    /// Scaled sums, `[MC][stride]`.
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
    pub token_scales: &'a [f64],
    /// The table's step times the scale of each row and group of the block, `[MC][groups]`.
    pub scales: &'a [f64],
}

/// A decoded panel.
///
/// For each row and plane it has words of 32 bits: four magnitudes as bytes, or two signed words. With
/// bytes a further plane holds what x is xored with, by the weights' signs. That makes another integer of
/// x; what is wrong with it is made good by where sums start.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// For each row its planes, and with bytes its signs, side by side.
    pub rows: &'a [PanelRow],
    /// Where sums start, with bytes: `[MC][⌈words/start_words⌉][planes]`.
    pub compensation: &'a [i32],
    /// Words that have a start in common: those of a group, or of a multiplier. A multiple of 8.
    pub start_words: usize,
    /// Words of a group.
    pub group_words: usize,
}

/// Where a panel is decoded to; the parts are those of [`Panel`].
#[derive(Debug)]
pub struct PanelMut<'a> {
    /// See [`Panel::rows`].
    pub rows: &'a mut [PanelRow],
    /// See [`Panel::compensation`].
    pub compensation: &'a mut [i32],
    /// See [`Panel::start_words`].
    pub start_words: usize,
}

impl Panel<'_> {
    /// The number of [`PanelRow`]s that a row of a panel takes.
    pub fn pitch(planes: usize, operand: Operand) -> usize {
        planes + usize::from(operand == Operand::U8I8)
    }
}

/// Vectors of i32, in which products are summed.
pub(crate) trait Sums: Sized + 'static {
    type Isa: Isa;
    /// A vector.
    type V: Copy;
    /// What a vector is in memory.
    type Lanes: Pod;
    /// What sums are widened to: two vectors of half the lanes.
    type Doubles: Doubles<Isa = Self::Isa>;

    /// Lanes of a vector.
    const LANES: usize = size_of::<Self::Lanes>() / size_of::<u32>();

    fn zero(isa: Self::Isa) -> Self::V;
    fn splat(isa: Self::Isa, word: u32) -> Self::V;
    fn load(isa: Self::Isa, from: &Self::Lanes) -> Self::V;
    fn widen(isa: Self::Isa, v: Self::V) -> [F<Self>; 2];
    /// `sums + part · by`.
    fn multiply_add(isa: Self::Isa, sums: Self::V, part: Self::V, by: Self::V) -> Self::V;
    /// `256 · high + low`.
    fn shift_add(isa: Self::Isa, high: Self::V, low: Self::V) -> Self::V;
}

/// Vectors of f64, of half as many lanes as those of i32.
pub(crate) trait Doubles: Sized + 'static {
    type Isa: Isa;
    type V: Copy;
    type Lanes: Pod;
    /// As many rows of floats as an i32 vector has lanes, each as long.
    type Block: Pod + AsRef<[Self::Row]> + AsMut<[Self::Row]>;
    type Row: Pod;
    const LANES: usize = size_of::<Self::Lanes>() / size_of::<f64>();

    fn splat(isa: Self::Isa, value: f64) -> Self::V;
    fn load(isa: Self::Isa, from: &Self::Lanes) -> Self::V;
    fn store(isa: Self::Isa, v: Self::V, to: &mut Self::Lanes);
    fn mul(isa: Self::Isa, a: Self::V, b: Self::V) -> Self::V;
    fn add(isa: Self::Isa, a: Self::V, b: Self::V) -> Self::V;
    /// Two vectors rounded to f32.
    fn round(isa: Self::Isa, v: [Self::V; 2]) -> Self::Row;
    /// Swaps rows and columns.
    fn transpose(isa: Self::Isa, rows: Self::Block) -> Self::Block;
}

/// The vector type of sums.
pub(crate) type V<O> = <<O as Int>::Sums as Sums>::V;
/// What it is in memory.
pub(crate) type Lanes<O> = <<O as Int>::Sums as Sums>::Lanes;
/// The f64 vector type that sums are widened to.
pub(crate) type F<S> = <<S as Sums>::Doubles as Doubles>::V;
/// The token of an operand.
pub(crate) type IsaOf<O> = <<O as Int>::Sums as Sums>::Isa;

/// An operand on an ISA.
pub(crate) trait Int: Sized + 'static {
    /// Its vectors, and the ISA.
    type Sums: Sums;
    /// A part of an activation: i8 or i16.
    type Limb: Pod;
    /// A table, in registers if it fits.
    type Regs<'a>;
    /// A decoded line in P planes.
    type Line<const P: usize>: Copy;

    const OPERAND: Operand;
    /// The most lines of which i32 holds the sums of a lane.
    const FLUSH_LINES: usize;
    /// The most words of a panel of which it does.
    const FLUSH_WORDS: usize;
    /// Whether gemm joins the planes of short groups in i32: in bytes their sum is below 64 · 4 · 65,535 · 127 < 2³¹; in
    /// words they must be widened first.
    const JOINED: bool = matches!(Self::OPERAND, Operand::U8I8);

    /// A table of which P planes are looked up, none where there is a formula.
    fn load(isa: IsaOf<Self>, table: &QuantisedTable, lookups: usize) -> Self::Regs<'_>;

    /// Adds the products of a line to each plane's sums.
    fn dot<const P: usize>(
        isa: IsaOf<Self>,
        weights: &Self::Line<P>,
        x: &[Self::Limb; LINE],
        sums: &mut [V<Self>; P],
    );
    /// The sum of all lanes.
    fn sum(isa: IsaOf<Self>, v: V<Self>) -> i64;
    /// Those of four vectors.
    fn sum4(isa: IsaOf<Self>, v: [V<Self>; 4]) -> [i64; 4];

    /// Stores a line of a panel's row: its planes, and with bytes the signs.
    fn store_line<const P: usize>(
        isa: IsaOf<Self>,
        weights: &Self::Line<P>,
        to: &mut [PanelRow],
        line: usize,
    );
    /// Where the sums of some words of magnitudes start, for what x is xored with by the signs.
    fn compensation(isa: IsaOf<Self>, magnitudes: &[[u32; 8]], signs: &[[u32; 8]]) -> i32;
    /// Adds the products of a word of weights, in all lanes, to each plane's sums.
    fn madd<const P: usize>(
        isa: IsaOf<Self>,
        sums: &mut [V<Self>; P],
        weights: &[V<Self>; P],
        sign: V<Self>,
        x: V<Self>,
    );
}

/// A way to decode a line of codes, and its signs, into P planes.
pub(crate) trait Decoder<O: Int, const P: usize> {
    /// Whether it is for weights with a plane of signs, or for those without.
    const SIGNED: bool;
    /// Whether it looks planes up.
    const LOOKUP: bool;

    /// A line; `signs` is 0 without a plane of them.
    fn decode(isa: IsaOf<O>, regs: &O::Regs<'_>, codes: &[u8; LINE], signs: u64) -> O::Line<P>;
}

/// One operand of a kernel. What has to be run is unsafe: its caller vouches for the features.
pub(crate) struct IntEntry {
    pub features: &'static [Feature],
    pub operand: Operand,
    /// i32 lanes of a vector.
    pub lanes: usize,
    /// The decoder of these weights.
    pub decoder: fn(&Weights<'_>) -> &'static IntDecoder,
    pub gemm: GemmEntry,
}

/// A decoder, and the loops it is compiled into.
pub(crate) struct IntDecoder {
    /// Those for more vectors of limbs first, the one for one last.
    pub gemv: &'static [Gemv],
    /// Decodes a portion into a panel.
    pub decode: unsafe fn(&Weights<'_>, &mut PanelMut<'_>),
}

/// The gemv loops that a decoder is compiled into.
pub(crate) trait Loops<D, const P: usize> {
    const GEMV: &'static [Gemv];
}

/// A decoder as the lists of an ISA have it.
pub(crate) const fn decoder<O, D, const P: usize>() -> &'static IntDecoder
where
    O: Int + Loops<D, P>,
    D: Decoder<O, P>,
{
    const { &IntDecoder { gemv: O::GEMV, decode: gemm::decode::<O, D, P> } }
}

/// The decoders of an operand, by what they decode.
pub(crate) trait Decoders: Int {
    /// [`ClosedForm::Magnitude`], with a plane of signs.
    type Magnitude: Decoder<Self, 1>;
    /// [`ClosedForm::Signed`].
    type Integer: Decoder<Self, 1>;
    /// Any table, with a plane of signs.
    type Signed: Decoder<Self, 1> + Decoder<Self, 2> + Decoder<Self, 3>;
    /// Any table, without.
    type Unsigned: Decoder<Self, 1> + Decoder<Self, 2> + Decoder<Self, 3>;
    /// Tables without a plane of signs whose magnitudes depend on seven bits.
    type Half: Decoder<Self, 2>;
}

/// The decoder of these weights.
pub(crate) fn choose<O: Decoders>(w: &Weights<'_>) -> &'static IntDecoder {
    one_plane::<O>(w).unwrap_or_else(|| match (w.table.count, w.signed()) {
        (..=2, true) => decoder::<O, O::Signed, 2>(),
        (..=2, false) if w.table.seven_bits => decoder::<O, O::Half, 2>(),
        (..=2, false) => decoder::<O, O::Unsigned, 2>(),
        (_, true) => decoder::<O, O::Signed, 3>(),
        (_, false) => decoder::<O, O::Unsigned, 3>(),
    })
}

/// The decoder of these weights, if their table has one plane.
pub(crate) fn one_plane<O: Decoders>(w: &Weights<'_>) -> Option<&'static IntDecoder> {
    match (w.closed_form(), w.table.count) {
        (Some(ClosedForm::Magnitude), _) => Some(decoder::<O, O::Magnitude, 1>()),
        (Some(_), _) => Some(decoder::<O, O::Integer, 1>()),
        (None, 1) if w.signed() => Some(decoder::<O, O::Signed, 1>()),
        (None, 1) => Some(decoder::<O, O::Unsigned, 1>()),
        _ => None,
    }
}

/// Rounds totals to f32, biases added, and transposes: `[MC][stride]`, biases, `[tokens][MC]`.
pub(crate) type Round = unsafe fn(&[f64], usize, &[f64; MC], &mut [[f32; MC]]);
