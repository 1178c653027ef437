//! AVX-512 with VBMI, bf16: how lines of codes become bf16, for AMX and for AVX512-BF16.
//!
//! Every table of this mode has two bytes an entry, each looked up as in `f32.rs`. Unpacking works within 128-bit lanes, so
//! codes are put into an order first (one shuffle) in which it gives 32 codes and the next 32: groups of 32 then end where
//! steps do, and x is packed alike for all tables.

use std::arch::x86_64::*;

use super::{Plane, lookup};
use crate::float::Weights;
use crate::float::bf16::{Bf16, Decoder, Done, PanelStep, STEP, Scratch, XStep, gemm};
use crate::isa::with_features;
use crate::weights::LINE;
use crate::x86::avx512::Avx512F;

/// What decoding needs.
///
/// # Safety
/// The token proves `avx512vbmi`, and what [`Avx512F`] stands for.
pub(crate) unsafe trait HasVbmi: Avx512F {}

// SAFETY: it is in the list.
unsafe impl HasVbmi for super::Avx512Vbmi {}

/// Two steps of a row.
pub(crate) type Line = [__m512i; 2];

/// What an entry runs: it chooses the decoder, and what is beside it: for half a table, a whole one, and one with signs.
///
/// # Safety
/// As [`gemm`].
pub(crate) unsafe fn run<H, W, S>(
    w: &Weights<'_>,
    x: &[XStep],
    scratch: &mut Scratch<'_>,
    done: &mut Done<'_>,
) where
    H: Bf16<Isa: HasVbmi, Line = Line>,
    W: Bf16<Isa: HasVbmi, Line = Line>,
    S: Bf16<Isa: HasVbmi, Line = Line>,
{
    // SAFETY: the caller's promise.
    unsafe {
        if w.sign_magnitude() {
            gemm::<H, HalfTable>(w, x, scratch, done);
        } else if w.signed() {
            gemm::<S, WholeTable<true>>(w, x, scratch, done);
        } else {
            gemm::<W, WholeTable<false>>(w, x, scratch, done);
        }
    }
}

/// The rows of a panel lie as they stand: `[32 rows][32 columns]`.
#[inline(always)]
pub(crate) fn store(line: Line, steps: &mut [PanelStep; 2], row: usize) {
    for (step, part) in steps.iter_mut().zip(line) {
        step.as_chunks_mut::<STEP>().0[row] = bytemuck::cast(part);
    }
}

/// The bytes of entries, the top ones first.
type Planes = [Plane; 2];

#[target_feature(enable = "avx512f")]
#[inline]
fn planes(w: &Weights<'_>) -> Planes {
    let [_, _, second, top] = w.table.planes;
    [bytemuck::cast(top), bytemuck::cast(second)]
}

/// Eights of codes in the order that unpacking undoes.
#[target_feature(enable = "avx512f")]
#[inline]
fn in_order(codes: &[u8; LINE]) -> __m512i {
    let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    _mm512_permutexvar_epi64(order, bytemuck::cast(*codes))
}

/// FP8, and whatever else has the sign in the top bit.
struct HalfTable;

impl<B: Bf16<Isa: HasVbmi, Line = Line>> Decoder<B> for HalfTable {
    const SIGNED: bool = false;
    type Regs<'a> = Planes;

    with_features! { "avx512f";
        fn load(_isa: B::Isa, w: &Weights<'_>) -> Planes { planes(w) }
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode(_isa: B::Isa, table: &Planes, codes: &[u8; LINE], _signs: u64) -> Line {
            let codes = in_order(codes);
            let magnitude = _mm512_permutex2var_epi8(table[0][0], codes, table[0][1]);
            // a | (b & c)
            let sign_bit = _mm512_set1_epi8(i8::MIN);
            let top = _mm512_ternarylogic_epi32::<0xF8>(magnitude, codes, sign_bit);
            let second = _mm512_permutex2var_epi8(table[1][0], codes, table[1][1]);
            [_mm512_unpacklo_epi8(second, top), _mm512_unpackhi_epi8(second, top)]
        }
    }
}

/// Any table.
struct WholeTable<const SIGNED: bool>;

impl<const SIGNED: bool, B: Bf16<Isa: HasVbmi, Line = Line>> Decoder<B> for WholeTable<SIGNED> {
    const SIGNED: bool = SIGNED;
    type Regs<'a> = Planes;

    with_features! { "avx512f";
        fn load(_isa: B::Isa, w: &Weights<'_>) -> Planes { planes(w) }
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode(_isa: B::Isa, table: &Planes, codes: &[u8; LINE], signs: u64) -> Line {
            let codes = in_order(codes);
            let high = _mm512_movepi8_mask(codes);
            let (top, second) = (lookup(&table[0], codes, high), lookup(&table[1], codes, high));
            let words = [_mm512_unpacklo_epi8(second, top), _mm512_unpackhi_epi8(second, top)];
            // Adding 0x8000 flips the sign. Without a plane the signs are 0.
            let flip = _mm512_set1_epi16(i16::MIN);
            [
                _mm512_mask_add_epi16(words[0], signs as u32, words[0], flip),
                _mm512_mask_add_epi16(words[1], (signs >> 32) as u32, words[1], flip),
            ]
        }
    }
}
