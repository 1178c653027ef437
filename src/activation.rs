//! Activation functions: the definition in f64, and a fixed sequence of IEEE operations for f32.
//!
//! The f32 functions compute in f64 with additions, multiplications, divisions and bit patterns
//! only (no FMA, no libm, no `exp` of the platform's) and round once. So they give the same bits on
//! every CPU; LLVM vectorises them; and there is nothing to say about tails: the relative error before
//! the one rounding is below 1.2e-10, a five-hundredth of an ulp of f32. All in f32 they would need
//! split arguments to hold GELU's tail (an ulp of x²/2 = 80 is a relative error of 8e-6 in its `exp`).

use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E};
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What is applied to `x · Wᵀ + bias`.
///
/// NaN gives NaN. At −∞, where the formulas of SiLU and GELU say ∞/∞ or ∞·0, the limit is meant: −0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`; +0 for −0.
    Relu,
    /// `x / (1 + e^−x)`.
    Silu,
    /// `x · Φ(x) = x/2 · (1 + erf(x/√2))`.
    GeluErf,
    /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
    GeluTanh,
}

/// √(2/π), rounded to f64.
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

impl Activation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Relu, Self::Silu, Self::GeluErf, Self::GeluTanh];

    /// The name that options, JSON and documents use.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Relu => "relu",
            Self::Silu => "silu",
            Self::GeluErf => "gelu-erf",
            Self::GeluTanh => "gelu-tanh",
        }
    }

    /// The definition, in f64 and with the `libm` crate: for references and tests.
    ///
    /// The formulas are those of the variants without their cancellation: `1 + erf(z) = erfc(−z)`
    /// and `(1 + tanh(u))/2 = 1/(1 + e^−2u)`.
    pub fn exact(self, x: f64) -> f64 {
        if x == f64::NEG_INFINITY && self != Self::None {
            return if self == Self::Relu { 0.0 } else { -0.0 };
        }
        match self {
            Self::None => x,
            Self::Relu if x <= 0.0 => 0.0,
            Self::Relu => x,
            Self::Silu => x / (1.0 + libm::exp(-x)),
            Self::GeluErf => 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2),
            Self::GeluTanh => {
                let u = SQRT_2_OVER_PI * (x + 0.044715 * x * x * x);
                x / (1.0 + libm::exp(-2.0 * u))
            }
        }
    }

    /// The function in f32, the same bits on every CPU, and what [`apply_slice`](Self::apply_slice)
    /// does to each element.
    ///
    /// Within 0.502 ulp of [`exact`](Self::exact), subnormal results included. NaN gives the NaN
    /// 0x7FC00000, except for `None`, which changes nothing.
    #[inline]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => relu(x),
            Self::Silu => silu(x),
            Self::GeluErf => gelu_erf(x),
            Self::GeluTanh => gelu_tanh(x),
        }
    }

    /// Applies the function to every element, vectorised for the CPU at hand.
    pub fn apply_slice(self, x: &mut [f32]) {
        #[inline(always)]
        fn all(x: &mut [f32], f: impl Fn(f32) -> f32) {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x = f(*x)),
            );
        }
        match self {
            Self::None => {}
            Self::Relu => all(x, relu),
            Self::Silu => all(x, silu),
            Self::GeluErf => all(x, gelu_erf),
            Self::GeluTanh => all(x, gelu_tanh),
        }
    }
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    canonical(x, if x <= 0.0 { 0.0 } else { x })
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    let y = bounded(x);
    canonical(x, (y / (1.0 + exp(-y))) as f32)
}

#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    /// `(1 + 2z)·e^{z²}·erfc(z)` as a polynomial in `t = (z−3)/(z+3)` (the form of Shepherd and
    /// Laframboise, 1981), by our own interpolation at 13 Chebyshev nodes of z in [0, 12].
    /// Relative error 1.07e-10, which the tests hold.
    const ERFCX: [f64; 13] = [
        1.2530080582563308,
        -0.13562110769262636,
        -0.04756229377791488,
        0.1296452333207342,
        -0.11927362067495154,
        0.06830703173968199,
        -0.02377161819216419,
        0.002534616031041206,
        0.001897129137920948,
        -0.0007897947313314209,
        -0.00013084443455478308,
        0.00012282616863286866,
        3.199449358848596e-05,
    ];
    let y = bounded(x);
    let z = y.abs() * FRAC_1_SQRT_2;
    // From z = 12 on, x·Φ(−|x|) is 0 in f32.
    let z = if z < 12.0 { z } else { 12.0 };
    let t = (z - 3.0) / (z + 3.0);
    let p = ERFCX.iter().rev().fold(0.0, |p, c| p * t + c);
    let tail = 0.5 * p / (1.0 + 2.0 * z) * exp(-z * z);
    canonical(x, (y * if y < 0.0 { tail } else { 1.0 - tail }) as f32)
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let y = bounded(x);
    let u = SQRT_2_OVER_PI * (y + 0.044715 * y * y * y);
    canonical(x, (y / (1.0 + exp(-2.0 * u))) as f32)
}

/// x in f64, at least −200: below that the functions are −0 in f32, and −∞ would make NaN.
#[inline(always)]
fn bounded(x: f32) -> f64 {
    f64::from(if x < -200.0 { -200.0 } else { x })
}

/// y, or for a NaN in x one and the same NaN on every CPU (payloads propagate differently).
#[inline(always)]
fn canonical(x: f32, y: f32) -> f32 {
    if x.is_nan() { f32::from_bits(0x7FC0_0000) } else { y }
}

/// `e^x` with a relative error below 1e-11 for −708 ≤ x ≤ 709; arguments beyond are clamped.
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// Adding it rounds to an integer, half to even, and leaves that integer in the low bits.
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    /// ln 2 in two parts, the first with 21 zero bits, so that its product with |n| ≤ 1024 is exact.
    const LN2_HI: f64 = f64::from_bits(0x3FE6_2E42_FEE0_0000);
    const LN2_LO: f64 = f64::from_bits(0x3DEA_39EF_3579_3C76);
    /// 1/i!, i = 0…9: the remainder is r¹⁰/10! ≤ 7e-12 for |r| ≤ ln2/2.
    const TAYLOR: [f64; 10] = [
        1.0,
        1.0,
        1.0 / 2.0,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5040.0,
        1.0 / 40320.0,
        1.0 / 362880.0,
    ];
    let x = if x < -708.0 { -708.0 } else { x };
    let x = if x > 709.0 { 709.0 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    let p = TAYLOR.iter().rev().fold(0.0, |p, c| p * r + c);
    // 2ⁿ: the integer in the low bits, moved into the exponent.
    p * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = Error;

    /// Reads `none`, `relu`, `silu`, `gelu-erf` and `gelu-tanh`.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| Error::Unknown {
            what: "activation",
            got: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance of y from the exact result in units of f32's spacing there.
    fn ulps(y: f32, exact: f64) -> f64 {
        let near = exact.abs() as f32;
        let spacing = (f64::from(near.next_up()) - f64::from(near)).min(
            f64::from(near.max(f32::MIN_POSITIVE))
                - f64::from(near.max(f32::MIN_POSITIVE).next_down()),
        );
        (f64::from(y) - exact).abs() / spacing.max(f64::from(f32::from_bits(1)))
    }

    #[test]
    fn within_its_bound_of_the_definition() {
        for activation in [Activation::Silu, Activation::GeluErf, Activation::GeluTanh] {
            let mut worst = (0.0, 0.0);
            // Other CPUs are emulated here, and have the same operations: a few will do.
            let few = if cfg!(target_arch = "x86_64") { 1 } else { 16 };
            let grid = (-2_000_000..=2_000_000).step_by(few).map(|i| i as f32 * 1e-4);
            // Every 997th bit pattern covers subnormals, tails and huge values.
            let all =
                (0..=u32::MAX).step_by(997 * few).map(f32::from_bits).filter(|x| x.is_finite());
            for x in grid.chain(all) {
                let (y, exact) = (activation.apply(x), activation.exact(f64::from(x)));
                let error = ulps(y, exact);
                assert!(error.is_finite(), "{activation}({x:e}) = {y:e}, not {exact:e}");
                if error > worst.0 {
                    worst = (error, x);
                }
            }
            println!("{activation}: {:.4} ulp at {:e}", worst.0, worst.1);
            assert!(worst.0 <= 0.502, "{activation}: {} ulp at {:e}", worst.0, worst.1);
        }
    }

    #[test]
    fn the_definition_is_the_textbook_formula() {
        for x in (-3000..3000).map(|i| f64::from(i) * 1e-3) {
            let erf = 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()));
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let tanh = 0.5 * x * (1.0 + libm::tanh(u));
            assert!((Activation::GeluErf.exact(x) - erf).abs() < 1e-14);
            assert!((Activation::GeluTanh.exact(x) - tanh).abs() < 1e-14);
        }
    }

    #[test]
    fn special_values() {
        let bits = |a: Activation, x: f32| a.apply(x).to_bits();
        for a in [Activation::Silu, Activation::GeluErf, Activation::GeluTanh] {
            assert_eq!(bits(a, f32::NEG_INFINITY), (-0.0f32).to_bits(), "{a}");
            assert_eq!(bits(a, -0.0), (-0.0f32).to_bits(), "{a}");
            assert_eq!(bits(a, 0.0), 0, "{a}");
            assert_eq!(a.apply(f32::INFINITY), f32::INFINITY, "{a}");
            assert_eq!(a.apply(f32::MAX), f32::MAX, "{a}");
            assert_eq!(a.apply(100.0), 100.0, "{a}");
        }
        assert_eq!(bits(Activation::Relu, -0.0), 0);
        assert_eq!(bits(Activation::Relu, f32::NEG_INFINITY), 0);
        assert_eq!(Activation::Relu.apply(f32::INFINITY), f32::INFINITY);
        for a in &Activation::ALL[1..] {
            assert_eq!(bits(*a, f32::from_bits(0xFFC1_2345)), 0x7FC0_0000, "{a}");
        }
        assert_eq!(bits(Activation::None, f32::from_bits(0xFFC1_2345)), 0xFFC1_2345);
    }

    #[test]
    fn a_slice_gets_the_same_bits() {
        for a in Activation::ALL {
            let x: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) * 0.037).collect();
            let mut y = x.clone();
            a.apply_slice(&mut y);
            let same = x.iter().zip(&y).all(|(x, y)| a.apply(*x).to_bits() == y.to_bits());
            assert!(same, "{a}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for a in Activation::ALL {
            assert_eq!(a.to_string().parse::<Activation>().unwrap(), a);
        }
        let error = "swish".parse::<Activation>().unwrap_err().to_string();
        assert!(error.contains("swish") && error.contains("gelu-tanh"), "{error}");
    }
}
