//! The f32 GEMM of the `gemm` crate.

use anyhow::Result;

use super::Dims;
use super::baseline::Floats;
use super::peer::{About, Encoded, Peer};
use super::product::Product;
use super::team::Team;

/// The f32 GEMM of the `gemm` crate.
pub struct GemmF32;

impl Peer for GemmF32 {
    fn name(&self) -> &'static str {
        super::GEMM_F32
    }

    fn encode(&self, w: &[f32], dims: Dims) -> Result<Box<dyn Encoded>> {
        Ok(Box::new(Weights { w: w.to_vec(), dims }))
    }
}

struct Weights {
    w: Vec<f32>,
    dims: Dims,
}

impl Encoded for Weights {
    fn about(&self) -> About {
        About { format: "f32", scales: "none", mode: "f32", kernel: None }
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.w[..])
    }

    fn decode(&self) -> Result<Vec<f32>> {
        Ok(self.w.clone())
    }

    fn product<'a>(
        &'a self,
        x: &'a [f32],
        team: &'a Team,
    ) -> Result<Option<Box<dyn Product + 'a>>> {
        let (w, k, threads) = (&self.w, self.dims.k, team.threads());
        Ok(Some(Box::new(Floats { w, x, k, threads, gemm })))
    }
}

/// `y = x·Wᵀ`, as [`super::Gemm`] has it.
#[expect(unsafe_code, reason = "the crate's only function takes pointers")]
pub(super) fn gemm(threads: usize, w: &[f32], x: &[f32], k: usize, y: &mut [f32]) {
    let (n, m) = (w.len() / k, x.len() / k);
    assert!(w.len() == n * k && x.len() == m * k && y.len() == m * n);
    let parallelism = match threads {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    let [row_x, row_w, row_y] = [k as isize, k as isize, n as isize];
    // SAFETY: pointers and strides (columns first, then rows) are those of row-major slices,
    // whose lengths were checked above; W is read as its transpose, `k × n`. y is borrowed
    // mutably, so nothing aliases it.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            row_y,
            false,
            x.as_ptr(),
            1,
            row_x,
            w.as_ptr(),
            row_w,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
