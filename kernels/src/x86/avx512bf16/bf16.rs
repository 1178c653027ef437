//! AVX512-BF16: pairs of columns, 16 tokens to a vector.
//!
//! `vdpbf16ps` adds two products to each sum: a pair of a row's weights, broadcast from the panel, by pairs of 16 tokens. It
//! rounds once for each product, takes subnormal numbers for 0 and makes 0 of subnormal sums. Bound by that instruction.
//! Tested on a Sapphire Rapids; its speed has been measured on no CPU that it is for.

use std::arch::x86_64::*;

use super::Avx512Bf16;
use crate::float::bf16::{Bf16, Bf16Entry, PanelStep, ROWS, STEP, TOKENS, TileSums, Work};
use crate::isa::{Isa, with_features};
use crate::x86::avx512::transpose;
use crate::x86::avx512vbmi::bf16::{Line, run, store};

pub(crate) static ENTRY: Bf16Entry = Bf16Entry {
    features: Avx512Bf16::FEATURES,
    refusal: || None,
    side: Pairs::SIDE,
    // As many as gemm is for in F32.
    from: 9,
    x_bytes: 512 << 10,
    run: run::<Pairs, Pairs, Pairs>,
};

struct Pairs;

/// Rows whose sums are in registers: 24 of 32 with three tiles.
const R: usize = 8;

impl Bf16 for Pairs {
    type Isa = Avx512Bf16;
    type Session = ();
    type Line = Line;
    const SIDE: usize = 2;
    const TILES: usize = 3;

    fn begin(_: Avx512Bf16) {}

    #[inline(always)]
    fn store(_: Avx512Bf16, line: Line, steps: &mut [PanelStep; 2], row: usize) {
        store(line, steps, row);
    }

    #[inline(always)]
    fn multiply(isa: Avx512Bf16, _: &(), work: &Work<'_>, sums: &mut [TileSums]) {
        match sums {
            [a, b, c] => tiles(isa, work, [a, b, c]),
            [a, b] => tiles(isa, work, [a, b]),
            _ => tiles(isa, work, [&mut sums[0]]),
        }
    }

    with_features! { "avx512f";
        // Of a loop over floats the compiler made gathers and scatters of all rows: a fifth of the speed with blocks of 128.
        fn add_scaled(_isa: Avx512Bf16, sum: &mut [f32; TOKENS], part: &[f32; TOKENS], by: f32) {
            let scaled = _mm512_mul_ps(bytemuck::cast(*part), _mm512_set1_ps(by));
            *sum = bytemuck::cast(_mm512_add_ps(bytemuck::cast(*sum), scaled));
        }

        fn transpose(_isa: Avx512Bf16, from: &[[f32; TOKENS]; 16]) -> [[f32; 16]; TOKENS] {
            bytemuck::cast(transpose(bytemuck::cast(*from)))
        }
    }
}

/// All rows of T tiles.
#[inline(always)]
fn tiles<const T: usize>(isa: Avx512Bf16, work: &Work<'_>, sums: [&mut TileSums; T]) {
    let mut x = [&[][..]; T];
    for t in 0..T {
        x[t] = work.x_steps(t);
    }
    for group in 0..ROWS / R {
        let mut acc = [[zero(isa); T]; R];
        if work.add {
            for r in 0..R {
                for t in 0..T {
                    acc[r][t] = bytemuck::cast(sums[t][group * R + r]);
                }
            }
        }
        for (step, panel) in work.panel.iter().enumerate() {
            let rows: &[[u32; STEP / 2]; ROWS] = bytemuck::cast_ref(panel);
            let rows: &[[u32; STEP / 2]; R] = &rows.as_chunks().0[group];
            let mut pairs: [&[[u32; TOKENS]; STEP / 2]; T] = [&[[0; TOKENS]; STEP / 2]; T];
            for t in 0..T {
                pairs[t] = bytemuck::cast_ref(&x[t][step]);
            }
            for p in 0..STEP / 2 {
                for r in 0..R {
                    for t in 0..T {
                        acc[r][t] = dot(isa, acc[r][t], &pairs[t][p], rows[r][p]);
                    }
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                sums[t][group * R + r] = bytemuck::cast(acc[r][t]);
            }
        }
    }
}

with_features! { "avx512f";
    fn zero(_isa: Avx512Bf16) -> __m512 { _mm512_setzero_ps() }
}

with_features! { "avx512f,avx512bf16";
    /// Adds the products of a pair of weights and pairs of x.
    fn dot(_isa: Avx512Bf16, sum: __m512, x: &[u32; TOKENS], weights: u32) -> __m512 {
        let x: __m512i = bytemuck::cast(*x);
        let weights = _mm512_set1_epi32(weights as i32);
        // SAFETY: both types are 64 bytes of which any values are valid.
        unsafe {
            let [x, weights] = std::mem::transmute::<[__m512i; 2], [__m512bh; 2]>([x, weights]);
            _mm512_dpbf16_ps(sum, x, weights)
        }
    }
}
