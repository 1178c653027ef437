//! AVX2 with FMA and F16C: tables that have a formula are computed, others are looked up by scalar loads.
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
//! decoded first: 14.3), four tokens 8.8 (9.5), eight with one row 3.5 (with 4: 3.9). A tile 3 vectors wide
//! needs all 16, the compiler one more: sums on the stack, 46 GFLOP/s instead of 112.

use std::arch::x86_64::*;
use std::ops::Range;

use super::AHEAD;
use super::f32x8::*;
use crate::portion::{
    Groups, LINE, NATURAL, Order, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput,
    TileSums,
};
use crate::prefetch::prefetch;
use crate::row::{Index, LINES, PAIRS, QUARTERS, WHOLE, pair, partial_signs};
use crate::table::{ClosedForm, Table};

/// What decoding needs of a table.
struct Regs<'a> {
    values: &'a [f32; 256],
    /// What makes a signed integer's code the integer plus 128.
    bias: __m256i,
}

const MAGNITUDE: u8 = 0;
const INTEGER: u8 = 1;
const E4M3: u8 = 2;
const E5M2: u8 = 3;
const LOOKUP: u8 = 4;
const DECODERS: [&str; 5] =
    ["computed magnitude", "computed integer", "E4M3 by F16C", "E5M2 by F16C", "lookup"];

fn decoder(w: &Portion<'_>) -> u8 {
    match w.closed_form() {
        Some(ClosedForm::Magnitude) => MAGNITUDE,
        Some(ClosedForm::Signed { .. }) => INTEGER,
        Some(ClosedForm::E4m3) => E4M3,
        Some(ClosedForm::E5m2) => E5M2,
        None => LOOKUP,
    }
}

fn order(w: &Portion<'_>) -> &'static Order {
    if decoder(w) == E4M3 { &EVEN_ODD } else { &NATURAL }
}

/// Of each 16 codes the even ones, then the odd ones.
static EVEN_ODD: Order = {
    let mut order = [0; LINE];
    let mut p = 0;
    while p < LINE {
        order[p] = (p / 16 * 16 + p % 8 * 2 + p / 8 % 2) as u8;
        p += 1;
    }
    order
};

#[target_feature(enable = "avx2")]
#[inline]
fn load_table<const D: u8>(table: &Table) -> Regs<'_> {
    let flip = match table.closed_form {
        Some(ClosedForm::Signed { flip }) => flip,
        _ => 0,
    };
    Regs { values: &table.values, bias: _mm256_set1_epi8((flip ^ 0x80) as i8) }
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

/// Codes, sign-extended and shifted left by 7 bits, as E4M3 over 256: what is bit 14 then is not part of
/// the exponent.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn e4m3(words: __m256i) -> [V; 2] {
    let half = _mm256_and_si256(words, _mm256_set1_epi16(0xBFFF_u16 as i16));
    [
        _mm256_cvtph_ps(_mm256_castsi256_si128(half)),
        _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(half)),
    ]
}

/// 16 weights, apart from signs of a plane and the decoder's unit.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn decode16<const D: u8>(table: &Regs<'_>, codes: &[u8; 16]) -> [V; 2] {
    let xmm: __m128i = bytemuck::cast(*codes);
    match D {
        MAGNITUDE => {
            let less = _mm256_subs_epu8(_mm256_broadcastsi128_si256(xmm), _mm256_set1_epi8(1));
            let [low, high] = widen(less);
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
        INTEGER => {
            let biased = _mm256_xor_si256(_mm256_broadcastsi128_si256(xmm), table.bias);
            let [low, high] = widen(biased);
            let bias = _mm256_set1_epi32(-128);
            [
                _mm256_cvtepi32_ps(_mm256_add_epi32(low, bias)),
                _mm256_cvtepi32_ps(_mm256_add_epi32(high, bias)),
            ]
        }
        E5M2 => {
            let zero = _mm_setzero_si128();
            [
                _mm256_cvtph_ps(_mm_unpacklo_epi8(zero, xmm)),
                _mm256_cvtph_ps(_mm_unpackhi_epi8(zero, xmm)),
            ]
        }
        _ => {
            let at = |i: usize| table.values[usize::from(codes[i])];
            [
                _mm256_setr_ps(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)),
                _mm256_setr_ps(at(8), at(9), at(10), at(11), at(12), at(13), at(14), at(15)),
            ]
        }
    }
}

/// A line of weights as they stand.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn decode<const D: u8, const SIGNED: bool>(
    table: &Regs<'_>,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    let mut parts = [zero(); PARTS];
    if D == E4M3 {
        for (codes, parts) in codes.as_chunks::<32>().0.iter().zip(parts.as_chunks_mut::<4>().0) {
            let codes: __m256i = bytemuck::cast(*codes);
            let even = _mm256_maddubs_epi16(_mm256_set1_epi16(0x0080), codes);
            let odd = _mm256_maddubs_epi16(_mm256_set1_epi16(0x8000_u16 as i16), codes);
            let (even, odd) = (e4m3(even), e4m3(odd));
            *parts = [even[0], odd[0], even[1], odd[1]];
        }
        return parts;
    }
    let codes = codes.as_chunks::<16>().0;
    for (codes, parts) in codes.iter().zip(parts.as_chunks_mut::<2>().0) {
        *parts = decode16::<D>(table, codes);
    }
    if SIGNED {
        for (part, byte) in parts.iter_mut().zip(signs.to_le_bytes()) {
            *part = flip(*part, byte);
        }
    }
    parts
}

crate::stamp::stamp! {
    /// Proof of AVX2, FMA and F16C.
    Avx2,
    features { avx2: "avx2", fma: "fma", f16c: "f16c" }
    signed { MAGNITUDE, LOOKUP }
    unsigned { INTEGER, E4M3, E5M2, LOOKUP }
    units { E4M3 x 256.0 }
    unrolled { MAGNITUDE, INTEGER, E4M3, E5M2, LOOKUP }
    rows { 1: 4 x 1, 2: 2 x 2, 4: 2 x 2, 8: 4 x 1 }
    tiles { 1 x 12, 2 x 6 }
}
