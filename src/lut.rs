//! The 256-entry table of a layer, and the tables of the formats.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use lutmul_kernels::{ClosedForm, PLANES, Planes, QuantisedTable, Table};

/// A table of 256 `f32`, the values that codes stand for (before sign and scale).
///
/// Cheap to clone: clones share one prepared table. Entries may be NaN or infinite, as those of FP8
/// are; at least one must be finite. What a *used* entry of that kind means is said at
/// [`NonFinite`](crate::NonFinite).
#[derive(Clone, Debug)]
pub struct Lut(Arc<Prepared>);

/// A table as kernels want it, and its image, made by the first product of an integer mode.
#[derive(Debug)]
struct Prepared {
    table: Table,
    /// Whether all entries are finite: every product asks, and 256 of them take a tenth of a small one.
    finite: bool,
    /// The most bytes of the image.
    image_bytes: usize,
    image: OnceLock<QuantisedTable>,
    /// What mode BF16 has for it, where that is another table.
    bf16: OnceLock<Lut>,
}

impl Lut {
    /// A table of the caller's own.
    ///
    /// ```
    /// use lutmul::Lut;
    ///
    /// // Powers of two, and a zero.
    /// let lut = Lut::new(&std::array::from_fn(|c| if c == 0 { 0.0 } else { (c as f32 / 32.0).exp2() }))?;
    /// assert_eq!(lut.entry(64), 4.0);
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TableNotFinite`] if no entry is finite.
    pub fn new(values: &[f32; 256]) -> Result<Self> {
        let table = Table::new(values).ok_or(Error::TableNotFinite)?;
        Ok(Self::prepared(table, 2))
    }

    fn prepared(table: Table, image_bytes: usize) -> Self {
        let finite = table.values.iter().all(|v| v.is_finite());
        Self(Arc::new(Prepared {
            table,
            finite,
            image_bytes,
            image: OnceLock::new(),
            bf16: OnceLock::new(),
        }))
    }

    /// Builds a table from a formula that is known to be finite for code 255.
    fn of(entry: impl Fn(u8) -> f32) -> Self {
        let mut values = [0.0; 256];
        for (value, code) in values.iter_mut().zip(0..=u8::MAX) {
            *value = entry(code);
        }
        Self::new(&values).expect("the formats' own tables have finite entries")
    }

    /// QINS linear: `c − 1` for codes 1…255, and 0 for code 0. The step is in the scale (`max/254`).
    pub fn qins_linear() -> Self {
        Self::of(|c| ClosedForm::Magnitude.entry(c))
    }

    /// QINS log, inverted: `exp(log_min + (255−c)/254·(log_max−log_min))` for codes 1…255, in f64 and
    /// rounded once. Code 0, which no encoder writes and which marks a dropped weight, is 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `log_min ≤ log_max`, both finite, and `exp(log_max)` fits an f32.
    pub fn qins_log(log_min: f64, log_max: f64) -> Result<Self> {
        let fits = log_min <= log_max && (libm::exp(log_max) as f32).is_finite();
        if !(log_min.is_finite() && log_max.is_finite() && fits) {
            return Err(Error::invalid("qins-log", format!("no table spans {log_min}..{log_max}")));
        }
        Ok(Self::of(|c| {
            let t = (255.0 - f64::from(c)) / 254.0;
            if c == 0 { 0.0 } else { libm::exp(log_min + t * (log_max - log_min)) as f32 }
        }))
    }

    /// QINS inverse: `scale/c`, and 0 for code 0; the source document's scale is 256.
    ///
    /// Kept so that its failure can be shown: nothing below `scale/255` can be written.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the scale is not finite.
    pub fn qins_inverse(scale: f32) -> Result<Self> {
        if !scale.is_finite() {
            return Err(Error::invalid("qins-inverse", format!("scale {scale} is not finite")));
        }
        Ok(Self::of(|c| if c == 0 { 0.0 } else { (f64::from(scale) / f64::from(c)) as f32 }))
    }

    /// QINS rational, whose codes have the sign inside: `sign(z)·(1−|z|)/(alpha·|z|)` with `z = c/127.5 − 1`, which is
    /// never 0, in f64 and rounded once.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless alpha is positive, and the largest entry, `254/alpha`, fits an f32.
    pub fn qins_rational(alpha: f64) -> Result<Self> {
        if !(alpha > 0.0 && alpha.is_finite() && ((254.0 / alpha) as f32).is_finite()) {
            return Err(Error::invalid(
                "qins-rational",
                format!("there is no table of alpha {alpha}"),
            ));
        }
        Ok(Self::of(|c| {
            // 255·z is an odd integer.
            let z = 2.0 * f64::from(c) - 255.0;
            (z.signum() * (255.0 - z.abs()) / (alpha * z.abs())) as f32
        }))
    }

    /// FP8 E4M3 (FN): no infinities, codes 0x7F and 0xFF are NaN (as in PyTorch's `float8_e4m3fn`).
    pub fn e4m3() -> Self {
        let nan = |c: u8| f32::NAN.copysign(f32::from(c as i8));
        Self::of(|c| if c & 0x7F == 0x7F { nan(c) } else { ClosedForm::E4m3.entry(c) })
    }

    /// FP8 E5M2: with infinities and NaN (as PyTorch's `float8_e5m2`).
    pub fn e5m2() -> Self {
        Self::of(|c| ClosedForm::E5m2.entry(c))
    }

    /// AMD's FP8 E4M3 (FNUZ): half of OCP's values, up to 240; no negative zero, and code 0x80 is the one NaN (as
    /// PyTorch's `float8_e4m3fnuz`).
    pub fn e4m3_fnuz() -> Self {
        Self::of(|c| if c == 0x80 { f32::NAN } else { fnuz(c, 3) })
    }

    /// AMD's FP8 E5M2 (FNUZ): half of OCP's values, continued up to 57,344; no negative zero, and code 0x80 is the one
    /// NaN (as PyTorch's `float8_e5m2fnuz`).
    pub fn e5m2_fnuz() -> Self {
        Self::of(|c| if c == 0x80 { f32::NAN } else { fnuz(c, 2) })
    }

    /// int8 in two's complement: the code's byte read as `i8`.
    pub fn int8() -> Self {
        Self::of(|c| f32::from(c as i8))
    }

    /// int8 with a zero point: `c − zero_point` (128 for the usual biased form).
    pub fn int8_biased(zero_point: u8) -> Self {
        Self::of(|c| f32::from(i16::from(c) - i16::from(zero_point)))
    }

    /// The entries.
    pub fn values(&self) -> &[f32; 256] {
        &self.0.table.values
    }

    /// The entry of a code.
    pub fn entry(&self, code: u8) -> f32 {
        self.0.table.values[usize::from(code)]
    }

    /// The largest finite magnitude in the table.
    pub fn max_abs(&self) -> f32 {
        self.values().iter().filter(|v| v.is_finite()).fold(0.0, |max, v| max.max(v.abs()))
    }

    /// Whether every entry is finite, so that no scan for used NaN codes is needed.
    pub fn is_finite(&self) -> bool {
        self.0.finite
    }

    /// If the entries are `c − 1` times one step, each within one ulp of the largest entry (as in
    /// tables made by `(c−1)/254·max` in f32): the exact table, and the step to put into the scale.
    ///
    /// Rounding the step to f32 moves entries by up to another such ulp. So products differ by at most
    /// `2·ulp · Σ|x · scale|` from those of the given table, beside the [bound](mod@crate::bound) of their mode.
    pub fn split_affine(values: &[f32; 256]) -> Option<(Self, f32)> {
        let max = values[255];
        let ulp = f64::from(max.next_up()) - f64::from(max);
        let step = f64::from(max) / 254.0;
        let near = |(c, v): (usize, &f32)| {
            (f64::from(*v) - step * c.saturating_sub(1) as f64).abs() <= ulp
        };
        let affine = max.is_finite() && max > 0.0 && values.iter().enumerate().all(near);
        affine.then(|| (Self::qins_linear(), step as f32))
    }

    /// The prepared table, for kernels.
    pub(crate) fn table(&self) -> &Table {
        &self.0.table
    }

    /// The fixed-point image that integer modes multiply by: the first that fits all finite entries of
    /// one byte, or two, exact up to a power of two; else two, rounded. With
    /// [`Lut::with_wide_image`] three bytes come next.
    pub fn image(&self) -> &QuantisedTable {
        self.0.image.get_or_init(|| QuantisedTable::new(&self.0.table, self.0.image_bytes))
    }

    /// The table of mode [`Bf16`](crate::Mode::Bf16): entries rounded to bf16, half to even. A finite one stays finite: what
    /// would become infinite is bf16's largest number, 3.39e38.
    ///
    /// FP8, int8 and QINS linear are exact in bf16: it is the table itself then.
    ///
    /// ```
    /// use lutmul::Lut;
    ///
    /// let e4m3 = Lut::e4m3();
    /// assert_eq!(e4m3.bf16(), &e4m3);
    /// let thirds = Lut::new(&std::array::from_fn(|c| c as f32 / 3.0))?;
    /// assert_eq!(thirds.bf16().entry(1), 0.333984375);
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    pub fn bf16(&self) -> &Self {
        if self.0.table.needed == Planes::Two {
            return self;
        }
        self.0.bf16.get_or_init(|| {
            let round = |v: f32| {
                let nearest = half::bf16::from_f32(v);
                let most = half::bf16::MAX.to_f32().copysign(v);
                if v.is_finite() && !nearest.is_finite() { most } else { nearest.to_f32() }
            };
            Self::new(&self.values().map(round)).expect("what is finite stays finite")
        })
    }

    /// The same table with an [image](Lut::image) of three bytes where two are not exact.
    ///
    /// E4M3 is exact then, in 18 bits; what is not (E5M2, QINS log and inverse, k-means) has a step some 256
    /// times finer, at most `max/2²³`, as f32 has at the largest entry. Tables with an exact image of one byte or
    /// two keep it. Products of integer modes give other bits, and take longer (`docs/modes.md` says how much);
    /// [`Mode::A24`](crate::Mode::A24) takes up to 65,536 columns then. Files don't keep the choice.
    ///
    /// ```
    /// use lutmul::Lut;
    ///
    /// let (lut, wide) = (Lut::e4m3(), Lut::e4m3().with_wide_image());
    /// assert_eq!((lut.image().count, lut.image().exact), (2, false));
    /// assert_eq!((wide.image().count, wide.image().exact), (3, true));
    /// ```
    pub fn with_wide_image(self) -> Self {
        if self.has_wide_image() { self } else { Self::prepared(self.0.table.clone(), PLANES) }
    }

    /// Whether the image may have three bytes.
    pub fn has_wide_image(&self) -> bool {
        self.0.image_bytes == PLANES
    }
}

/// The value of a code of AMD's 8-bit floats with so many bits of mantissa: `(1 + m/2^bits) · 2^(e − bias)`, or
/// `m/2^bits · 2^(1 − bias)` where e is 0, with a bias of half the number of exponents.
fn fnuz(code: u8, bits: u32) -> f32 {
    let (e, m) = (i32::from(code & 0x7F) >> bits, u32::from(code) & ((1 << bits) - 1));
    let bias = 1 << (6 - bits);
    let mantissa = f64::from(m) / f64::from(1 << bits) + if e == 0 { 0.0 } else { 1.0 };
    let magnitude = libm::ldexp(mantissa, e.max(1) - bias) as f32;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

impl PartialEq for Lut {
    /// Equal bit for bit, and of the same choice of image.
    fn eq(&self, other: &Self) -> bool {
        self.0.image_bytes == other.0.image_bytes
            && self.values().map(f32::to_bits) == other.values().map(f32::to_bits)
    }
}
