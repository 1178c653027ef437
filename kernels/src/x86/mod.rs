//! Kernels for x86-64. A folder is an instruction set, a file in it an operand.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod avx512bf16;
pub(crate) mod avx512vbmi;
pub(crate) mod avxvnni;
#[cfg(feature = "gather")]
pub(crate) mod gather;
pub(crate) mod peak;
