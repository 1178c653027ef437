//! The driver: cuts a product into the portions that kernels take, and hands them to threads.

mod int_panel;
mod int_row;
mod needs;
mod panel;
mod row;
mod scale;
mod threads;
mod workspace;

use std::fmt;
use std::ops::Range;

use crate::activations::{Activations, Layout};
use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::{Error, Result};
use crate::mat::{MatMut, MatRef};
use crate::options::{Mode, Options, Threads};
use crate::quantize::TokenScale;
use crate::weights::{GroupIndex, NonFinite, Weights};

pub use needs::Needs;
pub(crate) use threads::for_each_chunk;
pub use workspace::{Scratch, Workspace};

/// The two loop shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Lanes run along k; up to [`Shape::ROW_TOKENS`] tokens, bound by memory.
    Row,
    /// Lanes run along tokens; bound by arithmetic.
    Panel,
}

impl Shape {
    /// The most tokens of the row shape. At eight it does 5 G weights a second where a tile of 16
    /// lanes, half of them empty, does 3 (AVX-512); beyond, its sums no longer fit the registers.
    pub const ROW_TOKENS: usize = 8;

    /// The shape of a product of `m` tokens with these weights. It depends on nothing else.
    pub fn of(w: &Weights<'_>, m: usize) -> Self {
        // Groups that end within sixteen codes can be applied to decoded weights only.
        match w.groups() {
            GroupIndex::Odd => Self::Panel,
            _ if m <= Self::ROW_TOKENS => Self::Row,
            _ => Self::Panel,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Row => "row",
            Self::Panel => "panel",
        })
    }
}

/// `y = act(x·Wᵀ + bias) (+ y)`: x is `[m, k]`, W `[n, k]`, y `[m, n]`.
///
/// m, n and k may be 0; a sum over an empty k is 0. The first call with a workspace allocates it (see
/// [`Workspace`]); later calls of the same size don't allocate.
///
/// ```
/// use lutmul::{Activation, Epilogue, Lut, MatMut, MatRef, Options, Scales, Weights, Workspace};
///
/// // int8 weights of two rows; what the file holds is what is multiplied.
/// let codes: &[u8] = &[1, 2, 0xFF, 0xFE];
/// let w = Weights::new((2, 2), Lut::int8(), codes, None, Scales::tensor(2, 2, 1.0)?)?;
/// let x = [10f32, 1.0];
/// let mut y = [0f32; 2];
/// let epilogue =
///     Epilogue { bias: Some(&[0.5, 0.5]), activation: Activation::Relu, accumulate: false };
/// let (x, to) = (MatRef::new(&x, 1, 2)?, MatMut::new(&mut y, 1, 2)?);
/// lutmul::matmul(&w, x, to, &epilogue, &Options::new()?, &mut Workspace::new())?;
/// assert_eq!(y, [12.5, 0.0]);
/// # Ok::<(), lutmul::Error>(())
/// ```
///
/// # Errors
/// Shapes that don't fit, a bias of another length than n, and codes in use that stand for NaN or
/// infinity (see [`NonFinite`](crate::NonFinite)). y is untouched then.
pub fn matmul<X: Element, Y: Element>(
    w: &Weights<'_>,
    x: MatRef<'_, X>,
    y: MatMut<'_, Y>,
    epilogue: &Epilogue<'_>,
    options: &Options,
    workspace: &mut Workspace,
) -> Result<()> {
    check(w, x.rows(), &y, 0..w.n(), epilogue)?;
    prepare(w, options.mode, options.threads)?;
    workspace.activations.pack(w, x, options)?;
    matmul_packed(w, &workspace.activations, y, epilogue, options, &workspace.scratch)
}

/// [`matmul`] with activations that were packed before, for one of several matrices that take the
/// same x. `scratch` is that of a [`Workspace`], or [`Workspace::scratch`] of one that packed nothing.
///
/// # Errors
/// As [`matmul`], and activations packed for something else.
pub fn matmul_packed<Y: Element>(
    w: &Weights<'_>,
    x: &Activations,
    mut y: MatMut<'_, Y>,
    epilogue: &Epilogue<'_>,
    options: &Options,
    scratch: &workspace::Pool,
) -> Result<()> {
    check(w, x.m(), &y, 0..w.n(), epilogue)?;
    prepare(w, options.mode, options.threads)?;
    let layout = x.layout_for(w, options)?;
    let job = Job { w, x: x.values(), tokens: x.tokens(), layout, epilogue };
    threads::run(&job, y.columns(), options.threads, scratch);
    Ok(())
}

/// Rows `rows` of W only: `y` is `[m, rows.len()]`, a block of columns of the whole result
/// ([`MatMut::split_columns`] makes such blocks).
///
/// For runtimes with threads of their own: each calls this with a range, a block and a [`Scratch`]
/// of its own, and all share `x`. It works on the calling thread only. Whatever the ranges, the
/// result has the same bits as that of [`matmul`].
///
/// ```
/// use lutmul::{Activations, Epilogue, Format, Granularity, MatMut, MatRef, Options, Scratch};
/// use lutmul::{Weights, matmul_rows};
///
/// let (m, n, k) = (2, 100, 64);
/// let w: Vec<f32> = (0..n * k).map(|i| (i as f32).sin()).collect();
/// let w = Weights::encode(&w, (n, k), &Format::QinsLinear, Granularity::Row)?;
/// let (x, mut y) = (vec![1f32; m * k], vec![0f32; m * n]);
/// let options = Options::new()?;
/// let mut packed = Activations::new();
/// packed.pack(&w, MatRef::new(&x, m, k)?, &options)?;
///
/// // Two threads of our own, each with half of the rows.
/// let (left, right) = MatMut::new(&mut y, m, n)?.split_columns(n / 2);
/// let part = |rows, y| {
///     matmul_rows(&w, rows, &packed, y, &Epilogue::default(), &options, &mut Scratch::new())
/// };
/// std::thread::scope(|scope| {
///     let other = scope.spawn(|| part(n / 2..n, right));
///     part(0..n / 2, left)?;
///     other.join().expect("no panic")
/// })?;
/// # Ok::<(), lutmul::Error>(())
/// ```
///
/// # Errors
/// As [`matmul_packed`], and rows that aren't there.
pub fn matmul_rows<Y: Element>(
    w: &Weights<'_>,
    rows: Range<usize>,
    x: &Activations,
    mut y: MatMut<'_, Y>,
    epilogue: &Epilogue<'_>,
    options: &Options,
    scratch: &mut Scratch,
) -> Result<()> {
    check(w, x.m(), &y, rows.clone(), epilogue)?;
    prepare(w, options.mode, Threads::One)?;
    let layout = x.layout_for(w, options)?;
    let job = Job { w, x: x.values(), tokens: x.tokens(), layout, epilogue };
    job.run(rows, y.columns(), scratch);
    Ok(())
}

/// Refuses codes in use that stand for NaN or infinity, as far as the weights' policy and the mode do.
fn prepare(w: &Weights<'_>, mode: Mode, threads: Threads) -> Result<()> {
    if mode != Mode::F32 && w.non_finite() == NonFinite::Propagate && !w.lut().is_finite() {
        let why = "NaN and infinity can be propagated in mode f32 only";
        return Err(Error::invalid(w.name(), format!("{why}, not in {mode}")));
    }
    threads.install(|| w.prepare())
}

fn check<Y: Element>(
    w: &Weights<'_>,
    m: usize,
    y: &MatMut<'_, Y>,
    rows: Range<usize>,
    epilogue: &Epilogue<'_>,
) -> Result<()> {
    if rows.start > rows.end || rows.end > w.n() {
        return Err(Error::RowRange { range: rows, n: w.n() });
    }
    let (expected, got) = ((m, rows.len()), (y.rows(), y.cols()));
    if expected != got {
        return Err(Error::Shape { what: "y", expected, got });
    }
    if let Some(bias) = epilogue.bias
        && bias.len() != w.n()
    {
        let (rows, cols, expected, got) = (1, w.n(), w.n(), bias.len());
        return Err(Error::Length { what: "bias", unit: "elements", rows, cols, expected, got });
    }
    Ok(())
}

/// A product, ready to be computed by ranges of rows.
struct Job<'a> {
    w: &'a Weights<'a>,
    /// Packed activations; in integer modes limbs in disguise, and the tokens' scales.
    x: &'a [f32],
    tokens: &'a [TokenScale],
    layout: Layout,
    epilogue: &'a Epilogue<'a>,
}

impl Job<'_> {
    /// Computes rows `rows` of W into y, whose columns they are.
    fn run<Y: Element>(
        &self,
        rows: Range<usize>,
        y: &mut lutmul_kernels::Columns<'_, Y>,
        scratch: &mut Scratch,
    ) {
        if self.layout.m == 0 || rows.is_empty() {
            return;
        }
        if self.layout.k == 0 {
            return self.store_zeros(rows, y);
        }
        match (self.layout.shape, self.layout.mode.is_integer()) {
            (Shape::Row, false) => self.row(rows, y, scratch),
            (Shape::Panel, false) => self.panel(rows, y, scratch),
            (Shape::Row, true) => self.int_row(rows, y, scratch),
            (Shape::Panel, true) => self.int_panel(rows, y, scratch),
        }
    }

    /// Sums over nothing.
    fn store_zeros<Y: Element>(&self, rows: Range<usize>, y: &mut lutmul_kernels::Columns<'_, Y>) {
        for first in rows.clone().step_by(row::CHUNK) {
            let chunk = first..rows.end.min(first + row::CHUNK);
            for token in 0..self.layout.m {
                let mut sums = [0.0; row::CHUNK];
                let sums = &mut sums[..chunk.len()];
                self.epilogue.store(sums, chunk.clone(), y, token, first - rows.start);
            }
        }
    }
}
