//! Vectors of 8 floats: what the AVX2 kernels have in common.

use std::arch::x86_64::*;

pub(super) const LANES: usize = 8;
pub(super) const PARTS: usize = crate::portion::LINE / LANES;

pub(super) type V = __m256;

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn zero() -> V {
    _mm256_setzero_ps()
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn splat(value: f32) -> V {
    _mm256_set1_ps(value)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn load(from: &[f32; LANES]) -> V {
    bytemuck::cast(*from)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn store(v: V, to: &mut [f32; LANES]) {
    *to = bytemuck::cast(v);
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn mul(a: V, b: V) -> V {
    _mm256_mul_ps(a, b)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn add(a: V, b: V) -> V {
    _mm256_add_ps(a, b)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn fma(a: V, b: V, c: V) -> V {
    _mm256_fmadd_ps(a, b, c)
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn sum(v: V) -> f32 {
    let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
}

/// Each quarter of a line is two parts.
pub(super) const CLASSES: usize = 4;

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn quarters(scales: [f32; 4]) -> [V; CLASSES] {
    scales.map(|scale| splat(scale))
}

/// The sign bits that a byte of a sign plane stands for: 8 KiB. One xor with a row of it is fewer
/// instructions than anything that makes the same bits in registers.
#[repr(align(64))]
struct SignBits([[u32; LANES]; 256]);

static SIGN_BITS: SignBits = {
    let mut rows = [[0; LANES]; 256];
    let mut i = 0;
    while i < 256 * LANES {
        rows[i / LANES][i % LANES] = (((i / LANES) >> (i % LANES) & 1) as u32) << 31;
        i += 1;
    }
    SignBits(rows)
};

/// Flips the signs that a byte of a sign plane names.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn flip(v: V, signs: u8) -> V {
    _mm256_xor_ps(v, bytemuck::cast(SIGN_BITS.0[usize::from(signs)]))
}
