//! Products with f32 weights, to compare with.

use rayon::prelude::*;

use super::team::Team;

/// `y = W·x` for one token: plain loops, vectorised for this CPU by the compiler. They read memory as
/// fast as it goes, and that is all that counts for one token.
pub fn gemv(team: &Team, w: &[f32], x: &[f32], y: &mut [f32]) {
    let k = x.len();
    assert_eq!(w.len(), k * y.len());
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
    if team.threads() == 1 {
        rows((w, y));
        return;
    }
    let each = y.len().div_ceil(8 * team.threads()).max(1);
    team.run(|| w.par_chunks(each * k).zip(y.par_chunks_mut(each)).for_each(rows));
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

/// `y = x·Wᵀ` in f32: x is `[m, k]`, W `[n, k]`, y `[m, n]`.
pub type Gemm = fn(team: &Team, w: &[f32], x: &[f32], k: usize, y: &mut [f32]);

/// The f32 GEMM of the `gemm` crate, if this program was built with it.
pub fn gemm() -> Option<Gemm> {
    #[cfg(feature = "peers")]
    return Some(peer);
    #[cfg(not(feature = "peers"))]
    None
}

#[cfg(feature = "peers")]
#[expect(unsafe_code, reason = "the crate's only function takes pointers")]
fn peer(team: &Team, w: &[f32], x: &[f32], k: usize, y: &mut [f32]) {
    let (n, m) = (w.len() / k, x.len() / k);
    assert!(w.len() == n * k && x.len() == m * k && y.len() == m * n);
    let parallelism = match team.threads() {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    let [row_x, row_w, row_y] = [k as isize, k as isize, n as isize];
    team.run(|| {
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
    });
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut y = vec![f32::NAN; n];
            gemv(&team, &w, &x[..k], &mut y);
            assert_eq!(y, exact[..n]);
            if let Some(gemm) = gemm() {
                let mut y = vec![f32::NAN; m * n];
                gemm(&team, &w, &x, k, &mut y);
                assert_eq!(y, exact);
            }
        }
    }
}
