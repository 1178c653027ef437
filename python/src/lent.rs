//! Memory that lutmul and Python share, both ways.
#![expect(
    unsafe_code,
    reason = "numpy lends memory for as long as Python's lock is held, not for as long as weights live"
)]

use std::sync::Arc;

use lutmul::checkpoint::Floats;
use lutmul::{Bytes, Granularity, Weights};
use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::{check_layout, untyped};
use crate::error::value;

/// The bytes of an array of numpy's, which is kept alive.
struct Lent {
    /// Never read: what `first` points into.
    _array: Py<PyArrayDyn<u8>>,
    first: *const u8,
    len: usize,
}

// SAFETY: the bytes belong to `_array`, which may be dropped on any thread (pyo3 waits for Python's lock then).
unsafe impl Send for Lent {}
// SAFETY: as above; they are only read.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `bytes` took both from a C-contiguous array of as many bytes, which is kept alive, and which
        // numpy does not move while others refer to it. That nobody writes them meanwhile is what its user promises
        // (`Weights.from_parts`); any byte is a valid code.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }
}

/// The bytes of an array `[rows, cols]` of uint8, where they lie.
pub fn bytes(what: &str, object: &Bound<'_, PyAny>) -> PyResult<(Bytes<'static>, (usize, usize))> {
    let array = untyped(what, object)?;
    let Ok(typed) = object.cast::<PyArrayDyn<u8>>() else {
        let got = array.dtype();
        let why =
            format!("{what}: elements are {got}, not uint8; view(numpy.uint8) takes other bytes");
        return Err(PyTypeError::new_err(why));
    };
    check_layout(what, array)?;
    let shape = crate::array::matrix(what, array.shape())?;
    let len = array.len();
    if len == 0 {
        return Ok((Vec::new().into(), shape));
    }
    let lent = Lent { _array: typed.clone().unbind(), first: typed.data(), len };
    match Bytes::shared(Arc::new(lent), 0..len) {
        Some(bytes) => Ok((bytes, shape)),
        None => value(format!("{what}: is shorter than its shape")),
    }
}

/// Memory of lutmul's that numpy reads where it lies, by `__array_interface__`.
#[pyclass(frozen, module = "lutmul")]
pub struct Memory(Part);

/// Whose memory it is.
pub enum Part {
    Codes(Arc<Weights<'static>>),
    Signs(Arc<Weights<'static>>),
    Table(Arc<Weights<'static>>),
    Scales(Arc<Weights<'static>>),
    /// Of a file.
    Bytes(Bytes<'static>),
    /// Of a matrix of floats in a file.
    Floats(Floats),
}

impl Part {
    /// Address and shape of its elements, and their type as numpy calls it.
    fn describe(&self) -> (usize, Vec<usize>, &'static str) {
        let address = |bytes: &[u8]| bytes.as_ptr() as usize;
        match self {
            Self::Codes(w) => (address(w.codes()), vec![w.n(), w.k()], "|u1"),
            Self::Signs(w) => {
                let signs = w.signs().unwrap_or_default();
                (address(signs), vec![w.n(), lutmul::sign_stride(w.k())], "|u1")
            }
            Self::Table(w) => (w.lut().values().as_ptr() as usize, vec![256], FLOAT),
            Self::Scales(w) => {
                let (granularity, shape) = (w.scales().granularity(), (w.n(), w.k()));
                let (rows, cols) = granularity.grid(shape);
                let shape = match granularity {
                    Granularity::Tensor => vec![],
                    Granularity::Row => vec![rows * cols],
                    _ => vec![rows, cols],
                };
                (w.scales().values().as_ptr() as usize, shape, FLOAT)
            }
            Self::Bytes(bytes) => (address(bytes), vec![bytes.len()], "|u1"),
            Self::Floats(floats) => (address(floats.bytes()), vec![floats.bytes().len()], "|u1"),
        }
    }

    /// An array that keeps it alive.
    pub fn into_array(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let numpy = py.import("numpy")?;
        let (_, shape, typestr) = self.describe();
        if shape.contains(&0) {
            return numpy.call_method1("zeros", (shape, typestr));
        }
        numpy.call_method1("asarray", (Bound::new(py, Memory(self))?,))
    }
}

/// f32 as this machine has it.
const FLOAT: &str = if cfg!(target_endian = "big") { ">f4" } else { "<f4" };

#[pymethods]
impl Memory {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (address, shape, typestr) = self.0.describe();
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("shape", pyo3::types::PyTuple::new(py, shape)?)?;
        interface.set_item("typestr", typestr)?;
        interface.set_item("data", (address, true))?;
        Ok(interface)
    }
}
