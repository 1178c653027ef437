//! Layers and tensors of a model on disk, by name.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Error, Result, Tensor};
use lutmul::checkpoint::{Checkpoint, Dtype, Matrix, show};
use lutmul::{Format, Granularity, Mode, Options, Weights};

use crate::linear::LutLinear;
use crate::rooms::Rooms;

/// The layers and tensors of a model on disk, as `candle_nn::VarBuilder` has them: [`Loader::pp`] goes into a module.
///
/// Whatever [`Checkpoint::open`] reads. Codes are multiplied where they are mapped, matrices of floats are encoded when
/// they are asked for, and all else becomes a tensor of the type that it has on disk.
#[derive(Clone)]
pub struct Loader {
    checkpoint: Arc<Checkpoint>,
    prefix: String,
    format: Format,
    granularity: Granularity,
    options: Options,
    rooms: Rooms,
}

impl Loader {
    /// Opens a file or a folder; floats are to be encoded as `qins-linear` with scales by row.
    ///
    /// # Errors
    /// As of [`Checkpoint::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::new(Checkpoint::open(path).map_err(Error::wrap)?))
    }

    /// Of a checkpoint that is open.
    pub fn new(checkpoint: Checkpoint) -> Self {
        Self {
            checkpoint: Arc::new(checkpoint),
            prefix: String::new(),
            format: Format::QinsLinear,
            granularity: Granularity::Row,
            options: Options::new(),
            rooms: Rooms::new(),
        }
    }

    /// The same, for floats to be encoded so. What is coded already stays as it is.
    pub fn with_format(self, format: Format, granularity: Granularity) -> Self {
        Self { format, granularity, ..self }
    }

    /// The same, with layers that multiply in a mode.
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { options: self.options.with_mode(mode), ..self }
    }

    /// The same, with layers of these options.
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// The same within a module: its names begin with `name.`.
    pub fn pp(&self, name: impl ToString) -> Self {
        Self { prefix: self.name(&name.to_string()), ..self.clone() }
    }

    /// The model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Memory that its layers share.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Whether there is a matrix or a tensor of a name.
    pub fn contains(&self, name: &str) -> bool {
        let name = self.name(name);
        self.checkpoint.linear(&name).is_some() || self.other(&name).is_some()
    }

    /// A layer: its matrix, and `NAME.bias` where there is one.
    ///
    /// # Errors
    /// There is no matrix of that name; what [`Loader::weights`] and [`LutLinear::with_bias`] refuse.
    pub fn linear(&self, name: &str) -> Result<LutLinear> {
        let layer = self.linear_no_bias(name)?;
        let bias = format!("{name}.bias");
        if self.other(&self.name(&bias)).is_some() {
            return layer.with_bias(&self.tensor(&bias)?);
        }
        Ok(layer)
    }

    /// A layer of a matrix alone.
    ///
    /// # Errors
    /// As of [`Loader::weights`].
    pub fn linear_no_bias(&self, name: &str) -> Result<LutLinear> {
        Ok(LutLinear::new(self.weights(name)?).with_options(self.options).sharing(&self.rooms))
    }

    /// The weights of a layer: its codes where they are mapped, or its floats, encoded.
    ///
    /// # Errors
    /// There is no matrix of that name; it can't be read or encoded; codes that stand for NaN or infinity.
    pub fn weights(&self, name: &str) -> Result<Weights<'static>> {
        let name = self.name(name);
        let Some(linear) = self.checkpoint.linear(&name) else {
            candle_core::bail!(
                "{}: {}",
                self.path(),
                match self.other(&name) {
                    Some(other) =>
                        format!("{} is no matrix of weights: {}", show::quoted(&name), other.reason),
                    None => format!("there is no matrix {}", show::quoted(&name)),
                }
            );
        };
        let weights = match self.checkpoint.matrix(linear).map_err(Error::wrap)? {
            Matrix::Coded(weights) => weights,
            floats => {
                let encoded = floats.encode(&self.format, self.granularity);
                encoded.map_err(Error::wrap)?.with_name(&name)
            }
        };
        // Now, rather than in the middle of a first product.
        weights.prepare().map_err(Error::wrap)?;
        Ok(weights)
    }

    /// Any tensor, on the CPU: of the type that it has on disk, or f32 if it has codes.
    ///
    /// # Errors
    /// There is none of that name; a type that candle hasn't.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let name = self.name(name);
        if let Some(other) = self.other(&name) {
            let bytes = self.checkpoint.bytes(&other).map_err(Error::wrap)?;
            return self.raw(&name, &bytes, other.dtype, other.shape);
        }
        let Some(linear) = self.checkpoint.linear(&name) else {
            candle_core::bail!("{}: there is no tensor {}", self.path(), show::quoted(&name));
        };
        let (n, k) = linear.shape;
        match self.checkpoint.matrix(linear).map_err(Error::wrap)? {
            Matrix::Floats(floats) => self.raw(&name, floats.bytes(), floats.dtype(), &[n, k]),
            coded => {
                let values = coded.to_f32().map_err(Error::wrap)?.into_owned();
                Tensor::from_vec(values, (n, k), &Device::Cpu)
            }
        }
    }

    /// The tensor of a name, which must have a shape.
    ///
    /// # Errors
    /// As of [`Loader::tensor`], and another shape.
    pub fn get(&self, shape: &[usize], name: &str) -> Result<Tensor> {
        let tensor = self.tensor(name)?;
        if tensor.dims() != shape {
            let (name, path) = (show::quoted(&self.name(name)), self.path());
            candle_core::bail!(
                "{path}: tensor {name}: expected {shape:?}, got {:?}",
                tensor.dims()
            );
        }
        Ok(tensor)
    }

    fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.into() } else { format!("{}.{name}", self.prefix) }
    }

    fn other(&self, name: &str) -> Option<lutmul::checkpoint::Other<'_>> {
        self.checkpoint.others().find(|other| other.name == name)
    }

    fn path(&self) -> String {
        self.checkpoint.path().display().to_string()
    }

    /// The bytes of a file as a tensor.
    fn raw(&self, name: &str, bytes: &[u8], dtype: Dtype, shape: &[usize]) -> Result<Tensor> {
        let known = match dtype {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F8_E4M3 => DType::F8E4M3,
            Dtype::U8 => DType::U8,
            Dtype::U32 => DType::U32,
            Dtype::I16 => DType::I16,
            Dtype::I32 => DType::I32,
            Dtype::I64 => DType::I64,
            _ => {
                let (name, path) = (show::quoted(name), self.path());
                candle_core::bail!("{path}: tensor {name}: candle has no type {dtype}")
            }
        };
        Tensor::from_raw_buffer(bytes, known, shape, &Device::Cpu)
    }
}
