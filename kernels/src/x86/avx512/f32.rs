//! AVX-512 without VBMI, F32 (Skylake-X, Cascade Lake): tables that have a formula are computed, others are
//! looked up by words.
//!
//! Lines are in natural order. `vpermi2w` looks up 32 codes in 64 words: four of them and three blends
//! by the codes' bits 6 and 7 are a plane of words, of which any table needs two. FP8 is converted from half
//! precision (see `avx2/f32.rs`). gemv is bound by memory, in cache by decoding; gemm by FMA.
//!
//! Measured on a Zen 4, weights in L2 (G weights/s): QINS linear 18.3, integers 28.5, E4M3 20.6, E5M2
//! 22.3, two planes 7.9 and 6.9 with signs; `vgatherdps` 3.1 and 2.6. On Intel
//! `vpermi2w` is three instructions' worth and `vpermi2ps` one: for 32 codes both take port 5 about 16
//! times, but eight `vpermi2ps` for 16 codes need seven blends, so words are no worse there. Not measured.

use std::arch::x86_64::*;

use super::{Avx512, Avx512F, F32x16, flip};
use crate::float::{
    Decoder, Float, FloatDecoder, FloatEntry, Gemv, LINES, Loops, Microkernel, Natural, QUARTERS,
    WHOLE, Weights, decoder, either, gemv, microkernel,
};
use crate::isa::{Isa, with_features};
use crate::table::{ClosedForm, Table};
use crate::weights::LINE;

type F32 = F32x16<Avx512>;
type Parts = <F32 as Float>::Line;

pub(crate) static ENTRY: FloatEntry =
    FloatEntry { features: Avx512::FEATURES, lanes: F32::LANES, decoder: choose, gemm: &GEMM };

/// 24 of 32 registers are sums.
pub(crate) static GEMM: [Microkernel; 4] = [
    microkernel::<F32, 4, 6>(),
    microkernel::<F32, 3, 8>(),
    microkernel::<F32, 2, 12>(),
    microkernel::<F32, 1, 24>(),
];

/// Rows side by side, how many of them are decoded first, tokens.
impl<I: Avx512F, D: Decoder<Self>> Loops<D> for F32x16<I> {
    const GEMV: [&'static [Gemv]; 3] = [
        &[
            gemv::<Self, D, WHOLE, 2, 2, 8>(),
            gemv::<Self, D, WHOLE, 4, 2, 4>(),
            gemv::<Self, D, WHOLE, 4, 2, 2>(),
            gemv::<Self, D, WHOLE, 8, 1, 1>(),
        ],
        &[gemv::<Self, D, LINES, 4, 2, 4>(), gemv::<Self, D, LINES, 8, 1, 1>()],
        &[gemv::<Self, D, QUARTERS, 4, 2, 4>(), gemv::<Self, D, QUARTERS, 8, 1, 1>()],
    ];
}

fn choose(w: &Weights<'_>) -> &'static FloatDecoder {
    match w.closed_form() {
        Some(ClosedForm::Magnitude) => decoder::<F32, Magnitude>(),
        Some(ClosedForm::Signed { .. }) => decoder::<F32, Integer>(),
        Some(ClosedForm::E4m3) => decoder::<F32, E4m3>(),
        Some(ClosedForm::E5m2) => decoder::<F32, E5m2>(),
        None => either(w, decoder::<F32, Words<true>>(), decoder::<F32, Words<false>>()),
    }
}

/// QINS linear.
struct Magnitude;

impl Decoder<F32> for Magnitude {
    const NAME: &'static str = "computed magnitude";
    const SIGNED: bool = true;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Avx512, _: &Table) {}

    with_features! { "avx512f,avx512bw,avx512vl";
        fn decode(_isa: Avx512, _regs: &(), codes: &[u8; LINE], signs: u64) -> Parts {
            let mut parts = [_mm512_setzero_ps(); 4];
            for (p, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                let less = _mm_subs_epu8(bytemuck::cast(*codes), _mm_set1_epi8(1));
                let part = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(less));
                parts[p] = flip(part, (signs >> (16 * p)) as u16);
            }
            parts
        }
    }
}

/// int8.
struct Integer;

impl Decoder<F32> for Integer {
    const NAME: &'static str = "computed integer";
    const SIGNED: bool = false;
    type Order = Natural;
    /// What makes a code two's complement.
    type Regs<'a> = __m128i;

    with_features! { "sse2";
        fn load(_isa: Avx512, table: &Table) -> __m128i {
            _mm_set1_epi8(ClosedForm::flip(table.closed_form) as i8)
        }
    }

    with_features! { "avx512f,avx512bw,avx512vl";
        fn decode(_isa: Avx512, flip: &__m128i, codes: &[u8; LINE], _signs: u64) -> Parts {
            let mut parts = [_mm512_setzero_ps(); 4];
            for (part, codes) in parts.iter_mut().zip(codes.as_chunks::<16>().0) {
                let integers = _mm_xor_si128(bytemuck::cast(*codes), *flip);
                *part = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(integers));
            }
            parts
        }
    }
}

/// FP8 by way of f16, of which it is a part; its unit is 2⁸.
struct E4m3;

impl Decoder<F32> for E4m3 {
    const NAME: &'static str = "E4M3 by way of f16";
    const SIGNED: bool = false;
    const UNIT: f32 = 256.0;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Avx512, _: &Table) {}

    with_features! { "avx512f,avx512bw,avx512vl";
        fn decode(_isa: Avx512, _regs: &(), codes: &[u8; LINE], _signs: u64) -> Parts {
            let mut parts = [_mm512_setzero_ps(); 4];
            for (part, codes) in parts.iter_mut().zip(codes.as_chunks::<16>().0) {
                let words = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(bytemuck::cast(*codes)));
                let half = _mm256_and_si256(words, _mm256_set1_epi16(0xBFFF_u16 as i16));
                *part = _mm512_cvtph_ps(half);
            }
            parts
        }
    }
}

/// FP8 that is the top byte of an f16.
struct E5m2;

impl Decoder<F32> for E5m2 {
    const NAME: &'static str = "E5M2 by way of f16";
    const SIGNED: bool = false;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Avx512, _: &Table) {}

    with_features! { "avx512f,avx512bw,avx512vl";
        fn decode(_isa: Avx512, _regs: &(), codes: &[u8; LINE], _signs: u64) -> Parts {
            let mut parts = [_mm512_setzero_ps(); 4];
            for (part, codes) in parts.iter_mut().zip(codes.as_chunks::<16>().0) {
                let words = _mm256_cvtepu8_epi16(bytemuck::cast(*codes));
                *part = _mm512_cvtph_ps(_mm256_slli_epi16::<8>(words));
            }
            parts
        }
    }
}

/// Any table.
struct Words<const SIGNED: bool>;

/// A plane of words: what `vpermi2w` looks up.
type Plane = [__m512i; 8];

impl<const SIGNED: bool> Decoder<F32> for Words<SIGNED> {
    const NAME: &'static str = "2 planes of words";
    const SIGNED: bool = SIGNED;
    type Order = Natural;
    /// The upper halves of the entries, and the lower ones.
    type Regs<'a> = [Plane; 2];

    fn load(_: Avx512, table: &Table) -> [Plane; 2] {
        let mut halves = [[0u16; 256]; 2];
        for (c, value) in table.values.iter().enumerate() {
            let bits = value.to_bits();
            (halves[0][c], halves[1][c]) = ((bits >> 16) as u16, bits as u16);
        }
        bytemuck::cast(halves)
    }

    with_features! { "avx512f,avx512bw,avx512vl";
        fn decode(_isa: Avx512, table: &[Plane; 2], codes: &[u8; LINE], signs: u64) -> Parts {
            let mut parts = [_mm512_setzero_ps(); 4];
            for (i, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                // What unpacking is to leave as neighbours lies 16 codes apart.
                let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let codes = _mm256_permutexvar_epi32(order, bytemuck::cast(*codes));
                let codes = _mm512_cvtepu8_epi16(codes);
                let bit6 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x40));
                let bit7 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x80));
                let high = lookup(&table[0], codes, bit6, bit7);
                let low = lookup(&table[1], codes, bit6, bit7);
                let neighbours = [
                    _mm512_castsi512_ps(_mm512_unpacklo_epi16(low, high)),
                    _mm512_castsi512_ps(_mm512_unpackhi_epi16(low, high)),
                ];
                // Without a plane the signs are 0.
                for (j, part) in neighbours.into_iter().enumerate() {
                    parts[2 * i + j] = flip(part, (signs >> (16 * (2 * i + j))) as u16);
                }
            }
            parts
        }
    }
}

/// A plane's words for 32 codes, of which `bit6` and `bit7` have these bits.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn lookup(plane: &Plane, codes: __m512i, bit6: __mmask32, bit7: __mmask32) -> __m512i {
    let quarters = [
        _mm512_permutex2var_epi16(plane[0], codes, plane[1]),
        _mm512_permutex2var_epi16(plane[2], codes, plane[3]),
        _mm512_permutex2var_epi16(plane[4], codes, plane[5]),
        _mm512_permutex2var_epi16(plane[6], codes, plane[7]),
    ];
    let lower = _mm512_mask_blend_epi16(bit6, quarters[0], quarters[1]);
    let upper = _mm512_mask_blend_epi16(bit6, quarters[2], quarters[3]);
    _mm512_mask_blend_epi16(bit7, lower, upper)
}
