//! The row shape of integer modes: lanes run along k, sums are exact.

/// Stamps the integer row kernel out of the primitives in scope: `WORDS`, `FLUSH`, `I`, `Limb`,
/// `IntRegs`, `IntLine`, `int_zero`, `int_sum`, `load_image`, `int_decode`, `dot`, `prefetch`, `AHEAD`.
///
/// Computes `out[t·stride + r] = Σ_k X[t,k] · (±L[code])` exactly, for all rows of a portion. Each
/// (row, token, limb, plane) has a vector of i32 sums; after `FLUSH` lines they are added up and
/// widened. Being exact, the sum does not depend on any of that.
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
                let mut totals = [[0i64; T]; R];
                for block in (0..lines).step_by(FLUSH) {
                    let mut sums = [[[[int_zero(); P]; L]; T]; R];
                    for line in block..lines.min(block + FLUSH) {
                        if line < full {
                            let ahead = line + AHEAD.min(full);
                            let (group, ahead) = if ahead < full { (0, ahead) } else { (R, ahead - full) };
                            let codes_ahead = (first + group) * w.stride + w.first + ahead * LINE;
                            if signed {
                                prefetch(w.row_signs(0), (first + R) * sign_stride + line * LINE);
                            }
                            for r in 0..R {
                                prefetch(w.codes, codes_ahead + r * w.stride);
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
                                let weights = int_decode::<D, P>(&image, &tails[r], sign_tails[r]);
                                for t in 0..T {
                                    for l in 0..L {
                                        dot(&weights, &x_lines[line][t][l], &mut sums[r][t][l]);
                                    }
                                }
                            }
                        }
                    }
                    for r in 0..R {
                        for t in 0..T {
                            for l in 0..L {
                                for p in 0..P {
                                    totals[r][t] +=
                                        int_sum(sums[r][t][l][p]) * (x.limbs.weights[l] << (8 * p));
                                }
                            }
                        }
                    }
                }
                for r in 0..R.min(rows - first) {
                    for t in 0..T {
                        out[t * stride + first + r] = totals[r][t];
                    }
                }
            }
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
