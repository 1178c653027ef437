//! AVX-VNNI: what clients without AVX-512 have since Alder Lake. F32 is that of AVX2.

pub(crate) mod u8i8;

use std::arch::x86_64::*;

use super::avx2::Avx2Int;
use crate::isa::with_features;

crate::isa::isa! {
    /// Proof of AVX2 and AVX-VNNI.
    AvxVnni: "avx2", "avxvnni"
}

// SAFETY: it is in the list.
unsafe impl Avx2Int for AvxVnni {}

/// `vpdpbusd` as AVX-VNNI encodes it.
pub(crate) struct Vex;

impl u8i8::Dpbusd for Vex {
    type Isa = AvxVnni;

    with_features! { "avx2,avxvnni";
        fn dpbusd(_isa: AvxVnni, sum: __m256i, magnitudes: __m256i, x: __m256i) -> __m256i {
            _mm256_dpbusd_avx_epi32(sum, magnitudes, x)
        }
    }
}
