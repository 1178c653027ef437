//! Asking for memory ahead of time.

/// Asks for the cache line at `offset`, which may lie beyond the slice, in the second-level cache.
/// Does nothing on CPUs for which nobody wrote it.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8], offset: usize) {
    line(bytes.as_ptr().wrapping_add(offset));
}

/// Asks for the line at an address, whatever is there.
#[inline(always)]
pub(crate) fn line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program could see and never faults, whatever the
        // address; SSE is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch changes nothing that a program could see and never faults, whatever the
    // address. (The intrinsic for it is not stable.)
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{0}]", in(reg) address,
            options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
