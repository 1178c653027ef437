//! Every kernel that this CPU can run, through the crate's public interface, against sums in f64.

mod support;

use lutmul_kernels::float::{self, GemvX, KC, PanelRow, TileSums, TileX};
use lutmul_kernels::{Kernel, KernelInfo, LINE, MC, Table};
use support::{Case, GROUPINGS, Numbers, Report, Weights, bound, cases, same};
use testing::kernels::instructions;

const ROWS: [usize; 5] = [1, 7, 8, 9, 17];

/// gemv's activations, in a kernel's order.
fn pack(kernel: Kernel, w: &float::Weights<'_>, x: &[f32], tokens: usize) -> Vec<f32> {
    let order = kernel.order(w);
    let mut packed = Vec::with_capacity(tokens * w.codes.lines() * LINE);
    for line in 0..w.codes.lines() {
        for token in x.chunks(w.codes.k) {
            let value = |p: &u8| token.get(line * LINE + usize::from(*p)).copied().unwrap_or(0.0);
            packed.extend(order.iter().map(value));
        }
    }
    packed
}

/// Runs gemv for all kernels and compares with sums in f64: exactly, or by the bound.
fn check_gemv(report: &mut Report, case: &Case, weights: &Weights, x: &[f32], exact: bool) {
    let w = weights.borrow(case);
    let (rows, k, tokens) = (w.codes.rows(), w.codes.k, x.len() / w.codes.k);
    let mut expected = Vec::with_capacity(tokens * rows);
    for token in x.chunks(k) {
        for row in weights.values.chunks(k) {
            let terms = token.iter().zip(row).map(|(x, w)| f64::from(*x) * w);
            expected.push(terms.fold((0.0, 0.0), |(sum, abs), t| (sum + t, abs + t.abs())));
        }
    }
    let stride = rows + 3;
    for kernel in instructions() {
        let packed = pack(kernel, &w, x, tokens);
        let mut out = vec![f32::NAN; tokens * stride];
        kernel.gemv_f32(&w, &GemvX { x: &packed, tokens }, &mut out, stride);
        let mut wrong = 0;
        for (out, expected) in out.chunks(stride).zip(expected.chunks(rows)) {
            for (y, (sum, abs)) in out.iter().zip(expected) {
                let y = f64::from(*y);
                let right = match sum.is_finite() {
                    true if exact => y == *sum,
                    true => (y - sum).abs() <= bound(k + 4, *abs),
                    false => same(y as f32, *sum as f32),
                };
                wrong += usize::from(!right);
            }
            wrong += out[rows..].iter().filter(|y| !y.is_nan()).count();
        }
        report.count(kernel, wrong, || {
            let (groups, decoder) = (weights.groups, kernel.decoder(&w));
            format!("{}, {groups} scales, gemv {tokens}×{rows}×{k}, {decoder}", case.name)
        });
    }
}

#[test]
fn gemv_keeps_its_bound() {
    let mut report = Report::new("gemv_keeps_its_bound");
    let mut numbers = Numbers(1);
    for case in cases() {
        for groups in GROUPINGS {
            for k in [1, 15, 63, 64, 65, 127, 128, 192, 1000, 4097] {
                // How rows end does not depend on their length: long ones are left to some.
                for rows in ROWS.into_iter().filter(|rows| k < 1000 || matches!(rows, 1 | 9)) {
                    let weights = Weights::random(&mut numbers, &case, (rows, k), groups);
                    for tokens in [1, 2, 4, 8] {
                        let x = numbers.floats(tokens * k);
                        check_gemv(&mut report, &case, &weights, &x, false);
                    }
                }
            }
        }
    }
    report.finish();
}

#[test]
fn integers_are_exact_in_gemv() {
    let mut report = Report::new("integers_are_exact_in_gemv");
    let mut numbers = Numbers(2);
    for case in cases().iter().filter(|case| case.integer) {
        for groups in GROUPINGS {
            for (rows, k) in [(1, 1), (9, 65), (8, 1000), (7, 4097)] {
                let mut weights = Weights::random(&mut numbers, case, (rows, k), groups);
                weights.rescale(case, |_| 0.25);
                for tokens in [1, 2, 4, 8] {
                    let x: Vec<f32> =
                        (0..tokens * k).map(|_| numbers.below(9) as f32 - 4.0).collect();
                    check_gemv(&mut report, case, &weights, &x, true);
                }
            }
        }
    }
    report.finish();
}

/// Decodes into a panel of NaN, compares all of it, and checks that nothing else was written.
fn check_panel(report: &mut Report, case: &Case, weights: &Weights) {
    let w = weights.borrow(case);
    let all = w.codes.lines();
    for kernel in instructions() {
        let order = kernel.order(&w);
        for lines in [0..all.min(8), all / 2..all.min(all / 2 + 8), all - 1..all] {
            let mut panel: Vec<PanelRow> = vec![[f32::NAN; KC + 16]; MC];
            kernel.decode_f32(&w, lines.clone(), &mut panel);
            let mut wrong = 0;
            for (row, panel) in panel.iter().enumerate() {
                let decoded = if row < w.codes.rows() { lines.len() * LINE } else { 0 };
                for (i, got) in panel[..decoded].iter().enumerate() {
                    let column = (lines.start + i / LINE) * LINE + usize::from(order[i % LINE]);
                    let right = if column < w.codes.k {
                        same(*got, weights.product(case, row, column))
                    } else {
                        got.is_finite()
                    };
                    wrong += usize::from(!right);
                }
                wrong += panel[decoded..].iter().filter(|v| !v.is_nan()).count();
            }
            report.count(kernel, wrong, || {
                let (groups, rows, k) = (weights.groups, w.codes.rows(), w.codes.k);
                let decoder = kernel.decoder(&w);
                format!("{}, {groups} scales, panel {rows}×{k} {lines:?}, {decoder}", case.name)
            });
        }
    }
}

#[test]
fn panels_are_the_tables_entries() {
    let mut report = Report::new("panels_are_the_tables_entries");
    let mut numbers = Numbers(3);
    for case in cases() {
        for groups in GROUPINGS {
            for (rows, k) in [(1, 1), (7, 63), (8, 65), (48, 127), (9, 1000), (17, 192)] {
                let weights = Weights::random(&mut numbers, &case, (rows, k), groups);
                check_panel(&mut report, &case, &weights);
            }
            check_panel(&mut report, &case, &Weights::every_code(&mut numbers, &case, groups));
        }
    }
    report.finish();
}

#[test]
fn tiles_keep_their_bound() {
    let mut report = Report::new("tiles_keep_their_bound");
    let mut numbers = Numbers(4);
    let mut panel: Vec<PanelRow> = vec![[f32::NAN; KC + 16]; MC];
    for row in &mut panel {
        row[..KC].copy_from_slice(&numbers.floats(KC));
    }
    for kernel in instructions() {
        for width in (kernel.lanes()..=kernel.tile_width()).step_by(kernel.lanes()) {
            for columns in [1, 3, 64, 509, KC] {
                for (rows, add) in [(1, false), (7, true), (MC, false), (MC, true)] {
                    let x = numbers.floats(columns * width);
                    let stride = width + 3;
                    let mut values = vec![f32::NAN; MC * stride];
                    let start = if add { 3.5 } else { f32::NAN };
                    for row in values.chunks_mut(stride) {
                        row[..width].fill(start);
                    }
                    let mut sums = TileSums { values: &mut values, stride, rows, add };
                    kernel.gemm_f32(&panel, &TileX { x: &x, width }, &mut sums);
                    let mut wrong = 0;
                    for (row, got) in values.chunks(stride).enumerate() {
                        wrong += got[width..].iter().filter(|v| !v.is_nan()).count();
                        for (token, got) in got[..width].iter().enumerate().filter(|_| row < rows) {
                            let first = if add { f64::from(start) } else { 0.0 };
                            let (sum, abs) = (0..columns).fold((first, first), |(sum, abs), c| {
                                let t = f64::from(panel[row][c]) * f64::from(x[c * width + token]);
                                (sum + t, abs + t.abs())
                            });
                            let right = (f64::from(*got) - sum).abs() <= bound(columns + 1, abs);
                            wrong += usize::from(!right);
                        }
                    }
                    report.count(kernel, wrong, || {
                        format!("tile {rows}×{width}×{columns}, add {add}")
                    });
                }
            }
        }
    }
    report.finish();
}

#[test]
fn both_shapes_agree_through_the_kernels_order() {
    let mut report = Report::new("both_shapes_agree_through_the_kernels_order");
    let mut numbers = Numbers(5);
    for case in cases().iter().filter(|case| case.integer) {
        let (rows, k) = (17, 200);
        let mut weights = Weights::random(&mut numbers, case, (rows, k), GROUPINGS[0]);
        weights.rescale(case, |_| 0.5);
        let w = weights.borrow(case);
        let x: Vec<f32> = (0..k).map(|_| numbers.below(9) as f32 - 4.0).collect();
        for kernel in instructions() {
            let mut panel: Vec<PanelRow> = vec![[f32::NAN; KC + 16]; MC];
            kernel.decode_f32(&w, 0..w.codes.lines(), &mut panel);
            for row in &mut panel[rows..] {
                row.fill(0.0);
            }
            let width = kernel.lanes();
            let mut tile = Vec::new();
            for value in pack(kernel, &w, &x, 1) {
                tile.extend((0..width).map(|token| value * (token % 3) as f32));
            }
            let mut values = vec![f32::NAN; MC * width];
            let mut sums = TileSums { values: &mut values, stride: width, rows, add: false };
            kernel.gemm_f32(&panel, &TileX { x: &tile, width }, &mut sums);
            let mut wrong = 0;
            for (row, got) in weights.values.chunks(k).zip(values.chunks(width)) {
                let sum: f64 = row.iter().zip(&x).map(|(w, x)| w * f64::from(*x)).sum();
                let right = |(token, y): (usize, &f32)| f64::from(*y) == sum * (token % 3) as f64;
                wrong += got.iter().enumerate().filter(|y| !right(*y)).count();
            }
            report.count(kernel, wrong, || format!("{}, panel and tile", case.name));
        }
    }
    report.finish();
}

/// Kernels that detection misses would be tested nowhere, and nobody would notice.
#[test]
fn every_kernel_that_this_cpu_supports_is_available() {
    let mut missing = Vec::new();
    for info in KernelInfo::all() {
        let features = info.features();
        let lacks: Vec<_> = features.iter().filter(|f| !support::detected(f)).collect();
        println!("{:13} lacks {lacks:?}", info.name());
        if let Some(why) = info.refusal() {
            println!("{:13} refused: {why}", info.name());
        } else if lacks.is_empty() != info.kernel().is_some() {
            missing.push(info.name());
        }
    }
    assert!(missing.is_empty(), "detection differs from the standard library's: {missing:?}");
    // Baselines for benches come after the scalar kernel.
    let kernels = KernelInfo::all().filter(|info| !info.name().ends_with("-gather"));
    let last = kernels.last().expect("a kernel");
    assert!(last.name() == "scalar" && last.kernel().is_some());
    assert_eq!(Some(Kernel::best()), Kernel::available().next());
}

#[test]
fn a_table_without_finite_entries_is_refused() {
    assert!(Table::new(&[f32::NAN; 256]).is_none());
    assert!(Table::new(&[f32::INFINITY; 256]).is_none());
}
