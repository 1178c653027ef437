//! AVX2 with FMA and F16C, F32: tables that have a formula are computed, others are looked up by scalar loads.
//!
//! Lines are decoded in natural order, 16 codes at a time: integers by a shuffle that widens them and
//! a conversion; FP8 as the half-precision number it is a part of, subnormals included, whatever the
//! modes of FTZ and DAZ are. E4M3 comes out as 1/256 of its value, which the decoder's unit
//! makes up for, once a row. Its codes are shifted by `vpmaddubsw`, which runs beside the shuffles and takes
//! every other code: hence an order of its own.
//!
//! What bounds it on a Zen 4 are pipes: shuffles, shifts and half of a conversion share two. Measured on
//! weights in L2 (G weights/s): QINS linear 16.2, of which the signs cost a third, integers 20.8, E4M3
//! 19.1 (17.1 shifted by `vpsllw`), E5M2 22.2, any other table 4.2 and 4.1 with signs;
//! `vgatherdps` 3.1 and 2.5. With rows not unrolled by hand, sums were in memory: linear 13.4, lookup 3.8.
//! For lookups, codes taken out of a u64 by shifts gave 3.6 (bytes loaded one by one: 4.2). Sign bytes
//! loaded one by one made linear slower (15.6).
//!
//! 16 registers set the rows: two tokens with 4 rows, one at a time, 8.3 (E4M3; 2 rows, both
//! decoded first: 14.3), four tokens 8.8 (9.5); eight at once 3.9, so they are done by fours. A tile 3 vectors wide
//! needs all 16, the compiler one more: sums on the stack, 46 GFLOP/s instead of 112.

use std::arch::x86_64::*;

use super::{Avx2, Avx2Fma, F32x8, flip};
use crate::float::{
    Decoder, Float, FloatDecoder, FloatEntry, Gemv, LINES, LineOrder, Loops, Microkernel, Natural,
    Order, QUARTERS, WHOLE, Weights, decoder, either, gemv, microkernel, quarter_classes,
};
use crate::isa::{Isa, with_features};
use crate::table::{ClosedForm, Table};
use crate::weights::LINE;

type F32 = F32x8<Avx2>;
type Parts = <F32 as Float>::Line;

pub(crate) static ENTRY: FloatEntry =
    FloatEntry { features: Avx2::FEATURES, lanes: F32::LANES, decoder: choose, gemm: &GEMM };

/// 12 of 16 registers are sums.
pub(crate) static GEMM: [Microkernel; 2] =
    [microkernel::<F32, 2, 6>(), microkernel::<F32, 1, 12>()];

/// Rows side by side, how many of them are decoded first, tokens.
impl<I: Avx2Fma, D: Decoder<Self>> Loops<D> for F32x8<I> {
    const GEMV: [&'static [Gemv]; 3] = [
        &[
            gemv::<Self, D, WHOLE, 2, 2, 4>(),
            gemv::<Self, D, WHOLE, 2, 2, 2>(),
            gemv::<Self, D, WHOLE, 4, 1, 1>(),
        ],
        &[gemv::<Self, D, LINES, 2, 2, 4>(), gemv::<Self, D, LINES, 4, 1, 1>()],
        &[gemv::<Self, D, QUARTERS, 2, 2, 4>(), gemv::<Self, D, QUARTERS, 4, 1, 1>()],
    ];
}

fn choose(w: &Weights<'_>) -> &'static FloatDecoder {
    match w.closed_form() {
        Some(ClosedForm::Magnitude) => decoder::<F32, Magnitude>(),
        Some(ClosedForm::Signed { .. }) => decoder::<F32, Integer>(),
        Some(ClosedForm::E4m3) => decoder::<F32, E4m3>(),
        Some(ClosedForm::E5m2) => decoder::<F32, E5m2>(),
        None => either(w, decoder::<F32, Lookup<true>>(), decoder::<F32, Lookup<false>>()),
    }
}

/// Of each 16 codes the even ones, then the odd ones: a quarter of a line stays one.
struct EvenOdd;

impl LineOrder<F32> for EvenOdd {
    const ORDER: Order = {
        let mut order = [0; LINE];
        let mut p = 0;
        while p < LINE {
            order[p] = (p / 16 * 16 + p % 8 * 2 + p / 8 % 2) as u8;
            p += 1;
        }
        order
    };
    type Classes = [__m256; 4];

    #[inline(always)]
    fn classes(isa: Avx2, scales: [f32; 4]) -> [__m256; 4] {
        quarter_classes::<F32>(isa, scales)
    }

    #[inline(always)]
    fn same(isa: Avx2, scale: f32) -> [__m256; 4] {
        [F32::splat(isa, scale); 4]
    }
}

/// The bytes of each half of 16 codes, which both lanes hold, as integers of 32 bits.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(codes: __m256i) -> [__m256i; 2] {
    const NO: i8 = -1;
    let low = _mm256_setr_epi8(
        0, NO, NO, NO, 1, NO, NO, NO, 2, NO, NO, NO, 3, NO, NO, NO, //
        4, NO, NO, NO, 5, NO, NO, NO, 6, NO, NO, NO, 7, NO, NO, NO,
    );
    let high = _mm256_setr_epi8(
        8, NO, NO, NO, 9, NO, NO, NO, 10, NO, NO, NO, 11, NO, NO, NO, //
        12, NO, NO, NO, 13, NO, NO, NO, 14, NO, NO, NO, 15, NO, NO, NO,
    );
    [_mm256_shuffle_epi8(codes, low), _mm256_shuffle_epi8(codes, high)]
}

/// Flips the signs of a line.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn flip_line(mut parts: Parts, signs: u64) -> Parts {
    for (part, byte) in parts.iter_mut().zip(signs.to_le_bytes()) {
        *part = flip(*part, byte);
    }
    parts
}

/// QINS linear.
struct Magnitude;

impl Decoder<F32> for Magnitude {
    const NAME: &'static str = "computed magnitude";
    const SIGNED: bool = true;
    const UNROLLED: bool = true;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Avx2, _: &Table) {}

    with_features! { "avx2,fma";
        fn decode(_isa: Avx2, _regs: &(), codes: &[u8; LINE], signs: u64) -> Parts {
            let mut parts = [_mm256_setzero_ps(); 8];
            let codes = codes.as_chunks::<16>().0;
            for (codes, parts) in codes.iter().zip(parts.as_chunks_mut::<2>().0) {
                let codes = _mm256_broadcastsi128_si256(bytemuck::cast(*codes));
                let [low, high] = widen(_mm256_subs_epu8(codes, _mm256_set1_epi8(1)));
                *parts = [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)];
            }
            flip_line(parts, signs)
        }
    }
}

/// int8.
struct Integer;

impl Decoder<F32> for Integer {
    const NAME: &'static str = "computed integer";
    const SIGNED: bool = false;
    const UNROLLED: bool = true;
    type Order = Natural;
    /// What makes a code the integer plus 128.
    type Regs<'a> = __m256i;

    with_features! { "avx2";
        fn load(_isa: Avx2, table: &Table) -> __m256i {
            _mm256_set1_epi8((ClosedForm::flip(table.closed_form) ^ 0x80) as i8)
        }
    }

    with_features! { "avx2,fma";
        fn decode(_isa: Avx2, bias: &__m256i, codes: &[u8; LINE], _signs: u64) -> Parts {
            let mut parts = [_mm256_setzero_ps(); 8];
            let codes = codes.as_chunks::<16>().0;
            for (codes, parts) in codes.iter().zip(parts.as_chunks_mut::<2>().0) {
                let codes = _mm256_broadcastsi128_si256(bytemuck::cast(*codes));
                let [low, high] = widen(_mm256_xor_si256(codes, *bias));
                let bias = _mm256_set1_epi32(-128);
                *parts = [
                    _mm256_cvtepi32_ps(_mm256_add_epi32(low, bias)),
                    _mm256_cvtepi32_ps(_mm256_add_epi32(high, bias)),
                ];
            }
            parts
        }
    }
}

/// FP8 by way of f16, of which it is a part; its unit is 2⁸.
struct E4m3;

impl Decoder<F32> for E4m3 {
    const NAME: &'static str = "E4M3 by F16C";
    const SIGNED: bool = false;
    const UNIT: f32 = 256.0;
    const UNROLLED: bool = true;
    type Order = EvenOdd;
    type Regs<'a> = ();

    fn load(_: Avx2, _: &Table) {}

    with_features! { "avx2,fma,f16c";
        fn decode(_isa: Avx2, _regs: &(), codes: &[u8; LINE], _signs: u64) -> Parts {
            let mut parts = [_mm256_setzero_ps(); 8];
            let codes = codes.as_chunks::<32>().0;
            for (codes, parts) in codes.iter().zip(parts.as_chunks_mut::<4>().0) {
                let codes: __m256i = bytemuck::cast(*codes);
                let even = _mm256_maddubs_epi16(_mm256_set1_epi16(0x0080), codes);
                let odd = _mm256_maddubs_epi16(_mm256_set1_epi16(0x8000_u16 as i16), codes);
                let (even, odd) = (e4m3(even), e4m3(odd));
                *parts = [even[0], odd[0], even[1], odd[1]];
            }
            parts
        }
    }
}

/// Codes, sign-extended and shifted left by 7 bits, as E4M3 over 256: what is bit 14 then is not part of
/// the exponent.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn e4m3(words: __m256i) -> [__m256; 2] {
    let half = _mm256_and_si256(words, _mm256_set1_epi16(0xBFFF_u16 as i16));
    [
        _mm256_cvtph_ps(_mm256_castsi256_si128(half)),
        _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(half)),
    ]
}

/// FP8 that is the top byte of an f16.
struct E5m2;

impl Decoder<F32> for E5m2 {
    const NAME: &'static str = "E5M2 by F16C";
    const SIGNED: bool = false;
    const UNROLLED: bool = true;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Avx2, _: &Table) {}

    with_features! { "avx2,fma,f16c";
        fn decode(_isa: Avx2, _regs: &(), codes: &[u8; LINE], _signs: u64) -> Parts {
            let mut parts = [_mm256_setzero_ps(); 8];
            let (codes, zero) = (codes.as_chunks::<16>().0, _mm_setzero_si128());
            for (codes, parts) in codes.iter().zip(parts.as_chunks_mut::<2>().0) {
                let codes = bytemuck::cast(*codes);
                *parts = [
                    _mm256_cvtph_ps(_mm_unpacklo_epi8(zero, codes)),
                    _mm256_cvtph_ps(_mm_unpackhi_epi8(zero, codes)),
                ];
            }
            parts
        }
    }
}

/// Any table.
struct Lookup<const SIGNED: bool>;

impl<const SIGNED: bool> Decoder<F32> for Lookup<SIGNED> {
    const NAME: &'static str = "lookup";
    const SIGNED: bool = SIGNED;
    const UNROLLED: bool = true;
    type Order = Natural;
    type Regs<'a> = &'a [f32; 256];

    fn load(_: Avx2, table: &Table) -> &[f32; 256] {
        &table.values
    }

    with_features! { "avx2,fma";
        fn decode(_isa: Avx2, table: &&[f32; 256], codes: &[u8; LINE], signs: u64) -> Parts {
            let mut parts = [_mm256_setzero_ps(); 8];
            for (part, c) in parts.iter_mut().zip(codes.as_chunks::<8>().0) {
                // One by one: a `map` of all codes to indices goes through vectors.
                *part = _mm256_setr_ps(
                    table[usize::from(c[0])],
                    table[usize::from(c[1])],
                    table[usize::from(c[2])],
                    table[usize::from(c[3])],
                    table[usize::from(c[4])],
                    table[usize::from(c[5])],
                    table[usize::from(c[6])],
                    table[usize::from(c[7])],
                );
            }
            flip_line(parts, signs)
        }
    }
}
