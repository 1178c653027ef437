//! AVX2 with `vgatherdps`: the obvious way, kept to measure the others against.

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
use crate::table::Table;

type Regs = [f32; 256];

const GATHER: u8 = 0;
const DECODERS: [&str; 1] = ["gather"];

fn decoder(_: &Portion<'_>) -> u8 {
    GATHER
}

fn order(_: &Portion<'_>) -> &'static Order {
    &NATURAL
}

fn load_table<const D: u8>(table: &Table) -> &Regs {
    &table.values
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn decode<const D: u8, const SIGNED: bool>(
    table: &Regs,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    let mut parts = [zero(); PARTS];
    let codes = codes.as_chunks::<LANES>().0;
    for ((part, codes), signs) in parts.iter_mut().zip(codes).zip(signs.to_le_bytes()) {
        let index = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
        // SAFETY: every index is a byte, and the table has 256 entries.
        *part = unsafe { _mm256_i32gather_ps::<4>(table.as_ptr(), index) };
        if SIGNED {
            *part = flip(*part, signs);
        }
    }
    parts
}

crate::stamp::stamp! {
    /// Proof of AVX2 and FMA.
    Avx2Gather,
    features { avx2: "avx2", fma: "fma" }
    signed { GATHER }
    unsigned { GATHER }
    rows { 1: 8 x 1, 2: 2 x 2, 4: 2 x 2, 8: 4 x 1 }
    tiles { 1 x 12, 2 x 6 }
}
