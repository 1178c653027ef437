//! Weights on disk: reading safetensors, and lutmul's own files.
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
//! a tensor whose name does not end in `.weight` keeps the whole of it as NAME.
//!
//! ```no_run
//! use lutmul::checkpoint::{Checkpoint, Conversion, TensorFile, convert, is_linear};
//! use lutmul::{Format, Granularity};
//!
//! let original = TensorFile::open("model.safetensors")?;
//! let (format, granularity) = (Format::QinsLinear, Granularity::Row);
//! let conversion = Conversion { format, granularity, select: &is_linear, overwrite: false };
//! convert(&original, "coded.safetensors".as_ref(), &conversion, &mut |_, _| Ok(()))?;
//!
//! let coded = Checkpoint::open("coded.safetensors")?;
//! coded.file().prefault()?; // if all layers will be used, and often
//! for layer in coded.layers() {
//!     let weights = coded.weights(layer)?; // codes and signs are read where they are mapped
//!     println!("{}: {} bytes", layer.name, weights.bytes());
//! }
//! # Ok::<(), lutmul::Error>(())
//! ```

mod convert;
mod header;
mod layers;
mod map;
mod shards;
mod temporary;
mod tensors;
mod write;

pub use convert::{CodedLayer, Conversion, Summary, convert, is_linear};
pub use layers::{Checkpoint, Layer, VERSION};
pub use safetensors::tensor::Dtype;
pub use shards::{INDEX, ShardedModel};
pub use tensors::{Tensor, TensorFile};

/// Names and shapes out of files, as lutmul's errors show them.
pub mod show {
    pub use crate::show::{name, quoted, shape, sizes};
}
