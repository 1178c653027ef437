//! How ggml packs weights: blocks of 32 or 256 with scales of their own, decoded to f32.
//!
//! Layouts as in `ggml-common.h` and `ggml-quants.c`; arithmetic is theirs, in f32, a multiplication and an addition
//! rounded separately. In what follows `d` and `m` are scale and minimum of a block, both f16, `q` the small integers.

use gguf_rs_lib::tensor::TensorType;
use half::{bf16, f16};
use safetensors::tensor::Dtype;

/// A type of ggml's whose elements are weights.
#[derive(Debug)]
pub(super) struct Encoding {
    pub kind: TensorType,
    pub name: &'static str,
    /// Weights and bytes of a block.
    pub block: (usize, usize),
    pub decode: Decode,
}

/// What becomes of a type's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decode {
    /// Floats, read where they stand.
    Floats(Dtype),
    /// int8 with a scale for every 32: what lutmul multiplies by.
    Int8,
    /// Something else: whole blocks to as many f32.
    Blocks(fn(&[u8], &mut [f32])),
}

const LEGACY: usize = 32;
const SUPER: usize = 256;

/// An [`Encoding`] whose blocks a function decodes one by one.
macro_rules! blocks {
    ($kind:ident, $weights:expr, $bytes:expr, $decode:path) => {
        Encoding {
            kind: TensorType::$kind,
            name: stringify!($kind),
            block: ($weights, $bytes),
            decode: Decode::Blocks(|bytes, to| each::<$bytes, $weights>(bytes, to, $decode)),
        }
    };
}

/// The types that are read; what is not among them is refused by name.
static ENCODINGS: [Encoding; 13] = [
    floats(TensorType::F32, "F32", Dtype::F32, 4),
    floats(TensorType::F16, "F16", Dtype::F16, 2),
    floats(TensorType::BF16, "BF16", Dtype::BF16, 2),
    Encoding { kind: TensorType::Q8_0, name: "Q8_0", block: (LEGACY, 34), decode: Decode::Int8 },
    blocks!(Q4_0, LEGACY, 18, q4_0),
    blocks!(Q4_1, LEGACY, 20, q4_1),
    blocks!(Q5_0, LEGACY, 22, q5_0),
    blocks!(Q5_1, LEGACY, 24, q5_1),
    blocks!(Q2_K, SUPER, 84, q2_k),
    blocks!(Q3_K, SUPER, 110, q3_k),
    blocks!(Q4_K, SUPER, 144, q4_k),
    blocks!(Q5_K, SUPER, 176, q5_k),
    blocks!(Q6_K, SUPER, 210, q6_k),
];

const fn floats(kind: TensorType, name: &'static str, dtype: Dtype, bytes: usize) -> Encoding {
    Encoding { kind, name, block: (1, bytes), decode: Decode::Floats(dtype) }
}

impl Encoding {
    /// The encoding of a type, if it is one that is read.
    pub fn of(kind: TensorType) -> Option<&'static Self> {
        ENCODINGS.iter().find(|encoding| encoding.kind == kind)
    }

    /// The names of all of them, for errors.
    pub fn names() -> String {
        ENCODINGS.iter().map(|encoding| encoding.name).collect::<Vec<_>>().join(", ")
    }

    /// Bytes of a row of k weights, which are whole blocks.
    pub fn row_bytes(&self, k: usize) -> usize {
        k / self.block.0 * self.block.1
    }

    /// A row of weights in f32.
    pub fn decode_row(&self, bytes: &[u8], to: &mut [f32]) {
        match self.decode {
            Decode::Floats(dtype) => decode_floats(dtype, bytes, to),
            Decode::Int8 => each::<34, LEGACY>(bytes, to, q8_0),
            Decode::Blocks(decode) => decode(bytes, to),
        }
    }
}

fn decode_floats(dtype: Dtype, bytes: &[u8], to: &mut [f32]) {
    let halves = bytes.as_chunks::<2>().0.iter().zip(&mut *to);
    match dtype {
        Dtype::F16 => halves.for_each(|(b, to)| *to = f16::from_le_bytes(*b).to_f32()),
        Dtype::BF16 => halves.for_each(|(b, to)| *to = bf16::from_le_bytes(*b).to_f32()),
        _ => {
            let words = bytes.as_chunks::<4>().0.iter().zip(to);
            words.for_each(|(b, to)| *to = f32::from_le_bytes(*b));
        }
    }
}

/// Splits a row of Q8_0 into codes of int8 and scales, one for every 32.
pub(super) fn split_int8(bytes: &[u8], codes: &mut [u8], scales: &mut [f32]) {
    let blocks = bytes.as_chunks::<34>().0.iter();
    for ((block, codes), scale) in blocks.zip(codes.as_chunks_mut::<32>().0).zip(scales) {
        *scale = half(block, 0);
        codes.copy_from_slice(&block[2..]);
    }
}

fn each<const B: usize, const W: usize>(
    bytes: &[u8],
    to: &mut [f32],
    decode: fn(&[u8; B], &mut [f32; W]),
) {
    let blocks = bytes.as_chunks::<B>().0.iter().zip(to.as_chunks_mut::<W>().0);
    blocks.for_each(|(block, to)| decode(block, to));
}

/// The f16 that starts at a byte of a block.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The sixteen bytes of 32 nibbles: the low ones are the first half of the block.
fn nibble(qs: &[u8], i: usize) -> u8 {
    qs[i % 16] >> (i / 16 * 4) & 15
}

/// A fifth bit for each of 32.
fn fifth(qh: &[u8], i: usize) -> u8 {
    (qh[i / 8] >> (i % 8) & 1) << 4
}

/// `d, q i8 × 32`.
fn q8_0(block: &[u8; 34], to: &mut [f32; LEGACY]) {
    let d = half(block, 0);
    to.iter_mut().zip(&block[2..]).for_each(|(to, q)| *to = f32::from(*q as i8) * d);
}

/// `d, q × 16`: `d·(q − 8)`.
fn q4_0(block: &[u8; 18], to: &mut [f32; LEGACY]) {
    let d = half(block, 0);
    for (i, to) in to.iter_mut().enumerate() {
        *to = d * f32::from(nibble(&block[2..], i) as i8 - 8);
    }
}

/// `d, m, q × 16`: `d·q + m`.
fn q4_1(block: &[u8; 20], to: &mut [f32; LEGACY]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, to) in to.iter_mut().enumerate() {
        *to = d * f32::from(nibble(&block[4..], i)) + m;
    }
}

/// `d, fifth bits × 4, q × 16`: `d·(q − 16)`.
fn q5_0(block: &[u8; 22], to: &mut [f32; LEGACY]) {
    let d = half(block, 0);
    for (i, to) in to.iter_mut().enumerate() {
        let q = nibble(&block[6..], i) | fifth(&block[2..6], i);
        *to = d * f32::from(q as i8 - 16);
    }
}

/// `d, m, fifth bits × 4, q × 16`: `d·q + m`.
fn q5_1(block: &[u8; 24], to: &mut [f32; LEGACY]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, to) in to.iter_mut().enumerate() {
        let q = nibble(&block[8..], i) | fifth(&block[4..8], i);
        *to = d * f32::from(q) + m;
    }
}

/// Two bits of a weight of a super-block: 128 weights are in 32 bytes, the first 32 in the lowest bits.
fn pair(qs: &[u8], i: usize) -> u8 {
    qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// Four bits: 64 weights are in 32 bytes.
fn quad(qs: &[u8], i: usize) -> u8 {
    qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15
}

/// `scales × 16, q × 64, d, m`: groups of 16, `d·(scale & 15)·q − m·(scale >> 4)`.
fn q2_k(block: &[u8; 84], to: &mut [f32; SUPER]) {
    let (scales, qs) = block.split_at(16);
    let (d, m) = (half(block, 80), half(block, 82));
    for (i, to) in to.iter_mut().enumerate() {
        let scale = scales[i / 16];
        *to = d * f32::from(scale & 15) * f32::from(pair(qs, i)) - m * f32::from(scale >> 4);
    }
}

/// `third bits × 32, q × 64, scales × 12, d`: groups of 16, `d·(scale − 32)·(q − 4)`.
fn q3_k(block: &[u8; 110], to: &mut [f32; SUPER]) {
    let (high, qs, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half(block, 108);
    // Six bits each: four in the first eight bytes, two in the last four.
    let scale = |i: usize| {
        let low = scales[i % 8] >> (i / 8 * 4) & 15;
        let high = scales[8 + i % 4] >> (i / 4 * 2) & 3;
        d * f32::from((low | high << 4) as i8 - 32)
    };
    for (i, to) in to.iter_mut().enumerate() {
        let third = (high[i % 32] >> (i / 32) & 1) << 2;
        *to = scale(i / 16) * f32::from((pair(qs, i) | third) as i8 - 4);
    }
}

/// Scale and minimum of a group of 32 of Q4_K and Q5_K: six bits each, in twelve bytes.
fn scale_and_min(scales: &[u8], group: usize) -> (f32, f32) {
    let (scale, min) = if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        let (low, i) = (scales[group + 4], group - 4);
        (low & 15 | scales[i] >> 6 << 4, low >> 4 | scales[i + 4] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// `d, m, scales × 12, q × 128`: groups of 32, `d·scale·q − m·min`.
fn q4_k(block: &[u8; 144], to: &mut [f32; SUPER]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, to) in to.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], i / 32);
        *to = d * scale * f32::from(quad(&block[16..], i)) - m * min;
    }
}

/// `d, m, scales × 12, fifth bits × 32, q × 128`: groups of 32, `d·scale·q − m·min`.
fn q5_k(block: &[u8; 176], to: &mut [f32; SUPER]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (i, to) in to.iter_mut().enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], i / 32);
        let fifth = (block[16 + i % 32] >> (i / 32) & 1) << 4;
        *to = d * scale * f32::from(quad(&block[48..], i) | fifth) - m * min;
    }
}

/// `q × 128, upper bits × 64, scales i8 × 16, d`: groups of 16, `d·scale·(q − 32)`.
fn q6_k(block: &[u8; 210], to: &mut [f32; SUPER]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half(block, 208);
    for (i, to) in to.iter_mut().enumerate() {
        let four = low[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
        let q = (four | pair(high, i) << 4) as i8 - 32;
        *to = d * f32::from(scales[i / 16] as i8) * f32::from(q);
    }
}
