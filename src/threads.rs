//! Handing work to threads.

use std::ops::Range;

use lutmul_kernels::Columns;

use crate::context::Pool;
use crate::element::Element;
use crate::options::Threads;
use crate::plan::{Job, Plan};

/// Computes some rows, on the threads that the plan is for.
pub(crate) fn run<Y: Element>(
    plan: &Plan<'_>,
    job: &Job<'_>,
    rows: Range<usize>,
    y: &mut Columns<'_, Y>,
    scratch: &Pool,
) {
    match plan.threads() {
        Threads::One => piece(plan, job, rows, y, (0, scratch)),
        #[cfg(feature = "rayon")]
        Threads::Rayon => {
            let leaf = leaf(plan, job, rows.len(), rayon::current_num_threads());
            fork(plan, job, rows, y.reborrow(), (leaf, scratch));
        }
    }
}

/// Rows of the smallest piece of work: some pieces for each thread, so that a slow one holds up
/// little, yet each long enough (64 KiB of codes) to be worth handing over.
#[cfg(feature = "rayon")]
fn leaf(plan: &Plan<'_>, job: &Job<'_>, rows: usize, threads: usize) -> usize {
    const PIECES: usize = 8;
    const BYTES: usize = 1 << 16;
    if threads == 1 {
        return rows.max(1);
    }
    let rows = rows.div_ceil(threads * PIECES).max(BYTES.div_ceil(job.w.k().max(1)));
    rows.next_multiple_of(plan.row_step())
}

/// Halves the rows until they are a leaf's.
#[cfg(feature = "rayon")]
fn fork<Y: Element>(
    plan: &Plan<'_>,
    job: &Job<'_>,
    rows: Range<usize>,
    mut y: Columns<'_, Y>,
    (leaf, scratch): (usize, &Pool),
) {
    if rows.len() <= leaf {
        let thread = rayon::current_thread_index().unwrap_or(0);
        return piece(plan, job, rows, &mut y, (thread, scratch));
    }
    let half = (rows.len() / 2).next_multiple_of(leaf);
    let middle = rows.start + half;
    let (left, right) = y.split(half);
    rayon::join(
        || fork(plan, job, rows.start..middle, left, (leaf, scratch)),
        || fork(plan, job, middle..rows.end, right, (leaf, scratch)),
    );
}

/// Computes some rows on this thread, the i-th of a pool's. Nothing in here waits for another thread.
fn piece<Y: Element>(
    plan: &Plan<'_>,
    job: &Job<'_>,
    rows: Range<usize>,
    y: &mut Columns<'_, Y>,
    (thread, scratch): (usize, &Pool),
) {
    scratch.with(thread, plan.scratch_len(), |scratch| plan.run(job, rows, y, scratch));
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
