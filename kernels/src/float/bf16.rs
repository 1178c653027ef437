//! gemm of bf16: weights and activations are bf16, their products are exact, and sums f32, by instructions that do just that.
//!
//! A kernel call takes up to [`ROWS`] rows, all their columns, and a block of tokens. Of each block of k (`kc`) the rows are
//! decoded to a panel; then, for a few tiles of tokens at a time, the panel is multiplied by them. Sums are scaled where a
//! group of scales ends, in f32, and turned round to lie by tokens at the end of k. How a panel and x lie within a step is
//! the instruction's business: `Bf16` has it.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Groups, Weights};
use crate::isa::{Feature, Isa, Task};
use crate::prefetch::prefetch;
use crate::table::Planes;
use crate::weights::{LINE, Row, Tail};

/// Rows of a call.
pub const ROWS: usize = 32;

/// Tokens of a tile.
pub const TOKENS: usize = 16;

/// Columns of a step.
pub const STEP: usize = 32;

/// Columns of a block of k (`kc`): 32 KiB of a panel, which L1 holds beside what passes by. (Measured with AMX, 16384×3072:
/// 1,024 columns, whose sums go to memory half as often, are a sixth slower, 256 a seventh.)
pub const KC: usize = 512;

/// A step of a panel: 32 columns of 32 rows.
pub type PanelStep = [u16; ROWS * STEP];

/// Steps of a panel.
pub const PANEL: usize = KC / STEP;

/// A step of a tile of x: 32 columns of 16 tokens, as `[32 / side][16 tokens][side]`, `side` being [`Kernel::bf16_side`].
///
/// [`Kernel::bf16_side`]: crate::Kernel::bf16_side
pub type XStep = [u16; TOKENS * STEP];

/// Sums of a tile of tokens.
pub type TileSums = [[f32; TOKENS]; ROWS];

/// What a call makes of a tile of tokens: scaled sums.
pub type TileOut = [[f32; ROWS]; TOKENS];

/// What takes them, a tile of the call's after the other, by its number. Stores to y so lie between products, and are not
/// waited for.
pub type Done<'a> = dyn FnMut(usize, &mut TileOut) + 'a;

/// Memory of a call.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// Decoded weights: [`PANEL`] steps, or as many as there are.
    pub panel: &'a mut [PanelStep],
    /// Sums, for each tile.
    pub sums: &'a mut [TileSums],
}

/// Whether scales are laid so that each step has but one a row.
pub fn takes(groups: &Groups<'_>) -> bool {
    match groups {
        Groups::Whole | Groups::Lines(_) => true,
        Groups::Quarters(index) => index.iter().all(|[a, b, c, d]| a == b && c == d),
    }
}

/// Decodes a block of k, and multiplies the first tiles by it meanwhile.
pub(crate) type MultiplyFresh<Session> = fn(&Session, &mut Fresh<'_>, &mut [TileSums]);

/// The most tiles that an instruction's loop takes at a time.
const MOST_TILES: usize = 3;

/// Products of bf16 on an ISA.
pub(crate) trait Bf16: Sized + 'static {
    type Isa: Isa;
    /// What has to be set up for a call, until it is dropped.
    type Session;
    /// A decoded line.
    type Line: Copy;
    /// Columns of a token that lie side by side.
    const SIDE: usize;
    /// The most tiles that are multiplied at a time, up to 3.
    const TILES: usize;

    fn begin(isa: Self::Isa) -> Self::Session;

    /// Puts a line of a row into the two steps that it is.
    fn store(isa: Self::Isa, line: Self::Line, steps: &mut [PanelStep; 2], row: usize);

    /// `sums[tile][row][token] (+)= Σ panel · x` for up to [`Bf16::TILES`] tiles.
    fn multiply(isa: Self::Isa, session: &Self::Session, work: &Work<'_>, sums: &mut [TileSums]);

    /// Decodes a block of k while the first tiles are multiplied by it, where it can.
    const FRESH: Option<MultiplyFresh<Self::Session>> = None;

    /// `sum += part · by`, rounded twice.
    fn add_scaled(isa: Self::Isa, sum: &mut [f32; TOKENS], part: &[f32; TOKENS], by: f32);

    /// Rows become columns.
    fn transpose(isa: Self::Isa, from: &[[f32; TOKENS]; 16]) -> [[f32; 16]; TOKENS];
}

/// A way to decode a line of codes, and its signs, to bf16.
pub(crate) trait Decoder<B: Bf16> {
    /// Whether it is for weights with a plane of signs.
    const SIGNED: bool;
    /// What it needs of a table, in registers if it fits.
    type Regs<'a>;

    fn load<'a>(isa: B::Isa, w: &Weights<'a>) -> Self::Regs<'a>;
    fn decode(isa: B::Isa, regs: &Self::Regs<'_>, codes: &[u8; LINE], signs: u64) -> B::Line;
}

/// What is multiplied.
pub(crate) struct Work<'a> {
    /// Steps of a panel.
    pub panel: &'a [PanelStep],
    /// x from the first step of the first tile on, a tile behind the other.
    pub x: &'a [XStep],
    /// Steps from a tile to the next.
    pub tile: usize,
    /// Whether to add to the sums rather than to start them.
    pub add: bool,
}

impl<'a> Work<'a> {
    /// The steps of a tile.
    #[inline(always)]
    pub fn x_steps(&self, tile: usize) -> &'a [XStep] {
        &self.x[tile * self.tile..][..self.panel.len()]
    }
}

/// A block of k that is still to be decoded: whole lines of [`ROWS`] rows. The first [`Bf16::TILES`] tiles are multiplied by
/// it on the way.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AMX alone does so"))]
pub(crate) struct Fresh<'a> {
    pub w: &'a Weights<'a>,
    /// The block, in lines.
    pub lines: Range<usize>,
    pub panel: &'a mut [PanelStep],
    /// x from the block's first step of the first tile on, a tile behind the other.
    pub x: &'a [XStep],
    /// Steps from a tile to the next.
    pub tile: usize,
}

/// The bf16 part of a kernel. What has to be run is unsafe: its caller vouches for the features and the permission.
pub(crate) struct Bf16Entry {
    pub features: &'static [Feature],
    /// Why the system does not let this process use them.
    pub refusal: fn() -> Option<&'static str>,
    pub side: usize,
    /// The fewest tokens from which it is faster than F32's loops on rounded x.
    pub from: usize,
    /// Bytes of x that stay in L2 while rows pass by.
    pub x_bytes: usize,
    pub run: unsafe fn(&Weights<'_>, &[XStep], &mut Scratch<'_>, &mut Done<'_>),
}

/// A product by an ISA and a decoder.
///
/// # Safety
/// The CPU has the features of `B::Isa`, and the system permits them.
pub(crate) unsafe fn gemm<B: Bf16, D: Decoder<B>>(
    w: &Weights<'_>,
    x: &[XStep],
    scratch: &mut Scratch<'_>,
    done: &mut Done<'_>,
) {
    debug_assert!(w.table.needed == Planes::Two && D::SIGNED == w.signed());
    // SAFETY: the caller's promise.
    let isa = unsafe { B::Isa::assume() };
    isa.run(Gemm::<B, D> { w, x, scratch, done, kind: PhantomData });
}

struct Gemm<'a, 's, 'd, B, D> {
    w: &'a Weights<'a>,
    x: &'a [XStep],
    scratch: &'a mut Scratch<'s>,
    done: &'a mut Done<'d>,
    kind: PhantomData<(B, D)>,
}

impl<B: Bf16, D: Decoder<B>> Task<B::Isa> for Gemm<'_, '_, '_, B, D> {
    #[inline(always)]
    fn run(self, isa: B::Isa) {
        let Self { w, x, scratch, done, .. } = self;
        let (lines, steps) = (w.codes.lines(), w.codes.cols.div_ceil(STEP));
        let (session, regs) = (B::begin(isa), D::load(isa, w));
        let mut scaling = Scaling::new(w);
        let mut parts = [[[0.0; TOKENS]; ROWS]; MOST_TILES];
        const LINES: usize = KC / LINE;
        for first in (0..lines).step_by(LINES) {
            let block = first..lines.min(first + LINES);
            let (start, end) = (2 * block.start, steps.min(2 * block.end));
            let fits = w.codes.rows() == ROWS && block.end <= w.codes.full_lines();
            let fits = fits && scaling.whole && scratch.sums.len() >= B::TILES;
            let mut fresh = B::FRESH.filter(|_| fits);
            if fresh.is_none() {
                decode::<B, D>(isa, w, &regs, block.clone(), scratch.panel);
            }
            scaling.find(w, start..end);
            for (i, sums) in scratch.sums.chunks_mut(B::TILES).enumerate() {
                let tile = i * B::TILES;
                let x = &x[tile * steps + start..];
                let panel = &mut scratch.panel[..end - start];
                if let Some(run) = fresh.take() {
                    let lines = block.clone();
                    run(&session, &mut Fresh { w, lines, panel, x, tile: steps }, sums);
                } else {
                    let work = Work { panel, x, tile: steps, add: start > 0 };
                    scaling.multiply::<B>(isa, &session, &work, sums, &mut parts);
                }
                if end == steps {
                    for (i, sums) in sums.iter().enumerate() {
                        let mut to = [[0.0; ROWS]; TOKENS];
                        finish::<B>(isa, &scaling.last, sums, &mut to);
                        done(tile + i, &mut to);
                    }
                }
            }
        }
    }
}

/// Decodes some lines of all rows. Lines first, rows second: so what is written is whole KiB, and not lines 2 KiB apart, which
/// share two sets of L1.
#[inline(always)]
fn decode<B: Bf16, D: Decoder<B>>(
    isa: B::Isa,
    w: &Weights<'_>,
    regs: &D::Regs<'_>,
    lines: Range<usize>,
    panel: &mut [PanelStep],
) {
    let codes = &w.codes;
    let (rows, full) = (codes.rows(), codes.full_lines());
    let mut row = [Row::default(); ROWS];
    let mut tails = [Tail::EMPTY; ROWS];
    for r in 0..rows {
        row[r] = codes.row(r);
        if lines.end > full {
            tails[r] = codes.tail(r, w.table.pad);
        }
    }
    for (line, to) in lines.zip(panel.as_chunks_mut::<2>().0) {
        // What is not there of a panel may be anything: its sums are not stored.
        for r in 0..rows {
            let (from, at) =
                if line < full { (row[r], line) } else { (tails[r].row(D::SIGNED), 0) };
            let signs = if D::SIGNED { u64::from_le_bytes(from.signs[at]) } else { 0 };
            // The same of the next call's rows, and a line of signs for eight of codes.
            prefetch(codes.codes, (r + ROWS) * codes.k + line * LINE);
            if D::SIGNED
                && line % 8 == r % 8
                && let Some(signs) = codes.signs
            {
                prefetch(signs, (r + ROWS) * codes.k.div_ceil(8) + line * LINE / 8);
            }
            B::store(isa, D::decode(isa, regs, &from.codes[at], signs), to, r);
        }
    }
}

/// Where scales are multiplied in: groups of them within a block of k, or all at the end.
struct Scaling {
    /// Whether a row has one scale.
    whole: bool,
    /// Scales of rows at the end: 1 where groups have theirs.
    last: [f32; ROWS],
    /// Groups of the block, or parts of some: their steps, and the scales of rows.
    groups: [(usize, [f32; ROWS]); PANEL],
    count: usize,
}

impl Scaling {
    fn new(w: &Weights<'_>) -> Self {
        let whole = matches!(w.scales.groups, Groups::Whole);
        let mut last = [1.0; ROWS];
        if whole {
            for (r, last) in last.iter_mut().enumerate().take(w.codes.rows()) {
                *last = w.scales.row(r)[0];
            }
        }
        Self { whole, last, groups: [(0, [0.0; ROWS]); PANEL], count: 0 }
    }

    /// Finds the groups of some steps.
    fn find(&mut self, w: &Weights<'_>, steps: Range<usize>) {
        let index = |step: usize| match w.scales.groups {
            Groups::Whole => 0,
            Groups::Lines(index) => index[step / 2] as usize,
            Groups::Quarters(index) => index[step / 2][step % 2 * 2] as usize,
        };
        self.count = 0;
        if self.whole {
            return;
        }
        let mut before = None;
        for step in steps {
            let at = Some(index(step));
            if at != before {
                let (count, scales) = &mut self.groups[self.count];
                *count = 0;
                for (r, scale) in scales.iter_mut().enumerate().take(w.codes.rows()) {
                    *scale = w.scales.row(r)[index(step)];
                }
                self.count += 1;
                before = at;
            }
            self.groups[self.count - 1].0 += 1;
        }
    }

    /// Multiplies a block of k: as a whole, or group by group.
    #[inline(always)]
    fn multiply<B: Bf16>(
        &self,
        isa: B::Isa,
        session: &B::Session,
        work: &Work<'_>,
        sums: &mut [TileSums],
        parts: &mut [TileSums; MOST_TILES],
    ) {
        if self.whole {
            return B::multiply(isa, session, work, sums);
        }
        let parts = &mut parts[..sums.len()];
        if !work.add {
            // −0 changes nothing that is added to it.
            sums.fill([[-0.0; TOKENS]; ROWS]);
        }
        let mut step = 0;
        for (steps, scales) in &self.groups[..self.count] {
            let (panel, x) = (&work.panel[step..step + steps], &work.x[step..]);
            B::multiply(isa, session, &Work { panel, x, tile: work.tile, add: false }, parts);
            for (sums, parts) in sums.iter_mut().zip(&*parts) {
                for ((sum, part), scale) in sums.iter_mut().zip(parts).zip(scales) {
                    B::add_scaled(isa, sum, part, *scale);
                }
            }
            step += steps;
        }
    }
}

/// Scales sums, and turns them round.
#[inline(always)]
fn finish<B: Bf16>(isa: B::Isa, scales: &[f32; ROWS], sums: &TileSums, to: &mut TileOut) {
    let halves = sums.as_chunks::<16>().0.iter().zip(scales.as_chunks::<16>().0);
    for (half, (sums, scales)) in halves.enumerate() {
        let mut scaled = *sums;
        for (sums, by) in scaled.iter_mut().zip(scales) {
            for sum in sums {
                *sum *= by;
            }
        }
        for (to, column) in to.iter_mut().zip(B::transpose(isa, &scaled)) {
            to[half * 16..][..16].copy_from_slice(&column);
        }
    }
}
