//! What both strategies of integer modes share: which of them is for few tokens, and limbs of quantised activations.

use std::ops::Range;

use lutmul_kernels::int::{Digits, Limbs, MULTIPLIED, Operand};
use lutmul_kernels::{Kernel, LINE};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::options::Threads;
use crate::quantize::{self, TokenScale};
use crate::threads::for_each_chunk;
use crate::weights::Weights;

/// Tokens whose maxima a thread finds at a time.
const TOKENS: usize = 8;

/// The digits of a mode.
pub(super) fn digits(mode: Mode) -> Digits {
    Digits { count: mode.digits(), multiplied: mode == Mode::A8 }
}

/// Whether gemv is for so many tokens.
pub(super) fn few(w: &Weights<'_>, m: usize, kernel: Kernel, mode: Mode) -> bool {
    // gemm has its sums in f64, those of a third plane apart. Beyond that gemv, with its
    // i64, does any number of tokens: 16,578 columns of A24 and two or three bytes are the first that need it.
    let planes = w.lut().image().count;
    let exact = mode.largest_sum(planes.min(2), w.group()) < 1 << 53;
    // Groups that end within lines: to add up lanes is more work than products. (AVX2, `a16`, groups of 32: gemv
    // of two tokens 0.75 to 0.85 of gemm's time, of three 1.3 to 1.7 times as long, of eight 2.6 to 3.3.)
    let parts = w.group() < w.k() && !w.group().is_multiple_of(LINE);
    m <= kernel.gemv_tokens(digits(mode)) / if parts { 4 } else { 1 } || !exact
}

/// Refuses weights that the mode does not take.
pub(super) fn check(w: &Weights<'_>, mode: Mode) -> Result<()> {
    let (k, group, bytes) = (w.k(), w.group(), w.lut().image().count);
    if group < k && !group.is_multiple_of(MULTIPLIED) {
        let why = format!("groups of {group} along k are no multiple of 32, as {mode} asks");
        return Err(Error::invalid("scales", why));
    }
    let limit = mode.max_k(bytes);
    if k > limit {
        let image = if bytes > 2 { " with an image of three bytes" } else { "" };
        let why = format!("{k} columns are beyond the {limit} that {mode} sums exactly{image}");
        return Err(Error::invalid("k", why));
    }
    Ok(())
}

/// The largest magnitude of a row.
#[inline(always)]
fn max_abs<X: Element>(row: &[X]) -> f32 {
    if let Some(row) = X::as_f32(row) {
        return quantize::max_abs(row);
    }
    let mut wide = [0.0; LINE];
    let maxima = row.chunks(LINE).map(|x| {
        let wide = &mut wide[..x.len()];
        X::widen(x, wide);
        quantize::max_abs(wide)
    });
    // Magnitudes and NaN, ordered by their bits.
    f32::from_bits(maxima.map(f32::to_bits).max().unwrap_or(0))
}

/// What makes limbs of activations.
pub(super) struct Quantiser<'a, X> {
    x: MatRef<'a, X>,
    scales: &'a [TokenScale],
    mode: Mode,
    pub limbs: Limbs,
}

/// A line of a token, in limbs: as many as there are, the others are left over from other lines.
pub(super) struct LimbLine {
    pub limbs: [[i32; LINE]; 3],
    /// Of [`Limbs::MULTIPLIED`].
    pub multipliers: [i32; LINE / MULTIPLIED],
}

impl LimbLine {
    pub const ZERO: Self = Self { limbs: [[0; LINE]; 3], multipliers: [0; LINE / MULTIPLIED] };
}

impl<'a, X: Element> Quantiser<'a, X> {
    /// Of x, whose tokens get their scales.
    pub fn new(
        x: MatRef<'a, X>,
        mode: Mode,
        limbs: Limbs,
        tokens: &'a mut Vec<TokenScale>,
        threads: Threads,
    ) -> Self {
        tokens.resize(x.rows(), TokenScale::default());
        for_each_chunk(tokens, TOKENS, threads, |i, tokens| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (j, token) in tokens.iter_mut().enumerate() {
                        *token = TokenScale::new(max_abs(x.row(i * TOKENS + j)), mode);
                    }
                },
            );
        });
        Self { x, scales: tokens, mode, limbs }
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.scales.len()
    }

    /// Some columns of a token, at most a line of them: zero beyond them and beyond x.
    ///
    /// Nothing is copied or cleared that need not be: that was half of the time.
    #[inline(always)]
    pub fn line(&self, token: usize, columns: Range<usize>, to: &mut LimbLine) {
        let Some(scale) = self.scales.get(token) else {
            *to = LimbLine::ZERO;
            return;
        };
        let x = &self.x.row(token)[columns];
        let mut wide;
        let x: &[f32; LINE] = match X::as_f32(x).and_then(|x| x.first_chunk()) {
            Some(x) => x,
            None => {
                wide = [0.0; LINE];
                X::widen(x, &mut wide[..x.len()]);
                &wide
            }
        };
        if self.limbs.multiplied {
            to.multipliers = quantize::line(x, *scale, self.mode, &mut to.limbs[0]);
            return;
        }
        let integers = match self.limbs.weights {
            [_] => &mut to.limbs[0],
            _ => &mut [0; LINE],
        };
        let multipliers = quantize::line(x, *scale, self.mode, integers);
        if self.mode == Mode::A8 {
            quantize::multiply(integers, multipliers);
        }
        if self.limbs.weights.len() > 1 {
            self.limbs.cut(*integers, &mut to.limbs);
        }
    }
}

/// Stores a limb of a line as bytes or words.
#[inline(always)]
pub(super) fn store(limb: &[i32; LINE], to: &mut [u8], operand: Operand) {
    match operand {
        Operand::I16 => {
            for (to, limb) in to.as_chunks_mut::<2>().0.iter_mut().zip(limb) {
                *to = (*limb as i16).to_ne_bytes();
            }
        }
        Operand::U8I8 => {
            for (to, limb) in to.iter_mut().zip(limb) {
                *to = *limb as u8;
            }
        }
    }
}
