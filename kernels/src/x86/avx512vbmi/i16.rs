//! AVX-512 with VNNI, integer modes: words, multiplied by `vpdpwssd`. All else is as in `avx512/i16.rs`.
//!
//! The kernel takes bytes ([`u8i8`](super::u8i8)) where a table has more than one plane: for those, which nothing but
//! tests asks for, the loops with `vpmaddwd` do.

use std::arch::x86_64::*;

use super::Avx512Vbmi;
use crate::int::{GemmEntry, IntEntry, Operand, one_plane};
use crate::isa::{Isa, with_features};
use crate::x86::avx512::i16::{self, I16, MultiplyAdd};

struct Vpdpwssd;

impl MultiplyAdd for Vpdpwssd {
    type Isa = Avx512Vbmi;

    with_features! { "avx512f,avx512vnni";
        fn multiply_add(_isa: Avx512Vbmi, sum: __m512i, weights: __m512i, x: __m512i) -> __m512i {
            _mm512_dpwssd_epi32(sum, weights, x)
        }
    }
}

pub(crate) static ENTRY: IntEntry = IntEntry {
    // Those of `vpmaddwd` are among them.
    features: Avx512Vbmi::FEATURES,
    operand: Operand::I16,
    lanes: 16,
    decoder: |w| one_plane::<I16<Vpdpwssd>>(w).unwrap_or_else(|| (i16::ENTRY.decoder)(w)),
    gemm: GemmEntry::with_one_plane::<I16<Vpdpwssd>>(i16::GEMM),
};
