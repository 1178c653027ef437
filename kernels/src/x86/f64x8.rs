//! Vectors of eight f64, for the sums of integer panels, and their way into y.

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

/// Two vectors rounded to f32.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
pub(super) fn f_round(v: [F; 2]) -> [f32; 2 * F_LANES] {
    let low = _mm512_castps256_ps512(_mm512_cvtpd_ps(v[0]));
    bytemuck::cast(_mm512_insertf32x8::<1>(low, _mm512_cvtpd_ps(v[1])))
}

/// Swaps rows and columns: pairs of rows, then pairs of pairs within 128 bits, then 128 bits as units.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose(rows: [[f32; 16]; 16]) -> [[f32; 16]; 16] {
    let rows: [__m512; 16] = bytemuck::cast(rows);
    let mut fours = [_mm512_setzero_ps(); 16];
    for i in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| rows[4 * i + j]);
        let double = |v| _mm512_castps_pd(v);
        let low = [double(_mm512_unpacklo_ps(a, b)), double(_mm512_unpacklo_ps(c, d))];
        let high = [double(_mm512_unpackhi_ps(a, b)), double(_mm512_unpackhi_ps(c, d))];
        // fours[4i + j]: of each 128 bits column j, rows 4i to 4i + 3.
        fours[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low[0], low[1]));
        fours[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low[0], low[1]));
        fours[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high[0], high[1]));
        fours[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high[0], high[1]));
    }
    let mut columns = [_mm512_setzero_ps(); 16];
    for j in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| fours[4 * i + j]);
        let (ab_even, ab_odd) =
            (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
        let (cd_even, cd_odd) =
            (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xDD>(c, d));
        columns[j] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
        columns[8 + j] = _mm512_shuffle_f32x4::<0xDD>(ab_even, cd_even);
        columns[4 + j] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
        columns[12 + j] = _mm512_shuffle_f32x4::<0xDD>(ab_odd, cd_odd);
    }
    bytemuck::cast(columns)
}
