//! Activations packed for kernels: once a call, or once for several matrices that take the same x.

mod float;
mod integer;

use lutmul_kernels::{Form, Kernel, LINE, Limbs, NATURAL, Order};

use crate::aligned::Aligned;
use crate::driver::{Needs, Shape};
use crate::element::Element;
use crate::error::{Error, Result, area};
use crate::mat::MatRef;
use crate::options::{Mode, Options};
use crate::quantize::TokenScale;
use crate::weights::Weights;

pub(crate) use integer::{PanelLayout, RowLayout};

/// Activations in the form in which a kernel reads them.
///
/// Packed by [`Activations::pack`] and reusable for every matrix of the same k whose table the
/// kernel decodes in the same way (the same format will do). Keeps its buffer, so that packing again
/// doesn't allocate. Takes 4 bytes for each of `m` tokens (rounded up to 1, 2, 4, 8 or a multiple of
/// the kernel's lanes) × `k` (rounded up to 64).
///
/// ```
/// use lutmul::{Activations, Epilogue, Format, Granularity, MatMut, MatRef, Options, Weights};
/// use lutmul::{Workspace, matmul_packed};
///
/// // The three projections of an attention take the same x: it is packed once.
/// let (m, k, n) = (4, 64, 16);
/// let layer = |seed: f32| {
///     let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * seed).sin()).collect();
///     Weights::encode(&w, (n, k), &Format::E4m3, Granularity::Row)
/// };
/// let projections = [layer(0.3)?, layer(0.5)?, layer(0.7)?];
/// let x = vec![0.5f32; m * k];
/// let (options, workspace) = (Options::new()?, Workspace::new());
///
/// let mut packed = Activations::new();
/// packed.pack(&projections[0], MatRef::new(&x, m, k)?, &options)?;
/// for w in &projections {
///     let mut y = vec![0f32; m * n];
///     let to = MatMut::new(&mut y, m, n)?;
///     matmul_packed(w, &packed, to, &Epilogue::default(), &options, workspace.scratch())?;
/// }
/// # Ok::<(), lutmul::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Activations {
    packed: Aligned,
    /// Of each token, in integer modes.
    tokens: Vec<TokenScale>,
    layout: Option<Layout>,
}

/// Bytes of what is kept for each token beside its limbs.
pub(crate) const TOKEN_BYTES: usize = size_of::<TokenScale>();

/// The limbs of floats.
const NO_LIMBS: Limbs = Limbs { form: Form::Bytes, weights: &[] };

/// What the packed activations are, and for whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    pub m: usize,
    pub k: usize,
    pub kernel: Kernel,
    pub shape: Shape,
    /// In F32, the order in which the kernel decodes a line.
    pub order: &'static Order,
    pub mode: Mode,
    /// In integer modes, what x is cut into.
    pub limbs: Limbs,
    /// In integer modes, columns that share their scales: sums start anew behind them.
    pub group: usize,
}

impl Layout {
    pub fn new(w: &Weights<'_>, m: usize, options: &Options) -> Self {
        let (kernel, mode, k) = (options.kernel, options.mode, w.k());
        if mode == Mode::F32 {
            let (shape, order) = (Shape::of(w, m), kernel.order(&w.portion(0..0)));
            return Self { m, k, kernel, shape, order, mode, limbs: NO_LIMBS, group: k };
        }
        let (shape, limbs) = integer::shape(w, m, kernel, mode);
        Self { m, k, kernel, shape, order: &NATURAL, mode, limbs, group: w.group() }
    }

    /// The same, if the mode takes the weights.
    pub fn checked(w: &Weights<'_>, m: usize, options: &Options) -> Result<Self> {
        if options.mode.is_integer() {
            integer::check(w, options.mode)?;
        }
        Ok(Self::new(w, m, options))
    }

    /// Columns with their padding.
    fn columns(&self) -> usize {
        self.k.div_ceil(LINE) * LINE
    }

    /// Tokens with their padding.
    pub fn tokens(&self) -> usize {
        match self.shape {
            Shape::Row if self.mode.is_integer() => RowLayout::new(self).tokens(),
            Shape::Row => self.m.next_power_of_two(),
            Shape::Panel if self.mode.is_integer() => {
                self.m.next_multiple_of(self.kernel.int_lanes(self.limbs))
            }
            Shape::Panel => self.m.next_multiple_of(self.kernel.lanes()),
        }
    }

    /// Floats of the packed activations.
    ///
    /// # Errors
    /// A size that overflows.
    pub fn packed_len(&self) -> Result<usize> {
        if self.m == 0 || self.k == 0 {
            return Ok(0);
        }
        let area = |tokens, columns| area("packed activations", tokens, columns);
        // What fits without padding does not overflow with it.
        area(self.m, self.k)?;
        let tokens = self.tokens();
        match self.shape {
            _ if !self.mode.is_integer() => area(tokens, self.columns()),
            Shape::Row => Ok(area(tokens, RowLayout::new(self).token_bytes())?.div_ceil(4)),
            Shape::Panel => area(tokens, PanelLayout::new(self).token_words()),
        }
    }

    fn describe(&self) -> String {
        let Self { m, k, kernel, shape, mode, .. } = self;
        format!("{m}×{k}, {mode}, kernel {}, {shape} shape", kernel.name())
    }
}

impl Activations {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Packs x, `[m, k]`, for products with `w` and weights like it.
    ///
    /// # Errors
    /// x has another number of columns than the weights, or its packed size overflows.
    pub fn pack<X: Element>(
        &mut self,
        w: &Weights<'_>,
        x: MatRef<'_, X>,
        options: &Options,
    ) -> Result<()> {
        let (m, k) = (x.rows(), w.k());
        if x.cols() != k {
            return Err(Error::Shape { what: "x", expected: (m, k), got: (m, x.cols()) });
        }
        self.layout = None;
        let layout = Layout::checked(w, m, options)?;
        let packed = self.packed.take(layout.packed_len()?);
        self.tokens.clear();
        if !packed.is_empty() {
            match layout.shape {
                _ if layout.mode.is_integer() => {
                    integer::pack(x, &layout, packed, &mut self.tokens, options.threads);
                }
                Shape::Row => float::pack_rows(x, &layout, packed),
                Shape::Panel => float::pack_tiles(x, &layout, packed, options.threads),
            }
        }
        self.layout = Some(layout);
        Ok(())
    }

    /// Has memory for products that need no more than that: packing for them allocates nothing. What was
    /// packed is gone.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&mut self, needs: Needs) -> Result<()> {
        self.layout = None;
        let (what, bytes) = ("activations", needs.activations());
        self.tokens.clear();
        let tokens = self.tokens.try_reserve_exact(needs.tokens).is_ok();
        let enough = tokens && self.packed.reserve(needs.packed);
        if enough { Ok(()) } else { Err(Error::Memory { what, bytes }) }
    }

    /// Number of tokens packed.
    pub fn m(&self) -> usize {
        self.layout.map_or(0, |layout| layout.m)
    }

    /// Bytes of the buffer.
    pub fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// The layout, if it is the one that a product with these weights needs.
    pub(crate) fn layout_for(&self, w: &Weights<'_>, options: &Options) -> Result<Layout> {
        let packed = self.layout;
        let asked = Layout::new(w, self.m(), options);
        if packed == Some(asked) {
            // What fits these weights' layout may have been packed for an image of fewer bytes.
            if asked.mode.is_integer() {
                integer::check(w, asked.mode)?;
            }
            return Ok(asked);
        }
        let packed = packed.map_or("nothing yet".into(), |layout| layout.describe());
        let asked = format!("{} and this table", asked.describe());
        Err(Error::Packing { packed, asked })
    }

    /// The scales of the tokens, in integer modes.
    pub(crate) fn tokens(&self) -> &[TokenScale] {
        &self.tokens
    }

    /// The packed values: `[lines][tokens][64]` in the row shape; in the panel shape tile after tile
    /// `[columns][width]`.
    pub(crate) fn values(&self) -> &[f32] {
        self.packed.as_slice()
    }
}
