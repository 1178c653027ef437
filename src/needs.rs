//! How much memory a product needs, known before it is there.

use crate::error::Result;
use crate::options::Options;
use crate::plan::Plan;
use crate::weights::Weights;

/// Memory that products need: for packed activations, and for each thread.
///
/// What has it [reserved](crate::Context::reserve) allocates nothing in a product that needs no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Floats of packed activations.
    pub(crate) packed: usize,
    /// Tokens that have a scale of their own.
    pub(crate) tokens: usize,
    /// Floats of a thread's scratch.
    pub(crate) scratch: usize,
}

impl Needs {
    /// What a product of `m` tokens needs.
    ///
    /// # Errors
    /// Weights that the mode does not take, and sizes beyond the address space.
    pub fn of(w: &Weights<'_>, m: usize, options: &Options) -> Result<Self> {
        Plan::new(w, m, options)?.needs()
    }

    /// What products of any number of tokens up to `m` need.
    ///
    /// # Errors
    /// As [`Needs::of`].
    pub fn up_to(w: &Weights<'_>, m: usize, options: &Options) -> Result<Self> {
        /// Within a loop shape more tokens need more; gemv ends before this.
        const FEW: usize = 17;
        let few = (1..m.min(FEW)).map(|m| Self::of(w, m, options));
        few.chain([Self::of(w, m, options)])
            .try_fold(Self::default(), |most, needs| Ok(most.and(needs?)))
    }

    /// What is enough for either of two products.
    pub fn and(self, other: Self) -> Self {
        Self {
            packed: self.packed.max(other.packed),
            tokens: self.tokens.max(other.tokens),
            scratch: self.scratch.max(other.scratch),
        }
    }

    /// Whether memory for this is enough for `other`.
    pub fn cover(&self, other: Self) -> bool {
        self.and(other) == *self
    }

    /// Without what packing x needs.
    pub fn only_scratch(self) -> Self {
        Self { scratch: self.scratch, ..Self::default() }
    }

    /// Without what each thread needs.
    pub fn only_activations(self) -> Self {
        Self { scratch: 0, ..self }
    }

    /// Bytes of packed activations.
    pub fn activations(&self) -> usize {
        size_of::<f32>() * self.packed + crate::activations::TOKEN_BYTES * self.tokens
    }

    /// Bytes of each thread's scratch.
    pub fn scratch(&self) -> usize {
        size_of::<f32>() * self.scratch
    }
}
