//! Every kernel against the definition in f64: the bounds of F32 and BF16 modes, and exactness where all
//! products and sums are integers that f32 holds.

use testing::with_signs;

use std::collections::BTreeSet;

use lutmul::{
    Activation, Context, Epilogue, Granularity, KernelInfo, MatMut, MatRef, Mode, Options, Plan,
    Scales, Shape, Threads, Weights, reference,
};
use testing::kernels::{kernels, wanted};
use testing::{FLOATS, GRANULARITIES, activations, bound, bounds, in_mode, tables, weights};

/// Multiplies into a buffer of NaN, so that whatever is not written shows.
fn product(w: &Weights<'_>, x: &[f32], m: usize, options: &Options) -> Vec<f32> {
    let mut y = vec![f32::NAN; m * w.n()];
    let x = MatRef::new(x, (m, w.k())).expect("x");
    let to = MatMut::new(&mut y, (m, w.n())).expect("y");
    w.matmul(x, to, &mut Context::from(*options)).expect("a product");
    y
}

/// What a mode of floats should give.
struct Expected {
    y: Vec<f64>,
    bounds: Vec<f64>,
}

impl Expected {
    fn new(mode: Mode, w: &Weights<'_>, x: &[f32], m: usize) -> Self {
        let (w, x) = in_mode(w, x, mode);
        let product = reference::matmul(&w, &x, m).expect("a reference");
        let bounds = bounds(mode, &w, &x, &product.abs_sum);
        Self { y: product.y, bounds }
    }

    /// Compares all outputs; says how many are beyond their bounds, and the first.
    fn compare(&self, y: &[f32]) -> Option<String> {
        let beyond = |i: &usize| {
            let error = (f64::from(y[*i]) - self.y[*i]).abs();
            error.is_nan() || error > self.bounds[*i]
        };
        let bad: Vec<usize> = (0..y.len()).filter(beyond).collect();
        let first = *bad.first()?;
        let (got, right) = (y[first], self.y[first]);
        Some(format!("{} outputs beyond the bound, first {first}: {got} for {right}", bad.len()))
    }
}

#[test]
fn every_kernel_keeps_the_bound() {
    let mut rng = testing::rng("every_kernel_keeps_the_bound");
    // All tokens up to both sides of a tile with all tails of k, and every n with some of them.
    let mut small = Vec::new();
    for (i, k) in [0, 1, 15, 16, 63, 64, 65, 127, 130].into_iter().enumerate() {
        small.extend((0..=17).map(|m| (m, [20, 0, 1, 3, 7, 8, 9, 17][(m + 3 * i) % 8], k)));
    }
    let large = [
        (1, 130, 513),
        (2, 64, 4097),
        (8, 65, 1100),
        (16, 49, 520),
        (70, 100, 1100),
        (530, 50, 600),
    ];
    let mut cases = Vec::new();
    for (i, shape) in small.into_iter().chain(large).enumerate() {
        for j in 0..tables().len() {
            // Pairwise: each table meets each granularity at some shape of each kind.
            let granularity = |g: usize| GRANULARITIES[(i + 2 * j + 3 * g) % GRANULARITIES.len()];
            // BF16 with one of the three.
            let modes = |g: usize| if g == (i + j) % 3 { &FLOATS[..] } else { &FLOATS[..1] };
            cases.extend((0..3).map(|g| (shape, j, granularity(g), modes(g))));
        }
    }
    let (mut failures, mut ran) = (Vec::new(), BTreeSet::new());
    let cases = testing::thin("shape × table × granularity", cases, 17);
    for ((m, n, k), table, granularity, modes) in cases {
        let (name, lut, signed) = tables().swap_remove(table);
        let x = activations(&mut rng, m * k);
        let w = weights(&mut rng, (n, k), &lut, signed, granularity);
        for mode in modes.iter().copied() {
            let expected = Expected::new(mode, &w, &x, m);
            for kernel in kernels() {
                let options =
                    Options::new().with_kernel(kernel).with_threads(Threads::One).with_mode(mode);
                let y = product(&w, &x, m, &options);
                ran.insert(kernel.name());
                if let Some(why) = expected.compare(&y) {
                    let what = format!("{name}, {granularity}, {m}×{n}×{k}");
                    failures.push(format!("{}, {mode}, {what}: {why}", kernel.name()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    // A kernel whose features this CPU has and that did not run was not tested.
    let supported =
        KernelInfo::all().filter(|info| info.missing().next().is_none() && wanted(info.name()));
    assert_eq!(ran, supported.map(KernelInfo::name).collect());
    println!("ran: {ran:?}");
}

#[test]
fn integers_are_exact() {
    let mut rng = testing::rng("integers_are_exact");
    for (_, lut, signed) in
        tables().into_iter().filter(|t| t.1.values().iter().all(|v| v.fract() == 0.0))
    {
        for (m, n, k) in [(1, 9, 200), (3, 5, 64), (8, 3, 129), (20, 50, 700)] {
            let mut w = weights(&mut rng, (n, k), &lut, signed, Granularity::Tensor);
            let scales = Scales::tensor(0.5, (n, k)).expect("scales");
            let signs = w.signs().map(|s| s.to_vec().into());
            w = Weights::new(w.codes().to_vec(), (n, k), lut.clone(), scales)
                .and_then(|w| with_signs(w, signs))
                .expect("weights");
            let x: Vec<f32> =
                activations(&mut rng, m * k).iter().map(|x| (x * 3.0).round()).collect();
            let expected = reference::matmul(&w, &x, m).expect("a reference");
            // Entries of two bytes beyond 256 are no bf16.
            let exact = |mode: &Mode| *mode == Mode::F32 || *lut.bf16() == lut;
            for (mode, kernel) in
                FLOATS.into_iter().filter(exact).flat_map(|mode| kernels().map(move |k| (mode, k)))
            {
                let y = product(&w, &x, m, &Options::new().with_kernel(kernel).with_mode(mode));
                let y: Vec<f64> = y.into_iter().map(f64::from).collect();
                assert_eq!(y, expected.y, "{}, {mode}, {m}×{n}×{k}", kernel.name());
            }
        }
    }
}

/// A kernel may decode to a multiple of the weights and divide later: no step of that may overflow.
#[test]
fn large_scales_do_not_overflow() {
    let mut rng = testing::rng("large_scales_do_not_overflow");
    let largest = 2f32.powi(126);
    // Subnormal entries times these x would underflow.
    for (name, lut, signed) in tables().into_iter().filter(|table| table.0 != "odd ones") {
        let small: Vec<u8> = (0..=255).filter(|c| lut.entry(*c).abs() <= 1.0).collect();
        for (m, n, k) in [(1, 9, 65), (3, 3, 130), (20, 9, 100)] {
            for granularity in [Granularity::Row, Granularity::Group(64), Granularity::Group(20)] {
                let random = weights(&mut rng, (n, k), &lut, signed, granularity);
                let codes: Vec<u8> =
                    random.codes().iter().map(|c| small[usize::from(*c) % small.len()]).collect();
                let values = vec![largest; random.scales().values().len()];
                let scales = Scales::new(values, (n, k), granularity).expect("scales");
                let signs = random.signs().map(|s| s.to_vec().into());
                let w = Weights::new(codes, (n, k), lut.clone(), scales)
                    .and_then(|w| with_signs(w, signs))
                    .expect("weights");
                let x: Vec<f32> = activations(&mut rng, m * k).iter().map(|x| x * 1e-9).collect();
                for mode in FLOATS {
                    let expected = Expected::new(mode, &w, &x, m);
                    for kernel in kernels() {
                        let y =
                            product(&w, &x, m, &Options::new().with_kernel(kernel).with_mode(mode));
                        let wrong = expected.compare(&y);
                        let kernel = kernel.name();
                        assert_eq!(
                            wrong, None,
                            "{kernel}, {mode}, {name}, {granularity}, {m}×{n}×{k}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_epilogue_is_applied_at_the_store() {
    let mut rng = testing::rng("the_epilogue_is_applied_at_the_store");
    let (n, k) = (70, 96);
    let w = weights(&mut rng, (n, k), &lutmul::Lut::qins_linear(), true, Granularity::Row);
    let bias = activations(&mut rng, n);
    for m in [1, 3, 20] {
        let x = activations(&mut rng, m * k);
        let before = activations(&mut rng, m * n);
        let sums = reference::matmul(&w, &x, m).expect("a reference");
        for activation in Activation::ALL {
            for (accumulate, bias) in [(false, None), (true, Some(&bias[..]))] {
                let epilogue = Epilogue { bias, activation, accumulate };
                for kernel in kernels() {
                    let mut y = before.clone();
                    let x = MatRef::new(&x, (m, k)).expect("x");
                    let to = MatMut::new(&mut y, (m, n)).expect("y");
                    let options = Options::new().with_kernel(kernel);
                    w.product()
                        .epilogue(epilogue)
                        .matmul(x, to, &mut Context::from(options))
                        .expect("a product");
                    for (i, y) in y.iter().enumerate() {
                        let bias = bias.map_or(0.0, |b| f64::from(b[i % n]));
                        let old = if accumulate { f64::from(before[i]) } else { 0.0 };
                        let expected = reference::finish(sums.y[i], bias, activation, old);
                        let error = (f64::from(*y) - expected).abs();
                        // Slopes of all activations are below 1.2.
                        let bound = 1.2 * bound(k, sums.abs_sum[i]) + 1e-6 * (1.0 + expected.abs());
                        assert!(
                            error <= bound,
                            "{} {activation} {y} for {expected}",
                            kernel.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn shapes_are_as_documented() {
    let mut rng = testing::rng("shapes_are_as_documented");
    let lut = lutmul::Lut::int8();
    let row = weights(&mut rng, (4, 96), &lut, false, Granularity::Row);
    let odd = weights(&mut rng, (4, 96), &lut, false, Granularity::Group(20));
    let kernel = lutmul::Kernel::best();
    let shape = |w, m, mode| {
        let options = Options::new().with_kernel(kernel).with_mode(mode);
        Plan::new(w, m, &options).map(|plan| plan.shape()).expect("a plan")
    };
    let of_f32 = [1, 8, 9].map(|m| shape(&row, m, Mode::F32));
    assert_eq!(of_f32, [Shape::Gemv, Shape::Gemv, Shape::Gemm]);
    assert_eq!(shape(&odd, 1, Mode::F32), Shape::Gemm);
    // It depends on the mode, too: bytes of one digit take gemv for more tokens.
    assert_eq!([1, 17].map(|m| shape(&row, m, Mode::A8T)), [Shape::Gemv, Shape::Gemm]);
    let refused = Plan::new(&odd, 1, &Options::new().with_kernel(kernel).with_mode(Mode::A16));
    assert!(refused.is_err(), "groups of 20");
}
