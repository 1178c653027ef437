//! AVX-512 with VBMI and VNNI, as Ice Lake, Sapphire Rapids and Zen 4 have it.

pub(crate) mod bf16;
pub(crate) mod f32;
pub(crate) mod i16;
pub(crate) mod u8i8;

use std::arch::x86_64::*;

use super::avx512::Avx512F;

crate::isa::isa! {
    /// Proof of AVX-512 with VBMI and VNNI.
    Avx512Vbmi: "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni", "bmi2"
}

// SAFETY: they are in the list.
unsafe impl Avx512F for Avx512Vbmi {}

/// A byte of 256 entries, in registers.
type Plane = [__m512i; 4];

/// One byte plane of 64 codes; `high` has the codes' top bits.
///
/// `vpermi2b` looks up 64 codes in 128 bytes. Two of them and a blend by the code's top bit are a 256-entry lookup.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn lookup(plane: &Plane, codes: __m512i, high: __mmask64) -> __m512i {
    let low = _mm512_permutex2var_epi8(plane[0], codes, plane[1]);
    let up = _mm512_permutex2var_epi8(plane[2], codes, plane[3]);
    _mm512_mask_blend_epi8(high, low, up)
}
