//! Products with f32 weights, to compare with.

use anyhow::Result;
use rayon::prelude::*;

use super::product::{Product, Size};
use super::team::Room;

/// `y = x·Wᵀ` in f32, by so many threads: x is `[m, k]`, W `[n, k]`, y `[m, n]`.
pub type Gemm = fn(threads: usize, w: &[f32], x: &[f32], k: usize, y: &mut [f32]);

/// A product with f32 weights.
pub struct Floats<'a> {
    /// `[n, k]`.
    pub w: &'a [f32],
    /// `[m, k]`.
    pub x: &'a [f32],
    /// In features.
    pub k: usize,
    /// Threads.
    pub threads: usize,
    /// How.
    pub gemm: Gemm,
}

impl Product for Floats<'_> {
    fn size(&self) -> Size {
        Size { m: self.x.len() / self.k, n: self.w.len() / self.k, k: self.k }
    }

    fn multiply(&mut self, room: &mut Room) -> Result<()> {
        let (y, _) = room.for_outputs(self.size().outputs());
        (self.gemm)(self.threads, self.w, self.x, self.k, y);
        Ok(())
    }
}

/// `y = W·x` for one token: plain loops, vectorised for this CPU by the compiler. They read memory as
/// fast as it goes, and that is all that counts for one token.
pub fn gemv(threads: usize, w: &[f32], x: &[f32], k: usize, y: &mut [f32]) {
    assert!(x.len() == k && w.len() == k * y.len());
    let rows = |(w, y): (&[f32], &mut [f32])| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (w, y) in w.chunks_exact(k).zip(y) {
                    *y = dot(w, x);
                }
            },
        );
    };
    if threads == 1 {
        rows((w, y));
        return;
    }
    let each = y.len().div_ceil(8 * threads).max(1);
    w.par_chunks(each * k).zip(y.par_chunks_mut(each)).for_each(rows);
}

#[inline(always)]
fn dot(w: &[f32], x: &[f32]) -> f32 {
    let (w_lines, w_rest) = w.as_chunks::<64>();
    let (x_lines, x_rest) = x.as_chunks::<64>();
    let mut sums = [0.0; 64];
    for (w, x) in w_lines.iter().zip(x_lines) {
        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
            *sum += w * x;
        }
    }
    let rest: f32 = w_rest.iter().zip(x_rest).map(|(w, x)| w * x).sum();
    sums.iter().sum::<f32>() + rest
}

/// The f32 GEMM of the `gemm` crate, if this program was built with it.
pub fn gemm() -> Option<Gemm> {
    #[cfg(feature = "peers")]
    return Some(super::gemm_f32::gemm);
    #[cfg(not(feature = "peers"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Team;

    #[test]
    fn products() {
        for threads in [1, 3] {
            let team = Team::new(threads).expect("threads");
            let (n, k, m) = (37, 135, 5);
            let w: Vec<f32> = (0..n * k).map(|i| (i % 13) as f32 - 6.0).collect();
            let x: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32 - 3.0).collect();
            let exact: Vec<f32> = (0..m * n)
                .map(|i| (0..k).map(|c| x[i / n * k + c] * w[i % n * k + c]).sum())
                .collect();
            let run = |x: &[f32], gemm| {
                let mut room = Room::default();
                let mut product = Floats { w: &w, x, k, threads, gemm };
                team.run(|| product.multiply(&mut room)).expect("a product");
                product.output(&room).expect("y")
            };
            assert_eq!(run(&x[..k], gemv), exact[..n]);
            if let Some(gemm) = gemm() {
                assert_eq!(run(&x, gemm), exact);
            }
        }
    }
}
