//! NEON with products of bytes, integer modes: `udot` or `usdot` multiplies magnitudes (u8) by digits.
//!
//! Sixteen products an instruction, four to a lane. Magnitudes are computed (QINS linear: one saturating
//! subtraction, int8: one `abs`) or looked up by four-register `tbl`, two or four for 16 codes and a
//! plane. (For 256 entries in two planes scalar loads would do as well on a Neoverse V2, and be slower on
//! an M1: see `neon`.) Bound by decoding in the row shape, by products and the exclusive or in the panel
//! shape. There is no machine to time this on: rustc 1.96 makes some 60 instructions of a line of QINS linear
//! and its signs, for a token of one digit, of which 8 are products.
//!
//! A sign goes to the digits, by an exclusive or with a mask, and what is wrong with them then is the
//! product of the magnitudes and the mask:
//!
//! - `usdot` takes digits as signed. The mask is −1 for a negative weight, else 0; `x ^ −1 = −x − 1`.
//! - `udot`, which older CPUs have too, takes them as unsigned. The mask is 127 for a negative weight, else
//!   128; `x ^ 128` is x + 128 there, and `x ^ 127` is −x + 127.
//!
//! In both cases `±L·x = L·(x ^ mask) − L·mask`. The last product is found once for a line of a row and
//! all its tokens and limbs; in the panel shape it is where sums start.
//!
//! Overflow: sums wrap, so it is enough that i32 holds what they come to. A lane's is at most 4 · 255 · 127
//! a step, of which a panel has 768: 1.0e8. In the row shape it is 16 · 255 · 127 a line; every 1,024
//! lines (65,536 of k) are widened, of which even all lanes together are 65,536 · 255 · 127 < 2³¹, so
//! that the horizontal sum holds them too. What sums start from is at most 768 · 4 · 255 · 128 = 1.0e8.

use std::arch::aarch64::*;
use std::arch::asm;

use super::AHEAD;
use super::f64x2::*;
use super::i32x4::*;
use super::neon::{Line, expand, quarter};
use crate::bytes::{BELOW_ONE, EIGHT_BITS, INTEGER, SEVEN_BITS, flip, int_decoder};
use crate::image::{EntrySign, Image};
use crate::int::{IntRow, PANEL_STEPS};
use crate::portion::LINE;

const WORDS: bool = false;
const FLUSH: usize = 1024;
const FLUSH_STEPS: usize = PANEL_STEPS;

type Limb = i8;

/// The magnitudes of a line by planes, what x is xored with, and what is wrong with the products then.
#[derive(Clone, Copy)]
struct IntLine<const P: usize> {
    planes: [Line; P],
    mask: Line,
    excess: [I; P],
}

type IntRegs<'a> = &'a Image;

#[target_feature(enable = "neon")]
#[inline]
fn load_image<const D: u8, const P: usize>(image: &Image) -> IntRegs<'_> {
    image
}

/// Magnitudes of a line, and bytes of all ones for negative weights.
#[target_feature(enable = "neon")]
#[inline]
fn decode<const D: u8, const SIGNED: bool, const P: usize>(
    image: &Image,
    codes: &[u8; LINE],
    signs: u64,
) -> ([Line; P], Line) {
    let mut planes = [[vdupq_n_u8(0); 4]; P];
    let mut negative = [vdupq_n_u8(0); 4];
    let codes: Line = bytemuck::cast(*codes);
    for j in 0..4 {
        if D == BELOW_ONE {
            planes[0][j] = vqsubq_u8(codes[j], vdupq_n_u8(1));
        } else if D == INTEGER {
            let values = vreinterpretq_s8_u8(veorq_u8(codes[j], vdupq_n_u8(flip(image))));
            planes[0][j] = vreinterpretq_u8_s8(vabsq_s8(values));
            negative[j] = vcltzq_s8(values);
        } else {
            for p in 0..P {
                planes[p][j] = lookup::<D>(&image.planes[p], codes[j]);
            }
            negative[j] = match image.sign {
                EntrySign::None => negative[j],
                EntrySign::TopBit => vcltzq_s8(vreinterpretq_s8_u8(codes[j])),
                EntrySign::Table => lookup::<EIGHT_BITS>(&image.negative, codes[j]),
            };
        }
    }
    if SIGNED {
        let signs = expand(signs);
        for j in 0..4 {
            negative[j] = veorq_u8(negative[j], signs[j]);
        }
    }
    (planes, negative)
}

/// The bytes of some codes: `tbl` gives zero for those that are not in its quarter.
#[target_feature(enable = "neon")]
#[inline]
fn lookup<const D: u8>(plane: &[u8; 256], codes: uint8x16_t) -> uint8x16_t {
    let (codes, quarters) =
        if D == SEVEN_BITS { (vbicq_u8(codes, vdupq_n_u8(0x80)), 2) } else { (codes, 4) };
    let mut bytes = vdupq_n_u8(0);
    for q in 0..quarters {
        let index = vsubq_u8(codes, vdupq_n_u8(64 * q as u8));
        bytes = vorrq_u8(bytes, vqtbl4q_u8(quarter(plane, q), index));
    }
    bytes
}

/// The sums of four vectors.
#[target_feature(enable = "neon")]
#[inline]
fn int_sum4(v: [I; 4]) -> [i64; 4] {
    let sums: [i32; 4] = bytemuck::cast(vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3])));
    sums.map(i64::from)
}

/// Stores a line of a panel's row.
#[target_feature(enable = "neon")]
#[inline]
fn int_store<const P: usize>(weights: &IntLine<P>, to: &mut [IntRow], line: usize) {
    for (to, bytes) in to.iter_mut().zip(weights.planes.iter().chain([&weights.mask])) {
        let steps: &mut [u32; 16] = &mut to.as_chunks_mut().0[line];
        *steps = bytemuck::cast(*bytes);
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn int_shift_add(high: I, low: I) -> I {
    vaddq_s32(vshlq_n_s32::<8>(high), low)
}

#[target_feature(enable = "neon")]
#[inline]
fn int_scale(sums: I, part: I, multiplier: I) -> I {
    vmlaq_s32(sums, part, multiplier)
}

/// Stamps the kernel with an instruction, the mask of a weight that is not negative, and the features.
macro_rules! kernel {
    (
        $instruction:literal, $plain:literal,
        features { $($feature:tt),* }
    ) => {
        use super::*;

        /// Four products to a lane. (Intrinsics for this are not stable in Rust 1.96.)
        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn multiply_add(mut sum: I, magnitudes: uint8x16_t, x: uint8x16_t) -> I {
            // SAFETY: an instruction on registers, of a feature that this function has.
            unsafe {
                asm!(concat!($instruction, " {0:v}.4s, {1:v}.16b, {2:v}.16b"),
                    inout(vreg) sum, in(vreg) magnitudes, in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags));
            }
            sum
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_decode<const D: u8, const SIGNED: bool, const P: usize>(
            image: &IntRegs<'_>,
            codes: &[u8; LINE],
            signs: u64,
        ) -> IntLine<P> {
            let (planes, mut mask) = decode::<D, SIGNED, P>(image, codes, signs);
            let mut excess = [int_zero(); P];
            for j in 0..4 {
                mask[j] = veorq_u8(mask[j], vdupq_n_u8($plain));
                for p in 0..P {
                    excess[p] = multiply_add(excess[p], planes[p][j], mask[j]);
                }
            }
            IntLine { planes, mask, excess }
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
            let x: Line = bytemuck::cast(*x);
            for p in 0..P {
                sums[p] = vsubq_s32(sums[p], weights.excess[p]);
            }
            for j in 0..4 {
                let x = veorq_u8(x[j], weights.mask[j]);
                for p in 0..P {
                    sums[p] = multiply_add(sums[p], weights.planes[p][j], x);
                }
            }
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn int_start(magnitudes: &[[u32; 8]], masks: &[[u32; 8]]) -> i32 {
            let mut excess = int_zero();
            for (magnitudes, masks) in magnitudes.iter().zip(masks) {
                let magnitudes: [uint8x16_t; 2] = bytemuck::cast(*magnitudes);
                let masks: [uint8x16_t; 2] = bytemuck::cast(*masks);
                excess = multiply_add(excess, magnitudes[0], masks[0]);
                excess = multiply_add(excess, magnitudes[1], masks[1]);
            }
            -vaddvq_s32(excess)
        }

        $(#[target_feature(enable = $feature)])*
        #[inline]
        fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], mask: I, x: I) {
            let x = vreinterpretq_u8_s32(veorq_s32(x, mask));
            for p in 0..P {
                sums[p] = multiply_add(sums[p], vreinterpretq_u8_s32(weights[p]), x);
            }
        }

        crate::stamp::int_stamp! {
            features { $($feature),* }
            signed { BELOW_ONE x 1, EIGHT_BITS x 1, EIGHT_BITS x 2, EIGHT_BITS x 3 }
            unsigned {
                INTEGER x 1, SEVEN_BITS x 2, SEVEN_BITS x 3, EIGHT_BITS x 1, EIGHT_BITS x 2,
                EIGHT_BITS x 3,
            }
            tiles {
                1: whole [8, 6, 6], groups [6, 4], multiplied [6, 3, 3];
                2: whole [12, 6, 4], groups [4, 2], multiplied [6, 3, 2];
                3: whole [8, 4, 2], groups [2, 1], multiplied [4, 2, 1];
                4: whole [6, 3, 1], groups [2, 1], multiplied [3, 1, 1];
            }
        }
    };
}

pub(crate) mod dotprod {
    kernel! {
        "udot", 0x80, features { "neon", "dotprod" }
    }
}

pub(crate) mod i8mm {
    kernel! {
        "usdot", 0, features { "neon", "i8mm" }
    }
}
