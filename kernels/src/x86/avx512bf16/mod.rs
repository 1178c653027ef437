//! AVX-512 with `vdpbf16ps`, as Zen 4 has it, and Intel's servers since Sapphire Rapids.
//!
//! On AMD it does twice what FMA does. On Intel it is slower than FMA (75 GFLOP/s where that does 137, one core of a
//! Sapphire Rapids): there this kernel can be asked for, and is not chosen.

pub(crate) mod bf16;

use std::arch::x86_64::__cpuid;

use super::avx512::Avx512F;
use super::avx512vbmi::bf16::HasVbmi;

crate::isa::isa! {
    /// Proof of what `Avx512Vbmi` proves, and of `vdpbf16ps`.
    Avx512Bf16: "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni", "bmi2", "avx512bf16"
}

// SAFETY: they are in the list.
unsafe impl Avx512F for Avx512Bf16 {}
// SAFETY: it is in the list.
unsafe impl HasVbmi for Avx512Bf16 {}

/// Whether it is faster than FMA: by the CPU's maker.
pub(crate) fn pays() -> bool {
    let leaf = __cpuid(0);
    let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
    name.concat() != b"GenuineIntel"
}
