//! The list of kernels.

use std::ffi::c_char;

use lutmul::{Kernel, KernelInfo};

use crate::call::call;
use crate::sized::SizedStruct;
use crate::status::*;

/// A kernel: the code for one vector unit.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_kernel {
    /// The sizeof of this struct, set before the call.
    pub size: usize,
    /// Its name, as lutmul_options.kernel takes it.
    pub name: [c_char; 32],
    /// The CPU features that it needs, with commas between; shortened if they don't fit.
    pub needs: [c_char; 120],
    /// Whether this CPU can run it: 1 or 0.
    pub usable: u64,
}

// SAFETY: as the trait asks.
unsafe impl SizedStruct for lutmul_kernel {}

impl lutmul_kernel {
    pub(crate) fn new(info: KernelInfo) -> Self {
        let name = characters(info.name());
        let needs = characters(&info.features().join(", "));
        Self { size: 0, name, needs, usable: info.kernel().is_some().into() }
    }
}

/// A string as an array, shortened to fit with its end.
fn characters<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (to, byte) in array[..N - 1].iter_mut().zip(text.bytes()) {
        *to = byte as c_char;
    }
    array
}

/// Tells of the kernel at an index of the list, which is in order of preference: the first usable one is
/// the default. LUTMUL_RANGE beyond the end of the list.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_kernel_at(
    index: usize,
    kernel: *mut lutmul_kernel,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_kernel_at", |c| {
            let info = KernelInfo::all().nth(index).ok_or_else(|| {
                let why = format!("{index} is not within the {} kernels", KernelInfo::all().len());
                Failure::new(LUTMUL_RANGE, "index", why)
            })?;
            c.write_sized(kernel, lutmul_kernel::new(info), "kernel")
        })
    }
}

/// The kernel of a name, or the default one: what the environment variable LUTMUL_ISA names, or the best.
pub(crate) fn find(name: Option<&str>) -> lutmul::Result<Kernel> {
    match name {
        Some(name) => name.parse(),
        None => Kernel::from_env(),
    }
}
