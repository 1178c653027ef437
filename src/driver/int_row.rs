//! The row shape of integer modes: chunks of rows, all tokens at once, group after group of columns.

use std::ops::Range;

use lutmul_kernels::{Columns, IntRowInput};

use super::{Job, Scratch, Shape, row};
use crate::activations::IntLayout;
use crate::element::Element;

impl Job<'_> {
    pub(super) fn int_row<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        const CHUNK: usize = row::CHUNK;
        let layout = IntLayout::new(&self.layout);
        let tokens = self.layout.tokens();
        let (sums, totals) = scratch.int_buffers(CHUNK * Shape::ROW_TOKENS);
        for first in rows.clone().step_by(CHUNK) {
            let chunk = first..rows.end.min(first + CHUNK);
            for group in 0..layout.groups() {
                let x = layout.row_group(self.x, group);
                let x = IntRowInput { x, tokens, limbs: layout.limbs };
                let portion = self.w.int_portion(chunk.clone(), layout.columns(group));
                self.layout.kernel.int_row(&portion, &x, sums, CHUNK);
                let tokens = sums.chunks_exact(CHUNK).zip(totals.chunks_exact_mut(CHUNK));
                for ((sums, totals), token) in tokens.zip(self.tokens) {
                    self.scale_sums(chunk.clone(), group, token.step, sums, totals);
                }
            }
            for (token, totals) in totals.chunks_exact(CHUNK).enumerate().take(self.layout.m) {
                let totals =
                    Some(&totals[..chunk.len()]).filter(|_| !self.tokens[token].step.is_nan());
                self.epilogue.store_exact(totals, chunk.clone(), y, token, first - rows.start);
            }
        }
    }

    /// A group's term of the sums of one token: `(f64(S)·sx) · (sl·f64(scale))`, the first to start
    /// from, the others to be added.
    fn scale_sums(
        &self,
        rows: Range<usize>,
        group: usize,
        sx: f64,
        sums: &[i64],
        totals: &mut [f64],
    ) {
        let step = self.w.lut().image().step;
        for ((row, sum), total) in rows.zip(sums).zip(totals) {
            let scale = step * f64::from(self.w.scales().row(row)[group]);
            let term = *sum as f64 * sx * scale;
            *total = if group == 0 { term } else { *total + term };
        }
    }
}
