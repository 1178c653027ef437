//! The ends of the number range in integer modes: every kernel gives the bits of the contract there too,
//! and what is beyond an end is an error, or infinite where the sum is.

use testing::with_signs;

use lutmul::bound::error_bound;
use lutmul::{
    Activations, Context, Element, Epilogue, Error, Granularity, Kernel, Lut, MatMut, MatRef, Mode,
    Options, Scales, Weights, bf16, reference,
};
use rand::RngExt;
use testing::bad::{BEFORE, fails, one_thread, ones, per_tensor, text};
use testing::contract::{MODES, contract, most_columns};
use testing::kernels::kernels;

const SMALLEST: f32 = f32::from_bits(1);

fn product<X: Element>(
    w: &Weights<'_>,
    x: &[X],
    bias: Option<&[f32]>,
    options: &Options,
) -> Result<Vec<f32>, Error> {
    let m = x.len() / w.k();
    let mut y = vec![BEFORE; m * w.n()];
    let (x, to) = (MatRef::new(x, (m, w.k()))?, MatMut::new(&mut y, (m, w.n()))?);
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    w.product().epilogue(epilogue).matmul(x, to, &mut Context::from(*options))?;
    Ok(y)
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

/// Tables with entries at the ends of the range, and whether they come with a sign plane.
fn tables() -> Vec<(&'static str, Lut, bool)> {
    let of = |f: &dyn Fn(usize) -> f32| Lut::new(&std::array::from_fn(f)).expect("a finite table");
    let bits = |c: usize| f32::from_bits(c as u32);
    let signed = move |c: usize| if c < 128 { bits(c) } else { -bits(c - 128) };
    let largest = of(&|c| (c as f32 / 127.5 - 1.0) * f32::MAX);
    vec![
        ("zeros", of(&|_| 0.0), true),
        ("zeros of both signs", of(&|c| [0.0, -0.0][c % 2]), false),
        ("zeros but for one", of(&|c| if c == 200 { -3.0 } else { 0.0 }), false),
        ("zeros and NaN", of(&|c| if c == 7 { f32::NAN } else { 0.0 }), false),
        ("subnormal, a byte", of(&bits), true),
        ("subnormal, signed", of(&signed), false),
        ("subnormal, two bytes", of(&|c| bits(c * 257)), true),
        ("subnormal, rounded", of(&|c| -bits(c * 30_001)), false),
        ("subnormal and normal", of(&|c| [SMALLEST, 1.0, -1e-40, 0.5][c % 4]), false),
        ("the largest", of(&|_| f32::MAX), true),
        ("up to the largest", largest.clone(), false),
        ("from end to end", of(&|c| [f32::MAX, SMALLEST, -f32::MAX, 1.0, 0.0][c % 5]), false),
        ("subnormal, three bytes", of(&|c| bits(c * 65_793)).with_wide_image(), true),
        ("up to the largest, wide", largest.clone().with_wide_image(), false),
    ]
}

/// Tokens at the ends of the range.
fn tokens(k: usize) -> Vec<(&'static str, Vec<f32>)> {
    let of = |f: &dyn Fn(usize) -> f32| (0..k).map(f).collect::<Vec<_>>();
    let sign = |i: usize| if i % 3 == 1 { -1.0f32 } else { 1.0 };
    let only = |at: usize, x: f32| of(&move |i| if i == at { x } else { 0.0 });
    vec![
        ("zeros", of(&|_| 0.0)),
        ("zeros of both signs", of(&|i| 0.0 * sign(i))),
        ("one smallest, first", only(0, SMALLEST)),
        ("one smallest, last", only(k - 1, -SMALLEST)),
        ("all smallest", of(&|i| SMALLEST * sign(i))),
        ("subnormal", of(&|i| f32::from_bits(i as u32 * 40_001 % (1 << 23)) * sign(i))),
        ("one largest, last", only(k - 1, f32::MAX)),
        ("all largest", of(&|_| f32::MAX)),
        ("largest of both signs", of(&|i| f32::MAX * sign(i))),
        ("near the largest", of(&|i| f32::MAX * (1.0 - i as f32 / k as f32) * sign(i))),
        ("from end to end", of(&|i| [f32::MAX, SMALLEST, -1.0, f32::MIN_POSITIVE][i % 4])),
        ("one", of(&|_| 1.0)),
    ]
}

#[test]
fn every_kernel_gives_the_bits_of_the_contract_at_the_ends() {
    const SCALES: [(&str, &[f32]); 5] = [
        ("ones", &[1.0]),
        ("smallest", &[SMALLEST]),
        ("largest", &[f32::MAX, -f32::MAX]),
        ("from end to end", &[f32::MAX, SMALLEST, -1.0, 0.0, 1e-30]),
        ("small", &[1e-36, 3e-37]),
    ];
    let granularities = [
        Granularity::Tensor,
        Granularity::Row,
        Granularity::Group(32),
        Granularity::Group(64),
        Granularity::Group(96),
        Granularity::Block(2, 128),
    ];
    let mut rng = testing::rng("every_kernel_gives_the_bits_of_the_contract_at_the_ends");
    let mut cases = Vec::new();
    for table in 0..tables().len() {
        for scales in SCALES {
            for (i, k) in [1, 31, 33, 64, 65, 130, 200].into_iter().enumerate() {
                cases.push((table, scales, k, granularities[(table + i) % granularities.len()]));
            }
        }
    }
    let cases = testing::thin("tables × scales × k", cases, 19);
    let (mut failures, mut infinite, mut finite) = (Vec::new(), 0, 0);
    for (i, (table, (scales, values), k, granularity)) in cases.into_iter().enumerate() {
        let (name, lut, signed) = tables().swap_remove(table);
        let n = 5;
        let random = testing::weights(&mut rng, (n, k), &lut, signed, granularity);
        let count = random.scales().values().len();
        let values = values.iter().copied().cycle().take(count).collect();
        let scale = Scales::new(values, (n, k), granularity).expect("scales");
        let signs = random.signs().map(|s| s.to_vec().into());
        let w = Weights::new(random.codes().to_vec(), (n, k), lut, scale)
            .and_then(|w| with_signs(w, signs))
            .expect("weights");
        let bias: Vec<f32> = (0..n).map(|_| rng.random_range(-1.0..1.0) * f32::MAX).collect();
        let bias = Some(&bias[..]).filter(|_| i % 3 == 0);
        let all = tokens(k);
        // Both shapes, with one, some and all of the tokens.
        for tokens in [&all[i % all.len()..][..1], &all[i % 5..][..7], &all] {
            let names: Vec<_> = tokens.iter().map(|(name, _)| *name).collect();
            let x: Vec<f32> = tokens.iter().flat_map(|(_, x)| x.clone()).collect();
            let narrow: Vec<bf16> = x.iter().map(|x| bf16::from_f32_const(*x)).collect();
            let narrow_x: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
            let m = tokens.len();
            let exact = reference::matmul(&w, &x, m).expect("a reference");
            for mode in MODES {
                let expected = contract(&w, &x, m, mode, bias);
                let expected_narrow = contract(&w, &narrow_x, m, mode, bias);
                let from = MatRef::new(&x, (m, k)).expect("x");
                let bounds = error_bound(&w, 0..n, from, mode).expect("bounds");
                for kernel in kernels() {
                    let options = one_thread(kernel).with_mode(mode);
                    let y = product(&w, &x, bias, &options).expect("a product");
                    let y_narrow = product(&w, &narrow, bias, &options).expect("a product");
                    let wrong = (0..y.len()).find(|i| y[*i].to_bits() != expected[*i].to_bits());
                    let same = bits(&y_narrow) == bits(&expected_narrow);
                    if wrong.is_some() || !same {
                        let at = wrong.unwrap_or(0);
                        failures.push(format!(
                            "{}, {mode}, {name}, {granularity} {scales}, {m}×{n}×{k}: {:e} for {:e}, \
                             token {:?} (bf16 right: {same})",
                            kernel.name(),
                            y[at],
                            expected[at],
                            names[at / n],
                        ));
                    }
                    for (i, y) in y.iter().enumerate().filter(|_| bias.is_none()) {
                        let error = (f64::from(*y) - exact.y[i]).abs();
                        let rounded = (k + 8) as f64 * f64::EPSILON * exact.abs_sum[i];
                        let (bound, y) = (bounds[i].total(), *y);
                        // Infinite only where a sum may be.
                        assert!(bound == f64::INFINITY || error <= bound + rounded, "{y:e} {name}");
                        assert!(!y.is_nan());
                        *(if y.is_finite() { &mut finite } else { &mut infinite }) += 1;
                    }
                }
            }
        }
    }
    println!("{finite} finite outputs, {infinite} infinite ones");
    assert!(infinite > 100 && finite > infinite);
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(30)].join("\n")
    );
}

/// The sum is infinite only if its f64 is beyond f32: not one that cancels, nor one that a scale brings back.
#[test]
fn infinite_only_where_the_sum_is() {
    let k = 96;
    // 0.5, 1 and 2 times what makes f32::MAX of 96 products of f32::MAX.
    for (by, infinite) in [(0.5, false), (0.999, false), (1.001, true), (2.0, true)] {
        let scales = Scales::tensor(by / k as f32, (1, k)).expect("a scale");
        let w = Weights::new(vec![1; k], (1, k), Lut::int8(), scales).expect("weights");
        for mode in MODES {
            for kernel in kernels() {
                for m in [1, 9] {
                    let options = one_thread(kernel).with_mode(mode);
                    let y = product(&w, &vec![f32::MAX; m * k], None, &options).expect("a product");
                    let what = || format!("{}, {mode}, {by}: {y:?}", kernel.name());
                    assert!(y.iter().all(|y| y.is_infinite() == infinite), "{}", what());
                    assert!(infinite || (y[0] / f32::MAX - by).abs() < 1e-6, "{}", what());
                    // Sums on the way are beyond f32, and cancel.
                    let mut x = vec![f32::MAX; m * k];
                    for x in x.chunks_mut(k) {
                        x[..k / 2].fill(-f32::MAX);
                    }
                    let y = product(&ones(1, k), &x, None, &options).expect("a product");
                    assert_eq!(bits(&y), vec![0; m], "{}, {mode}", kernel.name());
                }
            }
        }
    }
}

/// A table whose image has so many bytes, with entry 255 as large as these can hold.
fn table_of(bytes: u32) -> Lut {
    let most = ((1u32 << (8 * bytes)) - 1) as f32;
    let lut = Lut::new(&std::array::from_fn(|c| if c == 255 { most } else { c as f32 }));
    let lut = lut.expect("a table").with_wide_image();
    assert_eq!(lut.image().count, bytes as usize);
    lut
}

/// Weights all of which are entry 255.
fn of_largest(lut: &Lut, n: usize, k: usize) -> Weights<'static> {
    let codes = vec![255; n * k];
    Weights::new(codes, (n, k), lut.clone(), per_tensor((n, k))).expect("weights")
}

#[test]
fn more_columns_than_a_sum_holds() {
    let refuses = |w: &Weights<'_>, m: usize, mode: Mode, kernel: Kernel| {
        let (options, x) = (one_thread(kernel).with_mode(mode), vec![bf16::ONE; m * w.k()]);
        let message = fails(&mut vec![BEFORE; m * w.n()], |y| {
            let (x, to) = (MatRef::new(&x, (m, w.k()))?, MatMut::new(y, (m, w.n()))?);
            w.matmul(x, to, &mut Context::from(options))
        });
        let x = MatRef::new(&x, (m, w.k())).expect("x");
        assert_eq!(text(Activations::new().pack(x, w, &options)), message);
        message
    };
    for (mode, kernel) in MODES.into_iter().flat_map(|m| kernels().map(move |k| (m, k))) {
        for bytes in [1, 2, 3] {
            let (lut, most) = (table_of(bytes), most_columns(mode, bytes));
            let image = if bytes == 3 { " with an image of three bytes" } else { "" };
            let expected = |k: usize| {
                format!("k: {k} columns are beyond the {most} that {mode} sums exactly{image}")
            };
            // Without rows or tokens, k costs nothing.
            for k in [most + 1, usize::MAX / 2] {
                assert_eq!(refuses(&of_largest(&lut, 0, k), 0, mode, kernel), expected(k));
            }
            if mode == Mode::A24 && bytes != 2 {
                for m in [1, 9].into_iter().take(bytes as usize) {
                    let w = of_largest(&lut, 1, most + 1);
                    assert_eq!(refuses(&w, m, mode, kernel), expected(most + 1));
                }
            }
            let options = one_thread(kernel).with_mode(mode);
            let x = MatRef::<f32>::new(&[], (0, most)).expect("x");
            let fits = of_largest(&lut, 0, most);
            Activations::new().pack(x, &fits, &options).expect("as many as fit");
        }
    }
}

/// Activations packed for more columns than a table of three bytes takes don't get to it.
#[test]
fn packed_for_an_image_of_fewer_bytes() {
    let k = 65_537;
    let (narrow, wide) = (of_largest(&table_of(2), 1, k), of_largest(&table_of(3), 1, k));
    let x = vec![bf16::ONE; k];
    for kernel in kernels() {
        let options = one_thread(kernel).with_mode(Mode::A24);
        let mut packed = Activations::new();
        packed.pack(MatRef::new(&x, (1, k)).expect("x"), &narrow, &options).expect("packed");
        let message = fails(&mut [BEFORE], |y| {
            let y = MatMut::new(y, (1, 1))?;
            wide.matmul(&packed, y, &mut Context::from(options))
        });
        // For a kernel that has other limbs for it they are packed wrongly anyway.
        let other = message.starts_with("activations: packed for ");
        assert!(other || message.contains("the 65536 that a24 sums exactly"), "{message}");
    }
}

/// The largest sums: as many columns as there may be, all codes and activations the largest.
#[test]
fn the_largest_sums() {
    for bytes in [2, 3] {
        let lut = table_of(bytes);
        for (mode, m) in MODES.into_iter().flat_map(|mode| [(mode, 1), (mode, 9)]) {
            // gemv at the end of i64; gemm with what a test can spend on memory.
            let spent = match (testing::quick(), m) {
                (true, 1) => 1 << 18,
                (true, _) => 1 << 14,
                (false, 1) => 1 << 24,
                (false, _) => 1 << 18,
            };
            let k = most_columns(mode, bytes).min(spent);
            for signs in [None, Some(vec![0xFF; k / 8].into())] {
                let w = Weights::new(vec![255; k], (1, k), lut.clone(), per_tensor((1, k)))
                    .and_then(|w| with_signs(w, signs));
                let w = w.expect("weights");
                let x = vec![-2f32; m * k];
                // All tokens are the same.
                let expected = contract(&w, &x[..k], 1, mode, None);
                for kernel in kernels() {
                    let y = product(&w, &x, None, &one_thread(kernel).with_mode(mode))
                        .expect("a product");
                    let what = || format!("{}, {mode}, {m}×1×{k}, {bytes} bytes", kernel.name());
                    assert_eq!(bits(&y), bits(&expected.repeat(m)), "{}", what());
                    let exact = 2.0 * f64::from(lut.max_abs()) * k as f64;
                    assert!((f64::from(y[0].abs()) / exact - 1.0).abs() < 1e-6, "{}", what());
                }
            }
        }
    }
}

/// Sums on both sides of 2⁵³, which gemm has in f64: odd ones, so that a bit lost there shows
/// in what is left when a bias cancels the rest.
#[test]
fn sums_where_a_double_ends() {
    let mut rng = testing::rng("sums_where_a_double_ends");
    let odd = |bytes: u32| {
        let entry = move |c: usize| ((1u32 << (8 * bytes)) - 1 - 2 * c as u32) as f32;
        Lut::new(&std::array::from_fn(entry)).expect("a table").with_wide_image()
    };
    // 2⁵³ over the largest x and L; for three bytes, of which the third is apart, also over 2¹⁶.
    let cases = [
        (Mode::A24, 3, 64),
        (Mode::A24, 3, 16_577),
        (Mode::A24, 2, 16_577),
        (Mode::A16, 3, 16_512),
        (Mode::A8, 3, 16_577),
    ];
    for (mode, bytes, last) in cases {
        let lut = odd(bytes);
        assert_eq!(lut.image().count, bytes as usize);
        for k in [last, last + 1] {
            let (m, n) = (9, 3);
            let codes: Vec<u8> = (0..n * k).map(|_| rng.random_range(0..=255)).collect();
            let w = Weights::new(codes, (n, k), lut.clone(), per_tensor((n, k)));
            let w = w.expect("weights");
            let x: Vec<f32> = (0..m * k).map(|_| rng.random_range(0.99..=1.0)).collect();
            let bias: Vec<f32> = contract(&w, &x, 1, mode, None).iter().map(|y| -y).collect();
            let expected = contract(&w, &x, m, mode, Some(&bias));
            for kernel in kernels() {
                let y = product(&w, &x, Some(&bias), &one_thread(kernel).with_mode(mode));
                let y = y.expect("a product");
                assert_eq!(bits(&y), bits(&expected), "{}, {mode}, {k}", kernel.name());
            }
        }
    }
}

#[test]
fn groups_that_are_no_multiple_of_32() {
    let x = [1f32; 9 * 130];
    for (mode, kernel) in MODES.into_iter().flat_map(|m| kernels().map(move |k| (m, k))) {
        for granularity in [1, 16, 31, 33, 48, 129]
            .map(Granularity::Group)
            .into_iter()
            .chain([Granularity::Block(2, 16), Granularity::Block(5, 100)])
        {
            let multiply = |k: usize, m: usize, y: &mut [f32]| {
                let (rows, cols) = granularity.grid((5, k));
                let scales = Scales::new(vec![2.0; rows * cols], (5, k), granularity)?;
                let w = Weights::new(vec![1; 5 * k], (5, k), Lut::int8(), scales)?;
                let (x, to) = (MatRef::new(&x[..m * k], (m, k))?, MatMut::new(y, (m, 5))?);
                let options = one_thread(kernel).with_mode(mode);
                w.matmul(x, to, &mut Context::from(options))
            };
            let group = granularity.block((5, 130)).1;
            for m in [1, 9] {
                let message = fails(&mut vec![BEFORE; 5 * m], |y| multiply(130, m, y));
                let expected = format!(
                    "scales: groups of {group} along k are no multiple of 32, as {mode} asks"
                );
                assert_eq!(message, expected, "{}", kernel.name());
                // One group, whole or not, is a scale of the row.
                for k in [group, group.div_ceil(2)] {
                    let mut y = vec![BEFORE; 5 * m];
                    multiply(k, m, &mut y).expect("one group");
                    let right = |y: &f32| (y - 2.0 * k as f32).abs() < 1e-3;
                    assert!(y.iter().all(right), "{}, {mode}, {granularity}, {k}", kernel.name());
                }
            }
        }
    }
}
