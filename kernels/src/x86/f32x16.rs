//! Vectors of 16 floats: what the AVX-512 kernels have in common.

use std::arch::x86_64::*;

pub(super) const LANES: usize = 16;
pub(super) const PARTS: usize = crate::portion::LINE / LANES;

pub(super) type V = __m512;

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn zero() -> V {
    _mm512_setzero_ps()
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn splat(value: f32) -> V {
    _mm512_set1_ps(value)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load(from: &[f32; LANES]) -> V {
    bytemuck::cast(*from)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store(v: V, to: &mut [f32; LANES]) {
    *to = bytemuck::cast(v);
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn mul(a: V, b: V) -> V {
    _mm512_mul_ps(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn add(a: V, b: V) -> V {
    _mm512_add_ps(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn fma(a: V, b: V, c: V) -> V {
    _mm512_fmadd_ps(a, b, c)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn sum(v: V) -> f32 {
    _mm512_reduce_add_ps(v)
}

/// In natural order each quarter of a line is one part.
pub(super) const CLASSES: usize = 4;

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn quarters(scales: [f32; 4]) -> [V; CLASSES] {
    scales.map(|scale| splat(scale))
}

/// Flips the signs of a mask's lanes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn flip(v: V, signs: u16) -> V {
    let v = _mm512_castps_si512(v);
    _mm512_castsi512_ps(_mm512_mask_xor_epi32(v, signs, v, _mm512_set1_epi32(i32::MIN)))
}
