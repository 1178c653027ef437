//! Integer modes: every kernel gives the bits of a plain reading of the contract, whatever the
//! tiling, threads, batch or row range.

mod common;

use common::{GRANULARITIES, activations, tables, weights};
use lutmul::{
    Activations, Epilogue, Granularity, Kernel, MatMut, MatRef, Mode, Options, Scratch, Threads,
    Weights, Workspace, matmul, matmul_rows,
};

const MODES: [Mode; 4] = [Mode::A24, Mode::A16, Mode::A8, Mode::A8T];

/// The contract, read plainly: i128 sums, f64 scaling, one rounding.
fn contract(w: &Weights<'_>, x: &[f32], m: usize, mode: Mode, bias: Option<&[f32]>) -> Vec<f32> {
    let (n, k) = (w.n(), w.k());
    let image = w.lut().image();
    let group = match w.scales().granularity() {
        Granularity::Group(g) | Granularity::Block(_, g) => g,
        _ => k.max(1),
    };
    let mut y = Vec::with_capacity(m * n);
    for x in (0..m).map(|token| &x[token * k..][..k]) {
        let (ints, sx) = quantise(x, mode);
        for row in 0..n {
            let mut total: Option<f64> = None;
            for first in (0..k).step_by(group) {
                let mut sum = 0i128;
                for col in first..k.min(first + group) {
                    let code = w.codes()[row * k + col];
                    let negative = w
                        .signs()
                        .is_some_and(|s| s[row * k.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1);
                    let l = i128::from(image.value(code)) * if negative { -1 } else { 1 };
                    sum += l * i128::from(ints[col]);
                }
                let term = sum as f64 * sx * (image.step * f64::from(w.scales().at(row, first)));
                total = Some(total.map_or(term, |t| t + term));
            }
            let t = total.unwrap_or(0.0);
            let bias = bias.map(|b| f64::from(b[row]));
            y.push(if sx.is_nan() {
                f32::from_bits(0x7FC0_0000)
            } else {
                bias.map_or(t, |b| t + b) as f32
            });
        }
    }
    y
}

fn quantise(x: &[f32], mode: Mode) -> (Vec<i64>, f64) {
    let limit = match mode {
        Mode::A24 => 8_290_687.0,
        Mode::A16 => 32_512.0,
        Mode::A8 => 32_385.0,
        _ => 127.0,
    };
    let max = |x: &[f32]| {
        x.iter()
            .fold(0.0f64, |a, x| if x.is_finite() { a.max(f64::from(x.abs())) } else { f64::NAN })
    };
    if x.iter().any(|x| !x.is_finite()) {
        return (vec![0; x.len()], f64::NAN);
    }
    let a = max(x);
    if a == 0.0 {
        return (vec![0; x.len()], 0.0);
    }
    let inv = limit / a;
    let mut ints = Vec::new();
    for group in x.chunks(32) {
        let multiplier = match mode {
            Mode::A8 => (max(group) * inv / 127.0).ceil().clamp(1.0, 255.0),
            _ => 1.0,
        };
        ints.extend(group.iter().map(|x| {
            let digit = (f64::from(*x) * inv / multiplier).round_ties_even();
            (digit * multiplier) as i64
        }));
    }
    (ints, a / limit)
}

fn product(
    w: &Weights<'_>,
    x: &[f32],
    m: usize,
    bias: Option<&[f32]>,
    options: &Options,
) -> Vec<f32> {
    let mut y = vec![7.0; m * w.n()];
    let x = MatRef::new(x, m, w.k()).expect("x");
    let to = MatMut::new(&mut y, m, w.n()).expect("y");
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    matmul(w, x, to, &epilogue, options, &mut Workspace::new()).expect("a product");
    y
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

#[test]
fn every_kernel_gives_the_bits_of_the_contract() {
    let mut rng = common::rng("every_kernel_gives_the_bits_of_the_contract");
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
    let every = if common::quick() { tables().len() } else { 1 };
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
            tables().into_iter().enumerate().skip(i % every).step_by(every)
        {
            let granularity = granularities[(i + j) % granularities.len()];
            let w = weights(&mut rng, (n, k), &lut, signed, granularity);
            for mode in MODES {
                let bias = Some(&bias[..]).filter(|_| i % 3 == 0);
                let expected = bits(&contract(&w, &x, m, mode, bias));
                for kernel in Kernel::available() {
                    let options = Options::with_kernel(kernel).mode(mode);
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
    let mut rng = common::rng("threads_batches_and_ranges_never_change_a_bit");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(7).build().expect("threads");
    let tables = common::thin("tables", tables(), 5);
    for (i, (name, lut, signed)) in tables.into_iter().enumerate() {
        let (m, n, k) = (19, 500, 320);
        let granularity =
            [Granularity::Row, Granularity::Group(64), Granularity::Block(128, 128)][i % 3];
        let w = weights(&mut rng, (n, k), &lut, signed, granularity);
        let x = activations(&mut rng, m * k);
        for mode in MODES {
            let scalar = Kernel::available().last().expect("scalar");
            let expected =
                bits(&product(&w, &x, m, None, &Options::with_kernel(scalar).mode(mode)));
            for kernel in Kernel::available() {
                let what = format!("{name}, {mode}, {}", kernel.name());
                let options = Options::with_kernel(kernel).mode(mode);
                let y = pool.install(|| product(&w, &x, m, None, &options));
                assert_eq!(bits(&y), expected, "{what}, 7 threads");
                let one = options.threads(Threads::One);
                for (token, expected) in x.chunks(k).zip(expected.chunks(n)) {
                    assert_eq!(
                        bits(&product(&w, token, 1, None, &one)),
                        expected,
                        "{what}, a token"
                    );
                }
                let mut packed = Activations::new();
                packed.pack(&w, MatRef::new(&x, m, k).expect("x"), &options).expect("packed");
                let mut y = vec![0.0; m * n];
                let mut rest = MatMut::new(&mut y, m, n).expect("y");
                for first in (0..n).step_by(77) {
                    let range = first..n.min(first + 77);
                    let (part, others) = rest.split_columns(range.len());
                    let epilogue = Epilogue::default();
                    matmul_rows(&w, range, &packed, part, &epilogue, &one, &mut Scratch::new())
                        .expect("a range");
                    rest = others;
                }
                assert_eq!(bits(&y), expected, "{what}, ranges");
            }
        }
    }
}
