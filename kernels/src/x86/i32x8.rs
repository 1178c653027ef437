//! Vectors of eight i32, the sums of 256-bit integer kernels.

use std::arch::x86_64::*;

pub(super) const INT_LANES: usize = 8;

pub(super) type I = __m256i;

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn int_zero() -> I {
    _mm256_setzero_si256()
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn int_splat(step: u32) -> I {
    _mm256_set1_epi32(step as i32)
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn int_load(steps: &[u32; INT_LANES]) -> I {
    bytemuck::cast(*steps)
}

/// The sum of all lanes, each widened before.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn int_sum(v: I) -> i64 {
    let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v));
    let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(v));
    let sums: [i64; 4] = bytemuck::cast(_mm256_add_epi64(low, high));
    sums.iter().sum()
}

/// The same of four vectors: lanes that are 128 bits apart, then pairs of vectors side by side.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn int_sum4(v: [I; 4]) -> [i64; 4] {
    let mut two = [_mm256_setzero_si256(); 4];
    for (two, v) in two.iter_mut().zip(v) {
        let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v));
        *two = _mm256_add_epi64(low, _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(v)));
    }
    let pair = |a, b| _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let (ab, cd) = (pair(two[0], two[1]), pair(two[2], two[3]));
    let low = _mm256_permute2x128_si256::<0x20>(ab, cd);
    bytemuck::cast(_mm256_add_epi64(low, _mm256_permute2x128_si256::<0x31>(ab, cd)))
}
