//! Arrays of numpy as slices: floats of three types, bf16 by ml_dtypes or as bits in uint16.

use std::borrow::Cow;

use half::{bf16, f16};
use numpy::{
    BorrowError, Element, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn,
    PyReadwriteArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::value;

/// The type of elements.
#[derive(Clone, Copy, PartialEq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    pub fn parse(name: &str) -> PyResult<Self> {
        match name {
            "f32" | "float32" => Ok(Self::F32),
            "f16" | "float16" => Ok(Self::F16),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            _ => value(format!("dtype: {name:?} is none of \"f32\", \"f16\", \"bf16\"")),
        }
    }
}

/// What an array holds: a type, and whether as bits in uint16.
#[derive(Clone, Copy)]
pub struct Kind {
    dtype: Dtype,
    bits: bool,
}

/// An array of floats to read, C-contiguous and aligned.
pub enum Floats<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    Bf16(PyReadonlyArrayDyn<'py, bf16>),
    Bits(PyReadonlyArrayDyn<'py, u16>, Dtype),
}

/// Its elements.
#[derive(Clone, Copy)]
pub enum View<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

/// An array of floats to write.
pub enum FloatsMut<'py> {
    F32(PyReadwriteArrayDyn<'py, f32>),
    F16(PyReadwriteArrayDyn<'py, f16>),
    Bf16(PyReadwriteArrayDyn<'py, bf16>),
    Bits(PyReadwriteArrayDyn<'py, u16>, Dtype),
}

/// Its elements.
pub enum ViewMut<'a> {
    F32(&'a mut [f32]),
    F16(&'a mut [f16]),
    Bf16(&'a mut [bf16]),
}

/// An object that must be an array of numpy's.
pub fn untyped<'a, 'py>(
    what: &str,
    object: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    object.cast::<PyUntypedArray>().map_err(|_| {
        let got = object.get_type();
        PyTypeError::new_err(format!("{what}: expected a numpy array, got {got}"))
    })
}

/// An array whose elements follow each other, row by row, where they can be read.
pub fn check_layout(what: &str, array: &Bound<'_, PyUntypedArray>) -> PyResult<()> {
    if !array.is_c_contiguous() {
        return value(format!(
            "{what}: is not C-contiguous; numpy.ascontiguousarray makes a copy that is"
        ));
    }
    if array.is_empty() || array.is_aligned() {
        return Ok(());
    }
    value(format!("{what}: its elements are not aligned; a copy of it is"))
}

/// Which floats an array holds; `dtype` says what uint16 stands for.
fn kind(what: &str, array: &Bound<'_, PyUntypedArray>, dtype: Option<Dtype>) -> PyResult<Kind> {
    let descr = array.dtype();
    let wrong = |why: &str| {
        let text = format!("{what}: elements are {descr}{why}");
        Err(PyTypeError::new_err(text))
    };
    if descr.is_native_byteorder() == Some(false) {
        return wrong(
            " in foreign byte order; astype(dtype.newbyteorder(\"=\")) makes a copy that is native",
        );
    }
    let (found, bits) = match (descr.kind(), descr.itemsize()) {
        (b'f', 4) => (Dtype::F32, false),
        (b'f', 2) => (Dtype::F16, false),
        (b'u', 2) => match dtype {
            Some(dtype @ (Dtype::F16 | Dtype::Bf16)) => (dtype, true),
            _ => return wrong("; say dtype=\"bf16\" or dtype=\"f16\" if they are such bits"),
        },
        (_, 2) if descr.typeobj().name()? == "bfloat16" => (Dtype::Bf16, false),
        _ => {
            return wrong(
                ", not float32, float16 or bfloat16 (of ml_dtypes, or as uint16 with dtype=\"bf16\")",
            );
        }
    };
    if let Some(dtype) = dtype
        && dtype != found
    {
        return wrong(", which is not what dtype says");
    }
    Ok(Kind { dtype: found, bits })
}

fn borrowed(what: &str, error: BorrowError) -> PyErr {
    PyValueError::new_err(match error {
        BorrowError::NotWriteable => format!("{what}: is read-only"),
        _ => format!("{what}: shares memory with another argument, or another call is writing it"),
    })
}

impl<'py> Floats<'py> {
    pub fn new(what: &str, object: &Bound<'py, PyAny>, dtype: Option<Dtype>) -> PyResult<Self> {
        fn of<'py, T: Element>(
            what: &str,
            object: &Bound<'py, PyAny>,
        ) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
            object.cast::<PyArrayDyn<T>>()?.try_readonly().map_err(|e| borrowed(what, e))
        }
        let array = untyped(what, object)?;
        let Kind { dtype, bits } = kind(what, array, dtype)?;
        check_layout(what, array)?;
        Ok(match dtype {
            _ if bits => Self::Bits(of(what, object)?, dtype),
            Dtype::F32 => Self::F32(of(what, object)?),
            Dtype::F16 => Self::F16(of(what, object)?),
            Dtype::Bf16 => Self::Bf16(of(what, object)?),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::F32(_) => Kind { dtype: Dtype::F32, bits: false },
            Self::F16(_) => Kind { dtype: Dtype::F16, bits: false },
            Self::Bf16(_) => Kind { dtype: Dtype::Bf16, bits: false },
            Self::Bits(_, dtype) => Kind { dtype: *dtype, bits: true },
        }
    }

    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(array) => array.shape(),
            Self::F16(array) => array.shape(),
            Self::Bf16(array) => array.shape(),
            Self::Bits(array, _) => array.shape(),
        }
    }

    pub fn view(&self) -> PyResult<View<'_>> {
        Ok(match self {
            Self::F32(array) => View::F32(array.as_slice()?),
            Self::F16(array) => View::F16(array.as_slice()?),
            Self::Bf16(array) => View::Bf16(array.as_slice()?),
            Self::Bits(array, Dtype::F16) => View::F16(bytemuck::cast_slice(array.as_slice()?)),
            Self::Bits(array, _) => View::Bf16(bytemuck::cast_slice(array.as_slice()?)),
        })
    }

    /// As f32, copied if they are others.
    pub fn to_f32(&self) -> PyResult<Cow<'_, [f32]>> {
        Ok(match self.view()? {
            View::F32(values) => Cow::Borrowed(values),
            View::F16(values) => values.iter().map(|v| v.to_f32()).collect(),
            View::Bf16(values) => values.iter().map(|v| v.to_f32()).collect(),
        })
    }
}

impl<'py> FloatsMut<'py> {
    /// A new array of zeros.
    pub fn zeros(py: Python<'py>, kind: Kind, shape: &[usize]) -> PyResult<Self> {
        static ZEROS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let zeros = || Ok::<_, PyErr>(py.import("numpy")?.getattr("zeros")?.unbind());
        let name = match kind.dtype {
            _ if kind.bits => "uint16",
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => {
                // Without it numpy has no such type.
                py.import("ml_dtypes").map_err(|_| {
                    let why = "dtype: numpy has bfloat16 only with ml_dtypes, which is not installed; \
                               give out= an array of uint16, with dtype=\"bf16\"";
                    PyTypeError::new_err(why)
                })?;
                "bfloat16"
            }
        };
        // By numpy's own function, which raises what it can't allocate.
        let array = ZEROS.get_or_try_init(py, zeros)?.bind(py).call1((shape, name))?;
        Self::of("out", &array, kind)
    }

    /// An array of the caller's, which must have a shape.
    pub fn existing(
        what: &str,
        object: &Bound<'py, PyAny>,
        dtype: Option<Dtype>,
        shape: &[usize],
    ) -> PyResult<Self> {
        let array = untyped(what, object)?;
        let bits = array.dtype().kind() == b'u';
        let kind = kind(what, array, dtype.filter(|_| bits))?;
        check_layout(what, array)?;
        if array.shape() != shape {
            let got = array.shape();
            return value(format!("{what}: expected the shape {shape:?}, got {got:?}"));
        }
        Self::of(what, object, kind)
    }

    fn of(what: &str, object: &Bound<'py, PyAny>, kind: Kind) -> PyResult<Self> {
        fn of<'py, T: Element>(
            what: &str,
            object: &Bound<'py, PyAny>,
        ) -> PyResult<PyReadwriteArrayDyn<'py, T>> {
            object.cast::<PyArrayDyn<T>>()?.try_readwrite().map_err(|e| borrowed(what, e))
        }
        Ok(match kind.dtype {
            dtype if kind.bits => Self::Bits(of(what, object)?, dtype),
            Dtype::F32 => Self::F32(of(what, object)?),
            Dtype::F16 => Self::F16(of(what, object)?),
            Dtype::Bf16 => Self::Bf16(of(what, object)?),
        })
    }

    pub fn view(&mut self) -> PyResult<ViewMut<'_>> {
        Ok(match self {
            Self::F32(array) => ViewMut::F32(array.as_slice_mut()?),
            Self::F16(array) => ViewMut::F16(array.as_slice_mut()?),
            Self::Bf16(array) => ViewMut::Bf16(array.as_slice_mut()?),
            Self::Bits(array, Dtype::F16) => {
                ViewMut::F16(bytemuck::cast_slice_mut(array.as_slice_mut()?))
            }
            Self::Bits(array, _) => ViewMut::Bf16(bytemuck::cast_slice_mut(array.as_slice_mut()?)),
        })
    }

    /// The array.
    pub fn object(&self) -> Bound<'py, PyAny> {
        match self {
            Self::F32(array) => array.as_any().clone(),
            Self::F16(array) => array.as_any().clone(),
            Self::Bf16(array) => array.as_any().clone(),
            Self::Bits(array, _) => array.as_any().clone(),
        }
    }
}

impl Kind {
    /// Floats as they are.
    pub fn of(dtype: Dtype) -> Self {
        Self { dtype, bits: false }
    }
}

/// A shape that must be one of a matrix.
pub fn matrix(what: &str, shape: &[usize]) -> PyResult<(usize, usize)> {
    match *shape {
        [rows, cols] => Ok((rows, cols)),
        _ => value(format!("{what}: expected a matrix [n, k], got the shape {shape:?}")),
    }
}

/// What a table of 256 floats is made of.
pub fn table(what: &str, values: &Floats<'_>) -> PyResult<[f32; 256]> {
    let wide = values.to_f32()?;
    let count = wide.len();
    <[f32; 256]>::try_from(&*wide)
        .map_err(|_| PyValueError::new_err(format!("{what}: expected 256 entries, got {count}")))
}
