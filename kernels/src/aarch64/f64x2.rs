//! Vectors of two f64, for the sums of integer panels.

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
