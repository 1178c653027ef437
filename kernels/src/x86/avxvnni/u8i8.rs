//! AVX-VNNI, integer modes: 256-bit `vpdpbusd` multiplies magnitudes (u8) by digits (i8).
//!
//! What AVX-512 with VNNI does, without its mask registers and byte lookups. Magnitudes are computed
//! (QINS linear: one saturating subtraction, int8: one `vpabsb`) or looked up by `vpshufb`, 16 entries at
//! a time. In gemv `vpsignb` gives the weights' signs to the activations; in gemm these
//! are xored with a plane of sign bytes. gemv is bound by decoding, gemm by `vpdpbusd` and the
//! broadcasts of weights.
//!
//! On a Zen 4 the same loops with AVX-512's encoding were faster than AVX2's of words by this much, QINS linear and E4M3:
//! 256 tokens A24 1.7× and 2.2×, A16 1.3× and 1.7×, A8 1.2× and 1.6×, A8T 2.3× and 3.2×; one token, cached, A16
//! 1.4× and 2.2×, A8T 1.6× and 1.8×. With 256 entries in two planes, one token, `vpshufb` took 0.9 to 1.2
//! times as long as scalar lookups there; CPUs that insert words by one port should gain more.
//!
//! Overflow: a product is at most 255 · 128 (x ^ 0xFF may be −128). A lane adds 4 of them a word,
//! 130,560, and a panel has 768 words: 1.0e8. It adds 8 a line, and gemv widens every 1,024
//! lines (65,536 of k), where x is ±127: even all lanes together are 65,536 · 255 · 127 < 2³¹, so that
//! the horizontal sum holds them too.

use std::arch::x86_64::*;

use super::AvxVnni;
use crate::int::{
    Decoder, Decoders, GemmEntry, Groups, Int, IntEntry, KC, Microkernel, Microkernels, Operand,
    PanelRow, choose, groups, multiplied, whole,
};
use crate::isa::{Isa, with_features};
use crate::quantised::QuantisedTable;
use crate::weights::LINE;
use crate::x86::avx2::bytes::{self, Line as Bytes, Regs};
use crate::x86::avx2::{I32x8, wide_sum};

/// Bytes, with `vpdpbusd`.
struct U8I8;

pub(crate) static ENTRY: IntEntry = IntEntry {
    features: AvxVnni::FEATURES,
    operand: U8I8::OPERAND,
    lanes: 8,
    decoder: choose::<U8I8>,
    gemm: GemmEntry::of::<U8I8>(),
};

impl Decoders for U8I8 {
    type Magnitude = Magnitude;
    type Integer = Integer;
    type Signed = Lookup<true, 2>;
    type Unsigned = Lookup<false, 2>;
    type Half = Lookup<false, 1>;
}

impl Microkernels<1> for U8I8 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 1, 2, 4>(), whole::<Self, 1, 1, 8>()];
    const GROUPS: &'static [Groups] = &[groups::<Self, 1, 2, 2>(), groups::<Self, 1, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] =
        &[multiplied::<Self, 1, 2, 3>(), multiplied::<Self, 1, 1, 6>()];
}

impl Microkernels<2> for U8I8 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 2, 2, 2>(), whole::<Self, 2, 1, 4>()];
    const GROUPS: &'static [Groups] = &[groups::<Self, 2, 2, 1>(), groups::<Self, 2, 1, 2>()];
    const MULTIPLIED: &'static [Microkernel<Self>] =
        &[multiplied::<Self, 2, 2, 2>(), multiplied::<Self, 2, 1, 3>()];
}

impl Microkernels<3> for U8I8 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 3, 2, 1>(), whole::<Self, 3, 1, 3>()];
    const GROUPS: &'static [Groups] = &[];
    const MULTIPLIED: &'static [Microkernel<Self>] =
        &[multiplied::<Self, 3, 2, 1>(), multiplied::<Self, 3, 1, 2>()];
}

/// The magnitudes of a line by planes, and bytes that have the signs of its weights and are never zero.
type Line<const P: usize> = ([Bytes; P], Bytes);

impl Int for U8I8 {
    type Sums = I32x8<AvxVnni>;
    type Limb = i8;
    type Regs<'a> = Regs;
    type Line<const P: usize> = Line<P>;
    const OPERAND: Operand = Operand::U8I8;
    const FLUSH_LINES: usize = 1024;
    const FLUSH_WORDS: usize = KC;

    with_features! { "avx2";
        fn load(_isa: AvxVnni, table: &QuantisedTable, lookups: usize) -> Regs {
            bytes::load(table, lookups)
        }
        fn sum(_isa: AvxVnni, v: __m256i) -> i64 { wide_sum(v) }
        fn sum4(_isa: AvxVnni, v: [__m256i; 4]) -> [i64; 4] {
            let (ab, cd) = (_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
            let four = _mm256_hadd_epi32(ab, cd);
            let high = _mm256_extracti128_si256::<1>(four);
            let one = _mm_add_epi32(_mm256_castsi256_si128(four), high);
            bytemuck::cast(_mm256_cvtepi32_epi64(one))
        }
        fn store_line<const P: usize>(
            _isa: AvxVnni,
            weights: &Line<P>,
            to: &mut [PanelRow],
            line: usize,
        ) {
            for p in 0..P {
                let words: &mut [u32; 16] = &mut to[p].as_chunks_mut().0[line];
                *words = bytemuck::cast(weights.0[p]);
            }
            let mut negative = weights.1;
            for signs in &mut negative {
                *signs = _mm256_cmpgt_epi8(_mm256_setzero_si256(), *signs);
            }
            let words: &mut [u32; 16] = &mut to[P].as_chunks_mut().0[line];
            *words = bytemuck::cast(negative);
        }
        fn compensation(_isa: AvxVnni, magnitudes: &[[u32; 8]], signs: &[[u32; 8]]) -> i32 {
            bytes::negative_sum(magnitudes, signs)
        }
    }

    with_features! { "avx2,avxvnni";
        fn dot<const P: usize>(
            _isa: AvxVnni,
            weights: &Line<P>,
            x: &[i8; LINE],
            sums: &mut [__m256i; P],
        ) {
            let x: Bytes = bytemuck::cast(*x);
            for j in 0..2 {
                let x = _mm256_sign_epi8(x[j], weights.1[j]);
                for p in 0..P {
                    sums[p] = _mm256_dpbusd_avx_epi32(sums[p], weights.0[p][j], x);
                }
            }
        }
        fn madd<const P: usize>(
            _isa: AvxVnni,
            sums: &mut [__m256i; P],
            weights: &[__m256i; P],
            negative: __m256i,
            x: __m256i,
        ) {
            let x = _mm256_xor_si256(x, negative);
            for p in 0..P {
                sums[p] = _mm256_dpbusd_avx_epi32(sums[p], weights[p], x);
            }
        }
    }
}

/// Signs of entries and those of a plane, as bytes that are never zero.
#[target_feature(enable = "avx2")]
#[inline]
fn signs_of(mut entries: Bytes, plane: Option<u64>) -> Bytes {
    if let Some(signs) = plane {
        let negative = bytes::expand(signs);
        for j in 0..2 {
            entries[j] = _mm256_xor_si256(entries[j], negative[j]);
        }
    }
    for signed in &mut entries {
        *signed = _mm256_or_si256(*signed, _mm256_set1_epi8(1));
    }
    entries
}

/// QINS linear.
struct Magnitude;

impl Decoder<U8I8, 1> for Magnitude {
    const SIGNED: bool = true;
    const LOOKUP: bool = false;

    with_features! { "avx2";
        fn decode(_isa: AvxVnni, _regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<1> {
            let mut magnitudes: Bytes = bytemuck::cast(*codes);
            for half in &mut magnitudes {
                *half = _mm256_subs_epu8(*half, _mm256_set1_epi8(1));
            }
            ([magnitudes], signs_of([_mm256_setzero_si256(); 2], Some(signs)))
        }
    }
}

/// int8.
struct Integer;

impl Decoder<U8I8, 1> for Integer {
    const SIGNED: bool = false;
    const LOOKUP: bool = false;

    with_features! { "avx2";
        fn decode(_isa: AvxVnni, regs: &Regs, codes: &[u8; LINE], _signs: u64) -> Line<1> {
            let mut values: Bytes = bytemuck::cast(*codes);
            let mut magnitudes = values;
            for (value, magnitude) in values.iter_mut().zip(&mut magnitudes) {
                *value = _mm256_xor_si256(*value, regs.flip);
                *magnitude = _mm256_abs_epi8(*value);
            }
            ([magnitudes], signs_of(values, None))
        }
    }
}

/// Any table, or half of one: see [`bytes::lookup`].
struct Lookup<const SIGNED: bool, const HALVES: usize>;

impl<const SIGNED: bool, const HALVES: usize, const P: usize> Decoder<U8I8, P>
    for Lookup<SIGNED, HALVES>
{
    const SIGNED: bool = SIGNED;
    const LOOKUP: bool = true;

    #[inline(always)]
    fn decode(_isa: AvxVnni, regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<P> {
        #[target_feature(enable = "avx2")]
        #[inline]
        fn inner<const P: usize, const HALVES: usize>(
            regs: &Regs,
            codes: &[u8; LINE],
            signs: Option<u64>,
        ) -> Line<P> {
            let (planes, entries) = bytes::lookup::<P, HALVES>(regs, bytemuck::cast(*codes));
            (planes, signs_of(entries, signs))
        }
        // SAFETY: the token proves AVX2 (`Avx2Int`).
        unsafe { inner::<P, HALVES>(regs, codes, if SIGNED { Some(signs) } else { None }) }
    }
}
