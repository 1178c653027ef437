//! Any vector unit, through `pulp::Simd`: what runs F32 where no kernel has been written for the ISA.
//!
//! A line is decoded by 64 scalar loads into an array, and that is the bound; vectors only do the sums.
//! pulp's vectors have no width known to this source, so the loops of [`float`](crate::float) are of no use here. Tiles
//! are multiples of 16 floats, and sums are 16 lanes wide, in as many registers as that takes: so a sum's
//! order is the same for every vector width. Whether products are fused is the CPU's affair.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::float::{
    FloatDecoder, FloatEntry, Gemv, GemvX, Groups, KC, Microkernel, NATURAL, PanelRow, TileSums,
    TileX, Weights,
};
use crate::weights::{LINE, MC};

/// The unit of tiles and the lanes of a sum.
const LANES: usize = 16;

/// Rows of a micro-kernel: with 256-bit vectors 12 of 16 registers are sums.
const ROWS: usize = 6;

const _: () = assert!(MC.is_multiple_of(ROWS));

type Wide = [f32; LANES];

pub(crate) static ENTRY: FloatEntry = FloatEntry {
    features: &[],
    lanes: LANES,
    decoder: |_| &LOOKUP,
    gemm: &[Microkernel { vectors: 1, run: |panel, x, _, sums| tile(panel, x, sums) }],
};

static LOOKUP: FloatDecoder =
    FloatDecoder { name: "scalar lookup", order: &NATURAL, gemv: [&GEMV; 3], decode: panel };

static GEMV: [Gemv; 2] = [Gemv { tokens: 4, run: gemv::<4> }, Gemv { tokens: 1, run: gemv::<1> }];

/// A line of weights, beyond k the table's padding. Scales are multiplied in where `scaled`.
#[inline(always)]
fn decode(w: &Weights<'_>, row: usize, line: usize, scaled: bool) -> [f32; LINE] {
    let (whole, scales) = (w.codes.row(row), w.scales.row(row));
    let tail = w.codes.tail(row, w.table.pad);
    let tail = tail.row(w.signed());
    let (from, at) = if line < whole.codes.len() { (&whole, line) } else { (&tail, 0) };
    let signs = from.signs.get(at).map_or(0, |signs| u64::from_le_bytes(*signs));
    let scale = match w.scales.groups {
        _ if !scaled => [1.0; 4],
        Groups::Whole => [scales[0]; 4],
        Groups::Lines(index) => [scales[index[line] as usize]; 4],
        Groups::Quarters(index) => index[line].map(|i| scales[i as usize]),
    };
    let mut weights = [0.0; LINE];
    for (i, (weight, code)) in weights.iter_mut().zip(&from.codes[at]).enumerate() {
        let flip = ((signs >> i) as u32 & 1) << 31;
        *weight = f32::from_bits(w.table.values[usize::from(*code)].to_bits() ^ flip);
        if scaled {
            *weight *= scale[i / (LINE / 4)];
        }
    }
    weights
}

/// `sums[l] += a[l] · b[l]`.
#[inline(always)]
fn multiply_add<S: Simd>(simd: S, a: &Wide, b: &Wide, sums: &mut Wide) {
    let (a, b) = (S::as_simd_f32s(a).0, S::as_simd_f32s(b).0);
    for ((sum, a), b) in S::as_mut_simd_f32s(sums).0.iter_mut().zip(a).zip(b) {
        *sum = simd.mul_add_e_f32s(*a, *b, *sum);
    }
}

struct Rows<'a, 'b, const T: usize> {
    w: &'a Weights<'b>,
    x: &'a GemvX<'b>,
    token: usize,
    out: &'a mut [f32],
    stride: usize,
}

impl<const T: usize> WithSimd for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { w, x, token, out, stride } = self;
        let whole = matches!(w.scales.groups, Groups::Whole);
        let tokens = x.tokens;
        let x: &[[f32; LINE]] = &x.x.as_chunks().0[token..];
        for row in 0..w.codes.rows() {
            let mut sums = [[0.0; LANES]; T];
            for (line, x) in x.chunks(tokens).enumerate() {
                let weights = decode(w, row, line, !whole);
                for (sums, x) in sums.iter_mut().zip(x) {
                    for (w, x) in weights.as_chunks().0.iter().zip(x.as_chunks().0) {
                        multiply_add(simd, w, x, sums);
                    }
                }
            }
            let scale = if whole { w.scales.row(row)[0] } else { 1.0 };
            for (t, mut sums) in sums.into_iter().enumerate() {
                for half in [8, 4, 2, 1] {
                    for lane in 0..half {
                        sums[lane] += sums[lane + half];
                    }
                }
                out[(token + t) * stride + row] = sums[0] * scale;
            }
        }
    }
}

fn gemv<const T: usize>(
    w: &Weights<'_>,
    x: &GemvX<'_>,
    token: usize,
    out: &mut [f32],
    stride: usize,
) {
    Arch::new().dispatch(Rows::<T> { w, x, token, out, stride });
}

fn panel(w: &Weights<'_>, lines: Range<usize>, panel: &mut [PanelRow]) {
    for (row, to) in panel.iter_mut().enumerate().take(w.codes.rows()) {
        for (line, to) in lines.clone().zip(to.as_chunks_mut().0) {
            *to = decode(w, row, line, true);
        }
    }
}

struct Tile<'a, 'b> {
    panel: &'a [PanelRow],
    x: &'a TileX<'b>,
    sums: &'a mut TileSums<'b>,
}

impl WithSimd for Tile<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panel, x, sums } = self;
        let x: &[Wide] = x.x.as_chunks().0;
        let columns = x.len().min(KC);
        let groups = sums.rows.div_ceil(ROWS);
        for (group, rows) in panel.as_chunks::<ROWS>().0.iter().enumerate().take(groups) {
            let mut acc = [[0.0; LANES]; ROWS];
            for (column, x) in x[..columns].iter().enumerate() {
                for (acc, row) in acc.iter_mut().zip(rows) {
                    multiply_add(simd, &[row[column]; LANES], x, acc);
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                let to = &mut sums.values[(group * ROWS + r) * sums.stride..][..LANES];
                for (to, acc) in to.iter_mut().zip(acc) {
                    *to = if sums.add { *to + acc } else { *acc };
                }
            }
        }
    }
}

fn tile(panel: &[PanelRow], x: &TileX<'_>, sums: &mut TileSums<'_>) {
    // The value that implements `WithSimd` has one lifetime for all it borrows.
    let sums =
        &mut TileSums { values: sums.values, stride: sums.stride, rows: sums.rows, add: sums.add };
    Arch::new().dispatch(Tile { panel, x, sums });
}
