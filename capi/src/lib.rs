//! The C ABI of lutmul. `include/lutmul.h`, which cbindgen makes of this crate, is its documentation.
//!
//! A function of the ABI is a few lines: `call` (`call.rs`) stores what goes wrong as status and text, lets no
//! panic cross, and hands over a `Caller`, which stands for what the header asks of callers and turns their
//! pointers into handles, strings and slices. What lutmul does is in the crate `lutmul`.

#![allow(non_camel_case_types, reason = "types have the names that C programs call them by")]
#![allow(clippy::missing_safety_doc, reason = "the header says what is asked of all callers, once")]

mod call;
mod handle;
mod sized;
mod threads;

// In the order in which the header has them.
pub mod status;

pub mod kernel;

pub mod matrix;

pub mod table;

pub mod weights;

pub mod file;

pub mod workspace;

pub mod activations;

pub mod product;

/// The version of this interface that the header describes.
pub const LUTMUL_ABI_VERSION: u32 = 1;

/// The version of this interface that the library has: compare it with LUTMUL_ABI_VERSION. It goes up when
/// something that was there is changed, never when something is added.
#[unsafe(no_mangle)]
pub extern "C" fn lutmul_abi_version() -> u32 {
    LUTMUL_ABI_VERSION
}
