//! AVX-512 with VBMI: every table is looked up, none is computed.
//!
//! `vpermi2b` looks up 64 codes in 128 bytes. Two of them and a blend by the code's top bit are a
//! 256-entry lookup for one byte of the entries: 3 instructions for 64 codes. A table of which only
//! the two top bytes are not zero (FP8, small integers, hence QINS linear and int8) takes two such
//! planes, any other three or four. Where code and `code | 0x80` differ in sign only, one `vpermi2b`
//! a plane does, and the sign is the code's own top bit.
//! The bytes become floats by unpacking, which works within 128-bit lanes: hence the `Order`s below, in
//! which the activations are packed instead.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{AHEAD, prefetch};
use crate::portion::{
    Groups, LINE, Order, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput, TileSums,
};
use crate::row::{Index, LINES, QUARTERS, WHOLE, partial_signs};
use crate::table::{Planes, Table};

const LANES: usize = 16;
const PARTS: usize = LINE / LANES;
/// Lane l of every part has codes 16l…16l+15: all parts have the same vector of scales.
const CLASSES: usize = 1;

type V = __m512;

/// Four registers for each byte plane in use, top byte first.
type Regs = [[__m512i; 4]; 4];

const TWO_SIGN_MAGNITUDE: u8 = 0;
const TWO: u8 = 1;
const THREE: u8 = 2;
const FOUR: u8 = 3;
const DECODERS: [&str; 4] = ["2 planes of 128", "2 planes", "3 planes", "4 planes"];

fn decoder(w: &Portion<'_>) -> u8 {
    match w.table.needed {
        Planes::Two if w.table.sign_magnitude => TWO_SIGN_MAGNITUDE,
        Planes::Two => TWO,
        Planes::Three => THREE,
        Planes::Four => FOUR,
    }
}

fn order(w: &Portion<'_>) -> &'static Order {
    if w.table.needed == Planes::Two { &BY_SHIFT } else { &BY_UNPACK }
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

#[target_feature(enable = "avx512f")]
#[inline]
fn zero() -> V {
    _mm512_setzero_ps()
}

#[target_feature(enable = "avx512f")]
#[inline]
fn splat(value: f32) -> V {
    _mm512_set1_ps(value)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(from: &[f32; LANES]) -> V {
    bytemuck::cast(*from)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(v: V, to: &mut [f32; LANES]) {
    *to = bytemuck::cast(v);
}

#[target_feature(enable = "avx512f")]
#[inline]
fn mul(a: V, b: V) -> V {
    _mm512_mul_ps(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add(a: V, b: V) -> V {
    _mm512_add_ps(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn fma(a: V, b: V, c: V) -> V {
    _mm512_fmadd_ps(a, b, c)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn sum(v: V) -> f32 {
    _mm512_reduce_add_ps(v)
}

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
    let mut regs = [[_mm512_setzero_si512(); 4]; 4];
    for (regs, plane) in regs.iter_mut().zip(table.planes.iter().rev()) {
        for (reg, bytes) in regs.iter_mut().zip(plane.as_chunks::<64>().0) {
            *reg = bytemuck::cast(*bytes);
        }
    }
    regs
}

/// One byte plane of 64 codes; `high` has the codes' top bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn lookup(plane: &[__m512i; 4], codes: __m512i, high: __mmask64) -> __m512i {
    let low = _mm512_permutex2var_epi8(plane[0], codes, plane[1]);
    let up = _mm512_permutex2var_epi8(plane[2], codes, plane[3]);
    _mm512_mask_blend_epi8(high, low, up)
}

/// A line of weights, in the order of [`order`].
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn decode<const D: u8, const SIGNED: bool>(
    table: &Regs,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    let codes: __m512i = bytemuck::cast(*codes);
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
    features { f: "avx512f", bw: "avx512bw", vbmi: "avx512vbmi" }
    decoders { TWO_SIGN_MAGNITUDE, TWO, THREE, FOUR }
    tiles { 1 x 24, 2 x 12, 3 x 8, 4 x 6 }
}
