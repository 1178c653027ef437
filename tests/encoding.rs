//! Encoding: every format and granularity against the definition, element types, threads, errors.

use lutmul::{Element, Error, Format, Granularity, Lut, Weights, bf16, f16, sign_stride};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

const SHAPES: [(usize, usize); 10] =
    [(0, 0), (0, 5), (5, 0), (1, 1), (1, 9), (7, 1), (3, 63), (5, 64), (9, 65), (12, 300)];

const GRAINS: [Granularity; 7] = [
    Granularity::Tensor,
    Granularity::Row,
    Granularity::Group(1),
    Granularity::Group(7),
    Granularity::Group(32),
    Granularity::Block(2, 3),
    Granularity::Block(128, 128),
];

/// Weights of a transformer's kind: Gaussian rows of different sizes, some zeros, a row of zeros.
fn gaussian(n: usize, k: usize, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut weight = |i: usize| match i {
        _ if i / k == 4 => 0.0,
        _ if i % 13 == 5 => [0.0, -0.0][i % 2],
        _ => 0.02 * (1 + i / k % 5) as f32 * rng.sample::<f32, _>(StandardNormal),
    };
    (0..n * k).map(&mut weight).collect()
}

fn formats() -> Vec<Format> {
    let mut rng = StdRng::seed_from_u64(99);
    let mut values = [0f32; 256];
    values.fill_with(|| rng.sample(StandardNormal));
    values[3] = f32::NAN;
    values[200] = f32::NEG_INFINITY;
    values[10] = values[9];
    let magnitudes = values.map(f32::abs);
    let mut formats = Format::NAMED.to_vec();
    formats.push(Format::Table(Lut::new(&values).unwrap()));
    formats.push(Format::Table(Lut::new(&magnitudes).unwrap()));
    formats
}

/// max|w| of the block a weight is in.
fn block_max(w: &[f32], (n, k): (usize, usize), g: Granularity, (row, col): (usize, usize)) -> f32 {
    let (rows, cols) = g.block((n, k));
    let (r0, c0) = (row / rows * rows, col / cols * cols);
    let mut max = 0f32;
    for r in r0..(r0 + rows).min(n) {
        for c in c0..(c0 + cols).min(k) {
            max = max.max(w[r * k + c].abs());
        }
    }
    max
}

/// Everything that the documentation of `Weights::encode` says, weight by weight.
fn check(w: &[f32], (n, k): (usize, usize), format: &Format, granularity: Granularity) {
    let encoded = Weights::encode(w, (n, k), format, granularity).unwrap();
    let what = format!("{format} {granularity} {n}×{k}");
    assert_eq!(encoded.scales().granularity(), granularity, "{what}");
    assert_eq!(encoded.signs().is_some(), format.has_signs(), "{what}");
    let values = encoded.lut().values();
    let qins = [Format::QinsLinear, Format::QinsLog, Format::QinsInverse].contains(format);
    let candidates: Vec<f64> = values[usize::from(qins)..]
        .iter()
        .filter(|v| v.is_finite())
        .map(|v| f64::from(*v))
        .collect();
    let kmeans = [Format::KMeans, Format::KMeansSigned].contains(format);
    let top = if kmeans { 1.0 } else { encoded.lut().max_abs() };
    let top = if *format == Format::Int8 { 127.0 } else { top };
    for (i, weight) in w.iter().enumerate() {
        let (row, col) = (i / k, i % k);
        let what = || format!("{what}: {weight:e} at {row}, {col}");
        let (code, scale) = (encoded.codes()[i], encoded.scales().at(row, col));
        let max = block_max(w, (n, k), granularity, (row, col));
        let negative = encoded
            .signs()
            .map(|signs| signs[row * sign_stride(k) + col / 8] >> (col % 8) & 1 == 1);
        assert!(negative.is_none_or(|negative| negative == (*weight < 0.0)), "{}", what());
        let expected_scale = if *format == Format::QinsInverse { 1.0 } else { max / top };
        assert_eq!(scale, expected_scale, "{}", what());
        if [Format::E4m3, Format::E5m2].contains(format) {
            assert_eq!(code >> 7 == 1, weight.is_sign_negative(), "{}", what());
        }
        if scale == 0.0 {
            assert!(!qins || code == 1, "{}", what());
            continue;
        }
        assert!(!qins || code > 0, "{}", what());
        let value = if negative.is_some() { weight.abs() } else { *weight };
        match format {
            Format::QinsLinear => {
                let exact = f64::from(value) * 254.0 / f64::from(max) + 1.0;
                assert_eq!(f64::from(code), exact.round_ties_even(), "{}", what());
            }
            Format::Int8 => {
                let exact = f64::from(value) * 127.0 / f64::from(max);
                assert_eq!(f64::from(code as i8), exact.round_ties_even(), "{}", what());
                assert_ne!(code, 0x80, "{}", what());
            }
            _ => {
                let v = f64::from(value) / f64::from(scale);
                let distance = |entry: f64| (entry - v).abs();
                let best = candidates.iter().map(|e| distance(*e)).fold(f64::INFINITY, f64::min);
                let got = distance(f64::from(values[usize::from(code)]));
                assert!(got <= best * (1.0 + 1e-12), "{}: {got:e}, not {best:e}", what());
            }
        }
    }
    let padding = (k % 8 != 0).then_some(0xFFu8 << (k % 8));
    for row in 0..n {
        let last = encoded.signs().and_then(|s| s[row * sign_stride(k)..].get(k / 8));
        assert!(last.zip(padding).is_none_or(|(last, padding)| last & padding == 0), "{what}");
    }
}

#[test]
fn all_formats_and_granularities() {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for format in formats() {
            cases.extend(GRAINS.map(|granularity| (shape, format.clone(), granularity)));
        }
    }
    for ((n, k), format, granularity) in testing::thin("shape × format × granularity", cases, 9) {
        let w = gaussian(n, k, (n * 31 + k) as u64);
        check(&w, (n, k), &format, granularity);
    }
}

#[test]
fn blocks_across_bands() {
    // A band is 65536 weights: blocks of 64 rows of 3000 span several, and the last one is partial.
    let (n, k) = (150, 3000);
    let w = gaussian(n, k, 5);
    for granularity in [Granularity::Tensor, Granularity::Block(64, 1000)] {
        let encoded = Weights::encode(&w, (n, k), &Format::QinsLinear, granularity).unwrap();
        let (rows, cols) = granularity.block((n, k));
        let (grid_rows, grid_cols) = granularity.grid((n, k));
        for i in 0..grid_rows * grid_cols {
            let at = (i / grid_cols * rows, i % grid_cols * cols);
            let max = block_max(&w, (n, k), granularity, at);
            assert_eq!(encoded.scales().values()[i], max / 254.0, "{granularity} {i}");
        }
        let report = encoded.error_report(&w).unwrap();
        let largest = encoded.scales().values().iter().fold(0f32, |a, b| a.max(*b));
        assert!(report.max_abs <= f64::from(largest) * 0.5001);
    }
}

#[test]
fn a_users_table_of_qins_linear_is_qins_linear() {
    let (n, k) = (20, 300);
    let w = gaussian(n, k, 6);
    let named = Weights::encode(&w, (n, k), &Format::QinsLinear, Granularity::Row).unwrap();
    let table = Format::Table(Lut::qins_linear());
    let searched = Weights::encode(&w, (n, k), &table, Granularity::Row).unwrap();
    assert_eq!(named.scales(), searched.scales());
    assert_eq!(named.signs(), searched.signs());
    // Codes 0 and 1 are both 0; w/max·254 and w/scale differ by the rounding of scale.
    let same = |(a, b): (&u8, &u8)| a == b || (*a == 1 && *b == 0);
    assert!(named.codes().iter().zip(searched.codes()).all(same));
}

#[test]
fn fp8_is_the_cast_of_ieee() {
    // A maximum of 448 makes the scale 1: encoding is then a cast, ties to even.
    let w = [448.0, 17.0, 19.0, -17.0, 0.001953125, 0.0009765625, 0.0029296875, 0.015625, -433.0];
    let encoded = Weights::encode(&w, (1, 9), &Format::E4m3, Granularity::Tensor).unwrap();
    let decoded: Vec<f32> = (0..9).map(|i| encoded.at(0, i)).collect();
    let expected = [448.0, 16.0, 20.0, -16.0, 0.001953125, 0.0, 0.00390625, 0.015625, -448.0];
    assert_eq!(decoded, expected);
    let every: Vec<f32> = Lut::e5m2().values().iter().copied().filter(|v| v.is_finite()).collect();
    let shape = (1, every.len());
    let encoded = Weights::encode(&every, shape, &Format::E5m2, Granularity::Row).unwrap();
    let mut decoded = vec![0f32; every.len()];
    encoded.decode(&mut decoded).unwrap();
    assert_eq!(decoded, every);
}

/// A float of 8 bits, in integers alone: round half to even, no further than the largest value.
struct Minifloat {
    format: Format,
    /// Bits of the significand, the exponent's bias, and the code of the largest value.
    bits: i32,
    bias: i32,
    top: u8,
    /// FNV-1a of the codes that ml_dtypes 0.6.0 has for all f16 up to that value, in the order of their bits,
    /// and for [`Minifloat::between`].
    golden: [u64; 2],
}

const E4M3: Minifloat = Minifloat {
    format: Format::E4m3,
    bits: 3,
    bias: 7,
    top: 0x7E,
    golden: [0x31f5_baee_0072_3e63, 0xa813_0f3d_2b4a_add9],
};

const E5M2: Minifloat = Minifloat {
    format: Format::E5m2,
    bits: 2,
    bias: 15,
    top: 0x7B,
    golden: [0xc028_8ad3_b2f4_5b73, 0xd3fa_d676_1d7a_fa07],
};

impl Minifloat {
    fn code(&self, v: f64) -> u8 {
        let bits = v.to_bits();
        let sign = ((bits >> 63) as u8) << 7;
        let exponent = (bits >> 52 & 0x7FF) as i32 - 1023;
        let significand = bits & ((1 << 52) - 1) | 1 << 52;
        // In units of the last place that the code has.
        let least = 1 - self.bias;
        let shift = 52 - self.bits + (least - exponent).max(0);
        if shift > 60 {
            return sign;
        }
        let (whole, rest, half) =
            (significand >> shift, significand & ((1 << shift) - 1), 1u64 << (shift - 1));
        let rounded = whole + u64::from(rest > half || (rest == half && whole & 1 == 1));
        // A carry goes into the exponent, which is where it belongs.
        let code = ((exponent - least).max(0) as u64) * (1 << self.bits) + rounded;
        sign | code.min(self.top.into()) as u8
    }

    fn value(&self, code: u8) -> f32 {
        self.format.lut().expect("a table").entry(code)
    }

    /// The middle of every two neighbours, and what is next to it, of both signs.
    fn between(&self) -> Vec<f32> {
        let middle =
            |c: u8| ((f64::from(self.value(c)) + f64::from(self.value(c + 1))) / 2.0) as f32;
        let near = |m: f32| [m.next_down(), m, m.next_up()].map(|v| [v, -v]);
        (0..self.top).flat_map(|c| near(middle(c)).concat()).collect()
    }

    /// All values of f16 that are no larger than the largest.
    fn halves(&self) -> Vec<f16> {
        let all = (0..=u16::MAX).map(f16::from_bits);
        all.filter(|h| h.to_f32().abs() <= self.value(self.top)).collect()
    }
}

fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let next = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, next)
}

#[test]
fn fp8_codes_are_those_of_ml_dtypes() {
    for float in [E4M3, E5M2] {
        // The largest value makes the scale 1.
        let max = float.value(float.top);
        let codes = |w: &[f32]| -> Vec<u8> {
            let w = [w, &[max]].concat();
            let encoded = Weights::encode(&w, (1, w.len()), &float.format, Granularity::Row);
            let encoded = encoded.unwrap();
            assert_eq!(encoded.scales().values(), [1.0]);
            encoded.codes()[..w.len() - 1].to_vec()
        };
        let halves: Vec<f32> = float.halves().into_iter().map(f16::to_f32).collect();
        let golden = [fnv(codes(&halves)), fnv(codes(&float.between()))];
        assert_eq!(golden, float.golden, "{}", float.format);
        // Next to all of them in f32, and where f16 has nothing.
        let tiny = [0.0, f32::from_bits(1), f32::MIN_POSITIVE, 1e-30, 1e-10];
        let more = halves.iter().flat_map(|h| [h.next_up(), h.next_down()]);
        let more = more.chain(tiny.into_iter().flat_map(|t| [t, -t])).filter(|v| v.abs() <= max);
        let all: Vec<f32> = more.chain(halves.iter().copied()).chain(float.between()).collect();
        for (w, code) in all.iter().zip(codes(&all)) {
            assert_eq!(code, float.code(f64::from(*w)), "{}: {w:e}", float.format);
        }
    }
}

/// Whatever the scale, codes are those of the quotient, and their sign that of the weight.
#[test]
fn fp8_codes_with_scales_are_those_of_the_quotient() {
    for float in [E4M3, E5M2] {
        let max = float.value(float.top);
        let halves = float.halves();
        for factor in [1.0f32, 0.3, 1e-3, 7e-36, 1e-44, 1e30] {
            let wide: Vec<f32> = halves
                .iter()
                .map(|h| h.to_f32())
                .chain(float.between())
                .map(|v| v * factor)
                .collect();
            // Rows of zeros of both signs have a scale of 0.
            let (k, mut wide) = (600, wide);
            wide.resize(wide.len().next_multiple_of(k), -0.0);
            wide.extend((0..k).map(|i| [0.0, -0.0][i % 7 % 2]));
            let n = wide.len() / k;
            let grains = [Granularity::Tensor, Granularity::Row, Granularity::Group(32)];
            for granularity in grains.into_iter().chain([Granularity::Block(7, 100)]) {
                let encoded = Weights::encode(&wide, (n, k), &float.format, granularity).unwrap();
                for (i, (w, code)) in wide.iter().zip(encoded.codes()).enumerate() {
                    let scale = f64::from(encoded.scales().at(i / k, i % k));
                    let quotient = if scale == 0.0 { f64::from(*w) } else { f64::from(*w) / scale };
                    let what = || format!("{} {granularity}: {w:e} / {scale:e}", float.format);
                    assert_eq!(*code, float.code(quotient), "{}", what());
                    assert_eq!(encoded.at(i / k, i % k).is_sign_negative(), w.is_sign_negative());
                }
            }
        }
        let narrow: Vec<f16> = halves.iter().copied().chain([f16::from_f32(max)]).collect();
        let shape = (1, narrow.len());
        let encoded = Weights::encode(&narrow, shape, &float.format, Granularity::Row).unwrap();
        for (w, code) in narrow.iter().zip(encoded.codes()) {
            assert_eq!(*code, float.code(w.to_f64()), "{}: {w:e}", float.format);
        }
    }
}

#[test]
fn zeros_of_a_users_table() {
    let codes = |entries: [f32; 4]| {
        let mut table = [2.0; 256];
        table[..4].copy_from_slice(&entries);
        table[4] = -2.0;
        let format = Format::Table(Lut::new(&table).unwrap());
        let w = [0.0, -0.0, 1e-9, -1e-9, 2.0, -2.0];
        let encoded = Weights::encode(&w, (1, 6), &format, Granularity::Row).unwrap();
        assert!(encoded.signs().is_none());
        encoded.codes()[..4].to_vec()
    };
    assert_eq!(codes([0.0, -0.0, 0.0, -0.0]), [0, 1, 0, 1]);
    assert_eq!(codes([-0.0, -0.0, 1.0, 0.0]), [3, 0, 3, 0]);
    // One of them serves both signs.
    assert_eq!(codes([1.0, 0.0, 0.0, 1.5]), [1; 4]);
    assert_eq!(codes([1.0, -0.0, 1.0, -0.0]), [1; 4]);
}

#[test]
fn qins_log_spans_the_tensor() {
    let w = [0.5f32, -0.001, 0.25, 0.0, 0.1, -0.5];
    let encoded = Weights::encode(&w, (2, 3), &Format::QinsLog, Granularity::Tensor).unwrap();
    assert_eq!(encoded.lut().entry(1), 1.0);
    assert!((encoded.lut().entry(255) - 0.002).abs() < 1e-9);
    assert_eq!(encoded.codes()[0], 1);
    assert_eq!((encoded.codes()[1], encoded.codes()[3]), (255, 255));
    // With row scales the smallest ratio is looked for within rows.
    let encoded = Weights::encode(&w, (2, 3), &Format::QinsLog, Granularity::Row).unwrap();
    assert!((encoded.lut().entry(255) - 0.002).abs() < 1e-9);
}

#[test]
fn f16_and_bf16_are_widened() {
    fn same<T: Element>(w: &[f32], (n, k): (usize, usize)) {
        let narrow: Vec<T> = w.iter().map(|w| T::from_f32(*w)).collect();
        let wide: Vec<f32> = narrow.iter().map(|w| w.to_f32()).collect();
        for format in formats() {
            for granularity in GRAINS {
                let a = Weights::encode(&narrow, (n, k), &format, granularity).unwrap();
                let b = Weights::encode(&wide, (n, k), &format, granularity).unwrap();
                assert_eq!(a.codes(), b.codes(), "{} {format} {granularity}", T::NAME);
                assert_eq!((a.signs(), a.scales()), (b.signs(), b.scales()));
                assert_eq!(a.error_report(&narrow).unwrap(), b.error_report(&wide).unwrap());
            }
        }
    }
    let w = gaussian(9, 65, 8);
    same::<f16>(&w, (9, 65));
    same::<bf16>(&w, (9, 65));
}

#[cfg(feature = "rayon")]
#[test]
fn threads_change_nothing() {
    let (n, k) = (151, 1003);
    let w = gaussian(n, k, 9);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut all = Vec::new();
            for format in formats() {
                for granularity in
                    [Granularity::Row, Granularity::Tensor, Granularity::Block(100, 128)]
                {
                    let encoded = Weights::encode(&w, (n, k), &format, granularity).unwrap();
                    let mut decoded = vec![0f32; n * k];
                    encoded.decode(&mut decoded).unwrap();
                    let decoded: Vec<u32> = decoded.into_iter().map(f32::to_bits).collect();
                    let report = encoded.error_report(&w).unwrap();
                    let table = encoded.lut().values().map(f32::to_bits);
                    let (codes, signs) =
                        (encoded.codes().to_vec(), encoded.signs().map(<[u8]>::to_vec));
                    all.push((table, codes, signs, encoded.scales().clone(), decoded, report));
                }
            }
            all
        })
    };
    let one = run(1);
    for threads in [2, 3] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn the_ends_of_the_number_range() {
    let tiny = f32::from_bits(1);
    let cases = [
        vec![tiny, -tiny, 0.0, 2.0 * tiny],
        vec![1e-40, -3e-41, 1e-45, 0.0],
        vec![f32::MIN_POSITIVE, -1e-39, 1e-45, 0.0],
        vec![f32::MAX, -f32::MAX, 1e38, 1.0],
        vec![f32::MAX, tiny, -tiny, 0.0],
    ];
    for w in cases {
        let max = f64::from(w.iter().fold(0f32, |a, b| a.max(b.abs())));
        for format in formats() {
            for granularity in [Granularity::Tensor, Granularity::Group(2), Granularity::Group(1)] {
                let encoded = Weights::encode(&w, (1, 4), &format, granularity).unwrap();
                let mut decoded = [0f32; 4];
                encoded.decode(&mut decoded).unwrap();
                let what = format!("{format} {granularity} {w:?}: {decoded:?}");
                assert!(decoded.iter().all(|d| d.is_finite()), "{what}");
                if format != Format::QinsInverse {
                    // Half the widest gap of any of these tables, and the rounding of subnormals.
                    let bound = 0.3 * max + f64::from(tiny);
                    // QINS log has no zero: it becomes the smallest magnitude there is.
                    let log = format == Format::QinsLog;
                    let near = |(d, w): (&f32, &f32)| {
                        (log && *w == 0.0) || (f64::from(*d) - f64::from(*w)).abs() <= bound
                    };
                    assert!(decoded.iter().zip(&w).all(near), "{what}");
                }
                if [Format::QinsLinear, Format::Int8].contains(&format) && max < 1e-41 {
                    assert_eq!(decoded, w[..], "{what}: below 127 steps of f32 nothing is lost");
                }
            }
        }
    }
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let (n, k) = (70, 1000);
    for (at, value) in [(0, f32::NAN), (67_890, f32::INFINITY), (n * k - 1, -f32::INFINITY)] {
        let mut w = gaussian(n, k, 10);
        w[at..].iter_mut().step_by(911).for_each(|w| *w = value);
        for format in [Format::QinsLinear, Format::KMeans, Format::E4m3] {
            for granularity in GRAINS {
                let error = Weights::encode(&w, (n, k), &format, granularity).unwrap_err();
                let Error::NonFinite { row, col, value: got, .. } = error else {
                    panic!("{format} {granularity}: {error}")
                };
                assert_eq!((row, col, got.to_bits()), (at / k, at % k, value.to_bits()));
            }
        }
    }
}

#[test]
fn bad_arguments_are_errors() {
    let encode = |shape, granularity| {
        Weights::encode(&[1f32; 6], shape, &Format::QinsLinear, granularity).unwrap_err()
    };
    assert!(matches!(encode((2, 4), Granularity::Row), Error::Length { expected: 8, got: 6, .. }));
    assert!(matches!(encode((usize::MAX, 2), Granularity::Row), Error::Overflow { .. }));
    assert!(matches!(encode((2, 3), Granularity::Group(0)), Error::Invalid { .. }));
    assert!(matches!(encode((2, 3), Granularity::Block(0, 1)), Error::Invalid { .. }));
    let empty = Weights::encode::<f32>(&[], (usize::MAX, 0), &Format::Int8, Granularity::Tensor);
    assert!(empty.is_ok_and(|w| w.codes().is_empty()));
    // No weights, no scales, however many rows there are.
    let rows = Weights::encode::<f32>(&[], (usize::MAX, 0), &Format::Int8, Granularity::Row);
    assert!(rows.is_ok_and(|w| w.scales().values().is_empty()));
    let zeros = Weights::encode(
        &[0f32; 6],
        (2, 3),
        &Format::Table(Lut::new(&[0.0; 256]).unwrap()),
        Granularity::Row,
    );
    assert_eq!(zeros.unwrap().scales().values(), [0.0; 2]);
}

/// Codes, signs, scales and tables are the same on every CPU: these hashes were made on x86-64 with
/// AVX-512, and vectorised loops of other CPUs must meet them.
#[test]
fn golden_bits() {
    // Sums of four uniform numbers, in integers: no libm in sight.
    let mut state = 42u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 44) as i32 - (1 << 19)
    };
    let (n, k) = (37, 523);
    let w: Vec<f32> =
        (0..n * k).map(|_| (uniform() + uniform() + uniform() + uniform()) as f32 * 1e-7).collect();
    let mut got = Vec::new();
    for format in Format::NAMED {
        for granularity in [Granularity::Row, Granularity::Block(16, 100)] {
            let e = Weights::encode(&w, (n, k), &format, granularity).unwrap();
            let floats = e.lut().values().iter().chain(e.scales().values());
            let bytes = floats.flat_map(|v| if v.is_nan() { [0; 4] } else { v.to_le_bytes() });
            let bytes = bytes.chain(e.codes().iter().copied());
            let bytes = bytes.chain(e.signs().unwrap_or_default().iter().copied());
            // FNV-1a.
            let hash = bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
            got.push(format!("{format} {granularity} {hash:016x}"));
        }
    }
    assert_eq!(got.join("\n"), GOLDEN.trim(), "got:\n{}", got.join("\n"));
}

const GOLDEN: &str = "
qins-linear row 02211d19fbede501
qins-linear block:16x100 4267bc7dd5181b5f
qins-log row 53026df5295b547b
qins-log block:16x100 c15c672eb2e821da
qins-inverse row 671feb0a1bdfc207
qins-inverse block:16x100 a6673184595c23b4
kmeans row d02a5b4df9edd36c
kmeans block:16x100 6608f3ba0b1a0393
kmeans-signed row 1154890452a9776b
kmeans-signed block:16x100 bbc890db94ecf512
e4m3 row f2250c8bd6f4f1c2
e4m3 block:16x100 57344c2e6fe2cc16
e5m2 row a9aae5c894188000
e5m2 block:16x100 14c131e96683198b
e4m3-fnuz row 02875683e576d2d1
e4m3-fnuz block:16x100 c2cbd0f0064bdca3
e5m2-fnuz row 1895792a946f69c4
e5m2-fnuz block:16x100 c8f2ed09dd25cd77
int8 row ce20207ab0b8e9b1
int8 block:16x100 0200295adc22f07e
";
