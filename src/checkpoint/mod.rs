//! Weights on disk: models of other projects, and lutmul's own files.
//!
//! A [`Checkpoint`] is a safetensors file, or a folder of them as Hugging Face's programs keep it. It tells which
//! matrices of weights there are, and hands out [`Weights`](crate::Weights) whose codes stay where they are mapped.
//!
//! | layout | codes | scales |
//! |---|---|---|
//! | `quant_method` `fp8`, `fbgemm_fp8`; none | `….weight` F8_E4M3, F8_E5M2 or AMD's FNUZ | `….weight_scale_inv` or `….weight_scale`: `[]`, `[1]`, `[n]`, `[n, 1]`, or the grid of config.json's `weight_block_size` |
//! | `compressed-tensors`: `float-quantized`, `int-quantized` | F8_E4M3, I8 | `….weight_scale`, by tensor, channel, group or block |
//! | `compressed-tensors`: `mxfp8-quantized` | F8_E4M3 | `….weight_scale`: exponents, `[n, ⌈k/32⌉]` |
//! | `bitsandbytes` (8 bits) | I8 | `….SCB` `[n]`, divided by 127 |
//! | QINS, exported by `scripts/export-qins.py` | `….stored` U8 and `….sign` I8; `….w_encoded` U8 | in a table of `log_min` and `log_max`, `lut`, `max` or `alpha` |
//! | lutmul's own | `….codes` U8, `….signs` | `….scales` |
//! | GGUF | Q8_0, taken apart into memory of its own | one for every 32 of a row |
//! | floats | F32, F16 or BF16 `….weight`; other types of GGUF, decoded | to be [encoded](Floats::encode) |
//!
//! Scales are F32, BF16, F16, or powers of two (F8_E8M0), and always multiplied. Tensors of three dimensions are lists
//! of matrices (fused experts), with scales of one dimension more.
//!
//! ```no_run
//! use lutmul::checkpoint::{Checkpoint, Conversion, convert};
//! use lutmul::{Format, Granularity};
//!
//! let model = Checkpoint::open("DeepSeek-V3")?;
//! for linear in model.linears().iter().filter(|linear| linear.coding.is_some()) {
//!     let weights = model.weights(linear)?; // codes are read where they are mapped
//!     println!("{}: {} bytes", linear.name, weights.bytes());
//! }
//! for other in model.others() {
//!     println!("{}: {}", other.name, other.reason);
//! }
//!
//! let conversion = Conversion::to_codes(Format::QinsLinear, Granularity::Row);
//! convert(&model, "coded".as_ref(), &conversion, &mut |_| Ok(()))?;
//! # Ok::<(), lutmul::Error>(())
//! ```
//!
//! # lutmul's own files
//!
//! A lutmul file is a safetensors file. For a linear whose weight was the tensor `NAME.weight` it has
//!
//! | tensor | type and shape | |
//! |---|---|---|
//! | `NAME.codes` | U8 `[n, k]` | |
//! | `NAME.signs` | U8 `[n, ⌈k/8⌉]` | formats with a sign plane only |
//! | `NAME.table` | F32 `[256]` | |
//! | `NAME.scales` | F32: `[]` per tensor, `[n]` per row (`[0]` if k is 0), else the grid of groups or blocks | |
//!
//! and all other tensors and metadata as they were. The key `lutmul` of the file's metadata holds
//! JSON that says of what version the file is and what its layers are:
//!
//! ```json
//! {"version": 1, "layers": {"NAME": {"tensor": "NAME.weight", "dtype": "F32", "shape": [384, 1536],
//!                                    "format": "qins-linear", "scales": "row", "signs": true}}}
//! ```
//!
//! `tensor`, `dtype` and `shape` are those of the original, so that it is known what was replaced:
//! a tensor whose name does not end in `.weight` keeps the whole of it as NAME. Of a tensor of three dimensions, a
//! list of matrices, each is a layer `NAME.0`, `NAME.1`, …, whose `part` is `[0, 8]`, `[1, 8]`, …: its number, and how
//! many there are.
//!
//! # Adding a layout, adding a container
//!
//! A layout of safetensors files is a file in `layouts/` and a line of its list. Another container than safetensors
//! implements the trait `Source` and is told apart where [`Checkpoint::open`] looks at the file.

mod config;
mod convert;
mod dtype;
mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gguf;
mod header;
mod index;
mod layouts;
mod map;
mod matrix;
mod model;
mod safetensors;
mod scale;
mod source;
mod tensors;
mod write;

pub use ::safetensors::tensor::Dtype;
pub use convert::{
    Candidate, Conversion, Converted, Left, Progress, Summary, Target, Why, convert, preview,
};
pub use gguf::{GgufFile, GgufTensor, is_gguf};
pub use index::INDEX;
pub use layouts::{VERSION, is_linear};
pub use matrix::{Floats, Matrix};
pub use model::{Checkpoint, Coding, Linear, Other, Reason, SourceFile};
pub use tensors::{Tensor, TensorFile};

/// Names and shapes out of files, as lutmul's errors show them.
pub mod show {
    pub use crate::show::{name, quoted, shape, sizes};
}
