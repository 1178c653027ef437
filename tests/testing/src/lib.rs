//! What the tests of lutmul, its kernels, its C ABI and its program share.

pub mod bad;
mod bound;
#[cfg(feature = "capi")]
pub mod capi;
pub mod contract;
mod data;
pub mod files;
pub mod gguf;
pub mod kernels;

pub use bound::{FLOATS, bound, bounds, in_mode};
pub use data::*;
