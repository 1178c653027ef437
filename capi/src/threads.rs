//! Threads of a workspace: a rayon pool, and a way into it that allocates nothing.
//!
//! `ThreadPool::install` queues a job, and the queue grows by a block every 63 jobs. So one of the threads
//! waits here for work, and what it is handed runs within the pool.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// What is handed over.
type Work = dyn FnMut() + Send;

/// Threads that wait for work, until they are dropped.
pub struct Threads {
    /// `None` while it is dropped.
    pool: Option<ThreadPool>,
    handles: Vec<JoinHandle<()>>,
    desk: Arc<Desk>,
    /// Held by the one who has work done.
    turn: Mutex<()>,
    /// The process that they are threads of.
    process: u32,
}

/// Where work is handed over.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Work(&'static mut Work),
    Busy,
    Done(thread::Result<()>),
    Stop,
}

impl Threads {
    /// That many threads, with a floating-point environment of Rust's, whatever this thread's is.
    pub fn new(count: usize) -> Result<Self, ThreadPoolBuildError> {
        let mut handles = Vec::new();
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .spawn_handler(|worker| {
                let thread = thread::Builder::new().name(format!("lutmul-{}", worker.index()));
                handles.push(thread.spawn(|| {
                    lutmul::reset_environment();
                    worker.run();
                })?);
                Ok(())
            })
            .build()?;
        // What threads allocate when they start is not left for the first products to.
        pool.broadcast(|_| ());
        let desk = Arc::<Desk>::default();
        let served = desk.clone();
        pool.spawn(move || served.serve());
        Ok(Self { pool: Some(pool), handles, desk, turn: Mutex::default(), process: process::id() })
    }

    /// Whether this process has them. After a fork the child does not: of all threads it has the one that forked.
    pub fn are_here(&self) -> bool {
        self.process == process::id()
    }

    /// Runs `work` in the pool, and waits for it: for ever, where its threads [are not](Threads::are_here).
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut work, mut result) = (Some(work), None);
        let mut call = || result = work.take().map(|work| work());
        let call: &mut (dyn FnMut() + Send) = &mut call;
        // SAFETY: only the lifetime is another. The reference is used by `serve` alone, which is done with it
        // when the state is `Done`; this function does not return before, nor does anything in it unwind, and
        // nobody else changes the state meanwhile (`turn`).
        let call = unsafe { std::mem::transmute::<&mut _, &'static mut Work>(call) };
        self.desk.put(State::Work(call));
        let done = self.desk.take(|state| matches!(state, State::Done(_)));
        self.desk.put(State::Idle);
        if let State::Done(Err(panic)) = done {
            resume_unwind(panic);
        }
        result.expect("the work was done")
    }
}

impl Drop for Threads {
    /// Waits for the threads: whoever unloads the library next must not do so under their feet.
    fn drop(&mut self) {
        if !self.are_here() {
            // There is nobody to wait for, and what they were in the middle of stays so.
            mem::forget((self.pool.take(), mem::take(&mut self.handles)));
            return;
        }
        self.desk.put(State::Stop);
        self.pool = None;
        for handle in self.handles.drain(..) {
            // A panic of a thread's is that of the work it did, and was told of then.
            let _ = handle.join();
        }
    }
}

impl Desk {
    /// What one thread of the pool does: work, until it is to stop.
    fn serve(&self) {
        loop {
            match self.take(|state| matches!(state, State::Work(_) | State::Stop)) {
                State::Work(work) => {
                    let result = catch_unwind(AssertUnwindSafe(work));
                    self.put(State::Done(result));
                }
                _ => return,
            }
        }
    }

    fn put(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    /// Waits for a state, and takes it.
    fn take(&self, wanted: impl Fn(&State) -> bool) -> State {
        let mut state = self.lock();
        while !wanted(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::replace(&mut state, State::Busy)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_in_the_pool_and_panics_come_back() {
        let threads = Threads::new(3).expect("threads");
        for i in 0..200 {
            let (a, b) = threads.run(|| rayon::join(|| i + 1, rayon::current_num_threads));
            assert_eq!((a, b), (i + 1, 3));
        }
        let run =
            || threads.run(|| if threads.desk.state.is_poisoned() { 0 } else { panic!("so") });
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert_eq!(threads.run(|| 7), 7);
    }
}
