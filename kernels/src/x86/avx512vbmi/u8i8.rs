//! AVX-512 with VNNI and VBMI, integer modes: `vpdpbusd` multiplies magnitudes (u8) by digits (i8).
//!
//! Magnitudes are looked up with `vpermi2b`, one or two for each byte plane, or computed (QINS linear:
//! one saturating subtraction, int8: one `vpabsb`). A sign goes to the activations: in gemv x
//! is subtracted from zero under the line's sign mask, in gemm it is xored with a plane of
//! sign bytes. (gemv with xor instead, and what that needs to make good, was no faster.) gemm is bound by
//! `vpdpbusd`, of which the loop does 58 of 64 products a cycle, 64 without the xor: `vpdpbusd` has
//! two of the four vector ports of a Zen 4, and an xor on one of these holds it up.
//!
//! Overflow: a lane adds 4 · 255 · 127 = 129,540 a line or word. i32 holds 16,577 of them; gemv
//! widens every 1,024 lines (65,536 of k), of which even all lanes together are
//! 65,536 · 255 · 127 < 2³¹, so that the horizontal sum holds them too; a panel has 768 words.

use std::arch::x86_64::*;

use super::{Avx512Vbmi, Plane, lookup};
use crate::int::{
    Decoder, Decoders, GemmEntry, Groups, Int, IntEntry, KC, Microkernel, Microkernels, Operand,
    PanelRow, choose, groups, multiplied, whole,
};
use crate::isa::{Isa, with_features};
use crate::quantised::{EntrySign, PLANES, QuantisedTable};
use crate::table::ClosedForm;
use crate::weights::LINE;
use crate::x86::avx2::bytes;
use crate::x86::avx512::I32x16;

/// Bytes, with `vpdpbusd`.
struct U8I8;

pub(crate) static ENTRY: IntEntry = IntEntry {
    features: Avx512Vbmi::FEATURES,
    operand: U8I8::OPERAND,
    lanes: 16,
    decoder: choose::<U8I8>,
    gemm: GemmEntry::of::<U8I8>(),
};

impl Decoders for U8I8 {
    type Magnitude = Magnitude;
    type Integer = Integer;
    type Signed = Lookup<true>;
    type Unsigned = Lookup<false>;
    type Half = HalfTable;
}

impl Microkernels<1> for U8I8 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 1, 4, 6>(), whole::<Self, 1, 2, 12>(), whole::<Self, 1, 1, 12>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 1, 4, 2>(), groups::<Self, 1, 2, 4>(), groups::<Self, 1, 1, 6>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[
        multiplied::<Self, 1, 4, 3>(),
        multiplied::<Self, 1, 2, 6>(),
        multiplied::<Self, 1, 1, 12>(),
    ];
}

impl Microkernels<2> for U8I8 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 2, 4, 2>(), whole::<Self, 2, 2, 6>(), whole::<Self, 2, 1, 12>()];
    const GROUPS: &'static [Groups] =
        &[groups::<Self, 2, 4, 1>(), groups::<Self, 2, 2, 2>(), groups::<Self, 2, 1, 4>()];
    const MULTIPLIED: &'static [Microkernel<Self>] = &[
        multiplied::<Self, 2, 4, 1>(),
        multiplied::<Self, 2, 2, 3>(),
        multiplied::<Self, 2, 1, 6>(),
    ];
}

impl Microkernels<3> for U8I8 {
    const WHOLE: &'static [Microkernel<Self>] =
        &[whole::<Self, 3, 2, 4>(), whole::<Self, 3, 1, 8>()];
    const GROUPS: &'static [Groups] = &[];
    const MULTIPLIED: &'static [Microkernel<Self>] =
        &[multiplied::<Self, 3, 2, 2>(), multiplied::<Self, 3, 1, 4>()];
}

/// The magnitudes of a line by planes, and the mask of its negative weights.
type Line<const P: usize> = ([__m512i; P], u64);

/// The lookups of magnitudes and of signs, where signs are found, and what int8 codes are xored with.
struct Regs {
    planes: [Plane; PLANES],
    negative: Plane,
    sign: EntrySign,
    flip: __m512i,
}

impl Int for U8I8 {
    type Sums = I32x16<Avx512Vbmi>;
    type Limb = i8;
    type Regs<'a> = Regs;
    type Line<const P: usize> = Line<P>;
    const OPERAND: Operand = Operand::U8I8;
    const FLUSH_LINES: usize = 1024;
    const FLUSH_WORDS: usize = KC;

    with_features! { "avx512f,avx512bw";
        fn load(_isa: Avx512Vbmi, table: &QuantisedTable, _lookups: usize) -> Regs {
            Regs {
                planes: bytemuck::cast(table.planes),
                negative: bytemuck::cast(table.negative),
                sign: table.sign,
                flip: _mm512_set1_epi8(ClosedForm::flip(table.closed_form) as i8),
            }
        }
        fn sum(_isa: Avx512Vbmi, v: __m512i) -> i64 { i64::from(_mm512_reduce_add_epi32(v)) }
        fn sum4(_isa: Avx512Vbmi, v: [__m512i; 4]) -> [i64; 4] {
            // Two steps of interleaving and adding leave a 128-bit lane of four sums.
            let four = interleave(interleave(v[0], v[2]), interleave(v[1], v[3]));
            let high = _mm512_extracti64x4_epi64::<1>(four);
            let two = _mm256_add_epi32(_mm512_castsi512_si256(four), high);
            let high = _mm256_extracti128_si256::<1>(two);
            let one = _mm_add_epi32(_mm256_castsi256_si128(two), high);
            bytemuck::cast(_mm256_cvtepi32_epi64(one))
        }
        fn store_line<const P: usize>(
            _isa: Avx512Vbmi,
            weights: &Line<P>,
            to: &mut [PanelRow],
            line: usize,
        ) {
            for p in 0..P {
                let words: &mut [u32; 16] = &mut to[p].as_chunks_mut().0[line];
                *words = bytemuck::cast(weights.0[p]);
            }
            let words: &mut [u32; 16] = &mut to[P].as_chunks_mut().0[line];
            *words = bytemuck::cast(_mm512_movm_epi8(weights.1));
        }
    }

    with_features! { "avx512f,avx512bw,avx512vnni";
        fn dot<const P: usize>(
            _isa: Avx512Vbmi,
            weights: &Line<P>,
            x: &[i8; LINE],
            sums: &mut [__m512i; P],
        ) {
            let x: __m512i = bytemuck::cast(*x);
            let x = _mm512_mask_sub_epi8(x, weights.1, _mm512_setzero_si512(), x);
            for p in 0..P {
                sums[p] = _mm512_dpbusd_epi32(sums[p], weights.0[p], x);
            }
        }
        fn madd<const P: usize>(
            _isa: Avx512Vbmi,
            sums: &mut [__m512i; P],
            weights: &[__m512i; P],
            sign: __m512i,
            x: __m512i,
        ) {
            let x = _mm512_xor_si512(x, sign);
            for p in 0..P {
                sums[p] = _mm512_dpbusd_epi32(sums[p], weights[p], x);
            }
        }
    }

    with_features! { "avx2";
        fn compensation(_isa: Avx512Vbmi, magnitudes: &[[u32; 8]], signs: &[[u32; 8]]) -> i32 {
            bytes::negative_sum(magnitudes, signs)
        }
    }
}

/// Two vectors interleaved, and neighbours added.
#[target_feature(enable = "avx512f")]
#[inline]
fn interleave(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
}

/// QINS linear.
struct Magnitude;

impl Decoder<U8I8, 1> for Magnitude {
    const SIGNED: bool = true;
    const LOOKUP: bool = false;

    with_features! { "avx512f,avx512bw";
        fn decode(_isa: Avx512Vbmi, _regs: &Regs, codes: &[u8; LINE], signs: u64) -> Line<1> {
            let codes: __m512i = bytemuck::cast(*codes);
            ([_mm512_subs_epu8(codes, _mm512_set1_epi8(1))], signs)
        }
    }
}

/// int8.
struct Integer;

impl Decoder<U8I8, 1> for Integer {
    const SIGNED: bool = false;
    const LOOKUP: bool = false;

    with_features! { "avx512f,avx512bw";
        fn decode(_isa: Avx512Vbmi, regs: &Regs, codes: &[u8; LINE], _signs: u64) -> Line<1> {
            let values = _mm512_xor_si512(bytemuck::cast(*codes), regs.flip);
            ([_mm512_abs_epi8(values)], _mm512_movepi8_mask(values))
        }
    }
}

/// FP8, and whatever else has the sign in the top bit.
struct HalfTable;

impl<const P: usize> Decoder<U8I8, P> for HalfTable {
    const SIGNED: bool = false;
    const LOOKUP: bool = true;

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode[P](
            _isa: Avx512Vbmi,
            regs: &Regs,
            codes: &[u8; LINE],
            _signs: u64,
        ) -> Line<P> {
            let codes: __m512i = bytemuck::cast(*codes);
            let mut planes = [_mm512_setzero_si512(); P];
            for p in 0..P {
                planes[p] = _mm512_permutex2var_epi8(regs.planes[p][0], codes, regs.planes[p][1]);
            }
            (planes, entry_signs(regs, codes))
        }
    }
}

/// Any table.
struct Lookup<const SIGNED: bool>;

impl<const SIGNED: bool, const P: usize> Decoder<U8I8, P> for Lookup<SIGNED> {
    const SIGNED: bool = SIGNED;
    const LOOKUP: bool = true;

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode[P](
            _isa: Avx512Vbmi,
            regs: &Regs,
            codes: &[u8; LINE],
            signs: u64,
        ) -> Line<P> {
            let codes: __m512i = bytemuck::cast(*codes);
            let high = _mm512_movepi8_mask(codes);
            let mut planes = [_mm512_setzero_si512(); P];
            for p in 0..P {
                planes[p] = lookup(&regs.planes[p], codes, high);
            }
            (planes, signs ^ entry_signs(regs, codes))
        }
    }
}

/// The mask of negative entries.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn entry_signs(regs: &Regs, codes: __m512i) -> u64 {
    let high = _mm512_movepi8_mask(codes);
    match regs.sign {
        EntrySign::None => 0,
        EntrySign::TopBit => high,
        EntrySign::Table => _mm512_movepi8_mask(lookup(&regs.negative, codes, high)),
    }
}
