//! Vectors of four f64, for the sums of integer panels, and their way into y.

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

/// Two vectors rounded to f32.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn f_round(v: [F; 2]) -> [f32; 2 * F_LANES] {
    bytemuck::cast(_mm256_set_m128(_mm256_cvtpd_ps(v[1]), _mm256_cvtpd_ps(v[0])))
}

/// Swaps rows and columns: pairs of rows, then pairs of pairs within 128 bits, then 128 bits as units.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn transpose(rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let rows: [__m256; 8] = bytemuck::cast(rows);
    let mut fours = [_mm256_setzero_ps(); 8];
    for i in 0..2 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| rows[4 * i + j]);
        let double = |v| _mm256_castps_pd(v);
        let low = [double(_mm256_unpacklo_ps(a, b)), double(_mm256_unpacklo_ps(c, d))];
        let high = [double(_mm256_unpackhi_ps(a, b)), double(_mm256_unpackhi_ps(c, d))];
        // fours[4i + j]: of each 128 bits column j, rows 4i to 4i + 3.
        fours[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(low[0], low[1]));
        fours[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low[0], low[1]));
        fours[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high[0], high[1]));
        fours[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high[0], high[1]));
    }
    let mut columns = [_mm256_setzero_ps(); 8];
    for j in 0..4 {
        columns[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]);
        columns[4 + j] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]);
    }
    bytemuck::cast(columns)
}
