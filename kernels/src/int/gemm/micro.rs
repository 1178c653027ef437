//! Micro-kernels: i32 sums of a few rows and vectors of tokens, which stay in registers.

use std::ops::Range;

use crate::int::{Int, IsaOf, Lanes, MULTIPLIED_WORDS, Panel, PanelRow, Sums, V};
use crate::isa::{Isa, Task};
use crate::prefetch::prefetch;
use crate::weights::{LINE, MC};

/// i32 sums on their way from a micro-kernel: `[R][A][P]`.
pub(super) type Accumulators<O> = [V<O>; 24];

/// A micro-kernel: R rows (`mr`) by A vectors of tokens (`nr`).
pub(crate) struct Microkernel<O: Int> {
    pub vectors: usize,
    pub rows: usize,
    pub(super) run: fn(IsaOf<O>, &Steps<'_, O>, &mut Accumulators<O>),
}

/// What a micro-kernel goes through.
pub(super) struct Steps<'a, O: Int> {
    pub panel: &'a Panel<'a>,
    /// The first of its rows.
    pub row: usize,
    /// A limb of x, a word of which is `pitch` vectors.
    pub x: &'a [Lanes<O>],
    /// Multipliers, in the same way.
    pub multipliers: &'a [Lanes<O>],
    pub pitch: usize,
    /// The first vector of tokens.
    pub at: usize,
    pub words: Range<usize>,
    /// Starts in a row, and which of them the sums have, if they do not start from zero.
    pub starts: usize,
    pub start: Option<usize>,
    /// Codes to prefetch.
    pub ahead: &'a [u8],
}

/// The micro-kernel over many words.
pub(crate) const fn whole<O: Int, const P: usize, const A: usize, const R: usize>() -> Microkernel<O>
{
    const { assert!(A * R * P <= 24 && MC.is_multiple_of(R)) };
    Microkernel { vectors: A, rows: R, run: |isa, x, to| isa.run(Whole::<O, P, A, R> { x, to }) }
}

struct Whole<'a, O: Int, const P: usize, const A: usize, const R: usize> {
    x: &'a Steps<'a, O>,
    to: &'a mut Accumulators<O>,
}

impl<'a, O: Int, const P: usize, const A: usize, const R: usize> Task<IsaOf<O>>
    for Whole<'a, O, P, A, R>
{
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Self { x, to } = self;
        let rows = Rows::<R, P>::of::<O>(x.panel, x.row);
        let mut sums = [[[O::Sums::zero(isa); P]; A]; R];
        if let Some(start) = x.start {
            start_sums::<O, P, A, R>(isa, x.panel, (x.row, x.starts, start), &mut sums);
        }
        let vectors = &x.x[x.words.start * x.pitch..];
        // Where a tile is this micro-kernel's, its words are neighbours, and the compiler knows how far apart.
        if x.pitch == A {
            let tokens = vectors.as_chunks::<A>().0.iter();
            words::<O, P, A, R>(isa, x, &rows, tokens, &mut sums);
        } else {
            let part = |x: &'a [Lanes<O>]| x.first_chunk::<A>();
            let tokens = vectors[x.at..].chunks(x.pitch).map_while(part);
            words::<O, P, A, R>(isa, x, &rows, tokens, &mut sums);
        }
        store_sums::<O, P, A, R>(&sums, to);
    }
}

/// The products of some words, of which `tokens` are those of x.
#[inline(always)]
fn words<'x, O: Int, const P: usize, const A: usize, const R: usize>(
    isa: IsaOf<O>,
    x: &Steps<'_, O>,
    rows: &Rows<'_, R, P>,
    tokens: impl Iterator<Item = &'x [Lanes<O>; A]>,
    to: &mut [[[V<O>; P]; A]; R],
) {
    let mut sums = *to;
    for ((i, word), tokens) in x.words.clone().enumerate().zip(tokens) {
        if i * LINE < x.ahead.len() {
            prefetch(x.ahead, i * LINE);
        }
        multiply::<O, P, A, R>(isa, rows, tokens, word, &mut sums);
    }
    *to = sums;
}

/// The same with multipliers, one for eight words.
pub(crate) const fn multiplied<O: Int, const P: usize, const A: usize, const R: usize>()
-> Microkernel<O> {
    const { assert!(A * R * P <= 24 && MC.is_multiple_of(R)) };
    let run: fn(IsaOf<O>, &Steps<'_, O>, &mut Accumulators<O>) =
        |isa, x, to| isa.run(Multiplied::<O, P, A, R> { x, to });
    Microkernel { vectors: A, rows: R, run }
}

struct Multiplied<'a, O: Int, const P: usize, const A: usize, const R: usize> {
    x: &'a Steps<'a, O>,
    to: &'a mut Accumulators<O>,
}

impl<O: Int, const P: usize, const A: usize, const R: usize> Task<IsaOf<O>>
    for Multiplied<'_, O, P, A, R>
{
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Self { x, to } = self;
        let rows = Rows::<R, P>::of::<O>(x.panel, x.row);
        let mut sums = [[[O::Sums::zero(isa); P]; A]; R];
        for part in x.words.start / MULTIPLIED_WORDS..x.words.end.div_ceil(MULTIPLIED_WORDS) {
            let mut parts = [[[O::Sums::zero(isa); P]; A]; R];
            start_sums::<O, P, A, R>(isa, x.panel, (x.row, x.starts, part), &mut parts);
            let words = x.x[part * MULTIPLIED_WORDS * x.pitch..].chunks_exact(x.pitch);
            for (word, tokens) in words.take(MULTIPLIED_WORDS).enumerate() {
                let Some(tokens) = tokens[x.at..].first_chunk::<A>() else { break };
                let word = part * MULTIPLIED_WORDS + word;
                multiply::<O, P, A, R>(isa, &rows, tokens, word, &mut parts);
            }
            for a in 0..A {
                let multiplier = O::Sums::load(isa, &x.multipliers[part * x.pitch + x.at + a]);
                for r in 0..R {
                    for p in 0..P {
                        let sum = &mut sums[r][a][p];
                        *sum = O::Sums::multiply_add(isa, *sum, parts[r][a][p], multiplier);
                    }
                }
            }
        }
        store_sums::<O, P, A, R>(&sums, to);
    }
}

#[inline(always)]
fn store_sums<O: Int, const P: usize, const A: usize, const R: usize>(
    sums: &[[[V<O>; P]; A]; R],
    to: &mut Accumulators<O>,
) {
    for r in 0..R {
        for a in 0..A {
            for p in 0..P {
                to[(r * A + a) * P + p] = sums[r][a][p];
            }
        }
    }
}

/// The planes and signs of some rows of a panel.
pub(super) struct Rows<'a, const R: usize, const P: usize> {
    planes: [[&'a PanelRow; P]; R],
    /// The last plane where there are none.
    signs: [&'a PanelRow; R],
}

impl<'a, const R: usize, const P: usize> Rows<'a, R, P> {
    #[inline(always)]
    pub fn of<O: Int>(panel: &Panel<'a>, row: usize) -> Self {
        let pitch = Panel::pitch(P, O::OPERAND);
        let mut rows = Self { planes: [[&panel.rows[0]; P]; R], signs: [&panel.rows[0]; R] };
        for r in 0..R {
            let planes = &panel.rows[(row + r) * pitch..][..pitch];
            for p in 0..P {
                rows.planes[r][p] = &planes[p];
            }
            rows.signs[r] = &planes[pitch - 1];
        }
        rows
    }
}

/// Sums of tokens for a few rows, where they start: row, starts in a row, which of them.
#[inline(always)]
pub(super) fn start_sums<O: Int, const P: usize, const A: usize, const R: usize>(
    isa: IsaOf<O>,
    panel: &Panel<'_>,
    (row, starts, start): (usize, usize, usize),
    sums: &mut [[[V<O>; P]; A]; R],
) {
    if Panel::pitch(P, O::OPERAND) == P {
        return;
    }
    for r in 0..R {
        for p in 0..P {
            let start = panel.compensation[((row + r) * starts + start) * P + p];
            for a in 0..A {
                sums[r][a][p] = O::Sums::splat(isa, start as u32);
            }
        }
    }
}

/// The products of a word of some rows and vectors of tokens.
#[inline(always)]
pub(super) fn multiply<O: Int, const P: usize, const A: usize, const R: usize>(
    isa: IsaOf<O>,
    rows: &Rows<'_, R, P>,
    x: &[Lanes<O>; A],
    word: usize,
    sums: &mut [[[V<O>; P]; A]; R],
) {
    let mut tokens = [O::Sums::zero(isa); A];
    for a in 0..A {
        tokens[a] = O::Sums::load(isa, &x[a]);
    }
    for r in 0..R {
        let mut weights = [O::Sums::zero(isa); P];
        for p in 0..P {
            weights[p] = O::Sums::splat(isa, rows.planes[r][p][word]);
        }
        let sign = O::Sums::splat(isa, rows.signs[r][word]);
        for a in 0..A {
            O::madd(isa, &mut sums[r][a], &weights, sign, tokens[a]);
        }
    }
}
