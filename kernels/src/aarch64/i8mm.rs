//! NEON with `usdot`: bytes as in `bytes.rs`. F32 is that of NEON.

use std::arch::aarch64::*;
use std::arch::asm;

use super::bytes::{self, Dot};
use super::neon::HasNeon;
use crate::int::IntEntry;
use crate::isa::with_features;

crate::isa::isa! {
    /// Proof of NEON and `usdot`.
    I8mm: "neon", "i8mm"
}

// SAFETY: it is in the list.
unsafe impl HasNeon for I8mm {}

pub(crate) static ENTRY: IntEntry = bytes::entry::<Usdot>();

struct Usdot;

impl Dot for Usdot {
    type Isa = I8mm;
    const PLAIN: u8 = 0;

    with_features! { "neon,i8mm";
        fn dot(
            _isa: I8mm,
            sum: int32x4_t,
            magnitudes: uint8x16_t,
            x: uint8x16_t,
        ) -> int32x4_t {
            let mut sum = sum;
            // SAFETY: an instruction on registers, of a feature that this function has. (Intrinsics for it are not
            // stable in Rust 1.96.)
            unsafe {
                asm!("usdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                    inout(vreg) sum, in(vreg) magnitudes, in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags));
            }
            sum
        }
    }
}
