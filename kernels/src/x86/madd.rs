//! AVX2, integer modes: `vpmaddwd` multiplies signed words of weights by words of activations.
//!
//! Codes are widened to words (QINS linear, int8), or looked up as bytes and widened then, and take their
//! sign there: ±255 at most for a byte plane. `vpmaddubsw`, with twice the products an instruction, saturates:
//! 2 · 255 · 127 is beyond i16. Bound by the widening in the row shape, by `vpmaddwd` and its addition
//! in the panel shape.
//!
//! Overflow: a lane of `vpmaddwd` is at most 2 · 255 · 32,512 = 16,581,120, of which i32 holds 129: a
//! panel widens every 128 steps, the row shape, at four a line, every 32 lines, and lanes are widened
//! before they are added to each other.

use std::arch::x86_64::*;

use super::AHEAD;
use super::f64x4::*;
use super::i32x8::*;
use super::shuffle::*;
use crate::bytes::{BELOW_ONE, EIGHT_BITS, SEVEN_BITS, SIGNED, int_decoder};
use crate::int::IntRow;
use crate::portion::LINE;
use crate::words::{int_scale, int_shift_add, int_start};

const WORDS: bool = true;
const FLUSH: usize = 32;
const FLUSH_STEPS: usize = 128;

/// Vectors of words in a line.
const PARTS: usize = LINE / 16;

type Limb = i16;

/// The planes of a line as signed words.
type IntLine<const P: usize> = [[__m256i; PARTS]; P];

#[target_feature(enable = "avx2")]
#[inline]
fn int_decode<const D: u8, const P: usize>(
    image: &IntRegs,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let mut line = [[_mm256_setzero_si256(); PARTS]; P];
    let quarters: [__m128i; PARTS] = bytemuck::cast(*codes);
    if D == BELOW_ONE {
        for j in 0..PARTS {
            line[0][j] = _mm256_cvtepu8_epi16(_mm_subs_epu8(quarters[j], _mm_set1_epi8(1)));
        }
    } else if D == SIGNED {
        let flip = _mm256_castsi256_si128(image.flip);
        for j in 0..PARTS {
            line[0][j] = _mm256_cvtepi8_epi16(_mm_xor_si128(quarters[j], flip));
        }
    } else {
        let (planes, negative) = lookup::<D, P>(image, bytemuck::cast(*codes));
        let negative: [__m128i; PARTS] = bytemuck::cast(negative);
        for p in 0..P {
            let plane: [__m128i; PARTS] = bytemuck::cast(planes[p]);
            for j in 0..PARTS {
                let sign = _mm_or_si128(negative[j], _mm_set1_epi8(1));
                line[p][j] =
                    _mm256_sign_epi16(_mm256_cvtepu8_epi16(plane[j]), _mm256_cvtepi8_epi16(sign));
            }
        }
    }
    if signs != 0 {
        // Each word's own bit, moved to its top; a 1 below, as `vpsignw` makes zero of zero.
        let to_top = _mm256_setr_epi16(
            i16::MIN,
            16384,
            8192,
            4096,
            2048,
            1024,
            512,
            256,
            128,
            64,
            32,
            16,
            8,
            4,
            2,
            1,
        );
        for j in 0..PARTS {
            let signs = _mm256_set1_epi16((signs >> (16 * j)) as i16);
            let sign = _mm256_or_si256(_mm256_mullo_epi16(signs, to_top), _mm256_set1_epi16(1));
            for p in 0..P {
                line[p][j] = _mm256_sign_epi16(line[p][j], sign);
            }
        }
    }
    line
}

#[target_feature(enable = "avx2")]
#[inline]
fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
    let x: [__m256i; PARTS] = bytemuck::cast(*x);
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
        *steps = bytemuck::cast(weights[p]);
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
    decoders {
        BELOW_ONE x 1, SIGNED x 1, SEVEN_BITS x 1, SEVEN_BITS x 2, SEVEN_BITS x 3,
        EIGHT_BITS x 1, EIGHT_BITS x 2, EIGHT_BITS x 3,
    }
    tiles {
        1: whole [12, 6, 4], groups [4, 2];
        2: whole [6, 3, 2], groups [2, 1];
        3: whole [4, 2, 1], groups [1, 1];
    }
}
