//! NEON with products of bytes, integer modes: `udot` or `usdot` multiplies magnitudes (u8) by digits.
//!
//! Sixteen products an instruction, four to a lane. Magnitudes are computed (QINS linear: one saturating
//! subtraction, int8: one `abs`) or looked up by four-register `tbl`, two or four for 16 codes and a
//! plane. (For 256 entries in two planes scalar loads would do as well on a Neoverse V2, and be slower on
//! an M1: see `neon/f32.rs`.) gemv is bound by decoding, gemm by products and the exclusive or. There is no machine to time this on: rustc 1.96 makes some 60 instructions of a line of QINS linear
//! and its signs, for a token of one digit, of which 8 are products.
//!
//! A sign goes to the digits, by an exclusive or with a mask, and what is wrong with them then is the
//! product of the magnitudes and the mask:
//!
//! - `usdot` takes digits as signed. The mask is −1 for a negative weight, else 0; `x ^ −1 = −x − 1`.
//! - `udot`, which older CPUs have too, takes them as unsigned. The mask is 127 for a negative weight, else
//!   128; `x ^ 128` is x + 128 there, and `x ^ 127` is −x + 127.
//!
//! In both cases `±L·x = L·(x ^ mask) − L·mask`. The last product is found once for a line of a row and
//! all its tokens and limbs; in gemm it is where sums start.
//!
//! Overflow: sums wrap, so it is enough that i32 holds what they come to. A lane's is at most 4 · 255 · 127
//! a word, of which a panel has 768: 1.0e8. In gemv it is 16 · 255 · 127 a line; every 1,024
//! lines (65,536 of k) are widened, of which even all lanes together are 65,536 · 255 · 127 < 2³¹, so
//! that the horizontal sum holds them too. What sums start from is at most 768 · 4 · 255 · 128 = 1.0e8.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use super::neon::{HasNeon, I32x4, Line as Bytes, expand, quarter};
use crate::int::{
    Decoder, Decoders, GemmEntry, Groups, Int, IntEntry, KC, Microkernel, Microkernels, Operand,
    PanelRow, choose, groups, multiplied, whole,
};
use crate::isa::{Isa, with_features};
use crate::quantised::{EntrySign, QuantisedTable};
use crate::table::ClosedForm;
use crate::weights::LINE;

/// Bytes, with one of the instructions.
pub(crate) struct U8I8<M>(PhantomData<M>);

/// An instruction that multiplies bytes.
pub(crate) trait Dot: 'static {
    type Isa: HasNeon;
    /// What x is xored with where a weight is not negative.
    const PLAIN: u8;

    /// Adds four products to each lane of `sum`.
    fn dot(isa: Self::Isa, sum: int32x4_t, magnitudes: uint8x16_t, x: uint8x16_t) -> int32x4_t;
}

pub(crate) const fn entry<M: Dot>() -> IntEntry {
    IntEntry {
        features: M::Isa::FEATURES,
        operand: Operand::U8I8,
        lanes: 4,
        decoder: choose::<U8I8<M>>,
        gemm: GemmEntry::of::<U8I8<M>>(),
    }
}

impl<M: Dot> Decoders for U8I8<M> {
    type Magnitude = Magnitude;
    type Integer = Integer;
    type Signed = Lookup<true, 4>;
    type Unsigned = Lookup<false, 4>;
    type Half = Lookup<false, 2>;
}

impl<M: Dot> Microkernels<1> for U8I8<M> {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 1, 4, 6>(), whole::<Self, 1, 2, 12>(), whole::<Self, 1, 1, 8>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 1, 4, 2>(), groups::<Self, 1, 2, 4>(), groups::<Self, 1, 1, 6>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[
        multiplied::<Self, 1, 4, 3>(),
        multiplied::<Self, 1, 2, 6>(),
        multiplied::<Self, 1, 1, 6>(),
    ];
}

impl<M: Dot> Microkernels<2> for U8I8<M> {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 2, 4, 3>(), whole::<Self, 2, 2, 6>(), whole::<Self, 2, 1, 6>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 2, 4, 1>(), groups::<Self, 2, 2, 2>(), groups::<Self, 2, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[
        multiplied::<Self, 2, 4, 1>(),
        multiplied::<Self, 2, 2, 3>(),
        multiplied::<Self, 2, 1, 3>(),
    ];
}

impl<M: Dot> Microkernels<3> for U8I8<M> {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 3, 2, 4>(), whole::<Self, 3, 1, 6>()];
    const GROUPS: &'static [Groups] = &[];
    const MULTIPLIED: &'static [Microkernel<Self>] =
        &[multiplied::<Self, 3, 2, 2>(), multiplied::<Self, 3, 1, 3>()];
}

/// The magnitudes of a line by planes, what x is xored with, and what is wrong with the products then.
#[derive(Clone, Copy)]
pub(crate) struct Line<const P: usize> {
    planes: [Bytes; P],
    mask: Bytes,
    excess: [int32x4_t; P],
}

impl<M: Dot> Int for U8I8<M> {
    type Sums = I32x4<M::Isa>;
    type Limb = i8;
    type Regs<'a> = &'a QuantisedTable;
    type Line<const P: usize> = Line<P>;
    const OPERAND: Operand = Operand::U8I8;
    const FLUSH_LINES: usize = 1024;
    const FLUSH_WORDS: usize = KC;

    fn load(_: M::Isa, table: &QuantisedTable, _: usize) -> &QuantisedTable {
        table
    }

    #[inline(always)]
    fn dot<const P: usize>(
        isa: M::Isa,
        weights: &Line<P>,
        x: &[i8; LINE],
        sums: &mut [int32x4_t; P],
    ) {
        let x: Bytes = bytemuck::cast(*x);
        for p in 0..P {
            sums[p] = subtract::<M>(isa, sums[p], weights.excess[p]);
        }
        for j in 0..4 {
            let x = xor::<M>(isa, x[j], weights.mask[j]);
            for p in 0..P {
                sums[p] = M::dot(isa, sums[p], weights.planes[p][j], x);
            }
        }
    }

    with_features! { "neon";
        fn sum(_isa: M::Isa, v: int32x4_t) -> i64 { vaddlvq_s32(v) }
        fn sum4(_isa: M::Isa, v: [int32x4_t; 4]) -> [i64; 4] {
            let sums = vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
            let [a, b, c, d]: [i32; 4] = bytemuck::cast(sums);
            [i64::from(a), i64::from(b), i64::from(c), i64::from(d)]
        }
        fn store_line<const P: usize>(
            _isa: M::Isa,
            weights: &Line<P>,
            to: &mut [PanelRow],
            line: usize,
        ) {
            for (to, bytes) in to.iter_mut().zip(weights.planes.iter().chain([&weights.mask])) {
                let words: &mut [u32; 16] = &mut to.as_chunks_mut().0[line];
                *words = bytemuck::cast(*bytes);
            }
        }
    }

    #[inline(always)]
    fn compensation(isa: M::Isa, magnitudes: &[[u32; 8]], masks: &[[u32; 8]]) -> i32 {
        let mut excess = zero::<M>(isa);
        for (magnitudes, masks) in magnitudes.iter().zip(masks) {
            let magnitudes: [uint8x16_t; 2] = bytemuck::cast(*magnitudes);
            let masks: [uint8x16_t; 2] = bytemuck::cast(*masks);
            excess = M::dot(isa, excess, magnitudes[0], masks[0]);
            excess = M::dot(isa, excess, magnitudes[1], masks[1]);
        }
        let [a, b, c, d]: [i32; 4] = bytemuck::cast(excess);
        -(a + b + c + d)
    }

    #[inline(always)]
    fn madd<const P: usize>(
        isa: M::Isa,
        sums: &mut [int32x4_t; P],
        weights: &[int32x4_t; P],
        mask: int32x4_t,
        x: int32x4_t,
    ) {
        let x = xor::<M>(isa, bytemuck::cast(x), bytemuck::cast(mask));
        for p in 0..P {
            sums[p] = M::dot(isa, sums[p], bytemuck::cast(weights[p]), x);
        }
    }
}

#[inline(always)]
fn zero<M: Dot>(_isa: M::Isa) -> int32x4_t {
    bytemuck::cast([0i32; 4])
}

#[inline(always)]
fn subtract<M: Dot>(_isa: M::Isa, a: int32x4_t, b: int32x4_t) -> int32x4_t {
    // SAFETY: the token proves NEON (`HasNeon`).
    unsafe { vsubq_s32(a, b) }
}

#[inline(always)]
fn xor<M: Dot>(_isa: M::Isa, x: uint8x16_t, mask: uint8x16_t) -> uint8x16_t {
    // SAFETY: as in `subtract`.
    unsafe { veorq_u8(x, mask) }
}

/// A line of magnitudes and bytes of all ones for negative weights.
#[inline(always)]
fn line<M: Dot, const P: usize>(isa: M::Isa, planes: [Bytes; P], negative: Bytes) -> Line<P> {
    let mut mask = negative;
    let mut excess = [zero::<M>(isa); P];
    for j in 0..4 {
        mask[j] = xor::<M>(isa, mask[j], bytemuck::cast([M::PLAIN; 16]));
        for p in 0..P {
            excess[p] = M::dot(isa, excess[p], planes[p][j], mask[j]);
        }
    }
    Line { planes, mask, excess }
}

/// QINS linear.
pub(crate) struct Magnitude;

impl<M: Dot> Decoder<U8I8<M>, 1> for Magnitude {
    const SIGNED: bool = true;
    const LOOKUP: bool = false;

    #[inline(always)]
    fn decode(isa: M::Isa, _: &&QuantisedTable, codes: &[u8; LINE], signs: u64) -> Line<1> {
        let (magnitudes, negative) = below_one(isa, codes, signs);
        line::<M, 1>(isa, [magnitudes], negative)
    }
}

/// int8.
pub(crate) struct Integer;

impl<M: Dot> Decoder<U8I8<M>, 1> for Integer {
    const SIGNED: bool = false;
    const LOOKUP: bool = false;

    #[inline(always)]
    fn decode(isa: M::Isa, table: &&QuantisedTable, codes: &[u8; LINE], _: u64) -> Line<1> {
        let flip = ClosedForm::flip(table.closed_form);
        let (magnitudes, negative) = integers(isa, codes, flip);
        line::<M, 1>(isa, [magnitudes], negative)
    }
}

/// Any table, or half of one, for codes with their sign in the top bit: so many quarters of it.
pub(crate) struct Lookup<const SIGNED: bool, const QUARTERS: usize>;

impl<M: Dot, const SIGNED: bool, const QUARTERS: usize, const P: usize> Decoder<U8I8<M>, P>
    for Lookup<SIGNED, QUARTERS>
{
    const SIGNED: bool = SIGNED;
    const LOOKUP: bool = true;

    #[inline(always)]
    fn decode(isa: M::Isa, table: &&QuantisedTable, codes: &[u8; LINE], signs: u64) -> Line<P> {
        let mut planes = [bytemuck::cast::<[u8; 64], Bytes>([0; 64]); P];
        for (plane, bytes) in planes.iter_mut().zip(&table.planes) {
            *plane = lookup(isa, bytes, codes, QUARTERS);
        }
        let entries = match table.sign {
            EntrySign::None => bytemuck::cast([0u8; 64]),
            EntrySign::TopBit => integers(isa, codes, 0).1,
            EntrySign::Table => lookup(isa, &table.negative, codes, 4),
        };
        let negative = if SIGNED { xor_signs(isa, entries, signs) } else { entries };
        line::<M, P>(isa, planes, negative)
    }
}

/// Functions of NEON alone, for the tokens of all kernels.
macro_rules! neon {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty $body:block
    )*) => { $(
        $(#[$doc])*
        #[inline(always)]
        fn $name<I: HasNeon>(_isa: I, $($arg: $type),*) -> $out {
            #[target_feature(enable = "neon")]
            #[inline]
            fn inner($($arg: $type),*) -> $out $body
            // SAFETY: the token proves NEON (`HasNeon`).
            unsafe { inner($($arg),*) }
        }
    )* };
}

neon! {
    /// Magnitudes of QINS linear, and bytes of all ones for negative weights.
    fn below_one(codes: &[u8; LINE], signs: u64) -> (Bytes, Bytes) {
        let mut magnitudes: Bytes = bytemuck::cast(*codes);
        for quarter in &mut magnitudes {
            *quarter = vqsubq_u8(*quarter, vdupq_n_u8(1));
        }
        (magnitudes, expand(signs))
    }

    /// Magnitudes of integers, and bytes of all ones for negative ones.
    fn integers(codes: &[u8; LINE], flip: u8) -> (Bytes, Bytes) {
        let mut magnitudes: Bytes = bytemuck::cast(*codes);
        let mut negative = magnitudes;
        for (magnitude, negative) in magnitudes.iter_mut().zip(&mut negative) {
            let value = vreinterpretq_s8_u8(veorq_u8(*magnitude, vdupq_n_u8(flip)));
            *magnitude = vreinterpretq_u8_s8(vabsq_s8(value));
            *negative = vcltzq_s8(value);
        }
        (magnitudes, negative)
    }

    /// Bytes xored with those that bits stand for.
    fn xor_signs(bytes: Bytes, signs: u64) -> Bytes {
        let mut signs = expand(signs);
        for (signs, bytes) in signs.iter_mut().zip(bytes) {
            *signs = veorq_u8(*signs, bytes);
        }
        signs
    }

    /// The bytes of a line: `tbl` gives zero for those that are not in its quarter.
    fn lookup(plane: &[u8; 256], codes: &[u8; LINE], quarters: usize) -> Bytes {
        let mut line: Bytes = bytemuck::cast(*codes);
        for codes in &mut line {
            let at = if quarters == 2 { vbicq_u8(*codes, vdupq_n_u8(0x80)) } else { *codes };
            let mut bytes = vdupq_n_u8(0);
            for q in 0..quarters {
                let index = vsubq_u8(at, vdupq_n_u8(64 * q as u8));
                bytes = vorrq_u8(bytes, vqtbl4q_u8(quarter(plane, q), index));
            }
            *codes = bytes;
        }
        line
    }
}
