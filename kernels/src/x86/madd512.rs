//! AVX-512 without VNNI, integer modes: `vpmaddwd` multiplies words of weights by words of activations.
//!
//! Bound by `vpmaddwd` and its addition in the panel shape, by decoding in the row shape. Overflow: see
//! `words512`.

use std::arch::x86_64::*;

use super::AHEAD;
use super::f64x8::*;
use super::words512::*;
use crate::int::IntRow;
use crate::portion::LINE;
use crate::words::{BELOW_ONE, LOOKUP, SIGNED, int_decoder, int_scale, int_shift_add, int_start};

/// Two products of words to a lane.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn multiply_add(sum: I, weights: I, x: I) -> I {
    _mm512_add_epi32(sum, _mm512_madd_epi16(weights, x))
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
    let x: [I; 2] = bytemuck::cast(*x);
    for p in 0..P {
        for j in 0..2 {
            sums[p] = multiply_add(sums[p], weights[p][j], x[j]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], _sign: I, x: I) {
    for p in 0..P {
        sums[p] = multiply_add(sums[p], weights[p], x);
    }
}

crate::stamp::int_stamp! {
    features { "avx512f", "avx512bw", "avx512dq" }
    decoders { BELOW_ONE x 1, SIGNED x 1, LOOKUP x 1, LOOKUP x 2 }
    tiles {
        1: whole [12, 12], groups [6, 4];
        2: whole [12, 6], groups [4, 2];
        3: whole [8, 3], groups [2, 1];
        4: whole [6, 2], groups [2, 1];
    }
}
