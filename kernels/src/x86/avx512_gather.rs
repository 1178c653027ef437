//! AVX-512 with `vgatherdps`: the obvious way, kept to measure the others against.

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

#[target_feature(enable = "avx512f")]
#[inline]
fn decode<const D: u8, const SIGNED: bool>(
    table: &Regs,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    let mut parts = [zero(); PARTS];
    let codes = codes.as_chunks::<LANES>().0;
    for (p, (part, codes)) in parts.iter_mut().zip(codes).enumerate() {
        let index = _mm512_cvtepu8_epi32(bytemuck::cast(*codes));
        // SAFETY: every index is a byte, and the table has 256 entries.
        *part = unsafe { _mm512_i32gather_ps::<4>(index, table.as_ptr()) };
        if SIGNED {
            *part = flip(*part, (signs >> (LANES * p)) as u16);
        }
    }
    parts
}

crate::stamp::stamp! {
    /// Proof of AVX-512.
    Avx512Gather,
    features { f: "avx512f" }
    signed { GATHER }
    unsigned { GATHER }
    tiles { 1 x 24, 2 x 12, 3 x 8, 4 x 6 }
}
