//! NaN and infinity: in use, in tables and in padding. They go where IEEE 754 sends them, or are
//! refused, and nowhere else.

use testing::with_signs;

use lutmul::*;
use rand::RngExt;
use testing::bad::{BEFORE, fails, one_thread, ones, per_tensor, text};
use testing::kernels::kernels;
use testing::{GRANULARITIES, activations};

#[test]
fn used_entries_that_are_not_finite_are_named() {
    let (n, k) = (5, 70);
    let multiply = |w: &Weights<'_>, kernel: Kernel, y: &mut [f32]| {
        let x = [1f32; 70];
        let (x, y) = (MatRef::new(&x, (1, k))?, MatMut::new(y, (1, n))?);
        w.matmul(x, y, &mut Context::from(one_thread(kernel)))
    };
    let weights = |lut: &Lut, bad: &[(usize, usize, u8)]| {
        let mut codes = vec![1; n * k];
        for (row, col, code) in bad {
            codes[row * k + col] = *code;
        }
        Weights::new(codes, (n, k), lut.clone(), per_tensor((n, k)))
            .expect("weights")
            .with_name("layers.3.down_proj")
    };
    let mut values = [0.5; 256];
    values[9] = f32::NEG_INFINITY;
    let table = Lut::new(&values).expect("a table");
    for kernel in kernels() {
        for (lut, code, shown) in [
            (&Lut::e4m3(), 0x7F, "NaN"),
            (&Lut::e4m3(), 0xFF, "NaN"),
            (&Lut::e5m2(), 0x7C, "inf"),
            (&Lut::e5m2(), 0xFC, "-inf"),
            (&Lut::e5m2(), 0x7D, "NaN"),
            (&table, 9, "-inf"),
        ] {
            // Not used: fine.
            multiply(&weights(lut, &[]), kernel, &mut [0.0; 5]).expect("no such code in use");
            // The first one in row-major order is named.
            let w = weights(lut, &[(3, 69, code), (4, 0, code), (4, 69, code)]);
            for _ in 0..2 {
                let message = fails(&mut [BEFORE; 5], |y| multiply(&w, kernel, y));
                let expected = format!("layers.3.down_proj: {shown} at row 3, column 69");
                assert_eq!(message, expected, "{}", kernel.name());
            }
            assert_eq!(text(w.prepare()), text(w.decode(&mut [0f32; 350])));
        }
    }
    assert_eq!(text(Lut::new(&[f32::NAN; 256])), "table: none of its 256 entries is finite");
}

/// Whether both are NaN, or the same infinity, or both finite.
fn same_class(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        a.is_nan() && b.is_nan()
    } else if a.is_infinite() || b.is_infinite() {
        a == b
    } else {
        true
    }
}

#[test]
fn propagation_is_that_of_ieee_754() {
    let mut rng = testing::rng("propagation_is_that_of_ieee_754");
    let of = |f: &dyn Fn(usize) -> f32| Lut::new(&std::array::from_fn(f)).expect("a table");
    let with = |bad: f32| of(&move |c| if c % 100 == 0 { bad } else { c as f32 * 0.01 });
    let luts = [
        ("e4m3", Lut::e4m3(), false),
        ("e5m2", Lut::e5m2(), false),
        ("NaN at 0, 100, 200", with(f32::NAN), true),
        ("infinity at 0, 100, 200", with(f32::INFINITY), true),
        ("two planes", of(&|c| if c == 0 { f32::NAN } else { (c % 128) as f32 }), false),
        (
            "qins-linear but for its 0",
            of(&|c| if c == 0 { f32::NAN } else { c as f32 - 1.0 }),
            true,
        ),
    ];
    let mut count = 0;
    for (name, lut, signed) in &luts {
        let bad: Vec<u8> = (0..=255).filter(|c| !lut.entry(*c).is_finite()).collect();
        let shapes = [(1, 9, 1), (1, 9, 63), (3, 9, 64), (2, 9, 65), (8, 9, 130), (20, 50, 97)];
        for (i, (m, n, k)) in shapes.into_iter().enumerate() {
            for j in 0..3 {
                let granularity = GRANULARITIES[(i + 3 * j) % GRANULARITIES.len()];
                let clean = testing::weights(&mut rng, (n, k), lut, *signed, granularity);
                let mut codes = clean.codes().to_vec();
                // In every third row a bad code, in some of them two.
                for row in (0..n).step_by(3) {
                    for _ in 0..1 + row % 2 {
                        codes[row * k + rng.random_range(0..k)] =
                            bad[rng.random_range(0..bad.len())];
                    }
                }
                let signs = clean.signs().map(|s| Bytes::from(s.to_vec()));
                let w = Weights::new(codes, (n, k), lut.clone(), clean.scales().clone())
                    .and_then(|w| with_signs(w, signs))
                    .expect("weights")
                    .with_non_finite(NonFinite::Propagate);
                let mut x = activations(&mut rng, m * k);
                // Zeros (0·∞ is NaN), and in gemm tokens with NaN and infinity of their own.
                for x in x.iter_mut().step_by(3) {
                    *x = 0.0;
                }
                if m > 8 {
                    (x[2 * k], x[5 * k + k / 2]) = (f32::NAN, f32::NEG_INFINITY);
                }
                let expected = reference::matmul(&w, &x, m).expect("a reference");
                for (mode, kernel) in
                    testing::FLOATS.into_iter().flat_map(|mode| kernels().map(move |k| (mode, k)))
                {
                    let mut y = vec![BEFORE; m * n];
                    let (from, to) = (MatRef::new(&x, (m, k)), MatMut::new(&mut y, (m, n)));
                    let (from, to) = (from.expect("x"), to.expect("y"));
                    let options = one_thread(kernel).with_mode(mode);
                    w.matmul(from, to, &mut Context::from(options)).expect("a product");
                    for (at, (y, expected)) in y.iter().zip(&expected.y).enumerate() {
                        count += 1;
                        assert!(
                            same_class(f64::from(*y), *expected),
                            "{}, {mode}, {name}, {granularity}, {m}×{n}×{k}: {y} for {expected} at {at}",
                            kernel.name()
                        );
                    }
                }
            }
        }
    }
    println!("{count} outputs");
}

/// Integer modes have no NaN but in x; what they can't do is an error.
#[test]
fn integer_modes_refuse_what_they_cannot_do() {
    let modes = Mode::ALL.into_iter().filter(|mode| mode.is_integer());
    for (mode, kernel) in modes.flat_map(|mode| kernels().map(move |k| (mode, k))) {
        let options = one_thread(kernel).with_mode(mode);
        let multiply = |w: &Weights<'_>, x: &[f32], y: &mut [f32]| {
            let m = y.len() / w.n();
            let (x, y) = (MatRef::new(x, (m, w.k()))?, MatMut::new(y, (m, w.n()))?);
            w.matmul(x, y, &mut Context::from(options))
        };
        let codes = vec![0x7F; 6 * 70];
        let nan = Weights::new(codes, (6, 70), Lut::e4m3(), per_tensor((6, 70)));
        let nan = nan.expect("weights").with_name("gate");
        assert_eq!(
            fails(&mut [BEFORE; 6], |y| multiply(&nan, &[1.0; 70], y)),
            "gate: NaN at row 0, column 0"
        );
        let nan = nan.with_non_finite(NonFinite::Propagate);
        let message = fails(&mut [BEFORE; 6], |y| multiply(&nan, &[1.0; 70], y));
        let expected =
            "gate: NaN and infinity can be propagated in modes f32 and bf16 only, not in";
        assert_eq!(message, format!("{expected} {mode}"));
        let scales = Scales::new(vec![1.0; 24], (6, 70), Granularity::Group(20)).expect("scales");
        let odd = Weights::new(vec![1; 420], (6, 70), Lut::int8(), scales).expect("weights");
        let message = fails(&mut [BEFORE; 6], |y| multiply(&odd, &[1.0; 70], y));
        let expected = "scales: groups of 20 along k are no multiple of 32, as";
        assert_eq!(message, format!("{expected} {mode} asks"));
        // A token that is not finite makes a row of one kind of NaN, and leaves the others alone.
        for m in [3, 20] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = vec![1f32; m * 70];
                x[70 + 69] = bad;
                let mut y = vec![BEFORE; m * 6];
                multiply(&ones(6, 70), &x, &mut y).expect("a product");
                for (token, y) in y.chunks(6).enumerate() {
                    let right = |y: &f32| match token {
                        1 => y.to_bits() == 0x7FC0_0000,
                        _ => (y - 70.0).abs() < 1e-3,
                    };
                    assert!(y.iter().all(right), "{}, {mode}, {token}: {y:?}", kernel.name());
                }
            }
        }
    }
}

/// The tail of a row is padded with some code; one whose entry is NaN or infinite must not leak.
#[test]
fn padding_does_not_leak() {
    let mut rng = testing::rng("padding_does_not_leak");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for range in [0..1, 0..255, 1..256, 0..128] {
            let values = std::array::from_fn(|c| if range.contains(&c) { bad } else { 1.5 });
            let lut = Lut::new(&values).expect("a table");
            for (m, n, k) in [(1, 3, 1), (1, 9, 65), (4, 3, 127), (9, 3, 63), (20, 49, 100)] {
                let w = testing::weights(&mut rng, (n, k), &lut, true, Granularity::Group(16));
                let x = activations(&mut rng, m * k);
                for (mode, kernel) in
                    testing::FLOATS.into_iter().flat_map(|mode| kernels().map(move |k| (mode, k)))
                {
                    let (rounded, of_mode) = testing::in_mode(&w, &x, mode);
                    let expected = reference::matmul(&rounded, &of_mode, m).expect("a reference");
                    let bounds = testing::bounds(mode, &rounded, &of_mode, &expected.abs_sum);
                    for policy in [NonFinite::Reject, NonFinite::Propagate] {
                        let w = w.clone().with_non_finite(policy);
                        let mut y = vec![f32::NAN; m * n];
                        let (from, to) = (MatRef::new(&x, (m, k)), MatMut::new(&mut y, (m, n)));
                        let (from, to) = (from.expect("x"), to.expect("y"));
                        let options = one_thread(kernel).with_mode(mode);
                        w.matmul(from, to, &mut Context::from(options)).expect("a product");
                        for (i, y) in y.iter().enumerate() {
                            let error = (f64::from(*y) - expected.y[i]).abs();
                            assert!(error <= bounds[i], "{}, {mode}: {y}", kernel.name());
                        }
                    }
                }
            }
        }
    }
}
