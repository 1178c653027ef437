//! The panel shape of integer modes. The loops are those of F32, but sums are exact: they are added
//! up in i64 over all planes, limbs and blocks of a group of columns, then scaled in f64.

use std::ops::Range;

use lutmul_kernels::{Columns, IntPanel, IntTileInput, IntTileSums, PANEL_ROWS, PANEL_STEPS};

use super::{Job, Scratch};
use crate::activations::IntLayout;
use crate::element::Element;

/// The most tokens whose sums are held at a time: 48 rows of them are 96 KiB of i64.
const BLOCK: usize = 256;

/// Distance of the rows of sums; the extra line keeps a column of them out of one L1 set.
const STRIDE: usize = BLOCK + 8;

impl Job<'_> {
    pub(super) fn int_panel<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        let layout = IntLayout::new(&self.layout);
        // Loop 5: blocks of tokens, whole tiles each.
        let block = BLOCK - BLOCK % self.layout.kernel.int_tile_width();
        for token in (0..self.layout.m).step_by(block) {
            let tokens = token..self.layout.tokens().min(token + block);
            // Loop 4: panels of rows.
            for first in rows.clone().step_by(PANEL_ROWS) {
                let chunk = first..rows.end.min(first + PANEL_ROWS);
                for group in 0..layout.groups() {
                    self.int_sums(&layout, group, chunk.clone(), tokens.clone(), scratch);
                    let (sums, totals) = scratch.int_buffers(PANEL_ROWS * STRIDE);
                    self.scale_panel(chunk.clone(), group, tokens.clone(), sums, totals);
                }
                let (_, totals) = scratch.int_buffers(PANEL_ROWS * STRIDE);
                self.store_int_panel(chunk, first - rows.start, tokens.clone(), totals, y);
            }
        }
    }

    /// The exact sums of a group of columns, for a panel's rows and a block of tokens.
    fn int_sums(
        &self,
        layout: &IntLayout,
        group: usize,
        rows: Range<usize>,
        tokens: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let kernel = self.layout.kernel;
        let planes = self.w.lut().image().count;
        let (sums, panel) = scratch.int_panel_buffers(PANEL_ROWS * STRIDE, planes, layout.limbs);
        sums.fill(0);
        let mut starts = [0; PANEL_ROWS * lutmul_kernels::IMAGE_PLANES];
        let columns = layout.columns(group);
        // Loop 3: blocks of k, as many as the panel has steps.
        for first in columns.clone().step_by(PANEL_STEPS * layout.limbs.step()) {
            let block = first..columns.end.min(first + PANEL_STEPS * layout.limbs.step());
            let portion = self.w.int_portion(rows.clone(), block.clone());
            kernel.int_panel(&portion, panel, &mut starts);
            let steps = portion.lines() * (lutmul_kernels::LINE / layout.limbs.step());
            let before = (first - columns.start) / layout.limbs.step();
            // Loop 2: tiles of tokens. Loop 1, groups of rows, is the kernel's.
            let full = kernel.int_tile_width();
            for token in tokens.clone().step_by(full) {
                let width = full.min(self.layout.tokens() - token);
                for (limb, weight) in layout.limbs.weights.iter().enumerate() {
                    let x = layout.tile_limb(self.x, group, token, width, limb);
                    let x = &x[before * width..(before + steps) * width];
                    for plane in 0..planes {
                        let values = &mut sums[token - tokens.start..];
                        let panel = IntPanel { rows: panel, starts: &starts, plane, planes };
                        let mut to = IntTileSums { values, stride: STRIDE, rows: rows.len() };
                        kernel.int_tile(
                            &panel,
                            &IntTileInput { x, width, weight: *weight },
                            &mut to,
                        );
                    }
                }
            }
        }
    }

    /// A group's term of all sums: `(f64(S)·sx) · (sl·f64(scale))`, the first to start from, the others
    /// to be added.
    fn scale_panel(
        &self,
        rows: Range<usize>,
        group: usize,
        tokens: Range<usize>,
        sums: &[i64],
        totals: &mut [f64],
    ) {
        let step = self.w.lut().image().step;
        let tokens = &self.tokens[tokens.start..tokens.end.min(self.layout.m)];
        let panel = sums.chunks(STRIDE).zip(totals.chunks_mut(STRIDE));
        for (row, (sums, totals)) in rows.zip(panel) {
            let scale = step * f64::from(self.w.scales().row(row)[group]);
            for ((sum, total), token) in sums.iter().zip(totals).zip(tokens) {
                let term = *sum as f64 * token.step * scale;
                *total = if group == 0 { term } else { *total + term };
            }
        }
    }

    /// Transposes the sums token by token, finishes and stores them.
    fn store_int_panel<Y: Element>(
        &self,
        rows: Range<usize>,
        first_col: usize,
        tokens: Range<usize>,
        totals: &[f64],
        y: &mut Columns<'_, Y>,
    ) {
        // A strip of tokens is one cache line of each row of sums.
        const STRIP: usize = 8;
        for first in tokens.clone().step_by(STRIP) {
            let mut strip = [[0.0; PANEL_ROWS]; STRIP];
            for (row, totals) in totals.chunks(STRIDE).enumerate().take(rows.len()) {
                for (strip, total) in strip.iter_mut().zip(&totals[first - tokens.start..]) {
                    strip[row] = *total;
                }
            }
            for (token, totals) in (first..tokens.end.min(self.layout.m)).zip(&strip) {
                let totals = Some(&totals[..rows.len()]);
                let totals = totals.filter(|_| !self.tokens[token].step.is_nan());
                self.epilogue.store_exact(totals, rows.clone(), y, token, first_col);
            }
        }
    }
}
