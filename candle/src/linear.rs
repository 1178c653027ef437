//! A linear layer of codes.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Device, Error, Layout, Result, Shape, Tensor};
use candle_nn::Module;
use lutmul::{
    Activation, Activations, Element, Format, Granularity, MatMut, MatRef, Options, Weights,
};

use crate::rooms::{Room, Rooms};

/// `y = act(x · Wᵀ + bias)`, W being [`Weights`] of codes: in place of [`candle_nn::Linear`].
///
/// x is `[…, k]` in f32, f16 or bf16, y `[…, n]` of the same type. Clones share weights and memory.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::{Linear, Module};
/// use lutmul::{Format, Granularity, Mode, Options};
/// use lutmul_candle::LutLinear;
///
/// # fn main() -> candle_core::Result<()> {
/// let w = Tensor::randn(0f32, 1.0, (5, 64), &Device::Cpu)?;
/// let linear = Linear::new(w, Some(Tensor::ones(5, candle_core::DType::F32, &Device::Cpu)?));
/// let coded = LutLinear::from_linear(&linear, &Format::QinsLinear, Granularity::Row)?
///     .with_options(Options::new().with_mode(Mode::A16));
///
/// let x = Tensor::randn(0f32, 1.0, (2, 3, 64), &Device::Cpu)?;
/// let error = (coded.forward(&x)? - linear.forward(&x)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
/// assert!(error < 0.5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LutLinear {
    weights: Arc<Weights<'static>>,
    bias: Option<Arc<[f32]>>,
    activation: Activation,
    options: Options,
    rooms: Rooms,
}

impl LutLinear {
    /// A layer without bias, with the default [`Options`]. Weights that are borrowed or mapped stay where they are.
    pub fn new(weights: impl Into<Arc<Weights<'static>>>) -> Self {
        Self {
            weights: weights.into(),
            bias: None,
            activation: Activation::None,
            options: Options::new(),
            rooms: Rooms::new(),
        }
    }

    /// Encodes a layer of floats.
    ///
    /// # Errors
    /// Another device than the CPU; elements that are neither f32, f16 nor bf16; what [`Weights::encode`] refuses.
    pub fn from_linear(
        linear: &candle_nn::Linear,
        format: &Format,
        granularity: Granularity,
    ) -> Result<Self> {
        let w = linear.weight().contiguous()?;
        let shape = w.dims2()?;
        on_cpu(&w, "weights")?;
        let (storage, layout) = w.storage_and_layout();
        let weights = match cpu(&storage)? {
            CpuStorage::F32(w) => Weights::encode(part(w, layout)?, shape, format, granularity),
            CpuStorage::F16(w) => Weights::encode(part(w, layout)?, shape, format, granularity),
            CpuStorage::BF16(w) => Weights::encode(part(w, layout)?, shape, format, granularity),
            _ => return Err(wrong_type("weights", w.dtype())),
        };
        let layer = Self::new(weights.map_err(Error::wrap)?);
        linear.bias().map_or(Ok(layer.clone()), |bias| layer.with_bias(bias))
    }

    /// Adds a bias, `[n]`, of floats; it is copied as f32.
    ///
    /// # Errors
    /// Another shape, or another device than the CPU.
    pub fn with_bias(self, bias: &Tensor) -> Result<Self> {
        on_cpu(bias, "bias")?;
        let n = self.weights.n();
        if bias.dims() != [n] {
            candle_core::bail!("bias: expected the shape [{n}], got {:?}", bias.dims());
        }
        let bias = bias.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Ok(Self { bias: Some(bias.into()), ..self })
    }

    /// The same with a function of sum and bias, computed where they are stored.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The same with another mode, kernel, or other threads.
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// The same with memory that it shares with other layers.
    pub fn sharing(self, rooms: &Rooms) -> Self {
        Self { rooms: rooms.clone(), ..self }
    }

    /// The weights.
    pub fn weights(&self) -> &Weights<'static> {
        &self.weights
    }

    /// The bias.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// How it is multiplied.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What several layers make of the same x, in their order; x is quantised and packed once for neighbours that take
    /// it alike (same k, mode and kernel, and tables that are decoded alike), again for one that does not.
    ///
    /// The results are those of [`LutLinear::forward`](Module::forward), bit for bit.
    ///
    /// # Errors
    /// As of `forward`.
    pub fn forward_all(layers: &[&Self], x: &Tensor) -> Result<Vec<Tensor>> {
        let Some(first) = layers.first() else { return Ok(Vec::new()) };
        on_cpu(x, "x")?;
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        let storage = cpu(&storage)?;
        first.rooms.lend(|Room { context, packed }| {
            let mut is_packed = false;
            let each = |layer: &&Self| {
                context.options = layer.options;
                layer.multiply(storage, layout, |call| {
                    if is_packed {
                        match call.packed(packed, context) {
                            Err(lutmul::Error::Packing { .. }) => {}
                            done => return done,
                        }
                    }
                    is_packed = false;
                    call.pack(packed)?;
                    is_packed = true;
                    call.packed(packed, context)
                })
            };
            let tensor = |(y, shape): (CpuStorage, Shape)| match y {
                CpuStorage::F16(y) => Tensor::from_vec(y, shape, &Device::Cpu),
                CpuStorage::BF16(y) => Tensor::from_vec(y, shape, &Device::Cpu),
                CpuStorage::F32(y) => Tensor::from_vec(y, shape, &Device::Cpu),
                _ => Err(wrong_type("x", x.dtype())),
            };
            layers.iter().map(each).map(|y| tensor(y?)).collect()
        })
    }

    /// y for a contiguous x: `product` is told what to multiply.
    fn multiply(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        product: impl FnOnce(&mut dyn Call) -> lutmul::Result<()>,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, k) = (self.weights.n(), self.weights.k());
        let Some((last, leading)) = layout.dims().split_last() else {
            candle_core::bail!("x: a scalar, expected […, {k}]");
        };
        if *last != k {
            candle_core::bail!("x: expected […, {k}], got {:?}", layout.dims());
        }
        let m = leading.iter().product();
        let shape = Shape::from([leading, &[n]].concat());
        let y = match x {
            CpuStorage::F32(x) => CpuStorage::F32(self.typed(part(x, layout)?, m, product)?),
            CpuStorage::F16(x) => CpuStorage::F16(self.typed(part(x, layout)?, m, product)?),
            CpuStorage::BF16(x) => CpuStorage::BF16(self.typed(part(x, layout)?, m, product)?),
            other => {
                return Err(wrong_type("x", candle_core::backend::BackendStorage::dtype(other)));
            }
        };
        Ok((y, shape))
    }

    fn typed<T: Element>(
        &self,
        x: &[T],
        m: usize,
        product: impl FnOnce(&mut dyn Call) -> lutmul::Result<()>,
    ) -> Result<Vec<T>> {
        let mut y = vec![T::zeroed(); m * self.weights.n()];
        product(&mut Typed { layer: self, x, y: &mut y, m }).map_err(Error::wrap)?;
        Ok(y)
    }
}

/// A product, whatever its elements are.
trait Call {
    /// Computes it.
    fn whole(&mut self, context: &mut lutmul::Context) -> lutmul::Result<()>;

    /// Packs x.
    fn pack(&mut self, packed: &mut Activations) -> lutmul::Result<()>;

    /// Computes it of packed x.
    fn packed(&mut self, x: &Activations, context: &mut lutmul::Context) -> lutmul::Result<()>;
}

struct Typed<'a, T> {
    layer: &'a LutLinear,
    x: &'a [T],
    y: &'a mut [T],
    m: usize,
}

impl<T: Element> Typed<'_, T> {
    fn x(&self) -> lutmul::Result<MatRef<'_, T>> {
        MatRef::new(self.x, (self.m, self.layer.weights.k()))
    }

    fn product(layer: &LutLinear) -> lutmul::Product<'_> {
        let product = layer.weights.product().activation(layer.activation);
        match &layer.bias {
            Some(bias) => product.bias(bias),
            None => product,
        }
    }
}

impl<T: Element> Call for Typed<'_, T> {
    fn whole(&mut self, context: &mut lutmul::Context) -> lutmul::Result<()> {
        let (shape, layer) = ((self.m, self.layer.weights.n()), self.layer);
        let x = MatRef::new(self.x, (self.m, layer.weights.k()))?;
        Self::product(layer).matmul(x, MatMut::new(self.y, shape)?, context)
    }

    fn pack(&mut self, packed: &mut Activations) -> lutmul::Result<()> {
        packed.pack(self.x()?, &self.layer.weights, &self.layer.options)
    }

    fn packed(&mut self, x: &Activations, context: &mut lutmul::Context) -> lutmul::Result<()> {
        let shape = (self.m, self.layer.weights.n());
        Self::product(self.layer).matmul(x, MatMut::new(self.y, shape)?, context)
    }
}

impl CustomOp1 for LutLinear {
    fn name(&self) -> &'static str {
        "lutmul"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.rooms.lend(|Room { context, .. }| {
            context.options = self.options;
            self.multiply(x, layout, |call| call.whole(context))
        })
    }
}

impl Module for LutLinear {
    /// x is `[…, k]` in f32, f16 or bf16, y `[…, n]` of the same type. x that is not contiguous is copied.
    ///
    /// # Errors
    /// Another shape, type or device, and what [`Weights::matmul`] refuses.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        on_cpu(x, "x")?;
        if x.is_contiguous() {
            return x.apply_op1_no_bwd(self);
        }
        x.contiguous()?.apply_op1_no_bwd(self)
    }
}

fn on_cpu(tensor: &Tensor, what: &str) -> Result<()> {
    if tensor.device().is_cpu() {
        return Ok(());
    }
    candle_core::bail!(
        "{what} is on {:?}: lutmul multiplies on the CPU only",
        tensor.device().location()
    )
}

fn cpu(storage: &candle_core::Storage) -> Result<&CpuStorage> {
    match storage {
        candle_core::Storage::Cpu(storage) => Ok(storage),
        _ => candle_core::bail!("lutmul multiplies on the CPU only"),
    }
}

fn wrong_type(what: &str, dtype: DType) -> Error {
    Error::msg(format!("{what}: elements are {dtype:?}; lutmul takes F32, F16 and BF16"))
}

/// The elements of a contiguous tensor.
fn part<'a, T>(storage: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage[start..end]),
        None => candle_core::bail!("lutmul: a tensor that is not contiguous"),
    }
}
