//! The row shape of integer modes: lanes run along k, sums are exact.

/// Stamps the integer row kernel out of the primitives in scope: `WORDS`, `FLUSH`, `I`, `Limb`,
/// `IntRegs`, `IntLine`, `int_zero`, `int_sum`, `int_sum4`, `load_image`, `int_decode`, `dot`, `prefetch`, `AHEAD`.
///
/// Computes `out[(g·T + t)·stride + r] = Σ_k X[t,k] · (±L[code])` exactly, for all rows of a portion,
/// the sum of each group g of columns for itself. Each (row, token, limb, plane) has a vector of i32
/// sums; at the end of a group, and after `FLUSH` lines, they are added up and widened. Being exact,
/// the sum does not depend on any of that.
macro_rules! int_row_kernel {
    ($($feature:tt)*) => {
        use crate::int::{IntPortion, IntRowInput};
        use crate::int_row::{Ahead, NOTHING_AHEAD, RowLines};

        $(#[target_feature(enable = $feature)])*
        fn int_row_loop<
            const D: u8,
            const P: usize,
            const L: usize,
            const R: usize,
            const T: usize,
        >(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            token: usize,
            out: &mut [i64],
            stride: usize,
        ) {
            let image = load_image::<D, P>(w.image);
            let (rows, lines) = (w.rows(), w.lines());
            let x_tokens: &[[[Limb; LINE]; L]] =
                bytemuck::cast_slice::<u8, Limb>(x.x).as_chunks().0.as_chunks().0;
            // Of each line, the tokens from `token` on.
            let x_lines = &x_tokens[token..];
            // A last, partial line is read in full where the row goes on: x is zero there.
            let full = ((w.stride - w.first) / LINE).min(lines);
            for first in (0..rows).step_by(R) {
                let mut tails = [([[0; LINE]; 1], [[0; 8]; 1]); R];
                if full < lines {
                    for (r, (codes, signs)) in tails.iter_mut().enumerate() {
                        let row = (first + r).min(rows - 1);
                        let rest = w.row_codes(row).as_chunks::<LINE>().1;
                        codes[0][..rest.len()].copy_from_slice(rest);
                        let rest = w.row_signs(row).get(8 * full..).unwrap_or(&[]);
                        signs[0][..rest.len()].copy_from_slice(rest);
                    }
                }
                for (group, from) in (0..lines).step_by(w.group_lines).enumerate() {
                    let to = lines.min(from + w.group_lines);
                    let mut totals = [[0i64; T]; R];
                    for block in (from..to).step_by(FLUSH) {
                        let mut sums = [[[[int_zero(); P]; L]; T]; R];
                        let whole = block..to.min(block + FLUSH).min(full);
                        if !whole.is_empty() {
                            let mut rows_lines = [RowLines::default(); R];
                            for (r, lines) in rows_lines.iter_mut().enumerate() {
                                *lines = RowLines::of(w, (first + r).min(rows - 1), whole.clone());
                            }
                            let block_x = &x_lines[whole.start * x.tokens..];
                            let ahead = Ahead::of(w, first..first + R, whole.start..full, AHEAD);
                            int_lines::<D, P, L, R, T>(&image, &rows_lines, block_x, x.tokens, ahead, &mut sums);
                        }
                        if to.min(block + FLUSH) > full {
                            let mut rows_lines = [RowLines::default(); R];
                            for (lines, (codes, signs)) in rows_lines.iter_mut().zip(&tails) {
                                *lines = RowLines { codes, signs: w.signs.map_or(&[], |_| signs) };
                            }
                            let tail_x = &x_lines[full * x.tokens..];
                            int_lines::<D, P, L, R, T>(&image, &rows_lines, tail_x, x.tokens, NOTHING_AHEAD, &mut sums);
                        }
                        for t in 0..T {
                            for l in 0..L {
                                for p in 0..P {
                                    let mut row_sums = [int_zero(); R];
                                    for r in 0..R {
                                        row_sums[r] = sums[r][t][l][p];
                                    }
                                    let row_sums = int_sums(row_sums);
                                    for r in 0..R {
                                        totals[r][t] += row_sums[r] * (x.limbs.weights[l] << (8 * p));
                                    }
                                }
                            }
                        }
                    }
                    for t in 0..T {
                        let out = &mut out[(group * x.tokens + token + t) * stride + first..];
                        for (r, out) in out.iter_mut().enumerate().take(R.min(rows - first)) {
                            *out = totals[r][t];
                        }
                    }
                }
            }
        }

        /// The products of some lines of R rows with T tokens, added to sums.
        ///
        /// Never inlined: with anything around it the compiler has other values in registers, and sums
        /// in memory.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_lines<
            const D: u8,
            const P: usize,
            const L: usize,
            const R: usize,
            const T: usize,
        >(
            image: &IntRegs,
            rows: &[RowLines<'_>; R],
            x: &[[[Limb; LINE]; L]],
            tokens: usize,
            ahead: Ahead<'_>,
            to: &mut [[[[I; P]; L]; T]; R],
        ) {
            let mut sums = *to;
            let lines = rows[0].codes.len();
            let signed = !rows[0].signs.is_empty();
            for (line, x) in x.chunks(tokens).enumerate().take(lines) {
                let Some(x) = x.first_chunk::<T>() else { break };
                if signed {
                    prefetch(ahead.signs, ahead.next_signs + line * LINE);
                }
                // Rows end: what is ahead is then the next group of rows.
                let base = if line < ahead.turn { ahead.before } else { ahead.after };
                let codes_ahead = base.wrapping_add(line * LINE);
                for r in 0..R {
                    prefetch(ahead.codes, codes_ahead + r * ahead.stride);
                    let signs = if signed { u64::from_le_bytes(rows[r].signs[line]) } else { 0 };
                    let weights = int_decode::<D, P>(image, &rows[r].codes[line], signs);
                    for t in 0..T {
                        for l in 0..L {
                            dot(&weights, &x[t][l], &mut sums[r][t][l]);
                        }
                    }
                }
            }
            *to = sums;
        }

        /// The sums of the lanes of some vectors.
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_sums<const R: usize>(vectors: [I; R]) -> [i64; R] {
            let mut sums = [0; R];
            for (sums, vectors) in sums.as_chunks_mut::<4>().0.iter_mut().zip(vectors.as_chunks().0) {
                *sums = int_sum4(*vectors);
            }
            for r in R / 4 * 4..R {
                sums[r] = int_sum(vectors[r]);
            }
            sums
        }

        /// All tokens, `MOST` at a time: R1 rows for one token, R2 for two, and so on, so that sums don't
        /// need more registers than there are.
        $(#[target_feature(enable = $feature)])*
        fn int_row_tokens<
            const D: u8,
            const P: usize,
            const L: usize,
            const R1: usize,
            const R2: usize,
            const R4: usize,
            const R8: usize,
            const MOST: usize,
        >(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            out: &mut [i64],
            stride: usize,
        ) {
            for token in (0..x.tokens).step_by(MOST) {
                match x.tokens.min(MOST) {
                    1 => int_row_loop::<D, P, L, R1, 1>(w, x, token, out, stride),
                    2 => int_row_loop::<D, P, L, R2, 2>(w, x, token, out, stride),
                    4 => int_row_loop::<D, P, L, R4, 4>(w, x, token, out, stride),
                    8 => int_row_loop::<D, P, L, R8, 8>(w, x, token, out, stride),
                    other => unreachable!("{other} tokens"),
                }
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn int_row_limbs<const D: u8, const P: usize, const L: usize>(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            out: &mut [i64],
            stride: usize,
        ) {
            match const { P * L } {
                1 => int_row_tokens::<D, P, L, 4, 4, 4, 2, 8>(w, x, out, stride),
                // Limbs of eight tokens and 3,072 columns are more than 32 KiB.
                2 => int_row_tokens::<D, P, L, 4, 4, 2, 1, 4>(w, x, out, stride),
                3 | 4 => int_row_tokens::<D, P, L, 4, 2, 1, 1, 4>(w, x, out, stride),
                _ => int_row_tokens::<D, P, L, 2, 1, 1, 1, 2>(w, x, out, stride),
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn int_row_planes<const D: u8, const P: usize>(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            out: &mut [i64],
            stride: usize,
        ) {
            match x.limbs.weights.len() {
                1 => int_row_limbs::<D, P, 1>(w, x, out, stride),
                2 => int_row_limbs::<D, P, 2>(w, x, out, stride),
                3 if !WORDS => int_row_limbs::<D, P, 3>(w, x, out, stride),
                other => unreachable!("{other} limbs"),
            }
        }
    };
}
pub(crate) use int_row_kernel;

use std::ops::Range;

use crate::int::IntPortion;
use crate::portion::LINE;

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
    /// Of some rows and lines, `distance` lines ahead: within the row, and when it has ended in the next
    /// group of rows.
    #[inline(always)]
    pub fn of(
        w: &IntPortion<'a>,
        rows: Range<usize>,
        lines: Range<usize>,
        distance: usize,
    ) -> Self {
        let distance = distance.min(lines.end);
        let at = |row: usize, line: usize| row * w.stride + w.first + line * LINE;
        let ahead = lines.start + distance;
        let next_signs = rows.end * w.stride.div_ceil(8) + lines.start * LINE;
        Self {
            signs: w.row_signs(0),
            next_signs,
            codes: w.codes,
            before: at(rows.start, ahead),
            after: at(rows.end, ahead).wrapping_sub(lines.end * LINE),
            turn: lines.end.saturating_sub(ahead),
            stride: w.stride,
        }
    }
}

/// For lines that are the last ones anyway.
pub(crate) const NOTHING_AHEAD: Ahead<'_> =
    Ahead { signs: &[], next_signs: 0, codes: &[], before: 0, after: 0, turn: 0, stride: 0 };
