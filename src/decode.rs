//! Decoding: codes back into matrices, whole, by rows, or by a list of rows (embeddings).

use std::ops::Range;

use crate::bands;
use crate::element::Element;
use crate::error::{Error, Result, area};
use crate::weights::{Weights, sign_stride};

impl Weights<'_> {
    /// Decodes the whole matrix into `out`, `n × k` row-major.
    ///
    /// Each weight is `table[code] · scale`, multiplied in f32, with the sign bit flipped where the
    /// sign plane says so, then rounded to the type of `out`; [`Weights::at`] gives the same.
    ///
    /// # Errors
    /// [`Error::Length`] if `out` is not `n·k` long; [`Error::NonFinite`] as [`Weights::prepare`] says.
    pub fn decode<T: Element>(&self, out: &mut [T]) -> Result<()> {
        self.decode_rows(0..self.n(), out)
    }

    /// Decodes a range of rows into `out`, `rows.len() × k` row-major.
    ///
    /// # Errors
    /// As [`Weights::decode`], and [`Error::RowRange`] if there are no such rows.
    pub fn decode_rows<T: Element>(&self, rows: Range<usize>, out: &mut [T]) -> Result<()> {
        if rows.start > rows.end || rows.end > self.n() {
            return Err(Error::RowRange { range: rows, n: self.n() });
        }
        self.decode_each(rows.len(), |i| rows.start + i, out)
    }

    /// Decodes rows in the order of a list, in which they may repeat, into `out`,
    /// `rows.len() × k` row-major.
    ///
    /// # Errors
    /// As [`Weights::decode`], and [`Error::RowRange`] naming the first row that there is not.
    pub fn decode_list<T: Element>(&self, rows: &[usize], out: &mut [T]) -> Result<()> {
        if let Some(row) = rows.iter().find(|row| **row >= self.n()) {
            return Err(Error::RowRange { range: *row..row.saturating_add(1), n: self.n() });
        }
        self.decode_each(rows.len(), |i| rows[i], out)
    }

    fn decode_each<T: Element>(
        &self,
        count: usize,
        row: impl Fn(usize) -> usize + Sync,
        out: &mut [T],
    ) -> Result<()> {
        let k = self.k();
        let expected = area("out", count, k)?;
        if out.len() != expected {
            let (what, unit, got) = ("out", "elements", out.len());
            return Err(Error::Length { what, unit, rows: count, cols: k, expected, got });
        }
        self.prepare()?;
        if expected == 0 {
            return Ok(());
        }
        let band = bands::band_rows(k);
        let tasks = out.chunks_mut(band * k).enumerate().collect();
        bands::map(tasks, |(i, out): (usize, &mut [T])| {
            let mut scratch = vec![0.0; k];
            for (j, out) in out.chunks_mut(k).enumerate() {
                self.decode_row(row(i * band + j), &mut scratch);
                T::narrow(&scratch, out);
            }
        });
        Ok(())
    }

    /// One row in f32; `out` has k elements, k > 0.
    pub(crate) fn decode_row(&self, row: usize, out: &mut [f32]) {
        let k = self.k();
        let codes = &self.codes()[row * k..][..k];
        let block = self.scales().granularity().block((self.n(), k)).1;
        let parts = out.chunks_mut(block).zip(codes.chunks(block));
        for ((out, codes), scale) in parts.zip(self.scales().row(row)) {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = self.lut().entry(*code) * scale;
            }
        }
        let Some(signs) = self.signs() else { return };
        let signs = &signs[row * sign_stride(k)..][..sign_stride(k)];
        let flip = |out: &mut f32, byte: u8, bit: usize| {
            *out = f32::from_bits(out.to_bits() ^ (u32::from(byte) << (31 - bit) & 1 << 31));
        };
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let (eights, rest) = out.as_chunks_mut::<8>();
                for (eight, byte) in eights.iter_mut().zip(signs) {
                    for (bit, out) in eight.iter_mut().enumerate() {
                        flip(out, *byte, bit);
                    }
                }
                for (bit, out) in rest.iter_mut().enumerate() {
                    flip(out, signs[k / 8], bit);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, Granularity, Lut, NonFinite, Scales, bf16, f16};

    fn weights(n: usize, k: usize, granularity: Granularity) -> Weights<'static> {
        let (rows, cols) = granularity.grid((n, k));
        let values = (0..rows * cols).map(|i| 0.3 + i as f32).collect();
        let scales = Scales::new(values, (n, k), granularity).unwrap();
        let codes: Vec<u8> = (0..n * k).map(|i| (i * 37 % 256) as u8).collect();
        let signs: Vec<u8> = (0..n * k.div_ceil(8)).map(|i| (i * 91 % 256) as u8).collect();
        Weights::new(codes, (n, k), Lut::qins_linear(), scales)
            .and_then(|w| w.with_signs(Bytes::Owned(signs)))
            .unwrap()
    }

    #[test]
    fn every_weight_is_that_of_at() {
        let shapes = [(0, 5), (5, 0), (1, 1), (3, 7), (5, 8), (4, 65), (70, 1031)];
        let grains = [
            Granularity::Tensor,
            Granularity::Row,
            Granularity::Group(5),
            Granularity::Block(2, 9),
        ];
        for ((n, k), granularity) in shapes.into_iter().flat_map(|s| grains.map(|g| (s, g))) {
            let w = weights(n, k, granularity);
            let all: Vec<f32> = (0..n * k).map(|i| w.at(i / k, i % k)).collect();
            let (mut f, mut b, mut h) =
                (vec![9.0; n * k], vec![bf16::ONE; n * k], vec![f16::ONE; n * k]);
            w.decode(&mut f).unwrap();
            w.decode(&mut b).unwrap();
            w.decode(&mut h).unwrap();
            for (i, at) in all.iter().enumerate() {
                assert_eq!(f[i].to_bits(), at.to_bits(), "{n}×{k} {granularity} {i}");
                assert_eq!(b[i].to_bits(), bf16::from_f32(*at).to_bits());
                assert_eq!(h[i].to_bits(), f16::from_f32(*at).to_bits());
            }
            if n > 2 {
                let mut some = vec![0f32; 3 * k];
                w.decode_list(&[2, 0, 2], &mut some).unwrap();
                assert_eq!(some, [&all[2 * k..3 * k], &all[..k], &all[2 * k..3 * k]].concat());
                w.decode_rows(1..2, &mut some[..k]).unwrap();
                assert_eq!(some[..k], all[k..2 * k]);
            }
        }
    }

    #[test]
    fn bad_arguments_are_errors() {
        let w = weights(3, 4, Granularity::Row);
        let mut out = [0f32; 12];
        assert!(matches!(w.decode(&mut out[..11]), Err(Error::Length { expected: 12, .. })));
        let beyond = w.decode_rows(2..4, &mut out[..8]);
        assert!(matches!(beyond, Err(Error::RowRange { n: 3, .. })));
        #[expect(clippy::reversed_empty_ranges)]
        let reversed = w.decode_rows(2..1, &mut out[..0]);
        assert!(matches!(reversed, Err(Error::RowRange { .. })));
        let list = w.decode_list(&[0, usize::MAX], &mut out[..8]);
        assert!(matches!(list, Err(Error::RowRange { n: 3, .. })));
    }

    #[test]
    fn used_nan_codes() {
        let scales = Scales::tensor(1.0, (2, 3)).unwrap();
        let w = Weights::new(vec![0, 1, 2, 3, 0x7F, 5], (2, 3), Lut::e4m3(), scales).unwrap();
        let mut out = [0f32; 6];
        let error = w.decode(&mut out).unwrap_err();
        assert!(matches!(error, Error::NonFinite { row: 1, col: 1, .. }), "{error}");
        w.with_non_finite(NonFinite::Propagate).decode(&mut out).unwrap();
        assert!(out[4].is_nan() && out[5].is_finite());
    }
}
