//! Bands of rows: the portions in which encoding, decoding and reports are handed to threads.

#[cfg(feature = "rayon")]
use crate::options::Threads;

/// Weights of a band: 256 KiB of f32, so that a second look at a band finds it in L2.
const WEIGHTS: usize = 1 << 16;

/// Rows of a band of a matrix with k columns. It depends on the shape alone, so that sums over bands
/// don't depend on threads.
pub(crate) fn band_rows(k: usize) -> usize {
    (WEIGHTS / k.max(1)).max(1)
}

/// Runs `f` over tasks, on the current [`Threads`]; results are in the tasks' order.
pub(crate) fn map<T: Send, R: Send>(tasks: Vec<T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "rayon")]
    if tasks.len() > 1 && Threads::current() == Threads::Rayon {
        use rayon::prelude::*;
        return tasks.into_par_iter().map(f).collect();
    }
    tasks.into_iter().map(f).collect()
}
