//! gemm in BF16 on a CPU with instructions for it: blocks of tokens that stay in L2, and panels of 32 rows that pass by.

use std::ops::Range;

use lutmul_kernels::float::bf16::{
    PANEL, PanelStep, ROWS, STEP, Scratch, TOKENS, TileOut, TileSums, XStep,
};
use lutmul_kernels::{Columns, Kernel};

use super::{Job, Loops, STREAMED, packed_area, padded_tokens};
use crate::element::{Element, bf16_bits};
use crate::error::Result;
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::options::Threads;
use crate::quantize::TokenScale;
use crate::threads::for_each_chunk;
use crate::weights::{GroupIndex, Weights};

/// The most tokens of a block, whose sums are 128 bytes for each.
const NC: usize = 512;

/// x is tiles of 16 tokens, each an [`XStep`] for every 32 columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GemmBf16 {
    kernel: Kernel,
    k: usize,
    /// With their padding.
    tokens: usize,
}

impl GemmBf16 {
    /// For so many tokens, if the kernel has instructions that are for them, and for these weights.
    pub fn new(w: &Weights<'_>, m: usize, kernel: Kernel) -> Option<Self> {
        let (k, odd) = (w.k(), matches!(w.groups(), GroupIndex::Odd));
        let from = kernel.bf16_from(&w.float(0..0, Mode::Bf16).scales.groups)?;
        let tokens = padded_tokens(m, TOKENS);
        (m >= from && k > 0 && !odd).then_some(Self { kernel, k, tokens })
    }

    fn steps(&self) -> usize {
        self.k.div_ceil(STEP)
    }

    /// Tiles of a block.
    fn block(&self) -> usize {
        let fit = self.kernel.bf16_x_bytes() / (self.steps() * size_of::<XStep>());
        fit.clamp(2, NC / TOKENS).min(self.tokens / TOKENS)
    }

    /// Steps of a panel, whole lines.
    fn panel(&self) -> usize {
        self.steps().next_multiple_of(2).min(PANEL)
    }
}

/// Floats of so many of a type.
const fn floats<T>(count: usize) -> usize {
    count * size_of::<T>() / size_of::<f32>()
}

impl Loops for GemmBf16 {
    fn packed_len(&self) -> Result<usize> {
        packed_area(self.tokens, self.steps() * STEP / 2)
    }

    fn scratch_len(&self, _: &Weights<'_>) -> usize {
        floats::<PanelStep>(self.panel()) + floats::<TileSums>(self.block())
    }

    fn row_step(&self) -> usize {
        ROWS
    }

    fn pack<X: Element>(
        &self,
        x: MatRef<'_, X>,
        packed: &mut [f32],
        _: &mut Vec<TokenScale>,
        threads: Threads,
    ) {
        let pack = |tile: usize, to: &mut [f32]| {
            let to: &mut [XStep] = bytemuck::cast_slice_mut(to);
            match self.kernel.bf16_side() {
                2 => pack_tile::<X, 2>(x, tile * TOKENS, to),
                4 => pack_tile::<X, 4>(x, tile * TOKENS, to),
                other => unreachable!("kernels take 2 or 4 columns side by side, not {other}"),
            }
        };
        for_each_chunk(packed, self.steps() * floats::<XStep>(1), threads, pack);
    }

    fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut [f32],
    ) {
        let (steps, block) = (self.steps(), self.block());
        let (panel, sums) = scratch.split_at_mut(floats::<PanelStep>(self.panel()));
        let panel: &mut [PanelStep] = bytemuck::cast_slice_mut(panel);
        let sums: &mut [TileSums] = bytemuck::cast_slice_mut(sums);
        let x: &[XStep] = bytemuck::cast_slice(job.x);
        let streamed = !job.epilogue.accumulate && job.m * job.w.n() * size_of::<Y>() >= STREAMED;
        let narrow = if streamed { Y::stream } else { Y::narrow };
        // Blocks of tokens.
        for (i, x) in x.chunks(block * steps).enumerate() {
            let (first_token, tiles) = (i * block * TOKENS, x.len() / steps);
            // Panels of rows; blocks of k and tiles are the kernel's.
            for first in rows.clone().step_by(ROWS) {
                let chunk = first..rows.end.min(first + ROWS);
                let w = job.w.float(chunk.clone(), Mode::Bf16);
                let mut scratch = Scratch { panel, sums: &mut sums[..tiles] };
                let (len, first_col) = (chunk.len(), first - rows.start);
                let bias = job.epilogue.bias.map(|bias| &bias[chunk]);
                let mut store = |tile: usize, sums: &mut TileOut| {
                    for (token, sums) in (first_token + tile * TOKENS..job.m).zip(sums) {
                        let sums = &mut sums[..len];
                        if let Some(bias) = bias {
                            for (sum, bias) in sums.iter_mut().zip(bias) {
                                *sum += bias;
                            }
                        }
                        job.epilogue.store_rounded(Some(sums), len, y, (token, first_col), narrow);
                    }
                };
                self.kernel.gemm_bf16(&w, x, &mut scratch, &mut store);
            }
        }
        if streamed {
            lutmul_kernels::stream_fence();
        }
    }
}

/// Packs a tile of tokens: steps of `[32 / SIDE][16 tokens][SIDE]`.
fn pack_tile<X: Element, const SIDE: usize>(
    x: MatRef<'_, X>,
    first_token: usize,
    to: &mut [XStep],
) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (step, to) in to.iter_mut().enumerate() {
                let mut rows = [[0u16; STEP]; TOKENS];
                for (token, row) in (first_token..x.rows()).zip(&mut rows) {
                    let from = &x.row(token)[step * STEP..];
                    let mut wide = [0.0; STEP];
                    let len = from.len().min(STEP);
                    X::widen(&from[..len], &mut wide[..len]);
                    for (to, x) in row.iter_mut().zip(wide) {
                        *to = bf16_bits(x);
                    }
                }
                let to = to.as_chunks_mut::<SIDE>().0;
                for (token, row) in rows.iter().enumerate() {
                    let columns = row.as_chunks::<SIDE>().0;
                    for (to, columns) in to[token..].iter_mut().step_by(TOKENS).zip(columns) {
                        *to = *columns;
                    }
                }
            }
        },
    );
}
