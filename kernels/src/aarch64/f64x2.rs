//! Vectors of two f64, for the sums of integer panels, and their way into y.

use std::arch::aarch64::*;

pub(super) type F = float64x2_t;
pub(super) const F_LANES: usize = 2;

/// Four integers as f64.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn int_widen(v: int32x4_t) -> [F; 2] {
    [vcvtq_f64_s64(vmovl_s32(vget_low_s32(v))), vcvtq_f64_s64(vmovl_high_s32(v))]
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn f_splat(value: f64) -> F {
    vdupq_n_f64(value)
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn f_load(from: &[f64; F_LANES]) -> F {
    bytemuck::cast(*from)
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn f_store(v: F, to: &mut [f64; F_LANES]) {
    *to = bytemuck::cast(v);
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn f_mul(a: F, b: F) -> F {
    vmulq_f64(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn f_add(a: F, b: F) -> F {
    vaddq_f64(a, b)
}

/// Two vectors rounded to f32.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn f_round(v: [F; 2]) -> [f32; 2 * F_LANES] {
    bytemuck::cast(vcvt_high_f32_f64(vcvt_f32_f64(v[0]), v[1]))
}

/// Swaps rows and columns.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn transpose(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    let [a, b, c, d]: [float32x4_t; 4] = bytemuck::cast(rows);
    let double = |v| vreinterpretq_f64_f32(v);
    let (ab_even, ab_odd) = (double(vtrn1q_f32(a, b)), double(vtrn2q_f32(a, b)));
    let (cd_even, cd_odd) = (double(vtrn1q_f32(c, d)), double(vtrn2q_f32(c, d)));
    bytemuck::cast([
        vtrn1q_f64(ab_even, cd_even),
        vtrn1q_f64(ab_odd, cd_odd),
        vtrn2q_f64(ab_even, cd_even),
        vtrn2q_f64(ab_odd, cd_odd),
    ])
}
