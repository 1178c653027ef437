//! Kernels that gather, the obvious way: kept to measure the others against. They are listed last and never chosen.

use std::arch::x86_64::*;

use super::avx2::{self, Avx2, F32x8};
use super::avx512::{self, Avx512, F32x16};
use crate::float::{Decoder, Float, FloatDecoder, FloatEntry, Natural, Weights, decoder, either};
use crate::isa::{Isa, with_features};
use crate::table::Table;
use crate::weights::LINE;

pub(crate) static AVX512: FloatEntry = FloatEntry {
    features: Avx512::FEATURES,
    lanes: 16,
    decoder: choose512,
    gemm: &avx512::f32::GEMM,
};

pub(crate) static AVX2: FloatEntry =
    FloatEntry { features: Avx2::FEATURES, lanes: 8, decoder: choose256, gemm: &avx2::f32::GEMM };

fn choose512(w: &Weights<'_>) -> &'static FloatDecoder {
    type F32 = F32x16<Avx512>;
    either(w, decoder::<F32, Gather<true>>(), decoder::<F32, Gather<false>>())
}

fn choose256(w: &Weights<'_>) -> &'static FloatDecoder {
    type F32 = F32x8<Avx2>;
    either(w, decoder::<F32, Gather<true>>(), decoder::<F32, Gather<false>>())
}

/// Any table, by `vgatherdps`.
struct Gather<const SIGNED: bool>;

impl<const SIGNED: bool> Decoder<F32x16<Avx512>> for Gather<SIGNED> {
    const NAME: &'static str = "gather";
    const SIGNED: bool = SIGNED;
    type Order = Natural;
    type Regs<'a> = &'a [f32; 256];

    fn load(_: Avx512, table: &Table) -> &[f32; 256] {
        &table.values
    }

    with_features! { "avx512f";
        fn decode(
            _isa: Avx512,
            table: &&[f32; 256],
            codes: &[u8; LINE],
            signs: u64,
        ) -> <F32x16<Avx512> as Float>::Line {
            let mut parts = [_mm512_setzero_ps(); 4];
            for (p, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                let index = _mm512_cvtepu8_epi32(bytemuck::cast(*codes));
                // SAFETY: every index is a byte, and the table has 256 entries.
                let part = unsafe { _mm512_i32gather_ps::<4>(index, table.as_ptr()) };
                parts[p] = avx512::flip(part, (signs >> (16 * p)) as u16);
            }
            parts
        }
    }
}

impl<const SIGNED: bool> Decoder<F32x8<Avx2>> for Gather<SIGNED> {
    const NAME: &'static str = "gather";
    const SIGNED: bool = SIGNED;
    type Order = Natural;
    type Regs<'a> = &'a [f32; 256];

    fn load(_: Avx2, table: &Table) -> &[f32; 256] {
        &table.values
    }

    with_features! { "avx2,fma";
        fn decode(
            _isa: Avx2,
            table: &&[f32; 256],
            codes: &[u8; LINE],
            signs: u64,
        ) -> <F32x8<Avx2> as Float>::Line {
            let mut parts = [_mm256_setzero_ps(); 8];
            let codes = codes.as_chunks::<8>().0;
            for ((part, codes), signs) in parts.iter_mut().zip(codes).zip(signs.to_le_bytes()) {
                let index = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
                // SAFETY: every index is a byte, and the table has 256 entries.
                let gathered = unsafe { _mm256_i32gather_ps::<4>(table.as_ptr(), index) };
                *part = avx2::flip(gathered, signs);
            }
            parts
        }
    }
}
