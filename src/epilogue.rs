//! What happens to a sum on its way into y.

use lutmul_kernels::Columns;
use std::ops::Range;

use crate::activation::Activation;
use crate::element::Element;

/// The end of a product: `y = act(Σ + bias) (+ y)`, rounded once to y's type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added to the sums: one value for each row of W.
    pub bias: Option<&'a [f32]>,
    /// Applied to sum and bias.
    pub activation: Activation,
    /// Whether the result is added to what y holds, or replaces it.
    pub accumulate: bool,
}

/// Floats that are finished at a time: what narrow types are widened to.
const STRIP: usize = 64;

impl Epilogue<'_> {
    /// Finishes the sums of one token for rows `rows` of W and stores them to `cols` of y.
    /// The sums are used up.
    pub(crate) fn store<Y: Element>(
        &self,
        sums: &mut [f32],
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        token: usize,
        first_col: usize,
    ) {
        if let Some(bias) = self.bias {
            for (sum, bias) in sums.iter_mut().zip(&bias[rows]) {
                *sum += bias;
            }
        }
        self.finish(sums, y, (token, first_col), Y::narrow);
    }

    /// The same for the f64 sums of integer modes, which are rounded to f32 with their bias added;
    /// `None` for a token that holds NaN or infinity: its row is NaN, whatever y held.
    pub(crate) fn store_exact<Y: Element>(
        &self,
        sums: Option<&[f64]>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        token: usize,
        first_col: usize,
    ) {
        let Some(sums) = sums else {
            return self.store_rounded(None, rows.len(), y, (token, first_col), Y::narrow);
        };
        let mut rounded = [0.0; STRIP];
        let bias = self.bias.map(|bias| &bias[rows]);
        for (i, sums) in sums.chunks(STRIP).enumerate() {
            let rounded = &mut rounded[..sums.len()];
            match bias {
                Some(bias) => {
                    for ((to, sum), bias) in rounded.iter_mut().zip(sums).zip(&bias[i * STRIP..]) {
                        *to = (sum + f64::from(*bias)) as f32;
                    }
                }
                None => {
                    for (to, sum) in rounded.iter_mut().zip(sums) {
                        *to = *sum as f32;
                    }
                }
            }
            let at = (token, first_col + i * STRIP);
            self.store_rounded(Some(rounded), sums.len(), y, at, Y::narrow);
        }
    }

    /// The same for sums that were rounded to f32 with their bias added. `narrow` writes to y.
    pub(crate) fn store_rounded<Y: Element>(
        &self,
        sums: Option<&mut [f32]>,
        rows: usize,
        y: &mut Columns<'_, Y>,
        (token, first_col): (usize, usize),
        narrow: fn(&[f32], &mut [Y]),
    ) {
        match sums {
            Some(sums) => self.finish(sums, y, (token, first_col), narrow),
            None => {
                let y = y.part(token, first_col..first_col + rows);
                y.fill(Y::from_f32(f32::from_bits(0x7FC0_0000)));
            }
        }
    }

    /// Activation, adding to y, rounding to y's type.
    fn finish<Y: Element>(
        &self,
        sums: &mut [f32],
        y: &mut Columns<'_, Y>,
        (token, first_col): (usize, usize),
        narrow: fn(&[f32], &mut [Y]),
    ) {
        self.activation.apply_slice(sums);
        let y = y.part(token, first_col..first_col + sums.len());
        if self.accumulate {
            let mut wide = [0.0; STRIP];
            for (sums, y) in sums.chunks_mut(STRIP).zip(y.chunks(STRIP)) {
                let wide = &mut wide[..y.len()];
                Y::widen(y, wide);
                for (sum, y) in sums.iter_mut().zip(wide) {
                    *sum += *y;
                }
            }
        }
        narrow(sums, y);
    }
}
