//! What integer kernels share that take weights as bytes: magnitudes, and signs apart.

use crate::image::{Image, Magnitudes};
use crate::int::IntPortion;

/// Decoders: two formulas, and lookups by seven or eight bits of a code.
pub(crate) const BELOW_ONE: u8 = 0;
pub(crate) const INTEGER: u8 = 1;
pub(crate) const SEVEN_BITS: u8 = 2;
pub(crate) const EIGHT_BITS: u8 = 3;

/// The decoder of a portion. Seven bits are for FP8: two or three planes, and no signs beside those of codes.
pub(crate) fn int_decoder(w: &IntPortion<'_>) -> u8 {
    match w.closed_form() {
        Some(Magnitudes::BelowOne) => BELOW_ONE,
        Some(Magnitudes::Signed { .. }) => INTEGER,
        None if w.image.seven_bits && w.image.count > 1 && w.signs.is_none() => SEVEN_BITS,
        None => EIGHT_BITS,
    }
}

/// What int8 codes are xored with.
#[inline]
pub(crate) fn flip(image: &Image) -> u8 {
    match image.closed_form {
        Some(Magnitudes::Signed { flip }) => flip,
        _ => 0,
    }
}
