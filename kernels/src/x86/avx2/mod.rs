//! AVX2 with FMA and F16C: the token, and the vectors of all 256-bit kernels.

pub(crate) mod bytes;
pub(crate) mod f32;
pub(crate) mod i16;

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::float::Float;
use crate::int::{Doubles, Sums};
use crate::isa::{Isa, with_features};
use crate::weights::LINE;

crate::isa::isa! {
    /// Proof of AVX2, FMA and F16C.
    Avx2: "avx2", "fma", "f16c"
}

/// What all 256-bit integer kernels need.
///
/// # Safety
/// The token proves `avx2`.
pub(crate) unsafe trait Avx2Int: Isa {}

// SAFETY: it is in the list.
unsafe impl Avx2Int for Avx2 {}

/// What all 256-bit kernels of F32 need.
///
/// # Safety
/// The token proves `avx2` and `fma`.
pub(crate) unsafe trait Avx2Fma: Isa {}

// SAFETY: they are in the list.
unsafe impl Avx2Fma for Avx2 {}

/// Vectors of 8 floats.
pub(crate) struct F32x8<I>(PhantomData<I>);

impl<I: Avx2Fma> Float for F32x8<I> {
    type Isa = I;
    type V = __m256;
    type Lanes = [f32; 8];
    type Line = [__m256; LINE / 8];

    with_features! { "avx2,fma";
        fn zero(_isa: I) -> __m256 { _mm256_setzero_ps() }
        fn splat(_isa: I, value: f32) -> __m256 { _mm256_set1_ps(value) }
        fn load(_isa: I, from: &[f32; 8]) -> __m256 { bytemuck::cast(*from) }
        fn store(_isa: I, v: __m256, to: &mut [f32; 8]) { *to = bytemuck::cast(v); }
        fn mul(_isa: I, a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn add(_isa: I, a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn fma(_isa: I, a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn sum(_isa: I, v: __m256) -> f32 {
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        }
        fn zero_line(_isa: I) -> [__m256; 8] { [_mm256_setzero_ps(); 8] }
    }
}

/// The sign bits that a byte of a sign plane stands for: 8 KiB. One xor with a row of it is fewer
/// instructions than anything that makes the same bits in registers.
#[repr(align(64))]
struct SignBits([[u32; 8]; 256]);

static SIGN_BITS: SignBits = {
    let mut rows = [[0; 8]; 256];
    let mut i = 0;
    while i < 256 * 8 {
        rows[i / 8][i % 8] = (((i / 8) >> (i % 8) & 1) as u32) << 31;
        i += 1;
    }
    SignBits(rows)
};

/// Flips the signs that a byte of a sign plane names.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn flip(v: __m256, signs: u8) -> __m256 {
    _mm256_xor_ps(v, bytemuck::cast(SIGN_BITS.0[usize::from(signs)]))
}

/// Vectors of eight i32, the sums of 256-bit integer kernels.
pub(crate) struct I32x8<I>(PhantomData<I>);

impl<I: Avx2Int> Sums for I32x8<I> {
    type Isa = I;
    type V = __m256i;
    type Lanes = [u32; 8];
    type Doubles = F64x4<I>;

    with_features! { "avx2";
        fn zero(_isa: I) -> __m256i { _mm256_setzero_si256() }
        fn splat(_isa: I, word: u32) -> __m256i { _mm256_set1_epi32(word as i32) }
        fn load(_isa: I, from: &[u32; 8]) -> __m256i { bytemuck::cast(*from) }
        fn widen(_isa: I, v: __m256i) -> [__m256d; 2] {
            let high = _mm256_extracti128_si256::<1>(v);
            [_mm256_cvtepi32_pd(_mm256_castsi256_si128(v)), _mm256_cvtepi32_pd(high)]
        }
        fn multiply_add(_isa: I, sums: __m256i, part: __m256i, by: __m256i) -> __m256i {
            _mm256_add_epi32(sums, _mm256_mullo_epi32(part, by))
        }
        fn shift_add(_isa: I, high: __m256i, low: __m256i) -> __m256i {
            _mm256_add_epi32(_mm256_slli_epi32::<8>(high), low)
        }
    }
}

/// The sum of all lanes, each widened before.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn wide_sum(v: __m256i) -> i64 {
    let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v));
    let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(v));
    let sums: [i64; 4] = bytemuck::cast(_mm256_add_epi64(low, high));
    sums.iter().sum()
}

/// Vectors of four f64, for the sums of integer panels, and their way into y.
pub(crate) struct F64x4<I>(PhantomData<I>);

impl<I: Avx2Int> Doubles for F64x4<I> {
    type Isa = I;
    type V = __m256d;
    type Lanes = [f64; 4];
    type Row = [f32; 8];
    type Block = [[f32; 8]; 8];

    with_features! { "avx2";
        fn splat(_isa: I, value: f64) -> __m256d { _mm256_set1_pd(value) }
        fn load(_isa: I, from: &[f64; 4]) -> __m256d { bytemuck::cast(*from) }
        fn store(_isa: I, v: __m256d, to: &mut [f64; 4]) { *to = bytemuck::cast(v); }
        fn mul(_isa: I, a: __m256d, b: __m256d) -> __m256d { _mm256_mul_pd(a, b) }
        fn add(_isa: I, a: __m256d, b: __m256d) -> __m256d { _mm256_add_pd(a, b) }
        fn round(_isa: I, v: [__m256d; 2]) -> [f32; 8] {
            bytemuck::cast(_mm256_set_m128(_mm256_cvtpd_ps(v[1]), _mm256_cvtpd_ps(v[0])))
        }
        fn transpose(_isa: I, rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
            // Pairs of rows, then pairs of pairs within 128 bits, then 128 bits as units.
            let rows: [__m256; 8] = bytemuck::cast(rows);
            let mut fours = [_mm256_setzero_ps(); 8];
            for i in 0..2 {
                let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
                let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                let low = [_mm256_castps_pd(ab), _mm256_castps_pd(cd)];
                let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                let high = [_mm256_castps_pd(ab), _mm256_castps_pd(cd)];
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
    }
}
