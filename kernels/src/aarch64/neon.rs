//! NEON, which every 64-bit Arm CPU has: affine tables and FP8 are computed, others looked up.
//!
//! Parts are in natural order, 16 of four floats. What bounds the row shape is the number of vector
//! instructions, on small cores the latency of the 16 FMAs that follow each other. There is no machine
//! to time this on. Counted in what rustc 1.96 makes of the row loop (one token, no groups), everything
//! included that is done for a line of a row, and estimated by llvm-mca of LLVM 19 from the same loop:
//!
//! | decoder | instructions for 64 weights | cycles, Neoverse V2 | cycles, apple-m1 |
//! |---|---|---|---|
//! | magnitude with sign plane (QINS linear) | 112 | 25 | 38 |
//! | integer (int8) | 78 | 20 | 28 |
//! | E4M3 | 89 | 18 | 33 |
//! | E5M2 | 66 | 18 | 25 |
//! | two planes of 128 | 110 | 33 | 38 |
//! | scalar lookup, without / with sign plane | 241 / 315 | 43 / 51 | 108 / 116 |
//!
//! 16 of them are FMAs, 9 load codes and x, 10 or so are the loop, bounds and the prefetch. The estimates
//! leave out the prefetch, take all loads to hit L1, and count conversions from fixed point as plain
//! ones, for which LLVM's models have figures. Its M1 is its ancestor Cyclone, which had fewer units:
//! likely too slow. The same gives the panel shape's tile of 16 tokens × 6 rows 6.3 cycles for 24 FMAs,
//! of which a V2 does four a cycle (weights are scalar loads, broadcast by the FMA that takes a lane).
//!
//! What bounds affine tables on a V2 are the 16 conversions: only two units of four convert, at two
//! micro-operations a vector. Zips into the bits of 2²³ and a subtraction are 85 instructions for int8 and
//! 120 for QINS linear instead: 16 and 23 cycles there, but 34 and 40 on apple-m1 and 117 and 162 for 100
//! and 145 on a Cortex-A55.
//!
//! For more tokens two rows are decoded side by side, which is all 32 registers: of 128 FMAs' operands 2
//! to 64 go through the stack with 2 and 4 tokens, and of 32 FMAs' 5 with 8. One row instead of two
//! would load x twice as often.
//!
//! An arbitrary table is 16 registers a byte plane, so it can't stay in registers. Looking up 64 codes
//! in a plane is 16 four-register `tbl`, three micro-operations each, 12 `orr` (`tbx` is five) and 8
//! loads of pairs. As compiled, spills included, two, three and four planes took 69, 104 and 150 cycles
//! on a V2, 129, 180 and 232 on a Neoverse N1, while 64 scalar loads of floats take 43 and 116, whatever
//! the table. Without any spill, the vector units of a V2 would still need 43, 60 and 77.
//! Only where half a table is enough do two planes win (N1: 58). The apple-m1 model has two whole
//! planes at 78 cycles, ahead of 108, and three behind: left at that.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

use super::AHEAD;
use crate::portion::{
    Groups, LINE, NATURAL, Order, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput,
    TileSums,
};
use crate::prefetch::prefetch;
use crate::row::{Index, LINES, PAIRS, QUARTERS, WHOLE, pair, partial_signs};
use crate::table::{ClosedForm, Table};

const LANES: usize = 4;
const PARTS: usize = LINE / LANES;
const CLASSES: usize = 4;

type V = float32x4_t;

/// A line of codes, or of any other bytes.
pub(super) type Line = [uint8x16_t; 4];

const MAGNITUDE: u8 = 0;
const INTEGER: u8 = 1;
const E4M3: u8 = 2;
const E5M2: u8 = 3;
const TWO_SIGN_MAGNITUDE: u8 = 4;
const LOOKUP: u8 = 5;
const DECODERS: [&str; 6] =
    ["magnitude", "integer", "e4m3", "e5m2", "2 planes of 128", "scalar lookup"];

fn decoder(w: &Portion<'_>) -> u8 {
    match w.closed_form() {
        Some(ClosedForm::Magnitude) => MAGNITUDE,
        Some(ClosedForm::Signed { .. }) => INTEGER,
        Some(ClosedForm::E4m3) => E4M3,
        Some(ClosedForm::E5m2) => E5M2,
        None if w.sign_magnitude() => TWO_SIGN_MAGNITUDE,
        None => LOOKUP,
    }
}

fn order(_: &Portion<'_>) -> &'static Order {
    &NATURAL
}

#[target_feature(enable = "neon")]
#[inline]
fn zero() -> V {
    vdupq_n_f32(0.0)
}

#[target_feature(enable = "neon")]
#[inline]
fn splat(value: f32) -> V {
    vdupq_n_f32(value)
}

#[target_feature(enable = "neon")]
#[inline]
fn load(from: &[f32; LANES]) -> V {
    bytemuck::cast(*from)
}

#[target_feature(enable = "neon")]
#[inline]
fn store(v: V, to: &mut [f32; LANES]) {
    *to = bytemuck::cast(v);
}

#[target_feature(enable = "neon")]
#[inline]
fn mul(a: V, b: V) -> V {
    vmulq_f32(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
fn add(a: V, b: V) -> V {
    vaddq_f32(a, b)
}

#[target_feature(enable = "neon")]
#[inline]
fn fma(a: V, b: V, c: V) -> V {
    vfmaq_f32(c, a, b)
}

#[target_feature(enable = "neon")]
#[inline]
fn sum(v: V) -> f32 {
    vaddvq_f32(v)
}

/// A quarter of a line is four parts.
#[target_feature(enable = "neon")]
#[inline]
fn quarters(scales: [f32; 4]) -> [V; CLASSES] {
    scales.map(|scale| bytemuck::cast([scale; LANES]))
}

struct Regs<'a> {
    table: &'a Table,
    /// What integer codes are xored with.
    flip: uint8x16_t,
}

#[target_feature(enable = "neon")]
#[inline]
fn load_table<const D: u8>(table: &Table) -> Regs<'_> {
    let flip = match table.closed_form {
        Some(ClosedForm::Signed { flip }) => flip,
        _ => 0,
    };
    Regs { table, flip: vdupq_n_u8(flip) }
}

/// A line of weights.
#[target_feature(enable = "neon")]
#[inline]
fn decode<const D: u8, const SIGNED: bool>(
    regs: &Regs<'_>,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    if D == LOOKUP {
        let parts = lookup(&regs.table.values, codes);
        return if SIGNED { flip(parts, signs) } else { parts };
    }
    let codes: Line = bytemuck::cast(*codes);
    let negative = if SIGNED { expand(signs) } else { [vdupq_n_u8(0); 4] };
    // A loop over the quarters is not always unrolled, and then all parts go through memory.
    bytemuck::cast([
        decode_quarter::<D>(regs, codes[0], negative[0]),
        decode_quarter::<D>(regs, codes[1], negative[1]),
        decode_quarter::<D>(regs, codes[2], negative[2]),
        decode_quarter::<D>(regs, codes[3], negative[3]),
    ])
}

/// The weights of 16 codes; of these decoders only that of magnitudes has a plane of signs.
#[target_feature(enable = "neon")]
#[inline]
fn decode_quarter<const D: u8>(regs: &Regs<'_>, codes: uint8x16_t, negative: uint8x16_t) -> [V; 4] {
    match D {
        MAGNITUDE => magnitudes(vqsubq_u8(codes, vdupq_n_u8(1)), negative),
        INTEGER => integers(veorq_u8(codes, regs.flip)),
        E4M3 => e4m3(codes),
        E5M2 => e5m2(codes),
        _ => sign_magnitude(regs.table, codes),
    }
}

/// Bits as bytes of all ones or zeros.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn expand(bits: u64) -> Line {
    let bits = vreinterpretq_u8_u64(vdupq_n_u64(bits));
    let one: uint8x16_t = bytemuck::cast(0x8040_2010_0804_0201_8040_2010_0804_0201_u128);
    let mut bytes = [vdupq_n_u8(0); 4];
    for (q, bytes) in bytes.iter_mut().enumerate() {
        let mut index = [2 * q as u8; 16];
        index[8..].fill(2 * q as u8 + 1);
        *bytes = vtstq_u8(vqtbl1q_u8(bits, bytemuck::cast(index)), one);
    }
    bytes
}

/// For each part the bytes of 16 as top bytes of four lanes.
const SPREAD: [[u8; 16]; 4] = {
    let mut spread = [[0xFF; 16]; 4];
    let mut i = 0;
    while i < 16 {
        spread[i / 4][4 * (i % 4) + 3] = i as u8;
        i += 1;
    }
    spread
};

/// Signed bytes as floats: one table instruction puts four of them where a conversion divides them by 2²⁴.
#[target_feature(enable = "neon")]
#[inline]
fn integers(bytes: uint8x16_t) -> [V; 4] {
    let [a, b, c, d] = SPREAD;
    [top_bytes(bytes, a), top_bytes(bytes, b), top_bytes(bytes, c), top_bytes(bytes, d)]
}

#[target_feature(enable = "neon")]
#[inline]
fn top_bytes(bytes: uint8x16_t, spread: [u8; 16]) -> V {
    let lanes = vqtbl1q_u8(bytes, bytemuck::cast(spread));
    vcvtq_n_f32_s32::<24>(vreinterpretq_s32_u8(lanes))
}

/// Unsigned bytes as floats, negated where a mask says so: the widening subtraction `plus − minus` does both.
/// (A negative zero comes out as zero, which no sum shows.)
#[target_feature(enable = "neon")]
#[inline]
fn magnitudes(bytes: uint8x16_t, negative: uint8x16_t) -> [V; 4] {
    let (plus, minus) = (vbicq_u8(bytes, negative), vandq_u8(bytes, negative));
    let low = vsubl_u8(vget_low_u8(plus), vget_low_u8(minus));
    let high = vsubl_high_u8(plus, minus);
    let halves = upper_halves(bytemuck::cast(low), bytemuck::cast(high));
    let [a, b, c, d]: [int32x4_t; 4] = bytemuck::cast(halves);
    [
        vcvtq_n_f32_s32::<16>(a),
        vcvtq_n_f32_s32::<16>(b),
        vcvtq_n_f32_s32::<16>(c),
        vcvtq_n_f32_s32::<16>(d),
    ]
}

/// 16-bit halves as the upper halves of floats.
#[target_feature(enable = "neon")]
#[inline]
fn upper_halves(low: uint8x16_t, high: uint8x16_t) -> [V; 4] {
    let none = vdupq_n_u16(0);
    let (low, high) = (vreinterpretq_u16_u8(low), vreinterpretq_u16_u8(high));
    [
        vreinterpretq_f32_u16(vzip1q_u16(none, low)),
        vreinterpretq_f32_u16(vzip2q_u16(none, low)),
        vreinterpretq_f32_u16(vzip1q_u16(none, high)),
        vreinterpretq_f32_u16(vzip2q_u16(none, high)),
    ]
}

/// The code's bits, at their places in an f32, are the value times 2⁻¹²⁰.
#[target_feature(enable = "neon")]
#[inline]
fn e4m3(codes: uint8x16_t) -> [V; 4] {
    let codes = vreinterpretq_s8_u8(codes);
    let keep = vdupq_n_u16(0x87F0);
    let low = vandq_u16(vreinterpretq_u16_s16(vshll_n_s8::<4>(vget_low_s8(codes))), keep);
    let high = vandq_u16(vreinterpretq_u16_s16(vshll_high_n_s8::<4>(codes)), keep);
    let small = upper_halves(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
    let by = vdupq_n_f32(f32::from_bits((127 + 120) << 23));
    [mul(small[0], by), mul(small[1], by), mul(small[2], by), mul(small[3], by)]
}

/// The code is the top byte of an f16.
#[target_feature(enable = "neon")]
#[inline]
fn e5m2(codes: uint8x16_t) -> [V; 4] {
    let none = vdupq_n_u8(0);
    let (low, high) = (vzip1q_u8(none, codes), vzip2q_u8(none, codes));
    [fcvtl(low), fcvtl2(low), fcvtl(high), fcvtl2(high)]
}

/// Four f16 as f32. (Intrinsics for this are stable from Rust 1.94 on only.)
#[target_feature(enable = "neon")]
#[inline]
fn fcvtl(halves: uint8x16_t) -> V {
    let floats;
    // SAFETY: an instruction of NEON on registers.
    unsafe {
        asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) floats, in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    floats
}

#[target_feature(enable = "neon")]
#[inline]
fn fcvtl2(halves: uint8x16_t) -> V {
    let floats;
    // SAFETY: as in `fcvtl`.
    unsafe {
        asm!("fcvtl2 {0:v}.4s, {1:v}.8h", out(vreg) floats, in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    floats
}

/// 64 bytes of a plane.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn quarter(plane: &[u8; 256], q: usize) -> uint8x16x4_t {
    let [a, b, c, d]: Line = bytemuck::cast(plane.as_chunks::<64>().0[q]);
    uint8x16x4_t(a, b, c, d)
}

/// Two byte planes of 128 entries, with the code's top bit as the sign.
#[target_feature(enable = "neon")]
#[inline]
fn sign_magnitude(table: &Table, codes: uint8x16_t) -> [V; 4] {
    let sign_bit = vdupq_n_u8(0x80);
    let low = vbicq_u8(codes, sign_bit);
    let high = vsubq_u8(low, vdupq_n_u8(64));
    let plane = |p: usize| {
        let plane = &table.planes[p];
        vorrq_u8(vqtbl4q_u8(quarter(plane, 0), low), vqtbl4q_u8(quarter(plane, 1), high))
    };
    let (second, top) = (plane(2), vbslq_u8(sign_bit, codes, plane(3)));
    upper_halves(vzip1q_u8(second, top), vzip2q_u8(second, top))
}

/// Codes come eight to a general register: a load of each would need the units that load entries.
#[target_feature(enable = "neon")]
#[inline]
fn lookup(values: &[f32; 256], codes: &[u8; LINE]) -> [V; PARTS] {
    let mut parts = [zero(); PARTS];
    for (p, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
        let codes = u64::from_le_bytes(*codes);
        let entry = |i: usize| values[(codes >> (8 * i) & 0xFF) as usize];
        parts[2 * p] = bytemuck::cast([0, 1, 2, 3].map(entry));
        parts[2 * p + 1] = bytemuck::cast([4, 5, 6, 7].map(entry));
    }
    parts
}

/// Flips the signs of floats where bits say so.
#[target_feature(enable = "neon")]
#[inline]
fn flip(mut parts: [V; PARTS], signs: u64) -> [V; PARTS] {
    for (half, parts) in parts.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = vdupq_n_u32((signs >> (32 * half)) as u32);
        // Bit 4p + i belongs to lane i of part p: these shifts bring it to one place in all lanes.
        let word = vshlq_u32(word, bytemuck::cast([3, 2, 1, 0]));
        for (p, part) in parts.iter_mut().enumerate() {
            let sign = vshlq_u32(word, vdupq_n_s32(28 - 4 * p as i32));
            let sign = vandq_u32(sign, vdupq_n_u32(0x8000_0000));
            *part = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(*part), sign));
        }
    }
    parts
}

crate::stamp::stamp! {
    /// Proof of NEON.
    Neon,
    features { neon: "neon" }
    signed { MAGNITUDE, LOOKUP }
    unsigned { INTEGER, E4M3, E5M2, TWO_SIGN_MAGNITUDE, LOOKUP }
    tiles { 1 x 16, 2 x 12, 3 x 8, 4 x 6 }
}
