//! AVX-512, integer modes: words of weights are multiplied by words of activations, with VNNI by
//! `vpdpwssd`, without by `vpmaddwd` and an addition.
//!
//! Half as many products an instruction as `vpdpbusd` of the kernel `vnni`, but of 16 bits, and without
//! work for signs: better where activations have two digits and images one plane. Bound by the products
//! in the panel shape, without VNNI by decoding in the row shape.
//!
//! Codes are widened to words (QINS linear, int8), or looked up with `vpermi2w`: four of them, each in a
//! quarter of the table, and three blends by the code's upper bits. A sign is a masked subtraction.

use std::arch::x86_64::*;

use super::AHEAD;
use super::f64x8::*;
use crate::image::{IMAGE_PLANES, Image};
use crate::int::IntRow;
use crate::portion::LINE;
use crate::words::{
    BELOW_ONE, INTEGER, LOOKUP, Words, int_decoder, int_scale, int_shift_add, int_start,
};

const WORDS: bool = true;
const INT_LANES: usize = 16;
/// Lines, of two additions to a lane, and steps, of one: i32 holds 129 of 2 · 255 · 32,512.
const FLUSH: usize = 64;
const FLUSH_STEPS: usize = 128;

/// Vectors of words in a line.
const PARTS: usize = LINE / 32;

type Limb = i16;
type I = __m512i;

/// The planes of a line as signed words.
type IntLine<const P: usize> = [[__m512i; PARTS]; P];

/// Eight registers of 32 words a plane, and what int8 codes are xored with.
struct IntRegs {
    planes: [[__m512i; 8]; IMAGE_PLANES],
    flip: __m256i,
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_image<const D: u8, const P: usize>(image: &Image) -> IntRegs {
    let words = Words::new::<D, P>(image);
    IntRegs {
        planes: std::array::from_fn(|p| bytemuck::cast(*words.plane(p))),
        flip: _mm256_set1_epi8(words.flip as i8),
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn int_decode<const D: u8, const SIGNED: bool, const P: usize>(
    image: &IntRegs,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let mut line = [[_mm512_setzero_si512(); PARTS]; P];
    let halves: [__m256i; PARTS] = bytemuck::cast(*codes);
    for j in 0..PARTS {
        if D == BELOW_ONE {
            line[0][j] = _mm512_cvtepu8_epi16(_mm256_subs_epu8(halves[j], _mm256_set1_epi8(1)));
        } else if D == LOOKUP {
            let codes = _mm512_cvtepu8_epi16(halves[j]);
            for p in 0..P {
                line[p][j] = lookup(&image.planes[p], codes);
            }
        } else {
            line[0][j] = _mm512_cvtepi8_epi16(_mm256_xor_si256(halves[j], image.flip));
        }
        let negative = (signs >> (32 * j)) as u32;
        for p in 0..P {
            line[p][j] =
                _mm512_mask_sub_epi16(line[p][j], negative, _mm512_setzero_si512(), line[p][j]);
        }
    }
    line
}

/// Words out of a table of 256.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn lookup(table: &[__m512i; 8], codes: __m512i) -> __m512i {
    let quarter = |q: usize| _mm512_permutex2var_epi16(table[2 * q], codes, table[2 * q + 1]);
    let odd = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x40));
    let upper = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x80));
    let low = _mm512_mask_blend_epi16(odd, quarter(0), quarter(1));
    let high = _mm512_mask_blend_epi16(odd, quarter(2), quarter(3));
    _mm512_mask_blend_epi16(upper, low, high)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_zero() -> I {
    _mm512_setzero_si512()
}

/// Lanes are widened before they are added to each other.
#[target_feature(enable = "avx512f")]
#[inline]
fn int_sum(v: I) -> i64 {
    let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v));
    let high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(v));
    _mm512_reduce_add_epi64(_mm512_add_epi64(low, high))
}

/// The same four times: lanes of two vectors side by side, then 128 bits by 128 bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn int_sum4(v: [I; 4]) -> [i64; 4] {
    let widen = |v| {
        let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v));
        _mm512_add_epi64(low, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(v)))
    };
    let pair = |a, b| {
        let (a, b) = (widen(a), widen(b));
        _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    };
    let (ab, cd) = (pair(v[0], v[1]), pair(v[2], v[3]));
    let even = _mm512_shuffle_i64x2::<0x88>(ab, cd);
    let two = _mm512_add_epi64(even, _mm512_shuffle_i64x2::<0xDD>(ab, cd));
    let one = _mm512_add_epi64(two, _mm512_shuffle_i64x2::<0xB1>(two, two));
    let [a, b, _, _, c, d, _, _]: [i64; 8] = bytemuck::cast(one);
    [a, b, c, d]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_store<const P: usize>(weights: &IntLine<P>, to: &mut [IntRow], line: usize) {
    for p in 0..P {
        let steps: &mut [u32; LINE / 2] = &mut to[p].as_chunks_mut().0[line];
        *steps = bytemuck::cast(weights[p]);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_splat(step: u32) -> I {
    _mm512_set1_epi32(step as i32)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_load(steps: &[u32; INT_LANES]) -> I {
    bytemuck::cast(*steps)
}

/// Stamps the kernel with what adds two products of words to a lane, and the features.
macro_rules! kernel {
    (
        |$sum:ident, $weights:ident, $x:ident| $multiply_add:expr,
        features { $($feature:tt),* }
    ) => {
        use super::*;

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn multiply_add($sum: I, $weights: I, $x: I) -> I {
            $multiply_add
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
            let x: [I; PARTS] = bytemuck::cast(*x);
            for p in 0..P {
                for j in 0..PARTS {
                    sums[p] = multiply_add(sums[p], weights[p][j], x[j]);
                }
            }
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], _sign: I, x: I) {
            for p in 0..P {
                sums[p] = multiply_add(sums[p], weights[p], x);
            }
        }

        crate::stamp::int_stamp! {
            features { $($feature),* }
            signed { BELOW_ONE x 1, LOOKUP x 1, LOOKUP x 2, LOOKUP x 3 }
            unsigned { INTEGER x 1, LOOKUP x 1, LOOKUP x 2, LOOKUP x 3 }
            tiles {
                1: whole [12, 12, 8], groups [6, 4];
                2: whole [12, 6, 4], groups [4, 2];
                3: whole [8, 3, 2], groups [2, 1];
                4: whole [6, 2, 2], groups [2, 1];
            }
        }
    };
}

pub(crate) mod dpwssd {
    kernel! {
        |sum, weights, x| _mm512_dpwssd_epi32(sum, weights, x),
        features { "avx512f", "avx512bw", "avx512dq", "avx512vnni" }
    }
}

pub(crate) mod madd {
    kernel! {
        |sum, weights, x| _mm512_add_epi32(sum, _mm512_madd_epi16(weights, x)),
        features { "avx512f", "avx512bw", "avx512dq" }
    }
}
