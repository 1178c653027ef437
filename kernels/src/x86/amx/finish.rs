//! From sums in i32 to f32: scaled, rounded, transposed.

use std::arch::x86_64::*;

use super::Amx;
use crate::int::tiles::{ROWS, TOKENS, TilesOut, TilesScratch, TilesX};
use crate::isa::with_features;
use crate::quantised::SignedPlanes;
use crate::x86::avx512::transpose;

/// Which of its groups a sum is of.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    Only,
    First,
    Middle,
    Last,
}

/// Scales the sums of a group and adds them to the totals; behind the last one adds the bias, rounds and transposes.
#[inline(always)]
pub(super) fn finish(
    isa: Amx,
    (planes, x): (&SignedPlanes, &TilesX<'_>),
    (group, groups, part): (usize, usize, Part),
    to: &mut TilesOut<'_>,
    scratch: &mut TilesScratch<'_>,
) {
    let (tiles, count) = (x.tiles(), planes.sums.len());
    // What a part weighs: the sum's and the digit's.
    let mut weights = [0.0; 9];
    for sum in 0..count {
        for digit in 0..x.digits {
            let power = (count - 1 - sum) + (x.digits - 1 - digit);
            weights[sum * x.digits + digit] = 255f64.powi(power as i32);
        }
    }
    let weights = &weights[..count * x.digits];
    for (block, token_scales) in x.token_scales.as_chunks().0.iter().enumerate() {
        let to_tokens = &mut to.to[block * TOKENS * to.stride..];
        for half in 0..2 {
            let mut parts: [&[[i32; 16]; 16]; 9] = [&[[0; 16]; 16]; 9];
            for sum in 0..count {
                for digit in 0..x.digits {
                    let tile = sum * tiles + block * x.digits + digit;
                    parts[sum * x.digits + digit] = scratch.sums[tile * ROWS + half * 16..]
                        .first_chunk()
                        .expect("sums of all tiles");
                }
            }
            let mut scales = [0.0; 16];
            let mut bias = [0.0; 16];
            for r in 0..16 {
                scales[r] = to.scales[(half * 16 + r) * groups + group];
                bias[r] = to.bias[half * 16 + r];
            }
            let tile = Tile { parts: &parts[..weights.len()], weights, token_scales, scales, bias };
            let at = half * 16;
            if part == Part::Only {
                only(isa, &tile, &mut to_tokens[at..], to.stride);
                continue;
            }
            let totals = &mut scratch.totals[(block * 2 + half) * 256..];
            let totals: &mut [f64; 256] = totals.first_chunk_mut().expect("totals of all tiles");
            add(isa, &tile, totals, part == Part::First);
            if part == Part::Last {
                round(isa, &tile, totals, &mut to_tokens[at..], to.stride);
            }
        }
    }
}

/// The sums of 16 rows and 16 tokens.
struct Tile<'a> {
    parts: &'a [&'a [[i32; 16]; 16]],
    weights: &'a [f64],
    token_scales: &'a [f64; 16],
    scales: [f64; 16],
    bias: [f64; 16],
}

/// `(S · sx) · scale` of a row. Parts and S are below 2⁵³, so all that makes S is exact, fused or not.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn term(tile: &Tile<'_>, row: usize) -> [__m512d; 2] {
    let mut sum = widen(&tile.parts[0][row]);
    if tile.parts.len() > 1 {
        let by = _mm512_set1_pd(tile.weights[0]);
        sum = [_mm512_mul_pd(sum[0], by), _mm512_mul_pd(sum[1], by)];
        for (part, weight) in tile.parts.iter().zip(tile.weights).skip(1) {
            let (part, by) = (widen(&part[row]), _mm512_set1_pd(*weight));
            sum = [_mm512_fmadd_pd(part[0], by, sum[0]), _mm512_fmadd_pd(part[1], by, sum[1])];
        }
    }
    let sx: [__m512d; 2] = bytemuck::cast(*tile.token_scales);
    let scale = _mm512_set1_pd(tile.scales[row]);
    [
        _mm512_mul_pd(_mm512_mul_pd(sum[0], sx[0]), scale),
        _mm512_mul_pd(_mm512_mul_pd(sum[1], sx[1]), scale),
    ]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn widen(sums: &[i32; 16]) -> [__m512d; 2] {
    let halves: [__m256i; 2] = bytemuck::cast(*sums);
    [_mm512_cvtepi32_pd(halves[0]), _mm512_cvtepi32_pd(halves[1])]
}

#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn round_row(term: [__m512d; 2], bias: f64) -> __m512 {
    let bias = _mm512_set1_pd(bias);
    let low = _mm512_cvtpd_ps(_mm512_add_pd(term[0], bias));
    let high = _mm512_cvtpd_ps(_mm512_add_pd(term[1], bias));
    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high)
}

/// Stores 16 rows of sums, those of 16 tokens `stride` apart.
#[target_feature(enable = "avx512f")]
#[inline]
fn store(rows: [__m512; 16], to: &mut [f32], stride: usize) {
    for (to, token) in to.chunks_mut(stride).zip(transpose(rows)) {
        let to: &mut [f32; 16] = to.first_chunk_mut().expect("16 of 32 rows");
        *to = bytemuck::cast(token);
    }
}

with_features! { "avx512f,avx512dq";
    /// All there is to it where there is one group.
    fn only(_isa: Amx, tile: &Tile<'_>, to: &mut [f32], stride: usize) {
        let mut rows = [_mm512_setzero_ps(); 16];
        for r in 0..16 {
            rows[r] = round_row(term(tile, r), tile.bias[r]);
        }
        store(rows, to, stride);
    }

    /// Starts totals, or adds to them.
    fn add(_isa: Amx, tile: &Tile<'_>, totals: &mut [f64; 256], first: bool) {
        for (r, totals) in totals.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let mut term = term(tile, r);
            if !first {
                let before: [__m512d; 2] = bytemuck::cast(*totals);
                term = [_mm512_add_pd(before[0], term[0]), _mm512_add_pd(before[1], term[1])];
            }
            *totals = bytemuck::cast(term);
        }
    }

    /// Totals with their biases.
    fn round(
        _isa: Amx,
        tile: &Tile<'_>,
        totals: &[f64; 256],
        to: &mut [f32],
        stride: usize,
    ) {
        let mut rows = [_mm512_setzero_ps(); 16];
        for (r, totals) in totals.as_chunks::<16>().0.iter().enumerate() {
            rows[r] = round_row(bytemuck::cast(*totals), tile.bias[r]);
        }
        store(rows, to, stride);
    }
}
