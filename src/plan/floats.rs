//! Activations as the modes of floats have them.

use crate::element::{Element, bf16_bits};
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
