//! NEON, integer modes: `smlal` multiplies signed words of weights by words of activations.
//!
//! Codes are widened to words (QINS linear, int8) or looked up one by one, and take their sign there:
//! ±255 at most for a byte plane. Four products an instruction: with the extensions for products of
//! bytes there are sixteen: see `bytes.rs`.
//!
//! Overflow: a product is at most 255 · 32,512 = 8,290,560, of which i32 holds 259. A lane gets 16 a
//! line, so gemv widens every 16 lines, and 2 a word, so a panel widens every 128 words; lanes
//! are widened before they are added to each other.

use std::arch::aarch64::*;

use super::{I32x4, Neon};
use crate::int::{
    Decoder, Decoders, GemmEntry, Groups, Int, IntEntry, Microkernel, Microkernels, Operand,
    PanelRow, choose, groups, whole,
};
use crate::isa::{Isa, with_features};
use crate::quantised::{PLANES, QuantisedTable};
use crate::table::ClosedForm;
use crate::weights::LINE;

/// Words, with `smlal`.
struct I16;

pub(crate) static ENTRY: IntEntry = IntEntry {
    features: Neon::FEATURES,
    operand: I16::OPERAND,
    lanes: 4,
    decoder: choose::<I16>,
    gemm: GemmEntry::of::<I16>(),
};

impl Decoders for I16 {
    type Magnitude = Magnitude;
    type Integer = Integer;
    type Signed = Lookup<true>;
    type Unsigned = Lookup<false>;
    type Half = Lookup<false>;
}

impl Microkernels<1> for I16 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 1, 4, 6>(), whole::<Self, 1, 2, 12>(), whole::<Self, 1, 1, 12>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 1, 4, 2>(), groups::<Self, 1, 2, 4>(), groups::<Self, 1, 1, 6>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<2> for I16 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 2, 4, 3>(), whole::<Self, 2, 2, 6>(), whole::<Self, 2, 1, 12>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 2, 4, 1>(), groups::<Self, 2, 2, 2>(), groups::<Self, 2, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<3> for I16 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 3, 2, 4>(), whole::<Self, 3, 1, 6>()];
    const GROUPS: &'static [Groups] = &[];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

/// The planes of a line as signed words.
type Line<const P: usize> = [Words; P];
type Words = [int16x8_t; LINE / 8];

/// The planes' words by codes, entries' signs included, and what int8 codes are xored with.
struct Regs {
    words: [[i16; 256]; PLANES],
    flip: u8,
}

impl Int for I16 {
    type Sums = I32x4<Neon>;
    type Limb = i16;
    type Regs<'a> = Regs;
    type Line<const P: usize> = Line<P>;
    const OPERAND: Operand = Operand::I16;
    const FLUSH_LINES: usize = 16;
    const FLUSH_WORDS: usize = 128;

    fn load(_: Neon, table: &QuantisedTable, lookups: usize) -> Regs {
        Regs { words: table.words(lookups), flip: ClosedForm::flip(table.closed_form) }
    }

    /// Words have their signs.
    fn compensation(_: Neon, _: &[[u32; 8]], _: &[[u32; 8]]) -> i32 {
        0
    }

    with_features! { "neon";
        fn dot<const P: usize>(
            _isa: Neon,
            weights: &Line<P>,
            x: &[i16; LINE],
            sums: &mut [int32x4_t; P],
        ) {
            let x: Words = bytemuck::cast(*x);
            for p in 0..P {
                for j in 0..8 {
                    let low = vmlal_s16(sums[p], vget_low_s16(weights[p][j]), vget_low_s16(x[j]));
                    sums[p] = vmlal_high_s16(low, weights[p][j], x[j]);
                }
            }
        }
        fn sum(_isa: Neon, v: int32x4_t) -> i64 { vaddlvq_s32(v) }
        fn sum4(_isa: Neon, v: [int32x4_t; 4]) -> [i64; 4] {
            [vaddlvq_s32(v[0]), vaddlvq_s32(v[1]), vaddlvq_s32(v[2]), vaddlvq_s32(v[3])]
        }
        fn store_line<const P: usize>(
            _isa: Neon,
            weights: &Line<P>,
            to: &mut [PanelRow],
            line: usize,
        ) {
            for p in 0..P {
                let words: &mut [u32; LINE / 2] = &mut to[p].as_chunks_mut().0[line];
                *words = bytemuck::cast(weights[p]);
            }
        }
        fn madd<const P: usize>(
            _isa: Neon,
            sums: &mut [int32x4_t; P],
            weights: &[int32x4_t; P],
            _sign: int32x4_t,
            x: int32x4_t,
        ) {
            let x = vreinterpretq_s16_s32(x);
            for p in 0..P {
                let weight = vreinterpretq_s16_s32(weights[p]);
                let low = vmull_s16(vget_low_s16(weight), vget_low_s16(x));
                let both = vpaddq_s32(low, vmull_high_s16(weight, x));
                sums[p] = vaddq_s32(sums[p], both);
            }
        }
    }
}

/// QINS linear.
struct Magnitude;

impl Decoder<I16, 1> for Magnitude {
    const SIGNED: bool = true;
    const LOOKUP: bool = false;

    with_features! { "neon";
        fn decode(_isa: Neon, _regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<1> {
            let mut line = [[vdupq_n_s16(0); 8]];
            for (words, codes) in line[0].iter_mut().zip(codes.as_chunks::<8>().0) {
                let less = vqsub_u8(bytemuck::cast(*codes), vdup_n_u8(1));
                *words = vreinterpretq_s16_u16(vmovl_u8(less));
            }
            negate(line, signs)
        }
    }
}

/// int8.
struct Integer;

impl Decoder<I16, 1> for Integer {
    const SIGNED: bool = false;
    const LOOKUP: bool = false;

    with_features! { "neon";
        fn decode(_isa: Neon, regs: &Regs, codes: &[u8; LINE], _signs: u64) -> Line<1> {
            let mut line = [[vdupq_n_s16(0); 8]];
            for (words, codes) in line[0].iter_mut().zip(codes.as_chunks::<8>().0) {
                let value = veor_u8(bytemuck::cast(*codes), vdup_n_u8(regs.flip));
                *words = vmovl_s8(vreinterpret_s8_u8(value));
            }
            line
        }
    }
}

/// Any table, a code at a time.
struct Lookup<const SIGNED: bool>;

impl<const SIGNED: bool, const P: usize> Decoder<I16, P> for Lookup<SIGNED> {
    const SIGNED: bool = SIGNED;
    const LOOKUP: bool = true;

    with_features! { "neon";
        fn decode[P](_isa: Neon, regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<P> {
            let mut line = [[vdupq_n_s16(0); 8]; P];
            for p in 0..P {
                let mut words = [0; LINE];
                for (word, code) in words.iter_mut().zip(codes) {
                    *word = regs.words[p][usize::from(*code)];
                }
                line[p] = bytemuck::cast(words);
            }
            // Without a plane the signs are 0, which the compiler sees.
            if signs == 0 { line } else { negate(line, signs) }
        }
    }
}

/// Negates words where bits say so.
#[target_feature(enable = "neon")]
#[inline]
fn negate<const P: usize>(mut line: Line<P>, signs: u64) -> Line<P> {
    let bits: uint16x8_t = bytemuck::cast([1u16, 2, 4, 8, 16, 32, 64, 128]);
    for j in 0..8 {
        let signs = vdupq_n_u16((signs >> (8 * j)) as u16);
        let negative = vreinterpretq_s16_u16(vtstq_u16(signs, bits));
        for p in 0..P {
            line[p][j] = vsubq_s16(veorq_s16(line[p][j], negative), negative);
        }
    }
    line
}
