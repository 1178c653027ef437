//! Vectors of eight f64, for the sums of integer panels.

use std::arch::x86_64::*;

pub(super) type F = __m512d;
pub(super) const F_LANES: usize = 8;

/// 16 integers as f64.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn int_widen(v: __m512i) -> [F; 2] {
    let high = _mm512_extracti64x4_epi64::<1>(v);
    [_mm512_cvtepi32_pd(_mm512_castsi512_si256(v)), _mm512_cvtepi32_pd(high)]
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn f_splat(value: f64) -> F {
    _mm512_set1_pd(value)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn f_load(from: &[f64; F_LANES]) -> F {
    bytemuck::cast(*from)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn f_store(v: F, to: &mut [f64; F_LANES]) {
    *to = bytemuck::cast(v);
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn f_mul(a: F, b: F) -> F {
    _mm512_mul_pd(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn f_add(a: F, b: F) -> F {
    _mm512_add_pd(a, b)
}
