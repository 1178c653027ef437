//! Activations packed for kernels: once a call, or once for several matrices that take the same x.

use crate::aligned::Aligned;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::mat::{IntoMatRef, MatRef};
use crate::needs::Needs;
use crate::options::Options;
use crate::plan::{Packing, Plan};
use crate::quantize::TokenScale;
use crate::weights::Weights;

/// Activations in the form in which a kernel reads them.
///
/// Packed by [`Activations::pack`] and reusable for every matrix of the same k whose table the
/// kernel decodes in the same way (the same format will do). Keeps its buffer, so that packing again
/// doesn't allocate. Takes 4 bytes for each of `m` tokens (rounded up to 1, 2, 4, 8 or a multiple of
/// the kernel's lanes) × `k` (rounded up to 64).
///
/// ```
/// use lutmul::{Activations, Context, Format, Granularity, Weights};
///
/// // The three projections of an attention take the same x: it is packed once.
/// let (m, k, n) = (4, 64, 16);
/// let layer = |seed: f32| {
///     let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * seed).sin()).collect();
///     Weights::encode(&w, (n, k), &Format::E4m3, Granularity::Row)
/// };
/// let projections = [layer(0.3)?, layer(0.5)?, layer(0.7)?];
/// let x = vec![0.5f32; m * k];
///
/// let mut context = Context::new();
/// let mut packed = Activations::new();
/// packed.pack(&x, &projections[0], &context.options)?;
/// for w in &projections {
///     let mut y = vec![0f32; m * n];
///     w.matmul(&packed, &mut y, &mut context)?;
/// }
/// # Ok::<(), lutmul::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Activations {
    packed: Aligned,
    /// Of each token, in integer modes.
    tokens: Vec<TokenScale>,
    packed_for: Option<Packing>,
}

/// Bytes of what is kept for each token beside its limbs.
pub(crate) const TOKEN_BYTES: usize = size_of::<TokenScale>();

impl Activations {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Packs x, `[m, k]`, for products with `w` and weights like it, with these options.
    ///
    /// # Errors
    /// x has another number of columns than the weights, its packed size overflows, and what
    /// [`Plan::new`] refuses.
    pub fn pack<'x>(
        &mut self,
        x: impl IntoMatRef<'x>,
        w: &Weights<'_>,
        options: &Options,
    ) -> Result<()> {
        self.packed_for = None;
        let x = x.into_mat_ref(w.k())?;
        check(x, w.k())?;
        self.pack_for(&Plan::new(w, x.rows(), options)?, x)
    }

    /// The same for a plan of as many tokens.
    pub(crate) fn pack_for<X: Element>(&mut self, plan: &Plan<'_>, x: MatRef<'_, X>) -> Result<()> {
        let packing = plan.packing();
        check(x, packing.k)?;
        self.packed_for = None;
        packing.pack(x, self.packed.take(packing.len()?), &mut self.tokens, plan.threads());
        self.packed_for = Some(*packing);
        Ok(())
    }

    /// Has memory for products that need no more than that: packing for them allocates nothing. What was
    /// packed is gone.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&mut self, needs: Needs) -> Result<()> {
        self.packed_for = None;
        let (what, bytes) = ("activations", needs.activations());
        self.tokens.clear();
        let tokens = self.tokens.try_reserve_exact(needs.tokens).is_ok();
        let enough = tokens && self.packed.reserve(needs.packed);
        if enough { Ok(()) } else { Err(Error::Memory { what, bytes }) }
    }

    /// Number of tokens packed.
    pub fn m(&self) -> usize {
        self.packed_for.map_or(0, |packing| packing.m)
    }

    /// Bytes of the buffer.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// The plan of a product with these weights, if what is packed is what it takes.
    pub(crate) fn plan<'a>(&self, w: &'a Weights<'_>, options: &Options) -> Result<Plan<'a>> {
        let plan = Plan::new(w, self.m(), options)?;
        if self.packed_for.as_ref() == Some(plan.packing()) {
            return Ok(plan);
        }
        let packed = self.packed_for.map_or("nothing yet".into(), |packing| packing.to_string());
        Err(Error::Packing { packed, asked: format!("{} and this table", plan.packing()) })
    }

    /// The scales of the tokens, in integer modes.
    pub(crate) fn tokens(&self) -> &[TokenScale] {
        &self.tokens
    }

    /// The packed values, as the strategy of the plan they were packed for lays them.
    pub(crate) fn values(&self) -> &[f32] {
        self.packed.as_slice()
    }
}

fn check<X: Element>(x: MatRef<'_, X>, k: usize) -> Result<()> {
    if x.cols() == k {
        return Ok(());
    }
    Err(Error::Shape { what: "x", expected: (x.rows(), k), got: (x.rows(), x.cols()) })
}
