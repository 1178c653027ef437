//! The kernels of lutmul: everything that knows an instruction, and the detection of who has it.
//!
//! [`KernelInfo::all`] is the one table of kernels, best first. A [`Kernel`] is one that this CPU can
//! run: detection is the only way to get one. It decodes and multiplies a [`Portion`] of the weights, by
//! [`Kernel::row`] for few tokens, by [`Kernel::panel`] and [`Kernel::tile`] for more. Nothing here
//! allocates, or starts a thread. Use the crate `lutmul`, which calls this one.

#![allow(
    clippy::needless_range_loop,
    reason = "rows, tokens and planes index several arrays of vectors alike, and unroll"
)]

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod aarch64;
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
mod bytes;
mod environment;
mod image;
mod int;
mod int_panel;
mod int_row;
mod kernel;
mod mat;
mod panel;
mod portable;
mod portion;
mod prefetch;
mod read;
mod row;
mod scalar;
mod stamp;
mod table;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use environment::{environment, reset_environment};
pub use image::{EntrySign, IMAGE_PLANES, Image, Magnitudes};
pub use int::{
    Digits, Form, IntPanel, IntPanelMut, IntPortion, IntRow, IntRowInput, IntTileInput,
    IntTileSums, Limbs, MULTIPLIED, PANEL_STEPS, round_half_even,
};
pub use kernel::{Kernel, KernelInfo};
pub use mat::Columns;
pub use portion::{
    Groups, LINE, NATURAL, Order, PANEL_COLS, PANEL_ROWS, PanelRow, Portion, RowInput, Scales,
    TileInput, TileSums,
};
pub use read::{Read, read_sum};
pub use table::{ClosedForm, Planes, Table};
