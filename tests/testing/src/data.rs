//! Seeded data: tables of every kind, weights, activations.

use lutmul::{Bytes, Granularity, Lut, Scales, Weights, sign_stride};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// The seed of a test: `LUTMUL_SEED`, or a fixed one; printed, so that a failure can be replayed.
pub fn rng(test: &str) -> StdRng {
    let seed =
        std::env::var("LUTMUL_SEED").ok().map_or(0x1u64, |s| s.parse().expect("LUTMUL_SEED"));
    println!("{test}: LUTMUL_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Whether `LUTMUL_QUICK=1` asks for fewer shapes: under an emulator or a sanitizer, where a product takes
/// twenty times as long.
pub fn quick() -> bool {
    std::env::var_os("LUTMUL_QUICK").is_some_and(|v| !v.is_empty() && v != "0")
}

/// All of a list, or where [`quick`] every `step`-th of it and the last; says how many.
pub fn thin<T>(what: &str, list: Vec<T>, step: usize) -> Vec<T> {
    let (all, step) = (list.len(), if quick() { step } else { 1 });
    let some: Vec<T> = list
        .into_iter()
        .enumerate()
        .filter(|(i, _)| i % step == 0 || i + 1 == all)
        .map(|(_, item)| item)
        .collect();
    println!("{what}: {} of {all}", some.len());
    some
}

/// Tables of every kind that kernels tell apart, and whether they come with a sign plane.
pub fn tables() -> Vec<(&'static str, Lut, bool)> {
    let of = |f: &dyn Fn(usize) -> f32| Lut::new(&std::array::from_fn(f)).expect("a finite table");
    let e4m3 = Lut::e4m3();
    vec![
        ("qins-linear", Lut::qins_linear(), true),
        ("qins-log", Lut::qins_log(-9.0, 0.0).expect("log"), true),
        ("qins-inverse", Lut::qins_inverse(256.0).expect("inverse"), true),
        ("e4m3", e4m3.clone(), false),
        ("e5m2", Lut::e5m2(), false),
        ("int8", Lut::int8(), false),
        ("int8 biased", Lut::int8_biased(128), false),
        ("int8 zero point 3", Lut::int8_biased(3), false),
        ("values", of(&|c| (c as f32 * 0.37).sin()), false),
        ("magnitudes", of(&|c| (c as f32 * 0.37).cos().abs()), true),
        ("three planes", of(&|c| (c * 257) as f32), false),
        ("e4m3 and signs", e4m3, true),
        ("int8 and signs", Lut::int8(), true),
        ("qins-linear without signs", Lut::qins_linear(), false),
        ("odd ones", of(&|c| [0.0, -0.0, 1e-40, -1e30][c % 4]), false),
    ]
}

/// The same and, for integer modes, some of them with images of three bytes.
pub fn all_tables() -> Vec<(&'static str, Lut, bool)> {
    let mut all = tables();
    for (name, wide) in [
        ("values", "values, wide"),
        ("magnitudes", "magnitudes, wide"),
        ("e4m3", "e4m3, wide"),
        ("e4m3 and signs", "e4m3 and signs, wide"),
    ] {
        let (_, lut, signed) = all.iter().find(|table| table.0 == name).expect("a table").clone();
        all.push((wide, lut.with_wide_image(), signed));
    }
    all
}

/// Weights with a sign plane, or without.
pub fn with_signs<'a>(
    weights: Weights<'a>,
    signs: Option<Bytes<'a>>,
) -> lutmul::Result<Weights<'a>> {
    match signs {
        Some(signs) => weights.with_signs(signs),
        None => Ok(weights),
    }
}

/// Random weights over a table, avoiding codes that are not finite.
pub fn weights(
    rng: &mut StdRng,
    (n, k): (usize, usize),
    lut: &Lut,
    signed: bool,
    granularity: Granularity,
) -> Weights<'static> {
    let finite: Vec<u8> = (0..=255).filter(|c| lut.entry(*c).is_finite()).collect();
    let codes: Vec<u8> = (0..n * k).map(|_| finite[rng.random_range(0..finite.len())]).collect();
    let signs = signed.then(|| {
        // Padding bits are set too: they must be ignored.
        let mut signs = vec![0u8; n * sign_stride(k)];
        rng.fill_bytes(&mut signs);
        Bytes::from(signs)
    });
    let (rows, cols) = granularity.grid((n, k));
    let scales = (0..rows * cols).map(|_| rng.random_range(0.25..1.5) * 0.01).collect();
    let scales = Scales::new(scales, (n, k), granularity).expect("scales");
    Weights::new(codes, (n, k), lut.clone(), scales)
        .and_then(|w| with_signs(w, signs))
        .expect("weights")
}

/// Random activations in −1…1, a few of them 0.
pub fn activations(rng: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|i| if i % 13 == 5 { 0.0 } else { rng.random_range(-1.0..1.0) }).collect()
}

/// Granularities of every kind that plans tell apart.
pub const GRANULARITIES: [Granularity; 9] = [
    Granularity::Tensor,
    Granularity::Row,
    Granularity::Group(64),
    Granularity::Group(128),
    Granularity::Group(32),
    Granularity::Group(16),
    Granularity::Group(20),
    Granularity::Block(128, 128),
    Granularity::Block(3, 48),
];
