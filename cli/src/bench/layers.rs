//! What weights are measured: made up, or layers of a model.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lutmul::checkpoint::{Checkpoint, Linear, Matrix};
use lutmul::{Format, Granularity, Weights};

use super::plan::Plan;
use crate::measure::{Dims, gaussian_weights};
use crate::table;

/// A layer of a model.
pub struct Layer {
    pub name: String,
    pub dims: Dims,
    matrix: Matrix,
}

/// Weights to measure.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    MadeUp(Dims),
    Layer(&'a Layer),
}

/// The largest layers of a model, each of another shape or format than those before.
pub fn largest(path: &Path, count: usize) -> Result<Vec<Layer>> {
    let model = Checkpoint::open(path)?;
    let mut linears: Vec<&Linear> = model.linears().iter().collect();
    linears.retain(|linear| linear.shape.0 > 0 && linear.shape.1 > 0);
    ensure!(!linears.is_empty(), "{}: has no 2-D weights", path.display());
    linears.sort_by_key(|linear| Reverse(linear.shape.0 * linear.shape.1));
    let mut chosen: Vec<&Linear> = Vec::new();
    for linear in linears {
        let same = |other: &&Linear| (other.shape, &other.coding) == (linear.shape, &linear.coding);
        if chosen.len() < count && !chosen.iter().any(same) {
            chosen.push(linear);
        }
    }
    let layer = |linear: &Linear| {
        let (n, k) = linear.shape;
        let (name, dims) = (table::name(&linear.name), Dims { n, k });
        Ok(Layer { name, dims, matrix: model.matrix(linear)? })
    };
    chosen.into_iter().map(layer).collect()
}

impl<'a> Subject<'a> {
    /// All of a plan.
    pub fn all(plan: &'a Plan) -> impl Iterator<Item = Self> {
        let layers = plan.layers.iter().map(Self::Layer);
        plan.shapes.iter().copied().map(Self::MadeUp).chain(layers)
    }

    /// Its shape.
    pub fn dims(self) -> Dims {
        match self {
            Self::MadeUp(dims) => dims,
            Self::Layer(layer) => layer.dims,
        }
    }

    /// The layer's name.
    pub fn name(self) -> Option<String> {
        match self {
            Self::MadeUp(_) => None,
            Self::Layer(layer) => Some(layer.name.clone()),
        }
    }

    /// As floats.
    pub fn floats(self, seed: u64) -> Result<Cow<'a, [f32]>> {
        match self {
            Self::MadeUp(Dims { n, k }) => Ok(Cow::Owned(gaussian_weights((n, k), seed))),
            Self::Layer(layer) => layer.matrix.to_f32().with_context(|| layer.name.clone()),
        }
    }

    /// As they are multiplied with: in each of these formats and granularities, unless they are codes already.
    pub fn weights(
        self,
        floats: &[f32],
        codings: &[(Format, Granularity)],
    ) -> Result<Vec<(&'static str, Weights<'static>)>> {
        if let Self::Layer(Layer { matrix: Matrix::Coded(weights), name, .. }) = self {
            let format = weights.format().name();
            return Ok(vec![(format, weights.clone().with_name(name))]);
        }
        let Dims { n, k } = self.dims();
        let mut all = Vec::new();
        for (format, scales) in codings {
            let weights = Weights::encode(floats, (n, k), format, *scales)?;
            all.push((format.name(), weights.with_name(format.name())));
        }
        Ok(all)
    }
}
