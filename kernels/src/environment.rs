//! The floating-point environment of a thread: rounding mode, and what becomes of subnormal numbers.
//!
//! Rust takes it to be at its defaults. Threads of other languages may have changed it.

/// What is not at its default on this thread, if anything: products are then not what they are defined to
/// be.
pub fn environment() -> Option<&'static str> {
    imp::read()
}

/// Puts rounding and subnormal numbers of this thread to their defaults.
pub fn reset_environment() {
    imp::reset();
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::asm;

    const DAZ: u32 = 1 << 6;
    const ROUNDING: u32 = 3 << 13;
    const FTZ: u32 = 1 << 15;

    fn mxcsr() -> u32 {
        let mut mxcsr = 0u32;
        // SAFETY: stores four bytes where it is told to; SSE is part of x86-64.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
        mxcsr
    }

    pub fn read() -> Option<&'static str> {
        match mxcsr() {
            mxcsr if mxcsr & ROUNDING != 0 => Some("the rounding mode is not to nearest"),
            mxcsr if mxcsr & FTZ != 0 => Some("subnormal results are flushed to zero"),
            mxcsr if mxcsr & DAZ != 0 => Some("subnormal operands are taken as zero"),
            _ => None,
        }
    }

    pub fn reset() {
        let mxcsr = mxcsr() & !(DAZ | ROUNDING | FTZ);
        // SAFETY: puts back the defaults, which are what Rust asks for; no reserved bit is set.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, readonly, preserves_flags))
        };
    }
}

#[cfg(target_arch = "aarch64")]
mod imp {
    use std::arch::asm;

    /// FZ, FZ16, and of newer CPUs FIZ.
    const FLUSH: u64 = 1 << 24 | 1 << 19 | 1;
    const ROUNDING: u64 = 3 << 22;

    fn fpcr() -> u64 {
        let fpcr: u64;
        // SAFETY: reads a register that every thread may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        fpcr
    }

    pub fn read() -> Option<&'static str> {
        match fpcr() {
            fpcr if fpcr & ROUNDING != 0 => Some("the rounding mode is not to nearest"),
            fpcr if fpcr & FLUSH != 0 => Some("subnormal numbers are flushed to zero"),
            _ => None,
        }
    }

    pub fn reset() {
        let fpcr = fpcr() & !(FLUSH | ROUNDING);
        // SAFETY: puts back the defaults, which are what Rust asks for.
        unsafe { asm!("msr fpcr, {}", in(reg) fpcr, options(nomem, nostack, preserves_flags)) };
    }
}

/// Other CPUs are taken at their word.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod imp {
    pub fn read() -> Option<&'static str> {
        None
    }

    pub fn reset() {}
}
