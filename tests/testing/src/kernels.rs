//! Which kernels the tests run.

use lutmul_kernels::{Kernel, KernelInfo};

/// [`instructions`], as the library's handles.
pub fn kernels() -> impl Iterator<Item = lutmul::Kernel> + Clone {
    instructions().map(|kernel| kernel.name().parse().expect("it can run"))
}

/// Every kernel that this CPU can run; or those that `LUTMUL_KERNELS=name,name` names, for emulators, where the
/// scalar ones would take most of the time. One that can't run is a failure.
pub fn instructions() -> impl Iterator<Item = Kernel> + Clone {
    let named = std::env::var("LUTMUL_KERNELS").unwrap_or_default();
    let kernels: Vec<Kernel> = match named.as_str() {
        "" => Kernel::available().collect(),
        names => names.split(',').map(kernel).collect(),
    };
    kernels.into_iter()
}

fn kernel(name: &str) -> Kernel {
    let info = KernelInfo::all().find(|info| info.name() == name);
    let info = info.unwrap_or_else(|| panic!("LUTMUL_KERNELS: there is no kernel {name:?}"));
    info.kernel().unwrap_or_else(|| {
        let missing: Vec<_> = info.missing().collect();
        panic!("LUTMUL_KERNELS: {name} can't run here: this CPU lacks {}", missing.join(", "))
    })
}

/// Whether the tests are to run a kernel, if the CPU has its features.
pub fn wanted(name: &str) -> bool {
    std::env::var("LUTMUL_KERNELS")
        .map_or(true, |names| names.is_empty() || names.split(',').any(|n| n == name))
}
