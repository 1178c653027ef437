//! Activations as integers, and the parts that they are cut into.

use crate::weights::LINE;

/// Codes for which A8 has a multiplier.
pub const MULTIPLIED: usize = 32;

/// How integer weights and activations are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Signed words of weights by words of activations.
    I16,
    /// Magnitudes of weights as bytes by digits of activations, which take the weights' signs.
    U8I8,
}

impl Operand {
    /// Bytes of a limb.
    pub fn size(self) -> usize {
        match self {
            Self::I16 => 2,
            Self::U8I8 => 1,
        }
    }

    /// Limbs in a word of 32 bits (`kr`).
    pub fn kr(self) -> usize {
        4 / self.size()
    }
}

/// The integers that stand for activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits {
    /// How many balanced base-255 digits they have: 1, 2 or 3.
    pub count: usize,
    /// Whether they are one digit times an integer in 1…255 that 32 of k share.
    pub multiplied: bool,
}

/// The parts that an integer activation is cut into, each an i8 or an i16: `X = Σ limb · weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limbs {
    /// How they are held: digits as bytes, or as words, the two lowest in one word.
    pub operand: Operand,
    /// Whether there is one digit as a byte, and multipliers apart, as i32.
    pub multiplied: bool,
    /// What a limb of 1 stands for, the most significant first.
    pub weights: &'static [i64],
}

impl Limbs {
    /// The limbs of integers, their multipliers multiplied in.
    pub fn new(operand: Operand, digits: Digits) -> Self {
        let weights: &[i64] = match (operand, digits.count) {
            (_, 1) | (Operand::I16, 2) => &[1],
            (Operand::I16, _) => &[65_025, 1],
            (Operand::U8I8, 2) => &[255, 1],
            (Operand::U8I8, _) => &[65_025, 255, 1],
        };
        Self { operand, multiplied: false, weights }
    }

    /// One digit as a byte, and multipliers apart.
    pub const MULTIPLIED: Self = Self { operand: Operand::U8I8, multiplied: true, weights: &[1] };

    /// Codes in a word of a panel.
    pub fn kr(self) -> usize {
        self.operand.kr()
    }

    /// Bytes of a limb.
    pub fn size(self) -> usize {
        self.operand.size()
    }

    /// Cuts a line of integers into limbs, the most significant first: as many as there are weights.
    ///
    /// In a balanced system of an odd base the digits are unique, so any way to find them will do:
    /// this one rounds in f64, which compilers vectorise where they don't an integer division.
    #[inline(always)]
    pub fn cut(self, line: [i32; LINE], limbs: &mut [[i32; LINE]; 3]) {
        let mut rest = line;
        for (limb, weight) in limbs.iter_mut().zip(self.weights) {
            if *weight == 1 {
                *limb = rest;
                continue;
            }
            let (weight, inverse) = (*weight as i32, 1.0 / *weight as f64);
            for (limb, rest) in limb.iter_mut().zip(&mut rest) {
                *limb = round_half_even(f64::from(*rest) * inverse);
                *rest -= *limb * weight;
            }
        }
    }
}
/// The nearest integer, half to even, of an f64 below 2³¹ in magnitude.
///
/// One addition, which every vector unit has, where rounding instructions are not part of every x86-64:
/// it moves the integer to the lowest bits. (`as` would check for numbers that don't fit.)
#[inline(always)]
pub fn round_half_even(v: f64) -> i32 {
    /// 1.5 · 2⁵², whose last bit is 1.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    (v + ROUND).to_bits() as i32
}
