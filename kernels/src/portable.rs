//! Any vector unit, through `pulp::Simd`: what runs where no kernel has been written for the ISA.
//!
//! A line is decoded by 64 scalar loads into an array, and that is the bound; vectors only do the sums.
//! `stamp!` is of no use here, because pulp's vectors have no width known to this source. Tiles are
//! multiples of 16 floats, and sums are 16 lanes wide, in as many registers as that takes: so a sum's
//! order is the same for every vector width. Whether products are fused is the CPU's affair.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::portion::{
    Groups, LINE, NATURAL, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput, TileSums,
};
use crate::row::partial_signs;

/// The unit of tiles and the lanes of a sum.
const LANES: usize = 16;

/// Rows of a micro-kernel: with 256-bit vectors 12 of 16 registers are sums.
const ROWS: usize = 6;

const _: () = assert!(PANEL_ROWS.is_multiple_of(ROWS));

type Wide = [f32; LANES];

pub(crate) static ENTRY: crate::kernel::Entry = crate::kernel::Entry {
    features: &[],
    available: || true,
    detected: |_| true,
    lanes: LANES,
    vectors: 1,
    order: |_| &NATURAL,
    decoder: |_| "scalar lookup",
    row,
    panel,
    tile,
};

/// A line of weights, beyond k the table's padding. Scales are multiplied in where `scaled`.
#[inline(always)]
fn decode(w: &Portion<'_>, row: usize, line: usize, scaled: bool) -> [f32; LINE] {
    let (codes, signs, scales) = (w.row_codes(row), w.row_signs(row), w.scales.row(row));
    let at = line * LINE;
    let mut padded = [w.table.pad; LINE];
    let codes = codes[at..].first_chunk().unwrap_or_else(|| {
        padded[..w.k - at].copy_from_slice(&codes[at..]);
        &padded
    });
    let signs = match signs.get(8 * line..) {
        Some(bytes) => partial_signs(&bytes[..bytes.len().min(8)]),
        None => 0,
    };
    let scale = match w.scales.groups {
        _ if !scaled => [1.0; 4],
        Groups::Whole => [scales[0]; 4],
        Groups::Lines(index) => [scales[index[line] as usize]; 4],
        Groups::Pairs => crate::row::pair(scales, line),
        Groups::Quarters(index) => index[line].map(|i| scales[i as usize]),
    };
    let mut weights = [0.0; LINE];
    for (i, (weight, code)) in weights.iter_mut().zip(codes).enumerate() {
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

struct Row<'a, 'b, const T: usize> {
    w: &'a Portion<'b>,
    x: &'a RowInput<'b>,
    out: &'a mut [f32],
    stride: usize,
}

impl<const T: usize> WithSimd for Row<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { w, x, out, stride } = self;
        let whole = matches!(w.scales.groups, Groups::Whole);
        let x: &[[[f32; LINE]; T]] = x.x.as_chunks().0.as_chunks().0;
        for row in 0..w.rows() {
            let mut sums = [[0.0; LANES]; T];
            for (line, x) in x.iter().enumerate() {
                let weights = decode(w, row, line, !whole);
                for (sums, x) in sums.iter_mut().zip(x) {
                    for (w, x) in weights.as_chunks().0.iter().zip(x.as_chunks().0) {
                        multiply_add(simd, w, x, sums);
                    }
                }
            }
            let scale = if whole { w.scales.row(row)[0] } else { 1.0 };
            for (token, mut sums) in sums.into_iter().enumerate() {
                for half in [8, 4, 2, 1] {
                    for lane in 0..half {
                        sums[lane] += sums[lane + half];
                    }
                }
                out[token * stride + row] = sums[0] * scale;
            }
        }
    }
}

fn row(w: &Portion<'_>, x: &RowInput<'_>, out: &mut [f32], stride: usize) {
    let arch = Arch::new();
    match x.tokens {
        1 => arch.dispatch(Row::<1> { w, x, out, stride }),
        2 => arch.dispatch(Row::<2> { w, x, out, stride }),
        4 => arch.dispatch(Row::<4> { w, x, out, stride }),
        8 => arch.dispatch(Row::<8> { w, x, out, stride }),
        other => unreachable!("{other} tokens"),
    }
}

fn panel(w: &Portion<'_>, lines: Range<usize>, panel: &mut [PanelRow]) {
    for (row, to) in panel.iter_mut().enumerate().take(w.rows()) {
        for (line, to) in lines.clone().zip(to.as_chunks_mut().0) {
            *to = decode(w, row, line, true);
        }
    }
}

struct Tile<'a, 'b> {
    panel: &'a [PanelRow],
    x: &'a TileInput<'b>,
    sums: &'a mut TileSums<'b>,
}

impl WithSimd for Tile<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panel, x, sums } = self;
        let x: &[Wide] = x.x.as_chunks().0;
        let columns = x.len().min(PANEL_COLS);
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

fn tile(panel: &[PanelRow], x: &TileInput<'_>, sums: &mut TileSums<'_>) {
    // The value that implements `WithSimd` has one lifetime for all it borrows.
    let sums =
        &mut TileSums { values: sums.values, stride: sums.stride, rows: sums.rows, add: sums.add };
    Arch::new().dispatch(Tile { panel, x, sums });
}
