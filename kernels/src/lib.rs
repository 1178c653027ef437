//! The kernels of lutmul: everything that knows an instruction, and the detection of who has it.
//!
//! [`KernelInfo::all`] is the one table of kernels, best first. A [`Kernel`] is one that this CPU can
//! run: detection is the only way to get one. It decodes and multiplies some rows of weights, by gemv for few tokens,
//! by gemm for more; [`float`] and [`int`] have what F32 and the integer modes are handed. Nothing here
//! allocates, or starts a thread. Use the crate `lutmul`, which calls this one.
//!
//! A folder of `x86` or `aarch64` is an instruction set, a file in it an operand: `ls` is the support matrix.

#![allow(
    clippy::needless_range_loop,
    reason = "rows, tokens and planes index several arrays of vectors alike, and unroll"
)]

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod aarch64;
mod columns;
mod environment;
pub mod float;
pub mod int;
mod isa;
mod kernel;
mod peak;
mod portable;
mod prefetch;
mod quantised;
mod read;
mod rows;
mod scalar;
mod stream;
mod table;
mod weights;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use columns::Columns;
pub use environment::{environment, reset_environment};
pub use kernel::{Kernel, KernelInfo};
pub use peak::Peak;
pub use quantised::{EntrySign, PLANES, QuantisedTable, SignedPlanes};
pub use read::{Read, read_sum};
pub use rows::Rows;
pub use stream::{stream, stream_fence};
pub use table::{ClosedForm, Planes, Table};
pub use weights::{Codes, LINE, MC};
