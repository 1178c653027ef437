//! How to multiply: kernel, compute mode, threads.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use lutmul_kernels::{Kernel, KernelInfo};

use crate::error::{Error, Result};

/// How activations and sums are represented.
///
/// In all modes but F32 the sum is exact: activations are integers, the table is its fixed-point
/// [image](crate::Lut::image), and the one rounding at the end is stated in the
/// [crate's documentation](crate). So results have the same bits on every CPU, at every thread count and
/// batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// x, table entries and sums are f32, with IEEE propagation of NaN and infinity.
    ///
    /// The order of a sum depends only on k, the kernel and the loop shape, and the shape only on m
    /// and the scales: threads and row ranges never change a bit.
    #[default]
    F32,
    /// Activations of 24 bits (±8,290,687), one scale a token: as exact as f32.
    A24,
    /// Activations of 16 bits (±32,512), one scale a token.
    A16,
    /// Activations of 8 bits (±127), a scale for each 32 of k: the token's scale times an integer in
    /// 1…255.
    A8,
    /// Activations of 8 bits (±127), one scale a token.
    A8T,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 5] = [Self::F32, Self::A24, Self::A16, Self::A8, Self::A8T];

    /// The name that options, JSON and documents use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::A24 => "a24",
            Self::A16 => "a16",
            Self::A8 => "a8",
            Self::A8T => "a8t",
        }
    }

    /// Whether sums are exact integers.
    pub fn is_integer(self) -> bool {
        self != Self::F32
    }

    /// Base-255 digits of an activation.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::A8T => 1,
            // A8's digit times its multiplier is at most 127 · 255.
            Self::A8 | Self::A16 => 2,
            Self::A24 => 3,
        }
    }

    /// The most columns that a sum of integers holds, with an image of that many bytes. In i64 there is room
    /// for 2²⁴ products of 24-bit activations and two-byte magnitudes, or of 16 bits and three bytes:
    /// 32,512 · (2²⁴ − 1) · 2²⁴ < 2⁶³. And for 2¹⁶ of 24 bits and three bytes: 8,290,687 · (2²⁴ − 1) · 2¹⁶.
    pub(crate) fn max_k(self, image_bytes: usize) -> usize {
        if self == Self::A24 && image_bytes > 2 { 1 << 16 } else { 1 << 24 }
    }

    /// What no sum of so many columns, with magnitudes of so many bytes, is beyond.
    pub(crate) fn largest_sum(self, bytes: usize, columns: usize) -> u128 {
        self.limit() as u128 * (1 << (8 * bytes)) * columns as u128
    }

    /// The integer that a token's largest magnitude becomes.
    pub(crate) fn limit(self) -> i32 {
        match self {
            Self::F32 => 0,
            Self::A8T => 127,
            Self::A8 => 127 * 255,
            Self::A16 => 32_512,
            Self::A24 => 8_290_687,
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
