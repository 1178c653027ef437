//! Memory that products need, kept from call to call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::activations::Activations;
use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::needs::Needs;
use crate::options::Threads;

/// What one thread needs: up to 200 KiB for many tokens (a decoded panel of 48 × 512 weights, and
/// the sums of 48 rows × 512 tokens), 2 KiB for few. In integer modes up to 950 KiB
/// (1.3 MiB with images of three bytes), and 4 KiB for each group of columns. Allocated by the first product.
#[derive(Debug, Default)]
pub struct Scratch(Aligned);

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Has memory for products that need no more than that, so that they allocate nothing.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&mut self, needs: Needs) -> Result<()> {
        let (what, bytes) = ("scratch", needs.scratch());
        if self.0.reserve(needs.scratch) { Ok(()) } else { Err(Error::Memory { what, bytes }) }
    }

    /// Room for so many floats.
    pub(crate) fn take(&mut self, len: usize) -> &mut [f32] {
        self.0.take(len)
    }
}

/// A [`Scratch`] for every thread that may work on a product.
#[derive(Debug)]
pub struct Pool(Vec<Mutex<Scratch>>);

impl Pool {
    fn new() -> Self {
        let threads = match Threads::current() {
            Threads::One => 1,
            #[cfg(feature = "rayon")]
            Threads::Rayon => rayon::current_num_threads(),
        };
        Self((0..threads).map(|_| Mutex::default()).collect())
    }

    /// Has memory for products that need no more than that, on any of the threads.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&self, needs: Needs) -> Result<()> {
        self.0.iter().try_for_each(|scratch| lock(scratch).reserve(needs))
    }

    /// Lends a thread's scratch. Threads beyond those known when the pool was made share some.
    pub(crate) fn with(&self, thread: usize, work: impl FnOnce(&mut Scratch)) {
        work(&mut lock(&self.0[thread % self.0.len()]));
    }
}

fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    // What a panic leaves behind is only scratch.
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that products need, kept from call to call: packed activations ([`Activations`]) and a
/// [`Scratch`] for each thread. Weights are never copied into it.
///
/// Made for the number of threads of rayon's current pool; another pool can use it, but threads
/// beyond that number wait for each other.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) activations: Activations,
    pub(crate) scratch: Pool,
}

impl Workspace {
    /// An empty one; the first product allocates.
    pub fn new() -> Self {
        Self { activations: Activations::new(), scratch: Pool::new() }
    }

    /// The part that [`matmul_packed`](crate::matmul_packed) needs.
    pub fn scratch(&self) -> &Pool {
        &self.scratch
    }

    /// Has memory for products that need no more than that: they allocate nothing.
    ///
    /// ```
    /// use lutmul::{Format, Granularity, Needs, Options, Weights, Workspace};
    ///
    /// let w = Weights::encode(&[0.5f32; 64], (1, 64), &Format::E4m3, Granularity::Row)?;
    /// let (options, mut workspace) = (Options::new()?, Workspace::new());
    /// workspace.reserve(Needs::up_to(&w, 16, &options)?)?; // products of 1 to 16 tokens
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&mut self, needs: Needs) -> Result<()> {
        self.activations.reserve(needs)?;
        self.scratch.reserve(needs)
    }

    /// Bytes held at this moment.
    pub fn bytes(&self) -> usize {
        let scratch = self.scratch.0.iter().map(|scratch| lock(scratch).bytes());
        self.activations.bytes() + scratch.sum::<usize>()
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}
