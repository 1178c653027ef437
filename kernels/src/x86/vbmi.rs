//! AVX-512 with VBMI: integers are computed, every other table is looked up.
//!
//! `vpermi2b` looks up 64 codes in 128 bytes. Two of them and a blend by the code's top bit are a
//! 256-entry lookup for one byte of the entries: 3 instructions for 64 codes. A table of which only
//! the two top bytes are not zero (FP8, small integers, hence QINS linear and int8) takes two such
//! planes, any other three or four. Where code and `code | 0x80` differ in sign only, one `vpermi2b`
//! a plane does, and the sign is the code's own top bit.
//! The bytes become floats by unpacking, which works within 128-bit lanes: hence the `Order`s below, in
//! which the activations are packed instead.
//!
//! What bounds a line of 64 on a Zen 4 are the two pipes of shuffles and shifts, which FMA shares one
//! of. Measured on weights in L2 (G weights/s): E4M3 26.0, 23.5 with rows not unrolled, 20.6 through all
//! 256 entries of two planes; integers 24.2 computed and 20.7 looked up; QINS linear 18 and 16, of which
//! the signs cost a third (`pext`, `kmov` and an xor a part). Signs as shuffled bytes instead of masks
//! gave 16, floats built as ±(2²³ + v) by shuffles, minus ±2²³, 14.7. Unrolling by hand made four
//! planes spill (12.1 instead of 14.5) and gained nothing elsewhere.

use std::arch::x86_64::*;
use std::ops::Range;

use super::AHEAD;
use super::f32x16::*;
use crate::portion::{
    Groups, LINE, Order, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput, TileSums,
};
use crate::prefetch::prefetch;
use crate::row::{Index, LINES, PAIRS, QUARTERS, WHOLE, pair, partial_signs};
use crate::table::{ClosedForm, Planes, Table};

/// Lane l of every part has codes 16l…16l+15: all parts have the same vector of scales.
const CLASSES: usize = 1;

/// What decoding needs of a table.
struct Regs {
    /// Four registers for each byte plane in use, top byte first.
    planes: [[__m512i; 4]; 4],
    /// What makes a signed integer's code the integer plus 128.
    bias: __m512i,
}

const TWO_SIGN_MAGNITUDE: u8 = 0;
const TWO: u8 = 1;
const THREE: u8 = 2;
const FOUR: u8 = 3;
const MAGNITUDE: u8 = 4;
const INTEGER: u8 = 5;
const DECODERS: [&str; 6] = [
    "2 planes of 128",
    "2 planes",
    "3 planes",
    "4 planes",
    "computed magnitude",
    "computed integer",
];

fn decoder(w: &Portion<'_>) -> u8 {
    match w.table.needed {
        _ if w.closed_form() == Some(ClosedForm::Magnitude) => MAGNITUDE,
        _ if matches!(w.closed_form(), Some(ClosedForm::Signed { .. })) => INTEGER,
        _ if w.sign_magnitude() => TWO_SIGN_MAGNITUDE,
        Planes::Two => TWO,
        Planes::Three => THREE,
        Planes::Four => FOUR,
    }
}

fn order(w: &Portion<'_>) -> &'static Order {
    if matches!(decoder(w), TWO_SIGN_MAGNITUDE | TWO) { &BY_SHIFT } else { &BY_UNPACK }
}

/// Part v, 128-bit lane l, position p is code 16l + 4v + p.
static BY_UNPACK: Order = {
    let mut order = [0; LINE];
    let mut i = 0;
    while i < LINE {
        order[i] = (16 * (i / 4 % 4) + 4 * (i / 16) + i % 4) as u8;
        i += 1;
    }
    order
};

/// Of each eight codes of a lane, the even ones are in one part and the odd ones in the next.
static BY_SHIFT: Order = {
    let mut order = [0; LINE];
    let mut i = 0;
    while i < LINE {
        order[i] = (16 * (i / 4 % 4) + 8 * (i / 32) + 2 * (i % 4) + i / 16 % 2) as u8;
        i += 1;
    }
    order
};

/// The scale of code 16l… in lane l.
#[target_feature(enable = "avx512f")]
#[inline]
fn quarters(scales: [f32; 4]) -> [V; CLASSES] {
    let lanes = _mm512_castps128_ps512(bytemuck::cast(scales));
    let index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    [_mm512_permutexvar_ps(index, lanes)]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_table<const D: u8>(table: &Table) -> Regs {
    let mut planes = [[_mm512_setzero_si512(); 4]; 4];
    for (regs, plane) in planes.iter_mut().zip(table.planes.iter().rev()) {
        for (reg, bytes) in regs.iter_mut().zip(plane.as_chunks::<64>().0) {
            *reg = bytemuck::cast(*bytes);
        }
    }
    let flip = match table.closed_form {
        Some(ClosedForm::Signed { flip }) => flip,
        _ => 0,
    };
    Regs { planes, bias: _mm512_set1_epi8((flip ^ 0x80) as i8) }
}

/// The bytes of a line as integers of 32 bits, in the order [`BY_UNPACK`].
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn widen(bytes: __m512i) -> [__m512i; PARTS] {
    std::array::from_fn(|v| {
        let mut from = [0x80; 16];
        for p in 0..4 {
            from[4 * p] = (4 * v + p) as u8;
        }
        let from = bytemuck::cast(from);
        _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(from))
    })
}

/// Magnitudes by formula; signs come by bits, in the same order.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi2")]
#[inline]
fn magnitudes(codes: __m512i, signs: u64) -> [V; PARTS] {
    let integers = widen(_mm512_subs_epu8(codes, _mm512_set1_epi8(1)));
    let mut parts = integers.map(|part| _mm512_cvtepi32_ps(part));
    for (v, part) in parts.iter_mut().enumerate() {
        *part = flip(*part, _pext_u64(signs, 0x000F_000F_000F_000F << (4 * v)) as u16);
    }
    parts
}

/// Signed integers by formula.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi2")]
#[inline]
fn integers(table: &Regs, codes: __m512i) -> [V; PARTS] {
    widen(_mm512_xor_si512(codes, table.bias))
        .map(|part| _mm512_cvtepi32_ps(_mm512_add_epi32(part, _mm512_set1_epi32(-128))))
}

/// One byte plane of 64 codes; `high` has the codes' top bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub(super) fn lookup(plane: &[__m512i; 4], codes: __m512i, high: __mmask64) -> __m512i {
    let low = _mm512_permutex2var_epi8(plane[0], codes, plane[1]);
    let up = _mm512_permutex2var_epi8(plane[2], codes, plane[3]);
    _mm512_mask_blend_epi8(high, low, up)
}

/// A line of weights, in the order of [`order`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi2")]
#[inline]
fn decode<const D: u8, const SIGNED: bool>(
    table: &Regs,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    let codes: __m512i = bytemuck::cast(*codes);
    if D == MAGNITUDE {
        return magnitudes(codes, signs);
    }
    if D == INTEGER {
        return integers(table, codes);
    }
    let table = &table.planes;
    let high = _mm512_movepi8_mask(codes);
    let sign_bit = _mm512_set1_epi8(i8::MIN);
    let plane = |p: usize| lookup(&table[p], codes, high);
    let mut top = if D == TWO_SIGN_MAGNITUDE {
        // a | (b & c)
        let magnitude = _mm512_permutex2var_epi8(table[0][0], codes, table[0][1]);
        _mm512_ternarylogic_epi32::<0xF8>(magnitude, codes, sign_bit)
    } else {
        plane(0)
    };
    if SIGNED {
        // Adding 0x80 flips the sign: there is no xor under a mask of bytes.
        top = _mm512_mask_add_epi8(top, signs, top, sign_bit);
    }
    let second = if D == TWO_SIGN_MAGNITUDE {
        _mm512_permutex2var_epi8(table[1][0], codes, table[1][1])
    } else {
        plane(1)
    };
    let upper = [_mm512_unpacklo_epi8(second, top), _mm512_unpackhi_epi8(second, top)];
    if D == TWO_SIGN_MAGNITUDE || D == TWO {
        let odd = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
        return [
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper[0])),
            _mm512_castsi512_ps(_mm512_and_si512(upper[0], odd)),
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper[1])),
            _mm512_castsi512_ps(_mm512_and_si512(upper[1], odd)),
        ];
    }
    let third = plane(2);
    let fourth = if D == FOUR { plane(3) } else { _mm512_setzero_si512() };
    let lower = [_mm512_unpacklo_epi8(fourth, third), _mm512_unpackhi_epi8(fourth, third)];
    [
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(lower[0], upper[0])),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(lower[0], upper[0])),
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(lower[1], upper[1])),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(lower[1], upper[1])),
    ]
}

crate::stamp::stamp! {
    /// Proof of AVX-512 with VBMI.
    Avx512Vbmi,
    features { f: "avx512f", bw: "avx512bw", vbmi: "avx512vbmi", bmi2: "bmi2" }
    signed { TWO, THREE, FOUR, MAGNITUDE }
    unsigned { TWO_SIGN_MAGNITUDE, TWO, THREE, FOUR, INTEGER }
    unrolled { TWO_SIGN_MAGNITUDE }
    tiles { 1 x 24, 2 x 12, 3 x 8, 4 x 6 }
}
