//! The contract of integer modes, read plainly: f64 for quantising and scaling, i128 for sums. It shares
//! no code with the library.

use lutmul::{Granularity, Lut, Mode, Weights};

/// All integer modes.
pub const MODES: [Mode; Mode::ALL.len() - 2] = {
    let [Mode::F32, Mode::Bf16, rest @ ..] = Mode::ALL else { panic!("floats are the first") };
    rest
};

/// The bits of all outputs, but for activation and accumulation.
pub fn contract(
    w: &Weights<'_>,
    x: &[f32],
    m: usize,
    mode: Mode,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let (n, k) = (w.n(), w.k());
    let (image, step) = image(w.lut());
    let group = match w.scales().granularity() {
        Granularity::Group(g) | Granularity::Block(_, g) => g,
        _ => k.max(1),
    };
    let mut y = Vec::with_capacity(m * n);
    for x in (0..m).map(|token| &x[token * k..][..k]) {
        let (ints, sx) = quantise(x, mode);
        for row in 0..n {
            let mut total: Option<f64> = None;
            for first in (0..k).step_by(group) {
                let mut sum = 0i128;
                for col in first..k.min(first + group) {
                    let code = w.codes()[row * k + col];
                    let negative = w
                        .signs()
                        .is_some_and(|s| s[row * k.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1);
                    let l = i128::from(image[usize::from(code)]) * if negative { -1 } else { 1 };
                    sum += l * i128::from(ints[col]);
                }
                let term = sum as f64 * sx * (step * f64::from(w.scales().at(row, first)));
                total = Some(total.map_or(term, |t| t + term));
            }
            let t = total.unwrap_or(0.0);
            let bias = bias.map(|b| f64::from(b[row]));
            y.push(if sx.is_nan() {
                f32::from_bits(0x7FC0_0000)
            } else {
                bias.map_or(t, |b| t + b) as f32
            });
        }
    }
    y
}

/// The integers of a table, and what 1 of them stands for.
fn image(lut: &Lut) -> ([i64; 256], f64) {
    let values = lut.values().map(|v| if v.is_finite() { f64::from(v) } else { 0.0 });
    let max = values.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
    if max == 0.0 {
        return ([0; 256], 0.0);
    }
    let with = |step: f64| values.map(|v| (v / step).round_ties_even());
    let power = |e: i32| 2f64.powi(e);
    let divides = |e: &i32| values.iter().all(|v| (v / power(*e)).fract() == 0.0);
    let limit = if lut.has_wide_image() { 16_777_215.0 } else { 65_535.0 };
    let unit = power((-149..128).rev().find(divides).expect("an f32 is a multiple of 2⁻¹⁴⁹"));
    let step = if max / unit <= limit {
        unit
    } else {
        let above = (-200..200).map(power).find(|p| *p >= max / limit).expect("a power");
        let error = |step: f64| -> f64 {
            values.iter().zip(with(step)).map(|(v, l)| (v.abs() - l.abs() * step).powi(2)).sum()
        };
        if error(max / limit) < error(above) { max / limit } else { above }
    };
    (with(step).map(|l| l as i64), step)
}

/// The integer that a token's largest magnitude becomes.
pub fn limit(mode: Mode) -> f64 {
    match mode {
        Mode::A24 => 8_290_687.0,
        Mode::A16 => 32_512.0,
        Mode::A8 => 32_385.0,
        Mode::A8T => 127.0,
        other => panic!("{other} has none"),
    }
}

/// The most columns of a mode with an image of so many bytes.
pub fn most_columns(mode: Mode, bytes: u32) -> usize {
    if mode == Mode::A24 && bytes == 3 { 65_536 } else { 16_777_216 }
}

/// The integers of a token, and what 1 of them stands for.
fn quantise(x: &[f32], mode: Mode) -> (Vec<i64>, f64) {
    let limit = limit(mode);
    let max = |x: &[f32]| x.iter().fold(0.0f64, |a, x| a.max(f64::from(x.abs())));
    if x.iter().any(|x| !x.is_finite()) {
        return (vec![0; x.len()], f64::NAN);
    }
    let a = max(x);
    if a == 0.0 {
        return (vec![0; x.len()], 0.0);
    }
    let inv = limit / a;
    let mut ints = Vec::new();
    for group in x.chunks(32) {
        let multiplier = match mode {
            Mode::A8 => (max(group) * inv / 127.0).ceil().clamp(1.0, 255.0),
            _ => 1.0,
        };
        ints.extend(group.iter().map(|x| {
            let digit = (f64::from(*x) * inv / multiplier).round_ties_even();
            (digit * multiplier) as i64
        }));
    }
    (ints, a / limit)
}
