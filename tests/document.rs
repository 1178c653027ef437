//! The results of QINS's source document, as tests, printed as a table (`--nocapture` shows it).
//!
//! Its linear encoding has levels `max/254` apart, so an error is uniform in ±max/508: at most max/508,
//! half of it on average. The 3072 outputs of a forward pass with unit Gaussian x are then off by
//! Gaussians of variance 768·step²/12, whose mean magnitude is √(2/π) of their standard deviation.
//! The document says 0.000196, 0.000098 and 0.0025, all three of which follow for max = 0.0996: what
//! 2.36 million draws of N(0, 0.02) have as their largest (5.0…5.3 σ).
//!
//! What does not follow from its formulas: the error of the inverse encoding's example is 0.894, not
//! 0.834 (the decoded value, −1.0039, is right); 1.771, 87 % and 29 500× follow from nothing given there.
//! Code and sign as two bytes are also no smaller than bf16; with packed signs a weight is 1.125 bytes.

use lutmul::{Format, Granularity, Lut, Scales, Weights, reference};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Normal, StandardNormal};

const N: usize = 3072;
const K: usize = 768;
const SEEDS: u64 = 5;

/// The relative difference.
fn off(value: f64, from: f64) -> f64 {
    (value / from - 1.0).abs()
}

#[test]
fn a_layer_of_768_to_3072() {
    println!("768→3072, N(0, 0.02), qins-linear per tensor; x ~ N(0, 1), 8 tokens");
    println!("seed  max|w|/σ  max error  (max/508)  mean error  (max/1016)  forward   (theory)");
    for seed in testing::thin("seeds", (0..SEEDS).collect(), SEEDS as usize - 1) {
        let mut rng = StdRng::seed_from_u64(seed);
        let normal = Normal::new(0.0, 0.02f32).unwrap();
        let w: Vec<f32> = (0..N * K).map(|_| rng.sample(normal)).collect();
        let encoded =
            Weights::encode(&w, (N, K), &Format::QinsLinear, Granularity::Tensor).unwrap();
        let report = encoded.error_report(&w).unwrap();
        let max = f64::from(w.iter().fold(0f32, |max, w| max.max(w.abs())));
        let step = max / 254.0;

        // The forward pass by the reference: with the encoded weights, and with the original ones.
        let m = 8;
        let x: Vec<f32> = (0..m * K).map(|_| rng.sample(StandardNormal)).collect();
        let y = reference::matmul(&encoded, &x, m).unwrap().y;
        let mut forward = 0.0;
        for (i, y) in y.iter().enumerate() {
            let (x, w) = (&x[i / N * K..][..K], &w[i % N * K..][..K]);
            let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            forward += (y - exact).abs() / (m * N) as f64;
        }
        // The length of these x's, not that of the average one: 8 tokens are few.
        let squares: f64 = x
            .chunks(K)
            .map(|x| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() / m as f64)
            .sum();
        let theory = (2.0 / std::f64::consts::PI).sqrt() * step / 12f64.sqrt() * squares;

        println!(
            "{seed:4}  {:8.3}  {:.7}  {:.7}  {:.7}   {:.7}   {forward:.6}  {theory:.6}",
            max / 0.02,
            report.max_abs,
            step / 2.0,
            report.mean_abs,
            step / 4.0,
        );
        assert!(off(report.max_abs, step / 2.0) < 0.02, "seed {seed}");
        assert!(off(report.mean_abs, step / 4.0) < 0.02, "seed {seed}");
        assert!(off(forward, theory) < 0.02, "seed {seed}");
        // The document's figures: they depend on the largest of its own draws.
        assert!(off(report.max_abs, 0.000196) < 0.10, "seed {seed}: {}", report.max_abs);
        assert!(off(report.mean_abs, 0.000098) < 0.10, "seed {seed}: {}", report.mean_abs);
        assert!(off(forward, 0.0025) < 0.10, "seed {seed}: {forward}");
    }
}

#[test]
fn three_simple_weights() {
    // max = 1, so a step is 1/254: 0.5 is 127 of them; 0.25 lies between two levels, 63 and 64.
    let w = [1.0f32, -0.5, 0.25];
    let encoded = Weights::encode(&w, (1, 3), &Format::QinsLinear, Granularity::Tensor).unwrap();
    println!("weight    code  sign  decoded     error");
    let mut errors = Vec::new();
    for (i, w) in w.iter().enumerate() {
        let (code, decoded) = (encoded.codes()[i], encoded.at(0, i));
        let sign = encoded.signs().unwrap()[0] >> i & 1;
        let error = (f64::from(decoded) - f64::from(*w)).abs();
        println!("{w:8.4}  {code:4}  {sign:4}  {decoded:9.6}  {error:.6}");
        errors.push(error);
    }
    // 0.25·254 + 1 = 64.5: half to even.
    assert_eq!(encoded.codes(), [255, 128, 64]);
    assert_eq!(encoded.signs(), Some(&[0b010][..]));
    assert!(errors[0] < 1e-7 && errors[1] < 1e-7);
    assert!(off(errors[2], 1.0 / 508.0) < 1e-4);
}

#[test]
fn the_inverse_encoding_fails() {
    let w = [-0.1098f32];
    let encoded = Weights::encode(&w, (1, 1), &Format::QinsInverse, Granularity::Tensor).unwrap();
    let decoded = encoded.at(0, 0);
    let error = (f64::from(decoded) - f64::from(w[0])).abs();
    println!("inverse: {} → code {} → {decoded:.4}, error {error:.3}", w[0], encoded.codes()[0]);
    assert_eq!(encoded.codes(), [255]);
    assert_eq!(encoded.signs(), Some(&[1][..]));
    assert_eq!(encoded.scales(), &Scales::tensor(1.0, (1, 1)).unwrap());
    assert_eq!(encoded.lut(), &Lut::qins_inverse(256.0).unwrap());
    assert!((f64::from(decoded) + 1.0039).abs() < 5e-5);
    assert!((error - 0.894).abs() < 5e-4);

    // Nothing below 256/255 can be written: a whole layer becomes ±1.0039.
    let mut rng = StdRng::seed_from_u64(0);
    let w: Vec<f32> = (0..1000).map(|_| 0.02 * rng.sample::<f32, _>(StandardNormal)).collect();
    let encoded = Weights::encode(&w, (10, 100), &Format::QinsInverse, Granularity::Row).unwrap();
    let report = encoded.error_report(&w).unwrap();
    assert!(encoded.codes().iter().all(|code| *code == 255));
    assert!(report.sqnr_db < -30.0 && report.codes_used == 1, "{report:?}");
}
