//! Memory that is reserved beforehand is all that products take.

mod common;

use common::{GRANULARITIES, activations, rng, tables, thin, weights};
use lutmul::{Epilogue, Kernel, MatMut, MatRef, Mode, Needs, Options, Threads, Workspace, matmul};

#[test]
fn a_workspace_does_not_grow_beyond_what_it_has_reserved() {
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
                let options = Options::with_kernel(Kernel::best()).mode(mode).threads(threads);
                let Ok(needs) = Needs::up_to(&w, MOST, &options) else {
                    assert!(mode.is_integer(), "{mode} takes every granularity");
                    continue;
                };
                let mut workspace = Threads::One.install(Workspace::new);
                workspace.reserve(needs).expect("memory");
                let reserved = workspace.bytes();
                assert!(reserved >= needs.scratch(), "{needs:?}");
                for m in 1..=MOST {
                    let mut y = vec![0f32; m * n];
                    let from = MatRef::new(&x[..m * k], m, k).expect("x");
                    let to = MatMut::new(&mut y, m, n).expect("y");
                    matmul(&w, from, to, &Epilogue::default(), &options, &mut workspace)
                        .expect("a product");
                    let of_this = Needs::of(&w, m, &options).expect("needs");
                    assert!(needs.cover(of_this), "{name} {mode} {granularity} {m}: {of_this:?}");
                    assert_eq!(workspace.bytes(), reserved, "{name} {mode} {granularity} {k} {m}");
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
        let options = Options::with_kernel(Kernel::best()).mode(mode);
        let error = Needs::up_to(&w, usize::MAX, &options).unwrap_err();
        assert!(matches!(error, lutmul::Error::Overflow { .. }), "{error}");
        let needs = Needs::up_to(&w, 1 << 54, &options).expect("needs");
        let mut workspace = Workspace::new();
        let error = workspace.reserve(needs).unwrap_err();
        assert!(matches!(error, lutmul::Error::Memory { .. }), "{error}");
    }
}
