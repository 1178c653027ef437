//! What the modes of floats promise: threads and row ranges never change a bit, nor do strides or borrowed
//! and unaligned bytes.

use testing::with_signs;

use lutmul::{Activations, Context, MatMut, MatRef, Options, Threads, Weights, bf16, f16};
use testing::kernels::kernels;
use testing::{FLOATS, GRANULARITIES, activations, tables, weights};

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

#[test]
fn threads_ranges_strides_and_alignment_never_change_a_bit() {
    let mut rng = testing::rng("threads_ranges_strides_and_alignment_never_change_a_bit");
    let pools: Vec<_> = [2, 7]
        .map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads"))
        .into();
    let tables = testing::thin("tables", tables(), 5);
    for (i, (name, lut, signed)) in tables.into_iter().enumerate() {
        for (m, n, k) in [(1, 1000, 200), (3, 300, 333), (40, 500, 640)] {
            let w = weights(&mut rng, (n, k), &lut, signed, GRANULARITIES[i % GRANULARITIES.len()]);
            let x = activations(&mut rng, m * k);
            let x = MatRef::new(&x, (m, k)).expect("x");
            for (mode, kernel) in
                FLOATS.into_iter().flat_map(|mode| kernels().map(move |k| (mode, k)))
            {
                let options = Options::new().with_kernel(kernel).with_mode(mode);
                let one = options.with_threads(Threads::One);
                let mut context = Context::from(one);
                let mut expected = vec![f32::NAN; m * n];
                w.matmul(x, &mut expected, &mut context).expect("a product");
                let what = format!("{name}, {mode}, {}, {m}×{n}×{k}", kernel.name());

                for pool in &pools {
                    let mut y = vec![f32::NAN; m * n];
                    pool.install(|| w.matmul(x, &mut y, &mut Context::from(options)))
                        .expect("a product");
                    assert_eq!(
                        bits(&y),
                        bits(&expected),
                        "{what}, {} threads",
                        pool.current_num_threads()
                    );
                }

                // Ranges of any length, into blocks of columns of a matrix with a stride.
                let mut packed = Activations::new();
                packed.pack(x, &w, &options).expect("packed");
                let stride = n + 5;
                let mut y = vec![7.0; m * stride];
                let mut rest = MatMut::with_stride(&mut y, (m, n), stride).expect("y");
                let mut start = 0;
                for len in [1, 8, 50, 63, 100].into_iter().cycle() {
                    let end = n.min(start + len);
                    let (part, others) = rest.split_columns(end - start);
                    w.product()
                        .rows(start..end)
                        .matmul(&packed, part, &mut Context::from(one))
                        .expect("a range");
                    rest = others;
                    start = end;
                    if end == n {
                        break;
                    }
                }
                for (token, row) in y.chunks(stride).enumerate() {
                    assert_eq!(
                        bits(&row[..n]),
                        bits(&expected[token * n..][..n]),
                        "{what}, ranges"
                    );
                    assert!(row[n..].iter().all(|v| *v == 7.0), "{what}: wrote between rows");
                }

                // The same bytes, borrowed and at an odd address.
                let mut codes = vec![0];
                codes.extend_from_slice(w.codes());
                let signs: Option<Vec<u8>> = w.signs().map(|s| [&[0], s].concat());
                let borrowed = Weights::new(&codes[1..], (n, k), lut.clone(), w.scales().clone())
                    .and_then(|w| with_signs(w, signs.as_ref().map(|s| s[1..].into())))
                    .expect("weights");
                let mut y = vec![f32::NAN; m * n];
                borrowed.matmul(&packed, &mut y, &mut Context::from(one)).expect("a product");
                assert_eq!(bits(&y), bits(&expected), "{what}, borrowed");
            }
        }
    }
}

#[test]
fn narrow_types_are_widened_exactly_and_rounded_once() {
    let mut rng = testing::rng("narrow_types_are_widened_exactly_and_rounded_once");
    let (n, k) = (70, 130);
    let w = weights(&mut rng, (n, k), &lutmul::Lut::e5m2(), false, lutmul::Granularity::Row);
    for m in [1, 5, 33] {
        let half: Vec<f16> = activations(&mut rng, m * k).into_iter().map(f16::from_f32).collect();
        let wide: Vec<f32> = half.iter().map(|x| x.to_f32()).collect();
        for kernel in kernels() {
            let mut context = Context::new().with_kernel(kernel);
            let mut y = vec![0.0f32; m * n];
            let mut y16 = vec![f16::ZERO; m * n];
            let mut y_bf = vec![bf16::ZERO; m * n];
            w.matmul(&wide, &mut y, &mut context).expect("f32");
            w.matmul(&half, &mut y16, &mut context).expect("f16");
            w.matmul(&half, &mut y_bf, &mut context).expect("bf16");
            let expected: Vec<_> = y.iter().map(|y| f16::from_f32(*y).to_bits()).collect();
            assert_eq!(y16.iter().map(|y| y.to_bits()).collect::<Vec<_>>(), expected);
            let expected: Vec<_> = y.iter().map(|y| bf16::from_f32(*y).to_bits()).collect();
            assert_eq!(y_bf.iter().map(|y| y.to_bits()).collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn a_context_serves_products_of_any_size_after_one_another() {
    let mut rng = testing::rng("a_context_serves_products_of_any_size_after_one_another");
    let mut context = Context::new();
    for (m, n, k) in [(40, 60, 500), (1, 60, 500), (9, 3, 70), (8, 200, 1000), (2, 5, 1)] {
        let w = weights(&mut rng, (n, k), &lutmul::Lut::int8(), false, lutmul::Granularity::Row);
        let x = activations(&mut rng, m * k);
        let x = MatRef::new(&x, (m, k)).expect("x");
        let product = |context: &mut Context| {
            let mut y = vec![f32::NAN; m * n];
            w.matmul(x, &mut y, context).expect("a product");
            bits(&y)
        };
        assert_eq!(product(&mut context), product(&mut Context::new()), "{m}×{n}×{k}");
    }
}
