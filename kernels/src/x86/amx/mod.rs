//! AMX, on servers since Sapphire Rapids: the token, and what it takes to be allowed to use tiles.
//!
//! F32 and products of few tokens are those of `avx512vbmi`.

pub(crate) mod bf16;
mod decode;
mod finish;
mod fresh;
pub(crate) mod i8i8;
pub(super) mod tiles;

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::avx512::Avx512F;
use super::avx512vbmi::Avx512Vbmi;
use super::avx512vbmi::bf16::HasVbmi;
use crate::isa::{Feature, Isa, Task};

/// Tiles as they are used here.
pub(super) const TILE: Feature =
    Feature { name: "amx-tile", detected: || leaf7(24) && palette_fits() };
/// Products of tiles of bytes.
pub(super) const INT8: Feature = Feature { name: "amx-int8", detected: || leaf7(25) };
/// Products of tiles of bf16.
pub(super) const BF16: Feature = Feature { name: "amx-bf16", detected: || leaf7(22) };

/// Proof of AMX's tiles of bytes and of bf16, and of all that [`Avx512Vbmi`] proves.
#[derive(Clone, Copy)]
pub(crate) struct Amx(Avx512Vbmi);

// SAFETY: tasks run with the features of `Avx512Vbmi`; tiles are used in `asm!` only, which needs none.
unsafe impl Isa for Amx {
    const FEATURES: &'static [Feature] = &[TILE, INT8, BF16];

    unsafe fn assume() -> Self {
        // SAFETY: the caller's promise: a kernel with tiles has the features of both (`kernel.rs`).
        Self(unsafe { Avx512Vbmi::assume() })
    }

    #[inline(always)]
    fn run<T: Task<Self>>(self, task: T) {
        self.0.run(WithTiles(task));
    }
}

// SAFETY: they are among those of `Avx512Vbmi`.
unsafe impl Avx512F for Amx {}
// SAFETY: it is among those of `Avx512Vbmi`.
unsafe impl HasVbmi for Amx {}

/// A task of this token as one of [`Avx512Vbmi`].
struct WithTiles<T>(T);

impl<T: Task<Amx>> Task<Avx512Vbmi> for WithTiles<T> {
    #[inline(always)]
    fn run(self, isa: Avx512Vbmi) {
        self.0.run(Amx(isa));
    }
}

/// Bit of EDX in CPUID's leaf 7. (`is_x86_feature_detected!` does not know AMX in stable Rust 1.95.)
fn leaf7(bit: u32) -> bool {
    __cpuid(0).eax >= 0x1D && __cpuid_count(7, 0).edx >> bit & 1 == 1
}

/// Whether palette 1 is as tiles are used here: 8 of them, 16 rows of 64 bytes.
fn palette_fits() -> bool {
    let leaf = __cpuid_count(0x1D, 1);
    let (tile_bytes, row_bytes) = (leaf.eax >> 16, leaf.ebx & 0xFFFF);
    let (tiles, rows) = (leaf.ebx >> 16, leaf.ecx & 0xFFFF);
    tile_bytes >= 1024 && row_bytes >= 64 && tiles >= 8 && rows >= 16
}

/// Why the system does not let this process use tiles, though the CPU has them. Asked once, when a kernel is first
/// looked for: what is allowed then is the process's, and is inherited by those it forks.
pub(crate) fn refusal() -> Option<&'static str> {
    static ANSWER: OnceLock<Option<&'static str>> = OnceLock::new();
    *ANSWER.get_or_init(ask)
}

fn ask() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        return Some("tiles are asked for on Linux only");
    }
    // OSXSAVE: without it xgetbv is an invalid opcode.
    if __cpuid(1).ecx >> 27 & 1 == 0 {
        return Some("the operating system does not use XSAVE");
    }
    // SAFETY: OSXSAVE was found.
    if unsafe { xcr0() } >> 17 & 3 != 3 {
        return Some("the operating system does not save tiles (XCR0)");
    }
    match request_permission() {
        0 => None,
        -1 => Some("Linux refuses tiles to this process (EPERM)"),
        -12 | -28 => Some("the alternate signal stack of a thread is too small for tiles (ENOSPC)"),
        -22 => Some("this Linux knows no tiles (EINVAL, before 5.16)"),
        -38 => Some("this Linux has no arch_prctl (ENOSYS)"),
        _ => Some("Linux refuses tiles to this process"),
    }
}

/// # Safety
/// The CPU and the system have XSAVE.
#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: register 0 exists wherever XSAVE is enabled.
    unsafe { _xgetbv(0) }
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, 18)`, component 18 being tile data: the system's answer, 0 or a negative error.
fn request_permission() -> i64 {
    let answer: i64;
    // SAFETY: this call changes nothing but which components of XSAVE may be used; it writes no memory.
    unsafe {
        asm!("syscall", inlateout("rax") 158i64 => answer, in("rdi") 0x1023, in("rsi") 18,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}
