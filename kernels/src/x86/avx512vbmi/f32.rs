//! AVX-512 with VBMI, F32: integers are computed, every other table is looked up.
//!
//! A table of which only the two top bytes are not zero (FP8, small integers, hence QINS linear and int8) takes two
//! [lookups](super::lookup) of a byte, any other four. Where code and `code | 0x80` differ in sign only, one
//! `vpermi2b` a plane does, and the sign is the code's own top bit.
//! The bytes become floats by unpacking, which works within 128-bit lanes: hence the orders below, in
//! which the activations are packed instead.
//!
//! What bounds a line of 64 on a Zen 4 are the two pipes of shuffles and shifts, which FMA shares one
//! of. Measured on weights in L2 (G weights/s): E4M3 26.0, 23.5 with rows not unrolled, 20.6 through all
//! 256 entries of two planes; integers 24.2 computed and 20.7 looked up; QINS linear 18 and 16, of which
//! the signs cost a third (`pext`, `kmov` and an xor a part). Signs as shuffled bytes instead of masks
//! gave 16, floats built as ±(2²³ + v) by shuffles, minus ±2²³, 14.7. Unrolling by hand made four
//! planes spill (12.1 instead of 14.5) and gained nothing elsewhere.

use std::arch::x86_64::*;

use super::{Avx512Vbmi, Plane, lookup};
use crate::float::{
    Decoder, Float, FloatDecoder, FloatEntry, LineOrder, Order, Weights, decoder, either,
};
use crate::isa::{Isa, with_features};
use crate::table::{ClosedForm, Planes, Table};
use crate::weights::LINE;
use crate::x86::avx512::{self, F32x16, flip};

type F32 = F32x16<Avx512Vbmi>;
type Parts = <F32 as Float>::Line;

pub(crate) static ENTRY: FloatEntry = FloatEntry {
    features: Avx512Vbmi::FEATURES,
    lanes: F32::LANES,
    decoder: choose,
    gemm: &avx512::f32::GEMM,
};

fn choose(w: &Weights<'_>) -> &'static FloatDecoder {
    match w.closed_form() {
        Some(ClosedForm::Magnitude) => decoder::<F32, Magnitude>(),
        Some(ClosedForm::Signed { .. }) => decoder::<F32, Integer>(),
        _ if w.sign_magnitude() => decoder::<F32, HalfTable>(),
        _ if w.table.needed == Planes::Two && !w.signed() => decoder::<F32, TwoPlanes>(),
        _ => either(w, decoder::<F32, FourPlanes<true>>(), decoder::<F32, FourPlanes<false>>()),
    }
}

/// Part v, 128-bit lane l, position p is code 16l + 4v + p.
struct ByUnpack;

/// Of each eight codes of a lane, the even ones are in one part and the odd ones in the next.
struct ByShift;

impl LineOrder<F32> for ByUnpack {
    const ORDER: Order = {
        let mut order = [0; LINE];
        let mut i = 0;
        while i < LINE {
            order[i] = (16 * (i / 4 % 4) + 4 * (i / 16) + i % 4) as u8;
            i += 1;
        }
        order
    };
    type Classes = [__m512; 1];

    with_features! { "avx512f";
        fn classes(_isa: Avx512Vbmi, scales: [f32; 4]) -> [__m512; 1] { quarters(scales) }
        fn same(_isa: Avx512Vbmi, scale: f32) -> [__m512; 1] { [_mm512_set1_ps(scale)] }
    }
}

impl LineOrder<F32> for ByShift {
    const ORDER: Order = {
        let mut order = [0; LINE];
        let mut i = 0;
        while i < LINE {
            order[i] = (16 * (i / 4 % 4) + 8 * (i / 32) + 2 * (i % 4) + i / 16 % 2) as u8;
            i += 1;
        }
        order
    };
    type Classes = [__m512; 1];

    with_features! { "avx512f";
        fn classes(_isa: Avx512Vbmi, scales: [f32; 4]) -> [__m512; 1] { quarters(scales) }
        fn same(_isa: Avx512Vbmi, scale: f32) -> [__m512; 1] { [_mm512_set1_ps(scale)] }
    }
}

/// The scale of code 16l… in lane l, which is that of all parts.
#[target_feature(enable = "avx512f")]
#[inline]
fn quarters(scales: [f32; 4]) -> [__m512; 1] {
    let lanes = _mm512_castps128_ps512(bytemuck::cast(scales));
    let index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    [_mm512_permutexvar_ps(index, lanes)]
}

/// The bytes of a line as integers of 32 bits, in the order [`ByUnpack`].
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn widen(bytes: __m512i) -> [__m512i; 4] {
    /// For each part, what byte each of its bytes is.
    const FROM: [[u8; 16]; 4] = {
        let mut from = [[0x80; 16]; 4];
        let mut i = 0;
        while i < 16 {
            from[i / 4][4 * (i % 4)] = i as u8;
            i += 1;
        }
        from
    };
    let mut parts = [bytes; 4];
    for (part, from) in parts.iter_mut().zip(FROM) {
        let from = _mm512_broadcast_i32x4(bytemuck::cast(from));
        *part = _mm512_shuffle_epi8(bytes, from);
    }
    parts
}

/// QINS linear. Signs come by bits, in the order of the magnitudes.
struct Magnitude;

impl Decoder<F32> for Magnitude {
    const NAME: &'static str = "computed magnitude";
    const SIGNED: bool = true;
    type Order = ByUnpack;
    type Regs<'a> = ();

    fn load(_: Avx512Vbmi, _: &Table) {}

    with_features! { "avx512f,avx512bw,avx512vbmi,bmi2";
        fn decode(_isa: Avx512Vbmi, _regs: &(), codes: &[u8; LINE], signs: u64) -> Parts {
            let less = _mm512_subs_epu8(bytemuck::cast(*codes), _mm512_set1_epi8(1));
            let mut parts = [_mm512_setzero_ps(); 4];
            for (v, integers) in widen(less).into_iter().enumerate() {
                let signs = _pext_u64(signs, 0x000F_000F_000F_000F << (4 * v)) as u16;
                parts[v] = flip(_mm512_cvtepi32_ps(integers), signs);
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
    type Order = ByUnpack;
    /// What makes a code the integer plus 128.
    type Regs<'a> = __m512i;

    with_features! { "avx512f";
        fn load(_isa: Avx512Vbmi, table: &Table) -> __m512i {
            _mm512_set1_epi8((ClosedForm::flip(table.closed_form) ^ 0x80) as i8)
        }
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode(_isa: Avx512Vbmi, bias: &__m512i, codes: &[u8; LINE], _signs: u64) -> Parts {
            let mut parts = [_mm512_setzero_ps(); 4];
            let biased = widen(_mm512_xor_si512(bytemuck::cast(*codes), *bias));
            for (part, integers) in parts.iter_mut().zip(biased) {
                *part = _mm512_cvtepi32_ps(_mm512_add_epi32(integers, _mm512_set1_epi32(-128)));
            }
            parts
        }
    }
}

/// A byte plane for each byte of the entries, top byte first.
#[target_feature(enable = "avx512f")]
#[inline]
fn planes(table: &Table) -> [Plane; 4] {
    let [a, b, c, d] = table.planes;
    [bytemuck::cast(d), bytemuck::cast(c), bytemuck::cast(b), bytemuck::cast(a)]
}

/// The two top bytes of a line as floats, in the order [`ByShift`].
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn upper_halves(second: __m512i, top: __m512i) -> Parts {
    let upper = [_mm512_unpacklo_epi8(second, top), _mm512_unpackhi_epi8(second, top)];
    let odd = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
    [
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper[0])),
        _mm512_castsi512_ps(_mm512_and_si512(upper[0], odd)),
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper[1])),
        _mm512_castsi512_ps(_mm512_and_si512(upper[1], odd)),
    ]
}

/// FP8, and whatever else has the sign in the top bit.
struct HalfTable;

impl Decoder<F32> for HalfTable {
    const NAME: &'static str = "2 planes of 128";
    const SIGNED: bool = false;
    const UNROLLED: bool = true;
    type Order = ByShift;
    type Regs<'a> = [Plane; 4];

    with_features! { "avx512f";
        fn load(_isa: Avx512Vbmi, table: &Table) -> [Plane; 4] { planes(table) }
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode(_isa: Avx512Vbmi, table: &[Plane; 4], codes: &[u8; LINE], _signs: u64) -> Parts {
            let codes: __m512i = bytemuck::cast(*codes);
            let magnitude = _mm512_permutex2var_epi8(table[0][0], codes, table[0][1]);
            // a | (b & c)
            let sign_bit = _mm512_set1_epi8(i8::MIN);
            let top = _mm512_ternarylogic_epi32::<0xF8>(magnitude, codes, sign_bit);
            upper_halves(_mm512_permutex2var_epi8(table[1][0], codes, table[1][1]), top)
        }
    }
}

/// What is exact in bf16.
struct TwoPlanes;

impl Decoder<F32> for TwoPlanes {
    const NAME: &'static str = "2 planes";
    const SIGNED: bool = false;
    type Order = ByShift;
    type Regs<'a> = [Plane; 4];

    with_features! { "avx512f";
        fn load(_isa: Avx512Vbmi, table: &Table) -> [Plane; 4] { planes(table) }
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode(_isa: Avx512Vbmi, table: &[Plane; 4], codes: &[u8; LINE], _signs: u64) -> Parts {
            let codes: __m512i = bytemuck::cast(*codes);
            let high = _mm512_movepi8_mask(codes);
            let top = lookup(&table[0], codes, high);
            upper_halves(lookup(&table[1], codes, high), top)
        }
    }
}

/// Any table.
struct FourPlanes<const SIGNED: bool>;

impl<const SIGNED: bool> Decoder<F32> for FourPlanes<SIGNED> {
    const NAME: &'static str = "4 planes";
    const SIGNED: bool = SIGNED;
    type Order = ByUnpack;
    type Regs<'a> = [Plane; 4];

    with_features! { "avx512f";
        fn load(_isa: Avx512Vbmi, table: &Table) -> [Plane; 4] { planes(table) }
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode(_isa: Avx512Vbmi, table: &[Plane; 4], codes: &[u8; LINE], signs: u64) -> Parts {
            let codes: __m512i = bytemuck::cast(*codes);
            let high = _mm512_movepi8_mask(codes);
            let top = lookup(&table[0], codes, high);
            // Adding 0x80 flips the sign: there is no xor under a mask of bytes.
            let top = _mm512_mask_add_epi8(top, signs, top, _mm512_set1_epi8(i8::MIN));
            let second = lookup(&table[1], codes, high);
            let upper = [_mm512_unpacklo_epi8(second, top), _mm512_unpackhi_epi8(second, top)];
            let third = lookup(&table[2], codes, high);
            let fourth = lookup(&table[3], codes, high);
            let lower = [_mm512_unpacklo_epi8(fourth, third), _mm512_unpackhi_epi8(fourth, third)];
            [
                _mm512_castsi512_ps(_mm512_unpacklo_epi16(lower[0], upper[0])),
                _mm512_castsi512_ps(_mm512_unpackhi_epi16(lower[0], upper[0])),
                _mm512_castsi512_ps(_mm512_unpacklo_epi16(lower[1], upper[1])),
                _mm512_castsi512_ps(_mm512_unpackhi_epi16(lower[1], upper[1])),
            ]
        }
    }
}
