//! The extension module of the Python package `lutmul`: numpy arrays in and out, without copies.
//!
//! What it does is in the crate `lutmul`; here arguments become slices and errors exceptions. `lutmul/_lutmul.pyi` has the
//! types, `docs/python.md` a page about it.

mod array;
mod checkpoint;
mod error;
mod kernel;
mod lent;
mod threads;
mod weights;

/// What `lutmul/__init__.py` takes from here.
#[pyo3::pymodule]
mod _lutmul {
    #[pymodule_export]
    use crate::checkpoint::{Checkpoint, Linear, Other, open};
    #[pymodule_export]
    use crate::kernel::{KernelInfo, kernels};
    #[pymodule_export]
    use crate::lent::Memory;
    #[pymodule_export]
    use crate::weights::{ErrorReport, Weights, restore};

    use lutmul::{Activation, Format, Kernel, Mode};
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let names = |names: Vec<&'static str>| PyTuple::new(module.py(), names);
        module.add("FORMATS", names(Format::NAMED.iter().map(Format::name).collect())?)?;
        module.add("MODES", names(Mode::ALL.map(Mode::name).to_vec())?)?;
        module.add("ACTIVATIONS", names(Activation::ALL.map(Activation::name).to_vec())?)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        // Detection now, not in the middle of a fork. What is wrong with LUTMUL_ISA is said by products.
        let _ = Kernel::from_env();
        Ok(())
    }
}
