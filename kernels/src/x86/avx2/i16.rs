//! AVX2, integer modes: `vpmaddwd` multiplies signed words of weights by words of activations.
//!
//! Codes are computed (QINS linear, int8) or looked up as bytes, unpacked to words, and take their sign there:
//! ±255 at most for a byte plane. `vpmaddubsw`, with twice the products an instruction, saturates:
//! 2 · 255 · 127 is beyond i16. gemv is bound by decoding, gemm by `vpmaddwd` and its addition.
//!
//! On a Zen 3 (3.06 GHz), one token, weights in L2, a line of 64 codes takes about 6 cycles (int8) and 11 (QINS
//! linear, whose signs are three instructions for each 16 codes, two of them on pipes that `vpmaddwd` needs too); F32 13
//! and 16. Time of products, less what packing x was estimated to take. Widening by `vpmovzxbw`, which crosses lanes,
//! was 1.3 cycles slower for int8 and no slower for QINS linear.
//!
//! Overflow: a lane of `vpmaddwd` is at most 2 · 255 · 32,512 = 16,581,120, of which i32 holds 129: a
//! panel widens every 128 words, gemv, at four a line, every 32 lines, and lanes are widened
//! before they are added to each other.

use std::arch::x86_64::*;

use super::bytes::{self, Line as Bytes, Regs};
use super::{Avx2, I32x8, wide_sum};
use crate::int::{
    Decoder, Decoders, GemmEntry, Groups, Int, IntEntry, Microkernel, Microkernels, Operand,
    PanelRow, choose, groups, whole,
};
use crate::isa::{Isa, with_features};
use crate::quantised::QuantisedTable;
use crate::weights::LINE;

/// Words, with `vpmaddwd`.
struct I16;

pub(crate) static ENTRY: IntEntry = IntEntry {
    features: Avx2::FEATURES,
    operand: I16::OPERAND,
    lanes: 8,
    decoder: choose::<I16>,
    gemm: GemmEntry::of::<I16>(),
};

impl Decoders for I16 {
    type Magnitude = Magnitude;
    type Integer = Integer;
    type Signed = Lookup<true, 2>;
    type Unsigned = Lookup<false, 2>;
    type Half = Lookup<false, 1>;
}

impl Microkernels<1> for I16 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 1, 3, 4>(), whole::<Self, 1, 2, 6>(), whole::<Self, 1, 1, 12>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 1, 3, 1>(), groups::<Self, 1, 2, 2>(), groups::<Self, 1, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<2> for I16 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 2, 3, 2>(), whole::<Self, 2, 2, 3>(), whole::<Self, 2, 1, 6>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 2, 3, 1>(), groups::<Self, 2, 2, 1>(), groups::<Self, 2, 1, 2>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<3> for I16 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 3, 3, 1>(), whole::<Self, 3, 2, 2>(), whole::<Self, 3, 1, 4>()];
    const GROUPS: &'static [Groups] = &[];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

/// The planes of a line as signed words, in the order that unpacking leaves: of each 32 the first and third
/// eight, then the second and fourth. To widen in natural order takes crossing lanes.
type Line<const P: usize> = [Words; P];
type Words = [__m256i; LINE / 16];

impl Int for I16 {
    type Sums = I32x8<Avx2>;
    type Limb = i16;
    type Regs<'a> = Regs;
    type Line<const P: usize> = Line<P>;
    const OPERAND: Operand = Operand::I16;
    const FLUSH_LINES: usize = 32;
    const FLUSH_WORDS: usize = 128;

    with_features! { "avx2";
        fn load(_isa: Avx2, table: &QuantisedTable, lookups: usize) -> Regs {
            bytes::load(table, lookups)
        }
        fn dot<const P: usize>(
            _isa: Avx2,
            weights: &Line<P>,
            x: &[i16; LINE],
            sums: &mut [__m256i; P],
        ) {
            let x = reorder(bytemuck::cast(*x));
            for p in 0..P {
                for j in 0..4 {
                    sums[p] = _mm256_add_epi32(sums[p], _mm256_madd_epi16(weights[p][j], x[j]));
                }
            }
        }
        fn sum(_isa: Avx2, v: __m256i) -> i64 { wide_sum(v) }
        fn sum4(_isa: Avx2, v: [__m256i; 4]) -> [i64; 4] {
            // Lanes that are 128 bits apart, then pairs of vectors side by side.
            let mut two = [_mm256_setzero_si256(); 4];
            for (two, v) in two.iter_mut().zip(v) {
                let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v));
                let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(v));
                *two = _mm256_add_epi64(low, high);
            }
            let (ab, cd) = (interleave(two[0], two[1]), interleave(two[2], two[3]));
            let low = _mm256_permute2x128_si256::<0x20>(ab, cd);
            bytemuck::cast(_mm256_add_epi64(low, _mm256_permute2x128_si256::<0x31>(ab, cd)))
        }
        fn store_line<const P: usize>(
            _isa: Avx2,
            weights: &Line<P>,
            to: &mut [PanelRow],
            line: usize,
        ) {
            for p in 0..P {
                let words: &mut [u32; LINE / 2] = &mut to[p].as_chunks_mut().0[line];
                *words = bytemuck::cast(reorder(weights[p]));
            }
        }
        fn madd<const P: usize>(
            _isa: Avx2,
            sums: &mut [__m256i; P],
            weights: &[__m256i; P],
            _sign: __m256i,
            x: __m256i,
        ) {
            for p in 0..P {
                sums[p] = _mm256_add_epi32(sums[p], _mm256_madd_epi16(weights[p], x));
            }
        }
    }

    /// Words have their signs.
    fn compensation(_: Avx2, _: &[[u32; 8]], _: &[[u32; 8]]) -> i32 {
        0
    }
}

/// Two vectors of i64 interleaved, and neighbours added.
#[target_feature(enable = "avx2")]
#[inline]
fn interleave(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
}

/// Words of a low and a high byte.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack(low: Bytes, high: Bytes) -> Words {
    [
        _mm256_unpacklo_epi8(low[0], high[0]),
        _mm256_unpackhi_epi8(low[0], high[0]),
        _mm256_unpacklo_epi8(low[1], high[1]),
        _mm256_unpackhi_epi8(low[1], high[1]),
    ]
}

/// A line of words between natural order and that of [`unpack`], either way.
#[target_feature(enable = "avx2")]
#[inline]
fn reorder(words: Words) -> Words {
    [
        _mm256_permute2x128_si256::<0x20>(words[0], words[1]),
        _mm256_permute2x128_si256::<0x31>(words[0], words[1]),
        _mm256_permute2x128_si256::<0x20>(words[2], words[3]),
        _mm256_permute2x128_si256::<0x31>(words[2], words[3]),
    ]
}

/// Planes with the signs of words that are never zero.
#[target_feature(enable = "avx2")]
#[inline]
fn sign_planes<const P: usize>(mut line: Line<P>, sign: Words) -> Line<P> {
    for plane in &mut line {
        for j in 0..4 {
            plane[j] = _mm256_sign_epi16(plane[j], sign[j]);
        }
    }
    line
}

/// Bits as words that are negative where they are set, and never zero.
///
/// A word is the byte that its bit is in above a byte of 1; a multiplication by a power of two brings the
/// bit to the top and the 1 somewhere below.
#[target_feature(enable = "avx2")]
#[inline]
fn sign_words(bits: u64) -> Words {
    /// Both bytes of a word in half a vector: the 1, and the byte that has its sign.
    const fn half(byte: usize) -> [[u8; 2]; 8] {
        [[8, byte as u8]; 8]
    }
    let ones = _mm256_set1_epi8(1);
    let bytes = _mm256_blend_epi32::<0b1100_1100>(_mm256_set1_epi64x(bits as i64), ones);
    let to_top: __m256i = bytemuck::cast([[128u16, 64, 32, 16, 8, 4, 2, 1]; 2]);
    let mut words = [_mm256_setzero_si256(); 4];
    for (j, words) in words.iter_mut().enumerate() {
        let first = j / 2 * 4 + j % 2;
        let from: __m256i = bytemuck::cast([half(first), half(first + 2)]);
        *words = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, from), to_top);
    }
    words
}

/// QINS linear.
struct Magnitude;

impl Decoder<I16, 1> for Magnitude {
    const SIGNED: bool = true;
    const LOOKUP: bool = false;

    with_features! { "avx2";
        fn decode(_isa: Avx2, _regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<1> {
            let mut magnitudes: Bytes = bytemuck::cast(*codes);
            for half in &mut magnitudes {
                *half = _mm256_subs_epu8(*half, _mm256_set1_epi8(1));
            }
            let line = [unpack(magnitudes, [_mm256_setzero_si256(); 2])];
            sign_planes(line, sign_words(signs))
        }
    }
}

/// int8.
struct Integer;

impl Decoder<I16, 1> for Integer {
    const SIGNED: bool = false;
    const LOOKUP: bool = false;

    with_features! { "avx2";
        fn decode(_isa: Avx2, regs: &Regs, codes: &[u8; LINE], _signs: u64) -> Line<1> {
            let mut values: Bytes = bytemuck::cast(*codes);
            let mut negative = values;
            for (value, negative) in values.iter_mut().zip(&mut negative) {
                *value = _mm256_xor_si256(*value, regs.flip);
                *negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), *value);
            }
            [unpack(values, negative)]
        }
    }
}

/// Any table, or half of one: see [`bytes::lookup`].
struct Lookup<const SIGNED: bool, const HALVES: usize>;

impl<const SIGNED: bool, const HALVES: usize, const P: usize> Decoder<I16, P>
    for Lookup<SIGNED, HALVES>
{
    const SIGNED: bool = SIGNED;
    const LOOKUP: bool = true;

    #[inline(always)]
    fn decode(isa: Avx2, regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<P> {
        let line = looked_up::<P, HALVES>(isa, regs, codes);
        if SIGNED { signed::<P>(isa, line, signs) } else { line }
    }
}

with_features! { "avx2";
    fn signed<const P: usize>(_isa: Avx2, line: Line<P>, signs: u64) -> Line<P> {
        sign_planes(line, sign_words(signs))
    }
}

/// A line by lookups, with the signs of its entries.
#[inline(always)]
fn looked_up<const P: usize, const HALVES: usize>(
    _isa: Avx2,
    regs: &Regs,
    codes: &[u8; LINE],
) -> Line<P> {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn inner<const P: usize, const HALVES: usize>(regs: &Regs, codes: &[u8; LINE]) -> Line<P> {
        let (planes, negative) = bytes::lookup::<P, HALVES>(regs, bytemuck::cast(*codes));
        // Negative where they are to be, and never zero, of which `vpsignw` makes zero.
        let sign = unpack([_mm256_set1_epi8(1); 2], negative);
        let mut line = [[_mm256_setzero_si256(); 4]; P];
        for p in 0..P {
            line[p] = unpack(planes[p], [_mm256_setzero_si256(); 2]);
        }
        sign_planes(line, sign)
    }
    // SAFETY: the token proves AVX2.
    unsafe { inner::<P, HALVES>(regs, codes) }
}
