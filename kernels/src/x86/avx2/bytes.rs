//! Lines of bytes in 256-bit vectors, for integer kernels: lookups in tables of 128 or 256 entries, by `vpshufb` and
//! its 16; sign planes as bytes.

use std::arch::x86_64::*;

use crate::quantised::{EntrySign, PLANES, QuantisedTable};
use crate::table::ClosedForm;
use crate::weights::LINE;

/// 64 bytes.
pub(crate) type Line = [__m256i; 2];

/// The rows of 16 bytes of both halves of a plane, each xored with the one before it; see [`lookup_planes`].
type Rows = [[[u8; 16]; 8]; 2];

/// Lookups of magnitudes and signs, where signs are found, and what int8 codes are xored with.
pub(crate) struct Regs {
    planes: [Rows; PLANES],
    negative: Rows,
    sign: EntrySign,
    pub flip: __m256i,
}

fn rows(plane: &[u8; 256]) -> Rows {
    let mut rows: Rows = bytemuck::cast(*plane);
    for half in &mut rows {
        for i in (1..half.len()).rev() {
            for j in 0..16 {
                half[i][j] ^= half[i - 1][j];
            }
        }
    }
    rows
}

/// A table whose first planes will be looked up.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn load(table: &QuantisedTable, lookups: usize) -> Regs {
    let mut regs = Regs {
        planes: [Rows::default(); PLANES],
        negative: Rows::default(),
        sign: table.sign,
        flip: _mm256_set1_epi8(ClosedForm::flip(table.closed_form) as i8),
    };
    // Rows take time to make.
    for (rows_of, plane) in regs.planes.iter_mut().zip(&table.planes).take(lookups) {
        *rows_of = rows(plane);
    }
    if lookups > 0 {
        regs.negative = rows(&table.negative);
    }
    regs
}

/// The bytes of a line in some planes, of half a table (`HALVES` 1, for codes with their sign in the top bit) or a
/// whole one (2), and bytes whose top bits are the signs of its entries.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn lookup<const P: usize, const HALVES: usize>(
    regs: &Regs,
    codes: Line,
) -> ([Line; P], Line) {
    let signs = match regs.sign {
        EntrySign::None => [_mm256_setzero_si256(); 2],
        EntrySign::TopBit => codes,
        EntrySign::Table => lookup_signs(&regs.negative, codes),
    };
    (lookup_planes::<P, HALVES>(&regs.planes, codes), signs)
}

/// The bytes of a line in some planes.
///
/// A row is 16 entries. Where a code is below those of a row, its index is negative, for which `vpshufb`
/// gives zero; where it is above them, the row gives a wrong byte. So each row is xored with the one
/// before it, and what they give is xored: that leaves the entry of the last row that is not above the
/// code. In this order of loops nothing has to leave the registers.
#[target_feature(enable = "avx2")]
#[inline]
fn lookup_planes<const P: usize, const HALVES: usize>(planes: &[Rows], codes: Line) -> [Line; P] {
    let mut index = codes;
    for index in &mut index {
        *index = _mm256_and_si256(*index, _mm256_set1_epi8(0x7F));
    }
    let mut halves = [[[_mm256_setzero_si256(); 2]; HALVES]; P];
    for i in 0..8 {
        for p in 0..P {
            for half in 0..HALVES {
                let row = _mm256_broadcastsi128_si256(bytemuck::cast(planes[p][half][i]));
                for j in 0..2 {
                    let bytes = _mm256_shuffle_epi8(row, index[j]);
                    halves[p][half][j] = _mm256_xor_si256(halves[p][half][j], bytes);
                }
            }
        }
        for index in &mut index {
            *index = _mm256_sub_epi8(*index, _mm256_set1_epi8(16));
        }
    }
    let mut found = [[_mm256_setzero_si256(); 2]; P];
    for p in 0..P {
        let (low, high) = (halves[p][0], halves[p][HALVES - 1]);
        for j in 0..2 {
            found[p][j] = match HALVES {
                1 => low[j],
                _ => _mm256_blendv_epi8(low[j], high[j], codes[j]),
            };
        }
    }
    found
}

/// The signs of entries, for the few tables that need it: inlined, it took registers from the others.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn lookup_signs(negative: &Rows, codes: Line) -> Line {
    let [signs] = lookup_planes::<1, 2>(std::slice::from_ref(negative), codes);
    signs
}

/// Bits as bytes of all ones or zeros.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn expand(bits: u64) -> Line {
    let bits = _mm256_set1_epi64x(bits as i64);
    let one = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let mut bytes: Line = bytemuck::cast(BYTE);
    for byte in &mut bytes {
        let bits = _mm256_shuffle_epi8(bits, *byte);
        *byte = _mm256_cmpeq_epi8(_mm256_and_si256(bits, one), one);
    }
    bytes
}

/// For each bit of a u64 the byte that it is in.
const BYTE: [u8; LINE] = {
    let mut byte = [0; LINE];
    let mut i = 0;
    while i < LINE {
        byte[i] = i as u8 / 8;
        i += 1;
    }
    byte
};

/// The sum of the magnitudes whose signs are bytes of all ones: as x ^ 0xFF = −x − 1, what is wrong with the products.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn negative_sum(magnitudes: &[[u32; 8]], signs: &[[u32; 8]]) -> i32 {
    let mut sums = _mm256_setzero_si256();
    for (magnitudes, signs) in magnitudes.iter().zip(signs) {
        let negative = _mm256_and_si256(bytemuck::cast(*magnitudes), bytemuck::cast(*signs));
        let eighths = _mm256_sad_epu8(negative, _mm256_setzero_si256());
        sums = _mm256_add_epi64(sums, eighths);
    }
    let sums: [i64; 4] = bytemuck::cast(sums);
    sums.iter().sum::<i64>() as i32
}
