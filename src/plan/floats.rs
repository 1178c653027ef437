//! Activations as the modes of floats have them.

use crate::element::Element;
use crate::mode::Mode;

/// Widens a slice, and rounds it to what the mode takes; both have the same length.
pub(super) fn widen<X: Element>(from: &[X], to: &mut [f32], mode: Mode) {
    X::widen(from, to);
    if mode == Mode::Bf16 && !X::IS_BF16 {
        for x in to {
            *x = f32::from_bits(u32::from(bf16_bits(*x)) << 16);
        }
    }
}

/// The nearest bf16, ties to even, subnormal numbers too; NaN stays one. Without a branch, so that loops become vectors.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let odd = bits >> 16 & 1;
    let nearest = bits.wrapping_add(0x7FFF + odd);
    // A NaN whose upper half would be infinity.
    let quiet = bits | 0x0040_0000;
    ((if x.is_nan() { quiet } else { nearest }) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16;

    #[test]
    fn rounding_is_that_of_half() {
        // All upper halves, with lower ones on both sides of a tie.
        for upper in 0..=u16::MAX {
            for lower in [0u32, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{x:e}");
            }
        }
    }
}
