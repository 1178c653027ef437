//! AVX-512 with VNNI and VBMI, integer modes: `vpdpbusd` multiplies magnitudes (u8) by digits (i8).
//!
//! Magnitudes are looked up with `vpermi2b`, one or two for each byte plane, or computed (QINS linear:
//! one saturating subtraction, int8: one `vpabsb`). A sign goes to the activations: in the row shape x
//! is subtracted from zero under the line's sign mask, in the panel shape it is xored with a plane of
//! sign bytes. (Rows with xor instead, and what that needs to make good, were no faster.) Panels are bound by
//! `vpdpbusd`, of which the loop does 58 of 64 products a cycle, 64 without the xor: `vpdpbusd` has
//! two of the four vector ports of a Zen 4, and an xor on one of these holds it up.
//!
//! Overflow: a lane adds 4 · 255 · 127 = 129,540 a line or step. i32 holds 16,577 of them; the row
//! shape widens every 1,024 lines (65,536 of k), of which even all lanes together are
//! 65,536 · 255 · 127 < 2³¹, so that the horizontal sum holds them too; a panel has 768 steps.

use std::arch::x86_64::*;

use super::AHEAD;
use super::f64x8::*;
use super::vbmi::lookup;
use crate::bytes::{BELOW_ONE, EIGHT_BITS, INTEGER, SEVEN_BITS, flip, int_decoder};
use crate::image::{EntrySign, IMAGE_PLANES, Image};
use crate::int::{IntRow, PANEL_STEPS};
use crate::portion::LINE;

const WORDS: bool = false;
const INT_LANES: usize = 16;
const FLUSH: usize = 1024;
const FLUSH_STEPS: usize = PANEL_STEPS;

type Limb = i8;
type I = __m512i;

/// The magnitudes of a line by planes, and the mask of its negative weights.
type IntLine<const P: usize> = ([__m512i; P], u64);

/// Four registers a plane, the lookup of signs, and where signs are found.
struct IntRegs {
    planes: [[__m512i; 4]; IMAGE_PLANES],
    negative: [__m512i; 4],
    sign: EntrySign,
    flip: __m512i,
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_plane(bytes: &[u8; 256]) -> [__m512i; 4] {
    let mut regs = [_mm512_setzero_si512(); 4];
    for (reg, bytes) in regs.iter_mut().zip(bytes.as_chunks::<64>().0) {
        *reg = bytemuck::cast(*bytes);
    }
    regs
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_image<const D: u8, const P: usize>(image: &Image) -> IntRegs {
    let mut planes = [[_mm512_setzero_si512(); 4]; IMAGE_PLANES];
    for (regs, plane) in planes.iter_mut().zip(&image.planes) {
        *regs = load_plane(plane);
    }
    let flip = _mm512_set1_epi8(flip(image) as i8);
    IntRegs { planes, negative: load_plane(&image.negative), sign: image.sign, flip }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn int_decode<const D: u8, const SIGNED: bool, const P: usize>(
    image: &IntRegs,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let codes: __m512i = bytemuck::cast(*codes);
    let mut planes = [_mm512_setzero_si512(); P];
    if D == BELOW_ONE {
        planes[0] = _mm512_subs_epu8(codes, _mm512_set1_epi8(1));
        return (planes, signs);
    }
    if D == INTEGER {
        let values = _mm512_xor_si512(codes, image.flip);
        planes[0] = _mm512_abs_epi8(values);
        return (planes, signs ^ _mm512_movepi8_mask(values));
    }
    let high = _mm512_movepi8_mask(codes);
    for p in 0..P {
        planes[p] = if D == SEVEN_BITS {
            _mm512_permutex2var_epi8(image.planes[p][0], codes, image.planes[p][1])
        } else {
            lookup(&image.planes[p], codes, high)
        };
    }
    let negative = match image.sign {
        EntrySign::None => 0,
        EntrySign::TopBit => high,
        EntrySign::Table => _mm512_movepi8_mask(lookup(&image.negative, codes, high)),
    };
    (planes, signs ^ negative)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_zero() -> I {
    _mm512_setzero_si512()
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_sum(v: I) -> i64 {
    i64::from(_mm512_reduce_add_epi32(v))
}

/// The sums of four vectors: two steps of interleaving and adding leave a 128-bit lane of four sums.
#[target_feature(enable = "avx512f")]
#[inline]
fn int_sum4(v: [I; 4]) -> [i64; 4] {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (even, odd) = (pair(v[0], v[2]), pair(v[1], v[3]));
    let four = pair(even, odd);
    let two = _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64::<1>(four));
    let one = _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256::<1>(two));
    bytemuck::cast(_mm256_cvtepi32_epi64(one))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
    let x: __m512i = bytemuck::cast(*x);
    let x = _mm512_mask_sub_epi8(x, weights.1, _mm512_setzero_si512(), x);
    for p in 0..P {
        sums[p] = _mm512_dpbusd_epi32(sums[p], weights.0[p], x);
    }
}

/// Stores a line of a panel's row.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn int_store<const P: usize>(weights: &IntLine<P>, to: &mut [IntRow], line: usize) {
    for p in 0..P {
        let steps: &mut [u32; 16] = &mut to[p].as_chunks_mut().0[line];
        *steps = bytemuck::cast(weights.0[p]);
    }
    let steps: &mut [u32; 16] = &mut to[P].as_chunks_mut().0[line];
    *steps = bytemuck::cast(_mm512_movm_epi8(weights.1));
}

/// x ^ 0xFF = −x − 1: what is wrong with it is the sum of the magnitudes of negative weights.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn int_start(magnitudes: &[[u32; 8]], signs: &[[u32; 8]]) -> i32 {
    let mut sums = _mm256_setzero_si256();
    for (magnitudes, signs) in magnitudes.iter().zip(signs) {
        let negative = _mm256_and_si256(bytemuck::cast(*magnitudes), bytemuck::cast(*signs));
        let eighths = _mm256_sad_epu8(negative, _mm256_setzero_si256());
        sums = _mm256_add_epi64(sums, eighths);
    }
    let sums: [i64; 4] = bytemuck::cast(sums);
    sums.iter().sum::<i64>() as i32
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

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], sign: I, x: I) {
    let x = _mm512_xor_si512(x, sign);
    for p in 0..P {
        sums[p] = _mm512_dpbusd_epi32(sums[p], weights[p], x);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_shift_add(high: I, low: I) -> I {
    _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn int_scale(sums: I, part: I, multiplier: I) -> I {
    _mm512_add_epi32(sums, _mm512_mullo_epi32(part, multiplier))
}

crate::stamp::int_stamp! {
    features {
        "avx512f", "avx512bw", "avx512dq", "avx512vbmi", "avx512vnni",
    }
    signed { BELOW_ONE x 1, EIGHT_BITS x 1, EIGHT_BITS x 2, EIGHT_BITS x 3 }
    unsigned {
        INTEGER x 1, SEVEN_BITS x 2, SEVEN_BITS x 3, EIGHT_BITS x 1, EIGHT_BITS x 2,
        EIGHT_BITS x 3,
    }
    tiles {
        1: whole [12, 12, 8], groups [6, 4], multiplied [12, 6, 4];
        2: whole [12, 6, 4], groups [4, 2], multiplied [6, 3, 2];
        3: whole [8, 3, 2], groups [2, 1], multiplied [4, 2, 1];
        4: whole [6, 2, 2], groups [2, 1], multiplied [3, 1, 1];
    }
}
