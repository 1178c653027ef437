//! AVX-512 as Skylake-X has it: the token, and the vectors of all AVX-512 kernels.

pub(crate) mod f32;
pub(crate) mod i16;

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::float::Float;
use crate::int::{Doubles, Sums};
use crate::isa::{Isa, with_features};
use crate::weights::LINE;

crate::isa::isa! {
    /// Proof of AVX-512 as Skylake-X has it.
    Avx512: "avx512f", "avx512bw", "avx512dq", "avx512vl"
}

/// What all AVX-512 kernels need.
///
/// # Safety
/// The token proves `avx512f`, `avx512bw` and `avx512dq`.
pub(crate) unsafe trait Avx512F: Isa {}

// SAFETY: they are in the list.
unsafe impl Avx512F for Avx512 {}

/// Vectors of 16 floats.
pub(crate) struct F32x16<I>(PhantomData<I>);

impl<I: Avx512F> Float for F32x16<I> {
    type Isa = I;
    type V = __m512;
    type Lanes = [f32; 16];
    type Line = [__m512; LINE / 16];

    with_features! { "avx512f";
        fn zero(_isa: I) -> __m512 { _mm512_setzero_ps() }
        fn splat(_isa: I, value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn load(_isa: I, from: &[f32; 16]) -> __m512 { bytemuck::cast(*from) }
        fn store(_isa: I, v: __m512, to: &mut [f32; 16]) { *to = bytemuck::cast(v); }
        fn mul(_isa: I, a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn add(_isa: I, a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn fma(_isa: I, a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn sum(_isa: I, v: __m512) -> f32 { _mm512_reduce_add_ps(v) }
        fn zero_line(_isa: I) -> [__m512; 4] { [_mm512_setzero_ps(); 4] }
    }
}

/// Flips the signs of a mask's lanes.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn flip(v: __m512, signs: u16) -> __m512 {
    let v = _mm512_castps_si512(v);
    _mm512_castsi512_ps(_mm512_mask_xor_epi32(v, signs, v, _mm512_set1_epi32(i32::MIN)))
}

/// Vectors of 16 i32, the sums of integer kernels.
pub(crate) struct I32x16<I>(PhantomData<I>);

impl<I: Avx512F> Sums for I32x16<I> {
    type Isa = I;
    type V = __m512i;
    type Lanes = [u32; 16];
    type Doubles = F64x8<I>;

    with_features! { "avx512f";
        fn zero(_isa: I) -> __m512i { _mm512_setzero_si512() }
        fn splat(_isa: I, word: u32) -> __m512i { _mm512_set1_epi32(word as i32) }
        fn load(_isa: I, from: &[u32; 16]) -> __m512i { bytemuck::cast(*from) }
        fn widen(_isa: I, v: __m512i) -> [__m512d; 2] {
            let high = _mm512_extracti64x4_epi64::<1>(v);
            [_mm512_cvtepi32_pd(_mm512_castsi512_si256(v)), _mm512_cvtepi32_pd(high)]
        }
        fn multiply_add(_isa: I, sums: __m512i, part: __m512i, by: __m512i) -> __m512i {
            _mm512_add_epi32(sums, _mm512_mullo_epi32(part, by))
        }
        fn shift_add(_isa: I, high: __m512i, low: __m512i) -> __m512i {
            _mm512_add_epi32(_mm512_slli_epi32::<8>(high), low)
        }
    }
}

/// Vectors of eight f64, for the sums of integer panels, and their way into y.
pub(crate) struct F64x8<I>(PhantomData<I>);

impl<I: Avx512F> Doubles for F64x8<I> {
    type Isa = I;
    type V = __m512d;
    type Lanes = [f64; 8];
    type Row = [f32; 16];
    type Block = [[f32; 16]; 16];

    with_features! { "avx512f,avx512dq";
        fn splat(_isa: I, value: f64) -> __m512d { _mm512_set1_pd(value) }
        fn load(_isa: I, from: &[f64; 8]) -> __m512d { bytemuck::cast(*from) }
        fn store(_isa: I, v: __m512d, to: &mut [f64; 8]) { *to = bytemuck::cast(v); }
        fn mul(_isa: I, a: __m512d, b: __m512d) -> __m512d { _mm512_mul_pd(a, b) }
        fn add(_isa: I, a: __m512d, b: __m512d) -> __m512d { _mm512_add_pd(a, b) }
        fn round(_isa: I, v: [__m512d; 2]) -> [f32; 16] {
            let low = _mm512_castps256_ps512(_mm512_cvtpd_ps(v[0]));
            bytemuck::cast(_mm512_insertf32x8::<1>(low, _mm512_cvtpd_ps(v[1])))
        }
        fn transpose(_isa: I, rows: [[f32; 16]; 16]) -> [[f32; 16]; 16] {
            bytemuck::cast(transpose(bytemuck::cast(rows)))
        }
    }
}

/// Swaps rows and columns.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose(rows: [__m512; 16]) -> [__m512; 16] {
    // Pairs of rows, then pairs of pairs within 128 bits, then 128 bits as units.
    let mut fours = [_mm512_setzero_ps(); 16];
    for i in 0..4 {
        let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
        let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
        let low = [_mm512_castps_pd(ab), _mm512_castps_pd(cd)];
        let (ab, cd) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
        let high = [_mm512_castps_pd(ab), _mm512_castps_pd(cd)];
        // fours[4i + j]: of each 128 bits column j, rows 4i to 4i + 3.
        fours[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low[0], low[1]));
        fours[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low[0], low[1]));
        fours[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high[0], high[1]));
        fours[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high[0], high[1]));
    }
    let mut columns = [_mm512_setzero_ps(); 16];
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let ab_even = _mm512_shuffle_f32x4::<0x88>(a, b);
        let ab_odd = _mm512_shuffle_f32x4::<0xDD>(a, b);
        let cd_even = _mm512_shuffle_f32x4::<0x88>(c, d);
        let cd_odd = _mm512_shuffle_f32x4::<0xDD>(c, d);
        columns[j] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
        columns[8 + j] = _mm512_shuffle_f32x4::<0xDD>(ab_even, cd_even);
        columns[4 + j] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
        columns[12 + j] = _mm512_shuffle_f32x4::<0xDD>(ab_odd, cd_odd);
    }
    columns
}

/// The sum of all lanes, each widened before.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn wide_sum(v: __m512i) -> i64 {
    let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v));
    let high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(v));
    _mm512_reduce_add_epi64(_mm512_add_epi64(low, high))
}
