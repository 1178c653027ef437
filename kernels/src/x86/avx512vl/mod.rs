//! AVX-512 with VNNI in 256 bits: the integer kernel of AVX-VNNI by the instruction of AVX-512, with which it can be
//! tested on CPUs that lack AVX-VNNI.

pub(crate) mod u8i8;

use super::avx2::Avx2Int;

crate::isa::isa! {
    /// Proof of AVX2, and of AVX-512 VNNI in 256 bits.
    Avx512Vl: "avx2", "avx512vl", "avx512vnni"
}

// SAFETY: it is in the list.
unsafe impl Avx2Int for Avx512Vl {}
