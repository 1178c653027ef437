//! lutmul in [candle](https://github.com/huggingface/candle): linear layers whose weights stay 8-bit codes.
//!
//! [`LutLinear`] is a [`candle_nn::Module`] that takes the place of [`candle_nn::Linear`]; [`Loader`] makes them from a
//! model on disk as `candle_nn::VarBuilder` does, codes where they are mapped, floats encoded, and loads all other
//! tensors as they are.
//!
//! ```no_run
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use lutmul::{Format, Granularity, Mode};
//! use lutmul_candle::{Loader, LutLinear};
//!
//! # fn main() -> candle_core::Result<()> {
//! let model = Loader::open("model.safetensors")?
//!     .with_format(Format::QinsLinear, Granularity::Row)
//!     .with_mode(Mode::A16);
//! let attention = model.pp("encoder.layer.0.attention.self");
//! let [q, k, v] = ["query", "key", "value"].map(|name| attention.linear(name));
//! let (q, k, v) = (q?, k?, v?);
//!
//! let x = Tensor::zeros((1, 7, 384), DType::F32, &Device::Cpu)?;
//! let y = q.forward(&x)?; // as of any module
//! let qkv = LutLinear::forward_all(&[&q, &k, &v], &x)?; // x is quantised once
//! # Ok(())
//! # }
//! ```
//!
//! Inference only, on the CPU: a result does not know what it was made of (it has no gradient), and tensors of other
//! devices are an error. Products are shared by rayon's current pool, or stay on the calling thread, as
//! [`lutmul::Options`] say.

mod linear;
mod loader;
mod rooms;

pub use linear::LutLinear;
pub use loader::Loader;
pub use rooms::Rooms;
