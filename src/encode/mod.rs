//! Encoding: matrices of floats into codes, signs and scales of any format.
//!
//! Every part of the matrix that has a scale is normalised by its `max|w|`: `scale = max/top`, where
//! top is the table's largest magnitude (1 for the k-means formats, whose tables are fitted to `w/max`).
//! What happens at the edges of the number range is said at [`scale_of`].
//! Loops over weights are plain Rust inside `pulp`'s dispatch, so that LLVM vectorises them for the
//! CPU at hand; results are the same on every CPU, for there is no FMA and no reassociation.

mod affine;
mod kmeans;
mod nearest;
mod scan;

use std::ops::{Range, RangeInclusive};

use crate::bands;
use crate::buffer::Buffer;
use crate::element::Element;
use crate::error::{Error, Result, area};
use crate::format::Format;
use crate::lut::Lut;
use crate::scales::{Granularity, Scales};
use crate::weights::{Weights, sign_stride};
use affine::{magnitude_codes, pack_signs, signed_codes};
use nearest::Nearest;
use scan::Span;

/// Rows of floats to encode.
trait Rows: Sync {
    /// A row in f32; `scratch` is used where that is another type.
    fn row<'b>(&'b self, row: usize, scratch: &'b mut Vec<f32>) -> &'b [f32];
}

/// A matrix in memory, of so many columns.
struct InMemory<'a, T>(&'a [T], usize);

impl<T: Element> Rows for InMemory<'_, T> {
    #[inline(always)]
    fn row<'b>(&'b self, row: usize, scratch: &'b mut Vec<f32>) -> &'b [f32] {
        let row = &self.0[row * self.1..][..self.1];
        T::as_f32(row).unwrap_or_else(|| {
            scratch.resize(self.1, 0.0);
            T::widen(row, scratch);
            scratch
        })
    }
}

/// Codes: the weights that they stand for, a row at a time.
impl Rows for Weights<'_> {
    fn row<'b>(&'b self, row: usize, scratch: &'b mut Vec<f32>) -> &'b [f32] {
        scratch.resize(self.k(), 0.0);
        self.decode_row(row, scratch);
        scratch
    }
}

/// A matrix to encode, and how scales divide it.
struct Source<'a, W> {
    w: &'a W,
    /// Rows; none if there are no columns.
    n: usize,
    k: usize,
    /// Rows and columns that share a scale.
    block: (usize, usize),
    /// Columns of the grid of scales.
    grid_cols: usize,
}

/// How normalised weights become codes.
enum Coder {
    /// `round_half_even(|w|/max·254 + 1)`.
    Magnitude,
    /// `round_half_even(w/max·127)`.
    Signed,
    /// The code of the nearest entry to w, or to |w| beside a sign plane.
    Nearest { search: Box<Nearest>, magnitudes: bool },
}

/// The scale of a block, and what weights are multiplied by to get the table's units.
#[derive(Clone, Copy, Default)]
struct Unit {
    scale: f32,
    inverse: f64,
}

/// The scale that maps the table's largest magnitude `top` to the block's largest, `max`.
///
/// It is `max/top` rounded to f32, except that
/// - it is 0 if either of them is;
/// - a subnormal scale is rounded up, and weights are then normalised by it instead of by max: it has
///   few bits, and no weight may saturate for want of them;
/// - a scale beyond f32 is the largest f32 (a table of tiny entries: weights saturate);
/// - it is the next smaller f32 if `top · scale` would overflow (max next to the end of f32).
fn scale_of(max: f32, top: f32) -> f32 {
    if max == 0.0 || top == 0.0 {
        return 0.0;
    }
    let scale = (max / top).min(f32::MAX);
    if scale < f32::MIN_POSITIVE && f64::from(scale) * f64::from(top) < f64::from(max) {
        return scale.next_up();
    }
    if (scale * top).is_finite() { scale } else { scale.next_down() }
}

impl Unit {
    fn new(max: f32, top: f32) -> Self {
        let scale = scale_of(max, top);
        let inverse = if scale < f32::MIN_POSITIVE {
            if scale == 0.0 { 0.0 } else { 1.0 / f64::from(scale) }
        } else {
            f64::from(top) / f64::from(max)
        };
        Self { scale, inverse }
    }
}

impl Weights<'static> {
    /// Encodes a matrix of f32, f16 or bf16, `n × k` row-major, into a format.
    ///
    /// ```
    /// use lutmul::{Format, Granularity, Weights};
    ///
    /// let w = [1.0f32, -0.5, 0.25, 0.0];
    /// let encoded = Weights::encode(&w, (1, 4), &Format::QinsLinear, Granularity::Row)?;
    /// assert_eq!(encoded.codes(), [255, 128, 64, 1]);
    /// assert_eq!(encoded.signs(), Some(&[0b0010][..]));
    ///
    /// let mut decoded = [0f32; 4];
    /// encoded.decode(&mut decoded)?;
    /// let report = encoded.error_report(&w)?;
    /// assert!(report.max_abs <= 1.0 / 508.0 + 1e-6);
    ///
    /// let error = Weights::encode(&[0.0, f32::NAN], (1, 2), &Format::Int8, Granularity::Row);
    /// assert_eq!(error.unwrap_err().to_string(), "weights: NaN at row 0, column 1");
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// - `qins-linear`: `code = round_half_even(|w|/max·254 + 1)`, exactly, as of real numbers;
    ///   `int8`: `round_half_even(w/max·127)`, never −128.
    /// - `qins-log`: the table spans the smallest nonzero `|w|/max` of the tensor to 1, and
    ///   `qins-inverse` has the scale 1 always; both take the nearest entry, code 0 left aside, so
    ///   that a zero becomes code 255.
    /// - `kmeans`, `kmeans-signed`: the table is fitted to `w/max` (see [`Lut::kmeans`]).
    /// - Every other table: the nearest finite entry to `w/scale` (rounded to f64). On a tie the even
    ///   code, or the lower one if both or neither are even; of equal entries the lowest code;
    ///   beyond the table its end. Of 0 and −0, if the table has both, the one of w's sign.
    ///
    /// So `e4m3` and `e5m2` are the cast of IEEE, of PyTorch and of ml_dtypes, code for code, but beyond the
    /// largest value: they saturate, to ±448 and ±57,344, where those have NaN or infinity.
    ///
    /// A sign bit is set exactly where `w < 0`. A block of zeros has scale 0 and code 1 in the QINS
    /// formats (`qins-inverse` aside), elsewhere the code nearest to 0.
    ///
    /// Threads share the work where the feature `rayon` is on, and never change a bit of it.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the first NaN or infinity in row-major order; [`Error::Length`],
    /// [`Error::Overflow`]; [`Error::Invalid`] for a group or block size of 0; [`Error::Memory`].
    pub fn encode<T: Element>(
        w: &[T],
        (n, k): (usize, usize),
        format: &Format,
        granularity: Granularity,
    ) -> Result<Self> {
        let expected = area("weights", n, k)?;
        if w.len() != expected {
            let (what, unit, got) = ("weights", "elements", w.len());
            return Err(Error::Length { what, unit, rows: n, cols: k, expected, got });
        }
        encode(&InMemory(w, k), (n, k), format, granularity)
    }
}

impl Weights<'_> {
    /// Encodes the weights that these codes stand for into another format, without writing them out as floats.
    ///
    /// ```
    /// use lutmul::{Format, Granularity, Weights};
    ///
    /// let fp8 = Weights::encode(&[1.0f32, -0.5, 0.25, 0.0], (1, 4), &Format::E4m3, Granularity::Row)?;
    /// let qins = fp8.recode(&Format::QinsLinear, Granularity::Row)?;
    /// assert_eq!(qins.codes(), [255, 128, 64, 1]);
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`Weights::encode`]; codes that stand for NaN or infinity, also where they are to be
    /// [propagated](crate::NonFinite::Propagate).
    pub fn recode(&self, format: &Format, granularity: Granularity) -> Result<Weights<'static>> {
        self.prepare()?;
        encode(self, (self.n(), self.k()), format, granularity)
    }
}

/// Encodes rows: see [`Weights::encode`].
fn encode<W: Rows>(
    w: &W,
    (n, k): (usize, usize),
    format: &Format,
    granularity: Granularity,
) -> Result<Weights<'static>> {
    let expected = area("weights", n, k)?;
    let block = granularity.block((n, k));
    if block.0 == 0 || block.1 == 0 {
        return Err(Error::invalid("scales", format!("{granularity} has a size of 0")));
    }
    let (grid_rows, grid_cols) = granularity.grid((n, k));
    // Rows without weights are no work, however many there are.
    let source = Source { w, n: if k == 0 { 0 } else { n }, k, block, grid_cols };
    let grid = area("scales", grid_rows, grid_cols)?;
    let mut units = filled("scales", grid, Unit::default())?;
    let mut codes = zeroed("codes", expected)?;
    let signs = format.has_signs().then(|| zeroed("signs", area("signs", n, sign_stride(k))?));
    let mut signs = signs.transpose()?;

    let lut = match fixed_table(format) {
        // Blocks of one row and a table known beforehand: scan and encode while in cache.
        Some((lut, coder, top)) if block.0 == 1 => {
            let tasks = source.tasks(&mut codes, signs.as_deref_mut(), Some(&mut units));
            let finite = bands::map(tasks, |mut task| {
                let spans = source.scan(task.rows.clone(), false);
                for (unit, span) in task.units.iter_mut().zip(&spans) {
                    *unit = unit_of(format, span, top);
                }
                let finite = spans.iter().all(Span::is_finite);
                if finite {
                    let units = std::mem::take(&mut task.units);
                    source.encode_band(&coder, units, task.rows.start, task);
                }
                finite
            });
            if finite.contains(&false) {
                return Err(source.non_finite());
            }
            lut
        }
        fixed => {
            let spans = source.spans(grid_rows)?;
            let (lut, coder, top) = match fixed {
                Some(fixed) => fixed,
                None => source.fit(format, &spans)?,
            };
            for (unit, span) in units.iter_mut().zip(&spans) {
                *unit = unit_of(format, span, top);
            }
            let tasks = source.tasks(&mut codes, signs.as_deref_mut(), None);
            bands::map(tasks, |task| source.encode_band(&coder, &units, 0, task));
            lut
        }
    };
    let mut scales = filled("scales", grid, 0.0)?;
    scales.iter_mut().zip(&units).for_each(|(scale, unit)| *scale = unit.scale);
    let scales = Scales::new(scales, (n, k), granularity)?;
    let weights = Weights::new(codes, (n, k), lut, scales)?;
    match signs {
        Some(signs) => weights.with_signs(signs),
        None => Ok(weights),
    }
}

/// A vector of `len` times the same.
fn filled<T: Clone>(what: &'static str, len: usize, value: T) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    values.try_reserve_exact(len).map_err(|_| Error::Memory { what, bytes })?;
    values.resize(len, value);
    Ok(values)
}

fn zeroed(what: &'static str, bytes: usize) -> Result<Buffer> {
    Buffer::try_zeroed(bytes).ok_or(Error::Memory { what, bytes })
}

fn unit_of(format: &Format, span: &Span, top: f32) -> Unit {
    match format {
        Format::QinsInverse => Unit { scale: 1.0, inverse: 1.0 },
        _ => Unit::new(span.max(), top),
    }
}

/// Table, coder and top magnitude of a format whose table doesn't depend on the weights.
fn fixed_table(format: &Format) -> Option<(Lut, Coder, f32)> {
    let lut = format.lut()?;
    let top = lut.max_abs();
    let (coder, top) = match format {
        Format::QinsLinear => (Coder::Magnitude, top),
        Format::Int8 => (Coder::Signed, 127.0),
        Format::QinsInverse => (nearest(&lut, 1..=255, true), top),
        _ => (nearest(&lut, 0..=255, format.has_signs()), top),
    };
    Some((lut, coder, top))
}

fn nearest(lut: &Lut, codes: RangeInclusive<u8>, magnitudes: bool) -> Coder {
    Coder::Nearest { search: Box::new(Nearest::new(lut.values(), codes)), magnitudes }
}

/// A band of rows, and where its results go.
struct Task<'a> {
    rows: Range<usize>,
    codes: &'a mut [u8],
    signs: Option<&'a mut [u8]>,
    /// The scales of these rows, where each row has its own.
    units: &'a mut [Unit],
}

impl<W: Rows> Source<'_, W> {
    /// The bands of the matrix, with the parts of the outputs that belong to them.
    fn tasks<'a>(
        &self,
        codes: &'a mut [u8],
        signs: Option<&'a mut [u8]>,
        units: Option<&'a mut [Unit]>,
    ) -> Vec<Task<'a>> {
        let rows = bands::band_rows(self.k);
        let mut signs = signs.map(|signs| signs.chunks_mut(rows * sign_stride(self.k).max(1)));
        let mut units = units.map(|units| units.chunks_mut(rows * self.grid_cols.max(1)));
        let starts = (0..self.n).step_by(rows);
        let bands = starts.zip(codes.chunks_mut(rows * self.k.max(1)));
        bands
            .map(|(start, codes)| Task {
                rows: start..(start + rows).min(self.n),
                codes,
                signs: signs.as_mut().and_then(Iterator::next),
                units: units.as_mut().and_then(Iterator::next).unwrap_or_default(),
            })
            .collect()
    }

    #[inline(always)]
    fn row<'b>(&'b self, row: usize, scratch: &'b mut Vec<f32>) -> &'b [f32] {
        self.w.row(row, scratch)
    }

    /// Encodes a band. `units` is the grid of scales from the row `first` of weights on.
    fn encode_band(&self, coder: &Coder, units: &[Unit], first: usize, task: Task) {
        let mut scratch = Vec::new();
        let Task { rows, codes, mut signs, .. } = task;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (i, row) in rows.enumerate() {
                    let w = self.row(row, &mut scratch);
                    let codes = &mut codes[i * self.k..][..self.k];
                    let grid_row = (row - first) / self.block.0;
                    let units = &units[grid_row * self.grid_cols..][..self.grid_cols];
                    let (w_parts, parts) = (w.chunks(self.block.1), codes.chunks_mut(self.block.1));
                    for ((w, codes), unit) in w_parts.zip(parts).zip(units) {
                        match coder {
                            Coder::Magnitude => magnitude_codes(w, unit.inverse, codes),
                            Coder::Signed => signed_codes(w, unit.inverse, codes),
                            Coder::Nearest { search, magnitudes } => {
                                let scale = f64::from(unit.scale);
                                if *magnitudes {
                                    search.codes(w, scale, f32::abs, codes);
                                } else {
                                    search.codes(w, scale, |w| w, codes);
                                }
                            }
                        }
                    }
                    if let Some(signs) = &mut signs {
                        let stride = sign_stride(self.k);
                        pack_signs(w, &mut signs[i * stride..][..stride]);
                    }
                }
            },
        );
    }

    /// Table, coder and top magnitude of a format whose table is fitted to the weights.
    fn fit(&self, format: &Format, spans: &[Span]) -> Result<(Lut, Coder, f32)> {
        let magnitudes = format.has_signs();
        if let Format::QinsLog = format {
            let smallest = spans.iter().filter_map(Span::ratio).fold(1.0, f64::min);
            let lut = Lut::qins_log(libm::log(smallest), 0.0)?;
            let coder = nearest(&lut, 1..=255, magnitudes);
            return Ok((lut, coder, 1.0));
        }
        let histogram = self.histogram(spans);
        let lut = kmeans::table(&histogram, magnitudes, 1.0)?;
        let coder = nearest(&lut, 0..=255, magnitudes);
        Ok((lut, coder, 1.0))
    }

    /// How often each value of `w/max` occurs.
    fn histogram(&self, spans: &[Span]) -> kmeans::Histogram {
        /// A histogram is a megabyte: more of them than that would cost more than they gain.
        const PARTS: usize = 16;
        let inverse: Vec<f64> = spans.iter().map(|s| Unit::new(s.max(), 1.0).inverse).collect();
        let rows = self.n.div_ceil(PARTS).max(bands::band_rows(self.k));
        let bands: Vec<usize> = (0..self.n).step_by(rows).collect();
        let parts = bands::map(bands, |start| {
            let (mut histogram, mut scratch) = (kmeans::Histogram::new(), Vec::new());
            for row in start..(start + rows).min(self.n) {
                let grid = &inverse[row / self.block.0 * self.grid_cols..];
                let w = self.row(row, &mut scratch);
                for (w, inverse) in w.chunks(self.block.1).zip(grid) {
                    histogram.add(w, *inverse);
                }
            }
            histogram
        });
        // Integers: the order of the sum is no matter.
        parts.into_iter().reduce(kmeans::Histogram::merge).unwrap_or_else(kmeans::Histogram::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_at_the_ends_of_the_number_range() {
        assert_eq!(scale_of(0.0, 254.0), 0.0);
        assert_eq!(scale_of(1.0, 0.0), 0.0);
        assert_eq!(scale_of(508.0, 254.0), 2.0);
        for top in [127.0, 254.0, 448.0, 57344.0, 1.0, 1e-30, 3e38, f32::MAX] {
            for max in [f32::from_bits(1), 1e-44, 1e-40, 1e-38, 1.0, 1e38, f32::MAX] {
                let scale = scale_of(max, top);
                assert!(scale > 0.0 && scale.is_finite(), "{max:e} / {top}: {scale:e}");
                let reached = scale * top;
                assert!(reached.is_finite(), "{max:e} / {top}: {scale:e}");
                if scale < f32::MIN_POSITIVE {
                    assert!(f64::from(scale) * f64::from(top) >= f64::from(max));
                } else if scale < f32::MAX {
                    assert!((f64::from(reached) / f64::from(max) - 1.0).abs() < 2e-7);
                }
            }
        }
    }
}
