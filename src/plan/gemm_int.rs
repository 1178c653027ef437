//! gemm in integer modes. The loops are those of F32, but sums are exact: blocks of k may
//! end anywhere, and a panel may hold several groups of columns.

use std::ops::Range;

use lutmul_kernels::int::{KC, Limbs, MULTIPLIED, Panel, PanelMut, PanelRow, TileSums, TileX};
use lutmul_kernels::{Columns, Kernel, LINE, MC};

use super::limbs::{LimbLine, Quantiser, digits, store};
use super::{Job, Loops, packed_area, padded_tokens};
use crate::element::Element;
use crate::error::Result;
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::options::Threads;
use crate::quantize::TokenScale;
use crate::threads::for_each_chunk;
use crate::weights::Weights;

/// The most tokens whose sums are held at a time, where k is more than a panel holds: 48 rows of them
/// are 192 KiB of f64.
const NC: usize = 512;

/// Tokens of the widest tile of any kernel.
const TILE: usize = 64;

/// Distance of the rows of sums; the extra line keeps a column of them out of one L1 set.
const STRIDE: usize = NC + 8;

/// Sums of a panel.
const SUMS: usize = MC * STRIDE;

/// Words of a row of a plane.
const ROW: usize = KC + 16;

/// The most groups of columns in a panel, and starts of sums: one for 32 codes.
const GROUPS: usize = MC * KC / 8;

/// Tokens packed side by side, so that writes are 32 bytes and not 4.
const SIDE: usize = 8;

/// x is tiles of tokens, `[blocks of k][limbs][words][width]`, by blocks of columns: as many as a panel holds, whole
/// groups where that is possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GemmInt {
    kernel: Kernel,
    mode: Mode,
    limbs: Limbs,
    /// Tokens with their padding.
    tokens: usize,
    /// Columns of a group; the last one may have fewer.
    group: usize,
    k: usize,
}

/// A block of columns.
#[derive(Clone, Debug)]
struct Block {
    columns: Range<usize>,
    /// Groups that it has a part in.
    groups: Range<usize>,
    /// Whether the first of them began in an earlier block.
    resume: bool,
    /// Whether the last of them ends here.
    ends: bool,
    /// Words of one token before this block.
    before: usize,
}

impl Block {
    /// Words of a limb, in whole multiplied groups.
    fn words(&self, limbs: Limbs) -> usize {
        self.columns.len().next_multiple_of(MULTIPLIED) / limbs.kr()
    }
}

impl GemmInt {
    pub fn new(w: &Weights<'_>, m: usize, kernel: Kernel, mode: Mode) -> Self {
        let limbs = kernel.gemm_limbs(digits(mode), w.lut().image().count);
        let tokens = padded_tokens(m, kernel.int_lanes(limbs));
        Self { kernel, mode, limbs, tokens, group: w.group().max(1), k: w.k() }
    }

    /// The blocks, in order.
    fn blocks(self) -> impl Iterator<Item = Block> {
        let room = KC * self.limbs.kr();
        let mut next = (0, 0);
        std::iter::from_fn(move || {
            let (start, before) = next;
            let group = start / self.group;
            let end = match self.group {
                // A part of one group.
                size if size > room => (start + room).min((group + 1) * size),
                size => start + room / size * size,
            };
            let end = end.min(self.k);
            let block = Block {
                columns: start..end,
                groups: group..end.div_ceil(self.group),
                resume: !start.is_multiple_of(self.group),
                ends: end == self.k || end.is_multiple_of(self.group),
                before,
            };
            next = (end, before + self.block_words(&block));
            (start < end).then_some(block)
        })
    }

    /// Words of one token in a block, multipliers included.
    fn block_words(self, block: &Block) -> usize {
        let multipliers = match self.limbs.multiplied {
            true => block.columns.len().div_ceil(MULTIPLIED),
            false => 0,
        };
        self.limbs.weights.len() * block.words(self.limbs) + multipliers
    }

    /// Words of a token.
    fn token_words(self) -> usize {
        self.blocks().last().map_or(0, |block| block.before + self.block_words(&block))
    }

    /// Words of a group.
    fn group_words(self) -> usize {
        self.group.next_multiple_of(MULTIPLIED) / self.limbs.kr()
    }

    /// A block of the tile that begins at `token`.
    fn x<'a>(
        self,
        packed: &'a [f32],
        block: &Block,
        (token, width): (usize, usize),
        token_words: usize,
    ) -> &'a [u32] {
        let tile = &bytemuck::cast_slice(packed)[token * token_words..];
        &tile[block.before * width..][..self.block_words(block) * width]
    }

    /// The widest tile, in tokens.
    fn tile_width(self) -> usize {
        self.kernel.int_tile_width(self.limbs)
    }
}

/// What a thread needs.
struct Buffers<'a> {
    /// Sums of groups of columns that go on in another block of k.
    sums: &'a mut [f64],
    /// Scaled sums.
    totals: &'a mut [f64],
    /// Scales of a panel's rows and groups.
    scales: &'a mut [f64],
    /// The decoded panel.
    panel: &'a mut [PanelRow],
    /// Where its sums start.
    compensation: &'a mut [i32],
}

impl<'a> Buffers<'a> {
    /// Floats for tables of so many planes; sums of a third plane are apart.
    fn len(planes: usize, limbs: Limbs) -> usize {
        let rows = MC * Panel::pitch(planes, limbs.operand);
        2 * Self::wide(planes) + rows * ROW + planes * GROUPS
    }

    /// Numbers of 64 bits.
    fn wide(planes: usize) -> usize {
        Self::sums(planes) + SUMS + GROUPS
    }

    fn sums(planes: usize) -> usize {
        if planes > 2 { 2 * SUMS } else { SUMS }
    }

    fn new(scratch: &'a mut [f32], planes: usize, limbs: Limbs) -> Self {
        let rows = MC * Panel::pitch(planes, limbs.operand);
        let (wide, panel) = scratch.split_at_mut(2 * Self::wide(planes));
        let (totals, rest) = bytemuck::cast_slice_mut(wide).split_at_mut(SUMS);
        let (sums, scales) = rest.split_at_mut(Self::sums(planes));
        let (panel, compensation) = panel.split_at_mut(rows * ROW);
        let panel = bytemuck::cast_slice_mut::<f32, u32>(panel).as_chunks_mut::<ROW>().0;
        Self { sums, totals, scales, panel, compensation: bytemuck::cast_slice_mut(compensation) }
    }
}

impl Loops for GemmInt {
    fn packed_len(&self) -> Result<usize> {
        packed_area(self.tokens, self.token_words())
    }

    fn scratch_len(&self, w: &Weights<'_>) -> usize {
        Buffers::len(w.lut().image().count, self.limbs)
    }

    fn row_step(&self) -> usize {
        MC
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
        let full = self.tile_width();
        let tile = |i: usize, packed: &mut [u32]| pack_tile(&quantiser, self, i * full, packed);
        for_each_chunk(packed, full * self.token_words(), threads, tile);
    }

    fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut [f32],
    ) {
        let mut buffers = Buffers::new(scratch, job.w.lut().image().count, self.limbs);
        // Loop 5: blocks of tokens, whole tiles each.
        let block = NC - NC % self.tile_width();
        for token in (0..job.m).step_by(block) {
            let tokens = token..self.tokens.min(token + block);
            // Loop 4: panels of rows.
            for first in rows.clone().step_by(MC) {
                let chunk = first..rows.end.min(first + MC);
                let next = chunk.end..rows.end.min(chunk.end + MC);
                let part = Part {
                    rows: chunk,
                    tokens: tokens.clone(),
                    first_col: first - rows.start,
                    ahead: job.w.int(next, 0..self.k).codes.codes,
                };
                self.part(job, &part, &mut buffers, y);
            }
        }
    }
}

/// A panel's rows and a block of tokens.
struct Part<'a> {
    rows: Range<usize>,
    tokens: Range<usize>,
    /// The column of y for the first of the rows.
    first_col: usize,
    /// Codes of the next panel.
    ahead: &'a [u8],
}

impl GemmInt {
    fn part<Y: Element>(
        &self,
        job: &Job<'_>,
        part: &Part<'_>,
        buffers: &mut Buffers<'_>,
        y: &mut Columns<'_, Y>,
    ) {
        let Part { rows, tokens, first_col, ahead } = part;
        let (kernel, limbs) = (self.kernel, self.limbs);
        let planes = job.w.lut().image().count;
        let (token_words, group_words) = (self.token_words(), self.group_words());
        let start_words = if limbs.multiplied { MULTIPLIED / limbs.kr() } else { group_words };
        let Buffers { sums, totals, scales, compensation, panel } = buffers;
        // While this panel is multiplied, the codes of the next one come from memory.
        let full = self.tile_width();
        let tiles = tokens.len().div_ceil(full) * self.blocks().count();
        let mut ahead = ahead.chunks(ahead.len().div_ceil(tiles).next_multiple_of(LINE).max(LINE));
        // Loop 3: blocks of k.
        for block in self.blocks() {
            let w = job.w.int(rows.clone(), block.columns.clone());
            let to = &mut PanelMut { rows: panel, compensation, start_words };
            kernel.decode_int(&w, limbs, to);
            let per_row = scales.chunks_exact_mut(block.groups.len());
            for (row, scales) in rows.clone().zip(per_row) {
                for (group, scale) in block.groups.clone().zip(scales) {
                    *scale = step_of(job.w, row, group);
                }
            }
            let panel = Panel { rows: panel, compensation, start_words, group_words };
            // Loop 2: tiles of tokens. Loop 1, groups of rows, is the kernel's.
            for token in tokens.clone().step_by(full) {
                let width = full.min(self.tokens - token);
                let mut token_scales = [0.0; TILE];
                for (scale, token) in token_scales.iter_mut().zip(job.tokens.iter().skip(token)) {
                    *scale = token.step;
                }
                let last = block.columns.end == self.k;
                let columns = *first_col..first_col + rows.len();
                if last {
                    y.prefetch(token..job.m.min(token + width), columns);
                }
                let x = TileX {
                    x: self.x(job.x, &block, (token, width), token_words),
                    words: block.words(limbs),
                    width,
                    limbs,
                    ahead: ahead.next().unwrap_or(&[]),
                };
                let at = token - tokens.start;
                let mut to = TileSums {
                    sums: &mut sums[at..],
                    totals: &mut totals[at..],
                    stride: STRIDE,
                    rows: rows.len(),
                    resume: block.resume,
                    ends: block.ends,
                    add: block.groups.start > 0,
                    token_scales: &token_scales,
                    scales,
                };
                kernel.gemm_int(&panel, planes, &x, &mut to);
                if last {
                    let tokens = token..job.m.min(token + width);
                    self.store_tile(job, rows.clone(), tokens, &totals[at..], y, *first_col);
                }
            }
        }
    }

    /// Transposes a tile's totals token by token, finishes and stores them.
    fn store_tile<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        tokens: Range<usize>,
        totals: &[f64],
        y: &mut Columns<'_, Y>,
        first_col: usize,
    ) {
        let mut bias = [-0.0; MC];
        if let Some(given) = job.epilogue.bias {
            for (to, bias) in bias.iter_mut().zip(&given[rows.clone()]) {
                *to = f64::from(*bias);
            }
        }
        let mut finished = [[0.0; MC]; TILE];
        let width = tokens.len().next_multiple_of(self.kernel.int_lanes(self.limbs));
        self.kernel.round(self.limbs, totals, STRIDE, &bias, &mut finished[..width]);
        for (token, sums) in tokens.zip(&mut finished) {
            let sums = (!job.tokens[token].step.is_nan()).then_some(&mut sums[..rows.len()]);
            job.epilogue.store_rounded(sums, rows.len(), y, (token, first_col), Y::narrow);
        }
    }
}

/// `sl · f64(scale)` of a row and a group of columns.
fn step_of(w: &Weights<'_>, row: usize, group: usize) -> f64 {
    w.lut().image().step * f64::from(w.scales().row(row)[group])
}

/// Packs a tile.
fn pack_tile<X: Element>(
    x: &Quantiser<'_, X>,
    layout: &GemmInt,
    first_token: usize,
    packed: &mut [u32],
) {
    let width = packed.len() / layout.token_words();
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for block in layout.blocks() {
                let words = layout.block_words(&block);
                let packed = &mut packed[block.before * width..][..words * width];
                for side in (0..width).step_by(SIDE) {
                    pack_block(x, &block, first_token + side, (width, side), packed);
                }
            }
        },
    );
}

/// Packs a block of eight tokens side by side.
#[inline(always)]
fn pack_block<X: Element>(
    x: &Quantiser<'_, X>,
    block: &Block,
    first_token: usize,
    (width, side): (usize, usize),
    packed: &mut [u32],
) {
    let limbs = x.limbs;
    let (count, words_of_limb) = (limbs.weights.len(), block.words(limbs));
    let tokens = SIDE.min(width - side);
    let (digits, multipliers) = packed.split_at_mut(count * words_of_limb * width);
    let mut made = LimbLine::ZERO;
    for (line, first) in block.columns.clone().step_by(LINE).enumerate() {
        let columns = first..block.columns.end.min(first + LINE);
        let mut cut = [[[0u32; LINE / 2]; SIDE]; 3];
        for token in 0..tokens {
            x.line(first_token + token, columns.clone(), &mut made);
            for (limb, cut) in made.limbs.iter().zip(&mut cut).take(count) {
                let to = &mut bytemuck::cast_slice_mut(&mut cut[token])[..LINE * limbs.size()];
                store(limb, to, limbs.operand);
            }
            if limbs.multiplied {
                let rows = multipliers[2 * line * width..].chunks_mut(width);
                for (to, multiplier) in rows.zip(made.multipliers) {
                    to[side + token] = multiplier as u32;
                }
            }
        }
        let line_words = LINE / limbs.kr();
        let first_word = line * line_words;
        let line_words = line_words.min(words_of_limb - first_word);
        for (limb, cut) in cut.iter().enumerate().take(count) {
            let to =
                &mut digits[(limb * words_of_limb + first_word) * width..][..line_words * width];
            for (word, to) in to.chunks_exact_mut(width).enumerate() {
                for (to, cut) in to[side..][..tokens].iter_mut().zip(cut) {
                    *to = cut[word];
                }
            }
        }
    }
}
