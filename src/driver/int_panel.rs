//! The panel shape of integer modes. The loops are those of F32, but sums are exact: they are added
//! up in i64 over all planes, limbs and blocks of a group of columns, then scaled in f64.

use std::ops::Range;

use lutmul_kernels::{
    Columns, IMAGE_PLANES, IntPanel, IntRow, IntTileInput, IntTileSums, LINE, PANEL_ROWS,
    PANEL_STEPS,
};

use super::{Job, Scratch, scale};
use crate::activations::IntLayout;
use crate::element::Element;

/// The most tokens whose sums are held at a time: 48 rows of them are 96 KiB of i64.
const BLOCK: usize = 256;

/// Distance of the rows of sums; the extra line keeps a column of them out of one L1 set.
const STRIDE: usize = BLOCK + 8;

/// Where the sums of a panel and a block of tokens are made.
struct Sums<'a> {
    rows: Range<usize>,
    tokens: Range<usize>,
    /// Exact sums of a group of columns, `[PANEL_ROWS][STRIDE]`.
    exact: &'a mut [i64],
    /// Scaled sums of all groups, the same.
    scaled: &'a mut [f64],
    panel: &'a mut [IntRow],
}

impl Job<'_> {
    pub(super) fn int_panel<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        let layout = IntLayout::new(&self.layout);
        let planes = self.w.lut().image().count;
        let (exact, scaled, panel) =
            scratch.int_panel_buffers(PANEL_ROWS * STRIDE, planes, layout.limbs);
        // Loop 5: blocks of tokens, whole tiles each.
        let block = BLOCK - BLOCK % self.layout.kernel.int_tile_width();
        for token in (0..self.layout.m).step_by(block) {
            let tokens = token..self.layout.tokens().min(token + block);
            // Loop 4: panels of rows.
            for first in rows.clone().step_by(PANEL_ROWS) {
                let chunk = first..rows.end.min(first + PANEL_ROWS);
                let tokens = tokens.clone();
                let mut sums = Sums { rows: chunk, tokens, exact, scaled, panel };
                for group in 0..layout.groups() {
                    self.int_sums(&layout, group, &mut sums);
                }
                self.store_int_panel(&sums, first - rows.start, y);
            }
        }
    }

    /// The sums of a group of columns, scaled and added to those of the groups before.
    fn int_sums(&self, layout: &IntLayout, group: usize, sums: &mut Sums<'_>) {
        let kernel = self.layout.kernel;
        let planes = self.w.lut().image().count;
        let Sums { rows, tokens, exact, scaled, panel } = sums;
        let mut starts = [0; PANEL_ROWS * IMAGE_PLANES];
        let mut scales = [0.0; PANEL_ROWS];
        self.scales(rows.clone(), group, &mut scales);
        let columns = layout.columns(group);
        let step = layout.limbs.step();
        // Loop 3: blocks of k, as many as the panel has steps.
        for first in columns.clone().step_by(PANEL_STEPS * step) {
            let block = first..columns.end.min(first + PANEL_STEPS * step);
            let portion = self.w.int_portion(rows.clone(), block.clone());
            kernel.int_panel(&portion, panel, &mut starts);
            let before = (first - columns.start) / step;
            let steps = before..before + portion.lines() * (LINE / step);
            // Loop 2: tiles of tokens. Loop 1, groups of rows, is the kernel's.
            for token in tokens.clone().step_by(kernel.int_tile_width()) {
                let width = kernel.int_tile_width().min(self.layout.tokens() - token);
                let at = token - tokens.start;
                let mut add = first > columns.start;
                for (limb, weight) in layout.limbs.weights.iter().enumerate() {
                    let x = layout.tile_limb(self.x, group, token, width, limb);
                    let x = &x[steps.start * width..steps.end * width];
                    let x = IntTileInput { x, width, weight: *weight };
                    for plane in 0..planes {
                        let panel = IntPanel { rows: panel, starts: &starts, plane, planes };
                        let (values, rows) = (&mut exact[at..], rows.len());
                        let mut to = IntTileSums { values, stride: STRIDE, rows, add };
                        kernel.int_tile(&panel, &x, &mut to);
                        add = true;
                    }
                }
                if block.end == columns.end {
                    // While the tile's sums are in L1.
                    let mut steps = [0.0; BLOCK];
                    for (step, token) in steps.iter_mut().zip(self.tokens.iter().skip(token)) {
                        *step = token.step;
                    }
                    let tile = at..at + width;
                    let panel = exact.chunks(STRIDE).zip(scaled.chunks_mut(STRIDE)).zip(&scales);
                    for ((exact, scaled), scale) in panel.take(rows.len()) {
                        let (exact, scaled) = (&exact[tile.clone()], &mut scaled[tile.clone()]);
                        scale::tokens(exact, &steps, *scale, scaled, group > 0);
                    }
                }
            }
        }
    }

    /// Transposes the sums token by token, finishes and stores them.
    fn store_int_panel<Y: Element>(
        &self,
        sums: &Sums<'_>,
        first_col: usize,
        y: &mut Columns<'_, Y>,
    ) {
        let Sums { rows, tokens, scaled, .. } = sums;
        // A strip of tokens is one cache line of each row of sums.
        const STRIP: usize = 8;
        for first in tokens.clone().step_by(STRIP) {
            let mut strip = [[0.0; PANEL_ROWS]; STRIP];
            for (row, totals) in scaled.chunks(STRIDE).enumerate().take(rows.len()) {
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
