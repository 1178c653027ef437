//! The bounds of `lutmul::bound` hold for every kernel, mode, format and granularity, and could not be much
//! smaller.

use testing::with_signs;

use std::collections::BTreeMap;

use lutmul::bound::error_bound;
use lutmul::{
    Context, Granularity, Lut, MatMut, MatRef, Mode, Options, Scales, Threads, Weights, bf16,
    reference,
};
use rand::RngExt;
use rand::rngs::StdRng;
use testing::bad::{ones, text};
use testing::kernels::kernels;
use testing::{GRANULARITIES, all_tables, contract, in_mode, weights};

fn product(w: &Weights<'_>, x: &[f32], options: &Options) -> Vec<f32> {
    let m = x.len() / w.k();
    let mut y = vec![f32::NAN; m * w.n()];
    let x = MatRef::new(x, (m, w.k())).expect("x");
    let to = MatMut::new(&mut y, (m, w.n())).expect("y");
    w.matmul(x, to, &mut Context::from(*options)).expect("a product");
    y
}

/// Activations of one kind, and what scales are multiplied by for results to be within f32.
fn activations(rng: &mut StdRng, kind: &str, len: usize) -> (Vec<f32>, f32) {
    let mut of = |f: &mut dyn FnMut(usize, f32) -> f32| -> Vec<f32> {
        (0..len).map(|i| f(i, rng.random_range(-1.0f32..1.0))).collect()
    };
    match kind {
        "plain" => (of(&mut |_, x| x), 1.0),
        "outliers" => (of(&mut |i, x| if i % 61 == 7 { 500.0 * x } else { x }), 1.0),
        "subnormal" => (of(&mut |_, x| x * f32::MIN_POSITIVE), 1.0),
        "mixed" => (of(&mut |i, x| x * [1.0, 1e-20, 1e-42][i % 3]), 1.0),
        "large" => (of(&mut |i, x| if i % 70 == 3 { bf16::MAX.to_f32() } else { 1e30 * x }), 1e-9),
        "zeros" => (vec![0.0; len], 1.0),
        other => panic!("{other}"),
    }
}

/// The product with the table's image.
fn image_product(w: &Weights<'_>, x: &[f32]) -> Vec<f64> {
    let (k, image) = (w.k(), w.lut().image());
    let weight = |row: usize, col: usize| {
        let sign =
            if w.signs().is_some_and(|s| s[row * k.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1) {
                -1.0
            } else {
                1.0
            };
        let scale = f64::from(w.scales().at(row, col));
        sign * f64::from(image.value(w.codes()[row * k + col])) * image.step * scale
    };
    let tokens = x.chunks(k);
    tokens
        .flat_map(|x| {
            (0..w.n()).map(move |row| (0..k).map(|c| f64::from(x[c]) * weight(row, c)).sum())
        })
        .collect()
}

#[test]
fn every_kernel_keeps_the_bounds() {
    const KINDS: [&str; 6] = ["plain", "outliers", "subnormal", "mixed", "large", "zeros"];
    let mut rng = testing::rng("every_kernel_keeps_the_bounds");
    let mut cases = Vec::new();
    for (i, kind) in KINDS.into_iter().enumerate() {
        for table in 0..all_tables().len() {
            for (j, granularity) in GRANULARITIES.into_iter().enumerate() {
                let m = [1, 3, 17][(i + table + j) % 3];
                cases.push((kind, table, granularity, m));
            }
        }
    }
    let cases = testing::thin("kinds × tables × granularities", cases, 23);
    let (n, k) = (5, 200);
    let (mut failures, mut finite) = (Vec::new(), BTreeMap::new());
    for (kind, table, granularity, m) in cases {
        let (name, lut, signed) = all_tables().swap_remove(table);
        let (x, by) = activations(&mut rng, kind, m * k);
        let w = weights(&mut rng, (n, k), &lut, signed, granularity);
        let scales = w.scales().values().iter().map(|s| s * by).collect();
        let scales = Scales::new(scales, (n, k), granularity).expect("scales");
        let signs = w.signs().map(|s| s.to_vec().into());
        let w = Weights::new(w.codes().to_vec(), (n, k), lut, scales)
            .and_then(|w| with_signs(w, signs))
            .expect("weights");
        let exact = reference::matmul(&w, &x, m).expect("a reference");
        let with_image = image_product(&w, &x);
        let (rounded, _) = in_mode(&w, &x, Mode::Bf16);
        let with_rounded = reference::matmul(&rounded, &x, m).expect("a reference");
        let odd = granularity.block((n, k)).1;
        for mode in Mode::ALL {
            if mode.is_integer() && odd < k && !odd.is_multiple_of(32) {
                continue;
            }
            let from = MatRef::new(&x, (m, k)).expect("x");
            let bounds = error_bound(&w, 0..n, from, mode).expect("bounds");
            let some = error_bound(&w, 2..4, from, mode).expect("bounds");
            assert_eq!(some[..2], bounds[2..4]);
            for kernel in kernels() {
                let options =
                    Options::new().with_kernel(kernel).with_mode(mode).with_threads(Threads::One);
                for (i, y) in product(&w, &x, &options).into_iter().enumerate() {
                    let bound = bounds[i];
                    // What f64 rounds in the sums to compare with.
                    let rounded = (k + 8) as f64 * f64::EPSILON * exact.abs_sum[i];
                    let of_mode = match mode {
                        Mode::F32 => exact.y[i],
                        Mode::Bf16 => with_rounded.y[i],
                        _ => with_image[i],
                    };
                    let beyond = |exact: f64, bound: f64| {
                        let error = (f64::from(y) - exact).abs();
                        bound.is_finite() && (error.is_nan() || error > bound + rounded)
                    };
                    if beyond(of_mode, bound.arithmetic) || beyond(exact.y[i], bound.total()) {
                        failures.push(format!(
                            "{}, {mode}, {name}, {granularity}, {kind}, {m} tokens: {y:e} for {of_mode:e} \
                             and {:e} beyond {bound:?}",
                            kernel.name(),
                            exact.y[i],
                        ));
                    }
                    let count: &mut [usize; 2] = finite.entry((kind, mode.name())).or_default();
                    count[0] += usize::from(bound.total().is_finite());
                    count[1] += 1;
                }
            }
        }
    }
    println!("finite bounds: {finite:?}");
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    for ((kind, mode), [finite, all]) in finite {
        // Sums without their scales leave the range of f32 before those with them do.
        let least = match (kind, mode) {
            ("large", "f32" | "bf16") => 0.05,
            ("large", _) => 0.8,
            _ => 1.0,
        };
        assert!(finite as f64 >= least * all as f64, "{kind}, {mode}: {finite} of {all}");
    }
}

/// A token that a mode quantises as badly as can be.
fn quantised_badly(mode: Mode, k: usize) -> Vec<f32> {
    // Just below the middle between two integers, but for the largest of each group of A8.
    let limit = if mode == Mode::A8 { 127.0 } else { contract::limit(mode) };
    let middle = |i: usize| (((i % 50) as f64 + 0.5 - 1e-4) / limit) as f32;
    (0..k).map(|i| if i % 32 == 0 { 1.0 } else { middle(i) }).collect()
}

#[test]
fn integer_modes_come_close_to_their_bounds() {
    let k = 3072;
    let w = ones(2, k);
    for mode in Mode::ALL.into_iter().filter(|mode| mode.is_integer()) {
        let x = quantised_badly(mode, k);
        let from = MatRef::new(&x, (1, k)).expect("x");
        let bound = error_bound(&w, 0..2, from, mode).expect("bounds")[0].arithmetic;
        let exact = reference::matmul(&w, &x, 1).expect("a reference").y[0];
        for kernel in kernels() {
            let y = product(&w, &x, &Options::new().with_kernel(kernel).with_mode(mode));
            let reached = (f64::from(y[0]) - exact).abs() / bound;
            assert!((0.8..=1.0).contains(&reached), "{}, {mode}: {reached}", kernel.name());
        }
    }
}

/// In gemm a block of k is one chain of additions: what is less than half a unit in the last
/// place of the first product is lost, all of it.
#[test]
fn f32_comes_within_a_factor_of_its_bound() {
    let (m, n, k) = (17, 3, 512);
    let small = (1.0 - 2f32.powi(-10)) * 2f32.powi(-25);
    let lut =
        Lut::new(&std::array::from_fn(|c| if c == 0 { 1.0 } else { small })).expect("a table");
    let codes = (0..n * k).map(|i| u8::from(i % k != 0)).collect::<Vec<_>>();
    let w = Weights::new(codes, (n, k), lut, Scales::tensor(1.0, (n, k)).expect("a scale"));
    let w = w.expect("weights");
    let x = vec![1f32; m * k];
    let from = MatRef::new(&x, (m, k)).expect("x");
    let bounds = error_bound(&w, 0..n, from, Mode::F32).expect("bounds");
    let exact = reference::matmul(&w, &x, m).expect("a reference");
    for kernel in kernels() {
        for (i, y) in product(&w, &x, &Options::new().with_kernel(kernel)).into_iter().enumerate() {
            let reached = (f64::from(y) - exact.y[i]).abs() / bounds[i].arithmetic;
            assert!((0.45..=1.0).contains(&reached), "{}: {reached}", kernel.name());
        }
    }
}

/// Activations in the middle between two numbers of bf16 are as far from both as can be.
#[test]
fn bf16_comes_close_to_its_bound() {
    let (m, k) = (40, 3072);
    let w = ones(2, k);
    let x = vec![1.0 + 2f32.powi(-8); m * k];
    let from = MatRef::new(&x, (m, k)).expect("x");
    let bound = error_bound(&w, 0..2, from, Mode::Bf16).expect("bounds")[0].arithmetic;
    let exact = reference::matmul(&w, &x, m).expect("a reference").y[0];
    for kernel in kernels() {
        for y in product(&w, &x, &Options::new().with_kernel(kernel).with_mode(Mode::Bf16)) {
            let reached = (f64::from(y) - exact).abs() / bound;
            assert!((0.8..=1.0).contains(&reached), "{}: {reached}", kernel.name());
        }
    }
}

/// Sums whose terms, or whose factors, are subnormal: kernels may take them for 0, and no more.
#[test]
fn bf16_knows_what_is_flushed() {
    let (n, k) = (3, 128);
    let tiny = |power: i32| f32::from_bits(1 << (149 + power));
    let entries = [1.0, tiny(-127), 1.5 * tiny(-127), 2f32.powi(-70)];
    let lut = Lut::new(&std::array::from_fn(|c| entries[c % 4])).expect("a table");
    let mut lost = 0;
    for (code, x) in [(0, tiny(-127)), (1, 1.0), (2, 3.0), (3, 2f32.powi(-57))] {
        for m in [1, 40] {
            let scales = Scales::tensor(2f32.powi(60), (n, k)).expect("a scale");
            let w = Weights::new(vec![code; n * k], (n, k), lut.clone(), scales);
            let (w, x) = (w.expect("weights"), vec![x; m * k]);
            let from = MatRef::new(&x, (m, k)).expect("x");
            let bounds = error_bound(&w, 0..n, from, Mode::Bf16).expect("bounds");
            let exact = reference::matmul(&w, &x, m).expect("a reference");
            for kernel in kernels() {
                let y = product(&w, &x, &Options::new().with_kernel(kernel).with_mode(Mode::Bf16));
                for (i, y) in y.into_iter().enumerate() {
                    let error = (f64::from(y) - exact.y[i]).abs();
                    let (name, most) = (kernel.name(), bounds[i].arithmetic);
                    assert!(
                        error <= most,
                        "{name}, {code}, {m}: {y:e} for {:e}, {most:e}",
                        exact.y[i]
                    );
                    // Not by orders of magnitude more than all that there is.
                    assert!(most <= 12.0 * exact.y[i], "{most:e}, {:e}", exact.y[i]);
                    lost += usize::from(y == 0.0);
                }
            }
        }
    }
    println!("{lost} sums are 0");
}

/// The factor bounds the bounds of any token, and is what they reach for the worst of them.
#[test]
fn the_factor_is_a_bound_of_the_bounds() {
    let mut rng = testing::rng("the_factor_is_a_bound_of_the_bounds");
    for mode in Mode::ALL {
        for (name, lut, signed) in all_tables() {
            let (n, k) = (4, 320);
            let w = weights(&mut rng, (n, k), &lut, signed, Granularity::Group(32));
            let image = w.lut().image();
            let (rounded, _) = in_mode(&w, &[], Mode::Bf16);
            let same =
                |a: &Lut, b: &Lut| a.values().map(f32::to_bits) == b.values().map(f32::to_bits);
            let mut x = activations(&mut rng, "outliers", 2 * k).0;
            // As far from a bf16 as can be, too.
            x[k..].fill(-1.0 - 2f32.powi(-8));
            let from = MatRef::new(&x, (2, k)).expect("x");
            let bounds = error_bound(&w, 0..n, from, mode).expect("bounds");
            for (i, bound) in bounds.into_iter().enumerate() {
                let (token, row) = (i / n, i % n);
                let weight = |col: usize| {
                    let code = w.codes()[row * k + col];
                    let entry = match mode {
                        Mode::F32 => f64::from(w.lut().entry(code).abs()),
                        Mode::Bf16 => f64::from(rounded.lut().entry(code).abs()),
                        _ => f64::from(image.magnitude(code)) * image.step,
                    };
                    entry * f64::from(w.scales().at(row, col))
                };
                let max = x[token * k..][..k].iter().fold(0f32, |max, x| max.max(x.abs()));
                let norm: f64 = (0..k).map(weight).sum();
                let most = mode.error_factor(k) * f64::from(max) * norm * (1.0 + 1e-12) + 1e-36;
                assert!(bound.arithmetic <= most, "{name}, {mode}: {bound:?}, {most:e}");
                // Where all magnitudes are the largest, but for the number of groups and subnormals.
                assert!(token == 0 || bound.arithmetic >= 0.99 * most - 1e-35, "{name}, {mode}");
                let scales: f64 = (0..k).map(|col| f64::from(w.scales().at(row, col))).sum();
                let (largest, exact) = match mode {
                    Mode::F32 => (0.0, true),
                    Mode::Bf16 => (norm / 255.0, same(rounded.lut(), w.lut())),
                    _ => (image.step / 2.0 * scales, image.exact),
                };
                let largest = f64::from(max) * largest * (1.0 + 1e-9);
                assert!(bound.image <= largest, "{name}, {mode}: {bound:?}, {largest:e}");
                assert!((bound.image == 0.0) == exact, "{name}, {mode}");
            }
        }
    }
}

#[test]
fn what_has_no_bound() {
    let w = ones(3, 70);
    let mut x = vec![1f32; 4 * 70];
    x[5] = f32::NAN;
    x[70] = f32::NEG_INFINITY;
    x[140..210].fill(f32::MAX);
    let from = MatRef::new(&x, (4, 70)).expect("x");
    for mode in Mode::ALL {
        let bounds = error_bound(&w, 0..3, from, mode).expect("bounds");
        for (i, bound) in bounds.into_iter().enumerate() {
            assert_eq!(bound.arithmetic == f64::INFINITY, i < 9, "{mode}: {bound:?}");
        }
        let reversed = std::ops::Range { start: 2, end: 1 };
        for rows in [0..4, reversed, 4..4] {
            let message = text(error_bound(&w, rows.clone(), from, mode));
            let (start, end) = (rows.start, rows.end);
            let expected = format!("rows {start}..{end} are not within the 3 rows of the weights");
            assert_eq!(message, expected);
        }
        let message = text(error_bound(&ones(3, 71), 0..3, from, mode));
        assert_eq!(message, "x: expected (4, 71) (rows, columns), got (4, 70)");
        assert!(error_bound(&w, 3..3, from, mode).expect("no rows").is_empty());
        assert_eq!(mode.error_factor(1 << 24).is_finite(), mode.is_integer());
    }
    let scales = Scales::tensor(1.0, (1, 2)).expect("a scale");
    let nan = Weights::new(vec![0, 0x7F], (1, 2), Lut::e4m3(), scales).expect("weights");
    let x = MatRef::new(&[1f32; 2], (1, 2)).expect("x");
    let message = text(error_bound(&nan, 0..1, x, Mode::A8));
    assert_eq!(message, "weights: NaN at row 0, column 1");
    let nan = nan.with_non_finite(lutmul::NonFinite::Propagate);
    let bound = error_bound(&nan, 0..1, x, Mode::F32).expect("bounds")[0];
    assert_eq!(bound.arithmetic, f64::INFINITY);
}

/// What a table made by `(c − 1)/254 · max` in f32 loses when it is taken for an exact one.
#[test]
fn imported_affine_tables() {
    let mut rng = testing::rng("imported_affine_tables");
    let mut worst = 0f64;
    for _ in 0..2000 {
        let max: f32 = rng.random_range(1e-3..1e3);
        let values = std::array::from_fn(|c| c.saturating_sub(1) as f32 / 254.0 * max);
        let (lut, step) = Lut::split_affine(&values).expect("an affine table");
        let ulp = f64::from(max.next_up() - max);
        for (value, entry) in values.iter().zip(lut.values()) {
            let error = (f64::from(*value) - f64::from(*entry) * f64::from(step)).abs();
            worst = worst.max(error / ulp);
        }
    }
    assert!((0.8..=2.0).contains(&worst), "{worst} ulp of the largest entry");
}
