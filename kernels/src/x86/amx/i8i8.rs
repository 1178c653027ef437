//! AMX, integer modes: tiles of signed bytes of weights by tiles of digits.
//!
//! Tiles need no other contract: a row tile is 16 rows × 64 columns, an x tile 64 columns × 16 tokens, and what comes out
//! are exact i32 sums. Signs are the weights', as an x tile serves 16 rows. int8 is its own bytes, read where they lie.
//! QINS has nine bits, two halves with the same sums; FP8 takes three passes and two sums, as `255 · (h₁ + h₂) + q`; other
//! tables of two bytes three and three. Digits of x are x tiles of their own. A pass is bound by the loads of tiles, all of
//! it by passes; with few tokens by memory.

use std::ops::Range;

use super::decode::{Decode, Source, decoder};
use super::finish::{Part, finish};
use super::tiles::{Rows, TILE, Tiles, Work, accumulate};
use super::{Amx, refusal};
use crate::int::Weights;
use crate::int::tiles::{KC, KC_DIRECT, ROWS, STEP, TilesEntry, TilesOut, TilesScratch, TilesX};
use crate::isa::{Isa, Task};
use crate::table::ClosedForm;
use crate::weights::LINE;

pub(crate) static ENTRY: TilesEntry = TilesEntry { features: Amx::FEATURES, refusal, run };

/// # Safety
/// The CPU has the features of [`Amx`] and of `avx512vbmi`, and the system permits tiles.
unsafe fn run(
    w: &Weights<'_>,
    x: &TilesX<'_>,
    to: &mut TilesOut<'_>,
    scratch: &mut TilesScratch<'_>,
) {
    // SAFETY: the caller's promise.
    let isa = unsafe { Amx::assume() };
    isa.run(Gemm { w, x, to, scratch });
}

struct Gemm<'a, 'o, 's> {
    w: &'a Weights<'a>,
    x: &'a TilesX<'a>,
    to: &'a mut TilesOut<'o>,
    scratch: &'a mut TilesScratch<'s>,
}

impl Task<Amx> for Gemm<'_, '_, '_> {
    #[inline(always)]
    fn run(self, isa: Amx) {
        let Self { w, x, to, scratch } = self;
        let (codes, planes) = (&w.codes, &w.table.signed);
        let groups = codes.cols.div_ceil(to.group);
        let tiles = &Tiles::configure(isa);
        let direct =
            w.closed_form() == Some(ClosedForm::Signed { flip: 0 }) && codes.rows() == ROWS;
        let source = Source::of(codes);
        let fused = Fused { w, x, source: &source, decode: decoder(w) };
        for group in 0..groups {
            let start = group * to.group;
            let end = codes.cols.min(start + to.group);
            let mut first = start;
            while first < end {
                let whole = (end - first) / STEP * STEP;
                let direct = direct && whole > 0;
                let width = match () {
                    () if direct => whole.min(KC_DIRECT),
                    () if fused.all() => end - first,
                    () => (end - first).min(KC),
                };
                let block = Block { columns: first..first + width, add: first > start };
                if direct {
                    block.multiply_codes(tiles, w, x, scratch.sums);
                } else {
                    fused.run(isa, tiles, &block, scratch);
                    block.multiply_panel(tiles, w, x, scratch);
                }
                first += width;
            }
            let part = match group {
                _ if groups == 1 => Part::Only,
                0 => Part::First,
                _ if group + 1 == groups => Part::Last,
                _ => Part::Middle,
            };
            finish(isa, (planes, x), (group, groups, part), to, scratch);
        }
    }
}

/// Some columns: from the start of a step on.
struct Block {
    columns: Range<usize>,
    /// Whether there are sums of earlier blocks to add to.
    add: bool,
}

impl Block {
    fn steps(&self) -> usize {
        self.columns.len().div_ceil(STEP)
    }

    /// x of the block's first step and the pair of tiles at `tile`, or of the odd last one.
    #[inline(always)]
    fn x<'a>(&self, x: &TilesX<'a>, cols: usize, tile: usize) -> &'a [i8] {
        let (steps, step) = (cols.div_ceil(STEP), self.columns.start / STEP);
        let side = if tile + 1 == x.tiles() { 1 } else { 2 };
        &x.x[(tile * steps + side * step) * TILE..]
    }

    /// int8, read where it lies: whole steps of 32 whole rows.
    #[inline(always)]
    fn multiply_codes(
        &self,
        tiles: &Tiles,
        w: &Weights<'_>,
        x: &TilesX<'_>,
        sums: &mut [[i32; 16]],
    ) {
        let codes = &w.codes;
        assert!(codes.codes.len() >= ROWS * codes.k && self.columns.end <= codes.cols);
        let a = codes.codes[codes.first + self.columns.start..].as_ptr().cast();
        let rows = Rows { a, row: codes.k, tile: 16 * codes.k, step: STEP, planes: 1 };
        let mut work = self.work(rows, codes.cols, x, 0, sums);
        work.ask_ahead(self.next_codes(w));
        // SAFETY: `work` has x of all steps of all tiles, and sums of all tiles; the rows are 32 whole ones (the first
        // line), of which this block's columns, whole steps, are a part.
        unsafe { accumulate(tiles, &work) };
    }

    /// What [`Fused`] decoded, by the x tiles that it left.
    #[inline(always)]
    fn multiply_panel(
        &self,
        tiles: &Tiles,
        w: &Weights<'_>,
        x: &TilesX<'_>,
        scratch: &mut TilesScratch<'_>,
    ) {
        let count = x.tiles();
        if count == 1 {
            return;
        }
        for (sum, planes) in w.table.signed.sums.iter().enumerate() {
            let first = if sum == 0 { 2 } else { 0 };
            if first == count {
                continue;
            }
            let panel = &scratch.panel[panel_start(w, sum)..][..planes * ROWS * self.steps()];
            let a = panel.as_ptr().cast();
            let rows = Rows { a, row: STEP, tile: TILE, step: 2 * TILE, planes: *planes };
            let sums = &mut scratch.sums[sum * count * ROWS..][..count * ROWS];
            let mut work = self.work(rows, w.codes.cols, x, first, sums);
            if sum == 0 && count >= AHEAD_TILES {
                work.ask_ahead(self.next_codes(w));
            }
            // SAFETY: `work` has x of all steps of all tiles, and sums of all tiles; the panel is as many steps of as many
            // planes.
            unsafe { accumulate(tiles, &work) };
        }
    }

    /// What the loop over x tiles from `first` on needs, but for the weights.
    #[inline(always)]
    fn work(
        &self,
        rows: Rows,
        cols: usize,
        x: &TilesX<'_>,
        first: usize,
        sums: &mut [[i32; 16]],
    ) -> Work {
        let tiles = x.tiles();
        assert!(x.x.len() >= tiles * cols.div_ceil(STEP) * TILE && self.columns.end <= cols);
        let last = self.x(x, cols, tiles - 1).as_ptr();
        Work {
            rows,
            steps: self.steps(),
            x: if first + 1 < tiles { self.x(x, cols, first).as_ptr() } else { last },
            x_skip: (cols.div_ceil(STEP) - self.steps()) * 2 * TILE,
            x_odd: last,
            tiles: tiles - first,
            c: sums[first * ROWS..tiles * ROWS].as_mut_ptr().cast(),
            add: usize::from(self.add),
            // Asked for over and over, which costs nothing as long as it is there.
            ahead: last.cast(),
            ahead_step: 0,
        }
    }

    /// As many codes as are multiplied here, in the order in which they lie, of the next call's rows.
    fn next_codes(&self, w: &Weights<'_>) -> *const u8 {
        w.codes.codes.as_ptr_range().end.wrapping_add(ROWS * self.columns.start)
    }
}

/// The fewest x tiles whose loop has the time to ask for all codes of the next call.
const AHEAD_TILES: usize = 16;

/// Where in a panel a sum's planes begin, `[step][plane][32 rows][64]`.
fn panel_start(w: &Weights<'_>, sum: usize) -> usize {
    let before: usize = w.table.signed.sums[..sum].iter().sum();
    before * ROWS * KC / STEP
}

/// Decodes a block of columns and multiplies it meanwhile by what tiles have room for beside weights and x: all sums of a
/// single x tile, or the first sum of the first pair. So the vector unit, the one for tiles and memory work side by side.
/// (16 tokens: QINS 1.5 times as fast as by panels that are decoded before, FP8 1.4.)
struct Fused<'a, 'w> {
    w: &'a Weights<'w>,
    x: &'a TilesX<'a>,
    source: &'a Source<'a>,
    decode: Decode,
}

impl Fused<'_, '_> {
    /// Whether that is all there is to multiply: then no panel is needed, but for the last steps.
    fn all(&self) -> bool {
        match self.x.tiles() {
            1 => true,
            2 => self.w.table.signed.sums.len() == 1,
            _ => false,
        }
    }

    #[inline(always)]
    fn run(&self, isa: Amx, tiles: &Tiles, block: &Block, scratch: &mut TilesScratch<'_>) {
        let Self { w, x, source, decode } = *self;
        let (sums, steps, pair) = (w.table.signed.sums, block.steps(), x.tiles() > 1);
        let slots = if pair { 2 } else { sums.len() };
        for slot in 0..slots {
            tiles.start(slot, &scratch.sums[slot * ROWS..], block.add);
        }
        // Steps that the panel holds.
        let room = if self.all() { 2 } else { steps };
        let x_tiles = if pair { 2 * TILE } else { TILE };
        let x_steps = block.x(x, w.codes.cols, 0).chunks_exact(x_tiles);
        let first_line = block.columns.start / LINE;
        let decode_step = |step: usize, panel: &mut [[i8; 64]]| {
            let (mut at, mut plane) = ([0; 3], 0);
            for (sum, planes) in sums.iter().enumerate() {
                for p in 0..*planes {
                    at[plane] = panel_start(w, sum) + (step % room * planes + p) * ROWS;
                    plane += 1;
                }
            }
            // Where there are enough x tiles, the loop over them asks for codes to come.
            let ahead = x.tiles() < AHEAD_TILES;
            decode(isa, w, source, (first_line + step, ahead), panel, at);
        };
        decode_step(0, scratch.panel);
        for (step, x) in x_steps.enumerate().take(steps) {
            // One step ahead: what was decoded has left the store buffer when it is multiplied.
            if step + 1 < steps {
                decode_step(step + 1, scratch.panel);
            }
            let planes = |sum: usize| {
                let from = panel_start(w, sum) + step % room * sums[sum] * ROWS;
                from..from + sums[sum] * ROWS
            };
            if pair {
                tiles.multiply_pair(&scratch.panel[planes(0)], x);
                continue;
            }
            tiles.load_x(x);
            for sum in 0..sums.len() {
                tiles.multiply(sum, &scratch.panel[planes(sum)]);
            }
        }
        for slot in 0..slots {
            tiles.end(slot, &mut scratch.sums[slot * ROWS..]);
        }
    }
}
