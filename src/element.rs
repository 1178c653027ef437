//! The element types of matrices: f32, f16, bf16.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A type that weights to encode, activations and outputs may have: `f32`, [`struct@f16`] or [`bf16`].
///
/// Arithmetic is always done in f32 or wider; f16 and bf16 widen exactly and are rounded to once.
pub trait Element: bytemuck::Pod + Send + Sync + private::Sealed {
    /// The type's name: `f32`, `f16`, `bf16`.
    const NAME: &'static str;

    /// The value as f32 (exact).
    fn to_f32(self) -> f32;

    /// The nearest value of this type (ties to even).
    fn from_f32(value: f32) -> Self;

    /// Widens a slice; both have the same length.
    fn widen(from: &[Self], to: &mut [f32]);

    /// Rounds a slice; both have the same length.
    fn narrow(from: &[f32], to: &mut [Self]);

    /// The slice itself where the type is f32, so that nothing need be copied.
    fn as_f32(_slice: &[Self]) -> Option<&[f32]> {
        None
    }
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    fn to_f32(self) -> f32 {
        self
    }

    fn from_f32(value: f32) -> Self {
        value
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn as_f32(slice: &[Self]) -> Option<&[f32]> {
        Some(slice)
    }
}

impl Element for f16 {
    const NAME: &'static str = "f16";

    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";

    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}
