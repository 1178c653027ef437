//! AVX-VNNI: what clients without AVX-512 have since Alder Lake. F32 is that of AVX2.

pub(crate) mod u8i8;

use super::avx2::Avx2Int;

crate::isa::isa! {
    /// Proof of AVX2 and AVX-VNNI.
    AvxVnni: "avx2", "avxvnni"
}

// SAFETY: it is in the list.
unsafe impl Avx2Int for AvxVnni {}
