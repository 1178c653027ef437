//! The kernels of this build, and which of them a product takes.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use lutmul_kernels as kernels;

use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::weights::Weights;

/// The code for one vector unit, which this CPU can run: there is no other way to get one than by detection.
///
/// ```
/// use lutmul::Kernel;
///
/// println!("best: {}", Kernel::best());
/// let scalar: Kernel = "scalar".parse()?; // runs everywhere
/// assert!(Kernel::available().any(|kernel| kernel == scalar));
/// # Ok::<(), lutmul::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(kernels::Kernel);

impl Kernel {
    /// The kernels that this CPU can run, best first, scalar last.
    pub fn available() -> impl Iterator<Item = Self> + Clone {
        kernels::Kernel::available().map(Self)
    }

    /// The best kernel for this CPU.
    pub fn best() -> Self {
        Self(kernels::Kernel::best())
    }

    /// The kernel of products that are not told which: the one that the environment variable `LUTMUL_ISA` named
    /// when it was first asked for, else the best.
    ///
    /// # Errors
    /// As of a name that is parsed.
    pub fn from_env() -> Result<Self> {
        /// The kernel, or the name that stands for none.
        static CHOSEN: OnceLock<Result<Kernel, String>> = OnceLock::new();
        let choose = || match std::env::var_os("LUTMUL_ISA") {
            None => Ok(Self::best()),
            Some(name) => {
                let name = name.to_string_lossy().into_owned();
                name.parse().map_err(|_: Error| name)
            }
        };
        // What a name lacks is found out anew: errors can't be copied.
        CHOSEN.get_or_init(choose).as_ref().copied().or_else(|name| name.parse())
    }

    /// Its name, as `LUTMUL_ISA` takes it.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What is known of it.
    pub fn info(self) -> KernelInfo {
        KernelInfo(self.0.info())
    }

    /// What multiplies.
    pub(crate) fn inner(self) -> kernels::Kernel {
        self.0
    }
}

impl FromStr for Kernel {
    type Err = Error;

    /// The kernel of a name.
    ///
    /// # Errors
    /// [`Error::Unknown`] if this build has none, [`Error::UnsupportedKernel`] if the CPU can't run it,
    /// [`Error::RefusedKernel`] if the system does not let it.
    fn from_str(name: &str) -> Result<Self> {
        let list =
            |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(", ");
        let unknown = || Error::Unknown {
            what: "kernel",
            got: name.into(),
            known: list(&mut KernelInfo::all().map(KernelInfo::name)),
        };
        let info = KernelInfo::all().find(|info| info.name() == name).ok_or_else(unknown)?;
        info.kernel().ok_or_else(|| {
            let available = list(&mut Self::available().map(Self::name));
            match info.refusal() {
                Some(why) => Error::RefusedKernel { name: name.into(), why, available },
                None => {
                    let missing = list(&mut info.missing());
                    Error::UnsupportedKernel { name: name.into(), missing, available }
                }
            }
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.name())
    }
}

/// What is known of a kernel, whether or not it can run here.
///
/// ```
/// use lutmul::KernelInfo;
///
/// for info in KernelInfo::all() {
///     let missing: Vec<_> = info.missing().collect();
///     println!("{}: needs {:?}, of which there lack {missing:?}", info.name(), info.features());
/// }
/// ```
#[derive(Clone, Copy)]
pub struct KernelInfo(kernels::KernelInfo);

impl KernelInfo {
    /// All kernels of this build, best first, scalar last.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        kernels::KernelInfo::all().map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The CPU features it needs, as Rust names them.
    pub fn features(self) -> Vec<&'static str> {
        self.0.features()
    }

    /// Those of them that this CPU lacks.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        self.0.missing()
    }

    /// Why the system does not let this process use the kernel, though the CPU has its features.
    pub fn refusal(self) -> Option<&'static str> {
        self.0.refusal()
    }

    /// The kernel itself, if this CPU can run it and the system lets it.
    pub fn kernel(self) -> Option<Kernel> {
        self.0.kernel().map(Kernel)
    }

    /// How it decodes these weights in mode F32: the name of a lookup or of a closed form.
    pub fn decoder(self, w: &Weights<'_>) -> &'static str {
        self.0.decoder(&w.float(0..0, Mode::F32))
    }
}

impl fmt::Debug for KernelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelInfo({})", self.name())
    }
}
