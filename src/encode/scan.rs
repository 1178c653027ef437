//! The first pass: the largest and the smallest nonzero magnitude of every block, and what isn't finite.

use super::{Rows, Source, filled};
use crate::bands;
use crate::error::{Error, Result};

/// Bit patterns of magnitudes: for floats without sign they are ordered as the values are, so that
/// one integer maximum finds the largest magnitude, NaN and infinity.
#[derive(Clone, Copy)]
pub(super) struct Span {
    max: u32,
    /// The smallest nonzero magnitude minus 1; `u32::MAX`, to which a zero wraps, if there is none.
    min: u32,
}

impl Span {
    const EMPTY: Self = Self { max: 0, min: u32::MAX };

    fn merge(self, other: Self) -> Self {
        Self { max: self.max.max(other.max), min: self.min.min(other.min) }
    }

    #[inline(always)]
    fn of(w: &[f32], smallest: bool) -> Self {
        let magnitudes = w.iter().map(|w| w.to_bits() & 0x7FFF_FFFF);
        let max = magnitudes.clone().fold(0, u32::max);
        let min = |all: u32, m: u32| all.min(m.wrapping_sub(1));
        Self { max, min: if smallest { magnitudes.fold(u32::MAX, min) } else { u32::MAX } }
    }

    pub(super) fn is_finite(&self) -> bool {
        self.max < f32::INFINITY.to_bits()
    }

    /// The largest magnitude.
    pub(super) fn max(&self) -> f32 {
        f32::from_bits(self.max)
    }

    /// The smallest nonzero magnitude as a share of the largest.
    pub(super) fn ratio(&self) -> Option<f64> {
        let smallest = f32::from_bits(self.min.checked_add(1)?);
        Some(f64::from(smallest) / f64::from(self.max()))
    }
}

impl<W: Rows> Source<'_, W> {
    /// The spans of a band: for the rows of the grid of scales that it touches, row-major. Smallest
    /// magnitudes are looked for only if asked.
    pub(super) fn scan(&self, rows: std::ops::Range<usize>, smallest: bool) -> Vec<Span> {
        let first = rows.start / self.block.0;
        let grid_rows = (rows.end - 1) / self.block.0 + 1 - first;
        let mut spans = vec![Span::EMPTY; grid_rows * self.grid_cols];
        let mut scratch = Vec::new();
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for row in rows {
                    let w = self.row(row, &mut scratch);
                    let grid_row = row / self.block.0 - first;
                    let spans = &mut spans[grid_row * self.grid_cols..][..self.grid_cols];
                    for (span, w) in spans.iter_mut().zip(w.chunks(self.block.1)) {
                        *span = span.merge(Span::of(w, smallest));
                    }
                }
            },
        );
        spans
    }

    /// The spans of all blocks.
    pub(super) fn spans(&self, grid_rows: usize) -> Result<Vec<Span>> {
        let rows = bands::band_rows(self.k);
        let starts: Vec<usize> = (0..self.n).step_by(rows).collect();
        let parts =
            bands::map(starts.clone(), |start| self.scan(start..(start + rows).min(self.n), true));
        let mut spans = filled("scales", grid_rows * self.grid_cols, Span::EMPTY)?;
        for (start, part) in starts.into_iter().zip(parts) {
            let first = start / self.block.0 * self.grid_cols;
            for (span, part) in spans[first..].iter_mut().zip(part) {
                *span = span.merge(part);
            }
        }
        if spans.iter().all(Span::is_finite) { Ok(spans) } else { Err(self.non_finite()) }
    }

    /// The error that names the first weight that is not finite; there is one.
    pub(super) fn non_finite(&self) -> Error {
        let mut scratch = Vec::new();
        let found = (0..self.n).find_map(|row| {
            let w = self.row(row, &mut scratch);
            let col = w.iter().position(|w| !w.is_finite())?;
            Some((row, col, w[col]))
        });
        let (row, col, value) = found.unwrap_or((0, 0, f32::NAN));
        Error::NonFinite { what: "weights".into(), row, col, value }
    }
}
