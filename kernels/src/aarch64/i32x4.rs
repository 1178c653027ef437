//! Vectors of four i32, the sums of integer kernels.

use std::arch::aarch64::*;

pub(super) const INT_LANES: usize = 4;

pub(super) type I = int32x4_t;

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn int_zero() -> I {
    vdupq_n_s32(0)
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn int_splat(step: u32) -> I {
    vdupq_n_s32(step as i32)
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn int_load(steps: &[u32; INT_LANES]) -> I {
    bytemuck::cast(*steps)
}

/// The sum of all lanes, each widened before.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn int_sum(v: I) -> i64 {
    vaddlvq_s32(v)
}
