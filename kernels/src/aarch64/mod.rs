//! Kernels for AArch64.

mod f64x2;
pub(crate) mod mlal;
pub(crate) mod neon;

use std::arch::asm;

/// How far ahead of its loads a row kernel prefetches, in lines: as on x86-64, where it was measured.
const AHEAD: usize = 32;

/// Asks for the line at `offset`, which may lie beyond the slice.
#[inline(always)]
fn prefetch(bytes: &[u8], offset: usize) {
    let address = bytes.as_ptr().wrapping_add(offset);
    // SAFETY: a prefetch changes nothing that a program could see and never faults, whatever the
    // address. (The intrinsic for it is not stable.)
    unsafe {
        asm!("prfm pldl2keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
}
