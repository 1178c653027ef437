//! gemv in integer modes: chunks of rows, blocks of up to eight tokens at once.

use std::ops::Range;

use lutmul_kernels::int::{GemvX, Limbs};
use lutmul_kernels::{Columns, Kernel, LINE};

use super::limbs::{LimbLine, Quantiser, digits, store};
use super::{CHUNK, Job, Loops, packed_area, scale};
use crate::element::Element;
use crate::error::Result;
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::options::Threads;
use crate::quantize::TokenScale;
use crate::weights::Weights;

/// The most tokens of a block.
const MOST_TOKENS: usize = 8;

/// x is blocks of tokens, `[lines][tokens][parts][limbs][64]`, by groups of columns: each group is padded to whole lines,
/// or has a part of its own of one.
///
/// Groups of 32 have two parts, which are as two tokens to a kernel: in the first, columns of a line's upper
/// half are zero, in the second those of its lower half. So each line of codes is decoded once, for two sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GemvInt {
    kernel: Kernel,
    mode: Mode,
    limbs: Limbs,
    /// Tokens of x.
    m: usize,
    /// Columns of a group; the last one may have fewer.
    group: usize,
    k: usize,
    /// Groups in a line, beside each other: 1 or 2.
    parts: usize,
}

impl GemvInt {
    pub fn new(w: &Weights<'_>, m: usize, kernel: Kernel, mode: Mode) -> Self {
        let limbs = kernel.gemv_limbs(digits(mode), w.lut().image().count, m);
        let (k, group) = (w.k(), w.group().max(1));
        let parts = if group == LINE / 2 && k > group { 2 } else { 1 };
        Self { kernel, mode, limbs, m, group, k, parts }
    }

    /// Blocks of tokens: their first token, and how many there are, padding included.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let most = self.most();
        let size = move |token: usize| (self.m - token).min(most).next_power_of_two();
        (0..self.m).step_by(most).map(move |token| (token, size(token)))
    }

    /// The most tokens of a block: as many as make a kernel's most, with their parts.
    fn most(&self) -> usize {
        MOST_TOKENS / self.parts
    }

    /// Tokens with their padding.
    fn tokens(self) -> usize {
        let rest = self.m % self.most();
        self.m - rest + if rest > 0 { rest.next_power_of_two() } else { 0 }
    }

    /// What a block of tokens is to a kernel.
    fn kernel_tokens(&self, tokens: usize) -> usize {
        tokens * self.parts
    }

    /// Which of the kernel's sums is that of a group, counted from the first of a call, and a token of a block.
    fn sum(&self, group: usize, (token, tokens): (usize, usize)) -> usize {
        (group / self.parts * tokens + token) * self.parts + group % self.parts
    }

    /// Number of groups.
    fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
    }

    /// The columns of a group.
    fn columns(&self, group: usize) -> Range<usize> {
        group * self.group..self.k.min((group + 1) * self.group)
    }

    /// Groups that a kernel can do in one call: all, where they are whole lines.
    fn groups_at_once(&self) -> usize {
        if self.parts > 1 || self.group.is_multiple_of(LINE) { self.groups() } else { 1 }
    }

    /// Sums of a kernel call for each of a block's tokens.
    fn sums(&self) -> usize {
        self.groups_at_once().next_multiple_of(self.parts)
    }

    /// Lines before a group that starts one; with the number of groups, lines of all.
    fn lines_before(&self, group: usize) -> usize {
        if self.parts > 1 {
            return group.div_ceil(self.parts);
        }
        let before = group.min(self.groups() - 1);
        let last = if group > before { self.columns(before).len() } else { 0 };
        before * self.group.div_ceil(LINE) + last.div_ceil(LINE)
    }

    /// Bytes of a line of one token.
    fn line_bytes(&self) -> usize {
        LINE * self.limbs.size() * self.limbs.weights.len() * self.parts
    }

    /// Bytes of a token.
    fn token_bytes(&self) -> usize {
        self.lines_before(self.groups()) * self.line_bytes()
    }

    /// The part of the packed bytes that is some groups' of a block.
    fn x<'a>(
        &self,
        packed: &'a [f32],
        (token, tokens): (usize, usize),
        groups: Range<usize>,
    ) -> &'a [u8] {
        let line = self.line_bytes() * tokens;
        let lines = self.lines_before(groups.start)..self.lines_before(groups.end);
        let block = token * self.token_bytes();
        &bytemuck::cast_slice(packed)[block..][lines.start * line..lines.end * line]
    }

    /// Exact sums of a kernel call, and scaled ones.
    fn sums_and_totals(&self) -> (usize, usize) {
        let totals = CHUNK * self.tokens().min(MOST_TOKENS);
        (totals * self.sums(), totals)
    }
}

impl Loops for GemvInt {
    fn packed_len(&self) -> Result<usize> {
        Ok(packed_area(self.tokens(), self.token_bytes())?.div_ceil(4))
    }

    fn scratch_len(&self, _: &Weights<'_>) -> usize {
        // Both are 64 bits wide.
        let (sums, totals) = self.sums_and_totals();
        2 * (sums + totals)
    }

    fn row_step(&self) -> usize {
        CHUNK
    }

    fn pack<X: Element>(
        &self,
        x: MatRef<'_, X>,
        packed: &mut [f32],
        tokens: &mut Vec<TokenScale>,
        threads: Threads,
    ) {
        let quantiser = Quantiser::new(x, self.mode, self.limbs, tokens, threads);
        let packed: &mut [u8] = bytemuck::cast_slice_mut(packed);
        for block in self.blocks() {
            let bytes = [block.0, block.0 + block.1].map(|token| token * self.token_bytes());
            pack_block(&quantiser, self, block, &mut packed[bytes[0]..bytes[1]]);
        }
    }

    fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut [f32],
    ) {
        let (groups, step) = (self.groups(), self.groups_at_once());
        let table = job.w.lut().image();
        let largest = self.mode.largest_sum(table.count, job.w.group());
        let (sums, totals) = scratch.split_at_mut(2 * self.sums_and_totals().0);
        let all_sums: &mut [i64] = bytemuck::cast_slice_mut(sums);
        let totals: &mut [f64] = bytemuck::cast_slice_mut(totals);
        for first in rows.clone().step_by(CHUNK) {
            let chunk = first..rows.end.min(first + CHUNK);
            for (token, tokens) in self.blocks() {
                let sums = &mut all_sums[..CHUNK * tokens * self.sums()];
                for from in (0..groups).step_by(step) {
                    let call = from..from + step;
                    let x = GemvX {
                        x: self.x(job.x, (token, tokens), call.clone()),
                        tokens: self.kernel_tokens(tokens),
                        limbs: self.limbs,
                    };
                    let columns = self.columns(from).start..self.columns(call.end - 1).end;
                    self.kernel.gemv_int(&job.w.int(chunk.clone(), columns), &x, sums, CHUNK);
                    for group in call {
                        let mut scales = [0.0; CHUNK];
                        let scales = &mut scales[..chunk.len()];
                        job.w.scales().column(chunk.start, group, scales);
                        let totals = totals.chunks_exact_mut(CHUNK).take(tokens).enumerate();
                        for ((t, totals), token) in totals.zip(&job.tokens[token..]) {
                            let at = self.sum(group - from, (t, tokens));
                            let sums = &sums[at * CHUNK..][..CHUNK];
                            let by = (token.step, table.step);
                            scale::rows((sums, largest), by, scales, totals, group > 0);
                        }
                    }
                }
                let tokens = token..self.m.min(token + tokens);
                for (token, totals) in tokens.zip(totals.chunks_exact(CHUNK)) {
                    let totals = &totals[..chunk.len()];
                    let totals = Some(totals).filter(|_| !job.tokens[token].step.is_nan());
                    job.epilogue.store_exact(totals, chunk.clone(), y, token, first - rows.start);
                }
            }
        }
    }
}

/// Packs a block of tokens.
fn pack_block<X: Element>(
    x: &Quantiser<'_, X>,
    layout: &GemvInt,
    (first_token, tokens): (usize, usize),
    packed: &mut [u8],
) {
    let limbs = x.limbs;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut to = packed.chunks_exact_mut(LINE * limbs.size());
            let mut line = LimbLine::ZERO;
            for group in (0..layout.groups()).step_by(layout.parts) {
                let last = layout.groups().min(group + layout.parts) - 1;
                let columns = layout.columns(group).start..layout.columns(last).end;
                for first in columns.clone().step_by(LINE) {
                    for token in 0..tokens {
                        let columns = first..columns.end.min(first + LINE);
                        x.line(first_token + token, columns, &mut line);
                        for part in 0..layout.parts {
                            for limb in &line.limbs[..limbs.weights.len()] {
                                let to = to.next().expect("room for all limbs");
                                store(limb, to, limbs.operand);
                                if layout.parts > 1 {
                                    let halves = to.split_at_mut(LINE / 2 * limbs.size());
                                    let other = if part == 0 { halves.1 } else { halves.0 };
                                    other.fill(0);
                                }
                            }
                        }
                    }
                }
            }
        },
    );
}
