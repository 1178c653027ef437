//! lutmul multiplies by matrices whose weights are 8-bit codes into a table.
//!
//! Any 8-bit weight format is a table of 256 numbers: QINS (code and sign), FP8 E4M3 and E5M2, int8,
//! k-means, the caller's own. lutmul multiplies by such weights straight from their bytes, as they lie in
//! memory or in a mapped file: nothing is repacked, and no weight is written out as a float but for a
//! panel in the cache. It has kernels for several vector units, finds out at run time which of them
//! the CPU has, and takes the best.
//!
//! ```
//! use lutmul::{Context, Format, Granularity, Weights};
//!
//! let (m, n, k) = (2, 3, 64); // tokens, out features, in features
//! let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect();
//! let x: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.11).cos()).collect();
//!
//! let weights = Weights::encode(&w, (n, k), &Format::QinsLinear, Granularity::Row)?;
//! let mut context = Context::new(); // kernel, mode, threads, and memory: made once
//! let mut y = vec![0f32; m * n];
//! weights.matmul(&x, &mut y, &mut context)?;
//!
//! let first: f32 = x[..k].iter().zip(&w[..k]).map(|(x, w)| x * w).sum();
//! assert!((y[0] - first).abs() < 0.05);
//! # Ok::<(), lutmul::Error>(())
//! ```
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | `n`, `k`, `m` | out features (rows of W), in features, tokens (rows of x): `y[m,n] = x[m,k] · W[n,k]ᵀ` |
//! | code | a byte, index into the table |
//! | table ([`Lut`]) | 256 `f32`, one table a layer |
//! | sign plane | optional: 1 bit a weight, row-major, least significant bit first, each row starting on its own byte ([`sign_stride`] bytes a row); 1 is negative |
//! | scales ([`Scales`]) | per tensor, per row, per group of k, or per 2-D block ([`Granularity`]); always multiplied |
//! | weight ([`Weights::at`]) | `W[n,k] = sign · table[code] · scale` |
//! | format ([`Format`]) | a choice of table and sign plane that has a name |
//! | mode ([`Mode`]) | how x and the sums are represented |
//! | kernel ([`Kernel`]) | the code for one vector unit |
//! | plan ([`Plan`]) | how a product is computed; its shape ([`Shape`]) is *gemv* for few tokens, *gemm* for more |
//!
//! # Where to begin
//!
//! - Weights from floats: [`Weights::encode`]. What it cost: [`Weights::error_report`].
//! - Weights that are codes already: [`Weights::new`] with a [`Lut`] and [`Scales`].
//! - Weights in a file: the module `checkpoint` (feature `checkpoint`).
//! - A product: [`Weights::matmul`]. What follows the sum, fused into the store (bias, [`Activation`], adding to y),
//!   and rows for threads of one's own: [`Weights::product`]. Several matrices with the same x: [`Activations`].
//! - Kernel, [`Mode`] and threads of it: [`Context`]. Arrays whose rows lie apart: [`MatRef`], [`MatMut`], and views of
//!   `ndarray` with that feature. Elements at any address: [`Unaligned`].
//! - No allocation in a product: [`Needs`] and [`Context::reserve`]. No other thread than this one, in anything:
//!   [`Threads::install`].
//! - Floats again, whole, by rows, or by a list of rows: [`Weights::decode`],
//!   [`Weights::decode_rows`], [`Weights::decode_list`].
//! - The definition in f64, to test against: [`reference`](mod@reference). How far from it a product may be:
//!   [`bound`](mod@bound).
//!
//! # What F32 mode promises
//!
//! [`Mode::F32`] is the default. x, table entries and sums are f32.
//!
//! - The error of an output is at most `γ_{k+4} · Σ|x·W|`, with `γ_j = j·u / (1 − j·u)` and `u = 2⁻²⁴`,
//!   as long as no product and no sum leaves the range of normal f32 numbers ([`bound`](mod@bound) says what
//!   is added then).
//! - The order of an output's sum depends on k, the kernel and the loop shape only. The shape follows from
//!   m and the scales. So neither threads nor [ranges of rows](Product::rows), strides or alignment ever
//!   change a bit. Another kernel or another m may.
//! - NaN and infinity in x go where IEEE 754 sends them, and so do those in the table with
//!   [`NonFinite::Propagate`]. Without it a code *in use* whose entry is NaN or infinite is an error that
//!   names tensor, row and column.
//! - f16 and bf16 are widened exactly; y is rounded to them once.
//! - Rounding mode and flushing of subnormal numbers at their defaults are a precondition, as they are for
//!   all Rust code; [`check_environment`] finds out, [`reset_environment`] restores them.
//!
//! # What BF16 mode promises
//!
//! In [`Mode::Bf16`] x is rounded to bf16, half to even, subnormal numbers kept, and so are the table's entries
//! ([`Lut::bf16`]: FP8, int8 and QINS linear are exact in it). Products are exact, sums are f32 in any order, and scales
//! multiply sums or weights in f32.
//!
//! - All that F32 promises of threads, ranges, NaN and infinity holds. A kernel may take subnormal numbers for 0, which
//!   the bound knows; that times infinity is NaN.
//! - The error of an output is at most `Σ|x − x̂|·|W| + γ_{k+4}(2u) · Σ|x·W|` and terms of `2⁻¹²⁶` ([`bound`](mod@bound) has
//!   them); what rounding costs a table, if anything, is apart. Products and sums of integers that f32 holds are exact.
//! - A CPU without instructions for bf16, or on which they are slower, runs the kernels of F32 on the rounded x.
//!
//! # What integer modes promise
//!
//! In all modes but [`Mode::F32`] and [`Mode::Bf16`] a token x becomes integers X and a scale
//! `sx`, the table integers L and a step `sl` (its [image](Lut::image)), and
//!
//! ```text
//! S = Σ_k sign · L[code] · X                      exact
//! t = (f64(S) · sx) · (sl · f64(scale))           for each group of scales along k, added in order
//! y = act(f32(t + f64(bias))) (+ y)
//! ```
//!
//! are separate IEEE operations in that order. So every kernel on every CPU gives the same bits, at any number
//! of threads, batch size and row range. A token with NaN or infinity gives a row of NaN; tables can't
//! propagate theirs. Groups of scales along k must be multiples of 32. S holds 2²⁴ columns, or 65,536 in A24
//! with an image of three bytes; more are an error.
//!
//! Against the weights of the image, the error of an output is at most half a step of X times `Σ|W|`, and
//! little more: [`bound::error_bound`] has it for each output, [`Mode::error_factor`] as a number to multiply
//! `max|x| · Σ|W|` with. The image's own error, apart, is 0 for QINS linear and int8; with
//! [`Weights::with_wide_image`] it is 0 for E4M3, and about that of an f32 for the others.
//!
//! # Errors
//!
//! Bad input is an [`Error`] that names the thing; y is untouched then. No function panics on lengths or
//! values that do not fit, except where its documentation says so (indices out of range, as of a slice).
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `rayon` | yes | products, encoding and scans share rayon's current pool ([`Threads`]) |
//! | `huge-pages` | yes | memory of lutmul's own is on huge pages where Linux has them ([`Buffer`]) |
//! | `ndarray` | no | x and y may be arrays of the crate `ndarray`, or views of them |
//! | `checkpoint` | no | reading and writing lutmul's own safetensors files, memory-mapped |
//! | `gather` | no | kernels that gather, listed last and never chosen: baselines for benches |
//!
//! The environment variable `LUTMUL_ISA` names the kernel that products take which are not told otherwise
//! ([`Kernel::from_env`]). One that this CPU can't run is an error of theirs, never a silent fallback.

mod activation;
mod activations;
mod aligned;
mod bands;
pub mod bound;
mod buffer;
pub mod bytes;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod context;
mod decode;
mod element;
mod encode;
mod epilogue;
mod error;
mod format;
mod kernel;
mod lut;
mod mat;
mod mode;
#[cfg(feature = "ndarray")]
mod ndarray;
mod needs;
mod options;
mod plan;
mod product;
mod quantize;
pub mod reference;
mod report;
mod scales;
mod show;
mod threads;
mod weights;

pub use activation::Activation;
pub use activations::Activations;
pub use buffer::Buffer;
pub use bytes::Bytes;
pub use context::Context;
pub use element::{Element, Unaligned};
pub use epilogue::Epilogue;
pub use error::{Error, Result};
pub use format::Format;
pub use half::{bf16, f16};
pub use kernel::{Kernel, KernelInfo};
pub use lut::Lut;
pub use lutmul_kernels::{QuantisedTable, reset_environment};
pub use mat::{IntoMatMut, IntoMatRef, MatMut, MatRef};
pub use mode::Mode;
pub use needs::Needs;
pub use options::{Options, Threads, check_environment};
pub use plan::{Plan, Shape};
pub use product::{Input, Product};
pub use report::ErrorReport;
pub use scales::{Granularity, Scales};
pub use weights::{NonFinite, Weights, sign_stride};

/// Code in documents runs as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/formats.md")]
mod formats_of_the_documents {}

/// The most threads that programs should make for products: what asks for more has got a number wrong, and
/// would wait for minutes until it had them. The C ABI and lutmul's own programs refuse to.
pub const MAX_THREADS: usize = 1024;
