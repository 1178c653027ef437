//! Who computes: the calling thread, or a pool; never while Python's lock is held.
//!
//! Pools and memory for products are kept from call to call. That changes no result, and a fork is safe: the list is
//! touched only by whoever holds Python's lock, as `os.fork` does, so that no child finds it locked; and pools are of
//! the process that made them, a child makes its own. Of rayon's global pool nothing is used.
//!
//! That they are the process's is an exception from the house's rule, and only of this package: a method of Python does not
//! get its module, and weights are shared by threads, pickled and made by the hundred, so that neither could hold them.

use std::mem;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use lutmul::{Context, MAX_THREADS, Options, Threads};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{exception, value};

/// How many pools of different sizes are kept: programs have one or two.
const POOLS: usize = 2;

struct Kept {
    process: u32,
    /// The one that was used last comes last.
    pools: Vec<Arc<ThreadPool>>,
    contexts: Vec<Context>,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { process: 0, pools: Vec::new(), contexts: Vec::new() });

/// With what is kept. `f` must not release Python's lock.
fn kept<R>(_: Python<'_>, f: impl FnOnce(&mut Kept) -> R) -> R {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    if mem::replace(&mut kept.process, process) != process {
        // Pools of the parent have no threads here, and their locks may be held for ever.
        mem::forget(mem::take(&mut kept.pools));
    }
    f(&mut kept)
}

impl Kept {
    fn pool(&mut self, count: usize) -> PyResult<Arc<ThreadPool>> {
        let known = self.pools.iter().position(|pool| pool.current_num_threads() == count);
        let pool = match known {
            Some(i) => self.pools.remove(i),
            None => Arc::new(new_pool(count)?),
        };
        self.pools.push(pool.clone());
        if self.pools.len() > POOLS {
            self.pools.remove(0);
        }
        Ok(pool)
    }
}

fn new_pool(count: usize) -> PyResult<ThreadPool> {
    ThreadPoolBuilder::new()
        .num_threads(count)
        .thread_name(|i| format!("lutmul-{i}"))
        // Whatever the calling thread's is.
        .start_handler(|_| lutmul::reset_environment())
        .build()
        .map_err(|error| PyOSError::new_err(format!("threads: {count} cannot be had: {error}")))
}

/// Does work on so many threads; as many as there are CPUs, if none are named.
pub fn run<R: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    work: impl FnOnce() -> lutmul::Result<R> + Send,
) -> PyResult<R> {
    let count = match threads {
        None => available_parallelism().map_or(1, usize::from).min(MAX_THREADS),
        Some(count @ 1..=MAX_THREADS) => count,
        Some(count) => return value(format!("threads: {count} is not within 1…{MAX_THREADS}")),
    };
    let pool = match count {
        1 => None,
        count => Some(kept(py, |kept| kept.pool(count))?),
    };
    let result = py.detach(|| match &pool {
        None => Threads::One.install(work),
        Some(pool) => pool.install(work),
    });
    result.map_err(exception)
}

/// The same, with memory for products.
pub fn multiply(
    py: Python<'_>,
    threads: Option<usize>,
    options: impl FnOnce() -> Options + Send,
    work: impl FnOnce(&mut Context) -> lutmul::Result<()> + Send,
) -> PyResult<()> {
    let mut context = kept(py, |kept| kept.contexts.pop()).unwrap_or_default();
    let result = run(py, threads, || {
        context.options = options();
        if context.options.mode.is_integer() {
            lutmul::check_environment()?;
        }
        work(&mut context)
    });
    kept(py, |kept| kept.contexts.push(context));
    result
}
