//! gemv in F32, and in BF16 on rounded x: chunks of rows, all tokens at once.

use std::ops::Range;

use lutmul_kernels::float::{GemvX, Order};
use lutmul_kernels::{Columns, Kernel, LINE};

use super::floats::widen;
use super::{CHUNK, Job, Loops, packed_area, padded};
use crate::element::Element;
use crate::error::Result;
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::options::Threads;
use crate::quantize::TokenScale;
use crate::weights::Weights;

/// x is `[lines][tokens][64]`, lines in the kernel's order, zero beyond k and m.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GemvF32 {
    kernel: Kernel,
    mode: Mode,
    order: &'static Order,
    k: usize,
    /// With their padding.
    tokens: usize,
}

impl GemvF32 {
    /// The most tokens. At eight it does 5 G weights a second where a tile of 16
    /// lanes, half of them empty, does 3 (AVX-512); beyond, its sums no longer fit the registers.
    pub const MOST_TOKENS: usize = 8;

    pub fn new(w: &Weights<'_>, m: usize, kernel: Kernel, mode: Mode) -> Self {
        let none = w.float(0..0, mode);
        let (order, tokens) = (kernel.order(&none), kernel.gemv_f32_tokens(&none, m));
        Self { kernel, mode, order, k: w.k(), tokens }
    }
}

impl Loops for GemvF32 {
    fn packed_len(&self) -> Result<usize> {
        packed_area(self.tokens, padded(self.k))
    }

    fn scratch_len(&self, _: &Weights<'_>) -> usize {
        CHUNK * Self::MOST_TOKENS
    }

    fn row_step(&self) -> usize {
        CHUNK
    }

    fn pack<X: Element>(
        &self,
        x: MatRef<'_, X>,
        packed: &mut [f32],
        _: &mut Vec<TokenScale>,
        _: Threads,
    ) {
        let (packed, _) = packed.as_chunks_mut::<LINE>();
        for token in 0..self.tokens {
            let row = if token < x.rows() { x.row(token) } else { &[] };
            for (line, to) in packed.iter_mut().skip(token).step_by(self.tokens).enumerate() {
                let from = row.get(line * LINE..).unwrap_or_default();
                let mut wide = [0.0; LINE];
                let len = from.len().min(LINE);
                widen(&from[..len], &mut wide[..len], self.mode);
                for (to, from) in to.iter_mut().zip(self.order) {
                    *to = wide[usize::from(*from)];
                }
            }
        }
    }

    fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        sums: &mut [f32],
    ) {
        let x = GemvX { x: job.x, tokens: self.tokens };
        for first in rows.clone().step_by(CHUNK) {
            let chunk = first..rows.end.min(first + CHUNK);
            self.kernel.gemv_f32(&job.w.float(chunk.clone(), self.mode), &x, sums, CHUNK);
            for (token, sums) in sums.chunks_exact_mut(CHUNK).enumerate().take(job.m) {
                let sums = &mut sums[..chunk.len()];
                job.epilogue.store(sums, chunk.clone(), y, token, first - rows.start);
            }
        }
    }
}
