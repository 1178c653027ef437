//! Memory that is reserved beforehand is all that products take.

use lutmul::{Context, Kernel, Mode, Needs, Options, Threads};
use testing::{GRANULARITIES, activations, rng, tables, thin, weights};

#[test]
fn a_context_does_not_grow_beyond_what_it_has_reserved() {
    const MOST: usize = 35;
    let mut rng = rng("memory");
    let mut shapes = Vec::new();
    for k in [1, 31, 200, 1600] {
        for granularity in GRANULARITIES {
            shapes.push((k, granularity));
        }
    }
    let (n, mut products) = (70, 0);
    for (k, granularity) in thin("shapes", shapes, 5) {
        for (name, lut, signed) in tables().into_iter().step_by(3) {
            let w = weights(&mut rng, (n, k), &lut, signed, granularity);
            let x = activations(&mut rng, MOST * k);
            for mode in Mode::ALL {
                let threads = Threads::One;
                let options = Options::new()
                    .with_kernel(Kernel::best())
                    .with_mode(mode)
                    .with_threads(threads);
                let Ok(needs) = Needs::up_to(&w, MOST, &options) else {
                    assert!(mode.is_integer(), "{mode} takes every granularity");
                    continue;
                };
                let mut context = Context::from(options);
                context.reserve(needs).expect("memory");
                let reserved = context.bytes();
                assert!(reserved >= needs.scratch(), "{needs:?}");
                for m in 1..=MOST {
                    let mut y = vec![0f32; m * n];
                    w.matmul(&x[..m * k], &mut y, &mut context).expect("a product");
                    let of_this = Needs::of(&w, m, &options).expect("needs");
                    assert!(needs.cover(of_this), "{name} {mode} {granularity} {m}: {of_this:?}");
                    assert_eq!(context.bytes(), reserved, "{name} {mode} {granularity} {k} {m}");
                    products += 1;
                }
            }
        }
    }
    println!("{products} products");
    assert!(products > 0);
}

#[test]
fn more_than_there_is() {
    let mut rng = rng("memory");
    let w = weights(&mut rng, (3, 64), &tables()[0].1, true, GRANULARITIES[0]);
    for mode in Mode::ALL {
        let options = Options::new().with_kernel(Kernel::best()).with_mode(mode);
        let error = Needs::up_to(&w, usize::MAX, &options).unwrap_err();
        assert!(matches!(error, lutmul::Error::Overflow { .. }), "{error}");
        let needs = Needs::up_to(&w, 1 << 54, &options).expect("needs");
        let mut context = Context::new();
        let error = context.reserve(needs).unwrap_err();
        assert!(matches!(error, lutmul::Error::Memory { .. }), "{error}");
    }
}
