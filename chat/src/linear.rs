//! Linears: on lutmul, or on candle's matrix product as the baseline.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use lutmul::checkpoint::Matrix;
use lutmul::{Activations, Context, Error, Format, Granularity, MatMut, MatRef, Product, Weights};

/// What linears are made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Coding {
    /// Codes as they lie in the file; floats are encoded.
    Stored(Format, Granularity),
    /// All encoded, also what has codes of another kind.
    All(Format, Granularity),
    /// Floats, and candle's matrix product.
    Baseline(Float),
}

/// A type of the baseline's floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// f32.
    F32,
    /// bf16: weights and activations are rounded to it. (candle multiplies in f32, to which it widens the weights in
    /// each product.)
    Bf16,
}

impl Float {
    /// The name that options use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of a weight.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Float {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::F32, Self::Bf16];
        all.into_iter()
            .find(|float| float.name() == name)
            .ok_or_else(|| format!("baseline: {name:?} is none of f32, bf16"))
    }
}

impl Coding {
    /// Bytes of a matrix of so many weights, about: scales of groups and blocks included, tables not.
    pub fn bytes(&self, (n, k): (usize, usize)) -> usize {
        match self {
            Self::Stored(format, granularity) | Self::All(format, granularity) => {
                let (rows, cols) = granularity.grid((n, k));
                let bits = n.saturating_mul(k).saturating_mul(format.bits() as usize);
                (bits / 8).saturating_add(rows.saturating_mul(cols).saturating_mul(4))
            }
            Self::Baseline(float) => n.saturating_mul(k).saturating_mul(float.size()),
        }
    }

    /// Whether a matrix stays as it is in its file.
    pub fn keeps(&self, matrix: &lutmul::checkpoint::Linear) -> bool {
        match (self, &matrix.coding) {
            (Self::Stored(..), coding) => coding.is_some(),
            (Self::All(format, granularity), Some(coding)) => {
                coding.format == *format && coding.granularity == *granularity
            }
            _ => false,
        }
    }
}

/// The matrix of a linear.
#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and each is moved once or twice"
)]
enum Weight {
    Coded(Weights<'static>),
    /// `[k, n]`, a transposed view.
    Floats(Tensor, Float),
}

/// A linear: `y = x·Wᵀ + bias`.
pub struct Linear {
    weight: Weight,
    bias: Option<Vec<f32>>,
    shape: (usize, usize),
}

/// How linears are computed, and memory that they share.
pub struct Products {
    /// Mode, kernel, threads.
    pub context: Context,
    packed: Activations,
}

impl Products {
    /// By these options.
    pub fn new(context: Context) -> Self {
        Self { context, packed: Activations::new() }
    }
}

impl Linear {
    /// Makes a linear of a matrix.
    ///
    /// # Errors
    /// A matrix that cannot be encoded, or decoded for the baseline.
    pub fn new(
        matrix: Matrix,
        name: &str,
        bias: Option<Vec<f32>>,
        coding: &Coding,
    ) -> Result<Self> {
        let shape = matrix.shape();
        let place = || name.to_owned();
        let weight = match coding {
            Coding::Stored(format, granularity) => Weight::Coded(match matrix {
                Matrix::Floats(floats) => {
                    floats.encode(format, *granularity).with_context(place)?
                }
                Matrix::Coded(weights) => weights,
                other => other.encode(format, *granularity).with_context(place)?,
            }),
            Coding::All(format, granularity) => {
                Weight::Coded(matrix.encode(format, *granularity).with_context(place)?)
            }
            Coding::Baseline(float) => {
                let values = matrix.to_f32().with_context(place)?;
                let tensor = Tensor::from_slice(&values, shape, &Device::Cpu)?;
                Weight::Floats(tensor.to_dtype(float.dtype())?.t()?, *float)
            }
        };
        if let Weight::Coded(weights) = &weight {
            weights.prepare().with_context(place)?;
        }
        Ok(Self { weight, bias, shape })
    }

    /// Rows: elements of y.
    pub fn n(&self) -> usize {
        self.shape.0
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::Coded(weights) => weights.bytes(),
            Weight::Floats(_, float) => self.shape.0 * self.shape.1 * float.size(),
        }
    }

    /// What it is made of: `qins-linear row`, say, or `f32`.
    pub fn describe(&self) -> String {
        match &self.weight {
            Weight::Coded(weights) => {
                format!("{} {}", weights.format().name(), weights.scales().granularity())
            }
            Weight::Floats(_, float) => float.to_string(),
        }
    }
}

/// Linears that take the same x; their outputs lie side by side.
pub struct Projection(Vec<Linear>);

impl Projection {
    /// Linears with the same number of columns.
    pub fn new(linears: Vec<Linear>) -> Self {
        Self(linears)
    }

    /// Elements of y.
    pub fn n(&self) -> usize {
        self.0.iter().map(Linear::n).sum()
    }

    /// The linears.
    pub fn linears(&self) -> &[Linear] {
        &self.0
    }

    /// Multiplies: x is `[m, k]`, y `[m, n]`. x is packed once for all linears that read it in the same form.
    ///
    /// # Errors
    /// Those of [`Weights::matmul`], and candle's.
    pub fn forward(&self, x: &[f32], y: &mut [f32], products: &mut Products) -> Result<()> {
        let (total, k) = (self.n(), self.0[0].shape.1);
        let x = MatRef::new(x, (x.len() / k, k))?;
        let (mut first, mut packed) = (0, false);
        for linear in &self.0 {
            let y = &mut y[first..];
            first += linear.n();
            match &linear.weight {
                Weight::Coded(weights) if self.0.len() == 1 => {
                    let y = MatMut::with_stride(y, (x.rows(), linear.n()), total)?;
                    linear.product(weights).matmul(x, y, &mut products.context)?;
                }
                Weight::Coded(weights) => {
                    let Products { context, packed: shared } = &mut *products;
                    if !packed {
                        shared.pack(x, weights, &context.options)?;
                        packed = true;
                    }
                    let product = linear.product(weights);
                    let shape = (x.rows(), linear.n());
                    let part = MatMut::with_stride(&mut *y, shape, total)?;
                    match product.matmul(&*shared, part, context) {
                        // Another kind of table than that of the linear before.
                        Err(Error::Packing { .. }) => {
                            shared.pack(x, weights, &context.options)?;
                            let part = MatMut::with_stride(y, shape, total)?;
                            product.matmul(&*shared, part, context)?;
                        }
                        result => result?,
                    }
                }
                Weight::Floats(weights, float) => linear.floats(weights, *float, x, y, total)?,
            }
        }
        Ok(())
    }
}

impl Linear {
    fn product<'a>(&'a self, weights: &'a Weights<'static>) -> Product<'a> {
        match &self.bias {
            Some(bias) => weights.product().bias(bias),
            None => weights.product(),
        }
    }

    /// candle's product; rows of y begin so many elements apart.
    fn floats(
        &self,
        weights: &Tensor,
        float: Float,
        x: MatRef<'_, f32>,
        y: &mut [f32],
        stride: usize,
    ) -> Result<()> {
        let rows: Vec<f32> = (0..x.rows()).flat_map(|row| x.row(row)).copied().collect();
        let x = Tensor::from_vec(rows, (x.rows(), x.cols()), &Device::Cpu)?;
        let product = x.to_dtype(float.dtype())?.matmul(weights)?;
        let sums = product.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        for (sums, y) in sums.chunks_exact(self.n()).zip(y.chunks_mut(stride)) {
            y[..self.n()].copy_from_slice(sums);
            for (y, bias) in y.iter_mut().zip(self.bias.iter().flatten()) {
                *y += bias;
            }
        }
        Ok(())
    }
}
