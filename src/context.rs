//! How to multiply, and the memory that is kept for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::activations::Activations;
use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::mode::Mode;
use crate::needs::Needs;
use crate::options::{Options, Threads};

/// How products are computed ([`Options`]), and memory that they share, kept from call to call.
///
/// Made once, and used for all products of a thread: the first of a size allocates, later ones don't. Weights
/// are never copied into it. A thread takes up to 200 KiB for many tokens in mode F32 (a decoded panel of 48 × 512
/// weights, and the sums of 48 rows × 512 tokens), 2 KiB for few; in integer modes up to 950 KiB (1.3 MiB with images
/// of three bytes), and 4 KiB for each group of columns. Packed x is beside that: see [`Activations`].
///
/// ```
/// use lutmul::{Context, Mode, Threads};
///
/// let all_cores = Context::new(); // F32, the best kernel of this CPU
/// let exact = Context::new().with_mode(Mode::A16).with_threads(Threads::One);
/// # _ = (all_cores, exact);
/// ```
#[derive(Debug, Default)]
pub struct Context {
    /// How to multiply. May be changed at any time.
    pub options: Options,
    pub(crate) activations: Activations,
    pub(crate) pool: Pool,
}

impl Context {
    /// [`Options::new`], and no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another kernel.
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        Self { options: self.options.with_kernel(kernel), ..self }
    }

    /// The same in another mode.
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { options: self.options.with_mode(mode), ..self }
    }

    /// The same with other threads.
    pub fn with_threads(self, threads: Threads) -> Self {
        Self { options: self.options.with_threads(threads), ..self }
    }

    /// Has memory for products that need no more than that: they allocate nothing.
    ///
    /// With [`Threads::Rayon`], for as many threads as the pool has in which this is called.
    ///
    /// ```
    /// use lutmul::{Context, Format, Granularity, Needs, Weights};
    ///
    /// let w = Weights::encode(&[0.5f32; 64], (1, 64), &Format::E4m3, Granularity::Row)?;
    /// let mut context = Context::new();
    /// context.reserve(Needs::up_to(&w, 16, &context.options)?)?; // products of 1 to 16 tokens
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&mut self, needs: Needs) -> Result<()> {
        self.activations.reserve(needs)?;
        self.pool.reserve(needs, self.options.threads)
    }

    /// Bytes held at this moment.
    pub fn bytes(&self) -> usize {
        self.activations.bytes() + self.pool.bytes()
    }
}

impl From<Options> for Context {
    fn from(options: Options) -> Self {
        Self { options, ..Self::default() }
    }
}

/// Scratch for every thread that may work on a product.
#[derive(Debug, Default)]
pub(crate) struct Pool(Vec<Mutex<Aligned>>);

impl Pool {
    /// For as many threads as there are now.
    pub fn of(&mut self, threads: Threads) -> &Self {
        let count = match threads {
            Threads::One => 1,
            #[cfg(feature = "rayon")]
            Threads::Rayon => rayon::current_num_threads(),
        };
        if self.0.len() < count {
            self.0.resize_with(count, Mutex::default);
        }
        self
    }

    fn reserve(&mut self, needs: Needs, threads: Threads) -> Result<()> {
        let (what, bytes) = ("scratch", needs.scratch());
        let enough = |scratch| lock(scratch).reserve(needs.scratch);
        if self.of(threads).0.iter().all(enough) {
            return Ok(());
        }
        Err(Error::Memory { what, bytes })
    }

    /// Lends a thread so many floats.
    pub fn with(&self, thread: usize, len: usize, work: impl FnOnce(&mut [f32])) {
        work(lock(&self.0[thread]).take(len));
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|scratch| lock(scratch).bytes()).sum()
    }
}

fn lock(scratch: &Mutex<Aligned>) -> MutexGuard<'_, Aligned> {
    // What a panic leaves behind is only scratch.
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}
