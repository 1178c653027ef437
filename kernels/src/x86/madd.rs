//! AVX2, integer modes: `vpmaddwd` multiplies signed words of weights by words of activations.
//!
//! Codes are widened to words (QINS linear, int8) or looked up one by one, and take their sign there:
//! ±255 at most for a byte plane. `vpmaddubsw`, with twice the products an instruction, saturates:
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
use crate::image::Image;
use crate::int::IntRow;
use crate::portion::LINE;
use crate::words::{
    BELOW_ONE, LOOKUP, SIGNED, Words, int_decoder, int_scale, int_shift_add, int_start,
};

const WORDS: bool = true;
const FLUSH: usize = 32;
const FLUSH_STEPS: usize = 128;

/// Vectors of words in a line.
const PARTS: usize = LINE / 16;

type Limb = i16;

/// The planes of a line as signed words.
type IntLine<const P: usize> = [[__m256i; PARTS]; P];

type IntRegs = Words;

#[target_feature(enable = "avx2")]
#[inline]
fn load_image<const D: u8, const P: usize>(image: &Image) -> IntRegs {
    Words::new::<D, P>(image)
}

#[target_feature(enable = "avx2")]
#[inline]
fn int_decode<const D: u8, const P: usize>(
    image: &IntRegs,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let mut line = [[_mm256_setzero_si256(); PARTS]; P];
    if D == LOOKUP {
        for p in 0..P {
            line[p] = bytemuck::cast(image.lookup(p, codes));
        }
    } else {
        let quarters = codes.as_chunks::<16>().0;
        for j in 0..PARTS {
            let quarter: __m128i = bytemuck::cast(quarters[j]);
            line[0][j] = if D == BELOW_ONE {
                _mm256_cvtepu8_epi16(_mm_subs_epu8(quarter, _mm_set1_epi8(1)))
            } else {
                _mm256_cvtepi8_epi16(_mm_xor_si128(quarter, _mm_set1_epi8(image.flip as i8)))
            };
        }
    }
    if signs != 0 {
        let bits = _mm256_setr_epi16(
            1,
            2,
            4,
            8,
            16,
            32,
            64,
            128,
            256,
            512,
            1024,
            2048,
            4096,
            8192,
            16384,
            i16::MIN,
        );
        for j in 0..PARTS {
            let signs = _mm256_set1_epi16((signs >> (16 * j)) as i16);
            let negative = _mm256_cmpeq_epi16(_mm256_and_si256(signs, bits), bits);
            for p in 0..P {
                let flipped = _mm256_xor_si256(line[p][j], negative);
                line[p][j] = _mm256_sub_epi16(flipped, negative);
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
    decoders { BELOW_ONE x 1, SIGNED x 1, LOOKUP x 1, LOOKUP x 2, LOOKUP x 3 }
    tiles {
        1: whole [12, 6, 4], groups [4, 2];
        2: whole [6, 3, 2], groups [2, 1];
        3: whole [4, 2, 1], groups [1, 1];
    }
}
