//! The threads that work on a product.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use lutmul::{Threads, Workspace};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A pool of threads. One thread has a pool too: libraries that ask rayon how many there are find one.
pub struct Team {
    pool: ThreadPool,
    room: Mutex<Room>,
}

/// Memory for results, and workspace, kept from product to product.
#[derive(Default)]
pub struct Room {
    y: Vec<f32>,
    workspace: Workspace,
}

impl Room {
    /// Room for so many outputs.
    pub fn for_outputs(&mut self, count: usize) -> (&mut [f32], &mut Workspace) {
        if self.y.len() < count {
            // Nothing that could be taken for a result.
            self.y.resize(count, f32::NAN);
        }
        (&mut self.y[..count], &mut self.workspace)
    }

    /// The first outputs.
    pub fn outputs(&self, count: usize) -> &[f32] {
        &self.y[..count]
    }

    /// Bytes of the workspace.
    pub fn workspace_bytes(&self) -> usize {
        self.workspace.bytes()
    }
}

impl Team {
    /// A team of `threads` threads.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.with_context(|| format!("{threads} threads"))?;
        let room = Mutex::new(pool.install(Room::default));
        Ok(Self { pool, room })
    }

    /// The team's room; one product at a time.
    pub fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many they are.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The option that says who works.
    pub fn option(&self) -> Threads {
        if self.threads() > 1 { Threads::Rayon } else { Threads::One }
    }

    /// Runs work within the team.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Runs work on each thread, which is told its number.
    pub fn each(&self, work: impl Fn(usize) + Sync) {
        self.pool.broadcast(|context| work(context.index()));
    }
}
