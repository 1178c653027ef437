//! Integer modes in plain Rust: words, and i64 sums that never need widening.

use super::Scalar;
use crate::int::{
    Decoder, Decoders, Doubles, GemmEntry, Groups, Int, IntEntry, KC, Microkernel, Microkernels,
    Operand, PanelRow, Sums, choose, groups, whole,
};
use crate::isa::Isa;
use crate::quantised::QuantisedTable;
use crate::weights::LINE;

/// Words.
struct I16;

pub(crate) static ENTRY: IntEntry = IntEntry {
    features: Scalar::FEATURES,
    operand: I16::OPERAND,
    lanes: 4,
    decoder: choose::<I16>,
    gemm: GemmEntry::of::<I16>(),
};

impl Decoders for I16 {
    type Magnitude = Lookup<true>;
    type Integer = Lookup<false>;
    type Signed = Lookup<true>;
    type Unsigned = Lookup<false>;
    type Half = Lookup<false>;
}

impl Microkernels<1> for I16 {
    const WHOLE: &'static [Microkernel<Self>] = &[whole::<Self, 1, 1, 4>()];
    const GROUPS: &'static [Groups] = &[groups::<Self, 1, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<2> for I16 {
    const WHOLE: &'static [Microkernel<Self>] = &[whole::<Self, 2, 1, 4>()];
    const GROUPS: &'static [Groups] = &[groups::<Self, 2, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

impl Microkernels<3> for I16 {
    const WHOLE: &'static [Microkernel<Self>] = &[whole::<Self, 3, 1, 4>()];
    const GROUPS: &'static [Groups] = &[];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[];
}

type V = [i64; 4];

/// Four sums.
struct I64x4;

impl Sums for I64x4 {
    type Isa = Scalar;
    type V = V;
    type Lanes = [u32; 4];
    type Doubles = F64x2;

    #[inline(always)]
    fn zero(_: Scalar) -> V {
        [0; 4]
    }

    #[inline(always)]
    fn splat(_: Scalar, word: u32) -> V {
        [i64::from(word); 4]
    }

    #[inline(always)]
    fn load(_: Scalar, from: &[u32; 4]) -> V {
        from.map(i64::from)
    }

    #[inline(always)]
    fn widen(_: Scalar, v: V) -> [[f64; 2]; 2] {
        let [a, b, c, d] = v.map(|v| v as f64);
        [[a, b], [c, d]]
    }

    #[inline(always)]
    fn multiply_add(_: Scalar, sums: V, part: V, by: V) -> V {
        let mut sums = sums;
        for i in 0..4 {
            sums[i] += part[i] * by[i];
        }
        sums
    }

    #[inline(always)]
    fn shift_add(_: Scalar, high: V, low: V) -> V {
        let mut sum = low;
        for i in 0..4 {
            sum[i] += high[i] << 8;
        }
        sum
    }
}

/// Two floats, as vectors of i32 have twice as many lanes as those of f64.
struct F64x2;

impl Doubles for F64x2 {
    type Isa = Scalar;
    type V = [f64; 2];
    type Lanes = [f64; 2];
    type Row = [f32; 4];
    type Block = [[f32; 4]; 4];

    #[inline(always)]
    fn splat(_: Scalar, value: f64) -> [f64; 2] {
        [value; 2]
    }

    #[inline(always)]
    fn load(_: Scalar, from: &[f64; 2]) -> [f64; 2] {
        *from
    }

    #[inline(always)]
    fn store(_: Scalar, v: [f64; 2], to: &mut [f64; 2]) {
        *to = v;
    }

    #[inline(always)]
    fn mul(_: Scalar, a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        [a[0] * b[0], a[1] * b[1]]
    }

    #[inline(always)]
    fn add(_: Scalar, a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        [a[0] + b[0], a[1] + b[1]]
    }

    #[inline(always)]
    fn round(_: Scalar, v: [[f64; 2]; 2]) -> [f32; 4] {
        [v[0][0] as f32, v[0][1] as f32, v[1][0] as f32, v[1][1] as f32]
    }

    #[inline(always)]
    fn transpose(_: Scalar, rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
        std::array::from_fn(|j| rows.map(|row| row[j]))
    }
}

/// The planes of a line, the sign of each weight multiplied in.
type Line<const P: usize> = [[i16; LINE]; P];

impl Int for I16 {
    type Sums = I64x4;
    type Limb = i16;
    type Regs<'a> = &'a QuantisedTable;
    type Line<const P: usize> = Line<P>;
    const OPERAND: Operand = Operand::I16;
    /// Nothing to widen, so anything will do.
    const FLUSH_LINES: usize = 1 << 20;
    const FLUSH_WORDS: usize = KC;

    #[inline(always)]
    fn load(_: Scalar, table: &QuantisedTable, _: usize) -> &QuantisedTable {
        table
    }

    #[inline(always)]
    fn dot<const P: usize>(_: Scalar, weights: &Line<P>, x: &[i16; LINE], sums: &mut [V; P]) {
        for (plane, sums) in weights.iter().zip(sums) {
            for (weight, x) in plane.iter().zip(x) {
                sums[0] += i64::from(*weight) * i64::from(*x);
            }
        }
    }

    #[inline(always)]
    fn sum(_: Scalar, v: V) -> i64 {
        v.iter().sum()
    }

    #[inline(always)]
    fn sum4(isa: Scalar, v: [V; 4]) -> [i64; 4] {
        v.map(|v| Self::sum(isa, v))
    }

    #[inline(always)]
    fn store_line<const P: usize>(_: Scalar, weights: &Line<P>, to: &mut [PanelRow], line: usize) {
        for (plane, to) in weights.iter().zip(to) {
            let words = &mut to.as_chunks_mut::<{ LINE / 2 }>().0[line];
            for (word, pair) in words.iter_mut().zip(plane.as_chunks::<2>().0) {
                *word = bytemuck::cast(*pair);
            }
        }
    }

    /// Words have their signs.
    fn compensation(_: Scalar, _: &[[u32; 8]], _: &[[u32; 8]]) -> i32 {
        0
    }

    #[inline(always)]
    fn madd<const P: usize>(_: Scalar, sums: &mut [V; P], weights: &[V; P], _: V, x: V) {
        let words = |word: i64| bytemuck::cast::<u32, [i16; 2]>(word as u32).map(i64::from);
        for (sums, weights) in sums.iter_mut().zip(weights) {
            for ((sum, weight), x) in sums.iter_mut().zip(weights).zip(x) {
                let (weight, x) = (words(*weight), words(x));
                *sum += weight[0] * x[0] + weight[1] * x[1];
            }
        }
    }
}

/// Any table.
struct Lookup<const SIGNED: bool>;

impl<const SIGNED: bool, const P: usize> Decoder<I16, P> for Lookup<SIGNED> {
    const SIGNED: bool = SIGNED;
    const LOOKUP: bool = true;

    #[inline(always)]
    fn decode(_: Scalar, table: &&QuantisedTable, codes: &[u8; LINE], signs: u64) -> Line<P> {
        let mut line = [[0; LINE]; P];
        for (i, code) in codes.iter().enumerate() {
            let code = usize::from(*code);
            let negative = (signs >> i & 1 == 1) != (table.negative[code] != 0);
            for (p, plane) in line.iter_mut().enumerate() {
                let magnitude = i16::from(table.planes[p][code]);
                plane[i] = if negative { -magnitude } else { magnitude };
            }
        }
        line
    }
}
