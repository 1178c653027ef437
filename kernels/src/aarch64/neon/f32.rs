//! NEON, F32: affine tables and FP8 are computed, others looked up.
//!
//! Parts are in natural order, 16 of four floats. What bounds gemv is the number of vector
//! instructions, on small cores the latency of the 16 FMAs that follow each other. There is no machine
//! to time this on. Counted in what rustc 1.96 makes of the loop of gemv (one token, no groups), everything
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
//! likely too slow. The same gives the tile of gemm of 16 tokens × 6 rows 6.3 cycles for 24 FMAs,
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

use super::{F32x4, Line, Neon, expand, quarter};
use crate::float::{
    Decoder, Float, FloatDecoder, FloatEntry, Gemv, LINES, Loops, Microkernel, Natural, QUARTERS,
    WHOLE, Weights, decoder, either, gemv, microkernel,
};
use crate::isa::{Isa, with_features};
use crate::table::{ClosedForm, Table};
use crate::weights::LINE;

type F32 = F32x4;
type V = float32x4_t;
type Parts = <F32 as Float>::Line;

pub(crate) static ENTRY: FloatEntry =
    FloatEntry { features: Neon::FEATURES, lanes: F32::LANES, decoder: choose, gemm: &GEMM };

/// 24 of 32 registers are sums.
static GEMM: [Microkernel; 4] = [
    microkernel::<F32, 4, 6>(),
    microkernel::<F32, 3, 8>(),
    microkernel::<F32, 2, 12>(),
    microkernel::<F32, 1, 16>(),
];

/// Rows side by side, how many of them are decoded first, tokens.
impl<D: Decoder<Self>> Loops<D> for F32x4 {
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
        None if w.sign_magnitude() => decoder::<F32, HalfTable>(),
        None => either(w, decoder::<F32, Lookup<true>>(), decoder::<F32, Lookup<false>>()),
    }
}

/// QINS linear.
pub(crate) struct Magnitude;

impl Decoder<F32> for Magnitude {
    const NAME: &'static str = "magnitude";
    const SIGNED: bool = true;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Neon, _: &Table) {}

    with_features! { "neon";
        fn decode(_isa: Neon, regs: &(), codes: &[u8; LINE], signs: u64) -> Parts {
            let _ = regs;
            let codes: Line = bytemuck::cast(*codes);
            let negative = expand(signs);
            let one = vdupq_n_u8(1);
            // A loop over the quarters is not always unrolled, and then all parts go through memory.
            bytemuck::cast([
                magnitudes(vqsubq_u8(codes[0], one), negative[0]),
                magnitudes(vqsubq_u8(codes[1], one), negative[1]),
                magnitudes(vqsubq_u8(codes[2], one), negative[2]),
                magnitudes(vqsubq_u8(codes[3], one), negative[3]),
            ])
        }
    }
}

/// int8.
pub(crate) struct Integer;

impl Decoder<F32> for Integer {
    const NAME: &'static str = "integer";
    const SIGNED: bool = false;
    type Order = Natural;
    /// What codes are xored with.
    type Regs<'a> = uint8x16_t;

    with_features! { "neon";
        fn load(_isa: Neon, table: &Table) -> uint8x16_t {
            vdupq_n_u8(ClosedForm::flip(table.closed_form))
        }
        fn decode(_isa: Neon, flip: &uint8x16_t, codes: &[u8; LINE], _signs: u64) -> Parts {
            let codes: Line = bytemuck::cast(*codes);
            bytemuck::cast([
                integers(veorq_u8(codes[0], *flip)),
                integers(veorq_u8(codes[1], *flip)),
                integers(veorq_u8(codes[2], *flip)),
                integers(veorq_u8(codes[3], *flip)),
            ])
        }
    }
}

/// FP8 E4M3, by its bits.
pub(crate) struct E4m3;

impl Decoder<F32> for E4m3 {
    const NAME: &'static str = "e4m3";
    const SIGNED: bool = false;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Neon, _: &Table) {}

    with_features! { "neon";
        fn decode(_isa: Neon, _regs: &(), codes: &[u8; LINE], _signs: u64) -> Parts {
            let codes: Line = bytemuck::cast(*codes);
            bytemuck::cast([e4m3(codes[0]), e4m3(codes[1]), e4m3(codes[2]), e4m3(codes[3])])
        }
    }
}

/// FP8 that is the top byte of an f16.
pub(crate) struct E5m2;

impl Decoder<F32> for E5m2 {
    const NAME: &'static str = "e5m2";
    const SIGNED: bool = false;
    type Order = Natural;
    type Regs<'a> = ();

    fn load(_: Neon, _: &Table) {}

    with_features! { "neon";
        fn decode(_isa: Neon, _regs: &(), codes: &[u8; LINE], _signs: u64) -> Parts {
            let codes: Line = bytemuck::cast(*codes);
            bytemuck::cast([e5m2(codes[0]), e5m2(codes[1]), e5m2(codes[2]), e5m2(codes[3])])
        }
    }
}

/// Two byte planes of 128 entries, with the code's top bit as the sign.
pub(crate) struct HalfTable;

impl Decoder<F32> for HalfTable {
    const NAME: &'static str = "2 planes of 128";
    const SIGNED: bool = false;
    type Order = Natural;
    type Regs<'a> = &'a Table;

    fn load(_: Neon, table: &Table) -> &Table {
        table
    }

    with_features! { "neon";
        fn decode(_isa: Neon, table: &&Table, codes: &[u8; LINE], _signs: u64) -> Parts {
            let codes: Line = bytemuck::cast(*codes);
            bytemuck::cast([
                sign_magnitude(table, codes[0]),
                sign_magnitude(table, codes[1]),
                sign_magnitude(table, codes[2]),
                sign_magnitude(table, codes[3]),
            ])
        }
    }
}

/// Any table.
pub(crate) struct Lookup<const SIGNED: bool>;

impl<const SIGNED: bool> Decoder<F32> for Lookup<SIGNED> {
    const NAME: &'static str = "scalar lookup";
    const SIGNED: bool = SIGNED;
    type Order = Natural;
    type Regs<'a> = &'a [f32; 256];

    fn load(_: Neon, table: &Table) -> &[f32; 256] {
        &table.values
    }

    #[inline(always)]
    fn decode(isa: Neon, table: &&[f32; 256], codes: &[u8; LINE], signs: u64) -> Parts {
        let parts = lookup(isa, table, codes);
        if SIGNED { flip(isa, parts, signs) } else { parts }
    }
}

with_features! { "neon";
    /// Codes come eight to a general register: a load of each would need the units that load entries.
    fn lookup(_isa: Neon, values: &[f32; 256], codes: &[u8; LINE]) -> Parts {
        let mut parts = [vdupq_n_f32(0.0); 16];
        for (p, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
            let codes = u64::from_le_bytes(*codes);
            let mut entries = [0.0; 8];
            for (i, entry) in entries.iter_mut().enumerate() {
                *entry = values[(codes >> (8 * i) & 0xFF) as usize];
            }
            [parts[2 * p], parts[2 * p + 1]] = bytemuck::cast(entries);
        }
        parts
    }

    /// Flips the signs of floats where bits say so.
    fn flip(_isa: Neon, parts: Parts, signs: u64) -> Parts {
        let mut parts = parts;
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
    [
        vmulq_f32(small[0], by),
        vmulq_f32(small[1], by),
        vmulq_f32(small[2], by),
        vmulq_f32(small[3], by),
    ]
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

/// Two byte planes of 128 entries, with the code's top bit as the sign.
#[target_feature(enable = "neon")]
#[inline]
fn sign_magnitude(table: &Table, codes: uint8x16_t) -> [V; 4] {
    let sign_bit = vdupq_n_u8(0x80);
    let low = vbicq_u8(codes, sign_bit);
    let high = vsubq_u8(low, vdupq_n_u8(64));
    let mut bytes = [low; 2];
    for (bytes, plane) in bytes.iter_mut().zip(&table.planes[2..]) {
        let lower = vqtbl4q_u8(quarter(plane, 0), low);
        *bytes = vorrq_u8(lower, vqtbl4q_u8(quarter(plane, 1), high));
    }
    let (second, top) = (bytes[0], vbslq_u8(sign_bit, codes, bytes[1]));
    upper_halves(vzip1q_u8(second, top), vzip2q_u8(second, top))
}
