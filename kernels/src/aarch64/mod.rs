//! Kernels for AArch64. A folder or file is an instruction set; `bytes.rs` is what those that multiply bytes share.

pub(crate) mod bf16;
mod bytes;
pub(crate) mod dotprod;
pub(crate) mod i8mm;
pub(crate) mod neon;
pub(crate) mod peak;
