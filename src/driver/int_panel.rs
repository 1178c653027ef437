//! The panel shape of integer modes. The loops are those of F32, but sums are exact: blocks of k may
//! end anywhere, and a panel may hold several groups of columns.

use std::ops::Range;

use lutmul_kernels::{
    Columns, Form, IntPanel, IntPanelMut, IntTileInput, IntTileSums, LINE, MULTIPLIED, PANEL_ROWS,
};

use super::workspace::IntPanelBuffers;
use super::{Job, Scratch};
use crate::activations::PanelLayout;
use crate::element::Element;

/// The most tokens whose sums are held at a time, where k is more than a panel holds: 48 rows of them
/// are 192 KiB of f64.
const BLOCK: usize = 512;

/// Tokens of the widest tile of any kernel.
const TILE: usize = 64;

/// Distance of the rows of sums; the extra line keeps a column of them out of one L1 set.
const STRIDE: usize = BLOCK + 8;

/// Sums of a panel.
pub(super) const SUMS: usize = PANEL_ROWS * STRIDE;

/// A panel's rows and a block of tokens.
struct Part<'a> {
    rows: Range<usize>,
    tokens: Range<usize>,
    /// The column of y for the first of the rows.
    first_col: usize,
    /// Codes of the next panel.
    ahead: &'a [u8],
}

impl Job<'_> {
    pub(super) fn int_panel<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        let layout = PanelLayout::new(&self.layout);
        let planes = self.w.lut().image().count;
        let mut buffers = scratch.int_panel_buffers(SUMS, planes);
        // Loop 5: blocks of tokens, whole tiles each.
        let block = BLOCK - BLOCK % self.layout.kernel.int_tile_width(layout.limbs);
        for token in (0..self.layout.m).step_by(block) {
            let tokens = token..self.layout.tokens().min(token + block);
            // Loop 4: panels of rows.
            for first in rows.clone().step_by(PANEL_ROWS) {
                let chunk = first..rows.end.min(first + PANEL_ROWS);
                let next = chunk.end..rows.end.min(chunk.end + PANEL_ROWS);
                let part = Part {
                    rows: chunk,
                    tokens: tokens.clone(),
                    first_col: first - rows.start,
                    ahead: self.w.int_portion(next, 0..self.layout.k).codes,
                };
                self.int_part(layout, &part, &mut buffers, y);
            }
        }
    }

    fn int_part<Y: Element>(
        &self,
        layout: PanelLayout,
        part: &Part<'_>,
        buffers: &mut IntPanelBuffers<'_>,
        y: &mut Columns<'_, Y>,
    ) {
        let Part { rows, tokens, first_col, ahead } = part;
        let (kernel, limbs) = (self.layout.kernel, layout.limbs);
        let planes = self.w.lut().image().count;
        let token_words = layout.token_words();
        let group_steps = layout.group_steps();
        let start_steps = match limbs.form {
            Form::Multiplied => MULTIPLIED / limbs.step(),
            _ => group_steps,
        };
        let IntPanelBuffers { sums, totals, scales, starts, panel } = buffers;
        // While this panel is multiplied, the codes of the next one come from memory.
        let tiles = tokens.len().div_ceil(kernel.int_tile_width(limbs)) * layout.blocks().count();
        let mut ahead = ahead.chunks(ahead.len().div_ceil(tiles).next_multiple_of(LINE).max(LINE));
        // Loop 3: blocks of k.
        for block in layout.blocks() {
            let portion = self.w.int_portion(rows.clone(), block.columns.clone());
            let to = &mut IntPanelMut { rows: panel, starts, start_steps };
            kernel.int_panel(&portion, limbs, to);
            let per_row = scales.chunks_exact_mut(block.groups.len());
            for (row, scales) in rows.clone().zip(per_row) {
                for (group, scale) in block.groups.clone().zip(scales) {
                    *scale = self.step_of(row, group);
                }
            }
            let panel = IntPanel { rows: panel, starts, start_steps, group_steps };
            // Loop 2: tiles of tokens. Loop 1, groups of rows, is the kernel's.
            let full = kernel.int_tile_width(limbs);
            for token in tokens.clone().step_by(full) {
                let width = full.min(self.layout.tokens() - token);
                let mut steps = [0.0; TILE];
                for (step, token) in steps.iter_mut().zip(self.tokens.iter().skip(token)) {
                    *step = token.step;
                }
                let last = block.columns.end == self.layout.k;
                let columns = *first_col..first_col + rows.len();
                if last {
                    y.prefetch(token..self.layout.m.min(token + width), columns);
                }
                let x = layout.x(self.x, &block, (token, width), token_words);
                let x = IntTileInput {
                    x,
                    steps: block.steps(limbs),
                    width,
                    limbs,
                    ahead: ahead.next().unwrap_or(&[]),
                };
                let at = token - tokens.start;
                let mut to = IntTileSums {
                    sums: &mut sums[at..],
                    totals: &mut totals[at..],
                    stride: STRIDE,
                    rows: rows.len(),
                    resume: block.resume,
                    ends: block.ends,
                    add: block.groups.start > 0,
                    steps: &steps,
                    scales,
                };
                kernel.int_tile(&panel, planes, &x, &mut to);
                if last {
                    let tokens = token..self.layout.m.min(token + width);
                    self.store_tile(rows.clone(), tokens, &totals[at..], y, *first_col);
                }
            }
        }
    }

    /// Transposes a tile's totals token by token, finishes and stores them.
    fn store_tile<Y: Element>(
        &self,
        rows: Range<usize>,
        tokens: Range<usize>,
        totals: &[f64],
        y: &mut Columns<'_, Y>,
        first_col: usize,
    ) {
        let kernel = self.layout.kernel;
        let mut bias = [-0.0; PANEL_ROWS];
        if let Some(given) = self.epilogue.bias {
            for (to, bias) in bias.iter_mut().zip(&given[rows.clone()]) {
                *to = f64::from(*bias);
            }
        }
        let mut finished = [[0.0; PANEL_ROWS]; TILE];
        let width = tokens.len().next_multiple_of(kernel.int_lanes(self.layout.limbs));
        kernel.int_finish(self.layout.limbs, totals, STRIDE, &bias, &mut finished[..width]);
        for (token, sums) in tokens.zip(&mut finished) {
            let sums = (!self.tokens[token].step.is_nan()).then_some(&mut sums[..rows.len()]);
            self.epilogue.store_rounded(sums, rows.len(), y, token, first_col);
        }
    }
}
