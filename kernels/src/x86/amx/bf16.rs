//! AMX, bf16: tiles of weights by tiles of x.
//!
//! `tdpbf16ps` adds, for 16 rows and 16 tokens, the products of 32 columns: even and odd ones in a chain each, the two joined
//! and added to what was there. It rounds to nearest, takes subnormal numbers for 0 and makes 0 of subnormal sums. Two row
//! tiles by two x tiles are four tiles of sums: each tile that is loaded is used twice. Bound by the loads of x from L2, and by
//! decoding: a line of codes takes seven cycles, and with 32 tokens its products four. So a block of k is decoded while the first
//! two tiles are multiplied by it (`fresh.rs`).

use std::arch::asm;
use std::arch::x86_64::{_mm512_add_ps, _mm512_mul_ps, _mm512_set1_ps};
use std::marker::PhantomData;

use super::fresh::{Decode, HalfTable, SignedTable, WholeTable};
use super::tiles::Tiles;
use super::{Amx, refusal};
use crate::float::bf16::{
    Bf16, Bf16Entry, MultiplyFresh, PanelStep, TOKENS, TileSums, Work, XStep,
};
use crate::isa::{Isa, with_features};
use crate::x86::avx512::transpose;
use crate::x86::avx512vbmi::bf16::{Line, run, store};

pub(crate) static ENTRY: Bf16Entry = Bf16Entry {
    features: Amx::FEATURES,
    refusal,
    side: 2,
    from: 5,
    // Of an L2 of 2 MiB, which also holds codes to come. (With 3,072 columns 192 tokens; 128 are no slower, 256 a sixth.)
    x_bytes: 1152 << 10,
    run: run::<MatrixTiles<HalfTable>, MatrixTiles<WholeTable>, MatrixTiles<SignedTable>>,
};

/// With what decodes a block of k.
struct MatrixTiles<F>(PhantomData<F>);

impl<F: Decode> Bf16 for MatrixTiles<F> {
    type Isa = Amx;
    type Session = Tiles;
    type Line = Line;
    const SIDE: usize = 2;
    const TILES: usize = 2;
    const FRESH: Option<MultiplyFresh<Tiles>> = Some(F::fresh);

    #[inline(always)]
    fn begin(isa: Amx) -> Tiles {
        Tiles::configure(isa)
    }

    #[inline(always)]
    fn store(_: Amx, line: Line, steps: &mut [PanelStep; 2], row: usize) {
        store(line, steps, row);
    }

    #[inline(always)]
    fn multiply(_: Amx, tiles: &Tiles, work: &Work<'_>, sums: &mut [TileSums]) {
        let (panel, steps) = (work.panel.as_ptr(), work.panel.len());
        // SAFETY: these are all steps of the panel; `x_steps` has as many of each tile; sums are those of as many tiles.
        unsafe {
            match sums {
                [a, _] => {
                    let x = [work.x_steps(0).as_ptr(), work.x_steps(1).as_ptr()];
                    two(tiles, panel, x, steps, a, work.add);
                }
                _ => one(tiles, panel, work.x_steps(0).as_ptr(), steps, &mut sums[0], work.add),
            }
        }
    }

    with_features! { "avx512f";
        // Of a loop over floats the compiler made gathers and scatters of all rows: a fifth of the speed with blocks of 128.
        fn add_scaled(_isa: Amx, sum: &mut [f32; TOKENS], part: &[f32; TOKENS], by: f32) {
            let scaled = _mm512_mul_ps(bytemuck::cast(*part), _mm512_set1_ps(by));
            *sum = bytemuck::cast(_mm512_add_ps(bytemuck::cast(*sum), scaled));
        }

        fn transpose(_isa: Amx, from: &[[f32; TOKENS]; 16]) -> [[f32; 16]; TOKENS] {
            bytemuck::cast(transpose(bytemuck::cast(*from)))
        }
    }
}

/// Two x tiles.
///
/// # Safety
/// There are so many steps of the panel and of both tiles, and sums of a tile and the next.
#[inline(always)]
unsafe fn two(
    _: &Tiles,
    panel: *const PanelStep,
    [x, y]: [*const XStep; 2],
    steps: usize,
    sums: *mut TileSums,
    add: bool,
) {
    // SAFETY: a `Tiles` proves that tiles may be used and are configured; the caller answers for the memory.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{c} + {w}*1]",
            "tileloadd tmm1, [{c} + {w}*1 + 1024]",
            "tileloadd tmm2, [{c} + {w}*1 + 2048]",
            "tileloadd tmm3, [{c} + {w}*1 + 3072]",
            ".p2align 4",
            "3:",
            "tileloaddt1 tmm6, [{x} + {w}*1]",
            "tileloadd tmm4, [{a} + {w}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {w}*1 + 1024]",
            "tdpbf16ps tmm1, tmm5, tmm6",
            "tileloaddt1 tmm7, [{y} + {w}*1]",
            "tdpbf16ps tmm2, tmm4, tmm7",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {x}, 1024",
            "add {y}, 1024",
            "dec {n}",
            "jnz 3b",
            "tilestored [{c} + {w}*1], tmm0",
            "tilestored [{c} + {w}*1 + 1024], tmm1",
            "tilestored [{c} + {w}*1 + 2048], tmm2",
            "tilestored [{c} + {w}*1 + 3072], tmm3",
            a = inout(reg) panel => _,
            x = inout(reg) x => _,
            y = inout(reg) y => _,
            n = inout(reg) steps => _,
            c = in(reg) sums,
            w = in(reg) 64usize,
            add = in(reg) u32::from(add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// An x tile.
///
/// # Safety
/// There are so many steps of the panel and of the tile.
#[inline(always)]
unsafe fn one(
    _: &Tiles,
    panel: *const PanelStep,
    x: *const XStep,
    steps: usize,
    sums: *mut TileSums,
    add: bool,
) {
    // SAFETY: as above.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{c} + {w}*1]",
            "tileloadd tmm1, [{c} + {w}*1 + 1024]",
            ".p2align 4",
            "3:",
            "tileloaddt1 tmm6, [{x} + {w}*1]",
            "tileloadd tmm4, [{a} + {w}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {w}*1 + 1024]",
            "tdpbf16ps tmm1, tmm5, tmm6",
            "add {a}, 2048",
            "add {x}, 1024",
            "dec {n}",
            "jnz 3b",
            "tilestored [{c} + {w}*1], tmm0",
            "tilestored [{c} + {w}*1 + 1024], tmm1",
            a = inout(reg) panel => _,
            x = inout(reg) x => _,
            n = inout(reg) steps => _,
            c = in(reg) sums,
            w = in(reg) 64usize,
            add = in(reg) u32::from(add),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}
