//! Loops of one instruction each, for [`Peak`].
//!
//! Sixteen sums are more than have to be under way at a time. The loops are assembly: a compiler would see that nothing
//! comes of them.

use std::arch::asm;

use crate::isa::Feature;
use crate::peak::Peak;

/// An instruction for each sum; all multiply v0 by itself.
macro_rules! lines {
    ($instruction:literal, [$($sum:literal)*], $to:literal, $from:literal) => {
        concat!($($instruction, " v", $sum, $to, ", v0", $from, ", v0", $from, "\n"),*)
    };
}

/// A peak; operations are those of one instruction, and `to` and `from` the shapes of its registers.
macro_rules! vectors {
    ($name:literal, $operand:literal, $feature:tt, $operations:literal, $to:literal, $from:literal) => {
        Peak {
            name: $name,
            operand: $operand,
            features: &[Feature { name: $feature, detected: || pulp::feature_detected!($feature) }],
            refusal: || None,
            operations: 16 * $operations,
            rounds: {
                #[target_feature(enable = $feature)]
                unsafe fn rounds(rounds: u64) {
                    // SAFETY: the caller has made sure of the feature; registers are all that changes, and are named.
                    unsafe {
                        asm!(
                            "movi v0.16b, #0",
                            "2:",
                            lines!($name, [16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31], $to, $from),
                            "subs {n}, {n}, #1",
                            "b.ne 2b",
                            n = inout(reg) rounds => _,
                            out("v0") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _,
                            out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _,
                            out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
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
    vectors!("fmla", "f32", "neon", 8, ".4s", ".4s"),
    vectors!("bfmmla", "bf16", "bf16", 32, ".4s", ".8h"),
    vectors!("smlal", "i16", "neon", 8, ".4s", ".4h"),
    vectors!("usdot", "i8", "i8mm", 32, ".4s", ".16b"),
    vectors!("udot", "i8", "dotprod", 32, ".4s", ".16b"),
];
