//! lutmul multiplies by matrices whose weights are 8-bit codes into a table.

mod activation;
mod bands;
pub mod bytes;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod decode;
mod element;
mod encode;
mod error;
mod format;
mod lut;
pub mod reference;
mod scales;
mod weights;

pub use activation::Activation;
pub use bytes::Bytes;
pub use element::Element;
pub use error::{Error, Result};
pub use format::Format;
pub use half::{bf16, f16};
pub use lut::Lut;
pub use scales::{Granularity, Scales};
pub use weights::{NonFinite, Weights, sign_stride};
