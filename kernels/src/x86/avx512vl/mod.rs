//! AVX-512 with VNNI in 256 bits: the integer kernel of AVX-VNNI by the instruction of AVX-512, with which it can be
//! tested on CPUs that lack AVX-VNNI.

use std::arch::x86_64::*;

use super::avx2::Avx2Int;
use super::avxvnni::u8i8::Dpbusd;
use crate::isa::with_features;

crate::isa::isa! {
    /// Proof of AVX2, and of AVX-512 VNNI in 256 bits.
    Avx512Vl: "avx2", "avx512vl", "avx512vnni"
}

// SAFETY: it is in the list.
unsafe impl Avx2Int for Avx512Vl {}

/// `vpdpbusd` as AVX-512 encodes it.
pub(crate) struct Evex;

impl Dpbusd for Evex {
    type Isa = Avx512Vl;

    with_features! { "avx2,avx512vl,avx512vnni";
        fn dpbusd(_isa: Avx512Vl, sum: __m256i, magnitudes: __m256i, x: __m256i) -> __m256i {
            _mm256_dpbusd_epi32(sum, magnitudes, x)
        }
    }
}
