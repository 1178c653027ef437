//! Kernels for x86-64.

pub(crate) mod avx2;
#[cfg(feature = "gather")]
pub(crate) mod avx2_gather;
pub(crate) mod avx512;
#[cfg(feature = "gather")]
pub(crate) mod avx512_gather;
pub(crate) mod avxvnni;
mod f32x16;
mod f32x8;
mod f64x4;
mod f64x8;
mod i32x8;
pub(crate) mod madd;
mod shuffle;
pub(crate) mod vbmi;
pub(crate) mod vnni;
pub(crate) mod words512;

/// How far ahead of its loads a row kernel prefetches, in lines.
///
/// Without it cold products of one token are a quarter to a half slower on a Zen 4; T0 was no better
/// than T1. It must follow the kernel from group to group of rows: looking 2 KiB ahead within a row
/// of 3 KiB asked for lines of the next row, which had long been loaded, and gained nothing.
const AHEAD: usize = 32;
