//! How to multiply: kernel, compute mode, threads.

use std::cell::Cell;

use lutmul_kernels::{Kernel, KernelInfo};

use crate::error::{Error, Result};
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

/// How to multiply.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The kernel.
    pub kernel: Kernel,
    /// The compute mode.
    pub mode: Mode,
    /// The threads.
    pub threads: Threads,
}

thread_local! {
    /// Whether the work at hand is this thread's alone.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

impl Threads {
    /// Runs `work`, in which these threads do what lutmul would else hand to rayon's current pool: encoding,
    /// decoding, reports and scans, and products with the [`Options`] made there.
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
    /// F32 with the best kernel of this CPU, or the one that the environment variable `LUTMUL_ISA`
    /// names, on rayon's current pool (without that feature: on the calling thread).
    ///
    /// # Errors
    /// `LUTMUL_ISA` names no kernel, or one that this CPU can't run.
    pub fn new() -> Result<Self> {
        let kernel = match std::env::var_os("LUTMUL_ISA") {
            None => Kernel::best(),
            Some(name) => kernel(&name.to_string_lossy())?,
        };
        Ok(Self::with_kernel(kernel))
    }

    /// F32 with a kernel of the caller's choice, threads as in [`Options::new`].
    pub fn with_kernel(kernel: Kernel) -> Self {
        Self { kernel, mode: Mode::F32, threads: Threads::current() }
    }

    /// The same in another mode.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The same with other threads.
    pub fn threads(self, threads: Threads) -> Self {
        Self { threads, ..self }
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

/// The kernel of that name.
///
/// # Errors
/// There is none in this build, or this CPU can't run it.
pub fn kernel(name: &str) -> Result<Kernel> {
    let list = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(", ");
    let info =
        KernelInfo::all().find(|info| info.name() == name).ok_or_else(|| Error::Unknown {
            what: "kernel",
            got: name.into(),
            known: list(&mut KernelInfo::all().map(KernelInfo::name)),
        })?;
    info.kernel().ok_or_else(|| {
        let available = list(&mut Kernel::available().map(Kernel::name));
        match info.refusal() {
            Some(why) => Error::RefusedKernel { name: name.into(), why, available },
            None => {
                let missing = list(&mut info.missing());
                Error::UnsupportedKernel { name: name.into(), missing, available }
            }
        }
    })
}
