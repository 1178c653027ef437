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
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_row_loop<
            const D: u8,
            const P: usize,
            const L: usize,
            const R: usize,
            const T: usize,
        >(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            out: &mut [i64],
            stride: usize,
        ) {
            let image = load_image::<D, P>(w.image);
            let (rows, lines) = (w.rows(), w.lines());
            let x_lines: &[[[[Limb; LINE]; L]; T]] =
                &bytemuck::cast_slice::<u8, Limb>(x.x).as_chunks().0.as_chunks().0.as_chunks().0[..lines];
            // A last, partial line is read in full where the row goes on: x is zero there.
            let full = ((w.stride - w.first) / LINE).min(lines);
            let sign_stride = w.stride.div_ceil(8);
            let signed = w.signs.is_some();
            for first in (0..rows).step_by(R) {
                let mut codes: [&[[u8; LINE]]; R] = [&[]; R];
                let mut signs: [&[[u8; 8]]; R] = [&[]; R];
                let mut tails = [[0u8; LINE]; R];
                let mut sign_tails = [0u64; R];
                for r in 0..R {
                    let row = (first + r).min(rows - 1);
                    let row_codes = w.row_codes(row);
                    codes[r] = &row_codes.as_chunks().0[..full];
                    if full < lines {
                        let rest = &row_codes[LINE * full..];
                        let rest = &rest[..rest.len().min(LINE)];
                        tails[r][..rest.len()].copy_from_slice(rest);
                    }
                    if signed {
                        let row_signs = w.row_signs(row);
                        signs[r] = &row_signs.as_chunks().0[..full];
                        if full < lines {
                            let rest = &row_signs[8 * full..];
                            sign_tails[r] = partial_signs(&rest[..rest.len().min(8)]);
                        }
                    }
                }
                for (group, from) in (0..lines).step_by(w.group_lines).enumerate() {
                    let to = lines.min(from + w.group_lines);
                    let mut totals = [[0i64; T]; R];
                    for block in (from..to).step_by(FLUSH) {
                        let mut sums = [[[[int_zero(); P]; L]; T]; R];
                        for line in block..to.min(block + FLUSH) {
                            if line < full {
                                // Rows end: what is ahead is then the next group of rows.
                                let ahead = line + AHEAD.min(full);
                                let (next, ahead) =
                                    if ahead < full { (0, ahead) } else { (R, ahead - full) };
                                let ahead = (first + next) * w.stride + w.first + ahead * LINE;
                                if signed {
                                    let signs_ahead = (first + R) * sign_stride + line * LINE;
                                    prefetch(w.row_signs(0), signs_ahead);
                                }
                                for r in 0..R {
                                    prefetch(w.codes, ahead + r * w.stride);
                                    let s = if signed { u64::from_le_bytes(signs[r][line]) } else { 0 };
                                    let weights = int_decode::<D, P>(&image, &codes[r][line], s);
                                    for t in 0..T {
                                        for l in 0..L {
                                            dot(&weights, &x_lines[line][t][l], &mut sums[r][t][l]);
                                        }
                                    }
                                }
                            } else {
                                for r in 0..R {
                                    let weights =
                                        int_decode::<D, P>(&image, &tails[r], sign_tails[r]);
                                    for t in 0..T {
                                        for l in 0..L {
                                            dot(&weights, &x_lines[line][t][l], &mut sums[r][t][l]);
                                        }
                                    }
                                }
                            }
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
                        let out = &mut out[(group * T + t) * stride + first..];
                        for (r, out) in out.iter_mut().enumerate().take(R.min(rows - first)) {
                            *out = totals[r][t];
                        }
                    }
                }
            }
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

        $(#[target_feature(enable = $feature)])*
        fn int_row_tokens<const D: u8, const P: usize, const L: usize>(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            out: &mut [i64],
            stride: usize,
        ) {
            match x.tokens {
                1 => int_row_loop::<D, P, L, 4, 1>(w, x, out, stride),
                2 => int_row_loop::<D, P, L, 2, 2>(w, x, out, stride),
                4 => int_row_loop::<D, P, L, 2, 4>(w, x, out, stride),
                8 => int_row_loop::<D, P, L, 1, 8>(w, x, out, stride),
                other => unreachable!("{other} tokens"),
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn int_row_limbs<const D: u8, const P: usize>(
            w: &IntPortion<'_>,
            x: &IntRowInput<'_>,
            out: &mut [i64],
            stride: usize,
        ) {
            match x.limbs.weights.len() {
                1 => int_row_tokens::<D, P, 1>(w, x, out, stride),
                2 => int_row_tokens::<D, P, 2>(w, x, out, stride),
                3 if !WORDS => int_row_tokens::<D, P, 3>(w, x, out, stride),
                other => unreachable!("{other} limbs"),
            }
        }
    };
}
pub(crate) use int_row_kernel;
