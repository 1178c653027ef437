//! The panel shape: lanes run along tokens. A panel of rows is decoded once, and each weight is
//! broadcast to all tokens of a tile.

/// Stamps the two halves of the panel shape out of the same primitives as the row kernel, and `store`.
macro_rules! panel_kernel {
    ($($feature:tt)*) => {
        /// Decodes columns `lines` (counted in lines) of all rows of a portion into a panel, scales
        /// multiplied in.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn panel_loop<const D: u8, const SIGNED: bool, const G: u8>(
            w: &Portion<'_>,
            lines: Range<usize>,
            panel: &mut [PanelRow],
        ) {
            let table = load_table::<D>(w.table);
            let full = w.k / LINE;
            let index = Index::new(&w.scales.groups, w.lines());
            for (row, to) in panel.iter_mut().enumerate().take(w.rows()) {
                let (codes, signs, scales) = (w.row_codes(row), w.row_signs(row), w.scales.row(row));
                let whole = splat(scales.first().copied().unwrap_or_default());
                for (line, to) in lines.clone().zip(to.as_chunks_mut::<LINE>().0) {
                    let mut padded = [w.table.pad; LINE];
                    let at = line * LINE;
                    let codes: &[u8; LINE] = if line < full {
                        codes[at..].first_chunk().expect("a full line")
                    } else {
                        padded[..w.k - at].copy_from_slice(&codes[at..]);
                        &padded
                    };
                    let s = match signs.get(8 * line..8 * line + 8) {
                        Some(bytes) if SIGNED => partial_signs(bytes),
                        _ if SIGNED => partial_signs(&signs[8 * line..]),
                        _ => 0,
                    };
                    let parts = decode::<D, SIGNED>(&table, codes, s);
                    let scale = line_scales::<G>(&index, scales, line);
                    let to = to.as_chunks_mut::<LANES>().0;
                    for p in 0..PARTS {
                        let by = match G {
                            WHOLE => whole,
                            LINES => scale[0],
                            _ => scale[p / (PARTS / CLASSES)],
                        };
                        store(mul(mul(parts[p], splat(unit(D))), by), &mut to[p]);
                    }
                }
            }
        }

        /// Multiplies a panel by a tile of activations: `sums[r][t] (+)= Σ_k panel[r][k] · x[k][t]`.
        ///
        /// A vectors of tokens × R rows are the accumulators. A block of k starts from zero and is
        /// added to `sums` at its end: blocks are shorter chains than k, so the error is smaller.
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn tile_loop<const A: usize, const R: usize>(
            panel: &[PanelRow],
            x: &TileInput<'_>,
            sums: &mut TileSums<'_>,
        ) {
            const { assert!(PANEL_ROWS.is_multiple_of(R)) };
            let x = x.x.as_chunks::<LANES>().0.as_chunks::<A>().0;
            let columns = x.len().min(PANEL_COLS);
            let groups = sums.rows.div_ceil(R);
            for (group, rows) in panel.as_chunks::<R>().0.iter().enumerate().take(groups) {
                let mut acc = [[zero(); A]; R];
                for (column, x) in x[..columns].iter().enumerate() {
                    let mut tokens = [zero(); A];
                    for a in 0..A {
                        tokens[a] = load(&x[a]);
                    }
                    for r in 0..R {
                        let weight = splat(rows[r][column]);
                        for a in 0..A {
                            acc[r][a] = fma(weight, tokens[a], acc[r][a]);
                        }
                    }
                }
                for r in 0..R {
                    let to = &mut sums.values[(group * R + r) * sums.stride..][..A * LANES];
                    for (a, to) in to.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                        let total = if sums.add { self::add(load(to), acc[r][a]) } else { acc[r][a] };
                        store(total, to);
                    }
                }
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn panel_decoder<const D: u8, const SIGNED: bool>(
            w: &Portion<'_>,
            lines: Range<usize>,
            panel: &mut [PanelRow],
        ) {
            match w.scales.groups {
                Groups::Whole => panel_loop::<D, SIGNED, WHOLE>(w, lines, panel),
                Groups::Lines(_) => panel_loop::<D, SIGNED, LINES>(w, lines, panel),
                Groups::Pairs => panel_loop::<D, SIGNED, PAIRS>(w, lines, panel),
                Groups::Quarters(_) => panel_loop::<D, SIGNED, QUARTERS>(w, lines, panel),
            }
        }
    };
}
pub(crate) use panel_kernel;
