//! Encoding and decoding a 4096×4096 layer: formats, granularities, element types.
//!
//! `cargo bench --bench encode`, or `-- encode/e4m3` for one of them; `RAYON_NUM_THREADS=1` for the rate of one core.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lutmul::{Element, Format, Granularity, Weights, bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

const N: usize = 4096;
const K: usize = 4096;

fn encode<T: Element>(c: &mut Criterion, w: &[T], format: &Format, granularity: Granularity) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::ElementsAndBytes {
        elements: w.len() as u64,
        bytes: size_of_val(w) as u64,
    });
    group.bench_function(format!("{format}/{granularity}/{}", T::NAME), |b| {
        b.iter(|| Weights::encode(w, (N, K), format, granularity));
    });
    group.finish();
}

fn decode<T: Element>(c: &mut Criterion, weights: &Weights, format: &Format) {
    let mut out = vec![T::from_f32(0.0); N * K];
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::ElementsAndBytes {
        elements: out.len() as u64,
        bytes: size_of_val(out.as_slice()) as u64,
    });
    let name = format!("{format}/{}", T::NAME);
    group.bench_function(name, |b| b.iter(|| weights.decode(&mut out)));
    group.finish();
}

fn layer(c: &mut Criterion) {
    let mut rng = StdRng::seed_from_u64(1);
    let w: Vec<f32> = (0..N * K).map(|_| 0.02 * rng.sample::<f32, _>(StandardNormal)).collect();
    for granularity in [
        Granularity::Row,
        Granularity::Tensor,
        Granularity::Group(32),
        Granularity::Block(128, 128),
    ] {
        encode(c, &w, &Format::QinsLinear, granularity);
    }
    for format in &Format::NAMED[1..] {
        encode(c, &w, format, Granularity::Row);
    }
    let half: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
    encode(c, &half, &Format::QinsLinear, Granularity::Row);
    let half: Vec<f16> = w.iter().map(|w| f16::from_f32(*w)).collect();
    encode(c, &half, &Format::QinsLinear, Granularity::Row);

    for format in [Format::QinsLinear, Format::E4m3] {
        let weights = Weights::encode(&w, (N, K), &format, Granularity::Row);
        let weights = weights.unwrap_or_else(|error| panic!("{error}"));
        decode::<f32>(c, &weights, &format);
        decode::<bf16>(c, &weights, &format);
    }
}

criterion_group! {
    name = benches;
    // Half a minute in all.
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = layer
}
criterion_main!(benches);
