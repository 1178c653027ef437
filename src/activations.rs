//! Activations packed for kernels: once a call, or once for several matrices that take the same x.

use lutmul_kernels::{Kernel, LINE, Order};

use crate::aligned::Aligned;
use crate::driver::Shape;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::mat::MatRef;
use crate::options::Options;
use crate::weights::Weights;

/// Activations in the form in which a kernel reads them.
///
/// Packed by [`Activations::pack`] and reusable for every matrix of the same k whose table the
/// kernel decodes in the same way (the same format will do). Keeps its buffer, so that packing again
/// doesn't allocate. Takes 4 bytes for each of `m` tokens (rounded up to 1, 2, 4, 8 or a multiple of
/// the kernel's lanes) × `k` (rounded up to 64).
#[derive(Debug, Default)]
pub struct Activations {
    packed: Aligned,
    layout: Option<Layout>,
}

/// What the packed activations are, and for whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    pub m: usize,
    pub k: usize,
    pub kernel: Kernel,
    pub shape: Shape,
    pub order: &'static Order,
}

impl Layout {
    pub fn new(w: &Weights<'_>, m: usize, options: &Options) -> Self {
        let kernel = options.kernel;
        let order = kernel.order(&w.portion(0..0));
        Self { m, k: w.k(), kernel, shape: Shape::of(w, m), order }
    }

    /// Columns with their padding.
    fn columns(&self) -> usize {
        self.k.div_ceil(LINE) * LINE
    }

    /// Tokens with their padding.
    pub fn tokens(&self) -> usize {
        match self.shape {
            Shape::Row => self.m.next_power_of_two(),
            Shape::Panel => self.m.next_multiple_of(self.kernel.lanes()),
        }
    }

    fn describe(&self) -> String {
        let Self { m, k, kernel, shape, .. } = self;
        format!("{m}×{k}, kernel {}, {shape} shape", kernel.name())
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
        let layout = Layout::new(w, m, options);
        let columns = layout.columns();
        if m > 0 && k > 0 {
            let len = crate::error::area("packed activations", layout.tokens(), columns)?;
            let packed = self.packed.take(len);
            match layout.shape {
                Shape::Row => pack_rows(x, &layout, packed),
                Shape::Panel => pack_tiles(x, &layout, packed, options),
            }
        }
        self.layout = Some(layout);
        Ok(())
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
            return Ok(asked);
        }
        let packed = packed.map_or("nothing yet".into(), |layout| layout.describe());
        let asked = format!("{} and this table", asked.describe());
        Err(Error::Packing { packed, asked })
    }

    /// The packed values: `[lines][tokens][64]` in the row shape; in the panel shape tile after tile
    /// `[columns][width]`.
    pub(crate) fn values(&self) -> &[f32] {
        self.packed.as_slice()
    }
}

/// Row shape: `[lines][tokens][64]`, lines in the kernel's order, zero beyond k and m.
fn pack_rows<X: Element>(x: MatRef<'_, X>, layout: &Layout, packed: &mut [f32]) {
    let (packed, _) = packed.as_chunks_mut::<LINE>();
    let tokens = layout.tokens();
    for token in 0..tokens {
        let row = if token < layout.m { x.row(token) } else { &[] };
        for (line, to) in packed.iter_mut().skip(token).step_by(tokens).enumerate() {
            let from = row.get(line * LINE..).unwrap_or_default();
            let mut wide = [0.0; LINE];
            let len = from.len().min(LINE);
            X::widen(&from[..len], &mut wide[..len]);
            for (to, from) in to.iter_mut().zip(layout.order) {
                *to = wide[usize::from(*from)];
            }
        }
    }
}

/// Panel shape: tiles of the kernel's width, the last one narrower, each `[columns][width]`.
fn pack_tiles<X: Element>(
    x: MatRef<'_, X>,
    layout: &Layout,
    packed: &mut [f32],
    options: &Options,
) {
    let full = layout.kernel.tile_width();
    let columns = layout.columns();
    let tile = |i: usize, packed: &mut [f32]| {
        let width = packed.len() / columns;
        for (line, to) in packed.chunks_exact_mut(LINE * width).enumerate() {
            pack_tile_line(x, i * full, line, layout.order, width, to);
        }
    };
    match options.threads {
        crate::options::Threads::One => {
            packed.chunks_mut(full * columns).enumerate().for_each(|(i, packed)| tile(i, packed));
        }
        #[cfg(feature = "rayon")]
        crate::options::Threads::Rayon => {
            use rayon::prelude::*;
            packed
                .par_chunks_mut(full * columns)
                .enumerate()
                .for_each(|(i, packed)| tile(i, packed));
        }
    }
}

/// Transposes 64 columns of a tile's tokens into `[64][width]`.
fn pack_tile_line<X: Element>(
    x: MatRef<'_, X>,
    first_token: usize,
    line: usize,
    order: &Order,
    width: usize,
    to: &mut [f32],
) {
    // Eight tokens side by side: a write of 32 bytes a column instead of one of 4.
    const SIDE: usize = 8;
    for side in (0..width).step_by(SIDE) {
        let mut wide = [[0.0; LINE]; SIDE];
        let count = SIDE.min(width - side);
        for (token, wide) in (first_token + side..x.rows()).zip(&mut wide[..count]) {
            let from = &x.row(token)[line * LINE..];
            let len = from.len().min(LINE);
            X::widen(&from[..len], &mut wide[..len]);
        }
        for (to, column) in to.chunks_exact_mut(width).zip(order) {
            for (to, wide) in to[side..side + count].iter_mut().zip(&wide) {
                *to = wide[usize::from(*column)];
            }
        }
    }
}
