//! The row shape of integer modes: lanes run along k, sums are exact.

/// Stamps the integer row kernel out of the primitives in scope: `WORDS`, `FLUSH`, `I`, `Limb`,
/// `IntRegs`, `IntLine`, `int_zero`, `int_sum`, `int_sum4`, `load_image`, `int_decode`, `dot`, `AHEAD`.
///
/// Computes `out[(g·tokens + t)·stride + r] = Σ_k X[t,k] · (±L[code])` exactly, for all rows of a portion,
/// the sum of each group g of columns for itself. Each (row, vector of limbs, plane) has a vector of i32
/// sums, so that what a lane holds does not depend on the number of planes; at the end of a group, and
/// after `FLUSH` lines, they are added up and widened. Being exact, the sum does not depend on any of that.
macro_rules! int_row_kernel {
    ($($feature:tt)*) => {
        use crate::int::{IntPortion, IntRowInput};
        use crate::prefetch::prefetch;
        use crate::int_row::{Ahead, BATCH, NOTHING_AHEAD, RowLines, SHARED, row_tail};
        use std::ops::Range;

        $(#[target_feature(enable = $feature)])*
        fn int_row_loop<const D: u8, const SIGNED: bool, const P: usize, const R: usize, const N: usize>(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            token: usize,
            out: &mut [i64],
            stride: usize,
        ) {
            let image = load_image::<D, P>(w.image);
            let (rows, lines) = (w.rows(), w.lines());
            let weights = x.limbs.weights;
            // Vectors of x in a line, of which N are done here.
            let vectors = x.tokens * weights.len();
            let x_lines: &[[Limb; LINE]] = bytemuck::cast_slice::<u8, Limb>(x.x).as_chunks().0;
            let x_lines = &x_lines[token * weights.len()..];
            // A last, partial line is read in full where the row goes on: x is zero there.
            let full = ((w.stride - w.first) / LINE).min(lines);
            // Short groups are done some at a time. Where sums have to be widened within one, it is alone.
            let groups = lines.div_ceil(w.group_lines);
            let batch = (FLUSH / w.group_lines).clamp(1, BATCH);
            let piece = if batch > 1 { batch * w.group_lines } else { FLUSH };
            let mut sums = [[[[int_zero(); P]; N]; R]; BATCH];
            let mut totals = [[[0i64; R]; N]; BATCH];
            for first in (0..rows).step_by(R) {
                let mut tails = [([[0; LINE]; 1], [[0; 8]; 1]); R];
                let mut whole = [RowLines::default(); R];
                for (r, (tail, whole)) in tails.iter_mut().zip(&mut whole).enumerate() {
                    let row = (first + r).min(rows - 1);
                    *whole = RowLines::of(w, row, 0..full);
                    if full < lines {
                        *tail = row_tail(w, row, full);
                    }
                }
                let ahead = Ahead::of(w, first..first + R, full, AHEAD);
                for group in (0..groups).step_by(batch) {
                    let count = batch.min(groups - group);
                    let (sums, totals) = (&mut sums[..count], &mut totals[..count]);
                    totals.fill([[0; R]; N]);
                    let from = group * w.group_lines;
                    let to = lines.min(from + count * w.group_lines);
                    for block in (from..to).step_by(piece) {
                        sums.fill([[[int_zero(); P]; N]; R]);
                        let end = to.min(block + piece);
                        let these = (block..end.min(full), w.group_lines);
                        let x = (x_lines, vectors);
                        int_lines::<D, SIGNED, P, R, N>(&image, &whole, x, these, ahead, sums);
                        if end > full {
                            let mut rest = [RowLines::default(); R];
                            for (lines, (codes, signs)) in rest.iter_mut().zip(&tails) {
                                *lines = RowLines { codes, signs: w.signs.map_or(&[], |_| signs) };
                            }
                            let x = (&x_lines[full * vectors..], vectors);
                            let last = &mut sums[count - 1..];
                            int_lines::<D, SIGNED, P, R, N>(
                                &image, &rest, x, (0..1, 1), NOTHING_AHEAD, last,
                            );
                        }
                        for (totals, sums) in totals.iter_mut().zip(sums.iter()) {
                            int_add_sums(totals, sums, weights);
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

        /// The products of some lines of R rows with N vectors of limbs, added to the sums of groups of so many
        /// lines. In x a line's vectors begin `vectors` after those of the line before.
        ///
        /// Never inlined: with anything around it the compiler has other values in registers, and sums
        /// in memory.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_lines<
            const D: u8,
            const SIGNED: bool,
            const P: usize,
            const R: usize,
            const N: usize,
        >(
            image: &IntRegs,
            rows: &[RowLines<'_>; R],
            (x, vectors): (&[[Limb; LINE]], usize),
            (lines, group): (Range<usize>, usize),
            ahead: Ahead<'_>,
            to: &mut [[[[I; P]; N]; R]],
        ) {
            // As long as each other, so that no index is checked in the loop: the branches cost less than
            // what they kept the compiler from, which had sums and x in memory between the rows.
            let mut these = [RowLines::default(); R];
            for (these, rows) in these.iter_mut().zip(rows) {
                these.codes = &rows.codes[lines.clone()];
                these.signs = if SIGNED { &rows.signs[lines.clone()] } else { &[] };
            }
            let x = &x[lines.start * vectors..];
            let mut begin = 0;
            for to in to {
                let end = these[0].codes.len().min(begin + group);
                let mut sums = *to;
                for i in begin..end {
                    let x = x.get(i * vectors..).and_then(|x| x.first_chunk::<N>());
                    let Some(x) = x else { break };
                    let line = lines.start + i;
                    if SIGNED {
                        prefetch(ahead.signs, ahead.next_signs + line * LINE);
                    }
                    // Rows end: what is ahead is then the next group of rows.
                    let base = if line < ahead.turn { ahead.before } else { ahead.after };
                    let codes_ahead = base.wrapping_add(line * LINE);
                    let mut weights: [Option<IntLine<P>>; R] = [None; R];
                    for r in 0..R {
                        prefetch(ahead.codes, codes_ahead.wrapping_add(r * ahead.stride));
                        let signs = if SIGNED { u64::from_le_bytes(these[r].signs[i]) } else { 0 };
                        let decoded = int_decode::<D, SIGNED, P>(image, &these[r].codes[i], signs);
                        if N < SHARED {
                            for n in 0..N {
                                dot(&decoded, &x[n], &mut sums[r][n]);
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
                                    dot(weights, &x[n], &mut sums[r][n]);
                                }
                            }
                        }
                    }
                }
                *to = sums;
                begin = end;
            }
        }

        /// Adds the lanes of sums to the totals of rows, by tokens. Rows are side by side: four of their sums
        /// make one vector of lanes.
        ///
        /// The parts of a product, limb by limb and plane by plane, have magnitudes that add up to no more
        /// than the largest X times the largest L: so i64 holds totals on the way, in any order, wherever it
        /// holds k of those (`Mode::max_k`).
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_add_sums<const P: usize, const R: usize, const N: usize>(
            totals: &mut [[i64; R]; N],
            sums: &[[[I; P]; N]; R],
            weights: &[i64],
        ) {
            let mut vectors = [[[int_zero(); R]; P]; N];
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
                *lanes = int_sum4(*sums);
            }
            for (lanes, sums) in rest.iter_mut().zip(rest_sums) {
                *lanes = int_sum(*sums);
            }
            // A limb's planes, and where there are several limbs what each stands for: few CPUs multiply
            // vectors of i64, so one limb is not multiplied.
            let limb = |planes: &[[i64; R]; P], r: usize| {
                planes.iter().rev().fold(0, |sum, plane| (sum << 8) + plane[r])
            };
            if weights.len() == 1 {
                for (totals, planes) in totals.iter_mut().zip(&lanes) {
                    for (r, total) in totals.iter_mut().enumerate() {
                        *total += limb(planes, r);
                    }
                }
                return;
            }
            for (totals, limbs) in totals.iter_mut().zip(lanes.chunks(weights.len())) {
                for (planes, weight) in limbs.iter().zip(weights) {
                    for (r, total) in totals.iter_mut().enumerate() {
                        *total += limb(planes, r) * weight;
                    }
                }
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn int_row_planes<const D: u8, const SIGNED: bool, const P: usize>(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            out: &mut [i64],
            stride: usize,
        ) {
            // Four vectors of x at a time: 24 KiB of them stay in L1 where k is 3,072. Tables of two bytes
            // are decoded for eight.
            // Tables of three as words: two, or sums would not fit the registers.
            let most = match P {
                2 if !WORDS => 8,
                3 if WORDS => 2,
                _ => 4,
            };
            let limbs = x.limbs.weights.len();
            let mut tokens = x.tokens;
            while tokens * limbs > most && tokens > 1 {
                tokens /= 2;
            }
            for token in (0..x.tokens).step_by(tokens) {
                // Products of a line and one vector; not more than 16 of all rows and vectors, or the
                // compiler leaves a loop over sums in memory.
                match (const { P * if WORDS { 2 } else { 1 } }, tokens * limbs) {
                    (6, 1) => int_row_loop::<D, SIGNED, P, 2, 1>(w, x, token, out, stride),
                    (6, 2) => int_row_loop::<D, SIGNED, P, 1, 2>(w, x, token, out, stride),
                    (_, 1) => int_row_loop::<D, SIGNED, P, 4, 1>(w, x, token, out, stride),
                    (1 | 2, 2) => int_row_loop::<D, SIGNED, P, 4, 2>(w, x, token, out, stride),
                    (_, 2) => int_row_loop::<D, SIGNED, P, 2, 2>(w, x, token, out, stride),
                    (1, 3) => int_row_loop::<D, SIGNED, P, 4, 3>(w, x, token, out, stride),
                    (2, 3) => int_row_loop::<D, SIGNED, P, 2, 3>(w, x, token, out, stride),
                    (3, 3) => int_row_loop::<D, SIGNED, P, 1, 3>(w, x, token, out, stride),
                    (1, 4) => int_row_loop::<D, SIGNED, P, 4, 4>(w, x, token, out, stride),
                    (2, 4) => int_row_loop::<D, SIGNED, P, 2, 4>(w, x, token, out, stride),
                    (_, 4) => int_row_loop::<D, SIGNED, P, 1, 4>(w, x, token, out, stride),
                    (2, 6) if P == 2 => int_row_loop::<D, SIGNED, P, 1, 6>(w, x, token, out, stride),
                    (2, 8) if P == 2 => int_row_loop::<D, SIGNED, P, 1, 8>(w, x, token, out, stride),
                    other => unreachable!("{other:?} vectors"),
                }
            }
        }
    };
}
pub(crate) use int_row_kernel;

use std::ops::Range;

use crate::int::IntPortion;
use crate::portion::LINE;

/// Vectors of x from which on rows are decoded first and then share what is loaded of x. With fewer, that
/// cost more in registers than it saved in loads.
pub(crate) const SHARED: usize = 4;

/// Groups of columns that share a call of the loop over lines, if they are short. Not tuned: other numbers were not tried.
pub(crate) const BATCH: usize = 4;

/// Some lines of a row.
#[derive(Clone, Copy, Default)]
pub(crate) struct RowLines<'a> {
    pub codes: &'a [[u8; LINE]],
    pub signs: &'a [[u8; 8]],
}

impl<'a> RowLines<'a> {
    /// Full lines of a portion's row.
    #[inline(always)]
    pub fn of(w: &IntPortion<'a>, row: usize, lines: Range<usize>) -> Self {
        let signs = match w.signs {
            Some(_) => &w.row_signs(row).as_chunks().0[lines.clone()],
            None => &[],
        };
        Self { codes: &w.row_codes(row).as_chunks().0[lines], signs }
    }
}

/// What is left of a row's codes and signs behind its full lines, zeros behind it.
#[inline(always)]
pub(crate) fn row_tail(
    w: &IntPortion<'_>,
    row: usize,
    full: usize,
) -> ([[u8; LINE]; 1], [[u8; 8]; 1]) {
    let (mut codes, mut signs) = ([0; LINE], [0; 8]);
    let rest = w.row_codes(row).as_chunks::<LINE>().1;
    codes[..rest.len()].copy_from_slice(rest);
    let rest = w.row_signs(row).get(8 * full..).unwrap_or(&[]);
    signs[..rest.len()].copy_from_slice(rest);
    ([codes], [signs])
}

/// What a loop over lines is to prefetch.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<'a> {
    /// Signs, and where those of the next group of rows are.
    pub signs: &'a [u8],
    pub next_signs: usize,
    pub codes: &'a [u8],
    /// Offset in `codes` of what is ahead of line 0, before the line `turn` and from then on.
    pub before: usize,
    pub after: usize,
    pub turn: usize,
    /// Distance of rows.
    pub stride: usize,
}

impl<'a> Ahead<'a> {
    /// Of some rows of that many lines, `distance` lines ahead: within the row, and when it has ended in
    /// the next group of rows.
    #[inline(always)]
    pub fn of(w: &IntPortion<'a>, rows: Range<usize>, lines: usize, distance: usize) -> Self {
        let distance = distance.min(lines);
        let at = |row: usize, line: usize| row * w.stride + w.first + line * LINE;
        Self {
            signs: w.row_signs(0),
            next_signs: rows.end * w.stride.div_ceil(8),
            codes: w.codes,
            before: at(rows.start, distance),
            after: at(rows.end, distance).wrapping_sub(lines * LINE),
            turn: lines - distance,
            stride: w.stride,
        }
    }
}

/// For lines that are the last ones anyway.
pub(crate) const NOTHING_AHEAD: Ahead<'_> =
    Ahead { signs: &[], next_signs: 0, codes: &[], before: 0, after: 0, turn: 0, stride: 0 };
