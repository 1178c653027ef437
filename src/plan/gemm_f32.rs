//! gemm in F32, and in BF16 on rounded x where no kernel is better at it. Loops as in the BLIS papers, with weights in the role of A and tokens in that of B:
//! a panel of 48 rows × 512 columns is decoded into L2, and tiles of tokens pass over it.

use std::ops::Range;

use lutmul_kernels::float::{KC, Order, PanelRow, TileSums, TileX};
use lutmul_kernels::{Columns, Kernel, LINE, MC};

use super::floats::widen;
use super::{Job, Loops, packed_area, padded, padded_tokens};
use crate::element::Element;
use crate::error::Result;
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::options::Threads;
use crate::quantize::TokenScale;
use crate::threads::for_each_chunk;
use crate::weights::{GroupIndex, Weights};

/// The most tokens whose sums are held at a time. Sums of 48 rows × 512 tokens are 96 KiB, as much as the
/// panel; decoding again for the next 512 tokens costs 3 % of their arithmetic.
const NC: usize = 512;

/// Distance of the rows of sums; the extra line keeps a column of them out of one L1 set.
const STRIDE: usize = NC + 16;

/// Sums of a panel.
const SUMS: usize = MC * STRIDE;

/// Floats of a row of a decoded panel.
const ROW: usize = KC + 16;

/// x is tiles of the kernel's width, the last one narrower, each `[columns][width]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GemmF32 {
    kernel: Kernel,
    mode: Mode,
    order: &'static Order,
    k: usize,
    /// With their padding.
    tokens: usize,
}

impl GemmF32 {
    pub fn new(w: &Weights<'_>, m: usize, kernel: Kernel, mode: Mode) -> Self {
        let tokens = padded_tokens(m, kernel.lanes());
        Self { kernel, mode, order: kernel.order(&w.float(0..0, mode)), k: w.k(), tokens }
    }
}

impl Loops for GemmF32 {
    fn packed_len(&self) -> Result<usize> {
        packed_area(self.tokens, padded(self.k))
    }

    fn scratch_len(&self, _: &Weights<'_>) -> usize {
        SUMS + MC * ROW
    }

    fn row_step(&self) -> usize {
        MC
    }

    fn pack<X: Element>(
        &self,
        x: MatRef<'_, X>,
        packed: &mut [f32],
        _: &mut Vec<TokenScale>,
        threads: Threads,
    ) {
        let (full, columns) = (self.kernel.tile_width(), padded(self.k));
        let tile = |i: usize, packed: &mut [f32]| {
            let width = packed.len() / columns;
            for (line, to) in packed.chunks_exact_mut(LINE * width).enumerate() {
                pack_tile_line(x, i * full, line, (self.order, self.mode), width, to);
            }
        };
        for_each_chunk(packed, full * columns, threads, tile);
    }

    fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut [f32],
    ) {
        let (sums, panel) = scratch.split_at_mut(SUMS);
        let panel = panel.as_chunks_mut::<ROW>().0;
        // Loop 5: blocks of tokens, whole tiles each.
        let block = NC - NC % self.kernel.tile_width();
        for token in (0..job.m).step_by(block) {
            let tokens = token..self.tokens.min(token + block);
            // Loop 4: panels of rows.
            for first in rows.clone().step_by(MC) {
                let chunk = first..rows.end.min(first + MC);
                self.sums(job, chunk.clone(), tokens.clone(), sums, panel);
                store_panel(job, chunk, first - rows.start, tokens.clone(), sums, y);
            }
        }
    }
}

impl GemmF32 {
    /// The sums of a panel's rows and a block of tokens, `[rows][STRIDE]`.
    fn sums(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        tokens: Range<usize>,
        sums: &mut [f32],
        panel: &mut [PanelRow],
    ) {
        let kernel = self.kernel;
        let w = job.w.float(rows.clone(), self.mode);
        let lines = w.codes.lines();
        const STEP: usize = KC / LINE;
        // Loop 3: blocks of k.
        for line in (0..lines).step_by(STEP) {
            let block = line..lines.min(line + STEP);
            kernel.decode_f32(&w, block.clone(), panel);
            if matches!(job.w.groups(), GroupIndex::Odd) {
                self.scale(job.w, rows.clone(), block.clone(), panel);
            }
            // Loop 2: tiles of tokens. Loop 1, groups of rows, is the kernel's.
            let full = kernel.tile_width();
            for first in tokens.clone().step_by(full) {
                let width = full.min(self.tokens - first);
                let tile = &job.x[first * lines * LINE..][..width * lines * LINE];
                let x = &tile[block.start * LINE * width..block.end * LINE * width];
                let values = &mut sums[first - tokens.start..];
                let (rows, add) = (rows.len(), line > 0);
                let mut to = TileSums { values, stride: STRIDE, rows, add };
                kernel.gemm_f32(panel, &TileX { x, width }, &mut to);
            }
        }
    }

    /// Multiplies a decoded panel by scales whose groups are no multiple of 16.
    fn scale(
        &self,
        w: &Weights<'_>,
        rows: Range<usize>,
        lines: Range<usize>,
        panel: &mut [PanelRow],
    ) {
        let scales = w.scales();
        let (_, group) = scales.granularity().block((w.n(), w.k()));
        for (row, weights) in rows.zip(panel) {
            let scales = scales.row(row);
            for (line, weights) in lines.clone().zip(weights.chunks_exact_mut(LINE)) {
                for (weight, code) in weights.iter_mut().zip(self.order) {
                    let col = line * LINE + usize::from(*code);
                    *weight *= scales[(col / group).min(scales.len() - 1)];
                }
            }
        }
    }
}

/// Transposes 64 columns of a tile's tokens into `[64][width]`.
fn pack_tile_line<X: Element>(
    x: MatRef<'_, X>,
    first_token: usize,
    line: usize,
    (order, mode): (&Order, Mode),
    width: usize,
    to: &mut [f32],
) {
    // Eight tokens side by side: a write of 32 bytes a column instead of one of 4.
    const SIDE: usize = 8;
    for side in (0..width).step_by(SIDE) {
        let mut wide = [[0.0; LINE]; SIDE];
        let count = SIDE.min(width - side);
        for (token, wide) in (first_token + side..x.rows()).zip(&mut wide[..count]) {
            let from = &x.row(token)[line * LINE..];
            let len = from.len().min(LINE);
            widen(&from[..len], &mut wide[..len], mode);
        }
        for (to, column) in to.chunks_exact_mut(width).zip(order) {
            for (to, wide) in to[side..side + count].iter_mut().zip(&wide) {
                *to = wide[usize::from(*column)];
            }
        }
    }
}

/// Transposes the sums token by token, finishes and stores them.
fn store_panel<Y: Element>(
    job: &Job<'_>,
    rows: Range<usize>,
    first_col: usize,
    tokens: Range<usize>,
    sums: &[f32],
    y: &mut Columns<'_, Y>,
) {
    // A strip of tokens is one cache line of each row of sums.
    const STRIP: usize = 16;
    for first in tokens.clone().step_by(STRIP) {
        let mut strip = [[0.0; MC]; STRIP];
        for (row, sums) in sums.chunks(STRIDE).enumerate().take(rows.len()) {
            let sums: &[f32; STRIP] = sums[first - tokens.start..]
                .first_chunk()
                .expect("rows of sums are padded by a strip");
            for (strip, sum) in strip.iter_mut().zip(sums) {
                strip[row] = *sum;
            }
        }
        for (token, sums) in (first..tokens.end.min(job.m)).zip(&mut strip) {
            job.epilogue.store(&mut sums[..rows.len()], rows.clone(), y, token, first_col);
        }
    }
}
