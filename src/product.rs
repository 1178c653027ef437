//! Products: options → plan → packed x → portions of rows → kernels → epilogue.

use std::ops::Range;

use crate::activation::Activation;
use crate::activations::Activations;
use crate::context::{Context, Pool};
use crate::element::Element;
use crate::epilogue::Epilogue;
use crate::error::{Error, Result};
use crate::mat::{IntoMatMut, IntoMatRef, MatMut, MatRef};
use crate::plan::{Job, Plan};
use crate::threads;
use crate::weights::Weights;

impl<'w> Weights<'w> {
    /// `y = x·Wᵀ`: x is `[m, k]`, W `[n, k]`, y `[m, n]`. [`Weights::product`] has bias, activation, and more.
    ///
    /// x and y are slices (or `Vec`s, or arrays) of rows that follow each other, a [`MatRef`] and a [`MatMut`], whose rows
    /// may lie apart, or views of `ndarray` with the feature of that name; x may also be [`Activations`]. Their elements
    /// are f32, f16, or bf16. m is what x says; it may be 0, and so may n and k: a sum over nothing is 0 (a slice for x
    /// can't tell how many tokens of nothing there are).
    ///
    /// ```
    /// use lutmul::{Context, Lut, Scales, Weights};
    ///
    /// // int8 weights of two rows; what the file holds is what is multiplied.
    /// let codes: &[u8] = &[1, 2, 0xFF, 0xFE];
    /// let weights = Weights::new(codes, (2, 2), Lut::int8(), Scales::tensor(1.0, (2, 2))?)?;
    /// let (x, mut y) = ([10f32, 1.0], [0f32; 2]);
    /// weights.matmul(&x, &mut y, &mut Context::new())?;
    /// assert_eq!(y, [12.0, -12.0]);
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// Shapes that don't fit, codes in use that stand for NaN or infinity (see [`NonFinite`](crate::NonFinite)), weights
    /// that the [`Mode`](crate::Mode) does not take, activations packed for something else, and a kernel that can't run.
    /// y is untouched then.
    pub fn matmul<'x, 'y>(
        &self,
        x: impl Input<'x>,
        y: impl IntoMatMut<'y>,
        context: &mut Context,
    ) -> Result<()> {
        self.product().matmul(x, y, context)
    }

    /// A product with these weights that is told more before it is computed.
    pub fn product(&self) -> Product<'_> {
        Product { weights: self, epilogue: Epilogue::default(), rows: 0..self.n() }
    }
}

/// A product with some weights: all rows of them or some, and what follows the sum.
///
/// ```
/// use lutmul::{Activation, Context, Lut, Scales, Weights};
///
/// let codes: &[u8] = &[1, 2, 0xFF, 0xFE];
/// let weights = Weights::new(codes, (2, 2), Lut::int8(), Scales::tensor(1.0, (2, 2))?)?;
/// let (x, mut y, bias) = ([10f32, 1.0], [100f32; 2], [0.5, 0.5]);
/// let product = weights.product().bias(&bias).activation(Activation::Relu).accumulate();
/// product.matmul(&x, &mut y, &mut Context::new())?;
/// assert_eq!(y, [112.5, 100.0]);
/// # Ok::<(), lutmul::Error>(())
/// ```
///
/// # Several matrices with the same x
///
/// Pack it once: see [`Activations`].
///
/// # Threads of one's own
///
/// Each computes a range of rows into its block of columns of y, with a [`Context`] of its own; all share packed x:
///
/// ```
/// use lutmul::{Activations, Context, Format, Granularity, MatMut, Threads, Weights};
///
/// let (m, n, k) = (2, 100, 64);
/// let w: Vec<f32> = (0..n * k).map(|i| (i as f32).sin()).collect();
/// let w = Weights::encode(&w, (n, k), &Format::QinsLinear, Granularity::Row)?;
/// let (x, mut y) = (vec![1f32; m * k], vec![0f32; m * n]);
/// let mut contexts = [0, 1].map(|_| Context::new().with_threads(Threads::One));
/// let mut packed = Activations::new();
/// packed.pack(&x, &w, &contexts[0].options)?;
///
/// let (left, right) = MatMut::new(&mut y, (m, n))?.split_columns(n / 2);
/// let [one, other] = &mut contexts;
/// std::thread::scope(|scope| {
///     let half = scope.spawn(|| w.product().rows(n / 2..n).matmul(&packed, right, other));
///     w.product().rows(0..n / 2).matmul(&packed, left, one)?;
///     half.join().expect("no panic")
/// })?;
/// # Ok::<(), lutmul::Error>(())
/// ```
///
/// Whatever the ranges, the result has the same bits.
#[derive(Clone, Debug)]
#[must_use = "nothing is computed until `matmul`"]
pub struct Product<'a> {
    weights: &'a Weights<'a>,
    epilogue: Epilogue<'a>,
    rows: Range<usize>,
}

impl<'a> Product<'a> {
    /// Adds a bias to the sums: one value for each row of W, n of them also where only some rows are computed.
    pub fn bias(mut self, bias: &'a [f32]) -> Self {
        self.epilogue.bias = Some(bias);
        self
    }

    /// Applies a function to sum and bias.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.epilogue.activation = activation;
        self
    }

    /// Adds to what y holds, in place of replacing it.
    pub fn accumulate(mut self) -> Self {
        self.epilogue.accumulate = true;
        self
    }

    /// Bias, activation and accumulation at a time.
    pub fn epilogue(self, epilogue: Epilogue<'a>) -> Self {
        Self { epilogue, ..self }
    }

    /// Computes some rows of W only: y is `[m, rows.len()]`, a block of columns of the whole result
    /// ([`MatMut::split_columns`] makes such blocks).
    pub fn rows(self, rows: Range<usize>) -> Self {
        Self { rows, ..self }
    }

    /// Computes it, as [`Weights::matmul`] does.
    ///
    /// # Errors
    /// As [`Weights::matmul`], a bias of another length than n, and rows that aren't there.
    pub fn matmul<'x, 'y>(
        &self,
        x: impl Input<'x>,
        y: impl IntoMatMut<'y>,
        context: &mut Context,
    ) -> Result<()> {
        let Context { options, activations, pool } = context;
        match x.into_x(self.weights.k())? {
            X::Matrix(x) => {
                let y = self.check(x.rows(), y)?;
                let plan = Plan::new(self.weights, x.rows(), options)?;
                plan.prepare()?;
                activations.pack_for(&plan, x)?;
                self.run(&plan, activations, y, pool.of(plan.threads()));
            }
            X::Packed(x) => {
                let y = self.check(x.m(), y)?;
                let plan = x.plan(self.weights, options)?;
                plan.prepare()?;
                self.run(&plan, x, y, pool.of(plan.threads()));
            }
        }
        Ok(())
    }

    /// y as a matrix, if all that depends on shapes is as it should be.
    fn check<'y, Y: IntoMatMut<'y>>(&self, m: usize, y: Y) -> Result<MatMut<'y, Y::Element>> {
        let (rows, n) = (&self.rows, self.weights.n());
        if rows.start > rows.end || rows.end > n {
            return Err(Error::RowRange { range: rows.clone(), n });
        }
        let expected = (m, rows.len());
        let y = y.into_mat_mut(expected)?;
        let got = (y.rows(), y.cols());
        if expected != got {
            return Err(Error::Shape { what: "y", expected, got });
        }
        if let Some(bias) = self.epilogue.bias
            && bias.len() != n
        {
            let (rows, cols, expected, got) = (1, n, n, bias.len());
            return Err(Error::Length {
                what: "bias",
                unit: "elements",
                rows,
                cols,
                expected,
                got,
            });
        }
        Ok(y)
    }

    fn run<Y: Element>(&self, plan: &Plan<'_>, x: &Activations, mut y: MatMut<'_, Y>, pool: &Pool) {
        let (w, epilogue) = (plan.weights(), &self.epilogue);
        let job = Job { w, x: x.values(), tokens: x.tokens(), m: x.m(), epilogue };
        threads::run(plan, &job, self.rows.clone(), y.columns(), pool);
    }
}

/// What can be multiplied by: whatever is a matrix ([`IntoMatRef`]), and packed [`Activations`].
pub trait Input<'x>: sealed::Input<'x> {}

/// x, of one of two kinds.
pub enum X<'x, T> {
    Matrix(MatRef<'x, T>),
    Packed(&'x Activations),
}

mod sealed {
    use super::*;

    pub trait Input<'x> {
        type Element: Element;

        /// x, for so many columns.
        fn into_x(self, k: usize) -> Result<X<'x, Self::Element>>;
    }
}

impl<'x, M: IntoMatRef<'x>> Input<'x> for M {}

impl<'x, M: IntoMatRef<'x>> sealed::Input<'x> for M {
    type Element = M::Element;

    fn into_x(self, k: usize) -> Result<X<'x, M::Element>> {
        Ok(X::Matrix(self.into_mat_ref(k)?))
    }
}

impl<'x> Input<'x> for &'x Activations {}

impl<'x> sealed::Input<'x> for &'x Activations {
    /// None of them are left.
    type Element = f32;

    fn into_x(self, _: usize) -> Result<X<'x, f32>> {
        Ok(X::Packed(self))
    }
}
