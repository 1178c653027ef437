//! Products.

use std::ffi::c_char;
use std::ops::Range;

use lutmul::{Activation, Activations, Context, Epilogue, Error, Needs, Unaligned, Weights};

use crate::activations::{self, lutmul_activations};
use crate::call::{Caller, call};
use crate::matrix::{Matrix, lutmul_matrix, lutmul_matrix_mut, with_element};
use crate::sized::SizedStruct;
use crate::status::*;
use crate::weights::lutmul_weights;
use crate::workspace::{Own, aligned, lutmul_workspace};

/// What follows the sum: y = activation(sum + bias), or y + that. All zeros but `size` change nothing; NULL in
/// place of the struct, too.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_epilogue {
    /// The sizeof of this struct.
    pub size: usize,
    /// One float for each row of the weights, or NULL. At any alignment; one that is not aligned is copied by
    /// each call.
    pub bias: *const f32,
    /// How many there are: n, also where only some rows are computed.
    pub bias_count: usize,
    /// The activation function: "none" (NULL, too), "relu", "silu", "gelu-erf" or "gelu-tanh".
    pub activation: *const c_char,
    /// 1: the result is added to what y holds. 0: it replaces it.
    pub accumulate: u64,
}

// SAFETY: as the trait asks.
unsafe impl SizedStruct for lutmul_epilogue {}

/// An epilogue that was checked.
#[derive(Default)]
struct Ending<'a> {
    bias: Option<&'a [Unaligned<f32>]>,
    activation: Activation,
    accumulate: bool,
}

impl<'a> Ending<'a> {
    fn read(c: &'a Caller, from: *const lutmul_epilogue) -> Result<Self> {
        if from.is_null() {
            return Ok(Self::default());
        }
        let epilogue = c.read_sized(from, "epilogue")?;
        let lutmul_epilogue { bias, bias_count: count, activation, accumulate, .. } = epilogue;
        let bias = match bias.is_null() && count == 0 {
            true => None,
            false => Some(c.slice(bias.cast(), count, "epilogue.bias")?),
        };
        let activation = match c.optional_text(activation, "epilogue.activation")? {
            Some(name) => name.parse().of("epilogue.activation")?,
            None => Activation::None,
        };
        if accumulate > 1 {
            let why = format!("is {accumulate}, neither 0 nor 1");
            return Err(Failure::new(LUTMUL_VALUE, "epilogue.accumulate", why));
        }
        Ok(Self { bias, activation, accumulate: accumulate == 1 })
    }
}

/// A product: all that the three functions have in common.
struct Product<'a> {
    workspace: &'a lutmul_workspace,
    weights: &'a Weights<'static>,
    y: Matrix,
    ending: Ending<'a>,
}

impl<'a> Product<'a> {
    fn new(
        c: &'a Caller,
        workspace: *const lutmul_workspace,
        weights: *const lutmul_weights,
        y: *const lutmul_matrix_mut,
        epilogue: *const lutmul_epilogue,
    ) -> Result<Self> {
        let workspace = c.get(workspace, "workspace")?;
        let weights = &c.get(weights, "weights")?.0;
        let y = Matrix::write(c, y, "y")?;
        let ending = Ending::read(c, epilogue)?;
        workspace.check_environment()?;
        Ok(Self { workspace, weights, y, ending })
    }

    fn needs(&self, tokens: usize) -> Result<Needs> {
        Needs::of(self.weights, tokens, &self.workspace.options()).of("x")
    }

    /// Refuses a y of another shape than m × n.
    fn check_y(&self, m: usize) -> Result<()> {
        let (expected, got) = ((m, self.weights.n()), (self.y.rows, self.y.cols));
        if expected == got {
            return Ok(());
        }
        Err(Error::Shape { what: "y", expected, got }).of("y")
    }

    /// All rows. On the workspace's threads, if that is where it is called.
    fn all(&self, c: &Caller, x: &Activations, own: &mut Own) -> Result<()> {
        let options = self.workspace.options();
        let Own { alone, threads, bias } = own;
        let context = if options.threads == alone.options.threads { alone } else { threads };
        context.options = options;
        self.compute(c, 0..self.weights.n(), x, context, bias)
    }

    /// Some rows, on this thread.
    fn rows(&self, c: &Caller, rows: Range<usize>, x: &Activations, own: &mut Own) -> Result<()> {
        let Own { alone, bias, .. } = own;
        self.compute(c, rows, x, alone, bias)
    }

    fn compute(
        &self,
        c: &Caller,
        rows: Range<usize>,
        x: &Activations,
        context: &mut Context,
        bias: &mut Vec<f32>,
    ) -> Result<()> {
        self.check_y(x.m())?;
        let product = self.weights.product().rows(rows.clone()).epilogue(self.epilogue(bias)?);
        with_element!(self.y.element, T => {
            product.matmul(x, self.y.columns::<T>(c, rows)?, context).of("weights")
        })
    }

    fn epilogue<'b>(&'b self, copy: &'b mut Vec<f32>) -> Result<Epilogue<'b>> {
        let Ending { bias, activation, accumulate } = self.ending;
        let bias = bias.map(|bias| aligned(bias, copy)).transpose()?;
        Ok(Epilogue { bias, activation, accumulate })
    }
}

/// Computes y = x · Wᵀ and what the epilogue says: x is [m, k], W [n, k], y [m, n]. On the workspace's threads,
/// or on the calling one if it has none.
///
/// epilogue may be NULL. x and y must not overlap. After a failure y is as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_matmul(
    workspace: *mut lutmul_workspace,
    weights: *const lutmul_weights,
    x: *const lutmul_matrix,
    y: *const lutmul_matrix_mut,
    epilogue: *const lutmul_epilogue,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_matmul", |c| {
            let x = Matrix::read(c, x, "x")?;
            let product = Product::new(c, workspace, weights, y, epilogue)?;
            let Product { workspace, weights, .. } = product;
            let memory = &mut *workspace.take()?;
            memory.check(product.needs(x.rows)?)?;
            workspace.run(|| {
                activations::pack(c, workspace, weights, &x, &mut memory.activations)?;
                product.all(c, &memory.activations, &mut memory.own)
            })
        })
    }
}

/// Computes the same with an x that was packed before, with the kernel and mode of this workspace.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_matmul_packed(
    workspace: *mut lutmul_workspace,
    weights: *const lutmul_weights,
    activations: *const lutmul_activations,
    y: *const lutmul_matrix_mut,
    epilogue: *const lutmul_epilogue,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_matmul_packed", |c| {
            let x = c.get(activations, "activations")?.share()?;
            let product = Product::new(c, workspace, weights, y, epilogue)?;
            let mut memory = product.workspace.take()?;
            memory.check(product.needs(x.x.m())?.only_scratch())?;
            let (x, own) = (&x.x, &mut memory.own);
            product.workspace.run(|| product.all(c, x, own))
        })
    }
}

/// Computes rows row_begin to row_end − 1 of the weights only, on the calling thread: columns row_begin to
/// row_end − 1 of y, which is the whole matrix, [m, n]. The other columns are left alone.
///
/// For runtimes that have threads of their own. Several of these calls may share weights, activations and y at
/// a time, if each has a workspace of its own and no row is in two ranges. Whatever the ranges, the result has
/// the same bits as that of lutmul_matmul. Ranges of 64 rows and more are as fast as the whole; multiples of
/// 48 are best for many tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_matmul_rows(
    workspace: *mut lutmul_workspace,
    weights: *const lutmul_weights,
    activations: *const lutmul_activations,
    row_begin: usize,
    row_end: usize,
    y: *const lutmul_matrix_mut,
    epilogue: *const lutmul_epilogue,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_matmul_rows", |c| {
            let x = c.get(activations, "activations")?.share()?;
            let product = Product::new(c, workspace, weights, y, epilogue)?;
            let n = product.weights.n();
            if row_begin > row_end || row_end > n {
                return Err(Error::RowRange { range: row_begin..row_end, n })
                    .of("row_begin, row_end");
            }
            let mut memory = product.workspace.take()?;
            memory.check(product.needs(x.x.m())?.only_scratch())?;
            product.rows(c, row_begin..row_end, &x.x, &mut memory.own)
        })
    }
}
