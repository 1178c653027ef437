//! The row shape: chunks of rows, all tokens at once.

use std::ops::Range;

use lutmul_kernels::{Columns, RowInput};

use super::{Job, Scratch, Shape};
use crate::element::Element;

/// Rows of a kernel call: few enough for their sums to stay in L1, enough to make calls cheap.
pub(super) const CHUNK: usize = 64;

/// Sums of a kernel call.
pub(super) const SUMS: usize = CHUNK * Shape::ROW_TOKENS;

impl Job<'_> {
    pub(super) fn row<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        let x = RowInput { x: self.x, tokens: self.layout.tokens() };
        let sums = scratch.sums(SUMS);
        for first in rows.clone().step_by(CHUNK) {
            let chunk = first..rows.end.min(first + CHUNK);
            self.layout.kernel.row(&self.w.portion(chunk.clone()), &x, sums, CHUNK);
            for (token, sums) in sums.chunks_exact_mut(CHUNK).enumerate().take(self.layout.m) {
                let sums = &mut sums[..chunk.len()];
                self.epilogue.store(sums, chunk.clone(), y, token, first - rows.start);
            }
        }
    }
}
