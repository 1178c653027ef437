//! Loops of one instruction each, for [`Peak`].
//!
//! Twelve sums (six of tiles) are more than have to be under way at a time. Registers begin with zero, so that no number
//! is subnormal. The loops are assembly: a compiler would see that nothing comes of them.

use std::arch::asm;

use super::amx;
use crate::isa::Feature;
use crate::peak::Peak;

/// An instruction for each sum: its destination, and two sources that stay as they are.
macro_rules! lines {
    ($instruction:literal, $register:literal, [$($sum:literal)*], $a:literal, $b:literal) => {
        concat!($($instruction, " ", $register, $sum, ", ", $register, $a, ", ", $register, $b, "\n"),*)
    };
}

/// A peak of vectors; operations are those of one instruction.
macro_rules! vectors {
    ($name:literal, $operand:literal, [$($feature:tt),*], $operations:literal, $instruction:literal, $register:literal) => {
        Peak {
            name: $name,
            operand: $operand,
            features: &[$(Feature { name: $feature, detected: || pulp::feature_detected!($feature) }),*],
            refusal: || None,
            operations: 12 * $operations,
            rounds: {
                unsafe fn rounds(rounds: u64) {
                    // SAFETY: the caller has made sure of the instructions; they change registers only, all of them named.
                    unsafe {
                        asm!(
                            "vzeroall",
                            "2:",
                            lines!($instruction, $register, [0 1 2 3 4 5 6 7 8 9 10 11], 14, 15),
                            "dec {n}",
                            "jnz 2b",
                            "vzeroupper",
                            n = inout(reg) rounds => _,
                            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                            options(nomem, nostack),
                        );
                    }
                }
                rounds
            },
        }
    };
}

/// A peak of tiles of 16 rows of 64 bytes; operations are those of one instruction.
macro_rules! tiles {
    ($name:literal, $operand:literal, $feature:expr, $operations:literal) => {
        Peak {
            name: $name,
            operand: $operand,
            features: &[amx::TILE, $feature],
            refusal: amx::refusal,
            operations: 6 * $operations,
            rounds: {
                unsafe fn rounds(rounds: u64) {
                    // SAFETY: the caller has made sure that tiles may be used.
                    let _configured = unsafe { amx::tiles::Tiles::assume() };
                    // SAFETY: as above, and tiles are configured; they are all that changes.
                    unsafe {
                        asm!(
                            "tilezero tmm0",
                            "tilezero tmm1",
                            "tilezero tmm2",
                            "tilezero tmm3",
                            "tilezero tmm4",
                            "tilezero tmm5",
                            "tilezero tmm6",
                            "tilezero tmm7",
                            "2:",
                            lines!($name, "tmm", [0 1 2 3 4 5], 6, 7),
                            "dec {n}",
                            "jnz 2b",
                            n = inout(reg) rounds => _,
                            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                            options(nomem, nostack),
                        );
                    }
                }
                rounds
            },
        }
    };
}

pub(crate) static PEAKS: &[Peak] = &[
    vectors!("vfmadd231ps zmm", "f32", ["avx512f"], 32, "vfmadd231ps", "zmm"),
    vectors!("vfmadd231ps ymm", "f32", ["avx2", "fma"], 16, "vfmadd231ps", "ymm"),
    tiles!("tdpbf16ps", "bf16", amx::BF16, 16384),
    vectors!("vdpbf16ps zmm", "bf16", ["avx512bf16"], 64, "vdpbf16ps", "zmm"),
    vectors!("vpdpwssd zmm", "i16", ["avx512vnni"], 64, "vpdpwssd", "zmm"),
    vectors!("vpmaddwd ymm", "i16", ["avx2"], 32, "vpmaddwd", "ymm"),
    tiles!("tdpbssd", "i8", amx::INT8, 32768),
    vectors!("vpdpbusd zmm", "i8", ["avx512vnni"], 128, "vpdpbusd", "zmm"),
    vectors!("vpdpbusd ymm", "i8", ["avxvnni"], 64, "{{vex}} vpdpbusd", "ymm"),
];
