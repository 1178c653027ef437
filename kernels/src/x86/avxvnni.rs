//! AVX-VNNI, integer modes: 256-bit `vpdpbusd` multiplies magnitudes (u8) by digits (i8).
//!
//! What AVX-512 with VNNI does, without its mask registers and byte lookups. Magnitudes are computed
//! (QINS linear: one saturating subtraction, int8: one `vpabsb`) or looked up by `vpshufb`, 16 entries at
//! a time. In the row shape `vpsignb` gives the weights' signs to the activations; in the panel shape these
//! are xored with a plane of sign bytes. Bound by decoding in the row shape, by `vpdpbusd` and the
//! broadcasts of weights in the panel shape.
//!
//! The kernel is stamped twice: `vex` for CPUs with AVX-VNNI, and `evex` for those that have the same
//! instruction from AVX-512, where the other can be tested.
//! On a Zen 4 `evex` is faster than AVX2's kernel of words by this much, with QINS linear and E4M3: 256
//! tokens A24 1.7× and 2.2×, A16 1.3× and 1.7×, A8 1.2× and 1.6×, A8T 2.3× and 3.2×; one token, cached, A16
//! 1.4× and 2.2×, A8T 1.6× and 1.8×. With 256 entries in two planes, one token, `vpshufb` took 0.9 to 1.2
//! times as long as scalar lookups there; CPUs that insert words by one port should gain more.
//!
//! Overflow: a product is at most 255 · 128 (x ^ 0xFF may be −128). A lane adds 4 of them a step,
//! 130,560, and a panel has 768 steps: 1.0e8. It adds 8 a line, and the row shape widens every 1,024
//! lines (65,536 of k), where x is ±127: even all lanes together are 65,536 · 255 · 127 < 2³¹, so that
//! the horizontal sum holds them too.

use std::arch::x86_64::*;

use super::AHEAD;
use super::f64x4::*;
use super::i32x8::*;
use super::shuffle::*;
use super::vnni::int_start;
use crate::bytes::{BELOW_ONE, EIGHT_BITS, INTEGER, SEVEN_BITS, int_decoder};
use crate::int::{IntRow, PANEL_STEPS};
use crate::portion::LINE;

const WORDS: bool = false;
const FLUSH: usize = 1024;
const FLUSH_STEPS: usize = PANEL_STEPS;

type Limb = i8;

/// The magnitudes of a line by planes, and bytes that have the signs of its weights and are never zero.
type IntLine<const P: usize> = ([Line; P], Line);

#[target_feature(enable = "avx2")]
#[inline]
fn int_decode<const D: u8, const SIGNED: bool, const P: usize>(
    regs: &IntRegs,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let mut planes = [[_mm256_setzero_si256(); 2]; P];
    // Whatever has the signs of entries in its top bits.
    let mut signed = [_mm256_setzero_si256(); 2];
    let line: Line = bytemuck::cast(*codes);
    if D == BELOW_ONE {
        for j in 0..2 {
            planes[0][j] = _mm256_subs_epu8(line[j], _mm256_set1_epi8(1));
        }
    } else if D == INTEGER {
        for j in 0..2 {
            signed[j] = _mm256_xor_si256(line[j], regs.flip);
            planes[0][j] = _mm256_abs_epi8(signed[j]);
        }
    } else {
        (planes, signed) = lookup::<D, P>(regs, line);
    }
    if SIGNED {
        let negative = expand(signs);
        for j in 0..2 {
            signed[j] = _mm256_xor_si256(signed[j], negative[j]);
        }
    }
    for signed in &mut signed {
        *signed = _mm256_or_si256(*signed, _mm256_set1_epi8(1));
    }
    (planes, signed)
}

/// The sums of four vectors.
#[target_feature(enable = "avx2")]
#[inline]
fn int_sum4(v: [I; 4]) -> [i64; 4] {
    let four = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    let one = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256::<1>(four));
    bytemuck::cast(_mm256_cvtepi32_epi64(one))
}

/// Stores a line of a panel's row.
#[target_feature(enable = "avx2")]
#[inline]
fn int_store<const P: usize>(weights: &IntLine<P>, to: &mut [IntRow], line: usize) {
    for p in 0..P {
        let steps: &mut [u32; 16] = &mut to[p].as_chunks_mut().0[line];
        *steps = bytemuck::cast(weights.0[p]);
    }
    let mut negative = weights.1;
    for signs in &mut negative {
        *signs = _mm256_cmpgt_epi8(_mm256_setzero_si256(), *signs);
    }
    let steps: &mut [u32; 16] = &mut to[P].as_chunks_mut().0[line];
    *steps = bytemuck::cast(negative);
}

#[target_feature(enable = "avx2")]
#[inline]
fn int_shift_add(high: I, low: I) -> I {
    _mm256_add_epi32(_mm256_slli_epi32::<8>(high), low)
}

#[target_feature(enable = "avx2")]
#[inline]
fn int_scale(sums: I, part: I, multiplier: I) -> I {
    _mm256_add_epi32(sums, _mm256_mullo_epi32(part, multiplier))
}

/// Stamps the kernel with one of the intrinsics for `vpdpbusd`, and the features that have it.
macro_rules! kernel {
    (
        $dpbusd:ident, features { $($feature:tt),* }
    ) => {
        use super::*;

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
            let x: Line = bytemuck::cast(*x);
            for j in 0..2 {
                let x = _mm256_sign_epi8(x[j], weights.1[j]);
                for p in 0..P {
                    sums[p] = $dpbusd(sums[p], weights.0[p][j], x);
                }
            }
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], sign: I, x: I) {
            let x = _mm256_xor_si256(x, sign);
            for p in 0..P {
                sums[p] = $dpbusd(sums[p], weights[p], x);
            }
        }

        crate::stamp::int_stamp! {
            features { $($feature),* }
            signed { BELOW_ONE x 1, EIGHT_BITS x 1, EIGHT_BITS x 2, EIGHT_BITS x 3 }
            unsigned {
                INTEGER x 1, SEVEN_BITS x 2, SEVEN_BITS x 3, EIGHT_BITS x 1, EIGHT_BITS x 2,
                EIGHT_BITS x 3,
            }
            tiles {
                1: whole [8, 4, 3], groups [4, 2], multiplied [6, 3, 2];
                2: whole [4, 2, 1], groups [2, 1], multiplied [3, 2, 1];
            }
        }
    };
}

pub(crate) mod vex {
    kernel! {
        _mm256_dpbusd_avx_epi32, features { "avx2", "avxvnni" }
    }
}

pub(crate) mod evex {
    kernel! {
        _mm256_dpbusd_epi32,
        features { "avx2", "avx512vl", "avx512vnni" }
    }
}
