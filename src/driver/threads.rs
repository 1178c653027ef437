//! Handing work to threads.

use lutmul_kernels::Columns;

use super::Job;
use super::workspace::Pool;
#[cfg(feature = "rayon")]
use super::{Shape, row};
use crate::element::Element;
use crate::options::Threads;

/// Computes all rows.
pub(super) fn run<Y: Element>(
    job: &Job<'_>,
    y: &mut Columns<'_, Y>,
    threads: Threads,
    scratch: &Pool,
) {
    let n = job.w.n();
    match threads {
        Threads::One => scratch.with(0, |scratch| job.run(0..n, y, scratch)),
        #[cfg(feature = "rayon")]
        Threads::Rayon => {
            let leaf = leaf(job, rayon::current_num_threads());
            fork(job, 0..n, y.reborrow(), leaf, scratch);
        }
    }
}

/// Rows of the smallest piece of work: some pieces for each thread, so that a slow one holds up
/// little, yet each long enough (64 KiB of codes) to be worth handing over.
#[cfg(feature = "rayon")]
fn leaf(job: &Job<'_>, threads: usize) -> usize {
    const PIECES: usize = 8;
    const BYTES: usize = 1 << 16;
    let step = match job.layout.shape {
        Shape::Row => row::CHUNK,
        Shape::Panel => lutmul_kernels::PANEL_ROWS,
    };
    let n = job.w.n();
    if threads == 1 {
        return n.max(1);
    }
    let rows = n.div_ceil(threads * PIECES).max(BYTES.div_ceil(job.w.k().max(1)));
    rows.next_multiple_of(step)
}

/// Halves the rows until they are a leaf's.
#[cfg(feature = "rayon")]
fn fork<Y: Element>(
    job: &Job<'_>,
    rows: std::ops::Range<usize>,
    mut y: Columns<'_, Y>,
    leaf: usize,
    scratch: &Pool,
) {
    if rows.len() <= leaf {
        let thread = rayon::current_thread_index().unwrap_or(0);
        return scratch.with(thread, |scratch| job.run(rows, &mut y, scratch));
    }
    let half = (rows.len() / 2).next_multiple_of(leaf);
    let middle = rows.start + half;
    let (left, right) = y.split(half);
    rayon::join(
        || fork(job, rows.start..middle, left, leaf, scratch),
        || fork(job, middle..rows.end, right, leaf, scratch),
    );
}

/// Calls `work` with each chunk of a slice and its number.
pub(crate) fn for_each_chunk<T: Send>(
    slice: &mut [T],
    chunk: usize,
    threads: Threads,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    match threads {
        Threads::One => slice.chunks_mut(chunk).enumerate().for_each(|(i, chunk)| work(i, chunk)),
        #[cfg(feature = "rayon")]
        Threads::Rayon => {
            use rayon::prelude::*;
            slice.par_chunks_mut(chunk).enumerate().for_each(|(i, chunk)| work(i, chunk));
        }
    }
}
