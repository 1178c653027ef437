//! Weights, and products with them.

use std::sync::Arc;

use lutmul::{
    Activation, Context, Element, Format, Granularity, Kernel, Lut, MatMut, MatRef, Mode,
    NonFinite, Options, Scales, Weights as Codes,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::array::{Dtype, Floats, FloatsMut, Kind, View, ViewMut, matrix, table};
use crate::error::{OrRaise, value};
use crate::lent::{self, Part};
use crate::threads;

/// A matrix `[n, k]` (out features, in features) of 8-bit weights: `sign · table[code] · scale`.
///
/// It never changes, and may be used by any number of threads at the same time.
#[pyclass(frozen, module = "lutmul")]
pub struct Weights {
    pub codes: Arc<Codes<'static>>,
    /// The name of the format.
    format: String,
    wide_image: bool,
}

/// A format by its name, or a table of 256 floats.
fn parse_format(format: Option<&Bound<'_, PyAny>>) -> PyResult<Format> {
    let Some(format) = format else { return Ok(Format::QinsLinear) };
    match format.extract::<String>() {
        Ok(name) => name.parse().or_raise(),
        Err(_) => Ok(Format::Table(parse_table("format", format)?)),
    }
}

fn parse_table(what: &str, object: &Bound<'_, PyAny>) -> PyResult<Lut> {
    Lut::new(&table(what, &Floats::new(what, object, None)?)?).or_raise()
}

fn optional_dtype(dtype: Option<&str>) -> PyResult<Option<Dtype>> {
    dtype.map(Dtype::parse).transpose()
}

/// A number, or an array of them, and what each covers if that is not said.
fn parse_scales(
    scales: &Bound<'_, PyAny>,
    granularity: Option<&str>,
    (n, k): (usize, usize),
) -> PyResult<Scales> {
    let granularity: Option<Granularity> = granularity.map(str::parse).transpose().or_raise()?;
    if let Ok(scale) = scales.extract::<f32>()
        && scales.cast::<numpy::PyUntypedArray>().is_err()
    {
        return Scales::new(vec![scale], (n, k), granularity.unwrap_or(Granularity::Tensor))
            .or_raise();
    }
    let scales = Floats::new("scales", scales, None)?;
    let granularity = match (granularity, scales.shape()) {
        (Some(granularity), _) => granularity,
        (None, [] | [1] | [1, 1]) => Granularity::Tensor,
        (None, [rows] | [rows, 1]) if *rows == n => Granularity::Row,
        (None, shape) => {
            return value(format!(
                "scales: the shape {shape:?} does not tell what each covers of {n}×{k} weights; \
                 say granularity=\"group:N\" or \"block:RxC\""
            ));
        }
    };
    Scales::new(scales.to_f32()?.into_owned(), (n, k), granularity).or_raise()
}

impl Weights {
    pub fn new(codes: Codes<'static>, format: Option<&str>) -> Self {
        let format = format.map_or_else(|| codes.format().name().into(), Into::into);
        Self { codes: Arc::new(codes), format, wide_image: false }
    }

    /// How products are computed.
    fn options(mode: Mode, kernel: Option<&str>) -> PyResult<impl FnOnce() -> Options + Send> {
        let kernel: Option<Kernel> = kernel.map(str::parse).transpose().or_raise()?;
        Ok(move || {
            let options = Options::new().with_mode(mode);
            kernel.map_or(options, |kernel| options.with_kernel(kernel))
        })
    }

    /// Makes what products of a mode share, while no fork can come in between.
    fn prepare_table(&self, mode: Mode) {
        if mode.is_integer() {
            self.codes.lut().image();
        } else if mode == Mode::Bf16 {
            self.codes.lut().bf16();
        }
    }
}

/// y of any type for x of any type.
struct Job<'a> {
    weights: &'a Codes<'static>,
    x: View<'a>,
    y: ViewMut<'a>,
    m: usize,
    bias: Option<&'a [f32]>,
    activation: Activation,
    accumulate: bool,
}

impl Job<'_> {
    fn run(self, context: &mut Context) -> lutmul::Result<()> {
        match self.x {
            View::F32(x) => self.of(x, context),
            View::F16(x) => self.of(x, context),
            View::Bf16(x) => self.of(x, context),
        }
    }

    fn of<X: Element>(self, x: &[X], context: &mut Context) -> lutmul::Result<()> {
        fn to<X: Element, Y: Element>(
            job: (&Codes<'static>, usize, lutmul::Epilogue<'_>),
            x: &[X],
            y: &mut [Y],
            context: &mut Context,
        ) -> lutmul::Result<()> {
            let (weights, m, epilogue) = job;
            let x = MatRef::new(x, (m, weights.k()))?;
            let y = MatMut::new(y, (m, weights.n()))?;
            weights.product().epilogue(epilogue).matmul(x, y, context)
        }
        let Self { bias, activation, accumulate, .. } = self;
        let epilogue = lutmul::Epilogue { bias, activation, accumulate };
        let job = (self.weights, self.m, epilogue);
        match self.y {
            ViewMut::F32(y) => to(job, x, y, context),
            ViewMut::F16(y) => to(job, x, y, context),
            ViewMut::Bf16(y) => to(job, x, y, context),
        }
    }
}

#[pymethods]
impl Weights {
    /// Encodes a matrix of floats.
    #[staticmethod]
    #[pyo3(signature = (array, format=None, scales="row", *, dtype=None, threads=None, name=None))]
    fn encode(
        py: Python<'_>,
        array: &Bound<'_, PyAny>,
        format: Option<&Bound<'_, PyAny>>,
        scales: &str,
        dtype: Option<&str>,
        threads: Option<usize>,
        name: Option<&str>,
    ) -> PyResult<Self> {
        let format = parse_format(format)?;
        let granularity = scales.parse().or_raise()?;
        let array = Floats::new("array", array, optional_dtype(dtype)?)?;
        let shape = matrix("array", array.shape())?;
        let view = array.view()?;
        let codes = threads::run(py, threads, || match view {
            View::F32(w) => Codes::encode(w, shape, &format, granularity),
            View::F16(w) => Codes::encode(w, shape, &format, granularity),
            View::Bf16(w) => Codes::encode(w, shape, &format, granularity),
        })?;
        let codes = match name {
            Some(name) => codes.with_name(name),
            None => codes,
        };
        Ok(Self::new(codes, Some(format.name())))
    }

    /// Puts weights together from codes that are there already, and that are not copied.
    #[staticmethod]
    #[pyo3(signature = (codes, table, scales, *, signs=None, granularity=None, non_finite="reject",
                        wide_image=false, name=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's have names")]
    fn from_parts(
        codes: &Bound<'_, PyAny>,
        table: &Bound<'_, PyAny>,
        scales: &Bound<'_, PyAny>,
        signs: Option<&Bound<'_, PyAny>>,
        granularity: Option<&str>,
        non_finite: &str,
        wide_image: bool,
        name: Option<&str>,
    ) -> PyResult<Self> {
        let lut = match table.extract::<String>() {
            Err(_) => parse_table("table", table)?,
            Ok(name) => match name.parse::<Format>().or_raise()?.lut() {
                Some(lut) => lut,
                None => {
                    return value(format!(
                        "table: that of {name} depends on the weights; give its 256 entries"
                    ));
                }
            },
        };
        let non_finite = match non_finite {
            "reject" => NonFinite::Reject,
            "propagate" => NonFinite::Propagate,
            other => {
                return value(format!(
                    "non_finite: {other:?} is neither \"reject\" nor \"propagate\""
                ));
            }
        };
        let (bytes, shape) = lent::bytes("codes", codes)?;
        let scales = parse_scales(scales, granularity, shape)?;
        let mut weights =
            Codes::new(bytes, shape, lut, scales).or_raise()?.with_non_finite(non_finite);
        if let Some(signs) = signs {
            let (bytes, (rows, cols)) = lent::bytes("signs", signs)?;
            let expected = (shape.0, lutmul::sign_stride(shape.1));
            if (rows, cols) != expected {
                return value(format!(
                    "signs: expected the shape {expected:?} (n, ⌈k/8⌉), got {:?}",
                    (rows, cols)
                ));
            }
            weights = weights.with_signs(bytes).or_raise()?;
        }
        if wide_image {
            weights = weights.with_wide_image();
        }
        if let Some(name) = name {
            weights = weights.with_name(name);
        }
        Ok(Self { wide_image, ..Self::new(weights, None) })
    }

    /// `y = act(x · Wᵀ + bias)`.
    #[pyo3(signature = (x, mode="f32", *, bias=None, activation=None, out=None, accumulate=false,
                        threads=None, kernel=None, dtype=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's have names")]
    fn matmul<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        mode: &str,
        bias: Option<&Bound<'py, PyAny>>,
        activation: Option<&str>,
        out: Option<&Bound<'py, PyAny>>,
        accumulate: bool,
        threads: Option<usize>,
        kernel: Option<&str>,
        dtype: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mode: Mode = mode.parse().or_raise()?;
        let activation = activation.unwrap_or("none").parse().or_raise()?;
        let dtype = optional_dtype(dtype)?;
        let x = Floats::new("x", x, dtype)?;
        let (n, k) = (self.codes.n(), self.codes.k());
        let leading = match x.shape().split_last() {
            Some((last, leading)) if *last == k => leading,
            _ => return value(format!("x: expected […, {k}], got the shape {:?}", x.shape())),
        };
        let bias = bias.map(|bias| Floats::new("bias", bias, None)).transpose()?;
        if let Some(bias) = &bias
            && bias.shape() != [n]
        {
            return value(format!("bias: expected the shape [{n}], got {:?}", bias.shape()));
        }
        let bias = bias.as_ref().map(Floats::to_f32).transpose()?;
        let shape = [leading, &[n]].concat();
        let mut y = match out {
            Some(out) => FloatsMut::existing("out", out, dtype, &shape)?,
            None if accumulate => return value("accumulate: there is no out to add to"),
            None => FloatsMut::zeros(py, x.kind(), &shape)?,
        };
        let options = Self::options(mode, kernel)?;
        self.prepare_table(mode);
        let job = Job {
            weights: &self.codes,
            x: x.view()?,
            m: leading.iter().product(),
            y: y.view()?,
            bias: bias.as_deref(),
            activation,
            accumulate,
        };
        threads::multiply(py, threads, options, |context| job.run(context))?;
        Ok(y.object())
    }

    /// The weights as floats, `[n, k]`.
    #[pyo3(signature = (dtype=None, *, out=None, threads=None))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&str>,
        out: Option<&Bound<'py, PyAny>>,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (dtype, shape) = (optional_dtype(dtype)?, [self.codes.n(), self.codes.k()]);
        let mut to = match out {
            Some(out) => FloatsMut::existing("out", out, dtype, &shape)?,
            None => FloatsMut::zeros(py, Kind::of(dtype.unwrap_or(Dtype::F32)), &shape)?,
        };
        let view = to.view()?;
        threads::run(py, threads, || match view {
            ViewMut::F32(to) => self.codes.decode(to),
            ViewMut::F16(to) => self.codes.decode(to),
            ViewMut::Bf16(to) => self.codes.decode(to),
        })?;
        Ok(to.object())
    }

    /// What encoding cost, against the original matrix.
    #[pyo3(signature = (original, *, dtype=None, threads=None))]
    fn error_report(
        &self,
        py: Python<'_>,
        original: &Bound<'_, PyAny>,
        dtype: Option<&str>,
        threads: Option<usize>,
    ) -> PyResult<ErrorReport> {
        let original = Floats::new("original", original, optional_dtype(dtype)?)?;
        let expected = [self.codes.n(), self.codes.k()];
        if original.shape() != expected {
            let got = original.shape();
            return value(format!("original: expected the shape {expected:?}, got {got:?}"));
        }
        let view = original.view()?;
        let report = threads::run(py, threads, || match view {
            View::F32(w) => self.codes.error_report(w),
            View::F16(w) => self.codes.error_report(w),
            View::Bf16(w) => self.codes.error_report(w),
        })?;
        Ok(ErrorReport::new(&report))
    }

    /// The same weights in another format.
    #[pyo3(signature = (format, scales="row", *, threads=None))]
    fn recode(
        &self,
        py: Python<'_>,
        format: &Bound<'_, PyAny>,
        scales: &str,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let format = parse_format(Some(format))?;
        let granularity = scales.parse().or_raise()?;
        let codes = threads::run(py, threads, || self.codes.recode(&format, granularity))?;
        Ok(Self::new(codes.with_name(self.codes.name()), Some(format.name())))
    }

    /// Looks for codes that stand for NaN or infinity now, as the first product would.
    #[pyo3(signature = (*, threads=None))]
    fn prepare(&self, py: Python<'_>, threads: Option<usize>) -> PyResult<()> {
        threads::run(py, threads, || self.codes.prepare())
    }

    /// (n, k): out features, in features.
    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.codes.n(), self.codes.k())
    }

    /// Out features.
    #[getter]
    fn n(&self) -> usize {
        self.codes.n()
    }

    /// In features.
    #[getter]
    fn k(&self) -> usize {
        self.codes.k()
    }

    /// The name of the format; "table" for a table without a name.
    #[getter]
    fn format(&self) -> &str {
        &self.format
    }

    /// What each scale covers: "tensor", "row", "group:N" or "block:RxC".
    #[getter]
    fn granularity(&self) -> String {
        self.codes.scales().granularity().to_string()
    }

    /// The name that errors call it by.
    #[getter]
    fn name(&self) -> &str {
        self.codes.name()
    }

    /// Bytes that a product reads: codes, signs, scales and table.
    #[getter]
    fn nbytes(&self) -> usize {
        self.codes.bytes()
    }

    /// The codes, uint8 `[n, k]`, read-only, where they lie.
    #[getter]
    fn codes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Part::Codes(self.codes.clone()).into_array(py)
    }

    /// The plane of signs, uint8 `[n, ⌈k/8⌉]`, read-only, where it lies; None if there is none.
    #[getter]
    fn signs<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let part = self.codes.signs().map(|_| Part::Signs(self.codes.clone()));
        part.map(|part| part.into_array(py)).transpose()
    }

    /// The table, float32 `[256]`, read-only.
    #[getter]
    fn table<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Part::Table(self.codes.clone()).into_array(py)
    }

    /// The scales, float32, read-only: `[]` of a tensor, `[n]` of rows, or the grid of groups or blocks.
    #[getter]
    fn scales<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Part::Scales(self.codes.clone()).into_array(py)
    }

    fn __repr__(&self) -> String {
        let ((n, k), bytes) = (self.shape(), self.nbytes());
        format!(
            "Weights({n}×{k}, {}, scales by {}, {bytes} bytes)",
            self.format,
            self.granularity()
        )
    }

    /// For pickle and copy.deepcopy.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let restore = py.import("lutmul._lutmul")?.getattr("_restore")?;
        let parts = PyDict::new(py);
        parts.set_item("codes", self.codes(py)?)?;
        parts.set_item("signs", self.signs(py)?)?;
        parts.set_item("table", self.table(py)?)?;
        parts.set_item("scales", self.scales(py)?)?;
        parts.set_item("granularity", self.granularity())?;
        let propagate = self.codes.non_finite() == NonFinite::Propagate;
        parts.set_item("non_finite", if propagate { "propagate" } else { "reject" })?;
        parts.set_item("wide_image", self.wide_image)?;
        parts.set_item("name", self.name())?;
        (restore, (&self.format, parts)).into_pyobject(py)
    }

    /// It never changes: a copy is itself.
    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
}

/// Weights out of their parts again: what pickle calls.
#[pyfunction]
#[pyo3(name = "_restore")]
pub fn restore(py: Python<'_>, format: String, parts: &Bound<'_, PyDict>) -> PyResult<Weights> {
    let made = py.get_type::<Weights>().call_method("from_parts", (), Some(parts))?;
    let made = made.cast::<Weights>()?.get();
    let Weights { codes, wide_image, .. } = made;
    Ok(Weights { codes: codes.clone(), format, wide_image: *wide_image })
}

/// What encoding cost, in the unit of the weights.
#[pyclass(frozen, get_all, module = "lutmul")]
pub struct ErrorReport {
    /// Weights compared.
    count: usize,
    /// Mean of |decoded − original|.
    mean_abs: f64,
    /// Largest |decoded − original|.
    max_abs: f64,
    /// Root of the mean of (decoded − original)².
    rms: f64,
    /// Root of the mean of original².
    original_rms: f64,
    /// Signal to quantisation noise in dB: 20·log10(original_rms / rms).
    sqnr_db: f64,
    /// Share, 0…1, of weights whose code is the lowest or the highest in use.
    share_at_ends: f64,
    /// Different codes in use, of 256.
    codes_used: usize,
}

impl ErrorReport {
    fn new(report: &lutmul::ErrorReport) -> Self {
        Self {
            count: report.count,
            mean_abs: report.mean_abs,
            max_abs: report.max_abs,
            rms: report.rms,
            original_rms: report.original_rms,
            sqnr_db: report.sqnr_db,
            share_at_ends: report.share_at_ends,
            codes_used: report.codes_used,
        }
    }
}

#[pymethods]
impl ErrorReport {
    fn __repr__(&self) -> String {
        let Self { sqnr_db, rms, max_abs, codes_used, .. } = self;
        format!(
            "ErrorReport({sqnr_db:.1} dB, rms {rms:.3e}, max {max_abs:.3e}, {codes_used} codes used)"
        )
    }
}
