//! Integer modes: every kernel gives the bits of a plain reading of the contract, whatever the
//! tiling, threads, batch or row range.

use lutmul::{
    Activations, Context, Epilogue, Granularity, Kernel, MatMut, MatRef, Options, Threads, Weights,
};
use testing::contract::{MODES, contract};
use testing::kernels::kernels;
use testing::{GRANULARITIES, activations, all_tables, weights};

fn product(
    w: &Weights<'_>,
    x: &[f32],
    m: usize,
    bias: Option<&[f32]>,
    options: &Options,
) -> Vec<f32> {
    let mut y = vec![7.0; m * w.n()];
    let x = MatRef::new(x, (m, w.k())).expect("x");
    let to = MatMut::new(&mut y, (m, w.n())).expect("y");
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    w.product().epilogue(epilogue).matmul(x, to, &mut Context::from(*options)).expect("a product");
    y
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

#[test]
fn every_kernel_gives_the_bits_of_the_contract() {
    let mut rng = testing::rng("every_kernel_gives_the_bits_of_the_contract");
    let mut shapes = Vec::new();
    for k in [0, 1, 31, 32, 63, 64, 65, 96, 127, 130, 200] {
        for (m, n) in [(0, 3), (1, 1), (1, 20), (2, 9), (4, 17), (7, 3), (9, 1), (17, 20)] {
            shapes.push((m, n, k));
        }
    }
    shapes.extend([
        (1, 70, 513),
        (3, 64, 4097),
        (8, 65, 1100),
        (16, 49, 2500),
        (70, 100, 1100),
        (300, 50, 160),
    ]);
    let granularities: Vec<_> = GRANULARITIES
        .into_iter()
        .filter(|g| !matches!(g, Granularity::Group(16 | 20) | Granularity::Block(_, 48)))
        .chain([Granularity::Group(96), Granularity::Block(5, 160)])
        .collect();
    let mut failures = Vec::new();
    let mut count = 0;
    // Under an emulator each shape meets one table, and each table several shapes.
    let every = if testing::quick() { all_tables().len() } else { 1 };
    for (i, (m, n, k)) in shapes.into_iter().enumerate() {
        let mut x = activations(&mut rng, m * k);
        if m > 1 && k > 0 {
            x[k] = 40.0;
            x[k..2 * k].iter_mut().skip(1).step_by(7).for_each(|x| *x *= 1e-3);
        }
        if m > 3 && k > 0 {
            x[2 * k..3 * k].fill(0.0);
            x[4 * k - 1] = [f32::NAN, f32::INFINITY, 1e-42, f32::MAX][i % 4];
        }
        let bias = activations(&mut rng, n);
        for (j, (name, lut, signed)) in
            all_tables().into_iter().enumerate().skip(i % every).step_by(every)
        {
            let granularity = granularities[(i + j) % granularities.len()];
            let w = weights(&mut rng, (n, k), &lut, signed, granularity);
            for mode in MODES {
                let bias = Some(&bias[..]).filter(|_| i % 3 == 0);
                let expected = bits(&contract(&w, &x, m, mode, bias));
                for kernel in kernels() {
                    let options = Options::new().with_kernel(kernel).with_mode(mode);
                    let y = bits(&product(&w, &x, m, bias, &options));
                    count += 1;
                    if y != expected {
                        let bad = y.iter().zip(&expected).filter(|(a, b)| a != b).count();
                        let kernel = kernel.name();
                        failures.push(format!(
                            "{kernel}, {mode}, {name}, {granularity}, {m}×{n}×{k}: {bad} wrong"
                        ));
                    }
                }
            }
        }
    }
    println!("{count} products");
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

#[test]
fn threads_batches_and_ranges_never_change_a_bit() {
    let mut rng = testing::rng("threads_batches_and_ranges_never_change_a_bit");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(7).build().expect("threads");
    let tables = testing::thin("tables", all_tables(), 5);
    for (i, (name, lut, signed)) in tables.into_iter().enumerate() {
        let (m, n, k) = (19, 500, 320);
        let granularity =
            [Granularity::Row, Granularity::Group(64), Granularity::Block(128, 128)][i % 3];
        let w = weights(&mut rng, (n, k), &lut, signed, granularity);
        let x = activations(&mut rng, m * k);
        for mode in MODES {
            let scalar = Kernel::available().last().expect("scalar");
            let expected = bits(&product(
                &w,
                &x,
                m,
                None,
                &Options::new().with_kernel(scalar).with_mode(mode),
            ));
            for kernel in kernels() {
                let what = format!("{name}, {mode}, {}", kernel.name());
                let options = Options::new().with_kernel(kernel).with_mode(mode);
                let y = pool.install(|| product(&w, &x, m, None, &options));
                assert_eq!(bits(&y), expected, "{what}, 7 threads");
                let one = options.with_threads(Threads::One);
                for (token, expected) in x.chunks(k).zip(expected.chunks(n)) {
                    assert_eq!(
                        bits(&product(&w, token, 1, None, &one)),
                        expected,
                        "{what}, a token"
                    );
                }
                let mut packed = Activations::new();
                packed.pack(MatRef::new(&x, (m, k)).expect("x"), &w, &options).expect("packed");
                let mut y = vec![0.0; m * n];
                let mut rest = MatMut::new(&mut y, (m, n)).expect("y");
                for first in (0..n).step_by(77) {
                    let range = first..n.min(first + 77);
                    let (part, others) = rest.split_columns(range.len());
                    let epilogue = Epilogue::default();
                    w.product()
                        .rows(range)
                        .epilogue(epilogue)
                        .matmul(&packed, part, &mut Context::from(one))
                        .expect("a range");
                    rest = others;
                }
                assert_eq!(bits(&y), expected, "{what}, ranges");
            }
        }
    }
}
