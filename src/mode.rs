//! Compute modes: how activations and sums are represented.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How activations and sums are represented.
///
/// In all modes but F32 and Bf16 the sum is exact: activations are integers, the table is its fixed-point
/// [image](crate::Lut::image), and the one rounding at the end is stated in the
/// [crate's documentation](crate). So results have the same bits on every CPU, at every thread count and
/// batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// x, table entries and sums are f32, with IEEE propagation of NaN and infinity.
    ///
    /// The order of a sum depends only on k, the kernel and the loop shape, and the shape only on m
    /// and the scales: threads and row ranges never change a bit.
    #[default]
    F32,
    /// x and table entries are rounded to bf16; their products are exact, and sums are f32, with IEEE propagation
    /// of NaN and infinity.
    ///
    /// Sums are in an order as in F32; products of two matrices of bf16 are what CPUs have instructions for.
    Bf16,
    /// Activations of 24 bits (±8,290,687), one scale a token: as exact as f32.
    A24,
    /// Activations of 16 bits (±32,512), one scale a token.
    A16,
    /// Activations of 8 bits (±127), a scale for each 32 of k: the token's scale times an integer in
    /// 1…255.
    A8,
    /// Activations of 8 bits (±127), one scale a token.
    A8T,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 6] = [Self::F32, Self::Bf16, Self::A24, Self::A16, Self::A8, Self::A8T];

    /// The name that options, JSON and documents use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::A24 => "a24",
            Self::A16 => "a16",
            Self::A8 => "a8",
            Self::A8T => "a8t",
        }
    }

    /// Whether sums are exact integers.
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::Bf16)
    }

    /// Base-255 digits of an activation.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => 0,
            Self::A8T => 1,
            // A8's digit times its multiplier is at most 127 · 255.
            Self::A8 | Self::A16 => 2,
            Self::A24 => 3,
        }
    }

    /// The most columns that a sum of integers holds, with an image of that many bytes. In i64 there is room
    /// for 2²⁴ products of 24-bit activations and two-byte magnitudes, or of 16 bits and three bytes:
    /// 32,512 · (2²⁴ − 1) · 2²⁴ < 2⁶³. And for 2¹⁶ of 24 bits and three bytes: 8,290,687 · (2²⁴ − 1) · 2¹⁶.
    pub(crate) fn max_k(self, image_bytes: usize) -> usize {
        if self == Self::A24 && image_bytes > 2 { 1 << 16 } else { 1 << 24 }
    }

    /// What no sum of so many columns, with magnitudes of so many bytes, is beyond.
    pub(crate) fn largest_sum(self, bytes: usize, columns: usize) -> u128 {
        self.limit() as u128 * (1 << (8 * bytes)) * columns as u128
    }

    /// The integer that a token's largest magnitude becomes.
    pub(crate) fn limit(self) -> i32 {
        match self {
            Self::F32 | Self::Bf16 => 0,
            Self::A8T => 127,
            Self::A8 => 127 * 255,
            Self::A16 => 32_512,
            Self::A24 => 8_290_687,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| Error::Unknown {
            what: "mode",
            got: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}
