//! Products: options → plan → packed x → portions of rows → kernels → epilogue.

use std::ops::Range;

use crate::activations::Activations;
use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::{Error, Result};
use crate::mat::{MatMut, MatRef};
use crate::options::{Options, Threads};
use crate::plan::{Job, Plan};
use crate::threads;
use crate::weights::Weights;
use crate::workspace::{Pool, Scratch, Workspace};

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
    mut y: MatMut<'_, Y>,
    epilogue: &Epilogue<'_>,
    options: &Options,
    workspace: &mut Workspace,
) -> Result<()> {
    check(w, x.rows(), &y, 0..w.n(), epilogue)?;
    let plan = Plan::new(w, x.rows(), options)?;
    plan.prepare(options.threads)?;
    let Workspace { activations, scratch } = workspace;
    activations.pack_for(&plan, x, options.threads)?;
    let job = job(&plan, activations, epilogue);
    threads::run(&plan, &job, y.columns(), options.threads, scratch);
    Ok(())
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
    scratch: &Pool,
) -> Result<()> {
    check(w, x.m(), &y, 0..w.n(), epilogue)?;
    let plan = x.plan(w, options)?;
    plan.prepare(options.threads)?;
    let job = job(&plan, x, epilogue);
    threads::run(&plan, &job, y.columns(), options.threads, scratch);
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
    let plan = x.plan(w, options)?;
    plan.prepare(Threads::One)?;
    plan.run(&job(&plan, x, epilogue), rows, y.columns(), scratch.take(plan.scratch_len()));
    Ok(())
}

fn job<'a>(plan: &Plan<'a>, x: &'a Activations, epilogue: &'a Epilogue<'_>) -> Job<'a> {
    Job { w: plan.weights(), x: x.values(), tokens: x.tokens(), m: x.m(), epilogue }
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
