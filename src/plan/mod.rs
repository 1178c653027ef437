//! The plan of a product: everything that is decided before it runs.
//!
//! A plan is made of weights, a number of tokens and options, and chooses one of six strategies, each a file of this
//! folder. A strategy owns how x is packed, how much memory that and a thread take, and the loops around the kernels.
//! Nothing else asks which one it is.

mod floats;
mod gemm_bf16;
mod gemm_f32;
mod gemm_int;
mod gemm_tiles;
mod gemv_f32;
mod gemv_int;
mod limbs;
mod scale;

use std::fmt;
use std::ops::Range;

use lutmul_kernels::{Columns, Kernel, LINE};

use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::{Error, Result, area};
use crate::mat::MatRef;
use crate::mode::Mode;
use crate::needs::Needs;
use crate::options::{Options, Threads};
use crate::quantize::TokenScale;
use crate::weights::{GroupIndex, NonFinite, Weights};

use gemm_bf16::GemmBf16;
use gemm_f32::GemmF32;
use gemm_int::GemmInt;
use gemm_tiles::GemmTiles;
use gemv_f32::GemvF32;
use gemv_int::GemvInt;

/// The two loop shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Lanes run along k: for few tokens, bound by memory.
    Gemv,
    /// Lanes run along tokens: for more, bound by arithmetic.
    Gemm,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gemv => "gemv",
            Self::Gemm => "gemm",
        })
    }
}

/// How a product of these weights and so many tokens is computed.
///
/// ```
/// use lutmul::{Format, Granularity, Options, Plan, Shape, Weights};
///
/// let w = Weights::encode(&[0.5f32; 64], (1, 64), &Format::E4m3, Granularity::Row)?;
/// let options = Options::new();
/// assert_eq!(Plan::new(&w, 1, &options)?.shape(), Shape::Gemv);
/// assert_eq!(Plan::new(&w, 512, &options)?.shape(), Shape::Gemm);
/// # Ok::<(), lutmul::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    w: &'a Weights<'a>,
    packing: Packing,
    threads: Threads,
}

/// How x is packed, and for whom: what weights have to have in common to share it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Packing {
    pub m: usize,
    pub k: usize,
    mode: Mode,
    kernel: Kernel,
    strategy: Strategy,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Strategy {
    GemvF32(GemvF32),
    GemmF32(GemmF32),
    GemmBf16(GemmBf16),
    GemvInt(GemvInt),
    GemmInt(GemmInt),
    GemmTiles(GemmTiles),
}

/// What all strategies have. Sizes are in floats, whatever lies there.
trait Loops {
    /// Packed x. An error if that is beyond the address space.
    fn packed_len(&self) -> Result<usize>;
    /// What a thread needs.
    fn scratch_len(&self, w: &Weights<'_>) -> usize;
    /// Rows of W that a thread should do at a time: a multiple of this.
    fn row_step(&self) -> usize;
    /// Packs x, which is not empty. Integer modes leave the scale of each token.
    fn pack<X: Element>(
        &self,
        x: MatRef<'_, X>,
        packed: &mut [f32],
        tokens: &mut Vec<TokenScale>,
        threads: Threads,
    );
    /// Computes some rows of W into y, whose columns they are.
    fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut [f32],
    );
}

/// What a strategy's loops work on.
pub(crate) struct Job<'a> {
    pub w: &'a Weights<'a>,
    /// Packed activations; in integer modes limbs in disguise, and the tokens' scales.
    pub x: &'a [f32],
    pub tokens: &'a [TokenScale],
    pub m: usize,
    pub epilogue: &'a Epilogue<'a>,
}

/// Calls a method of the strategy.
macro_rules! each {
    ($strategy:expr, $loops:ident => $call:expr) => {
        match $strategy {
            Strategy::GemvF32($loops) => $call,
            Strategy::GemmF32($loops) => $call,
            Strategy::GemmBf16($loops) => $call,
            Strategy::GemvInt($loops) => $call,
            Strategy::GemmInt($loops) => $call,
            Strategy::GemmTiles($loops) => $call,
        }
    };
}

impl<'a> Plan<'a> {
    /// The plan of a product of `m` tokens.
    ///
    /// # Errors
    /// Weights that the mode does not take: groups of scales that are no multiple of 32, more columns than it sums
    /// exactly, NaN and infinity to be propagated. And a kernel that can't run: see [`Options::kernel`].
    pub fn new(w: &'a Weights<'_>, m: usize, options: &Options) -> Result<Self> {
        let Options { mode, threads, .. } = *options;
        let (kernel, k) = (options.kernel()?.inner(), w.k());
        let strategy = if !mode.is_integer() {
            let bf16 = (mode == Mode::Bf16).then(|| GemmBf16::new(w, m, kernel)).flatten();
            if let Some(bf16) = bf16 {
                Strategy::GemmBf16(bf16)
            // Groups that end within sixteen codes can be applied to decoded weights only.
            } else if m <= GemvF32::MOST_TOKENS && !matches!(w.groups(), GroupIndex::Odd) {
                Strategy::GemvF32(GemvF32::new(w, m, kernel, mode))
            } else {
                Strategy::GemmF32(GemmF32::new(w, m, kernel, mode))
            }
        } else {
            limbs::check(w, mode)?;
            if let Some(tiles) = GemmTiles::new(w, m, kernel, mode) {
                Strategy::GemmTiles(tiles)
            } else if limbs::few(w, m, kernel, mode) {
                Strategy::GemvInt(GemvInt::new(w, m, kernel, mode))
            } else {
                Strategy::GemmInt(GemmInt::new(w, m, kernel, mode))
            }
        };
        Ok(Self { w, packing: Packing { m, k, mode, kernel, strategy }, threads })
    }

    /// The order of its loops.
    pub fn shape(&self) -> Shape {
        self.packing.shape()
    }

    /// How much memory it needs.
    ///
    /// # Errors
    /// Sizes beyond the address space.
    pub fn needs(&self) -> Result<Needs> {
        let Packing { m, mode, strategy, .. } = self.packing;
        let packed = self.packing.len()?;
        if packed == 0 {
            return Ok(Needs::default());
        }
        let scratch = each!(strategy, loops => loops.scratch_len(self.w));
        Ok(Needs { packed, tokens: if mode.is_integer() { m } else { 0 }, scratch })
    }

    /// Does now what the first product would do: the scan for codes in use that stand for NaN or infinity.
    pub(crate) fn prepare(&self) -> Result<()> {
        let (w, mode) = (self.w, self.packing.mode);
        if mode.is_integer() && w.non_finite() == NonFinite::Propagate && !w.lut().is_finite() {
            let why = "NaN and infinity can be propagated in modes f32 and bf16 only";
            return Err(Error::invalid(w.name(), format!("{why}, not in {mode}")));
        }
        self.threads.install(|| w.prepare())
    }

    /// Who works on it.
    pub(crate) fn threads(&self) -> Threads {
        self.threads
    }

    /// The weights.
    pub(crate) fn weights(&self) -> &'a Weights<'a> {
        self.w
    }

    pub(crate) fn packing(&self) -> &Packing {
        &self.packing
    }

    /// Rows of W that a thread should do at a time: a multiple of this.
    #[cfg_attr(
        not(feature = "rayon"),
        expect(dead_code, reason = "rows are divided among threads")
    )]
    pub(crate) fn row_step(&self) -> usize {
        each!(self.packing.strategy, loops => loops.row_step())
    }

    /// Computes some rows of W into y, whose columns they are, in scratch of as many floats as it [needs](Self::needs).
    pub(crate) fn run<Y: Element>(
        &self,
        job: &Job<'_>,
        rows: Range<usize>,
        y: &mut Columns<'_, Y>,
        scratch: &mut [f32],
    ) {
        if job.m == 0 || rows.is_empty() {
            return;
        }
        if self.packing.k == 0 {
            return store_zeros(job, rows, y);
        }
        each!(self.packing.strategy, loops => loops.run(job, rows, y, scratch));
    }

    /// Floats of a thread's scratch.
    pub(crate) fn scratch_len(&self) -> usize {
        each!(self.packing.strategy, loops => loops.scratch_len(self.w))
    }
}

impl Packing {
    fn shape(&self) -> Shape {
        match self.strategy {
            Strategy::GemvF32(_) | Strategy::GemvInt(_) => Shape::Gemv,
            Strategy::GemmF32(_)
            | Strategy::GemmBf16(_)
            | Strategy::GemmInt(_)
            | Strategy::GemmTiles(_) => Shape::Gemm,
        }
    }

    /// Floats of packed x.
    ///
    /// # Errors
    /// A size that overflows.
    pub fn len(&self) -> Result<usize> {
        if self.m == 0 || self.k == 0 {
            return Ok(0);
        }
        // What fits without padding does not overflow with it.
        packed_area(self.m, self.k)?;
        each!(self.strategy, loops => loops.packed_len())
    }

    /// Packs x, which has the plan's shape.
    pub fn pack<X: Element>(
        &self,
        x: MatRef<'_, X>,
        packed: &mut [f32],
        tokens: &mut Vec<TokenScale>,
        threads: Threads,
    ) {
        tokens.clear();
        if !packed.is_empty() {
            each!(self.strategy, loops => loops.pack(x, packed, tokens, threads));
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { m, k, mode, kernel, .. } = self;
        write!(f, "{m}×{k}, {mode}, kernel {}, {}", kernel.name(), self.shape())
    }
}

fn packed_area(tokens: usize, columns: usize) -> Result<usize> {
    area("packed activations", tokens, columns)
}

/// Tokens with their padding: more than there can be where that overflows, which [`packed_area`] refuses.
fn padded_tokens(m: usize, lanes: usize) -> usize {
    m.checked_next_multiple_of(lanes).unwrap_or(usize::MAX)
}

/// Columns with their padding.
fn padded(k: usize) -> usize {
    k.div_ceil(LINE) * LINE
}

/// Bytes of y from which on it is written past the caches, which would not hold it. (A quarter of the time of a product
/// of 512 tokens and 16,384 rows is waiting for its lines otherwise.)
const STREAMED: usize = 2 << 20;

/// Rows of a gemv call: few enough for their sums to stay in L1, enough to make calls cheap.
const CHUNK: usize = 64;

/// Sums over nothing.
fn store_zeros<Y: Element>(job: &Job<'_>, rows: Range<usize>, y: &mut Columns<'_, Y>) {
    for first in rows.clone().step_by(CHUNK) {
        let chunk = first..rows.end.min(first + CHUNK);
        for token in 0..job.m {
            let mut sums = [0.0; CHUNK];
            let sums = &mut sums[..chunk.len()];
            job.epilogue.store(sums, chunk.clone(), y, token, first - rows.start);
        }
    }
}
