//! Bad input: every one is an error that names the thing, none a panic, and y is untouched then.

use testing::with_signs;

use std::process::Command;

use lutmul::{
    Activations, Bytes, Context, Epilogue, Error, Granularity, Kernel, KernelInfo, Lut, MatMut,
    MatRef, Mode, NonFinite, Options, Plan, Scales, Weights, bf16, sign_stride,
};
use proptest::prelude::*;
use testing::bad::{BEFORE, fails, one_thread, ones, per_tensor, text};
use testing::{GRANULARITIES, tables};

#[test]
fn wrong_lengths_of_weights() {
    let shape = (24576, 3072);
    let (codes, signs) = (vec![0; 24576 * 3072 + 1], vec![0; 24576 * 384 + 1]);
    let new = |codes_len: usize, signs_len: usize| {
        let signs = Bytes::from(&signs[..signs_len]);
        let codes = &codes[..codes_len];
        text(
            Weights::new(codes, shape, Lut::qins_linear(), per_tensor(shape))
                .and_then(|w| w.with_signs(signs)),
        )
    };
    let (right, right_signs) = (24576 * 3072, 24576 * 384);
    let expected = [
        ((right, right_signs - 1), "signs: expected 9437184 bytes for 24576×3072, got 9437183"),
        ((right, right_signs + 1), "signs: expected 9437184 bytes for 24576×3072, got 9437185"),
        ((right, 0), "signs: expected 9437184 bytes for 24576×3072, got 0"),
        ((right - 1, right_signs), "codes: expected 75497472 bytes for 24576×3072, got 75497471"),
        ((right + 1, right_signs), "codes: expected 75497472 bytes for 24576×3072, got 75497473"),
    ];
    for ((codes, signs), expected) in expected {
        assert_eq!(new(codes, signs), expected);
    }
}

#[test]
fn wrong_scales() {
    let new = |granularity, values| text(Scales::new(values, (4, 100), granularity));
    let length = "scales: expected 4 elements for 4×1, got 3";
    assert_eq!(new(Granularity::Row, vec![1.0; 3]), length);
    let length = "scales: expected 16 elements for 4×4, got 12";
    assert_eq!(new(Granularity::Group(32), vec![1.0; 12]), length);
    let length = "scales: expected 4 elements for 2×2, got 5";
    assert_eq!(new(Granularity::Block(3, 64), vec![1.0; 5]), length);
    assert_eq!(new(Granularity::Group(0), vec![]), "scales: group:0 has a size of 0");
    assert_eq!(new(Granularity::Block(0, 8), vec![]), "scales: block:0x8 has a size of 0");
    assert_eq!(new(Granularity::Block(8, 0), vec![]), "scales: block:8x0 has a size of 0");
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-f32::INFINITY, "-inf")] {
        let mut values = vec![1.0; 16];
        values[6] = bad;
        let expected = format!("scales: {shown} at row 1, column 2");
        assert_eq!(new(Granularity::Group(32), values), expected);
        assert_eq!(
            text(Scales::tensor(bad, (4, 100))),
            format!("scales: {shown} at row 0, column 0")
        );
    }
    // Scales of another matrix.
    let other = Weights::new(vec![0; 32], (4, 8), Lut::int8(), per_tensor((8, 4)));
    assert_eq!(text(other), "scales: expected (4, 8) (rows, columns), got (8, 4)");
    for name in ["group:0", "group:", "group:-1", "block:8", "block:0x8", "rows", ""] {
        let message = text(name.parse::<Granularity>());
        let known = "none of tensor, row, group:N, block:RxC (N, R, C ≥ 1)";
        assert_eq!(message, format!("scales: \"{name}\" is {known}"));
    }
}

#[test]
fn shapes_that_overflow() {
    let huge = usize::MAX / 2;
    let weights = |n, k| text(Weights::new(vec![], (n, k), Lut::int8(), per_tensor((n, k))));
    for (n, k) in [(huge, 4), (4, huge), (usize::MAX, usize::MAX), (1 << 32, 1 << 32)] {
        let expected = format!("codes: {n}×{k} elements overflow the address space");
        assert_eq!(weights(n, k), expected);
        let expected = format!("x: {n}×{k} elements overflow the address space");
        assert_eq!(text(MatRef::<f32>::new(&[], (n, k))), expected);
        let expected = format!("y: {n}×{k} elements overflow the address space");
        assert_eq!(text(MatMut::<f32>::new(&mut [], (n, k))), expected);
        let scales = Scales::new(vec![], (n, k), Granularity::Group(1));
        assert_eq!(text(scales), format!("scales: {n}×{k} elements overflow the address space"));
        let encoded = Weights::encode(&[0f32], (n, k), &lutmul::Format::Int8, Granularity::Row);
        assert_eq!(text(encoded), format!("weights: {n}×{k} elements overflow the address space"));
    }
    let strided = MatRef::<f32>::with_stride(&[], (3, 2), huge);
    assert_eq!(text(strided), format!("x: 2×{huge} elements overflow the address space"));
    // What has no weights has no scales; those that rows without columns had once are dropped.
    let empty = |n, values| Scales::new(values, (n, 0), Granularity::Row);
    assert!(empty(huge, vec![]).expect("no scales").values().is_empty());
    assert!(empty(3, vec![1.0; 3]).expect("scales of rows").values().is_empty());
    assert_eq!(text(empty(3, vec![f32::NAN; 3])), "scales: NaN at row 0, column 0");
    let two = format!("scales: expected 0 elements for {huge}×0, got 2");
    assert_eq!(text(empty(huge, vec![1.0; 2])), two);
}

#[test]
fn matrices_of_x_and_y() {
    let (data, mut out) = ([0f32; 20], [0f32; 20]);
    assert_eq!(text(MatRef::new(&data, (3, 7))), "x: expected 21 elements for 3×7, got 20");
    assert_eq!(text(MatRef::new(&data, (3, 6))), "x: expected 18 elements for 3×6, got 20");
    let short = MatRef::with_stride(&data, (3, 5), 8);
    assert_eq!(text(short), "x: expected 21 elements for 3×5, got 20");
    let narrow = MatRef::with_stride(&data, (3, 5), 4);
    assert_eq!(text(narrow), "x: a row stride of 4 is smaller than its 5 columns");
    assert_eq!(text(MatMut::new(&mut out, (3, 7))), "y: expected 21 elements for 3×7, got 20");
    let short = MatMut::with_stride(&mut out, (3, 5), 8);
    assert_eq!(text(short), "y: expected 21 elements for 3×5, got 20");
    let narrow = MatMut::with_stride(&mut out, (3, 5), 4);
    assert_eq!(text(narrow), "y: a row stride of 4 is smaller than its 5 columns");
    // A single row has no stride to speak of; a matrix without rows needs no elements.
    assert!(MatRef::with_stride(&data, (1, 5), 0).is_ok());
    assert!(MatMut::with_stride(&mut out, (1, 5), 0).is_ok());
    assert!(MatRef::<f32>::with_stride(&[], (0, 5), 5).is_ok());
}

#[test]
fn products_that_do_not_fit() {
    let w = ones(6, 70);
    let x = [1f32; 3 * 70];
    for options in Kernel::available().map(one_thread) {
        let multiply = |m: usize, k: usize, (rows, cols): (usize, usize), bias: Option<&[f32]>| {
            fails(&mut vec![bf16::ONE; rows * cols], |y| {
                let x = MatRef::new(&x[..m * k], (m, k))?;
                let y = MatMut::new(y, (rows, cols))?;
                let epilogue = Epilogue { bias, ..Epilogue::default() };
                w.product().epilogue(epilogue).matmul(x, y, &mut Context::from(options))
            })
        };
        let message = "x: expected (3, 70) (rows, columns), got (3, 69)";
        assert_eq!(multiply(3, 69, (3, 6), None), message);
        assert_eq!(multiply(2, 70, (3, 6), None), "y: expected (2, 6) (rows, columns), got (3, 6)");
        assert_eq!(multiply(3, 70, (3, 5), None), "y: expected (3, 6) (rows, columns), got (3, 5)");
        let message = "bias: expected 6 elements for 1×6, got 5";
        assert_eq!(multiply(3, 70, (3, 6), Some(&[0.0; 5])), message);
        let message = "bias: expected 6 elements for 1×6, got 0";
        assert_eq!(multiply(3, 70, (3, 6), Some(&[])), message);
    }
}

#[test]
fn ranges_of_rows_that_are_not_there() {
    let w = ones(6, 70);
    let x = [1f32; 70];
    let options = one_thread(Kernel::best());
    let mut packed = Activations::new();
    packed.pack(MatRef::new(&x, (1, 70)).expect("x"), &w, &options).expect("packed");
    #[expect(clippy::reversed_empty_ranges)]
    let ranges = [6..7, 5..7, 7..7, 4..3, 0..usize::MAX, usize::MAX..usize::MAX];
    for range in ranges {
        let message = fails(&mut [1f32; 6], |y| {
            let y = MatMut::new(&mut y[..1], (1, 1))?;
            let epilogue = Epilogue::default();
            w.product().rows(range.clone()).epilogue(epilogue).matmul(
                &packed,
                y,
                &mut Context::from(options),
            )
        });
        let (start, end) = (range.start, range.end);
        assert_eq!(
            message,
            format!("rows {start}..{end} are not within the 6 rows of the weights")
        );
    }
    let message = fails(&mut [1f32; 3], |y| {
        let (y, epilogue) = (MatMut::new(y, (1, 3))?, Epilogue::default());
        w.product().rows(1..3).epilogue(epilogue).matmul(&packed, y, &mut Context::from(options))
    });
    assert_eq!(message, "y: expected (1, 2) (rows, columns), got (1, 3)");
    // No rows at all are fine, also at the end.
    for rows in [0..0, 6..6] {
        let (y, epilogue) = (&mut [0f32; 0], Epilogue::default());
        w.product()
            .rows(rows)
            .epilogue(epilogue)
            .matmul(&packed, y, &mut Context::from(options))
            .expect("no rows");
    }
}

#[test]
fn activations_packed_for_something_else() {
    let w = ones(6, 70);
    let multiply = |w: &Weights<'_>, packed: &Activations, options: &Options| {
        let m = packed.m();
        fails(&mut vec![1f32; m * w.n()], |y| {
            let y = MatMut::new(y, (m, w.n()))?;
            w.matmul(packed, y, &mut Context::from(*options))
        })
    };
    for kernel in Kernel::available() {
        let (name, options) = (kernel.name(), one_thread(kernel));
        let mut packed = Activations::new();
        assert_eq!(
            multiply(&w, &packed, &options),
            format!(
                "activations: packed for nothing yet, but the product asks for \
                 0×70, f32, kernel {name}, gemv and this table"
            )
        );
        packed.pack(MatRef::new(&[1f32; 140], (2, 70)).expect("x"), &w, &options).expect("packed");
        let packed_for = format!("activations: packed for 2×70, f32, kernel {name}, gemv, but");
        // Another width.
        assert_eq!(
            multiply(&ones(6, 71), &packed, &options),
            format!(
                "{packed_for} the product asks for 2×71, f32, kernel {name}, gemv and this table"
            )
        );
        // Another shape: groups that the row kernels do not have.
        let scales = Scales::new(vec![1.0; 24], (6, 70), Granularity::Group(20)).expect("scales");
        let odd = Weights::new(vec![1; 420], (6, 70), Lut::int8(), scales).expect("weights");
        assert_eq!(
            multiply(&odd, &packed, &options),
            format!(
                "{packed_for} the product asks for 2×70, f32, kernel {name}, gemm and this table"
            )
        );
        // Another kernel.
        for other in Kernel::available().filter(|other| *other != kernel) {
            let asks = format!("2×70, f32, kernel {}, gemv and this table", other.name());
            assert_eq!(
                multiply(&w, &packed, &one_thread(other)),
                format!("{packed_for} the product asks for {asks}")
            );
        }
        // Another table: fine if the kernel decodes it in the same order, else an error.
        let lut = Lut::new(&std::array::from_fn(|c| (c as f32).sin())).expect("a table");
        let other = Weights::new(vec![1; 420], (6, 70), lut, per_tensor((6, 70))).expect("weights");
        let mut y = [BEFORE; 12];
        let to = MatMut::new(&mut y, (2, 6)).expect("y");
        match other.matmul(&packed, to, &mut Context::from(options)) {
            Ok(()) => assert!(y.iter().all(|y| (y - 70.0 * 1f32.sin()).abs() < 1e-3), "{y:?}"),
            Err(error) => {
                assert!(matches!(error, Error::Packing { .. }), "{error}");
                assert_eq!(y, [BEFORE; 12]);
            }
        }
    }
}

#[test]
fn kernels_by_name() {
    let kernel = |name: &str| name.parse::<Kernel>();
    let all: Vec<_> = KernelInfo::all().map(KernelInfo::name).collect();
    let message = format!("kernel: \"vax\" is none of {}", all.join(", "));
    assert_eq!(text(kernel("vax")), message);
    assert!(kernel("").is_err() && kernel("Scalar").is_err());
    let available: Vec<_> = Kernel::available().map(Kernel::name).collect();
    for info in KernelInfo::all() {
        let (name, missing) = (info.name(), info.missing().collect::<Vec<_>>().join(", "));
        if missing.is_empty() {
            assert_eq!(kernel(name).expect("a kernel").name(), name);
        } else {
            let available = available.join(", ");
            let expected =
                format!("kernel \"{name}\": this CPU lacks {missing}; it can run {available}");
            assert_eq!(text(kernel(name)), expected);
        }
    }
}

/// Not a test of its own: what [`the_environment_variable`] runs in processes of their own.
#[test]
#[ignore = "run by the_environment_variable"]
fn print_kernel_of_options() {
    match Options::new().kernel() {
        Ok(kernel) => println!("chosen: {kernel}."),
        Err(error) => println!("refused: {error}."),
    }
}

#[test]
fn the_environment_variable() {
    let run = |value: Option<&str>| -> Option<String> {
        let mut command = Command::new(std::env::current_exe().expect("this test's program"));
        command.args(["--exact", "print_kernel_of_options", "--include-ignored", "--nocapture"]);
        match value {
            Some(value) => command.env("LUTMUL_ISA", value),
            None => command.env_remove("LUTMUL_ISA"),
        };
        match command.output() {
            // A program for another CPU can't start itself under an emulator of user mode.
            Ok(output) if output.stdout.is_empty() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
            Err(error) if error.raw_os_error() == Some(8) => None,
            Err(error) => panic!("{error}"),
        }
    };
    let Some(default) = run(None) else {
        assert_ne!(std::env::consts::ARCH, "x86_64", "this program could not start itself");
        return println!("left out: an emulated program can't start itself");
    };
    let chosen = |output: &str, name: &str| output.contains(&format!("chosen: {name}."));
    assert!(chosen(&default, Kernel::best().name()), "{default}");
    for info in KernelInfo::all() {
        let output = run(Some(info.name())).expect("it ran before");
        assert_eq!(chosen(&output, info.name()), info.kernel().is_some(), "{output}");
        assert_eq!(output.contains("this CPU lacks"), info.kernel().is_none(), "{output}");
    }
    for unknown in ["vax", "", "AVX2 "] {
        let output = run(Some(unknown)).expect("it ran before");
        let expected = format!("refused: kernel: \"{unknown}\" is none of ");
        assert!(output.contains(&expected), "{output}");
    }
}

#[test]
fn empty_shapes_are_fine() {
    for kernel in Kernel::available() {
        let shapes = [(0, 0, 0), (0, 3, 5), (2, 0, 5), (2, 3, 0), (20, 3, 0), (20, 0, 0)];
        for ((m, n, k), mode) in shapes.into_iter().flat_map(|s| Mode::ALL.map(|mode| (s, mode))) {
            let odd =
                |g: &Granularity| !g.block((n, k)).1.is_multiple_of(32) && g.block((n, k)).1 < k;
            for granularity in GRANULARITIES.into_iter().filter(|g| !mode.is_integer() || !odd(g)) {
                let (rows, cols) = granularity.grid((n, k));
                let scales =
                    Scales::new(vec![1.0; rows * cols], (n, k), granularity).expect("scales");
                let signs = Bytes::from(vec![0xFF; n * sign_stride(k)]);
                let codes = vec![3; n * k];
                let w = Weights::new(codes, (n, k), Lut::qins_linear(), scales)
                    .and_then(|w| w.with_signs(signs))
                    .expect("weights");
                let x = vec![1f32; m * k];
                let mut y = vec![f32::NAN; m * n];
                w.product()
                    .epilogue(Epilogue { bias: Some(&vec![0.5; n]), ..Epilogue::default() })
                    .matmul(
                        MatRef::new(&x, (m, k)).expect("x"),
                        MatMut::new(&mut y, (m, n)).expect("y"),
                        &mut Context::from(Options::new().with_kernel(kernel).with_mode(mode)),
                    )
                    .expect("an empty product");
                assert!(y.iter().all(|y| *y == 0.5), "{m}×{n}×{k} {granularity}: {y:?}");
            }
        }
    }
    // Dimensions beside a 0 may be anything.
    for (n, k) in [(0, usize::MAX / 2), (0, usize::MAX)] {
        let scales = Scales::new(vec![], (n, k), Granularity::Group(64)).expect("scales");
        let w = Weights::new(vec![], (n, k), Lut::int8(), scales).expect("weights");
        let (x, y) = (MatRef::<f32>::new(&[], (0, k)), MatMut::<f32>::new(&mut [], (0, 0)));
        let (x, mut y) = (x.expect("x"), y.expect("y"));
        for mode in Mode::ALL {
            let options = Options::new().with_kernel(Kernel::best()).with_mode(mode);
            let y = y.reborrow();
            match w.matmul(x, y, &mut Context::from(options)) {
                Ok(()) => {}
                Err(error) => assert!(mode.is_integer(), "{mode}: {error}"),
            }
        }
    }
}

/// A length that is right, or not by far.
fn near(right: usize) -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(right), 1 => right.saturating_sub(3)..right + 4, 1 => Just(0)]
}

/// A dimension, now and then one that overflows when multiplied.
fn dimension() -> impl Strategy<Value = usize> {
    prop_oneof![20 => 0..70usize, 1 => Just(usize::MAX / 2), 1 => Just(usize::MAX), 1 => Just(1 << 32)]
}

fn granularity() -> impl Strategy<Value = Granularity> {
    prop_oneof![
        Just(Granularity::Tensor),
        Just(Granularity::Row),
        dimension().prop_map(Granularity::Group),
        (dimension(), dimension()).prop_map(|(r, c)| Granularity::Block(r, c)),
    ]
}

/// Capped, so that a buffer of a wrong length can be made at all.
fn small(len: Option<usize>) -> usize {
    len.map_or(0, |len| len.min(20_000))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if testing::quick() { 100 } else { 2000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Constructors take anything, and refuse or make a value that works.
    #[test]
    fn nothing_panics(
        (n, k, m) in (dimension(), dimension(), prop_oneof![0..20usize, Just(usize::MAX / 3)]),
        granularity in granularity(),
        (table, kernel, mode) in (0..13usize, 0..8usize, 0..8usize),
        (codes, signs, scales) in (0..6usize, 0..6usize, 0..6usize),
        (x_extra, y_extra, bias_extra) in (near(10), near(10), near(10)),
        (x_stride, y_stride) in (near(4), near(4)),
        rows in (0..80usize, 0..80usize),
        seed in any::<u64>(),
    ) {
        // 3 in 6 right, else off by one, or nothing.
        let off = |right: Option<usize>, how: usize| match how {
            0..=3 => small(right),
            4 => small(right) + 1,
            _ => small(right).saturating_sub(1),
        };
        let (_, lut, signed) = tables().swap_remove(table);
        // Block and group sizes of 0 have no grid.
        let block = granularity.block((n, k));
        let grid = if block.0 == 0 || block.1 == 0 { (0, 0) } else { granularity.grid((n, k)) };
        let values = vec![0.5; off(grid.0.checked_mul(grid.1), scales)];
        let Ok(scales) = Scales::new(values, (n, k), granularity) else { return Ok(()) };
        let byte = |i: usize| (seed.wrapping_mul(2 * i as u64 + 1) >> 32) as u8;
        let codes: Vec<u8> = (0..off(n.checked_mul(k), codes)).map(byte).collect();
        let signs = signed.then(|| {
            let len = off(n.checked_mul(sign_stride(k)), signs);
            Bytes::from((0..len).map(byte).collect::<Vec<_>>())
        });
        let Ok(w) = Weights::new(codes, (n, k), lut, scales).and_then(|w| with_signs(w, signs)) else { return Ok(()) };
        let w = if seed % 2 == 0 { w.with_non_finite(NonFinite::Propagate) } else { w };

        let kernels: Vec<_> = Kernel::available().collect();
        let mode = Mode::ALL[mode.saturating_sub(3)];
        let options = one_thread(kernels[kernel % kernels.len()]).with_mode(mode);
        let stride = |cols: usize, extra: usize| cols.saturating_add(extra).saturating_sub(4);
        let (x_stride, y_stride) = (stride(k, x_stride), stride(n, y_stride));
        let len = |stride: usize, extra: usize| {
            (small(m.checked_mul(stride)) + extra).saturating_sub(10)
        };
        let x = vec![1f32; len(x_stride, x_extra)];
        let before = vec![BEFORE; len(y_stride, y_extra)];
        let mut y = before.clone();
        let bias = vec![0.5; (small(Some(n)) + bias_extra).saturating_sub(10)];
        let epilogue = Epilogue { bias: (seed % 3 == 0).then_some(&bias), ..Epilogue::default() };
        let mut multiply = || {
            let x = MatRef::with_stride(&x, (m, k), x_stride)?;
            let to = MatMut::with_stride(&mut y, (m, n), y_stride)?;
            w.product().epilogue(epilogue).matmul(x, to, &mut Context::from(options))?;
            let mut packed = Activations::new();
            packed.pack(x, &w, &options)?;
            let to = MatMut::with_stride(&mut y, (m, rows.1.abs_diff(rows.0)), y_stride)?;
            // An error may come after the first product: what it leaves is not looked at.
            let _ = w.product().rows(rows.0..rows.1).epilogue(epilogue).matmul(&packed, to, &mut Context::from(options));
            Ok::<(), Error>(())
        };
        let done = multiply();
        if let Err(error) = &done {
            prop_assert!(!error.to_string().is_empty());
            let product = matches!(error, Error::Length { what: "y", .. } | Error::Stride { what: "y", .. });
            prop_assert!(y == before || product, "{error}");
        }
        let plan = Plan::new(&w, m, &Options::new().with_kernel(Kernel::best()));
        let _ = (plan.map(|plan| plan.shape()), w.bytes(), w.prepare());
    }
}
