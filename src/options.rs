//! How to multiply: kernel, compute mode, threads.

use std::fmt;
use std::str::FromStr;

use lutmul_kernels::{Kernel, KernelInfo};

use crate::error::{Error, Result};

/// How activations and sums are represented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// x, table entries and sums are f32, with IEEE propagation of NaN and infinity.
    ///
    /// The order of a sum depends only on k, the kernel and the loop shape, and the shape only on m
    /// and the scales: threads and row ranges never change a bit.
    #[default]
    F32,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 1] = [Self::F32];

    /// The name that options, JSON and documents use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| Error::Unknown {
            what: "mode",
            got: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

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
        #[cfg(feature = "rayon")]
        let threads = Threads::Rayon;
        #[cfg(not(feature = "rayon"))]
        let threads = Threads::One;
        Self { kernel, mode: Mode::F32, threads }
    }

    /// The same with other threads.
    pub fn threads(self, threads: Threads) -> Self {
        Self { threads, ..self }
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
    info.kernel().ok_or_else(|| Error::UnsupportedKernel {
        name: name.into(),
        missing: list(&mut info.missing()),
        available: list(&mut Kernel::available().map(Kernel::name)),
    })
}
