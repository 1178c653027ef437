//! NEON with `bfmmla`: two rows by two tokens by four columns.
//!
//! The instruction adds four products to each of four sums. It rounds to odd (which is off by up to a whole unit in the last
//! place), takes subnormal numbers for 0 and makes 0 of subnormal sums. Eight rows by eight tokens are 16 registers of sums,
//! and a step of four columns 16 of these instructions for eight loads. Weights are decoded as in F32, of which bf16 is the
//! upper half. There is no machine to time this on: it is tested under an emulator.

use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

use super::neon::f32::{E4m3, E5m2, HalfTable, Integer, Lookup, Magnitude};
use super::neon::{F32x4, F64x2, HasNeon, Neon};
use crate::float;
use crate::float::bf16::{
    Bf16, Bf16Entry, Decoder, Done, PanelStep, ROWS, STEP, Scratch, TOKENS, TileSums, Work, XStep,
    gemm,
};
use crate::int::Doubles;
use crate::isa::{Isa, with_features};
use crate::table::ClosedForm;
use crate::weights::LINE;

crate::isa::isa! {
    /// Proof of NEON and `bfmmla`.
    NeonBf16: "neon", "bf16"
}

// SAFETY: it is in the list.
unsafe impl HasNeon for NeonBf16 {}

pub(crate) static ENTRY: Bf16Entry = Bf16Entry {
    features: NeonBf16::FEATURES,
    refusal: || None,
    side: Bfmmla::SIDE,
    // As many as gemm is for in F32.
    from: 9,
    // Of an L2 of 1 MiB, or the share of one.
    x_bytes: 512 << 10,
    run,
};

/// # Safety
/// As [`gemm`].
unsafe fn run(w: &float::Weights<'_>, x: &[XStep], scratch: &mut Scratch<'_>, done: &mut Done<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match w.closed_form() {
            Some(ClosedForm::Magnitude) => gemm::<Bfmmla, Upper<Magnitude>>(w, x, scratch, done),
            Some(ClosedForm::Signed { .. }) => gemm::<Bfmmla, Upper<Integer>>(w, x, scratch, done),
            Some(ClosedForm::E4m3) => gemm::<Bfmmla, Upper<E4m3>>(w, x, scratch, done),
            Some(ClosedForm::E5m2) => gemm::<Bfmmla, Upper<E5m2>>(w, x, scratch, done),
            None if w.sign_magnitude() => gemm::<Bfmmla, Upper<HalfTable>>(w, x, scratch, done),
            None if w.signed() => gemm::<Bfmmla, Upper<Lookup<true>>>(w, x, scratch, done),
            None => gemm::<Bfmmla, Upper<Lookup<false>>>(w, x, scratch, done),
        }
    }
}

/// Columns that an instruction takes.
const QUAD: usize = 4;

/// Rows and tokens whose sums are in registers.
const R: usize = 8;

struct Bfmmla;

impl Bf16 for Bfmmla {
    type Isa = NeonBf16;
    type Session = ();
    /// Eights of columns.
    type Line = [uint16x8_t; LINE / 8];
    const SIDE: usize = QUAD;
    const TILES: usize = 1;

    fn begin(_: NeonBf16) {}

    /// A panel's step is `[32 / 4][32 rows][4]`.
    #[inline(always)]
    fn store(_: NeonBf16, line: Self::Line, steps: &mut [PanelStep; 2], row: usize) {
        for (i, columns) in line.into_iter().enumerate() {
            let columns: [[u16; QUAD]; 2] = bytemuck::cast(columns);
            let step: &mut [[[u16; QUAD]; ROWS]; STEP / QUAD] =
                bytemuck::cast_mut(&mut steps[i / 4]);
            step[i % 4 * 2][row] = columns[0];
            step[i % 4 * 2 + 1][row] = columns[1];
        }
    }

    #[inline(always)]
    fn multiply(isa: NeonBf16, _: &(), work: &Work<'_>, sums: &mut [TileSums]) {
        let x = work.x_steps(0);
        for group in 0..ROWS / R {
            for half in 0..TOKENS / R {
                block(isa, work, x, (group, half), &mut sums[0]);
            }
        }
    }

    #[inline(always)]
    fn add_scaled(_: NeonBf16, sum: &mut [f32; TOKENS], part: &[f32; TOKENS], by: f32) {
        for (sum, part) in sum.iter_mut().zip(part) {
            *sum += part * by;
        }
    }

    #[inline(always)]
    fn transpose(isa: NeonBf16, from: &[[f32; TOKENS]; 16]) -> [[f32; 16]; TOKENS] {
        let from: &[[[f32; 4]; 4]; 16] = bytemuck::cast_ref(from);
        let mut to = [[[0.0; 4]; 4]; TOKENS];
        for i in 0..4 {
            for j in 0..4 {
                let rows =
                    [from[4 * i][j], from[4 * i + 1][j], from[4 * i + 2][j], from[4 * i + 3][j]];
                let columns = F64x2::<NeonBf16>::transpose(isa, rows);
                for c in 0..4 {
                    to[4 * j + c][i] = columns[c];
                }
            }
        }
        bytemuck::cast(to)
    }
}

/// Eight rows and eight tokens.
#[inline(always)]
fn block(
    isa: NeonBf16,
    work: &Work<'_>,
    x: &[XStep],
    (group, half): (usize, usize),
    sums: &mut TileSums,
) {
    // Two rows by two tokens.
    let mut acc = [[zero(isa); R / 2]; R / 2];
    if work.add {
        for r in 0..R / 2 {
            for t in 0..R / 2 {
                let (row, token) = (group * R + 2 * r, half * R + 2 * t);
                let [a, b] =
                    [&sums[row], &sums[row + 1]].map(|sums| [sums[token], sums[token + 1]]);
                acc[r][t] = bytemuck::cast([a, b]);
            }
        }
    }
    for (panel, x) in work.panel.iter().zip(x) {
        // Pairs of rows, and of tokens.
        let panel: &[[[u16; 2 * QUAD]; ROWS / 2]; STEP / QUAD] = bytemuck::cast_ref(panel);
        let x: &[[[u16; 2 * QUAD]; TOKENS / 2]; STEP / QUAD] = bytemuck::cast_ref(x);
        for q in 0..STEP / QUAD {
            let mut tokens = [eight(isa, [0; 8]); R / 2];
            for t in 0..R / 2 {
                tokens[t] = eight(isa, x[q][half * (R / 2) + t]);
            }
            for r in 0..R / 2 {
                let weights = eight(isa, panel[q][group * (R / 2) + r]);
                for t in 0..R / 2 {
                    acc[r][t] = multiply_add(isa, acc[r][t], weights, tokens[t]);
                }
            }
        }
    }
    for r in 0..R / 2 {
        for t in 0..R / 2 {
            let of: [[f32; 2]; 2] = bytemuck::cast(acc[r][t]);
            for (i, of_row) in of.into_iter().enumerate() {
                sums[group * R + 2 * r + i][half * R + 2 * t..][..2].copy_from_slice(&of_row);
            }
        }
    }
}

with_features! { "neon";
    fn zero(_isa: NeonBf16) -> float32x4_t { vdupq_n_f32(0.0) }
    fn eight(_isa: NeonBf16, from: [u16; 8]) -> uint16x8_t { bytemuck::cast(from) }
}

with_features! { "neon,bf16";
    fn multiply_add(
        _isa: NeonBf16,
        sums: float32x4_t,
        weights: uint16x8_t,
        x: uint16x8_t,
    ) -> float32x4_t {
        let mut sums = sums;
        // SAFETY: an instruction on registers, of a feature that this function has. (Intrinsics for it are not stable in
        // Rust 1.96.)
        unsafe {
            asm!("bfmmla {0:v}.4s, {1:v}.8h, {2:v}.8h",
                inout(vreg) sums, in(vreg) weights, in(vreg) x,
                options(pure, nomem, nostack, preserves_flags));
        }
        sums
    }
}

/// The upper halves of what a decoder of F32 gives.
struct Upper<D>(PhantomData<D>);

impl<D: float::Decoder<F32x4>> Decoder<Bfmmla> for Upper<D> {
    const SIGNED: bool = D::SIGNED;
    type Regs<'a> = D::Regs<'a>;

    #[inline(always)]
    fn load<'a>(isa: NeonBf16, w: &float::Weights<'a>) -> D::Regs<'a> {
        D::load(neon(isa), w.table)
    }

    #[inline(always)]
    fn decode(
        isa: NeonBf16,
        regs: &D::Regs<'_>,
        codes: &[u8; LINE],
        signs: u64,
    ) -> [uint16x8_t; LINE / 8] {
        const { assert!(D::UNIT == 1.0) };
        upper(isa, D::decode(neon(isa), regs, codes, signs))
    }
}

#[inline(always)]
fn neon(_: NeonBf16) -> Neon {
    // SAFETY: the token proves NEON too.
    unsafe { Neon::assume() }
}

with_features! { "neon";
    fn upper(_isa: NeonBf16, line: [float32x4_t; LINE / 4]) -> [uint16x8_t; LINE / 8] {
        let mut halves = [vdupq_n_u16(0); LINE / 8];
        for i in 0..LINE / 8 {
            let parts = [line[2 * i], line[2 * i + 1]];
            halves[i] = vuzp2q_u16(vreinterpretq_u16_f32(parts[0]), vreinterpretq_u16_f32(parts[1]));
        }
        halves
    }
}
