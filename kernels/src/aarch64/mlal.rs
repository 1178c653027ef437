//! NEON, integer modes: `smlal` multiplies signed words of weights by words of activations.
//!
//! Codes are widened to words (QINS linear, int8) or looked up one by one, and take their sign there:
//! ±255 at most for a byte plane. Four products an instruction: with the extensions for products of
//! bytes there are sixteen: see `dot`.
//!
//! Overflow: a product is at most 255 · 32,512 = 8,290,560, of which i32 holds 259. A lane gets 16 a
//! line, so the row shape widens every 16 lines, and 2 a step, so a panel widens every 128 steps; lanes
//! are widened before they are added to each other.

use std::arch::aarch64::*;

use super::AHEAD;
use super::f64x2::*;
use super::i32x4::*;
use crate::image::Image;
use crate::int::IntRow;
use crate::portion::LINE;
use crate::words::{
    BELOW_ONE, INTEGER, LOOKUP, Words, int_decoder, int_scale, int_shift_add, int_start,
};

const WORDS: bool = true;
const FLUSH: usize = 16;
const FLUSH_STEPS: usize = 128;

/// Vectors of words in a line.
const PARTS: usize = LINE / 8;

type Limb = i16;

/// The planes of a line as signed words.
type IntLine<const P: usize> = [[int16x8_t; PARTS]; P];

type IntRegs = Words;

#[target_feature(enable = "neon")]
#[inline]
fn load_image<const D: u8, const P: usize>(image: &Image) -> IntRegs {
    Words::new::<D, P>(image)
}

#[target_feature(enable = "neon")]
#[inline]
fn int_decode<const D: u8, const SIGNED: bool, const P: usize>(
    image: &IntRegs,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let mut line = [[vdupq_n_s16(0); PARTS]; P];
    if D == LOOKUP {
        for p in 0..P {
            line[p] = bytemuck::cast(image.lookup(p, codes));
        }
    } else {
        let eighths = codes.as_chunks::<8>().0;
        for j in 0..PARTS {
            let eighth: uint8x8_t = bytemuck::cast(eighths[j]);
            line[0][j] = if D == BELOW_ONE {
                vreinterpretq_s16_u16(vmovl_u8(vqsub_u8(eighth, vdup_n_u8(1))))
            } else {
                vmovl_s8(vreinterpret_s8_u8(veor_u8(eighth, vdup_n_u8(image.flip))))
            };
        }
    }
    if SIGNED {
        let bits: uint16x8_t = bytemuck::cast([1u16, 2, 4, 8, 16, 32, 64, 128]);
        for j in 0..PARTS {
            let signs = vdupq_n_u16((signs >> (8 * j)) as u16);
            let negative = vreinterpretq_s16_u16(vtstq_u16(signs, bits));
            for p in 0..P {
                line[p][j] = vsubq_s16(veorq_s16(line[p][j], negative), negative);
            }
        }
    }
    line
}

#[target_feature(enable = "neon")]
#[inline]
fn int_sum4(v: [I; 4]) -> [i64; 4] {
    [int_sum(v[0]), int_sum(v[1]), int_sum(v[2]), int_sum(v[3])]
}

#[target_feature(enable = "neon")]
#[inline]
fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
    let x: [int16x8_t; PARTS] = bytemuck::cast(*x);
    for p in 0..P {
        for j in 0..PARTS {
            let low = vmlal_s16(sums[p], vget_low_s16(weights[p][j]), vget_low_s16(x[j]));
            sums[p] = vmlal_high_s16(low, weights[p][j], x[j]);
        }
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn int_store<const P: usize>(weights: &IntLine<P>, to: &mut [IntRow], line: usize) {
    for p in 0..P {
        let steps: &mut [u32; LINE / 2] = &mut to[p].as_chunks_mut().0[line];
        *steps = bytemuck::cast(weights[p]);
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], _sign: I, x: I) {
    let x = vreinterpretq_s16_s32(x);
    for p in 0..P {
        let weight = vreinterpretq_s16_s32(weights[p]);
        let low = vmull_s16(vget_low_s16(weight), vget_low_s16(x));
        sums[p] = vaddq_s32(sums[p], vpaddq_s32(low, vmull_high_s16(weight, x)));
    }
}

crate::stamp::int_stamp! {
    features { "neon" }
    signed { BELOW_ONE x 1, LOOKUP x 1, LOOKUP x 2, LOOKUP x 3 }
    unsigned { INTEGER x 1, LOOKUP x 1, LOOKUP x 2, LOOKUP x 3 }
    tiles {
        1: whole [12, 12, 6], groups [6, 4];
        2: whole [12, 6, 4], groups [4, 2];
        3: whole [8, 4, 2], groups [2, 1];
        4: whole [6, 3, 1], groups [2, 1];
    }
}
