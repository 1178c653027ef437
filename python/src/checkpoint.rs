//! Models on disk.

use std::path::PathBuf;

use lutmul::checkpoint::{Checkpoint as Model, Dtype, Matrix, show};
use pyo3::exceptions::{PyFileNotFoundError, PyKeyError, PyTypeError};
use pyo3::prelude::*;

use crate::error::{OrRaise, value};
use crate::lent::Part;
use crate::threads;
use crate::weights::Weights;

/// A model on disk: safetensors, GGUF, or a folder of Hugging Face's. Codes stay where they are mapped.
#[pyclass(frozen, mapping, module = "lutmul")]
pub struct Checkpoint(Model);

/// A matrix of weights of a checkpoint, not read yet.
#[pyclass(frozen, get_all, module = "lutmul")]
pub struct Linear {
    /// Its name: that of its tensor without ".weight".
    name: String,
    /// The tensor of its codes or floats.
    tensor: String,
    /// (n, k): out features, in features.
    shape: (usize, usize),
    /// The type of the elements on disk.
    dtype: &'static str,
    /// The format of its codes; None for floats.
    format: Option<&'static str>,
    /// What each scale covers; None for floats.
    granularity: Option<String>,
    /// Bytes on disk.
    nbytes: usize,
    /// Whether config.json says that it is not to be quantised.
    skipped: bool,
}

/// A tensor of a checkpoint that is no matrix of weights.
#[pyclass(frozen, get_all, module = "lutmul")]
pub struct Other {
    /// Its name.
    name: String,
    /// Its shape.
    shape: Vec<usize>,
    /// The type of its elements on disk.
    dtype: String,
    /// Bytes on disk.
    nbytes: usize,
    /// Why it is none.
    reason: String,
}

#[pymethods]
impl Linear {
    fn __repr__(&self) -> String {
        let (n, k) = self.shape;
        let coded = match (self.format, &self.granularity) {
            (Some(format), Some(granularity)) => format!("{format}, scales by {granularity}"),
            _ => "floats".into(),
        };
        format!("Linear({}: {n}×{k}, {}, {coded})", show::name(&self.name), self.dtype)
    }
}

#[pymethods]
impl Other {
    fn __repr__(&self) -> String {
        let (name, dtype, shape) = (show::name(&self.name), &self.dtype, show::shape(&self.shape));
        format!("Other({name}: {dtype} {shape}, {})", self.reason)
    }
}

fn describe(linear: &lutmul::checkpoint::Linear) -> Linear {
    Linear {
        name: linear.name.clone(),
        tensor: linear.tensor.clone(),
        shape: linear.shape,
        dtype: linear.dtype,
        format: linear.coding.as_ref().map(|coding| coding.format.name()),
        granularity: linear.coding.as_ref().map(|coding| coding.granularity.to_string()),
        nbytes: linear.bytes,
        skipped: linear.skipped,
    }
}

/// Opens a model: a safetensors or GGUF file, or a folder.
#[pyfunction]
pub fn open(py: Python<'_>, path: PathBuf) -> PyResult<Checkpoint> {
    if !path.exists() {
        return Err(PyFileNotFoundError::new_err(format!("{}: is not there", path.display())));
    }
    Ok(Checkpoint(py.detach(|| Model::open(&path)).or_raise()?))
}

impl Checkpoint {
    fn find(&self, name: &str) -> PyResult<&lutmul::checkpoint::Linear> {
        self.0.linear(name).ok_or_else(|| {
            let why = match self.0.others().find(|other| other.name == name) {
                Some(other) => format!("is no matrix of weights: {}", other.reason),
                None => "is not there".into(),
            };
            PyKeyError::new_err(format!(
                "{}: {} {why}",
                self.0.path().display(),
                show::quoted(name)
            ))
        })
    }
}

#[pymethods]
impl Checkpoint {
    /// The matrices, in the order of their names.
    #[getter]
    fn linears(&self) -> Vec<Linear> {
        self.0.linears().iter().map(describe).collect()
    }

    /// All other tensors.
    #[getter]
    fn others(&self) -> Vec<Other> {
        let of = |other: lutmul::checkpoint::Other<'_>| Other {
            name: other.name.into(),
            shape: other.shape.to_vec(),
            dtype: other.dtype.to_string(),
            nbytes: other.bytes,
            reason: other.reason.to_string(),
        };
        self.0.others().map(of).collect()
    }

    /// What was opened.
    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path().into()
    }

    /// The names of the matrices.
    fn keys(&self) -> Vec<String> {
        self.0.linears().iter().map(|linear| linear.name.clone()).collect()
    }

    /// A matrix's weights; floats are encoded if a format is given.
    #[pyo3(signature = (name, format=None, scales="row", *, threads=None))]
    fn weights(
        &self,
        py: Python<'_>,
        name: &str,
        format: Option<&str>,
        scales: &str,
        threads: Option<usize>,
    ) -> PyResult<Weights> {
        let linear = self.find(name)?;
        let Some(format) = format else {
            if linear.coding.is_none() {
                return value(format!(
                    "{}: is {}: say which format to encode it in",
                    show::name(&linear.name),
                    linear.dtype
                ));
            }
            let codes = py.detach(|| self.0.weights(linear)).or_raise()?;
            return Ok(Weights::new(
                codes,
                linear.coding.as_ref().map(|coding| coding.format.name()),
            ));
        };
        let format: lutmul::Format = format.parse().or_raise()?;
        let granularity = scales.parse().or_raise()?;
        let encode = || self.0.matrix(linear)?.encode(&format, granularity);
        let codes = threads::run(py, threads, encode)?.with_name(&linear.name);
        Ok(Weights::new(codes, Some(format.name())))
    }

    /// The weights of a coded matrix.
    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<Weights> {
        self.weights(py, name, None, "row", None)
    }

    fn __contains__(&self, name: &str) -> bool {
        self.0.linear(name).is_some()
    }

    fn __len__(&self) -> usize {
        self.0.linears().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys().into_pyobject(py)?.call_method0("__iter__")
    }

    /// Any tensor as an array: as it lies in the file, or decoded as float32 if it is coded.
    fn tensor<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        if let Some(other) = self.0.others().find(|other| other.name == name) {
            let bytes = self.0.bytes(&other).or_raise()?;
            return array(py, Part::Bytes(bytes), other.dtype, other.shape);
        }
        let linear = self.find(name)?;
        let (n, k) = linear.shape;
        match py.detach(|| self.0.matrix(linear)).or_raise()? {
            Matrix::Coded(codes) => {
                let weights = Bound::new(py, Weights::new(codes, None))?;
                weights.call_method0("decode")
            }
            Matrix::Floats(floats) => {
                let dtype = floats.dtype();
                array(py, Part::Floats(floats), dtype, &[n, k])
            }
            _ => value(format!("{}: is of no known kind", show::name(name))),
        }
    }

    /// Looks at all weights and scales: an error names the first that is NaN or infinite.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        let errors = threads::run(py, None, || Ok(self.0.validate(&mut |_| Ok(()))))?;
        errors.into_iter().next().map_or(Ok(()), Err).or_raise()
    }

    fn __repr__(&self) -> String {
        format!("Checkpoint({:?}, {} matrices)", self.0.path(), self.0.linears().len())
    }
}

/// Bytes of a file as an array.
fn array<'py>(
    py: Python<'py>,
    bytes: Part,
    dtype: Dtype,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let name = match dtype {
        Dtype::BOOL => "?",
        Dtype::U8 => "u1",
        Dtype::I8 => "i1",
        Dtype::U16 => "<u2",
        Dtype::I16 => "<i2",
        Dtype::F16 => "<f2",
        Dtype::U32 => "<u4",
        Dtype::I32 => "<i4",
        Dtype::F32 => "<f4",
        Dtype::U64 => "<u8",
        Dtype::I64 => "<i8",
        Dtype::F64 => "<f8",
        Dtype::BF16 => "bfloat16",
        Dtype::F8_E4M3 => "float8_e4m3fn",
        Dtype::F8_E5M2 => "float8_e5m2",
        Dtype::F8_E8M0 => "float8_e8m0fnu",
        _ => return Err(PyTypeError::new_err(format!("numpy has no type {dtype}"))),
    };
    if name.contains("float") {
        py.import("ml_dtypes").map_err(|_| {
            PyTypeError::new_err(format!(
                "numpy has {name} only with ml_dtypes, which is not installed"
            ))
        })?;
    }
    let flat = bytes.into_array(py)?;
    flat.call_method1("view", (name,))?.call_method1("reshape", (shape.to_vec(),))
}
