//! lutmul multiplies by matrices whose weights are 8-bit codes into a table.

mod activation;
mod activations;
mod aligned;
mod bands;
pub mod bytes;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod decode;
mod driver;
mod element;
mod encode;
mod epilogue;
mod error;
mod format;
mod lut;
mod mat;
mod options;
mod quantize;
pub mod reference;
mod report;
mod scales;
mod weights;

pub use activation::Activation;
pub use activations::Activations;
pub use bytes::Bytes;
pub use driver::{Scratch, Shape, Workspace, matmul, matmul_packed, matmul_rows};
pub use element::Element;
pub use epilogue::Epilogue;
pub use error::{Error, Result};
pub use format::Format;
pub use half::{bf16, f16};
pub use lut::Lut;
pub use lutmul_kernels::{Image, Kernel, KernelInfo};
pub use mat::{MatMut, MatRef};
pub use options::{Mode, Options, Threads, kernel};
pub use report::ErrorReport;
pub use scales::{Granularity, Scales};
pub use weights::{NonFinite, Weights, sign_stride};
