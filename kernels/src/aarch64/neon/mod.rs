//! NEON, which every 64-bit Arm CPU has: the token, and the vectors of all kernels.

pub(crate) mod f32;
pub(crate) mod i16;

use std::arch::aarch64::*;
use std::marker::PhantomData;

use crate::float::Float;
use crate::int::{Doubles, Sums};
use crate::isa::{Isa, with_features};
use crate::weights::LINE;

crate::isa::isa! {
    /// Proof of NEON.
    Neon: "neon"
}

/// What all kernels need.
///
/// # Safety
/// The token proves `neon`.
pub(crate) unsafe trait HasNeon: Isa {}

// SAFETY: it is in the list.
unsafe impl HasNeon for Neon {}

/// Vectors of four floats.
pub(crate) struct F32x4;

impl Float for F32x4 {
    type Isa = Neon;
    type V = float32x4_t;
    type Lanes = [f32; 4];
    type Line = [float32x4_t; LINE / 4];

    with_features! { "neon";
        fn zero(_isa: Neon) -> float32x4_t { vdupq_n_f32(0.0) }
        fn splat(_isa: Neon, value: f32) -> float32x4_t { vdupq_n_f32(value) }
        fn load(_isa: Neon, from: &[f32; 4]) -> float32x4_t { bytemuck::cast(*from) }
        fn store(_isa: Neon, v: float32x4_t, to: &mut [f32; 4]) { *to = bytemuck::cast(v); }
        fn mul(_isa: Neon, a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn add(_isa: Neon, a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        fn fma(_isa: Neon, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            vfmaq_f32(c, a, b)
        }
        fn sum(_isa: Neon, v: float32x4_t) -> f32 { vaddvq_f32(v) }
        fn zero_line(_isa: Neon) -> [float32x4_t; 16] { [vdupq_n_f32(0.0); 16] }
    }
}

/// Vectors of four i32, the sums of integer kernels.
pub(crate) struct I32x4<I>(PhantomData<I>);

impl<I: HasNeon> Sums for I32x4<I> {
    type Isa = I;
    type V = int32x4_t;
    type Lanes = [u32; 4];
    type Doubles = F64x2<I>;

    with_features! { "neon";
        fn zero(_isa: I) -> int32x4_t { vdupq_n_s32(0) }
        fn splat(_isa: I, word: u32) -> int32x4_t { vdupq_n_s32(word as i32) }
        fn load(_isa: I, from: &[u32; 4]) -> int32x4_t { bytemuck::cast(*from) }
        fn widen(_isa: I, v: int32x4_t) -> [float64x2_t; 2] {
            [vcvtq_f64_s64(vmovl_s32(vget_low_s32(v))), vcvtq_f64_s64(vmovl_high_s32(v))]
        }
        fn multiply_add(_isa: I, sums: int32x4_t, part: int32x4_t, by: int32x4_t) -> int32x4_t {
            vmlaq_s32(sums, part, by)
        }
        fn shift_add(_isa: I, high: int32x4_t, low: int32x4_t) -> int32x4_t {
            vaddq_s32(vshlq_n_s32::<8>(high), low)
        }
    }
}

/// Vectors of two f64, for the sums of integer panels, and their way into y.
pub(crate) struct F64x2<I>(PhantomData<I>);

impl<I: HasNeon> Doubles for F64x2<I> {
    type Isa = I;
    type V = float64x2_t;
    type Lanes = [f64; 2];
    type Row = [f32; 4];
    type Block = [[f32; 4]; 4];

    with_features! { "neon";
        fn splat(_isa: I, value: f64) -> float64x2_t { vdupq_n_f64(value) }
        fn load(_isa: I, from: &[f64; 2]) -> float64x2_t { bytemuck::cast(*from) }
        fn store(_isa: I, v: float64x2_t, to: &mut [f64; 2]) { *to = bytemuck::cast(v); }
        fn mul(_isa: I, a: float64x2_t, b: float64x2_t) -> float64x2_t { vmulq_f64(a, b) }
        fn add(_isa: I, a: float64x2_t, b: float64x2_t) -> float64x2_t { vaddq_f64(a, b) }
        fn round(_isa: I, v: [float64x2_t; 2]) -> [f32; 4] {
            bytemuck::cast(vcvt_high_f32_f64(vcvt_f32_f64(v[0]), v[1]))
        }
        fn transpose(_isa: I, rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
            let [a, b, c, d]: [float32x4_t; 4] = bytemuck::cast(rows);
            let (ab_even, ab_odd) = (even(a, b), odd(a, b));
            let (cd_even, cd_odd) = (even(c, d), odd(c, d));
            bytemuck::cast([
                vtrn1q_f64(ab_even, cd_even),
                vtrn1q_f64(ab_odd, cd_odd),
                vtrn2q_f64(ab_even, cd_even),
                vtrn2q_f64(ab_odd, cd_odd),
            ])
        }
    }
}

/// The even columns of two rows, as pairs.
#[target_feature(enable = "neon")]
#[inline]
fn even(a: float32x4_t, b: float32x4_t) -> float64x2_t {
    vreinterpretq_f64_f32(vtrn1q_f32(a, b))
}

/// The odd columns of two rows, as pairs.
#[target_feature(enable = "neon")]
#[inline]
fn odd(a: float32x4_t, b: float32x4_t) -> float64x2_t {
    vreinterpretq_f64_f32(vtrn2q_f32(a, b))
}

/// A line of codes, or of any other bytes.
pub(crate) type Line = [uint8x16_t; 4];

/// Bits as bytes of all ones or zeros.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn expand(bits: u64) -> Line {
    let bits = vreinterpretq_u8_u64(vdupq_n_u64(bits));
    let one: uint8x16_t = bytemuck::cast(0x8040_2010_0804_0201_8040_2010_0804_0201_u128);
    let mut bytes = [vdupq_n_u8(0); 4];
    for (q, bytes) in bytes.iter_mut().enumerate() {
        let mut index = [2 * q as u8; 16];
        index[8..].fill(2 * q as u8 + 1);
        *bytes = vtstq_u8(vqtbl1q_u8(bits, bytemuck::cast(index)), one);
    }
    bytes
}

/// 64 bytes of a plane.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) fn quarter(plane: &[u8; 256], q: usize) -> uint8x16x4_t {
    let [a, b, c, d]: Line = bytemuck::cast(plane.as_chunks::<64>().0[q]);
    uint8x16x4_t(a, b, c, d)
}
