//! Proven bounds on the error of products, known before they are computed.
//!
//! An output without bias and activation is compared with `exact = Σ x·W`, in real numbers. In what
//! follows `u = 2⁻²⁴` for f32 and `v = 2⁻⁵³` for f64 are the largest relative errors of one rounding, and
//! `γ_j(u) = j·u / (1 − j·u)` is that of j of them (Higham, *Accuracy and Stability of Numerical
//! Algorithms*, 2nd edition, lemma 3.1). All sums are over k.
//!
//! # F32
//!
//! A product is rounded with its weight's scale or before it, k products are added in some order, and
//! nothing has more than k + 4 roundings (Higham, section 3.1: the order of a sum is no matter):
//!
//! ```text
//! |y − exact| ≤ γ_{k+4}(u) · Σ|x·W| + underflow
//! ```
//!
//! Each rounding to a subnormal number adds up to 2⁻¹⁵⁰, which may then be multiplied by x, by the scale,
//! and by 256 (some kernels decode to 1/256 of the weights): that is the second term, and nothing beside
//! sums in the range of normal numbers. The bound is infinite where entries times scale, or a sum with
//! or without the scale, might leave the range of f32.
//!
//! # BF16
//!
//! x becomes `x̂` and an entry of the table `t̂`, both rounded to bf16, which costs at most `2⁻⁸` of a normal number (the bound
//! has the actual difference of each); `Ŵ = sign · t̂ · scale`. A product of two of them has 16 bits, so it is exact, and
//! k products are added as in F32. Arm's `bfmmla` rounds to odd, which is off by up to `2u` where rounding to nearest is
//! off by u: so in F32's bound u becomes 2u, for all kernels.
//!
//! `tdpbf16ps`, `vdpbf16ps` and `bfmmla` take subnormal numbers for 0, and make 0 of subnormal results. With `f = 2⁻¹²⁶`, the
//! smallest normal number, a term loses at most `f·|t̂|` with x̂, `f·|x̂|` with t̂, and f by each of three additions (its own;
//! where sums of even and odd columns are joined; where a vector's sum is added to others). All of it is scaled:
//!
//! ```text
//! flush = f · Σ (|x̂| + |t̂| + 3) · |scale|
//! |y − Σ x·Ŵ| ≤ Σ |x − x̂|·|Ŵ| + γ_{k+4}(2u) · Σ|x̂·Ŵ| + (1 + γ_{k+4}(2u)) · (flush + underflow)
//! ```
//!
//! and the table's own error is `Σ|x|·|W − Ŵ|`: 0 for FP8, int8 and QINS linear, whose entries are bf16. Other kernels
//! are those of F32 on `x̂` and `t̂`, within F32's bound.
//!
//! # Integer modes
//!
//! The table is its image `Ŵ = sign · L · sl · scale`, and x is `X·sx`. With a the token's `max|x|` and
//! Q the mode's limit, `sx = a/Q` and `X = round(x·Q/a)` have half a step of rounding to an integer, and
//! three roundings of f64 (1/sx, the product, sx). A group of A8 with multiplier M has M times the step and
//! one rounding more:
//!
//! ```text
//! |x − X·sx| ≤ e = M·(a/Q)/2·(1 + v) + γ_4(v)·|x|         M = 1 but in A8
//! ```
//!
//! The sum S is exact. Each of G groups of scales has four roundings of f64 (S, times sx, `sl · scale`,
//! their product), G − 1 additions follow, and one rounding to f32, which may be subnormal:
//!
//! ```text
//! |t − Σ x·Ŵ| ≤ d = Σ e·|Ŵ| + γ_{G+3}(v) · Σ (|x| + e)·|Ŵ|
//! |y − Σ x·Ŵ| ≤ d + u · (Σ|x·Ŵ| + d) + 2⁻¹⁵⁰
//! ```
//!
//! and the image's own error is `Σ|x|·|W − Ŵ|`, where `|W − Ŵ|` is at most half of `sl·|scale|` and 0 if
//! the image is [exact](lutmul_kernels::QuantisedTable::exact). The bound is infinite where t might be beyond f32.

use std::ops::Range;

use half::bf16;
use lutmul_kernels::QuantisedTable;
use lutmul_kernels::int::MULTIPLIED;

use crate::element::Element;
use crate::error::{Error, Result, area};
use crate::lut::Lut;
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::quantize::{TokenScale, max_abs, multiplier};
use crate::weights::Weights;

/// The largest relative error of rounding to f32.
const U32: f64 = 1.0 / (1u64 << 24) as f64;
/// The same for f64.
const U64: f64 = U32 * U32 / 32.0;
/// Half of the smallest f32: the largest error of rounding to a subnormal one.
const TINY: f64 = f32::from_bits(1) as f64 / 2.0;
/// The most that decoded weights lack in F32 (AVX2 and AVX-512 make E4M3 by way of f16).
const UNIT: f64 = 256.0;
/// The smallest normal f32, and bf16: what products of bf16 take for 0 is below.
const FLUSHED: f64 = f32::MIN_POSITIVE as f64;
/// The largest relative error of rounding to bf16.
const U_BF16: f64 = 1.0 / 256.0;

/// How far an output may be from the product of real numbers; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorBound {
    /// Against the product with the weights as the mode has them: in integer modes those of the table's
    /// [image](crate::Lut::image), in BF16 those of [entries rounded](crate::Lut::bf16). Infinite where a sum might leave the range of f32, and for a token
    /// that holds NaN or infinity.
    pub arithmetic: f64,
    /// What the image, or in BF16 the rounded table, adds to that: 0 in F32, and where these are exact.
    pub image: f64,
}

impl ErrorBound {
    /// The bound against the product with the weights themselves.
    pub fn total(self) -> f64 {
        self.arithmetic + self.image
    }
}

/// Bounds on the errors of rows `rows` of W, `[m, rows.len()]` row-major, as of an f32 y without bias,
/// activation or accumulation. They hold for every kernel, any threads and any ranges.
///
/// This does `3·m·k` operations a row in f64. [`Mode::error_factor`] needs next to none.
///
/// ```
/// use lutmul::{Format, Granularity, MatRef, Mode, Weights, bound::error_bound};
///
/// let w: Vec<f32> = (0..3 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
/// let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.11).cos()).collect();
/// let w = Weights::encode(&w, (3, 64), &Format::QinsLinear, Granularity::Row)?;
///
/// let x = MatRef::new(&x, (1, 64))?;
/// let a24 = error_bound(&w, 0..3, x, Mode::A24)?;
/// let a8 = error_bound(&w, 0..3, x, Mode::A8)?;
/// assert!(a24[0].arithmetic < 1e-5 && a8[0].arithmetic < 0.2);
/// assert_eq!(a8[0].image, 0.0); // QINS linear has an exact image
/// # Ok::<(), lutmul::Error>(())
/// ```
///
/// # Errors
/// x of another number of columns, rows that aren't there, and what [`Weights::prepare`] refuses.
pub fn error_bound<X: Element>(
    w: &Weights<'_>,
    rows: Range<usize>,
    x: MatRef<'_, X>,
    mode: Mode,
) -> Result<Vec<ErrorBound>> {
    let (m, n, k) = (x.rows(), w.n(), w.k());
    if x.cols() != k {
        return Err(Error::Shape { what: "x", expected: (m, k), got: (m, x.cols()) });
    }
    if rows.start > rows.end || rows.end > n {
        return Err(Error::RowRange { range: rows, n });
    }
    w.prepare()?;
    let nothing = ErrorBound { arithmetic: 0.0, image: 0.0 };
    let mut bounds = vec![nothing; area("y", m, rows.len())?];
    let tokens: Vec<_> = (0..m).map(|token| activations(x.row(token), mode)).collect();
    let table = Table::new(w, mode);
    for (i, row) in rows.clone().enumerate() {
        let weights: Vec<_> = (0..k).map(|col| Weight::new(w, &table, row, col)).collect();
        for (token, x) in tokens.iter().enumerate() {
            let mut bound = match mode {
                Mode::F32 => float(x, &weights, (U32, 0.0)),
                Mode::Bf16 => float(x, &weights, (2.0 * U32, FLUSHED)),
                _ => integer(x, &weights, k.div_ceil(w.group().max(1))),
            };
            // The sums here are rounded themselves; none of their terms is negative.
            let rounded = 1.0 + gamma(k + 16, U64);
            for part in [&mut bound.arithmetic, &mut bound.image] {
                *part = if part.is_nan() { f64::INFINITY } else { *part * rounded };
            }
            bounds[token * rows.len() + i] = bound;
        }
    }
    Ok(bounds)
}

impl Mode {
    /// A bound on the error of any output: `factor · max|x| · Σ|W|`, x being the token, W the row of
    /// weights and k its length.
    ///
    /// In BF16 against the [rounded table](crate::Lut::bf16), whose own error is at most `max|x| · Σ|W| / 256`. Against the
    /// table's [image](crate::Lut::image) in integer modes, whose own error is at most
    /// `max|x| · step/2 · Σ|scale|` (W are then the image's weights; where it is
    /// [exact](lutmul_kernels::QuantisedTable::exact), they are the weights). For bias, activation and the ends of
    /// the number range see [`bound`](mod@crate::bound): this leaves what is subnormal aside.
    ///
    /// ```
    /// use lutmul::Mode;
    ///
    /// assert!(Mode::A8.error_factor(4096) < 1.0 / 253.0);
    /// assert!(Mode::A24.error_factor(4096) < 2f64.powi(-22));
    /// assert!(Mode::F32.error_factor(4096) > 2f64.powi(-12)); // rounding k times may be worse
    /// ```
    pub fn error_factor(self, k: usize) -> f64 {
        let step = match self {
            Self::F32 => return gamma(k + 4, U32),
            Self::Bf16 => return U_BF16 + gamma(k + 4, 2.0 * U32) * (1.0 + U_BF16),
            // 255 times the token's step.
            Self::A8 => 1.0 / 127.0,
            other => 1.0 / f64::from(other.limit()),
        };
        let e = half(step) + gamma(4, U64);
        let d = e + gamma(k.div_ceil(MULTIPLIED) + 3, U64) * (1.0 + e);
        (d + U32 * (1.0 + d)) * (1.0 + gamma(8, U64))
    }
}

/// `γ_j(u)`; infinite if it has no meaning.
fn gamma(j: usize, u: f64) -> f64 {
    let steps = j as f64 * u;
    if steps < 1.0 { steps / (1.0 - steps) } else { f64::INFINITY }
}

/// Half a step that is rounded, and may have been rounded down.
fn half(step: f64) -> f64 {
    step / 2.0 * (1.0 + 4.0 * U64)
}

/// Magnitudes of an activation, and of its error in that mode.
struct Activation {
    x: f64,
    error: f64,
}

fn activations<X: Element>(x: &[X], mode: Mode) -> Vec<Activation> {
    let mut wide = vec![0.0; x.len()];
    X::widen(x, &mut wide);
    if !mode.is_integer() {
        let activation = |x: &f32| {
            let x = f64::from(*x);
            let error = if mode == Mode::Bf16 { (to_bf16(x) - x).abs() } else { 0.0 };
            Activation { x: x.abs(), error }
        };
        return wide.iter().map(activation).collect();
    }
    let scale = TokenScale::new(max_abs(&wide), mode);
    let groups = wide.chunks(MULTIPLIED).flat_map(|group| {
        let multiplier = match mode {
            Mode::A8 => multiplier(max_abs(group), scale),
            _ => 1.0,
        };
        group.iter().map(move |x| {
            let x = f64::from(x.abs());
            // A zero is exact. The step of a token that is not finite is NaN.
            let exact = x == 0.0 && !scale.step.is_nan();
            let error = half(multiplier * scale.step) + gamma(4, U64) * x;
            Activation { x, error: if exact { 0.0 } else { error } }
        })
    });
    groups.collect()
}

/// The table as a mode has it.
enum Table<'a> {
    Entries,
    Rounded(&'a Lut),
    Image(&'a QuantisedTable),
}

impl<'a> Table<'a> {
    fn new(w: &'a Weights<'_>, mode: Mode) -> Self {
        match mode {
            Mode::F32 => Self::Entries,
            Mode::Bf16 => Self::Rounded(w.lut().bf16()),
            _ => Self::Image(w.lut().image()),
        }
    }
}

/// Magnitudes of a weight.
struct Weight {
    scale: f64,
    /// What the mode has for the entry.
    image: f64,
    /// How far that is from it.
    error: f64,
}

impl Weight {
    fn new(w: &Weights<'_>, table: &Table<'_>, row: usize, col: usize) -> Self {
        let code = w.codes()[row * w.k() + col];
        let entry = f64::from(w.lut().entry(code).abs());
        let scale = f64::from(w.scales().at(row, col).abs());
        let (image, error) = match table {
            Table::Entries => (entry, 0.0),
            Table::Rounded(table) => {
                let value = f64::from(table.entry(code).abs());
                // Infinity is what it is in both.
                (value, if entry.is_finite() { (entry - value).abs() } else { 0.0 })
            }
            Table::Image(table) => {
                let value = f64::from(table.magnitude(code)) * table.step;
                // Steps that are no power of two round that product.
                let exact = table.exact && entry.is_finite();
                (value, if exact { 0.0 } else { (entry - value).abs() + 4.0 * U64 * entry })
            }
        };
        Self { scale, image, error }
    }
}

/// With additions whose largest relative error is `u`, and in which what is below `flushed` may be taken for 0.
fn float(x: &[Activation], w: &[Weight], (u, flushed): (f64, f64)) -> ErrorBound {
    let (mut unscaled, mut sum, mut largest, mut tiny) = (0.0, 0.0, 0f64, TINY);
    let (mut rounded, mut image) = (0.0, 0.0);
    for (Activation { x: given, error }, w) in x.iter().zip(w) {
        let weight = w.image * w.scale;
        // No less than what the mode has for it.
        let x = given + error;
        unscaled += x * w.image;
        sum += x * weight;
        largest = largest.max(weight);
        tiny += TINY * (UNIT * (w.scale + 1.0) + x + 1.0);
        tiny += flushed * (x + w.image + 3.0) * w.scale;
        rounded += error * weight;
        image += given * w.error * w.scale;
    }
    let gamma = gamma(x.len() + 4, u);
    let tiny = tiny * (1.0 + gamma);
    let most = unscaled.max(sum).max(largest) * (1.0 + gamma) + tiny;
    let arithmetic = if fits(most) { rounded + gamma * sum + tiny } else { f64::INFINITY };
    ErrorBound { arithmetic, image }
}

/// The nearest bf16 of a number that is an f32.
fn to_bf16(x: f64) -> f64 {
    bf16::from_f32(x as f32).to_f64()
}

fn integer(x: &[Activation], w: &[Weight], groups: usize) -> ErrorBound {
    let (mut sum, mut steps, mut image) = (0.0, 0.0, 0.0);
    for (Activation { x, error }, w) in x.iter().zip(w) {
        sum += x * w.image * w.scale;
        steps += error * w.image * w.scale;
        image += x * w.error * w.scale;
    }
    let d = steps + gamma(groups + 3, U64) * (sum + steps);
    let arithmetic = if fits(sum + d) { d + U32 * (sum + d) + TINY } else { f64::INFINITY };
    ErrorBound { arithmetic, image }
}

/// Whether a number that is known but for what f64 rounds is within the range of f32.
fn fits(most: f64) -> bool {
    most * (1.0 + U32) < f64::from(f32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants() {
        assert_eq!(U32, f64::from(f32::EPSILON) / 2.0);
        assert_eq!(U64, f64::EPSILON / 2.0);
        assert_eq!(TINY, 2f64.powi(-150));
        assert_eq!(FLUSHED, 2f64.powi(-126));
        assert_eq!(U_BF16, 2f64.powi(-8));
        assert_eq!(to_bf16(1.0 + U_BF16), 1.0);
        assert_eq!(to_bf16(1.0 + 1.5 * U_BF16), 1.0 + 2.0 * U_BF16);
        assert_eq!(gamma(0, U32), 0.0);
        assert_eq!(gamma(1 << 24, U32), f64::INFINITY);
    }
}
