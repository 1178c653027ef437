//! What integer kernels share that take weights as signed words.

use crate::image::{IMAGE_PLANES, Image, Magnitudes};
use crate::int::IntPortion;
#[cfg(target_arch = "aarch64")]
use crate::portion::LINE;

/// Decoders: two formulas, and one lookup a code.
pub(crate) const BELOW_ONE: u8 = 0;
pub(crate) const INTEGER: u8 = 1;
pub(crate) const LOOKUP: u8 = 2;

/// The decoder of a portion.
pub(crate) fn int_decoder(w: &IntPortion<'_>) -> u8 {
    match w.closed_form() {
        Some(Magnitudes::BelowOne) => BELOW_ONE,
        Some(Magnitudes::Signed { .. }) => INTEGER,
        None => LOOKUP,
    }
}

/// The planes' words by codes, entries' signs included, and what int8 codes are xored with.
pub(crate) struct Words {
    words: [[i16; 256]; IMAGE_PLANES],
    pub flip: u8,
}

impl Words {
    #[inline]
    pub(crate) fn new<const D: u8, const P: usize>(image: &Image) -> Self {
        let mut words = [[0; 256]; IMAGE_PLANES];
        if D == LOOKUP {
            for (words, plane) in words.iter_mut().zip(&image.planes).take(P) {
                for ((word, byte), negative) in words.iter_mut().zip(plane).zip(&image.negative) {
                    *word = if *negative != 0 { -i16::from(*byte) } else { i16::from(*byte) };
                }
            }
        }
        let flip = match image.closed_form {
            Some(Magnitudes::Signed { flip }) => flip,
            _ => 0,
        };
        Self { words, flip }
    }

    /// A plane of the table.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn plane(&self, plane: usize) -> &[i16; 256] {
        &self.words[plane]
    }

    /// A plane of a line of codes.
    #[cfg(target_arch = "aarch64")]
    #[inline]
    pub(crate) fn lookup(&self, plane: usize, codes: &[u8; LINE]) -> [i16; LINE] {
        let mut words = [0; LINE];
        for (word, code) in words.iter_mut().zip(codes) {
            *word = self.words[plane][usize::from(*code)];
        }
        words
    }
}

/// What panels of bytes have and those of words don't: starts.
pub(crate) fn int_start(_: &[[u32; 8]], _: &[[u32; 8]]) -> i32 {
    unreachable!("a panel of words")
}

/// And multipliers apart from activations.
pub(crate) fn int_scale<I>(_: I, _: I, _: I) -> I {
    unreachable!("a panel of words")
}

/// And planes that are joined before they are widened.
pub(crate) fn int_shift_add<I>(_: I, _: I) -> I {
    unreachable!("a panel of words")
}
