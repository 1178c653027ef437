//! `vpdpbusd` in 256 bits as AVX-512 encodes it. All else is as in `avxvnni/u8i8.rs`.

use std::arch::x86_64::*;

use super::Avx512Vl;
use crate::int::IntEntry;
use crate::isa::with_features;
use crate::x86::avxvnni::u8i8::{self, Dpbusd};

pub(crate) static ENTRY: IntEntry = u8i8::entry::<Evex>();

struct Evex;

impl Dpbusd for Evex {
    type Isa = Avx512Vl;

    with_features! { "avx2,avx512vl,avx512vnni";
        fn dpbusd(_isa: Avx512Vl, sum: __m256i, magnitudes: __m256i, x: __m256i) -> __m256i {
            _mm256_dpbusd_epi32(sum, magnitudes, x)
        }
    }
}
