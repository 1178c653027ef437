//! gemm in integer modes on a CPU with matrix tiles: blocks of tokens that stay in L2, and panels of 32 rows that pass by.

use std::ops::Range;

use lutmul_kernels::int::tiles::{
    MOST_COLUMNS, ROWS, STEP, TILE, TOKENS, TilesOut, TilesScratch, TilesX, panel_len, sums_len,
};
use lutmul_kernels::int::{Limbs, Operand};
use lutmul_kernels::{Columns, Kernel, LINE};

use super::limbs::{LimbLine, Quantiser, digits, store};
use super::{Job, Loops, STREAMED, packed_area, padded_tokens};
use crate::element::Element;
use crate::error::Result;
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::options::Threads;
use crate::quantize::TokenScale;
use crate::threads::for_each_chunk;
use crate::weights::Weights;

/// Bytes of x in a block of tokens: what is left of an L2 of 2 MiB by the panels that pass. (512 tokens with int8, 1.5 MiB,
/// were a fifth slower than 256.)
const NC_BYTES: usize = 768 << 10;

/// The most tokens of a block.
const NC: usize = 512;

/// Tokens that are packed together: so that pairs of tiles are, however many digits there are.
const PAIR: usize = 2 * TOKENS;

/// Rows of W that are written to y together. A panel's 32 are two cache lines of a token, and each token's are on another
/// page: looking those up took a third of the time of 512 tokens of int8 on pages of 4 KiB, and calls for so little an
/// eighth on larger ones. With 128 rows it was half of that.
const STORED: usize = 8 * ROWS;

/// x is pairs of tiles in all steps of 64 columns; see [`TilesX`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GemmTiles {
    kernel: Kernel,
    mode: Mode,
    limbs: Limbs,
    /// Tokens with their padding.
    tokens: usize,
    k: usize,
}

impl GemmTiles {
    /// For so many tokens, if the kernel has tiles that are for them, and for these weights.
    pub fn new(w: &Weights<'_>, m: usize, kernel: Kernel, mode: Mode) -> Option<Self> {
        let (k, group, table) = (w.k(), w.group(), w.lut().image());
        let digits = digits(mode);
        let from = kernel.tiles_from(&w.int(0..0, 0..k))?;
        // Sums are in i32, their parts' sum in f64.
        let exact = mode.largest_sum(table.count, group) < 1 << 53 && group <= MOST_COLUMNS;
        let whole_steps = group >= k || group.is_multiple_of(STEP);
        let limbs = Limbs::new(Operand::U8I8, digits);
        let tokens = padded_tokens(m, TOKENS);
        let fits = m >= from && k > 0 && exact && whole_steps;
        fits.then_some(Self { kernel, mode, limbs, tokens, k })
    }

    fn digits(&self) -> usize {
        self.limbs.weights.len()
    }

    fn steps(&self) -> usize {
        self.k.div_ceil(STEP)
    }

    /// Bytes of so many tokens, a multiple of 16.
    fn bytes(&self, tokens: usize) -> usize {
        tokens / TOKENS * self.digits() * self.steps() * TILE
    }

    /// Tokens of a block.
    fn block(&self) -> usize {
        let most = NC_BYTES / (self.digits() * self.steps() * STEP) / PAIR * PAIR;
        most.clamp(PAIR, NC).min(self.tokens.min(NC).next_multiple_of(PAIR))
    }
}

/// What a thread needs.
struct Buffers<'a> {
    panel: &'a mut [[i8; 64]],
    sums: &'a mut [[i32; 16]],
    totals: &'a mut [f64],
    /// Finished sums of some panels, by tokens.
    finished: &'a mut [[f32; STORED]],
    scales: &'a mut [f64],
}

/// Floats of each of them.
struct Lens {
    panel: usize,
    sums: usize,
    totals: usize,
    finished: usize,
    scales: usize,
}

impl Lens {
    fn of(loops: &GemmTiles, w: &Weights<'_>) -> Self {
        let planes = &w.lut().image().signed;
        let (block, groups) = (loops.block(), groups(w));
        let tiles = block / TOKENS * loops.digits();
        Self {
            panel: 16 * panel_len(planes.count()),
            sums: 16 * sums_len(planes.sums.len(), tiles),
            totals: if groups > 1 { 2 * block * ROWS } else { 0 },
            finished: block * STORED,
            scales: 2 * ROWS * groups,
        }
    }

    fn sum(&self) -> usize {
        self.panel + self.sums + self.totals + self.finished + self.scales
    }
}

impl<'a> Buffers<'a> {
    fn new(scratch: &'a mut [f32], lens: &Lens) -> Self {
        let (panel, rest) = scratch.split_at_mut(lens.panel);
        let (sums, rest) = rest.split_at_mut(lens.sums);
        let (totals, rest) = rest.split_at_mut(lens.totals);
        let (finished, rest) = rest.split_at_mut(lens.finished);
        let scales = bytemuck::cast_slice_mut(&mut rest[..lens.scales]);
        Self {
            panel: bytemuck::cast_slice_mut(panel),
            sums: bytemuck::cast_slice_mut(sums),
            totals: bytemuck::cast_slice_mut(totals),
            finished: bytemuck::cast_slice_mut(finished),
            scales,
        }
    }
}

/// Groups of columns.
fn groups(w: &Weights<'_>) -> usize {
    w.k().div_ceil(w.group().max(1)).max(1)
}

impl Loops for GemmTiles {
    fn packed_len(&self) -> Result<usize> {
        packed_area(self.tokens, self.digits() * self.steps() * STEP / 4)
    }

    fn scratch_len(&self, w: &Weights<'_>) -> usize {
        Lens::of(self, w).sum()
    }

    fn row_step(&self) -> usize {
        ROWS
    }

    fn pack<X: Element>(
        &self,
        x: MatRef<'_, X>,
        packed: &mut [f32],
        tokens: &mut Vec<TokenScale>,
        threads: Threads,
    ) {
        let quantiser = Quantiser::new(x, self.mode, self.limbs, tokens, threads);
        let packed: &mut [u32] = bytemuck::cast_slice_mut(packed);
        let pack = |i: usize, to: &mut [u32]| self.pack_tokens(&quantiser, i * PAIR, to);
        for_each_chunk(packed, self.bytes(PAIR) / 4, threads, pack);
    }

    fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut [f32],
    ) {
        let w = job.w;
        let Buffers { panel, sums, totals, finished, scales } =
            Buffers::new(scratch, &Lens::of(self, w));
        let mut scratch = TilesScratch { panel, sums, totals };
        let x: &[i8] = bytemuck::cast_slice(job.x);
        let streamed = !job.epilogue.accumulate && job.m * w.n() * size_of::<Y>() >= STREAMED;
        // Blocks of tokens.
        for token in (0..self.tokens).step_by(self.block()) {
            let tokens = self.block().min(self.tokens - token);
            let mut token_scales = [0.0; NC];
            for (scale, token) in token_scales.iter_mut().zip(&job.tokens[token..]).take(tokens) {
                *scale = token.step;
            }
            let x = TilesX {
                x: &x[self.bytes(token)..][..self.bytes(tokens)],
                digits: self.digits(),
                token_scales: &token_scales[..tokens],
            };
            for first in rows.clone().step_by(STORED) {
                let chunk = first..rows.end.min(first + STORED);
                // Panels of rows; blocks of k and pairs of tiles are the kernel's.
                for first in chunk.clone().step_by(ROWS) {
                    let panel = first..chunk.end.min(first + ROWS);
                    let at = first - chunk.start;
                    let to = &mut finished[..tokens].as_flattened_mut()[at..];
                    self.panel(job, panel, &x, to, &mut scratch, scales);
                }
                let narrow = if streamed { Y::stream } else { Y::narrow };
                let (len, first_col) = (chunk.len(), first - rows.start);
                for (token, sums) in (token..job.m).zip(&mut finished[..tokens]) {
                    let sums = (!job.tokens[token].step.is_nan()).then_some(&mut sums[..len]);
                    job.epilogue.store_rounded(sums, len, y, (token, first_col), narrow);
                }
            }
        }
        if streamed {
            lutmul_kernels::stream_fence();
        }
    }
}

impl GemmTiles {
    /// The finished sums of a panel of rows and a block of tokens.
    fn panel(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        x: &TilesX<'_>,
        to: &mut [f32],
        scratch: &mut TilesScratch<'_>,
        scales: &mut [f64],
    ) {
        let (w, table) = (job.w, job.w.lut().image());
        let mut bias = [-0.0; ROWS];
        if let Some(given) = job.epilogue.bias {
            for (to, bias) in bias.iter_mut().zip(&given[rows.clone()]) {
                *to = f64::from(*bias);
            }
        }
        for (row, scales) in rows.clone().zip(scales.chunks_exact_mut(groups(w))) {
            for (to, scale) in scales.iter_mut().zip(w.scales().row(row)) {
                *to = table.step * f64::from(*scale);
            }
        }
        let mut to = TilesOut { group: w.group(), scales, bias: &bias, to, stride: STORED };
        self.kernel.gemm_tiles(&w.int(rows, 0..self.k), x, &mut to, scratch);
    }

    /// Packs up to 32 tokens: tiles of `[16 × 4 columns][16 tokens][4]`.
    fn pack_tokens<X: Element>(
        &self,
        x: &Quantiser<'_, X>,
        first_token: usize,
        packed: &mut [u32],
    ) {
        /// Words of a tile.
        const WORDS: usize = TILE / 4;
        let (digits, steps) = (self.digits(), self.steps());
        let tiles = packed.len() / (steps * WORDS);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let mut line = LimbLine::ZERO;
                for token_tile in 0..tiles / digits {
                    for step in 0..steps {
                        let columns = step * LINE..self.k.min((step + 1) * LINE);
                        let mut cut = [[[0u32; TOKENS]; TOKENS]; 3];
                        let first = first_token + token_tile * TOKENS;
                        for token in 0..TOKENS.min(x.tokens().saturating_sub(first)) {
                            x.line(first + token, columns.clone(), &mut line);
                            for (limb, cut) in line.limbs.iter().zip(&mut cut).take(digits) {
                                let to = bytemuck::cast_slice_mut(&mut cut[token]);
                                store(limb, to, Operand::U8I8);
                            }
                        }
                        for (digit, cut) in cut.iter().enumerate().take(digits) {
                            let tile = token_tile * digits + digit;
                            let alone = tile + 1 == tiles && tiles % 2 == 1;
                            let at = match alone {
                                true => tile * steps + step,
                                false => (tile / 2 * steps + step) * 2 + tile % 2,
                            };
                            let to = &mut packed[at * WORDS..][..WORDS];
                            for (quad, to) in to.as_chunks_mut::<TOKENS>().0.iter_mut().enumerate()
                            {
                                for (to, token) in to.iter_mut().zip(cut) {
                                    *to = token[quad];
                                }
                            }
                        }
                    }
                }
            },
        );
    }
}
