//! The threads that work on a product.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use lutmul::{Threads, Workspace};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Some threads: the calling one alone, or a pool.
pub struct Team {
    threads: usize,
    pool: Option<ThreadPool>,
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
            self.y.resize(count, 0.0);
        }
        (&mut self.y[..count], &mut self.workspace)
    }
}

impl Team {
    /// A team of `threads` threads.
    pub fn new(threads: usize) -> Result<Self> {
        let builder = || ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = (threads > 1).then(builder).transpose();
        let pool = pool.with_context(|| format!("{threads} threads"))?;
        let room = match &pool {
            Some(pool) => pool.install(Room::default),
            None => Room::default(),
        };
        Ok(Self { threads, pool, room: Mutex::new(room) })
    }

    /// The team's room; one product at a time.
    pub fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many they are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The option that says who works.
    pub fn option(&self) -> Threads {
        if self.pool.is_some() { Threads::Rayon } else { Threads::One }
    }

    /// Runs work within the team.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs work on each thread, which is told its number.
    pub fn each(&self, work: impl Fn(usize) + Sync) {
        match &self.pool {
            Some(pool) => {
                pool.broadcast(|context| work(context.index()));
            }
            None => work(0),
        }
    }
}
