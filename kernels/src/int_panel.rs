//! The panel shape of integer modes: lanes run along tokens.

/// Stamps the parts of the integer panel shape, from the primitives of the integer row kernel and
/// `int_store`, `int_start`, `int_splat`, `int_load`, `mac`, `int_scale`, `F`, `F_LANES`, `int_widen`, `f_*`, `transpose`,
/// `INT_LANES`, `FLUSH_STEPS`.
///
/// The tile computes `S[r][t] = Σ_k panel[r][k] · X[k][t]` for each group of columns and adds
/// `(S · sx[t]) · scale[r]` to totals. A row's planes are summed side by side, so that they share loads
/// and signs of x; limbs one after the other. Each plane has i32 sums of its own, whose bounds do not depend
/// on how many there are. They are widened to f64 at the latest after `FLUSH_STEPS` steps (with multipliers:
/// after 64), and stay exact there.
macro_rules! int_panel_kernel {
    ($($feature:tt)*) => {
        use crate::int::{
            Form, IntPanel, IntPanelMut, IntTileInput, IntTileSums, MULTIPLIED, MULTIPLIER_STEPS, Place,
            Starts, GROUPS_TILE, MULTIPLIED_TILE, SHORT_GROUP, WHOLE_TILE,
        };
        use crate::portion::PANEL_ROWS;

        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_panel_loop<const D: u8, const SIGNED: bool, const P: usize>(
            w: &IntPortion<'_>,
            panel: &mut IntPanelMut<'_>,
        ) {
            const { assert!(P <= crate::image::IMAGE_PLANES) };
            let image = load_image::<D, P>(w.image);
            let full = ((w.stride - w.first) / LINE).min(w.lines());
            let planes = IntPanel::pitch(P, WORDS);
            let eighths = w.cols.div_ceil(MULTIPLIED);
            let start_eighths = panel.start_steps / 8;
            let starts = eighths.div_ceil(start_eighths);
            for row in 0..w.rows() {
                let to = &mut panel.rows[row * planes..][..planes];
                let lines = RowLines::of(w, row, 0..full);
                for (line, codes) in lines.codes.iter().enumerate() {
                    prefetch(w.codes, row * w.stride + w.first + (line + AHEAD) * LINE);
                    let signs = if SIGNED { u64::from_le_bytes(lines.signs[line]) } else { 0 };
                    int_store(&int_decode::<D, SIGNED, P>(&image, codes, signs), to, line);
                }
                if full < w.lines() {
                    let ([codes], [signs]) = row_tail(w, row, full);
                    let signs = u64::from_le_bytes(signs);
                    int_store(&int_decode::<D, SIGNED, P>(&image, &codes, signs), to, full);
                }
                if WORDS {
                    continue;
                }
                let eighth = |plane: usize| &to[plane].as_chunks::<8>().0[..eighths];
                for p in 0..P {
                    let parts = eighth(p).chunks(start_eighths).zip(eighth(P).chunks(start_eighths));
                    for (i, (magnitudes, signs)) in parts.enumerate() {
                        panel.starts[(row * starts + i) * P + p] = int_start(magnitudes, signs);
                    }
                }
            }
        }

        #[allow(clippy::needless_range_loop)]
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_tile_loop<const A: usize, const R: usize, const P: usize, const M: bool>(
            panel: &IntPanel<'_>,
            x: &IntTileInput<'_>,
            to: &mut IntTileSums<'_>,
        ) {
            const { assert!(PANEL_ROWS.is_multiple_of(R)) };
            // Eight multiplied sums of 32 · 255 · 127 · 255 are below 2³¹.
            let flush = if M { 8 * MULTIPLIER_STEPS } else { FLUSH_STEPS };
            let vectors = x.x.as_chunks::<INT_LANES>().0.as_chunks::<A>().0;
            let groups = x.steps.div_ceil(panel.group_steps);
            let starts = x.steps.div_ceil(panel.start_steps);
            let ahead_lines = (x.ahead.len() / LINE).div_ceil(to.rows.div_ceil(R));
            for row in (0..to.rows).step_by(R) {
                let (rows, signs) = int_rows::<R, P>(panel, row);
                let mut ahead = x.ahead.get(row / R * ahead_lines * LINE..).unwrap_or(&[]);
                ahead = &ahead[..ahead.len().min(ahead_lines * LINE)];
                for group in 0..groups {
                    let from = group * panel.group_steps;
                    let end = x.steps.min(from + panel.group_steps);
                    let resume = group == 0 && to.resume;
                    let ends = group + 1 < groups || to.ends;
                    let last_limb = x.limbs.weights.len() - 1;
                    for first in (from..end).step_by(flush) {
                        let piece = first..end.min(first + flush);
                        for (limb, weight) in x.limbs.weights.iter().enumerate() {
                            let limb_x = &vectors[limb * x.steps..][..x.steps];
                            let mut sums = [[[int_zero(); P]; A]; R];
                            let starts = Starts { values: panel.starts, row, per_row: starts };
                            if M {
                                let multipliers = &vectors[x.steps..];
                                let x = (limb_x, multipliers);
                                int_multiplied_steps(&rows, &signs, x, starts, piece.clone(), &mut sums);
                            } else {
                                let part = from / panel.start_steps;
                                let starts = (!WORDS && first == from).then_some((starts, part));
                                let next = std::mem::take(&mut ahead);
                                int_steps(&rows, &signs, limb_x, starts, (piece.clone(), next), &mut sums);
                            }
                            let place = Place {
                                row,
                                group,
                                groups,
                                start: first == from && limb == 0 && !resume,
                                end: piece.end == end && limb == last_limb && ends,
                            };
                            fold(&sums, *weight, place, to);
                        }
                    }
                }
            }
        }

        /// The same for groups of columns that end within the panel and are short: at most
        /// `SHORT_GROUP` steps, so that their planes, one or two, can be joined in i32. Totals stay in registers, as far
        /// as there are any, and scaling a group overlaps with the products of the next.
        #[allow(clippy::needless_range_loop)]
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_groups_loop<const A: usize, const R: usize, const P: usize>(
            panel: &IntPanel<'_>,
            x: &IntTileInput<'_>,
            to: &mut IntTileSums<'_>,
        ) {
            const { assert!(PANEL_ROWS.is_multiple_of(R)) };
            let vectors = x.x.as_chunks::<INT_LANES>().0.as_chunks::<A>().0;
            let groups = x.steps.div_ceil(panel.group_steps);
            let per_row = x.steps.div_ceil(panel.start_steps);
            let tokens = &to.steps.as_chunks::<F_LANES>().0.as_chunks::<2>().0[..A];
            for row in (0..to.rows).step_by(R) {
                let (rows, signs) = int_rows::<R, P>(panel, row);
                let starts = Starts { values: panel.starts, row, per_row };
                // −0 changes no term that is added to it.
                let mut totals = [[[f_splat(-0.0); 2]; A]; R];
                if to.add {
                    for r in 0..R {
                        let from = &to.totals[(row + r) * to.stride..][..A * INT_LANES];
                        let from = from.as_chunks::<F_LANES>().0.as_chunks::<2>().0;
                        for a in 0..A {
                            totals[r][a] = [f_load(&from[a][0]), f_load(&from[a][1])];
                        }
                    }
                }
                for group in 0..groups {
                    let from = group * panel.group_steps;
                    let steps = from..x.steps.min(from + panel.group_steps);
                    let mut sums = [[[f_splat(0.0); 2]; A]; R];
                    for (limb, weight) in x.limbs.weights.iter().enumerate() {
                        let limb_x = &vectors[limb * x.steps..][..x.steps];
                        let mut parts = [[[int_zero(); P]; A]; R];
                        if !WORDS {
                            int_started(starts, group, &mut parts);
                        }
                        for step in steps.clone() {
                            int_step(&rows, &signs, limb_x, step, &mut parts);
                        }
                        let by = f_splat(*weight as f64);
                        for r in 0..R {
                            for a in 0..A {
                                let part = int_join(&parts[r][a]);
                                for half in 0..2 {
                                    let part = if *weight == 1 { part[half] } else { f_mul(part[half], by) };
                                    sums[r][a][half] = f_add(sums[r][a][half], part);
                                }
                            }
                        }
                    }
                    for r in 0..R {
                        let scale = f_splat(to.scales[(row + r) * groups + group]);
                        for a in 0..A {
                            for half in 0..2 {
                                let scaled = f_mul(sums[r][a][half], f_load(&tokens[a][half]));
                                totals[r][a][half] = f_add(totals[r][a][half], f_mul(scaled, scale));
                            }
                        }
                    }
                }
                for r in 0..R {
                    let to = &mut to.totals[(row + r) * to.stride..][..A * INT_LANES];
                    let to = to.as_chunks_mut::<F_LANES>().0.as_chunks_mut::<2>().0;
                    for a in 0..A {
                        f_store(totals[r][a][0], &mut to[a][0]);
                        f_store(totals[r][a][1], &mut to[a][1]);
                    }
                }
            }
        }

        /// The sum of all planes. In bytes it is below 64 · 4 · 65535 · 127 < 2³¹; in words planes must be
        /// widened first.
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_join<const P: usize>(planes: &[I; P]) -> [F; 2] {
            if !WORDS {
                let mut sum = planes[P - 1];
                for p in (0..P - 1).rev() {
                    sum = int_shift_add(sum, planes[p]);
                }
                return int_widen(sum);
            }
            let mut sum = int_widen(planes[0]);
            for p in 1..P {
                let plane = int_widen(planes[p]);
                let by = f_splat((1 << (8 * p)) as f64);
                sum = [f_add(f_mul(plane[0], by), sum[0]), f_add(f_mul(plane[1], by), sum[1])];
            }
            sum
        }

        /// The planes and signs of some rows of a panel.
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_rows<'a, const R: usize, const P: usize>(
            panel: &IntPanel<'a>,
            row: usize,
        ) -> ([[&'a IntRow; P]; R], [&'a IntRow; R]) {
            let pitch = IntPanel::pitch(P, WORDS);
            let mut rows = [[&panel.rows[0]; P]; R];
            let mut signs = [&panel.rows[0]; R];
            for r in 0..R {
                let planes = &panel.rows[(row + r) * pitch..][..pitch];
                for p in 0..P {
                    rows[r][p] = &planes[p];
                }
                signs[r] = &planes[pitch - 1];
            }
            (rows, signs)
        }

        /// Sums of tokens for a few rows, where they start.
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_started<const A: usize, const R: usize, const P: usize>(
            starts: Starts<'_>,
            part: usize,
            sums: &mut [[[I; P]; A]; R],
        ) {
            for r in 0..R {
                for p in 0..P {
                    let start = starts.values[((starts.row + r) * starts.per_row + part) * P + p];
                    for a in 0..A {
                        sums[r][a][p] = int_splat(start as u32);
                    }
                }
            }
        }

        /// The products of some steps of a few rows and vectors of tokens.
        ///
        /// Never inlined: with anything around it the compiler had other values in registers, and half of
        /// the sums in memory.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_steps<const A: usize, const R: usize, const P: usize>(
            rows: &[[&IntRow; P]; R],
            signs: &[&IntRow; R],
            x: &[[[u32; INT_LANES]; A]],
            starts: Option<(Starts<'_>, usize)>,
            (steps, ahead): (std::ops::Range<usize>, &[u8]),
            to: &mut [[[I; P]; A]; R],
        ) {
            let mut sums = [[[int_zero(); P]; A]; R];
            if let Some((starts, part)) = starts {
                int_started(starts, part, &mut sums);
            }
            for (i, step) in steps.enumerate() {
                if i * LINE < ahead.len() {
                    prefetch(ahead, i * LINE);
                }
                int_step(rows, signs, x, step, &mut sums);
            }
            *to = sums;
        }

        /// The same with multipliers: `[steps/8]` vectors of tokens.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_multiplied_steps<const A: usize, const R: usize, const P: usize>(
            rows: &[[&IntRow; P]; R],
            signs: &[&IntRow; R],
            (x, multipliers): (&[[[u32; INT_LANES]; A]], &[[[u32; INT_LANES]; A]]),
            starts: Starts<'_>,
            steps: std::ops::Range<usize>,
            to: &mut [[[I; P]; A]; R],
        ) {
            let mut sums = [[[int_zero(); P]; A]; R];
            for part in steps.start / MULTIPLIER_STEPS..steps.end.div_ceil(MULTIPLIER_STEPS) {
                let mut parts = [[[int_zero(); P]; A]; R];
                int_started(starts, part, &mut parts);
                for step in 0..MULTIPLIER_STEPS {
                    int_step(rows, signs, x, part * MULTIPLIER_STEPS + step, &mut parts);
                }
                for a in 0..A {
                    let multiplier = int_load(&multipliers[part][a]);
                    for r in 0..R {
                        for p in 0..P {
                            sums[r][a][p] = int_scale(sums[r][a][p], parts[r][a][p], multiplier);
                        }
                    }
                }
            }
            *to = sums;
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_step<const A: usize, const R: usize, const P: usize>(
            rows: &[[&IntRow; P]; R],
            signs: &[&IntRow; R],
            x: &[[[u32; INT_LANES]; A]],
            step: usize,
            sums: &mut [[[I; P]; A]; R],
        ) {
            let mut tokens = [int_zero(); A];
            for a in 0..A {
                tokens[a] = int_load(&x[step][a]);
            }
            for r in 0..R {
                let mut weights = [int_zero(); P];
                for p in 0..P {
                    weights[p] = int_splat(rows[r][p][step]);
                }
                let sign = if WORDS { weights[0] } else { int_splat(signs[r][step]) };
                for a in 0..A {
                    mac(&mut sums[r][a], &weights, sign, tokens[a]);
                }
            }
        }

        /// Adds i32 sums of all planes to the sum of their group, and a group's sum to the totals.
        ///
        /// A third plane has sums of its own: so both parts are exact, where what they come to may be beyond
        /// 2⁵³. Adding them then rounds it, once.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn fold<const A: usize, const R: usize, const P: usize>(
            sums: &[[[I; P]; A]; R],
            weight: i64,
            place: Place,
            to: &mut IntTileSums<'_>,
        ) {
            let row_tokens = to.steps.as_chunks::<F_LANES>().0.as_chunks::<2>().0;
            for r in 0..R {
                let row = place.row + r;
                let scale = f_splat(to.scales[row * place.groups + place.group]);
                let in_row = row * to.stride..row * to.stride + A * INT_LANES;
                let high = PANEL_ROWS * to.stride;
                let high = if P > 2 { high + in_row.start..high + in_row.end } else { 0..0 };
                let groups = to.sums.get_disjoint_mut([in_row.clone(), high]).expect("rows of sums");
                let [group, high_group] = groups.map(|sums| sums.as_chunks_mut::<F_LANES>().0);
                let totals = to.totals[in_row].as_chunks_mut::<F_LANES>().0;
                for a in 0..A {
                    let mut sum = int_widen(sums[r][a][0]);
                    if P > 1 {
                        let plane = int_widen(sums[r][a][1]);
                        let by = f_splat(256.0);
                        sum = [f_add(f_mul(plane[0], by), sum[0]), f_add(f_mul(plane[1], by), sum[1])];
                    }
                    let mut high = if P > 2 { int_widen(sums[r][a][2]) } else { sum };
                    if weight != 1 {
                        let by = f_splat(weight as f64);
                        sum = [f_mul(sum[0], by), f_mul(sum[1], by)];
                        high = [f_mul(high[0], by), f_mul(high[1], by)];
                    }
                    for half in 0..2 {
                        let (mut sum, mut high) = (sum[half], high[half]);
                        let (group, total) = (&mut group[2 * a + half], &mut totals[2 * a + half]);
                        if !place.start {
                            sum = f_add(f_load(group), sum);
                            if P > 2 {
                                high = f_add(f_load(&high_group[2 * a + half]), high);
                            }
                        }
                        if !place.end {
                            f_store(sum, group);
                            if P > 2 {
                                f_store(high, &mut high_group[2 * a + half]);
                            }
                            continue;
                        }
                        if P > 2 {
                            sum = f_add(f_mul(high, f_splat(65_536.0)), sum);
                        }
                        let mut term = f_mul(f_mul(sum, f_load(&row_tokens[a][half])), scale);
                        if to.add || place.group > 0 {
                            term = f_add(f_load(total), term);
                        }
                        f_store(term, total);
                    }
                }
            }
        }

        /// Rounds the totals of a tile to f32, biases added, and turns rows of tokens into tokens of rows.
        $(#[target_feature(enable = $feature)])*
        fn int_finish(totals: &[f64], stride: usize, bias: &[f64; PANEL_ROWS], to: &mut [[f32; PANEL_ROWS]]) {
            for (block, to) in to.chunks_mut(INT_LANES).enumerate() {
                for row in (0..PANEL_ROWS).step_by(INT_LANES) {
                    let mut rows = [[0.0; INT_LANES]; INT_LANES];
                    for (r, to) in rows.iter_mut().enumerate() {
                        let at = (row + r) * stride + block * INT_LANES;
                        let totals = totals[at..][..INT_LANES].as_chunks::<F_LANES>().0;
                        let bias = f_splat(bias[row + r]);
                        *to = f_round([f_add(f_load(&totals[0]), bias), f_add(f_load(&totals[1]), bias)]);
                    }
                    let tokens = transpose(rows);
                    for (to, token) in to.iter_mut().zip(tokens) {
                        to[row..][..INT_LANES].copy_from_slice(&token);
                    }
                }
            }
        }
    };
}
pub(crate) use int_panel_kernel;
