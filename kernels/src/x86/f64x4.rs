//! Vectors of four f64, for the sums of integer panels.

use std::arch::x86_64::*;

pub(super) type F = __m256d;
pub(super) const F_LANES: usize = 4;

/// Eight integers as f64.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn int_widen(v: __m256i) -> [F; 2] {
    let high = _mm256_extracti128_si256::<1>(v);
    [_mm256_cvtepi32_pd(_mm256_castsi256_si128(v)), _mm256_cvtepi32_pd(high)]
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn f_splat(value: f64) -> F {
    _mm256_set1_pd(value)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn f_load(from: &[f64; F_LANES]) -> F {
    bytemuck::cast(*from)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn f_store(v: F, to: &mut [f64; F_LANES]) {
    *to = bytemuck::cast(v);
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn f_mul(a: F, b: F) -> F {
    _mm256_mul_pd(a, b)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn f_add(a: F, b: F) -> F {
    _mm256_add_pd(a, b)
}
