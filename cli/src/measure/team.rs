//! The threads that work on a product.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use lutmul::{Context, MAX_THREADS, Threads};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::bench::too_many_threads;

/// A pool of threads. One thread has a pool too: libraries that ask rayon how many there are find one.
pub struct Team {
    pool: ThreadPool,
    /// `None` while somebody uses it.
    room: Mutex<Option<Room>>,
}

/// Memory for results, and a context, kept from product to product.
#[derive(Default)]
pub struct Room {
    y: Vec<f32>,
    context: Context,
}

impl Room {
    /// Room for so many outputs.
    pub fn for_outputs(&mut self, count: usize) -> (&mut [f32], &mut Context) {
        if self.y.len() < count {
            // Nothing that could be taken for a result.
            self.y.resize(count, f32::NAN);
        }
        (&mut self.y[..count], &mut self.context)
    }

    /// The first outputs.
    pub fn outputs(&self, count: usize) -> &[f32] {
        &self.y[..count]
    }

    /// Bytes of the context.
    pub fn context_bytes(&self) -> usize {
        self.context.bytes()
    }
}

impl Team {
    /// A team of `threads` threads.
    pub fn new(threads: usize) -> Result<Self> {
        ensure!(threads <= MAX_THREADS, too_many_threads(threads));
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.with_context(|| format!("{threads} threads"))?;
        let room = Mutex::new(Some(pool.install(Room::default)));
        Ok(Self { pool, room })
    }

    /// Does something in the team's room; where it is in use, in a new one. Nothing is locked meanwhile: a thread
    /// that waits for others takes up other work, which may want the room too.
    pub fn in_room<R>(&self, work: impl FnOnce(&mut Room) -> R) -> R {
        let taken = self.lock().take();
        let mut room = taken.unwrap_or_else(|| self.run(Room::default));
        let result = work(&mut room);
        *self.lock() = Some(room);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Option<Room>> {
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
