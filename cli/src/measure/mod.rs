//! Measuring products: lutmul's and, in turns with them, those of others.

mod bandwidth;
mod baseline;
mod case;
mod ceilings;
mod data;
mod error;
#[cfg(feature = "peers")]
mod gemm_f32;
mod machine;
mod memory;
mod peer;
mod product;
mod team;
mod timing;

pub use bandwidth::Reader;
pub use baseline::{Floats, Gemm, gemm, gemv};
pub use case::Case;
pub use ceilings::{Ceilings, Multiplying};
pub use data::{activations, gaussian_weights, transformer_activations, transformer_weights};
pub use error::Sampled;
#[cfg(feature = "peers")]
pub use gemm_f32::GemmF32;
pub use machine::{Caches, cpu, cpu_id, load, resident, threads};
pub use memory::{Pages, Region, check_free, copies, region};
pub use peer::{About, Encoded, Peer};
pub use product::{FEW_TOKENS, Lutmul, Product, Size, copies_for, head};
pub use team::{Room, Team};
pub use timing::{Budget, Times};

use anyhow::{Result, ensure};

/// The name of the f32 GEMM of the `gemm` crate.
pub const GEMM_F32: &str = "gemm-f32";

/// The shape of a matrix of weights: `NxK`, out features by in features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Rows.
    pub n: usize,
    /// Columns.
    pub k: usize,
}

impl Dims {
    /// Weights.
    pub fn count(self) -> usize {
        self.n * self.k
    }
}

impl std::str::FromStr for Dims {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let size = |text: &str| text.parse().ok().filter(|size: &usize| *size > 0);
        let parsed = text.split_once('x').and_then(|(n, k)| Some((size(n)?, size(k)?)));
        let Some((n, k)) = parsed else {
            anyhow::bail!("shape: {text:?} is not NxK with N, K ≥ 1");
        };
        let bytes = n.checked_mul(k).and_then(|count| count.checked_mul(4));
        let fits = bytes.is_some_and(|bytes| bytes <= isize::MAX as usize);
        ensure!(fits, "shape: {n}x{k} weights overflow the address space");
        Ok(Self { n, k })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!("3x70".parse::<Dims>().ok(), Some(Dims { n: 3, k: 70 }));
        for wrong in ["", "3", "0x", "x3", "0x3", "3x0", "3x4x5", "-1x2", "9999999999x9999999999"] {
            let error = wrong.parse::<Dims>().expect_err(wrong).to_string();
            assert!(error.starts_with("shape: "), "{error}");
        }
    }
}
