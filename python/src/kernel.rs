//! The kernels of this build.

use pyo3::prelude::*;

/// What is known of a kernel, the code for one vector unit.
#[pyclass(frozen, get_all, module = "lutmul")]
pub struct KernelInfo {
    /// Its name, as `kernel=` and the environment variable LUTMUL_ISA take it.
    name: &'static str,
    /// The CPU features that it needs.
    features: Vec<&'static str>,
    /// Those of them that this CPU lacks.
    missing: Vec<&'static str>,
    /// Whether it can run here.
    usable: bool,
}

#[pymethods]
impl KernelInfo {
    fn __repr__(&self) -> String {
        let state = match &self.missing[..] {
            _ if self.usable => "usable".into(),
            [] => "refused by the system".into(),
            missing => format!("this CPU lacks {}", missing.join(", ")),
        };
        format!("KernelInfo({}: {state})", self.name)
    }
}

/// All kernels of this build, best first. Products take the first that is usable, if they are not told otherwise.
#[pyfunction]
pub fn kernels() -> Vec<KernelInfo> {
    let of = |info: lutmul::KernelInfo| KernelInfo {
        name: info.name(),
        features: info.features(),
        missing: info.missing().collect(),
        usable: info.kernel().is_some(),
    };
    lutmul::KernelInfo::all().map(of).collect()
}
