//! F32 in plain Rust: every table is looked up.

use super::Scalar;
use crate::float::{
    Decoder, Float, FloatDecoder, FloatEntry, Gemv, LINES, Loops, Microkernel, Natural, QUARTERS,
    WHOLE, Weights, decoder, either, gemv, microkernel,
};
use crate::isa::Isa;
use crate::table::Table;
use crate::weights::LINE;

/// Four floats.
struct F32;

pub(crate) static ENTRY: FloatEntry =
    FloatEntry { features: Scalar::FEATURES, lanes: F32::LANES, decoder: choose, gemm: &GEMM };

static GEMM: [Microkernel; 1] = [microkernel::<F32, 1, 4>()];

fn choose(w: &Weights<'_>) -> &'static FloatDecoder {
    either(w, decoder::<F32, Lookup<true>>(), decoder::<F32, Lookup<false>>())
}

impl<D: Decoder<Self>> Loops<D> for F32 {
    const GEMV: [&'static [Gemv]; 3] = [
        &[gemv::<Self, D, WHOLE, 1, 1, 1>()],
        &[gemv::<Self, D, LINES, 1, 1, 1>()],
        &[gemv::<Self, D, QUARTERS, 1, 1, 1>()],
    ];
}

type V = [f32; 4];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut out = a;
    for (out, b) in out.iter_mut().zip(b) {
        *out = f(*out, b);
    }
    out
}

impl Float for F32 {
    type Isa = Scalar;
    type V = V;
    type Lanes = V;
    type Line = [V; LINE / 4];

    #[inline(always)]
    fn zero(_: Scalar) -> V {
        [0.0; 4]
    }

    #[inline(always)]
    fn splat(_: Scalar, value: f32) -> V {
        [value; 4]
    }

    #[inline(always)]
    fn load(_: Scalar, from: &V) -> V {
        *from
    }

    #[inline(always)]
    fn store(_: Scalar, v: V, to: &mut V) {
        *to = v;
    }

    #[inline(always)]
    fn mul(_: Scalar, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn add(_: Scalar, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }

    /// Two roundings: without FMA instructions a fused one is a slow function call.
    #[inline(always)]
    fn fma(isa: Scalar, a: V, b: V, c: V) -> V {
        Self::add(isa, Self::mul(isa, a, b), c)
    }

    #[inline(always)]
    fn sum(_: Scalar, v: V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }

    #[inline(always)]
    fn zero_line(_: Scalar) -> Self::Line {
        [[0.0; 4]; LINE / 4]
    }
}

/// Any table.
struct Lookup<const SIGNED: bool>;

impl<const SIGNED: bool> Decoder<F32> for Lookup<SIGNED> {
    const NAME: &'static str = "lookup";
    const SIGNED: bool = SIGNED;
    type Order = Natural;
    type Regs<'a> = &'a [f32; 256];

    fn load(_: Scalar, table: &Table) -> &[f32; 256] {
        &table.values
    }

    #[inline(always)]
    fn decode(_: Scalar, table: &&[f32; 256], codes: &[u8; LINE], signs: u64) -> [V; LINE / 4] {
        let mut line = [0.0; LINE];
        for (i, (w, code)) in line.iter_mut().zip(codes).enumerate() {
            let flip = ((signs >> i & 1) as u32) << 31;
            *w = f32::from_bits(table[usize::from(*code)].to_bits() ^ flip);
        }
        bytemuck::cast(line)
    }
}
