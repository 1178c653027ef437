//! The row shape: lanes run along k. One pass over the weights for 1, 2, 4 or 8 tokens.

use crate::portion::Groups;

/// A block of statements for each number from 0 to 7, which the compiler would rather have as a loop:
/// with sums in memory and an instruction in five for the loop.
macro_rules! unrolled {
    ($i:ident => $body:block) => {
        crate::row::unrolled!($i => $body; 0 1 2 3 4 5 6 7);
    };
    ($i:ident => $body:block; $($value:literal)*) => {
        $({
            let $i: usize = $value;
            $body
        })*
    };
}
pub(crate) use unrolled;

/// Stamps the row kernel of an ISA out of the primitives in scope: `V`, `LANES`, `PARTS`, `CLASSES`,
/// `Regs`, `zero`, `load`, `mul`, `fma`, `sum`, `splat`, `quarters`, `load_table`, `decode`, `prefetch`,
/// and of what `stamp!` makes: `ROWS`, `DECODED`, `unrolled`, `unit`.
///
/// Computes `out[t·stride + r] = scale · Σ_k x[t,k]·W[r,k]` for all rows of a portion.
///
/// R rows go side by side, because one row at a time keeps too few loads in flight to draw what
/// memory gives, and because R·T sums hide the latency of the FMA. Each (row, token) has one vector
/// of sums to which lines are added in order, whatever R and T are: so the order of a sum depends
/// on k alone. Rows beyond the last are the last row again and are not stored.
macro_rules! row_kernel {
    ($($feature:tt)*) => {
        $(#[target_feature(enable = $feature)])*
        #[inline(never)]
        fn row_loop<
            const D: u8,
            const SIGNED: bool,
            const G: u8,
            const R: usize,
            const B: usize,
            const T: usize,
        >(
            w: &Portion<'_>,
            x: &RowInput<'_>,
            out: &mut [f32],
            stride: usize,
        ) {
            let table = load_table::<D>(w.table);
            let (rows, lines) = (w.rows(), w.lines());
            let index = Index::new(&w.scales.groups, lines);
            let x: &[[[f32; LINE]; T]] = &x.x.as_chunks().0.as_chunks().0[..lines];
            for first in (0..rows).step_by(R) {
                let mut codes: [&[[u8; LINE]]; R] = [&[]; R];
                let mut signs: [&[[u8; 8]]; R] = [&[]; R];
                let mut scales: [&[f32]; R] = [&[]; R];
                let mut tails = [[w.table.pad; LINE]; R];
                let mut sign_tails = [0u64; R];
                let full = w.k / LINE;
                for r in 0..R {
                    let row = (first + r).min(rows - 1);
                    let (whole, rest) = w.row_codes(row).as_chunks();
                    codes[r] = &whole[..full];
                    tails[r][..rest.len()].copy_from_slice(rest);
                    if SIGNED {
                        let row_signs = w.row_signs(row);
                        signs[r] = &row_signs.as_chunks().0[..full];
                        sign_tails[r] = partial_signs(&row_signs[8 * full..]);
                    }
                    scales[r] = w.scales.row(row);
                }
                let next_scales = w.scales.offset(first + R) * size_of::<f32>();
                let mut sums = [[zero(); T]; R];
                for line in 0..full {
                    // Rows end: what is ahead of a row's last lines is the same row of the next group.
                    let ahead = line + AHEAD.min(full);
                    let codes_ahead = if ahead < full {
                        first * w.k + ahead * LINE
                    } else {
                        (first + R) * w.k + (ahead - full) * LINE
                    };
                    if SIGNED {
                        // The signs of eight rows are as many lines as the codes of one.
                        prefetch(w.row_signs(0), (first + R) * w.k.div_ceil(8) + line * LINE);
                    }
                    if G == PAIRS || G == QUARTERS {
                        // So are the scales of groups of 32.
                        let scales = bytemuck::cast_slice(w.scales.values);
                        prefetch(scales, next_scales + line * LINE);
                    }
                    // Found before anything is decoded: an index that is checked between the rows keeps the
                    // compiler from having sums in registers (AVX2 with signs: 1.4 to 1.75 times the time). Those of
                    // quarters are too many for that (AVX-512: a sixth more goes through memory).
                    let mut line_scale = [0.0; R];
                    if G == LINES {
                        for r in 0..R {
                            line_scale[r] = scales[r][index.lines[line] as usize];
                        }
                    }
                    for start in (0..R).step_by(if unrolled(D) { R } else { B }) {
                        crate::row::unrolled!(block => {
                            let r = start + block * B;
                            if block > 0 && !unrolled(D) || r >= R {
                                continue;
                            }
                            let mut parts = [[zero(); PARTS]; B];
                            let mut scale = [[zero(); CLASSES]; B];
                            for b in 0..B {
                                prefetch(w.codes, codes_ahead + (r + b) * w.k);
                                let s = if SIGNED { u64::from_le_bytes(signs[r + b][line]) } else { 0 };
                                parts[b] = decode::<D, SIGNED>(&table, &codes[r + b][line], s);
                                scale[b] = match G {
                                    LINES => [splat(line_scale[r + b]); CLASSES],
                                    _ => line_scales::<G>(&index, scales[r + b], line),
                                };
                            }
                            for t in 0..T {
                                for b in 0..B {
                                    let x = &x[line][t];
                                    sums[r + b][t] =
                                        add_line::<G>(sums[r + b][t], &parts[b], x, &scale[b]);
                                }
                            }
                        });
                    }
                }
                // A copy, so that what is rolled from here on doesn't keep the loop above from having
                // its sums in registers.
                let mut ends = sums;
                if full < lines {
                    for r in 0..R {
                        let parts = decode::<D, SIGNED>(&table, &tails[r], sign_tails[r]);
                        let scale = line_scales::<G>(&index, scales[r], full);
                        for t in 0..T {
                            ends[r][t] = add_line::<G>(ends[r][t], &parts, &x[full][t], &scale);
                        }
                    }
                }
                for r in 0..R.min(rows - first) {
                    let scale = if G == WHOLE { scales[r][0] } else { 1.0 };
                    for t in 0..T {
                        out[t * stride + first + r] = sum(ends[r][t]) * unit(D) * scale;
                    }
                }
            }
        }

        /// Adds the products of a line to a vector of sums.
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn add_line<const G: u8>(
            mut sums: V,
            parts: &[V; PARTS],
            x: &[f32; LINE],
            scale: &[V; CLASSES],
        ) -> V {
            let x = x.as_chunks::<LANES>().0;
            if G == WHOLE {
                for p in 0..PARTS {
                    sums = fma(parts[p], load(&x[p]), sums);
                }
                return sums;
            }
            // Parts of one class have one vector of scales: their products are added first.
            let classes = if G == LINES { 1 } else { CLASSES };
            let run = PARTS / classes;
            for class in 0..classes {
                let mut part = mul(parts[class * run], load(&x[class * run]));
                for p in class * run + 1..(class + 1) * run {
                    part = fma(parts[p], load(&x[p]), part);
                }
                sums = fma(part, scale[class], sums);
            }
            sums
        }

        /// The scales of a line, a vector for each class of parts.
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn line_scales<const G: u8>(index: &Index<'_>, row: &[f32], line: usize) -> [V; CLASSES] {
            match G {
                LINES => [splat(row[index.lines[line] as usize]); CLASSES],
                PAIRS => quarters(pair(row, line)),
                QUARTERS => quarters(index.quarters[line].map(|i| row[i as usize])),
                _ => [zero(); CLASSES],
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn row_tokens<const D: u8, const SIGNED: bool, const G: u8>(
            w: &Portion<'_>,
            x: &RowInput<'_>,
            out: &mut [f32],
            stride: usize,
        ) {
            match x.tokens {
                1 => row_loop::<D, SIGNED, G, { ROWS[0] }, { DECODED[0] }, 1>(w, x, out, stride),
                2 => row_loop::<D, SIGNED, G, { ROWS[1] }, { DECODED[1] }, 2>(w, x, out, stride),
                4 => row_loop::<D, SIGNED, G, { ROWS[2] }, { DECODED[2] }, 4>(w, x, out, stride),
                8 => row_loop::<D, SIGNED, G, { ROWS[3] }, { DECODED[3] }, 8>(w, x, out, stride),
                other => unreachable!("{other} tokens"),
            }
        }

        $(#[target_feature(enable = $feature)])*
        fn row_decoder<const D: u8, const SIGNED: bool>(
            w: &Portion<'_>,
            x: &RowInput<'_>,
            out: &mut [f32],
            stride: usize,
        ) {
            match w.scales.groups {
                Groups::Whole => row_tokens::<D, SIGNED, WHOLE>(w, x, out, stride),
                Groups::Lines(_) => row_tokens::<D, SIGNED, LINES>(w, x, out, stride),
                Groups::Pairs => row_tokens::<D, SIGNED, PAIRS>(w, x, out, stride),
                Groups::Quarters(_) => row_tokens::<D, SIGNED, QUARTERS>(w, x, out, stride),
            }
        }
    };
}
pub(crate) use row_kernel;

/// The groups as compile-time choice.
pub(crate) const WHOLE: u8 = 0;
pub(crate) const LINES: u8 = 1;
pub(crate) const QUARTERS: u8 = 2;
pub(crate) const PAIRS: u8 = 3;

/// The indices of a row's scales, taken out of their enum so that no loop has to look there.
pub(crate) struct Index<'a> {
    pub lines: &'a [u32],
    pub quarters: &'a [[u32; 4]],
}

impl<'a> Index<'a> {
    pub(crate) fn new(groups: &Groups<'a>, lines: usize) -> Self {
        match *groups {
            Groups::Whole | Groups::Pairs => Self { lines: &[], quarters: &[] },
            Groups::Lines(index) => Self { lines: &index[..lines], quarters: &[] },
            Groups::Quarters(index) => Self { lines: &[], quarters: &index[..lines] },
        }
    }
}

/// The scales of a line's quarters in groups of 32; the last line may have only one.
#[inline(always)]
pub(crate) fn pair(row: &[f32], line: usize) -> [f32; 4] {
    match row[2 * line..] {
        [a, b, ..] => [a, a, b, b],
        [a] => [a, a, 0.0, 0.0],
        [] => [0.0; 4],
    }
}

/// Up to eight bytes of signs as a line's `u64`.
pub(crate) fn partial_signs(bytes: &[u8]) -> u64 {
    let mut line = [0; 8];
    line[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(line)
}
