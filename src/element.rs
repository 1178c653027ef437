//! The element types of matrices: f32, f16, bf16, at any alignment.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A type that weights to encode, activations and outputs may have: `f32`, [`struct@f16`], [`bf16`], or
/// one of these [at any address](Unaligned).
///
/// Arithmetic is always done in f32 or wider; f16 and bf16 widen exactly and are rounded to once.
pub trait Element: bytemuck::Pod + Send + Sync + private::Sealed {
    /// The type's name: `f32`, `f16`, `bf16`.
    const NAME: &'static str;
    /// Whether all values are numbers of bf16.
    #[doc(hidden)]
    const IS_BF16: bool = false;

    /// The value as f32 (exact).
    fn to_f32(self) -> f32;

    /// The nearest value of this type (ties to even).
    fn from_f32(value: f32) -> Self;

    /// Widens a slice; both have the same length.
    fn widen(from: &[Self], to: &mut [f32]);

    /// Rounds a slice; both have the same length.
    fn narrow(from: &[f32], to: &mut [Self]);

    /// The same, past the caches where that can be: [`lutmul_kernels::stream_fence`] has to follow.
    #[doc(hidden)]
    fn stream(from: &[f32], to: &mut [Self]) {
        Self::narrow(from, to);
    }

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
    impl<T: Sealed> Sealed for super::Unaligned<T> {}
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

    fn stream(from: &[f32], to: &mut [Self]) {
        lutmul_kernels::stream(from, to);
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
    const IS_BF16: bool = true;

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
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = Self::from_bits(bf16_bits(*from));
                }
            },
        );
    }

    fn stream(from: &[f32], to: &mut [Self]) {
        // What is copied are floats: two of these to each.
        let Ok(pairs) = bytemuck::try_cast_slice_mut::<_, f32>(to) else {
            return Self::narrow(from, to);
        };
        let mut line = [0.0; 16];
        for (from, to) in from.chunks(2 * line.len()).zip(pairs.chunks_mut(line.len())) {
            let line = &mut line[..to.len()];
            Self::narrow(from, bytemuck::cast_slice_mut(line));
            lutmul_kernels::stream(line, to);
        }
    }
}

/// The nearest bf16, ties to even, subnormal numbers too; NaN stays one. Without a branch, so that loops become vectors.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let odd = bits >> 16 & 1;
    let nearest = bits.wrapping_add(0x7FFF + odd);
    // A NaN whose upper half would be infinity.
    let quiet = bits | 0x0040_0000;
    ((if x.is_nan() { quiet } else { nearest }) >> 16) as u16
}

/// An element that may lie at any address: in memory that another language or a file hands over.
///
/// Slices that turn out to be aligned are treated as what they are; the others take an element at a
/// time.
///
/// ```
/// use lutmul::{MatRef, Unaligned};
///
/// let file = [0u8, 0, 0, 0x80, 0x3F, 0, 0, 0, 0x40]; // a byte, then 1 and 2 as f32
/// let x: &[Unaligned<f32>] = bytemuck::cast_slice(&file[1..]);
/// assert_eq!(MatRef::new(x, (1, 2))?.row(0), [Unaligned(1.0), Unaligned(2.0)]);
/// # Ok::<(), lutmul::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, packed)]
pub struct Unaligned<T>(pub T);

impl<T: Element> Element for Unaligned<T> {
    const NAME: &'static str = T::NAME;
    const IS_BF16: bool = T::IS_BF16;

    fn to_f32(self) -> f32 {
        let Self(value) = self;
        value.to_f32()
    }

    fn from_f32(value: f32) -> Self {
        Self(T::from_f32(value))
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        if let Ok(aligned) = bytemuck::try_cast_slice(from) {
            return T::widen(aligned, to);
        }
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_f32();
        }
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        if let Ok(aligned) = bytemuck::try_cast_slice_mut(to) {
            return T::narrow(from, aligned);
        }
        for (to, from) in to.iter_mut().zip(from) {
            *to = Self::from_f32(*from);
        }
    }

    fn stream(from: &[f32], to: &mut [Self]) {
        match bytemuck::try_cast_slice_mut(to) {
            Ok(aligned) => T::stream(from, aligned),
            Err(_) => Self::narrow(from, to),
        }
    }

    fn as_f32(slice: &[Self]) -> Option<&[f32]> {
        T::as_f32(bytemuck::try_cast_slice(slice).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_every_offset<T: Element + PartialEq>() {
        let values: Vec<f32> = (0..70).map(|i| (i as f32 - 31.5) * 0.37).collect();
        let mut exact = vec![0.0; values.len()];
        let mut aligned = vec![T::zeroed(); values.len()];
        T::narrow(&values, &mut aligned);
        T::widen(&aligned, &mut exact);
        for offset in 0..4 {
            let size = size_of::<T>() * values.len();
            let mut bytes = vec![0u8; offset + size];
            let slice: &mut [Unaligned<T>] = bytemuck::cast_slice_mut(&mut bytes[offset..]);
            Unaligned::narrow(&values, slice);
            assert_eq!(
                bytemuck::cast_slice::<_, u8>(slice),
                bytemuck::cast_slice::<_, u8>(&aligned)
            );
            let mut wide = vec![0.0; values.len()];
            Unaligned::widen(slice, &mut wide);
            assert_eq!(wide, exact);
            assert!(Unaligned::as_f32(slice).is_none_or(|floats| floats == exact));
        }
    }

    #[test]
    fn rounding_to_bf16_is_that_of_half() {
        // All upper halves, with lower ones on both sides of a tie.
        for upper in 0..=u16::MAX {
            for lower in [0u32, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                assert_eq!(bf16_bits(x), bf16::from_f32(x).to_bits(), "{x:e}");
            }
        }
    }

    #[test]
    fn streaming_writes_what_rounding_does() {
        let values: Vec<f32> = (0..200).map(|i| (i as f32 - 31.5) * 0.37).collect();
        for (start, len) in [(0, 0), (0, 32), (0, 200), (1, 64), (2, 31), (32, 96), (64, 33)] {
            let (values, mut line) = (&values[..len], vec![bf16::ONE; 400]);
            let first = line.as_ptr().align_offset(64) + start;
            bf16::stream(values, &mut line[first..][..len]);
            lutmul_kernels::stream_fence();
            for (i, y) in line.iter().enumerate() {
                let within = i.checked_sub(first).and_then(|i| values.get(i));
                assert_eq!(*y, within.map_or(bf16::ONE, |v| bf16::from_f32(*v)), "{i}");
            }
        }
    }

    #[test]
    fn unaligned_elements_are_those_of_aligned_ones() {
        at_every_offset::<f32>();
        at_every_offset::<f16>();
        at_every_offset::<bf16>();
    }
}
