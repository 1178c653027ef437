//! Activations as integers: the first half of the numeric contract of integer modes.
//!
//! All of it is f64 arithmetic in a fixed order, without FMA or approximate reciprocals, so that the
//! integers are the same on every CPU.
//!
//! A8 gives each 32 activations a scale of their own: the token's, times an integer in 1…255. So the
//! whole sum stays one exact integer, where a free f32 scale a group would fix an order of additions that
//! the two loop shapes cannot share. Relative RMS error at k = 3072, Gaussian / 0.5 % outliers 50 times
//! larger: 5.46e-3 / 1.25e-2; free scales 5.35e-3 / 1.23e-2; multipliers to 127 5.45e-3 / 1.25e-2, to 1023
//! 5.39e-3 / 1.23e-2; powers of two 7.96e-3 / 1.57e-2. To 255 a digit times its multiplier still fits two
//! base-255 digits, so A8 can run wherever A16 does.

use lutmul_kernels::LINE;
use lutmul_kernels::int::{MULTIPLIED, round_half_even};

use crate::mode::Mode;

/// How a token's activations become integers: `X = round(x · inv)`, `x ≈ X · step`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct TokenScale {
    /// Xmax / max|x|; 0 for a token of zeros.
    pub inv: f64,
    /// max|x| / Xmax; NaN for a token that holds NaN or infinity.
    pub step: f64,
}

impl TokenScale {
    /// The scale of a token whose largest magnitude is `max` (NaN or infinite if any element is).
    pub fn new(max: f32, mode: Mode) -> Self {
        let limit = f64::from(mode.limit());
        let max = f64::from(max);
        if !max.is_finite() {
            Self { inv: 0.0, step: f64::NAN }
        } else if max == 0.0 {
            Self { inv: 0.0, step: 0.0 }
        } else {
            Self { inv: limit / max, step: max / limit }
        }
    }
}

/// The largest magnitude of some floats; NaN or infinity if any of them is.
#[inline(always)]
pub(crate) fn max_abs(x: &[f32]) -> f32 {
    // As integers: the bits of magnitudes are ordered as they are, infinity and NaN above all.
    let bits = x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7FFF_FFFF));
    f32::from_bits(bits)
}

/// Quantises a line, whose first element is that of a group of 32: to integers, and gives what each group of
/// them is to be multiplied by. Only A8 has multipliers other than 1.
#[inline(always)]
pub(crate) fn line(
    x: &[f32; LINE],
    scale: TokenScale,
    mode: Mode,
    out: &mut [i32; LINE],
) -> Multipliers {
    let mut multipliers = [1; LINE / MULTIPLIED];
    if scale.inv == 0.0 {
        *out = [0; LINE];
        return multipliers;
    }
    if mode != Mode::A8 {
        for (out, x) in out.iter_mut().zip(x) {
            *out = round_half_even(f64::from(*x) * scale.inv);
        }
        return multipliers;
    }
    let groups = x.as_chunks::<MULTIPLIED>().0.iter().zip(out.as_chunks_mut::<MULTIPLIED>().0);
    for ((group, out), to) in groups.zip(&mut multipliers) {
        let multiplier = multiplier(max_abs(group), scale);
        *to = multiplier as i32;
        for (out, x) in out.iter_mut().zip(group) {
            *out = round_half_even(f64::from(*x) * scale.inv / multiplier);
        }
    }
    multipliers
}

/// Multipliers of a line.
pub(crate) type Multipliers = [i32; LINE / MULTIPLIED];

/// Multiplies the multipliers into the integers of a line.
#[inline(always)]
pub(crate) fn multiply(line: &mut [i32; LINE], by: Multipliers) {
    for (line, by) in line.as_chunks_mut::<MULTIPLIED>().0.iter_mut().zip(by) {
        for x in line {
            *x *= by;
        }
    }
}

/// A8's integer multiplier of a group: the smallest in 1…255 that lets its digits reach `max`.
#[inline(always)]
pub(crate) fn multiplier(max: f32, scale: TokenScale) -> f64 {
    (f64::from(max) * scale.inv / 127.0).ceil().clamp(1.0, 255.0)
}
