//! Whole products at real shapes, packing of x included, by the best kernel on one thread.
//!
//! `cargo bench --bench product`; `LUTMUL_ISA` chooses another kernel. Weights of a shape are the same
//! each time, and a last-level cache may hold them: see `lutmul bench` for cold ones.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lutmul::{Context, Format, Granularity, Mode, Options, Threads, Weights};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

const TOKENS: usize = 512;

fn products(c: &mut Criterion) {
    let options = Options::new().with_threads(Threads::One);
    let mut rng = StdRng::seed_from_u64(1);
    let mut gaussian = |len: usize| -> Vec<f32> {
        (0..len).map(|_| rng.sample::<f32, _>(StandardNormal)).collect()
    };
    for (n, k) in [(3072, 3072), (8192, 3072)] {
        let (floats, x) = (gaussian(n * k), gaussian(TOKENS * k));
        for format in [Format::QinsLinear, Format::E4m3, Format::KMeansSigned] {
            let w = Weights::encode(&floats, (n, k), &format, Granularity::Row)
                .unwrap_or_else(|error| panic!("{error}"));
            for mode in Mode::ALL {
                for m in [1, 4, 16, TOKENS] {
                    product(c, &w, &format, &x[..m * k], options.with_mode(mode));
                }
            }
        }
    }
}

fn product(c: &mut Criterion, w: &Weights<'_>, format: &Format, x: &[f32], options: Options) {
    let (n, k) = (w.n(), w.k());
    let m = x.len() / k;
    let mut y = vec![0.0f32; m * n];
    let mut context = Context::from(options);
    let mut group = c.benchmark_group(format!("{} {n}x{k}", options.mode));
    // Elements are multiply-adds, bytes those of the weights.
    group.throughput(Throughput::ElementsAndBytes {
        elements: (m * n * k) as u64,
        bytes: w.bytes() as u64,
    });
    group.bench_function(format!("{format}, {m} tokens"), |b| {
        b.iter(|| w.matmul(x, &mut y, &mut context));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    // Some minutes in all.
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = products
}
criterion_main!(benches);
