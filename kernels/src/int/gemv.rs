//! gemv: lanes run along k, sums are exact.
//!
//! Computes `out[(g·tokens + t)·stride + r] = Σ_k X[t,k] · (±L[code])` exactly, for all rows, the sum of each group g of
//! columns for itself. Each (row, vector of limbs, plane) has a vector of i32 sums, so that what a lane holds does not
//! depend on the number of planes; at the end of a group, and after `FLUSH_LINES` lines, they are added up and widened.
//! Being exact, the sum does not depend on any of that. Bound by memory, in cache by decoding.

use std::ops::Range;

use super::{Decoder, GemvX, Int, IsaOf, Loops, Operand, Sums, V, Weights};
use crate::isa::{Isa, Task};
use crate::prefetch::Ahead;
use crate::weights::{LINE, Row, Tail};

/// Vectors of x from which on rows are decoded first and then share what is loaded of x. With fewer, that
/// cost more in registers than it saved in loads.
const SHARED: usize = 4;

/// Groups of columns that share a call of the loop over lines, if they are short. Not tuned: other numbers were not tried.
const BATCH: usize = 4;

/// A gemv loop for some vectors of limbs at a time.
#[derive(Clone, Copy)]
pub(crate) struct Gemv {
    /// Tokens times limbs.
    pub vectors: usize,
    /// Works on as many tokens as these vectors are, from the given one on.
    pub run: unsafe fn(&Weights<'_>, &GemvX<'_>, usize, &mut [i64], usize),
}

/// The loop for a decoder of P planes, R rows side by side, and N vectors.
const fn gemv<O: Int, D: Decoder<O, P>, const P: usize, const R: usize, const N: usize>() -> Gemv {
    /// # Safety
    /// The CPU has the features of the operand's ISA.
    unsafe fn run<O: Int, D: Decoder<O, P>, const P: usize, const R: usize, const N: usize>(
        w: &Weights<'_>,
        x: &GemvX<'_>,
        token: usize,
        out: &mut [i64],
        stride: usize,
    ) {
        // SAFETY: the caller's promise.
        let isa = unsafe { IsaOf::<O>::assume() };
        let (lookups, lines) = (if D::LOOKUP { P } else { 0 }, lines::<O, D, P, R, N>);
        isa.run(Rows::<O, P, R, N> { w, x, token, out, stride, lookups, lines });
    }
    Gemv { vectors: N, run: run::<O, D, P, R, N> }
}

/// Four vectors of x at a time: 24 KiB of them stay in L1 where k is 3,072. Tables of two bytes are decoded for eight.
/// Not more than 16 products of a line of all rows and vectors, or the compiler leaves a loop over sums in memory.
impl<O: Int, D: Decoder<O, 1>> Loops<D, 1> for O {
    const GEMV: &'static [Gemv] = match O::OPERAND {
        Operand::U8I8 => &[
            gemv::<O, D, 1, 4, 4>(),
            gemv::<O, D, 1, 4, 3>(),
            gemv::<O, D, 1, 4, 2>(),
            gemv::<O, D, 1, 4, 1>(),
        ],
        Operand::I16 => {
            &[gemv::<O, D, 1, 2, 4>(), gemv::<O, D, 1, 4, 2>(), gemv::<O, D, 1, 4, 1>()]
        }
    };
}

impl<O: Int, D: Decoder<O, 2>> Loops<D, 2> for O {
    const GEMV: &'static [Gemv] = match O::OPERAND {
        Operand::U8I8 => &[
            gemv::<O, D, 2, 1, 8>(),
            gemv::<O, D, 2, 2, 4>(),
            gemv::<O, D, 2, 2, 3>(),
            gemv::<O, D, 2, 4, 2>(),
            gemv::<O, D, 2, 4, 1>(),
        ],
        Operand::I16 => {
            &[gemv::<O, D, 2, 1, 4>(), gemv::<O, D, 2, 2, 2>(), gemv::<O, D, 2, 4, 1>()]
        }
    };
}

impl<O: Int, D: Decoder<O, 3>> Loops<D, 3> for O {
    const GEMV: &'static [Gemv] = match O::OPERAND {
        Operand::U8I8 => {
            &[gemv::<O, D, 3, 1, 3>(), gemv::<O, D, 3, 2, 2>(), gemv::<O, D, 3, 4, 1>()]
        }
        Operand::I16 => &[gemv::<O, D, 3, 1, 2>(), gemv::<O, D, 3, 2, 1>()],
    };
}

/// The loop over lines, of a decoder.
type LinesFn<O, const P: usize, const R: usize, const N: usize> =
    fn(IsaOf<O>, &Lines<'_, '_, O, R>, &mut [[[[V<O>; P]; N]; R]]);

/// The loop over rows and groups, which knows no decoder.
struct Rows<'a, O: Int, const P: usize, const R: usize, const N: usize> {
    w: &'a Weights<'a>,
    x: &'a GemvX<'a>,
    token: usize,
    out: &'a mut [i64],
    stride: usize,
    lookups: usize,
    lines: LinesFn<O, P, R, N>,
}

impl<O: Int, const P: usize, const R: usize, const N: usize> Task<IsaOf<O>>
    for Rows<'_, O, P, R, N>
{
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Self { w, x, token, out, stride, lookups, lines: multiply } = self;
        let regs = O::load(isa, w.table, lookups);
        let (rows, lines, full) = (w.codes.rows(), w.codes.lines(), w.codes.full_lines());
        let weights = x.limbs.weights;
        // Vectors of x in a line, of which N are done here.
        let vectors = x.tokens * weights.len();
        let x_lines: &[[O::Limb; LINE]] = bytemuck::cast_slice::<u8, O::Limb>(x.x).as_chunks().0;
        let x_lines = &x_lines[token * weights.len()..];
        // Short groups are done some at a time. Where sums have to be widened within one, it is alone.
        let groups = lines.div_ceil(w.group_lines);
        let batch = (O::FLUSH_LINES / w.group_lines).clamp(1, BATCH);
        let piece = if batch > 1 { batch * w.group_lines } else { O::FLUSH_LINES };
        let mut sums = [[[[O::Sums::zero(isa); P]; N]; R]; BATCH];
        let mut totals = [[[0i64; R]; N]; BATCH];
        for first in (0..rows).step_by(R) {
            let mut tails = [Tail::EMPTY; R];
            let mut whole = [Row::default(); R];
            let mut rest = [Row::default(); R];
            for r in 0..R {
                let row = (first + r).min(rows - 1);
                whole[r] = w.codes.row(row);
                if full < lines {
                    tails[r] = w.codes.tail(row, 0);
                }
            }
            for (rest, tail) in rest.iter_mut().zip(&tails) {
                *rest = tail.row(w.codes.signs.is_some());
            }
            let ahead = Ahead::of(&w.codes, first..first + R, full);
            for group in (0..groups).step_by(batch) {
                let count = batch.min(groups - group);
                let (sums, totals) = (&mut sums[..count], &mut totals[..count]);
                totals.fill([[0; R]; N]);
                let from = group * w.group_lines;
                let to = lines.min(from + count * w.group_lines);
                for block in (from..to).step_by(piece) {
                    sums.fill([[[O::Sums::zero(isa); P]; N]; R]);
                    let end = to.min(block + piece);
                    let lines = block..end.min(full);
                    let (x, group) = (x_lines, w.group_lines);
                    let part = Lines { regs: &regs, rows: &whole, x, vectors, lines, group, ahead };
                    multiply(isa, &part, sums);
                    if end > full {
                        let (x, lines, group) = (&x_lines[full * vectors..], 0..1, 1);
                        let (rows, ahead) = (&rest, Ahead::NOTHING);
                        let part = Lines { regs: &regs, rows, x, vectors, lines, group, ahead };
                        multiply(isa, &part, &mut sums[count - 1..]);
                    }
                    for (totals, sums) in totals.iter_mut().zip(sums.iter()) {
                        add_sums::<O, P, R, N>(isa, totals, sums, weights);
                    }
                }
                for (g, totals) in totals.iter().enumerate() {
                    for (t, totals) in totals.iter().enumerate().take(N / weights.len()) {
                        let at = (group + g) * x.tokens + token + t;
                        let out = &mut out[at * stride + first..];
                        match out.first_chunk_mut::<R>() {
                            Some(out) if rows - first >= R => *out = *totals,
                            _ => out[..rows - first].copy_from_slice(&totals[..rows - first]),
                        }
                    }
                }
            }
        }
    }
}

/// Some lines of R rows, and x.
struct Lines<'a, 'r, O: Int, const R: usize> {
    regs: &'a O::Regs<'r>,
    rows: &'a [Row<'a>; R],
    /// A line's vectors begin `vectors` after those of the line before.
    x: &'a [[O::Limb; LINE]],
    vectors: usize,
    lines: Range<usize>,
    /// Lines of a group, which has sums of its own.
    group: usize,
    ahead: Ahead<'a>,
}

/// The products of some lines of R rows with N vectors of limbs, added to the sums of groups.
fn lines<O: Int, D: Decoder<O, P>, const P: usize, const R: usize, const N: usize>(
    isa: IsaOf<O>,
    part: &Lines<'_, '_, O, R>,
    to: &mut [[[[V<O>; P]; N]; R]],
) {
    isa.run(Multiply::<O, D, P, R, N> { part, to, decoder: std::marker::PhantomData });
}

struct Multiply<'a, 'r, O: Int, D, const P: usize, const R: usize, const N: usize> {
    part: &'a Lines<'a, 'r, O, R>,
    to: &'a mut [[[[V<O>; P]; N]; R]],
    decoder: std::marker::PhantomData<D>,
}

impl<O: Int, D: Decoder<O, P>, const P: usize, const R: usize, const N: usize> Task<IsaOf<O>>
    for Multiply<'_, '_, O, D, P, R, N>
{
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Lines { regs, rows, x, vectors, lines, group, ahead } = self.part;
        // As long as each other, so that no index is checked in the loop: the branches cost less than
        // what they kept the compiler from, which had sums and x in memory between the rows.
        let mut these = [Row::default(); R];
        for (these, rows) in these.iter_mut().zip(*rows) {
            these.codes = &rows.codes[lines.clone()];
            these.signs = if D::SIGNED { &rows.signs[lines.clone()] } else { &[] };
        }
        let x = &x[lines.start * vectors..];
        let mut begin = 0;
        for to in self.to {
            let end = these[0].codes.len().min(begin + group);
            let mut sums = *to;
            for i in begin..end {
                let x = x.get(i * vectors..).and_then(|x| x.first_chunk::<N>());
                let Some(x) = x else { break };
                let line = lines.start + i;
                if D::SIGNED {
                    ahead.signs(line);
                }
                let offset = ahead.offset(line);
                let mut weights: [Option<O::Line<P>>; R] = [None; R];
                for r in 0..R {
                    ahead.codes(offset, r);
                    let signs = if D::SIGNED { u64::from_le_bytes(these[r].signs[i]) } else { 0 };
                    let decoded = D::decode(isa, regs, &these[r].codes[i], signs);
                    if N < SHARED {
                        for n in 0..N {
                            O::dot(isa, &decoded, &x[n], &mut sums[r][n]);
                        }
                    } else {
                        weights[r] = Some(decoded);
                    }
                }
                if N >= SHARED {
                    // Rows share what is loaded of x.
                    for n in 0..N {
                        for r in 0..R {
                            if let Some(weights) = &weights[r] {
                                O::dot(isa, weights, &x[n], &mut sums[r][n]);
                            }
                        }
                    }
                }
            }
            *to = sums;
            begin = end;
        }
    }
}

/// Adds the lanes of sums to the totals of rows, by tokens. Rows are side by side: four of their sums
/// make one vector of lanes.
///
/// The parts of a product, limb by limb and plane by plane, have magnitudes that add up to no more
/// than the largest X times the largest L: so i64 holds totals on the way, in any order, wherever it
/// holds k of those (the driver's limit of k).
#[inline(always)]
fn add_sums<O: Int, const P: usize, const R: usize, const N: usize>(
    isa: IsaOf<O>,
    totals: &mut [[i64; R]; N],
    sums: &[[[V<O>; P]; N]; R],
    weights: &[i64],
) {
    let mut vectors = [[[O::Sums::zero(isa); R]; P]; N];
    for (r, sums) in sums.iter().enumerate() {
        for (vectors, sums) in vectors.iter_mut().zip(sums) {
            for (vectors, sum) in vectors.iter_mut().zip(sums) {
                vectors[r] = *sum;
            }
        }
    }
    let mut lanes = [[[0; R]; P]; N];
    let (fours, rest) = lanes.as_flattened_mut().as_flattened_mut().as_chunks_mut::<4>();
    let (four_sums, rest_sums) = vectors.as_flattened().as_flattened().as_chunks::<4>();
    for (lanes, sums) in fours.iter_mut().zip(four_sums) {
        *lanes = O::sum4(isa, *sums);
    }
    for (lanes, sums) in rest.iter_mut().zip(rest_sums) {
        *lanes = O::sum(isa, *sums);
    }
    // Where there are several limbs, what each stands for: few CPUs multiply vectors of i64, so one limb is not
    // multiplied.
    if weights.len() == 1 {
        for (totals, planes) in totals.iter_mut().zip(&lanes) {
            for (r, total) in totals.iter_mut().enumerate() {
                *total += join(planes, r);
            }
        }
        return;
    }
    for (totals, limbs) in totals.iter_mut().zip(lanes.chunks(weights.len())) {
        for (planes, weight) in limbs.iter().zip(weights) {
            for (r, total) in totals.iter_mut().enumerate() {
                *total += join(planes, r) * weight;
            }
        }
    }
}

/// The sum of a row's planes.
#[inline(always)]
fn join<const P: usize, const R: usize>(planes: &[[i64; R]; P], r: usize) -> i64 {
    let mut sum = 0;
    for plane in planes.iter().rev() {
        sum = (sum << 8) + plane[r];
    }
    sum
}
