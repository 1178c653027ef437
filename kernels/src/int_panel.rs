//! The panel shape of integer modes: lanes run along tokens.

/// Stamps the two halves of the integer panel shape, from the primitives of the integer row kernel and
/// `PANEL_WORDS`, `int_store`, `int_splat`, `int_load`, `mac`, `int_add_to`, `INT_LANES`,
/// `FLUSH_STEPS`, `Panel*`.
///
/// A panel holds, for each row and plane, steps of 32 bits: four magnitudes as bytes, or two signed
/// words. With bytes a further plane holds the signs, 0xFF for a negative weight: x is xored with it,
/// which makes −x−1 of x, and the row's sum of negative magnitudes, from which accumulators start,
/// makes up for the −1.
macro_rules! int_panel_kernel {
    ($($feature:tt)*) => {
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_panel_loop<const D: u8, const P: usize>(
            w: &IntPortion<'_>,
            panel: &mut [IntRow],
            starts: &mut [i32],
        ) {
            const { assert!(P <= IMAGE_PLANES) };
            let image = load_image::<D, P>(w.image);
            let full = ((w.stride - w.first) / LINE).min(w.lines());
            let planes = IntPanel::pitch(P, PANEL_WORDS);
            for row in 0..w.rows() {
                let (codes, signs) = (w.row_codes(row), w.row_signs(row));
                let to = &mut panel[row * planes..][..planes];
                let mut start = [int_zero(); P];
                for line in 0..w.lines() {
                    let at = line * LINE;
                    let mut padded = [0; LINE];
                    let codes: &[u8; LINE] = if line < full {
                        codes[at..].first_chunk().expect("a full line")
                    } else {
                        padded[..codes.len() - at].copy_from_slice(&codes[at..]);
                        &padded
                    };
                    let s = match signs.get(8 * line..) {
                        None => 0,
                        Some(rest) => partial_signs(&rest[..rest.len().min(8)]),
                    };
                    let weights = int_decode::<D, P>(&image, codes, s);
                    int_store(&weights, to, line, &mut start);
                }
                for p in 0..P {
                    starts[row * P + p] = int_sum(start[p]) as i32;
                }
            }
        }

        /// Starts the sums with `weight · Σ_k panel[r][k] · x[k][t]`, or adds that to them, for one plane and one limb.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn int_tile_loop<const A: usize, const R: usize>(
            panel: &IntPanel<'_>,
            x: &IntTileInput<'_>,
            sums: &mut IntTileSums<'_>,
        ) {
            const { assert!(PANEL_ROWS.is_multiple_of(R)) };
            let x_steps = x.x.as_chunks::<INT_LANES>().0.as_chunks::<A>().0;
            let steps = x_steps.len().min(PANEL_STEPS);
            let (plane, planes) = (panel.plane, panel.planes);
            let pitch = IntPanel::pitch(planes, PANEL_WORDS);
            let groups = sums.rows.div_ceil(R);
            for group in 0..groups {
                let mut rows: [&IntRow; R] = [&panel.rows[0]; R];
                let mut signs: [&IntRow; R] = [&panel.rows[0]; R];
                for r in 0..R {
                    let row = (group * R + r) * pitch;
                    rows[r] = &panel.rows[row + plane];
                    signs[r] = &panel.rows[row + pitch - 1];
                }
                for from in (0..steps).step_by(FLUSH_STEPS) {
                    let mut acc = [[int_zero(); A]; R];
                    if !PANEL_WORDS && from == 0 {
                        for r in 0..R {
                            acc[r] = [int_splat(panel.starts[(group * R + r) * planes + plane] as u32); A];
                        }
                    }
                    for step in from..steps.min(from + FLUSH_STEPS) {
                        let mut tokens = [int_zero(); A];
                        for a in 0..A {
                            tokens[a] = int_load(&x_steps[step][a]);
                        }
                        for r in 0..R {
                            let weight = int_splat(rows[r][step]);
                            let sign = if PANEL_WORDS { weight } else { int_splat(signs[r][step]) };
                            for a in 0..A {
                                acc[r][a] = mac(acc[r][a], weight, sign, tokens[a]);
                            }
                        }
                    }
                    for r in 0..R {
                        let to = &mut sums.values[(group * R + r) * sums.stride..][..A * INT_LANES];
                        for (a, to) in to.as_chunks_mut::<INT_LANES>().0.iter_mut().enumerate() {
                            let weight = x.weight << (8 * plane);
                            if !sums.add && from == 0 {
                                *to = [0; INT_LANES];
                            }
                            int_add_to(acc[r][a], weight, to);
                        }
                    }
                }
            }
        }
    };
}
pub(crate) use int_panel_kernel;
