//! gemv: lanes run along k. One pass over the weights for a few tokens.
//!
//! Computes `out[t·stride + r] = scale · Σ_k x[t,k]·W[r,k]` for all rows. Bound by memory, in cache by decoding.

use std::marker::PhantomData;

use super::{Decoder, Float, GemvX, Groups, LineOrder, Weights};
use crate::isa::{Isa, Task};
use crate::prefetch::{Ahead, prefetch};
use crate::weights::{LINE, Row, Tail};

/// The layouts of scales as compile-time choice: one a row, by lines, by quarters of a line.
pub(crate) const WHOLE: u8 = 0;
pub(crate) const LINES: u8 = 1;
pub(crate) const QUARTERS: u8 = 2;

/// A gemv loop for some tokens at a time.
#[derive(Clone, Copy)]
pub(crate) struct Gemv {
    pub tokens: usize,
    /// Works on a block of tokens, from the given one on.
    pub run: unsafe fn(&Weights<'_>, &GemvX<'_>, usize, &mut [f32], usize),
}

/// The loop for a decoder, a layout of scales, R rows side by side, of which B are decoded before they are
/// multiplied, and T tokens.
pub(crate) const fn gemv<
    O: Float,
    D: Decoder<O>,
    const G: u8,
    const R: usize,
    const B: usize,
    const T: usize,
>() -> Gemv {
    /// # Safety
    /// The CPU has the features of `O::Isa`.
    unsafe fn run<
        O: Float,
        D: Decoder<O>,
        const G: u8,
        const R: usize,
        const B: usize,
        const T: usize,
    >(
        w: &Weights<'_>,
        x: &GemvX<'_>,
        token: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        // SAFETY: the caller's promise.
        let isa = unsafe { O::Isa::assume() };
        let kind = PhantomData::<(O, D)>;
        isa.run(Rows::<O, D, G, R, B, T> { w, x, token, out, stride, kind });
    }
    Gemv { tokens: T, run: run::<O, D, G, R, B, T> }
}

struct Rows<'a, O, D, const G: u8, const R: usize, const B: usize, const T: usize> {
    w: &'a Weights<'a>,
    x: &'a GemvX<'a>,
    token: usize,
    out: &'a mut [f32],
    stride: usize,
    kind: PhantomData<(O, D)>,
}

/// R rows side by side, because one row at a time keeps too few loads in flight to draw what
/// memory gives, and because R·T sums hide the latency of the FMA. Each (row, token) has one vector
/// of sums to which lines are added in order, whatever R and T are: so the order of a sum depends
/// on k alone. Rows beyond the last are the last row again and are not stored.
impl<O: Float, D: Decoder<O>, const G: u8, const R: usize, const B: usize, const T: usize>
    Task<O::Isa> for Rows<'_, O, D, G, R, B, T>
{
    #[inline(always)]
    fn run(self, isa: O::Isa) {
        let Self { w, x, token, out, stride, .. } = self;
        let regs = D::load(isa, w.table);
        let (codes, tokens) = (&w.codes, x.tokens);
        let (rows, lines, full) = (codes.rows(), codes.lines(), codes.full_lines());
        let index = Index::new(&w.scales.groups, lines);
        let x: &[[f32; LINE]] = x.x.as_chunks().0;
        for first in (0..rows).step_by(R) {
            let mut group = RowGroup::<R> {
                rows: [Row::default(); R],
                scales: [&[]; R],
                ahead: Ahead::of(codes, first..first + R, full),
            };
            let mut tails = [Tail::EMPTY; R];
            for r in 0..R {
                let row = (first + r).min(rows - 1);
                group.scales[r] = w.scales.row(row);
                if full < lines {
                    tails[r] = codes.tail(row, w.table.pad);
                }
            }
            let next_scales = w.scales.offset(first + R) * size_of::<f32>();
            let mut sums = [[O::zero(isa); T]; R];
            // All full lines, then the padded ones: one loop, compiled once.
            for tail in [false, true] {
                let (start, count) = if tail { (full, lines - full) } else { (0, full) };
                if count == 0 {
                    continue;
                }
                for r in 0..R {
                    let row = match tail {
                        true => tails[r].row(D::SIGNED),
                        false => codes.row((first + r).min(rows - 1)),
                    };
                    // As long as each other, so that no index is checked in the loop: see below.
                    group.rows[r].codes = &row.codes[..count];
                    if D::SIGNED {
                        group.rows[r].signs = &row.signs[..count];
                    }
                }
                let x = x[start * tokens..].chunks_exact(tokens).take(count);
                for (i, x) in x.enumerate() {
                    let Some(x) = x[token..].first_chunk::<T>() else { break };
                    let line = start + i;
                    if D::SIGNED {
                        group.ahead.signs(line);
                    }
                    if G == QUARTERS {
                        // Scales of groups of 32 are as many lines as codes of eight rows are.
                        prefetch(bytemuck::cast_slice(w.scales.values), next_scales + line * LINE);
                    }
                    // Found before anything is decoded: an index that is checked between the rows keeps the
                    // compiler from having sums in registers (AVX2 with signs: 1.4 to 1.75 times the time). Those of
                    // quarters are too many for that (AVX-512: a sixth more goes through memory).
                    let mut line_scale = [0.0; R];
                    if G == LINES {
                        for r in 0..R {
                            line_scale[r] = group.scales[r][index.lines[line] as usize];
                        }
                    }
                    let at = Line { i, line, ahead: group.ahead.offset(line), scale: &line_scale };
                    if D::UNROLLED {
                        // The compiler would rather have a loop over the rows, with sums in memory and an instruction
                        // in five for the loop.
                        const { assert!(R / B <= 8) };
                        block::<O, D, G, R, B, T>(isa, &regs, &group, &index, &at, 0, x, &mut sums);
                        block::<O, D, G, R, B, T>(isa, &regs, &group, &index, &at, B, x, &mut sums);
                        block::<O, D, G, R, B, T>(
                            isa,
                            &regs,
                            &group,
                            &index,
                            &at,
                            2 * B,
                            x,
                            &mut sums,
                        );
                        block::<O, D, G, R, B, T>(
                            isa,
                            &regs,
                            &group,
                            &index,
                            &at,
                            3 * B,
                            x,
                            &mut sums,
                        );
                        block::<O, D, G, R, B, T>(
                            isa,
                            &regs,
                            &group,
                            &index,
                            &at,
                            4 * B,
                            x,
                            &mut sums,
                        );
                        block::<O, D, G, R, B, T>(
                            isa,
                            &regs,
                            &group,
                            &index,
                            &at,
                            5 * B,
                            x,
                            &mut sums,
                        );
                        block::<O, D, G, R, B, T>(
                            isa,
                            &regs,
                            &group,
                            &index,
                            &at,
                            6 * B,
                            x,
                            &mut sums,
                        );
                        block::<O, D, G, R, B, T>(
                            isa,
                            &regs,
                            &group,
                            &index,
                            &at,
                            7 * B,
                            x,
                            &mut sums,
                        );
                    } else {
                        for r in (0..R).step_by(B) {
                            block::<O, D, G, R, B, T>(
                                isa, &regs, &group, &index, &at, r, x, &mut sums,
                            );
                        }
                    }
                }
            }
            // A copy, so that what is rolled from here on doesn't keep the loop above from having
            // its sums in registers.
            let ends = sums;
            for r in 0..R.min(rows - first) {
                let scale = if G == WHOLE { group.scales[r][0] } else { 1.0 };
                for t in 0..T {
                    let sum = O::sum(isa, ends[r][t]) * D::UNIT * scale;
                    out[(token + t) * stride + first + r] = sum;
                }
            }
        }
    }
}

/// Rows side by side.
struct RowGroup<'a, const R: usize> {
    rows: [Row<'a>; R],
    scales: [&'a [f32]; R],
    ahead: Ahead<'a>,
}

/// Where the loop is.
struct Line<'a, const R: usize> {
    /// The line, of those at hand and of all.
    i: usize,
    line: usize,
    /// What to prefetch; see [`Ahead::offset`].
    ahead: usize,
    /// Of each row, where scales are by lines.
    scale: &'a [f32; R],
}

/// Decodes a line of B rows from `first` on and adds its products; nothing beyond R rows.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "what is a struct is not taken apart into registers by the compiler"
)]
fn block<O: Float, D: Decoder<O>, const G: u8, const R: usize, const B: usize, const T: usize>(
    isa: O::Isa,
    regs: &D::Regs<'_>,
    group: &RowGroup<'_, R>,
    index: &Index<'_>,
    at: &Line<'_, R>,
    first: usize,
    x: &[[f32; LINE]; T],
    sums: &mut [[O::V; T]; R],
) {
    if first >= R {
        return;
    }
    let mut weights = [O::zero_line(isa); B];
    let mut scales = [LineScale::<O, D>::new::<WHOLE>(isa, 0.0, index, &[], 0); B];
    for b in 0..B {
        let r = first + b;
        group.ahead.codes(at.ahead, r);
        let signs = if D::SIGNED { u64::from_le_bytes(group.rows[r].signs[at.i]) } else { 0 };
        weights[b] = D::decode(isa, regs, &group.rows[r].codes[at.i], signs);
        scales[b] = LineScale::<O, D>::new::<G>(isa, at.scale[r], index, group.scales[r], at.line);
    }
    for t in 0..T {
        for b in 0..B {
            let sum = &mut sums[first + b][t];
            *sum = dot_line::<O, D, G>(isa, *sum, &weights[b], &x[t], &scales[b]);
        }
    }
}

/// The scales of a line of a row.
struct LineScale<O: Float, D: Decoder<O>> {
    line: O::V,
    quarters: <D::Order as LineOrder<O>>::Classes,
}

impl<O: Float, D: Decoder<O>> Clone for LineScale<O, D> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<O: Float, D: Decoder<O>> Copy for LineScale<O, D> {}

impl<O: Float, D: Decoder<O>> LineScale<O, D> {
    #[inline(always)]
    fn new<const G: u8>(
        isa: O::Isa,
        scale: f32,
        index: &Index<'_>,
        row: &[f32],
        line: usize,
    ) -> Self {
        let mut quarters = [0.0; 4];
        if G == QUARTERS {
            let at = index.quarters[line];
            for q in 0..4 {
                quarters[q] = row[at[q] as usize];
            }
        }
        Self { line: O::splat(isa, scale), quarters: D::Order::classes(isa, quarters) }
    }
}

/// Adds the products of a line to a vector of sums.
#[inline(always)]
fn dot_line<O: Float, D: Decoder<O>, const G: u8>(
    isa: O::Isa,
    mut sum: O::V,
    weights: &O::Line,
    x: &[f32; LINE],
    scale: &LineScale<O, D>,
) -> O::V {
    let x: &[O::Lanes] = bytemuck::cast_slice(x);
    let weights = weights.as_ref();
    if G == WHOLE {
        for p in 0..weights.len() {
            sum = O::fma(isa, weights[p], O::load(isa, &x[p]), sum);
        }
        return sum;
    }
    // Vectors of one class have one vector of scales: their products are added first.
    let quarters = scale.quarters.as_ref();
    let classes = if G == LINES { 1 } else { quarters.len() };
    let run = weights.len() / classes;
    for class in 0..classes {
        let first = class * run;
        let mut part = O::mul(isa, weights[first], O::load(isa, &x[first]));
        for p in first + 1..first + run {
            part = O::fma(isa, weights[p], O::load(isa, &x[p]), part);
        }
        let by = if G == LINES { scale.line } else { quarters[class] };
        sum = O::fma(isa, part, by, sum);
    }
    sum
}

/// The indices of a row's scales, taken out of their enum so that no loop has to look there.
pub(super) struct Index<'a> {
    pub lines: &'a [u32],
    pub quarters: &'a [[u32; 4]],
}

impl<'a> Index<'a> {
    #[inline(always)]
    pub fn new(groups: &Groups<'a>, lines: usize) -> Self {
        match *groups {
            Groups::Whole => Self { lines: &[], quarters: &[] },
            Groups::Lines(index) => Self { lines: &index[..lines], quarters: &[] },
            Groups::Quarters(index) => Self { lines: &[], quarters: &index[..lines] },
        }
    }
}
