//! AVX-512, integer modes: words of weights are multiplied by words of activations, with VNNI by
//! `vpdpwssd`, without by `vpmaddwd` and an addition.
//!
//! Half as many products an instruction as `vpdpbusd` of `avx512vbmi/u8i8.rs`, but of 16 bits, and without
//! work for signs: better where activations have two digits and tables one plane. gemm is bound by the products,
//! gemv by memory, without VNNI in cache by decoding.
//!
//! Codes are widened to words (QINS linear, int8), or looked up with `vpermi2w`: four of them, each in a
//! quarter of the table, and three blends by the code's upper bits. A sign is a masked subtraction.
//!
//! Overflow: i32 holds 129 additions of 2 · 255 · 32,512 to a lane; a line has two of them, a word one.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::f32::lookup;
use super::{Avx512, Avx512F, I32x16, wide_sum};
use crate::int::{
    Decoder, Decoders, GemmEntry, Groups, Int, IntEntry, Microkernel, Microkernels, Operand,
    PanelRow, choose, groups, whole,
};
use crate::isa::{Isa, with_features};
use crate::quantised::{PLANES, QuantisedTable};
use crate::table::ClosedForm;
use crate::weights::LINE;

/// Words, with an instruction (or two) that adds two products to a lane.
pub(crate) struct I16<M>(PhantomData<M>);

/// The instruction.
pub(crate) trait MultiplyAdd: 'static {
    type Isa: Avx512F;

    /// Of words, to each lane of `sum`.
    fn multiply_add(isa: Self::Isa, sum: __m512i, weights: __m512i, x: __m512i) -> __m512i;
}

/// `vpmaddwd`.
struct Vpmaddwd;

impl MultiplyAdd for Vpmaddwd {
    type Isa = Avx512;

    with_features! { "avx512f,avx512bw";
        fn multiply_add(_isa: Avx512, sum: __m512i, weights: __m512i, x: __m512i) -> __m512i {
            _mm512_add_epi32(sum, _mm512_madd_epi16(weights, x))
        }
    }
}

pub(crate) static ENTRY: IntEntry = IntEntry {
    features: Avx512::FEATURES,
    operand: Operand::I16,
    lanes: 16,
    decoder: choose::<I16<Vpmaddwd>>,
    gemm: GEMM,
};

/// Its gemm.
pub(crate) const GEMM: GemmEntry = GemmEntry::of::<I16<Vpmaddwd>>();

impl<M: MultiplyAdd> Decoders for I16<M> {
    type Magnitude = Magnitude;
    type Integer = Integer;
    type Signed = Lookup<true>;
    type Unsigned = Lookup<false>;
    type Half = Lookup<false>;
}

impl<M: MultiplyAdd> Microkernels<1> for I16<M> {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 1, 4, 6>(), whole::<Self, 1, 2, 12>(), whole::<Self, 1, 1, 12>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 1, 4, 2>(), groups::<Self, 1, 2, 4>(), groups::<Self, 1, 1, 6>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<2> for I16<Vpmaddwd> {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 2, 4, 2>(), whole::<Self, 2, 2, 6>(), whole::<Self, 2, 1, 12>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 2, 4, 1>(), groups::<Self, 2, 2, 2>(), groups::<Self, 2, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<3> for I16<Vpmaddwd> {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 3, 2, 4>(), whole::<Self, 3, 1, 8>()];
    const GROUPS: &'static [Groups] = &[];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

/// The planes of a line as signed words.
type Line<const P: usize> = [[__m512i; 2]; P];

/// Eight registers of 32 words a plane, and what int8 codes are xored with.
pub(crate) struct Regs {
    planes: [[__m512i; 8]; PLANES],
    flip: __m256i,
}

impl<M: MultiplyAdd> Int for I16<M> {
    type Sums = I32x16<M::Isa>;
    type Limb = i16;
    type Regs<'a> = Regs;
    type Line<const P: usize> = Line<P>;
    const OPERAND: Operand = Operand::I16;
    const FLUSH_LINES: usize = 64;
    const FLUSH_WORDS: usize = 128;

    with_features! { "avx512f";
        fn load(_isa: M::Isa, table: &QuantisedTable, lookups: usize) -> Regs {
            Regs {
                planes: bytemuck::cast(table.words(lookups)),
                flip: _mm256_set1_epi8(ClosedForm::flip(table.closed_form) as i8),
            }
        }
        fn sum(_isa: M::Isa, v: __m512i) -> i64 { wide_sum(v) }
        fn sum4(_isa: M::Isa, v: [__m512i; 4]) -> [i64; 4] {
            // Lanes of two vectors side by side, then 128 bits by 128 bits.
            let (ab, cd) = (interleave(v[0], v[1]), interleave(v[2], v[3]));
            let even = _mm512_shuffle_i64x2::<0x88>(ab, cd);
            let two = _mm512_add_epi64(even, _mm512_shuffle_i64x2::<0xDD>(ab, cd));
            let one = _mm512_add_epi64(two, _mm512_shuffle_i64x2::<0xB1>(two, two));
            let [a, b, _, _, c, d, _, _]: [i64; 8] = bytemuck::cast(one);
            [a, b, c, d]
        }
        fn store_line<const P: usize>(
            _isa: M::Isa,
            weights: &Line<P>,
            to: &mut [PanelRow],
            line: usize,
        ) {
            for p in 0..P {
                let words: &mut [u32; LINE / 2] = &mut to[p].as_chunks_mut().0[line];
                *words = bytemuck::cast(weights[p]);
            }
        }
    }

    #[inline(always)]
    fn dot<const P: usize>(
        isa: M::Isa,
        weights: &Line<P>,
        x: &[i16; LINE],
        sums: &mut [__m512i; P],
    ) {
        let x: [__m512i; 2] = bytemuck::cast(*x);
        for p in 0..P {
            for j in 0..2 {
                sums[p] = M::multiply_add(isa, sums[p], weights[p][j], x[j]);
            }
        }
    }

    /// Words have their signs.
    fn compensation(_: M::Isa, _: &[[u32; 8]], _: &[[u32; 8]]) -> i32 {
        0
    }

    #[inline(always)]
    fn madd<const P: usize>(
        isa: M::Isa,
        sums: &mut [__m512i; P],
        weights: &[__m512i; P],
        _sign: __m512i,
        x: __m512i,
    ) {
        for p in 0..P {
            sums[p] = M::multiply_add(isa, sums[p], weights[p], x);
        }
    }
}

/// Two vectors with lanes widened, interleaved, and neighbours added.
#[target_feature(enable = "avx512f")]
#[inline]
fn interleave(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (widen(a), widen(b));
    _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn widen(v: __m512i) -> __m512i {
    let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v));
    _mm512_add_epi64(low, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(v)))
}

/// Words of half a line with the signs of bits.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn signed(words: __m512i, signs: u64, half: usize) -> __m512i {
    let negative = (signs >> (32 * half)) as u32;
    _mm512_mask_sub_epi16(words, negative, _mm512_setzero_si512(), words)
}

/// QINS linear.
pub(crate) struct Magnitude;

impl<M: MultiplyAdd> Decoder<I16<M>, 1> for Magnitude {
    const SIGNED: bool = true;
    const LOOKUP: bool = false;

    with_features! { "avx512f,avx512bw";
        fn decode(_isa: M::Isa, _regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<1> {
            let halves: [__m256i; 2] = bytemuck::cast(*codes);
            let mut line = [[_mm512_setzero_si512(); 2]];
            for j in 0..2 {
                let less = _mm256_subs_epu8(halves[j], _mm256_set1_epi8(1));
                line[0][j] = signed(_mm512_cvtepu8_epi16(less), signs, j);
            }
            line
        }
    }
}

/// int8.
pub(crate) struct Integer;

impl<M: MultiplyAdd> Decoder<I16<M>, 1> for Integer {
    const SIGNED: bool = false;
    const LOOKUP: bool = false;

    with_features! { "avx512f,avx512bw";
        fn decode(_isa: M::Isa, regs: &Regs, codes: &[u8; LINE], _signs: u64) -> Line<1> {
            let halves: [__m256i; 2] = bytemuck::cast(*codes);
            let mut line = [[_mm512_setzero_si512(); 2]];
            for j in 0..2 {
                line[0][j] = _mm512_cvtepi8_epi16(_mm256_xor_si256(halves[j], regs.flip));
            }
            line
        }
    }
}

/// Any table.
pub(crate) struct Lookup<const SIGNED: bool>;

impl<M: MultiplyAdd, const SIGNED: bool, const P: usize> Decoder<I16<M>, P> for Lookup<SIGNED> {
    const SIGNED: bool = SIGNED;
    const LOOKUP: bool = true;

    with_features! { "avx512f,avx512bw";
        fn decode[P](
            _isa: M::Isa,
            regs: &Regs,
            codes: &[u8; LINE],
            signs: u64,
        ) -> Line<P> {
            let halves: [__m256i; 2] = bytemuck::cast(*codes);
            let mut line = [[_mm512_setzero_si512(); 2]; P];
            for j in 0..2 {
                let codes = _mm512_cvtepu8_epi16(halves[j]);
                let bit6 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x40));
                let bit7 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x80));
                for p in 0..P {
                    let words = lookup(&regs.planes[p], codes, bit6, bit7);
                    line[p][j] = signed(words, signs, j);
                }
            }
            line
        }
    }
}
