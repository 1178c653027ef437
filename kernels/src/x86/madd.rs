//! AVX2, integer modes: `vpmaddwd` multiplies signed words of weights by words of activations.
//!
//! Codes are computed (QINS linear, int8) or looked up as bytes, unpacked to words, and take their sign there:
//! ±255 at most for a byte plane. `vpmaddubsw`, with twice the products an instruction, saturates:
//! 2 · 255 · 127 is beyond i16. Bound by decoding in the row shape, by `vpmaddwd` and its addition in the panel
//! shape.
//!
//! On a Zen 3 (3.06 GHz), one token, weights in L2, a line of 64 codes takes about 6 cycles (int8) and 11 (QINS
//! linear, whose signs are three instructions for each 16 codes, two of them on pipes that `vpmaddwd` needs too); F32 13
//! and 16. Time of products, less what packing x was estimated to take. Widening by `vpmovzxbw`, which crosses lanes,
//! was 1.3 cycles slower for int8 and no slower for QINS linear.
//!
//! Overflow: a lane of `vpmaddwd` is at most 2 · 255 · 32,512 = 16,581,120, of which i32 holds 129: a
//! panel widens every 128 steps, the row shape, at four a line, every 32 lines, and lanes are widened
//! before they are added to each other.

use std::arch::x86_64::*;

use super::AHEAD;
use super::f64x4::*;
use super::i32x8::*;
use super::shuffle::*;
use crate::bytes::{BELOW_ONE, EIGHT_BITS, INTEGER, SEVEN_BITS, int_decoder};
use crate::int::IntRow;
use crate::portion::LINE;
use crate::words::{int_scale, int_shift_add, int_start};

const WORDS: bool = true;
const FLUSH: usize = 32;
const FLUSH_STEPS: usize = 128;

/// Vectors of words in a line.
const PARTS: usize = LINE / 16;

type Limb = i16;

/// The planes of a line as signed words, in the order that unpacking leaves: of each 32 the first and third
/// eight, then the second and fourth. To widen in natural order takes crossing lanes.
type IntLine<const P: usize> = [[__m256i; PARTS]; P];

#[target_feature(enable = "avx2")]
#[inline]
fn int_decode<const D: u8, const SIGNED: bool, const P: usize>(
    image: &IntRegs,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let mut line = [[_mm256_setzero_si256(); PARTS]; P];
    let codes: Line = bytemuck::cast(*codes);
    let zero = _mm256_setzero_si256();
    if D == BELOW_ONE {
        let magnitudes = codes.map(|half| _mm256_subs_epu8(half, _mm256_set1_epi8(1)));
        line[0] = unpack(magnitudes, [zero; 2]);
    } else if D == INTEGER {
        let values = codes.map(|half| _mm256_xor_si256(half, image.flip));
        line[0] = unpack(values, values.map(|half| _mm256_cmpgt_epi8(zero, half)));
    } else {
        let (planes, negative) = lookup::<D, P>(image, codes);
        // Negative where they are to be, and never zero, of which `vpsignw` makes zero.
        let sign = unpack([_mm256_set1_epi8(1); 2], negative);
        line = sign_planes(planes.map(|plane| unpack(plane, [zero; 2])), sign);
    }
    if SIGNED {
        line = sign_planes(line, sign_words(signs));
    }
    line
}

/// Planes with the signs of words that are never zero.
#[target_feature(enable = "avx2")]
#[inline]
fn sign_planes<const P: usize>(mut line: IntLine<P>, sign: [__m256i; PARTS]) -> IntLine<P> {
    for plane in &mut line {
        for j in 0..PARTS {
            plane[j] = _mm256_sign_epi16(plane[j], sign[j]);
        }
    }
    line
}

/// Words of a low and a high byte.
#[target_feature(enable = "avx2")]
#[inline]
fn unpack(low: Line, high: Line) -> [__m256i; PARTS] {
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
fn reorder(words: [__m256i; PARTS]) -> [__m256i; PARTS] {
    [
        _mm256_permute2x128_si256::<0x20>(words[0], words[1]),
        _mm256_permute2x128_si256::<0x31>(words[0], words[1]),
        _mm256_permute2x128_si256::<0x20>(words[2], words[3]),
        _mm256_permute2x128_si256::<0x31>(words[2], words[3]),
    ]
}

/// Bits as words that are negative where they are set, and never zero.
///
/// A word is the byte that its bit is in above a byte of 1; a multiplication by a power of two brings the
/// bit to the top and the 1 somewhere below.
#[target_feature(enable = "avx2")]
#[inline]
fn sign_words(bits: u64) -> [__m256i; PARTS] {
    let ones = _mm256_set1_epi8(1);
    let bytes = _mm256_blend_epi32::<0b1100_1100>(_mm256_set1_epi64x(bits as i64), ones);
    let to_top: __m256i = bytemuck::cast([[128u16, 64, 32, 16, 8, 4, 2, 1]; 2]);
    let mut words = [_mm256_setzero_si256(); PARTS];
    for (j, words) in words.iter_mut().enumerate() {
        let half = |byte: usize| [[8, byte as u8]; 8];
        let first = j / 2 * 4 + j % 2;
        let from: __m256i = bytemuck::cast([half(first), half(first + 2)]);
        *words = _mm256_mullo_epi16(_mm256_shuffle_epi8(bytes, from), to_top);
    }
    words
}

#[target_feature(enable = "avx2")]
#[inline]
fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
    let x = reorder(bytemuck::cast(*x));
    for p in 0..P {
        for j in 0..PARTS {
            sums[p] = _mm256_add_epi32(sums[p], _mm256_madd_epi16(weights[p][j], x[j]));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn int_store<const P: usize>(weights: &IntLine<P>, to: &mut [IntRow], line: usize) {
    for p in 0..P {
        let steps: &mut [u32; LINE / 2] = &mut to[p].as_chunks_mut().0[line];
        *steps = bytemuck::cast(reorder(weights[p]));
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], _sign: I, x: I) {
    for p in 0..P {
        sums[p] = _mm256_add_epi32(sums[p], _mm256_madd_epi16(weights[p], x));
    }
}

crate::stamp::int_stamp! {
    features { "avx2" }
    signed { BELOW_ONE x 1, EIGHT_BITS x 1, EIGHT_BITS x 2, EIGHT_BITS x 3 }
    unsigned {
        INTEGER x 1, SEVEN_BITS x 2, SEVEN_BITS x 3, EIGHT_BITS x 1, EIGHT_BITS x 2,
        EIGHT_BITS x 3,
    }
    tiles {
        1: whole [12, 6, 4], groups [4, 2];
        2: whole [6, 3, 2], groups [2, 1];
        3: whole [4, 2, 1], groups [1, 1];
    }
}
