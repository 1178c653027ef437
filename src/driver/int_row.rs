//! The row shape of integer modes: chunks of rows, blocks of up to eight tokens at once.

use std::ops::Range;

use lutmul_kernels::{Columns, IntRowInput};

use super::{Job, Scratch, Shape, row, scale};
use crate::activations::RowLayout;
use crate::element::Element;

const CHUNK: usize = row::CHUNK;

/// Exact sums of a kernel call, and scaled ones.
pub(super) fn sizes(layout: &RowLayout) -> (usize, usize) {
    let totals = CHUNK * layout.tokens().min(Shape::ROW_TOKENS);
    (totals * layout.sums(), totals)
}

impl Job<'_> {
    pub(super) fn int_row<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        let layout = RowLayout::new(&self.layout);
        let groups = layout.groups();
        let step = layout.groups_at_once();
        let largest = self.layout.mode.largest_sum(self.w.lut().image().count, self.w.group());
        let (sums, totals) = sizes(&layout);
        let (all_sums, totals) = scratch.int_buffers(sums, totals);
        for first in rows.clone().step_by(CHUNK) {
            let chunk = first..rows.end.min(first + CHUNK);
            for (token, tokens) in layout.blocks() {
                let sums = &mut all_sums[..CHUNK * tokens * layout.sums()];
                for from in (0..groups).step_by(step) {
                    let call = from..from + step;
                    let x = layout.x(self.x, (token, tokens), call.clone());
                    let x = IntRowInput {
                        x,
                        tokens: layout.kernel_tokens(tokens),
                        limbs: layout.limbs,
                    };
                    let columns = layout.columns(from).start..layout.columns(call.end - 1).end;
                    let portion = self.w.int_portion(chunk.clone(), columns);
                    self.layout.kernel.int_row(&portion, &x, sums, CHUNK);
                    for group in call {
                        let mut scales = [0.0; CHUNK];
                        let scales = &mut scales[..chunk.len()];
                        self.w.scales().column(chunk.start, group, scales);
                        let totals = totals.chunks_exact_mut(CHUNK).take(tokens).enumerate();
                        for ((t, totals), token) in totals.zip(&self.tokens[token..]) {
                            let at = layout.sum(group - from, (t, tokens));
                            let sums = &sums[at * CHUNK..][..CHUNK];
                            let steps = (token.step, self.w.lut().image().step);
                            scale::rows((sums, largest), steps, scales, totals, group > 0);
                        }
                    }
                }
                let tokens = token..self.layout.m.min(token + tokens);
                for (token, totals) in tokens.zip(totals.chunks_exact(CHUNK)) {
                    let totals = &totals[..chunk.len()];
                    let totals = Some(totals).filter(|_| !self.tokens[token].step.is_nan());
                    self.epilogue.store_exact(totals, chunk.clone(), y, token, first - rows.start);
                }
            }
        }
    }

    /// `sl · f64(scale)` of a row and a group of columns.
    pub(super) fn step_of(&self, row: usize, group: usize) -> f64 {
        self.w.lut().image().step * f64::from(self.w.scales().row(row)[group])
    }
}
