//! Libraries of others, to compare with.

use anyhow::Result;

use super::Dims;
use super::product::Product;
use super::team::Team;

/// A library whose products are timed beside lutmul's.
pub trait Peer {
    /// Its name, in options, columns and (with `_` for `-`) JSON.
    fn name(&self) -> &'static str;

    /// Stores weights, `[n, k]`, the way that it multiplies by them.
    fn encode(&self, w: &[f32], dims: Dims) -> Result<Box<dyn Encoded>>;
}

/// A peer's weights.
pub trait Encoded: Sync {
    /// What is said of them.
    fn about(&self) -> About;

    /// Bytes that a product reads.
    fn bytes(&self) -> usize;

    /// What they stand for, `[n, k]`.
    fn decode(&self) -> Result<Vec<f32>>;

    /// The product with x, `[m, k]`; none if the peer can't work with so many threads.
    fn product<'a>(&'a self, x: &'a [f32], team: &'a Team)
    -> Result<Option<Box<dyn Product + 'a>>>;
}

/// How a peer multiplies.
#[derive(Clone, Debug)]
pub struct About {
    /// What weights are stored as.
    pub format: &'static str,
    /// What shares a scale, if there are any.
    pub scales: &'static str,
    /// What activations are multiplied as.
    pub mode: &'static str,
    /// The kernel, if it says.
    pub kernel: Option<String>,
}
