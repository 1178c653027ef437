//! Plain Rust, for every CPU: the loops of the other kernels over vectors of four floats that the
//! compiler may or may not put into a register.

pub(crate) mod int;

use std::ops::Range;

use crate::portion::{
    Groups, LINE, NATURAL, Order, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput,
    TileSums,
};
use crate::row::{Index, LINES, PAIRS, QUARTERS, WHOLE, pair, partial_signs};
use crate::table::Table;

const LANES: usize = 4;
const PARTS: usize = LINE / LANES;
const CLASSES: usize = 4;

type V = [f32; LANES];
type Regs = [f32; 256];

const LOOKUP: u8 = 0;
const DECODERS: [&str; 1] = ["lookup"];

fn decoder(_: &Portion<'_>) -> u8 {
    LOOKUP
}

fn order(_: &Portion<'_>) -> &'static Order {
    &NATURAL
}

fn zero() -> V {
    [0.0; LANES]
}

fn splat(value: f32) -> V {
    [value; LANES]
}

fn load(from: &V) -> V {
    *from
}

fn store(v: V, to: &mut V) {
    *to = v;
}

fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut out = a;
    for (out, b) in out.iter_mut().zip(b) {
        *out = f(*out, b);
    }
    out
}

fn mul(a: V, b: V) -> V {
    zip(a, b, |a, b| a * b)
}

fn add(a: V, b: V) -> V {
    zip(a, b, |a, b| a + b)
}

/// Two roundings: without FMA instructions a fused one is a slow function call.
fn fma(a: V, b: V, c: V) -> V {
    add(mul(a, b), c)
}

fn sum(v: V) -> f32 {
    (v[0] + v[2]) + (v[1] + v[3])
}

fn quarters(scales: [f32; 4]) -> [V; CLASSES] {
    scales.map(splat)
}

const AHEAD: usize = 0;

fn prefetch(_: &[u8], _: usize) {}

fn load_table<const D: u8>(table: &Table) -> &Regs {
    &table.values
}

fn decode<const D: u8, const SIGNED: bool>(
    table: &Regs,
    codes: &[u8; LINE],
    signs: u64,
) -> [V; PARTS] {
    let mut line = [0.0; LINE];
    for (i, (w, code)) in line.iter_mut().zip(codes).enumerate() {
        let flip = ((signs >> i & 1) as u32) << 31;
        *w = f32::from_bits(table[usize::from(*code)].to_bits() ^ flip);
    }
    bytemuck::cast(line)
}

crate::stamp::stamp! {
    /// Proof of nothing: every CPU will do.
    Scalar,
    features {}
    signed { LOOKUP }
    unsigned { LOOKUP }
    tiles { 1 x 4 }
}
