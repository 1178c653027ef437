//! AVX-512 without VBMI (Skylake-X, Cascade Lake): tables that have a formula are computed, others are
//! looked up by words.
//!
//! Lines are in natural order. `vpermi2w` looks up 32 codes in 64 words: four of them and three blends
//! by the codes' bits 6 and 7 are a plane of words, of which bf16-exact tables need one and others two.
//! FP8 is converted from half precision (see `avx2.rs`).
//!
//! Measured on a Zen 4, weights in L2 (G weights/s): QINS linear 18.3, integers 28.5, E4M3 20.6, E5M2
//! 22.3, one plane with signs 9.6, two planes 7.9 and 6.9 with signs; `vgatherdps` 3.1 and 2.6. On Intel
//! `vpermi2w` is three instructions' worth and `vpermi2ps` one: for 32 codes both take port 5 about 16
//! times, but eight `vpermi2ps` for 16 codes need seven blends, so words are no worse there. Not measured.

use std::arch::x86_64::*;
use std::ops::Range;

use super::AHEAD;
use super::f32x16::*;
use crate::portion::{
    Groups, LINE, NATURAL, Order, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput,
    TileSums,
};
use crate::prefetch::prefetch;
use crate::row::{Index, LINES, PAIRS, QUARTERS, WHOLE, pair, partial_signs};
use crate::table::{ClosedForm, Planes, Table};

/// A plane of words: what `vpermi2w` looks up.
type Words = [__m512i; 8];

/// What decoding needs of a table.
struct Regs {
    high: Words,
    low: Words,
    /// What makes a code of a signed integer two's complement.
    flip: __m128i,
}

const MAGNITUDE: u8 = 0;
const INTEGER: u8 = 1;
const E4M3: u8 = 2;
const E5M2: u8 = 3;
const HIGH_WORDS: u8 = 4;
const WORDS: u8 = 5;
const DECODERS: [&str; 6] = [
    "computed magnitude",
    "computed integer",
    "E4M3 by way of f16",
    "E5M2 by way of f16",
    "1 plane of words",
    "2 planes of words",
];

fn decoder(w: &Portion<'_>) -> u8 {
    match w.closed_form() {
        Some(ClosedForm::Magnitude) => MAGNITUDE,
        Some(ClosedForm::Signed { .. }) => INTEGER,
        Some(ClosedForm::E4m3) => E4M3,
        Some(ClosedForm::E5m2) => E5M2,
        None if w.table.needed == Planes::Two => HIGH_WORDS,
        None => WORDS,
    }
}

fn order(_: &Portion<'_>) -> &'static Order {
    &NATURAL
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_table<const D: u8>(table: &Table) -> Regs {
    let flip = match table.closed_form {
        Some(ClosedForm::Signed { flip }) => flip,
        _ => 0,
    };
    let words = |shift: u32| -> Words {
        let words: [u16; 256] =
            std::array::from_fn(|c| (table.values[c].to_bits() >> shift) as u16);
        bytemuck::cast(words)
    };
    Regs { high: words(16), low: words(0), flip: _mm_set1_epi8(flip as i8) }
}

/// A plane's words for 32 codes, of which `bit6` and `bit7` have these bits.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn lookup(plane: &Words, codes: __m512i, bit6: __mmask32, bit7: __mmask32) -> __m512i {
    let at = |i: usize| _mm512_permutex2var_epi16(plane[i], codes, plane[i + 1]);
    let lower = _mm512_mask_blend_epi16(bit6, at(0), at(2));
    let upper = _mm512_mask_blend_epi16(bit6, at(4), at(6));
    _mm512_mask_blend_epi16(bit7, lower, upper)
}

/// 32 weights by lookup.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn lookup32<const D: u8>(table: &Regs, codes: &[u8; 32]) -> [V; 2] {
    // What unpacking is to leave as neighbours lies 16 codes apart.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let codes = _mm256_permutexvar_epi32(order, bytemuck::cast(*codes));
    let codes = _mm512_cvtepu8_epi16(codes);
    let bit6 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x40));
    let bit7 = _mm512_test_epi16_mask(codes, _mm512_set1_epi16(0x80));
    let high = lookup(&table.high, codes, bit6, bit7);
    let low = match D {
        HIGH_WORDS => _mm512_setzero_si512(),
        _ => lookup(&table.low, codes, bit6, bit7),
    };
    [
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(low, high)),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(low, high)),
    ]
}

/// 16 weights by formula, apart from signs of a plane and the decoder's unit.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn compute16<const D: u8>(table: &Regs, codes: &[u8; 16]) -> V {
    let codes: __m128i = bytemuck::cast(*codes);
    match D {
        MAGNITUDE => {
            let less = _mm_subs_epu8(codes, _mm_set1_epi8(1));
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(less))
        }
        INTEGER => {
            let integers = _mm_xor_si128(codes, table.flip);
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(integers))
        }
        E4M3 => {
            let words = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(codes));
            let half = _mm256_and_si256(words, _mm256_set1_epi16(0xBFFF_u16 as i16));
            _mm512_cvtph_ps(half)
        }
        E5M2 => _mm512_cvtph_ps(_mm256_slli_epi16::<8>(_mm256_cvtepu8_epi16(codes))),
        other => unreachable!("decoder {other}"),
    }
}

/// A line of weights as they stand.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn decode<const D: u8, const SIGNED: bool>(
    table: &Regs,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    let mut parts = [zero(); PARTS];
    if D == HIGH_WORDS || D == WORDS {
        for (codes, parts) in codes.as_chunks().0.iter().zip(parts.as_chunks_mut().0) {
            *parts = lookup32::<D>(table, codes);
        }
    } else {
        for (codes, part) in codes.as_chunks().0.iter().zip(&mut parts) {
            *part = compute16::<D>(table, codes);
        }
    }
    if SIGNED {
        for (p, part) in parts.iter_mut().enumerate() {
            *part = flip(*part, (signs >> (LANES * p)) as u16);
        }
    }
    parts
}

crate::stamp::stamp! {
    /// Proof of AVX-512 as Skylake-X has it.
    Avx512,
    features { f: "avx512f", bw: "avx512bw", dq: "avx512dq", vl: "avx512vl" }
    signed { MAGNITUDE, HIGH_WORDS, WORDS }
    unsigned { INTEGER, E4M3, E5M2, HIGH_WORDS, WORDS }
    units { E4M3 x 256.0 }
    tiles { 1 x 24, 2 x 12, 3 x 8, 4 x 6 }
}
