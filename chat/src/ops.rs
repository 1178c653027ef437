//! What happens between linears: norms, rotary embedding, softmax, SiLU.
//!
//! All of it is IEEE arithmetic in an order that is written here: sums go into [`LANES`] lanes, which are added in
//! pairs; a fused multiply-add is one where `mul_add` stands and nowhere else; the exponential is our own. So results
//! have the same bits on every CPU, whatever the vector unit, and depend neither on threads nor on other tokens.
//! Compilers may not reorder any of it, but can vectorise lanes.

use std::f32::consts::LOG2_E;

use crate::config::Rope;

/// Lanes of a sum: a vector of AVX-512, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// Runs a loop compiled for this CPU's vector unit. The closure, and what it calls, is `#[inline(always)]`.
#[inline(always)]
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Lanes added in pairs: 0 with 8, 1 with 9, …; then 0 with 4, …
#[inline(always)]
fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = combine(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// RMSNorm: `y = x / √(mean(x²) + eps) · weight`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || rms_norm_loop(x, weight, eps, y),
    );
}

#[inline(always)]
fn rms_norm_loop(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let mut lanes = [0f32; LANES];
    let (lines, rest) = x.as_chunks::<LANES>();
    for line in lines {
        for (lane, x) in lanes.iter_mut().zip(line) {
            *lane = x.mul_add(*x, *lane);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = x.mul_add(*x, *lane);
    }
    let mean = fold(lanes, |a, b| a + b) / x.len() as f32;
    let inverse = 1.0 / (mean + eps).sqrt();
    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
        *y = x * inverse * weight;
    }
}

/// `y += x`.
pub fn add(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// eˣ, within 2 ulp; 0 below −87.3, the largest power above 88.3.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`, a polynomial of degree 6 in r (Cephes' `expf`), times 2ⁿ.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, half to even.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = clamped.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, clamped));
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    p = p.mul_add(r * r, r) + 1.0;
    // The low bits of `shifted` are n.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = p * power;
    if x < -87.3 { 0.0 } else { value }
}

/// Turns scores into weights, `e^(score − max)`, in place, and gives their sum.
#[inline(always)]
pub fn exp_scores(scores: &mut [f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (lines, rest) = scores.as_chunks::<LANES>();
    for line in lines {
        for (lane, score) in lanes.iter_mut().zip(line) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    for (lane, score) in lanes.iter_mut().zip(rest) {
        *lane = if *score > *lane { *score } else { *lane };
    }
    let max = fold(lanes, |a, b| if b > a { b } else { a });
    let mut sums = [0f32; LANES];
    let (lines, rest) = scores.as_chunks_mut::<LANES>();
    for line in lines {
        for (sum, score) in sums.iter_mut().zip(line) {
            *score = exp(*score - max);
            *sum += *score;
        }
    }
    for (sum, score) in sums.iter_mut().zip(rest) {
        *score = exp(*score - max);
        *sum += *score;
    }
    fold(sums, |a, b| a + b)
}

/// `y = silu(gate) · up`, of `[gate, up]` side by side; `silu(g) = g / (1 + e^−g)`.
pub fn silu_times_up(gate_up: &[f32], y: &mut [f32]) {
    let (gate, up) = gate_up.split_at(y.len());
    vectorised(
        #[inline(always)]
        || {
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate / (1.0 + exp(-gate)) * up;
            }
        },
    );
}

/// Cosines and sines of a rotary embedding, for positions from 0 on.
pub struct Rotary {
    frequencies: Vec<f64>,
    factor: f64,
    /// For each position: cosines of all pairs, then sines.
    table: Vec<f32>,
}

impl Rotary {
    /// Those of a model in a context of so many tokens.
    pub fn new(rope: &Rope, context: usize) -> Self {
        let (frequencies, factor) = rope.frequencies(context);
        Self { frequencies, factor, table: Vec::new() }
    }

    /// Has the positions up to `end`. Angles, cosines and sines are those of f64, by code of our own (libm's), rounded
    /// once.
    pub fn reach(&mut self, end: usize) {
        let pairs = self.frequencies.len();
        let done = if pairs == 0 { end } else { self.table.len() / (2 * pairs) };
        for position in done..end {
            let angles = || self.frequencies.iter().map(|f| position as f64 * f);
            self.table.extend(angles().map(|a| (libm::cos(a) * self.factor) as f32));
            self.table.extend(angles().map(|a| (libm::sin(a) * self.factor) as f32));
        }
    }

    /// Rotates a head at a position that was reached.
    pub fn rotate(&self, position: usize, head: &mut [f32]) {
        let pairs = self.frequencies.len();
        let (cos, sin) = self.table[2 * pairs * position..][..2 * pairs].split_at(pairs);
        let (first, second) = head[..2 * pairs].split_at_mut(pairs);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_close() {
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        let worst =
            (-873..883).flat_map(|i| (0..97).map(move |j| i as f32 / 10.0 + j as f32 / 971.0));
        let worst = worst.filter(|x| (-87.3..=88.3).contains(x)).map(|x| {
            let exact = f64::from(x).exp();
            (f64::from(exp(x)) - exact).abs() / exact
        });
        let worst = worst.fold(0.0, f64::max);
        assert!(worst < 2.5e-7, "{worst:e}");
    }

    /// Vectorised loops give the bits of those that are compiled for any CPU.
    #[test]
    fn vector_units_change_no_bit() {
        let value = |i: usize| ((i * 7919 % 1009) as f32 / 100.0 - 5.0) * 1.001;
        for len in [1, 5, 16, 17, 64, 333] {
            let x: Vec<f32> = (0..len).map(value).collect();
            let weight: Vec<f32> = (0..len).map(|i| 1.0 + value(i + 3) / 50.0).collect();
            let (mut y, mut plain) = (vec![f32::NAN; len], vec![f32::NAN; len]);
            rms_norm(&x, &weight, 1e-5, &mut y);
            rms_norm_loop(&x, &weight, 1e-5, &mut plain);
            assert_eq!(bits(&y), bits(&plain));
            let (mut y, mut plain) = (x.clone(), x.clone());
            let sum = vectorised(
                #[inline(always)]
                || exp_scores(&mut y),
            );
            assert_eq!(sum.to_bits(), exp_scores(&mut plain).to_bits());
            assert_eq!(bits(&y), bits(&plain));
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn softmax_and_silu_are_what_they_are_called() {
        let scores: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let mut weights = scores.clone();
        let sum = exp_scores(&mut weights);
        let exact: Vec<f64> = scores.iter().map(|s| f64::from(*s).exp()).collect();
        let total: f64 = exact.iter().sum();
        for (weight, exact) in weights.iter().zip(&exact) {
            assert!((f64::from(weight / sum) - exact / total).abs() < 1e-6);
        }
        let mut y = [0.0; 2];
        silu_times_up(&[1.5, -2.0, 3.0, 0.5], &mut y);
        let silu = |g: f64| g / (1.0 + (-g).exp());
        assert!((f64::from(y[0]) - silu(1.5) * 3.0).abs() < 1e-6);
        assert!((f64::from(y[1]) - silu(-2.0) * 0.5).abs() < 1e-6);
    }

    #[test]
    fn rotation_keeps_lengths_and_turns_by_the_angle() {
        let rope = Rope { theta: 100.0, dim: 4, scaling: crate::config::Scaling::None };
        let mut rotary = Rotary::new(&rope, 64);
        rotary.reach(4);
        let mut head = [1.0, 2.0, 3.0, 4.0, 5.0];
        rotary.rotate(3, &mut head);
        let (sin, cos) = 3f64.sin_cos();
        assert!((f64::from(head[0]) - (cos - 3.0 * sin)).abs() < 1e-6);
        assert!((f64::from(head[2]) - (3.0 * cos + sin)).abs() < 1e-6);
        assert_eq!(head[4], 5.0, "beyond the rotated elements");
    }
}
