//! How to multiply: kernel, compute mode, threads.

use std::cell::Cell;

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::mode::Mode;

/// Who works on a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threads {
    /// The calling thread alone.
    One,
    /// rayon's current pool: the global one, or the one that the call is `install`ed in.
    #[cfg(feature = "rayon")]
    Rayon,
}

/// How to multiply: which kernel, which mode, whose threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How activations and sums are represented.
    pub mode: Mode,
    /// Who works on a product.
    pub threads: Threads,
    /// The kernel, if it was chosen by hand.
    kernel: Option<Kernel>,
}

thread_local! {
    /// Whether the work at hand is this thread's alone.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

impl Threads {
    /// Runs `work`, in which these threads do what lutmul would else hand to rayon's current pool: encoding,
    /// decoding, reports and scans, and products with the [`Options`] and contexts made there.
    ///
    /// ```
    /// use lutmul::{Format, Granularity, Threads, Weights};
    ///
    /// // No other thread is asked, and rayon's global pool is not even made.
    /// let encode = || Weights::encode(&[0.5f32; 64], (1, 64), &Format::E4m3, Granularity::Row);
    /// let weights = Threads::One.install(encode)?;
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    pub fn install<R>(self, work: impl FnOnce() -> R) -> R {
        /// Puts back what was there, also after a panic.
        struct Before(bool);
        impl Drop for Before {
            fn drop(&mut self) {
                ALONE.set(self.0);
            }
        }
        let _before = Before(ALONE.replace(self == Self::One));
        work()
    }

    /// The threads that the work at hand is for.
    pub(crate) fn current() -> Self {
        #[cfg(feature = "rayon")]
        if !ALONE.get() {
            return Self::Rayon;
        }
        Self::One
    }
}

impl Options {
    /// F32 with the kernel of [`Kernel::from_env`], on rayon's current pool (without that feature, and within
    /// [`Threads::install`] of one thread: on the calling thread).
    pub fn new() -> Self {
        Self { mode: Mode::F32, threads: Threads::current(), kernel: None }
    }

    /// The same with a kernel of the caller's choice.
    pub fn with_kernel(self, kernel: Kernel) -> Self {
        Self { kernel: Some(kernel), ..self }
    }

    /// The same in another mode.
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same with other threads.
    pub fn with_threads(self, threads: Threads) -> Self {
        Self { threads, ..self }
    }

    /// The kernel that products take.
    ///
    /// # Errors
    /// None was chosen, and `LUTMUL_ISA` names none, or one that can't run here.
    pub fn kernel(&self) -> Result<Kernel> {
        self.kernel.map_or_else(Kernel::from_env, Ok)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// Refuses a thread whose rounding mode is not to nearest, or that flushes subnormal numbers to zero.
///
/// That they are at their defaults is a precondition of Rust itself, so a Rust program need not ask. Threads
/// that belong to other languages may have been set up otherwise.
///
/// # Errors
/// [`Error::Environment`]. On CPUs other than x86-64 and aarch64 nothing is found.
pub fn check_environment() -> Result<()> {
    match lutmul_kernels::environment() {
        Some(why) => Err(Error::Environment { why }),
        None => Ok(()),
    }
}
