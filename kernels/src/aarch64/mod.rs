//! Kernels for AArch64.

pub(crate) mod dot;
mod f64x2;
mod i32x4;
pub(crate) mod mlal;
pub(crate) mod neon;

/// How far ahead of its loads a row kernel prefetches, in lines: as on x86-64, where it was measured.
const AHEAD: usize = 32;
