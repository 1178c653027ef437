//! gemm: lanes run along tokens. A panel of rows is decoded once, and each weight is broadcast to all tokens of a tile.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Decoder, Float, Groups, KC, LineOrder, PanelRow, TileSums, TileX, Weights};
use crate::isa::{Isa, Task};
use crate::weights::{LINE, MC};

/// Decodes columns `lines` (counted in lines) of all rows into a panel, scales multiplied in.
///
/// # Safety
/// The CPU has the features of `O::Isa`.
pub(super) unsafe fn decode<O: Float, D: Decoder<O>>(
    w: &Weights<'_>,
    lines: Range<usize>,
    panel: &mut [PanelRow],
) {
    // SAFETY: the caller's promise.
    let isa = unsafe { O::Isa::assume() };
    isa.run(Decode::<O, D> { w, lines, panel, kind: PhantomData });
}

struct Decode<'a, O, D> {
    w: &'a Weights<'a>,
    lines: Range<usize>,
    panel: &'a mut [PanelRow],
    kind: PhantomData<(O, D)>,
}

impl<O: Float, D: Decoder<O>> Task<O::Isa> for Decode<'_, O, D> {
    #[inline(always)]
    fn run(self, isa: O::Isa) {
        let Self { w, lines, panel, .. } = self;
        let regs = D::load(isa, w.table);
        let unit = O::splat(isa, D::UNIT);
        for (r, to) in panel.iter_mut().enumerate().take(w.codes.rows()) {
            let (row, scales) = (w.codes.row(r), w.scales.row(r));
            let whole = D::Order::same(isa, scales.first().copied().unwrap_or_default());
            let tail = w.codes.tail(r, w.table.pad);
            let tail = tail.row(D::SIGNED);
            for (line, to) in lines.clone().zip(to.as_chunks_mut::<LINE>().0) {
                let (from, at) = if line < row.codes.len() { (&row, line) } else { (&tail, 0) };
                let signs = if D::SIGNED { u64::from_le_bytes(from.signs[at]) } else { 0 };
                let mut weights = D::decode(isa, &regs, &from.codes[at], signs);
                let by = match w.scales.groups {
                    Groups::Whole => whole,
                    Groups::Lines(index) => D::Order::same(isa, scales[index[line] as usize]),
                    Groups::Quarters(index) => {
                        let [a, b, c, d] = index[line];
                        let quarters = [
                            scales[a as usize],
                            scales[b as usize],
                            scales[c as usize],
                            scales[d as usize],
                        ];
                        D::Order::classes(isa, quarters)
                    }
                };
                let (weights, by) = (weights.as_mut(), by.as_ref());
                let run = weights.len() / by.len();
                let to: &mut [O::Lanes] = bytemuck::cast_slice_mut(to);
                for p in 0..weights.len() {
                    let weight = O::mul(isa, O::mul(isa, weights[p], unit), by[p / run]);
                    O::store(isa, weight, &mut to[p]);
                }
            }
        }
    }
}

/// A micro-kernel.
#[derive(Clone, Copy)]
pub(crate) struct Microkernel {
    /// Vectors of tokens.
    pub vectors: usize,
    /// Multiplies a panel by columns of a tile, from a vector of tokens on.
    pub run: unsafe fn(&[PanelRow], &TileX<'_>, usize, &mut TileSums<'_>),
}

/// The micro-kernel of A vectors of tokens (`nr`) and R rows (`mr`).
pub(crate) const fn microkernel<O: Float, const A: usize, const R: usize>() -> Microkernel {
    /// # Safety
    /// The CPU has the features of `O::Isa`.
    unsafe fn run<O: Float, const A: usize, const R: usize>(
        panel: &[PanelRow],
        x: &TileX<'_>,
        at: usize,
        sums: &mut TileSums<'_>,
    ) {
        // SAFETY: the caller's promise.
        let isa = unsafe { O::Isa::assume() };
        isa.run(Tile::<O, A, R> { panel, x, at, sums, kind: PhantomData });
    }
    Microkernel { vectors: A, run: run::<O, A, R> }
}

struct Tile<'a, 's, O, const A: usize, const R: usize> {
    panel: &'a [PanelRow],
    x: &'a TileX<'a>,
    at: usize,
    sums: &'a mut TileSums<'s>,
    kind: PhantomData<O>,
}

/// `sums[r][t] (+)= Σ_k panel[r][k] · x[k][t]`. A block of k starts from zero and is added to `sums` at its end:
/// blocks are shorter chains than k, so the error is smaller.
impl<'a, O: Float, const A: usize, const R: usize> Task<O::Isa> for Tile<'a, '_, O, A, R> {
    #[inline(always)]
    fn run(self, isa: O::Isa) {
        const { assert!(MC.is_multiple_of(R)) };
        let Self { panel, x, at, sums, .. } = self;
        let vectors = x.width / O::LANES;
        let x: &'a [O::Lanes] = bytemuck::cast_slice(x.x);
        let groups = sums.rows.div_ceil(R);
        for (group, rows) in panel.as_chunks::<R>().0.iter().enumerate().take(groups) {
            // Where a tile is this micro-kernel's, its columns are neighbours: a distance that the compiler knows leaves
            // FMAs their operands in memory (one with an index register is two instructions to an Intel CPU: a fifth).
            let acc = if vectors == A {
                columns::<O, A, R>(isa, rows, x.as_chunks::<A>().0.iter())
            } else {
                let part = |x: &'a [O::Lanes]| x[at..].first_chunk::<A>();
                columns::<O, A, R>(isa, rows, x.chunks_exact(vectors).map_while(part))
            };
            for r in 0..R {
                let start = (group * R + r) * sums.stride + at * O::LANES;
                let to = &mut sums.values[start..][..A * O::LANES];
                let to: &mut [O::Lanes] = bytemuck::cast_slice_mut(to);
                for a in 0..A {
                    let total = if sums.add {
                        O::add(isa, O::load(isa, &to[a]), acc[r][a])
                    } else {
                        acc[r][a]
                    };
                    O::store(isa, total, &mut to[a]);
                }
            }
        }
    }
}

/// The sums of R rows with the tokens of some columns.
#[inline(always)]
fn columns<'x, O: Float, const A: usize, const R: usize>(
    isa: O::Isa,
    rows: &[PanelRow; R],
    x: impl Iterator<Item = &'x [O::Lanes; A]>,
) -> [[O::V; A]; R] {
    let mut acc = [[O::zero(isa); A]; R];
    for (column, x) in x.take(KC).enumerate() {
        let mut tokens = [O::zero(isa); A];
        for a in 0..A {
            tokens[a] = O::load(isa, &x[a]);
        }
        for r in 0..R {
            let weight = O::splat(isa, rows[r][column]);
            for a in 0..A {
                acc[r][a] = O::fma(isa, weight, tokens[a], acc[r][a]);
            }
        }
    }
    acc
}
