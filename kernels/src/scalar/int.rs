//! The integer kernels in plain Rust: words, and i64 sums that never need widening.

use crate::image::Image;
use crate::int::{IntRow, PANEL_STEPS};
use crate::portion::LINE;
use crate::words::{int_scale, int_shift_add, int_start};

const WORDS: bool = true;
const INT_LANES: usize = 4;
/// Nothing to widen, so anything will do.
const FLUSH: usize = 1 << 20;
const FLUSH_STEPS: usize = PANEL_STEPS;
const AHEAD: usize = 0;

type Limb = i16;
type I = [i64; INT_LANES];
/// Two floats, as vectors of i32 have twice as many lanes as those of f64.
type F = [f64; F_LANES];
const F_LANES: usize = INT_LANES / 2;
/// The planes of a line, the sign of each weight multiplied in.
type IntLine<const P: usize> = [[i16; LINE]; P];
type IntRegs<'a> = &'a Image;

const LOOKUP: u8 = 0;

fn int_decoder(_: &IntPortion<'_>) -> u8 {
    LOOKUP
}

fn load_image<const D: u8, const P: usize>(image: &Image) -> IntRegs<'_> {
    image
}

fn int_decode<const D: u8, const SIGNED: bool, const P: usize>(
    image: &IntRegs<'_>,
    codes: &[u8; LINE],
    signs: u64,
) -> IntLine<P> {
    let mut line = [[0; LINE]; P];
    for (i, code) in codes.iter().enumerate() {
        let code = usize::from(*code);
        let negative = (signs >> i & 1 == 1) != (image.negative[code] != 0);
        for (p, plane) in line.iter_mut().enumerate() {
            let magnitude = i16::from(image.planes[p][code]);
            plane[i] = if negative { -magnitude } else { magnitude };
        }
    }
    line
}

fn int_zero() -> I {
    [0; INT_LANES]
}

fn int_sum(v: I) -> i64 {
    v.iter().sum()
}

fn int_sum4(vectors: [I; 4]) -> [i64; 4] {
    vectors.map(int_sum)
}

fn dot<const P: usize>(weights: &IntLine<P>, x: &[Limb; LINE], sums: &mut [I; P]) {
    for (plane, sums) in weights.iter().zip(sums) {
        sums[0] += plane.iter().zip(x).map(|(w, x)| i64::from(*w) * i64::from(*x)).sum::<i64>();
    }
}

fn int_store<const P: usize>(weights: &IntLine<P>, to: &mut [IntRow], line: usize) {
    for (plane, to) in weights.iter().zip(to) {
        let steps = to.as_chunks_mut::<{ LINE / 2 }>().0;
        for (step, pair) in steps[line].iter_mut().zip(plane.as_chunks::<2>().0) {
            *step = bytemuck::cast(*pair);
        }
    }
}

fn int_splat(step: u32) -> I {
    [i64::from(step); INT_LANES]
}

fn int_load(steps: &[u32; INT_LANES]) -> I {
    steps.map(i64::from)
}

fn mac<const P: usize>(sums: &mut [I; P], weights: &[I; P], _sign: I, x: I) {
    let words = |step: i64| bytemuck::cast::<u32, [i16; 2]>(step as u32).map(i64::from);
    for (sums, weights) in sums.iter_mut().zip(weights) {
        for ((sum, weight), x) in sums.iter_mut().zip(weights).zip(x) {
            let (weight, x) = (words(*weight), words(x));
            *sum += weight[0] * x[0] + weight[1] * x[1];
        }
    }
}

fn int_widen(v: I) -> [F; 2] {
    let [a, b, c, d] = v.map(|v| v as f64);
    [[a, b], [c, d]]
}

fn f_splat(value: f64) -> F {
    [value; F_LANES]
}

fn f_load(from: &[f64; F_LANES]) -> F {
    *from
}

fn f_store(v: F, to: &mut [f64; F_LANES]) {
    *to = v;
}

fn f_mul(a: F, b: F) -> F {
    [a[0] * b[0], a[1] * b[1]]
}

fn f_add(a: F, b: F) -> F {
    [a[0] + b[0], a[1] + b[1]]
}

fn f_round(v: [F; 2]) -> [f32; INT_LANES] {
    [v[0][0] as f32, v[0][1] as f32, v[1][0] as f32, v[1][1] as f32]
}

fn transpose(rows: [[f32; INT_LANES]; INT_LANES]) -> [[f32; INT_LANES]; INT_LANES] {
    std::array::from_fn(|j| rows.map(|row| row[j]))
}

crate::stamp::int_stamp! {
    features {}
    signed { LOOKUP x 1, LOOKUP x 2, LOOKUP x 3 }
    unsigned { LOOKUP x 1, LOOKUP x 2, LOOKUP x 3 }
    tiles { 1: whole [4, 4, 4], groups [4, 4]; }
}
