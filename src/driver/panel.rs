//! The panel shape. Loops as in the BLIS papers, with weights in the role of A and tokens in that of B:
//! a panel of 48 rows × 512 columns is decoded into L2, and tiles of tokens pass over it.

use std::ops::Range;

use lutmul_kernels::{Columns, LINE, PANEL_COLS, PANEL_ROWS, PanelRow, TileInput, TileSums};

use super::{Job, Scratch};
use crate::element::Element;
use crate::weights::GroupIndex;

/// The most tokens whose sums are held at a time. Sums of 48 rows × 512 tokens are 96 KiB, as much as the
/// panel; decoding again for the next 512 tokens costs 3 % of their arithmetic.
const BLOCK: usize = 512;

/// Distance of the rows of sums; the extra line keeps a column of them out of one L1 set.
const STRIDE: usize = BLOCK + 16;

/// Sums of a panel.
pub(super) const SUMS: usize = PANEL_ROWS * STRIDE;

impl Job<'_> {
    pub(super) fn panel<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        let (sums, panel) = scratch.panel_buffers(SUMS);
        // Loop 5: blocks of tokens, whole tiles each.
        let block = BLOCK - BLOCK % self.layout.kernel.tile_width();
        for token in (0..self.layout.m).step_by(block) {
            let tokens = token..self.layout.tokens().min(token + block);
            // Loop 4: panels of rows.
            for first in rows.clone().step_by(PANEL_ROWS) {
                let chunk = first..rows.end.min(first + PANEL_ROWS);
                self.sums(chunk.clone(), tokens.clone(), sums, panel);
                self.store_panel(chunk, first - rows.start, tokens.clone(), sums, y);
            }
        }
    }

    /// The sums of a panel's rows and a block of tokens, `[rows][STRIDE]`.
    fn sums(
        &self,
        rows: Range<usize>,
        tokens: Range<usize>,
        sums: &mut [f32],
        panel: &mut [PanelRow],
    ) {
        let kernel = self.layout.kernel;
        let portion = self.w.portion(rows.clone());
        let lines = portion.lines();
        const STEP: usize = PANEL_COLS / LINE;
        // Loop 3: blocks of k.
        for line in (0..lines).step_by(STEP) {
            let block = line..lines.min(line + STEP);
            kernel.panel(&portion, block.clone(), panel);
            if matches!(self.w.groups(), GroupIndex::Odd) {
                self.scale(rows.clone(), block.clone(), panel);
            }
            // Loop 2: tiles of tokens. Loop 1, groups of rows, is the kernel's.
            let full = kernel.tile_width();
            for first in tokens.clone().step_by(full) {
                let width = full.min(self.layout.tokens() - first);
                let tile = &self.x[first * lines * LINE..][..width * lines * LINE];
                let x = &tile[block.start * LINE * width..block.end * LINE * width];
                let values = &mut sums[first - tokens.start..];
                let (rows, add) = (rows.len(), line > 0);
                let mut to = TileSums { values, stride: STRIDE, rows, add };
                kernel.tile(panel, &TileInput { x, width }, &mut to);
            }
        }
    }

    /// Multiplies a decoded panel by scales whose groups are no multiple of 16.
    fn scale(&self, rows: Range<usize>, lines: Range<usize>, panel: &mut [PanelRow]) {
        let scales = self.w.scales();
        let (_, group) = scales.granularity().block(self.w.n(), self.w.k());
        for (row, weights) in rows.zip(panel) {
            let scales = scales.row(row);
            for (line, weights) in lines.clone().zip(weights.chunks_exact_mut(LINE)) {
                for (weight, code) in weights.iter_mut().zip(self.layout.order) {
                    let col = line * LINE + usize::from(*code);
                    *weight *= scales[(col / group).min(scales.len() - 1)];
                }
            }
        }
    }

    /// Transposes the sums token by token, finishes and stores them.
    fn store_panel<Y: Element>(
        &self,
        rows: Range<usize>,
        first_col: usize,
        tokens: Range<usize>,
        sums: &[f32],
        y: &mut Columns<'_, Y>,
    ) {
        // A strip of tokens is one cache line of each row of sums.
        const STRIP: usize = 16;
        for first in tokens.clone().step_by(STRIP) {
            let mut strip = [[0.0; PANEL_ROWS]; STRIP];
            for (row, sums) in sums.chunks(STRIDE).enumerate().take(rows.len()) {
                let sums: &[f32; STRIP] = match sums[first - tokens.start..].first_chunk() {
                    Some(sums) => sums,
                    None => unreachable!("rows of sums are padded by a strip"),
                };
                for (strip, sum) in strip.iter_mut().zip(sums) {
                    strip[row] = *sum;
                }
            }
            for (token, sums) in (first..tokens.end.min(self.layout.m)).zip(&mut strip) {
                self.epilogue.store(&mut sums[..rows.len()], rows.clone(), y, token, first_col);
            }
        }
    }
}
