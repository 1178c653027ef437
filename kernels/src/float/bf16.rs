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

/// Products of bf16 on an ISA.
pub(crate) trait Bf16: Sized + 'static {
    type Isa: Isa;
    /// What has to be set up for a call, until it is dropped.
    type Session;
    /// A decoded line.
    type Line: Copy;
    /// Columns of a token that lie side by side.
    const SIDE: usize;
    /// The most tiles that are multiplied at a time.
    const TILES: usize;

    fn begin(isa: Self::Isa) -> Self::Session;

    /// Puts a line of a row into the two steps that it is.
    fn store(isa: Self::Isa, line: Self::Line, steps: &mut [PanelStep; 2], row: usize);

    /// `sums[tile][row][token] (+)= Σ panel · x` for up to [`Bf16::TILES`] tiles.
    fn multiply(isa: Self::Isa, session: &Self::Session, work: &Work<'_>, sums: &mut [TileSums]);

    /// Decodes a block of k while the first tiles are multiplied by it, where it can.
    const FRESH: Option<MultiplyFresh<Self::Session>> = None;

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
    pub run: unsafe fn(&Weights<'_>, &[XStep], &mut [[f32; ROWS]], &mut Scratch<'_>),
}

/// A product by an ISA and a decoder.
///
/// # Safety
/// The CPU has the features of `B::Isa`, and the system permits them.
pub(crate) unsafe fn gemm<B: Bf16, D: Decoder<B>>(
    w: &Weights<'_>,
    x: &[XStep],
    to: &mut [[f32; ROWS]],
    scratch: &mut Scratch<'_>,
) {
    debug_assert!(w.table.needed == Planes::Two && D::SIGNED == w.signed());
    // SAFETY: the caller's promise.
    let isa = unsafe { B::Isa::assume() };
    isa.run(Gemm::<B, D> { w, x, to, scratch, kind: PhantomData });
}

struct Gemm<'a, 's, B, D> {
    w: &'a Weights<'a>,
    x: &'a [XStep],
    to: &'a mut [[f32; ROWS]],
    scratch: &'a mut Scratch<'s>,
    kind: PhantomData<(B, D)>,
}

impl<B: Bf16, D: Decoder<B>> Task<B::Isa> for Gemm<'_, '_, B, D> {
    #[inline(always)]
    fn run(self, isa: B::Isa) {
        let Self { w, x, to, scratch, .. } = self;
        let (lines, steps) = (w.codes.lines(), w.codes.cols.div_ceil(STEP));
        let (session, regs) = (B::begin(isa), D::load(isa, w));
        const LINES: usize = KC / LINE;
        let whole = matches!(w.scales.groups, Groups::Whole) && w.codes.rows() == ROWS;
        for first in (0..lines).step_by(LINES) {
            let block = first..lines.min(first + LINES);
            let (start, end) = (2 * block.start, steps.min(2 * block.end));
            let fits = whole && block.end <= w.codes.full_lines() && scratch.sums.len() >= B::TILES;
            let mut fresh = B::FRESH.filter(|_| fits);
            if fresh.is_none() {
                decode::<B, D>(isa, w, &regs, block.clone(), scratch.panel);
            }
            for (i, sums) in scratch.sums.chunks_mut(B::TILES).enumerate() {
                let tile = i * B::TILES;
                let x = &x[tile * steps..];
                if let Some(run) = fresh.take() {
                    let panel = &mut scratch.panel[..end - start];
                    let (x, lines) = (&x[start..], block.clone());
                    run(&session, &mut Fresh { w, lines, panel, x, tile: steps }, sums);
                } else {
                    let panel = &scratch.panel[..end - start];
                    multiply::<B>(isa, &session, (w, panel), x, &Place { start, end, steps }, sums);
                }
                if end == steps {
                    let to = to[tile * TOKENS..].chunks_exact_mut(TOKENS);
                    for (sums, to) in sums.iter().zip(to) {
                        finish::<B>(isa, w, sums, to);
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

/// Steps of a block of k, of so many in all.
struct Place {
    start: usize,
    end: usize,
    steps: usize,
}

/// Multiplies a block of k: as a whole, or group by group.
#[inline(always)]
fn multiply<B: Bf16>(
    isa: B::Isa,
    session: &B::Session,
    (w, panel): (&Weights<'_>, &[PanelStep]),
    x: &[XStep],
    at: &Place,
    sums: &mut [TileSums],
) {
    let scale_of = match w.scales.groups {
        Groups::Whole => {
            let work = Work { panel, x: &x[at.start..], tile: at.steps, add: at.start > 0 };
            return B::multiply(isa, session, &work, sums);
        }
        Groups::Lines(index) => Index { lines: index, quarters: &[] },
        Groups::Quarters(index) => Index { lines: &[], quarters: index },
    };
    let mut parts = [[[0.0; TOKENS]; ROWS]; 4];
    let parts = &mut parts[..sums.len()];
    let mut step = at.start;
    while step < at.end {
        let (first, scale) = (step, scale_of.step(step));
        while step < at.end && scale_of.step(step) == scale {
            step += 1;
        }
        let panel = &panel[first - at.start..step - at.start];
        let work = Work { panel, x: &x[first..], tile: at.steps, add: false };
        B::multiply(isa, session, &work, parts);
        for r in 0..w.codes.rows() {
            let by = w.scales.row(r)[scale];
            for (sums, part) in sums.iter_mut().zip(parts.iter()) {
                for (sum, part) in sums[r].iter_mut().zip(&part[r]) {
                    *sum = if first > 0 { *sum + part * by } else { part * by };
                }
            }
        }
    }
}

/// Where the scales of a step are among those of its row.
struct Index<'a> {
    lines: &'a [u32],
    quarters: &'a [[u32; 4]],
}

impl Index<'_> {
    #[inline(always)]
    fn step(&self, step: usize) -> usize {
        let line = step / 2;
        match self.lines {
            [] => self.quarters[line][step % 2 * 2] as usize,
            lines => lines[line] as usize,
        }
    }
}

/// Scales sums, if they are not yet, and turns them round.
#[inline(always)]
fn finish<B: Bf16>(isa: B::Isa, w: &Weights<'_>, sums: &TileSums, to: &mut [[f32; ROWS]]) {
    let whole = matches!(w.scales.groups, Groups::Whole);
    for (half, sums) in sums.as_chunks::<16>().0.iter().enumerate() {
        let mut scaled = *sums;
        if whole {
            for (r, sums) in scaled.iter_mut().enumerate() {
                let row = half * 16 + r;
                let by = if row < w.codes.rows() { w.scales.row(row)[0] } else { 0.0 };
                for sum in sums {
                    *sum *= by;
                }
            }
        }
        for (to, column) in to.iter_mut().zip(B::transpose(isa, &scaled)) {
            to[half * 16..][..16].copy_from_slice(&column);
        }
    }
}
