//! AMX, integer modes: tiles of signed bytes of weights by tiles of digits.
//!
//! Tiles need no other contract: a row tile is 16 rows × 64 columns, an x tile 64 columns × 16 tokens, and what comes out
//! are exact i32 sums. Signs are the weights', as an x tile serves 16 rows. int8 is its own bytes, read where they lie.
//! QINS has nine bits, two halves with the same sums; FP8 takes three passes and two sums, as `255 · (h₁ + h₂) + q`; other
//! tables of two bytes three and three. Digits of x are x tiles of their own. A pass is bound by the loads of tiles, all of
//! it by passes; with few tokens by memory.

use std::arch::x86_64::*;
use std::ops::Range;

use super::tiles::{TILE, Tiles, Work, accumulate};
use super::{Amx, refusal};
use crate::int::Weights;
use crate::int::tiles::{
    KC, KC_DIRECT, ROWS, STEP, TOKENS, TilesEntry, TilesOut, TilesScratch, TilesX,
};
use crate::isa::{Isa, Task, with_features};
use crate::prefetch::prefetch;
use crate::quantised::{EntrySign, SignedPlanes};
use crate::table::ClosedForm;
use crate::weights::{LINE, Row, Tail};
use crate::x86::avx512::transpose;

pub(crate) static ENTRY: TilesEntry = TilesEntry { features: Amx::FEATURES, refusal, run };

/// # Safety
/// The CPU has the features of [`Amx`] and of `avx512vbmi`, and the system permits tiles.
unsafe fn run(
    w: &Weights<'_>,
    x: &TilesX<'_>,
    to: &mut TilesOut<'_>,
    scratch: &mut TilesScratch<'_>,
) {
    // SAFETY: the caller's promise.
    let isa = unsafe { Amx::assume() };
    isa.run(Gemm { w, x, to, scratch });
}

struct Gemm<'a, 'o, 's> {
    w: &'a Weights<'a>,
    x: &'a TilesX<'a>,
    to: &'a mut TilesOut<'o>,
    scratch: &'a mut TilesScratch<'s>,
}

impl Task<Amx> for Gemm<'_, '_, '_> {
    #[inline(always)]
    fn run(self, isa: Amx) {
        let Self { w, x, to, scratch } = self;
        let (codes, planes) = (&w.codes, &w.table.signed);
        let (rows, cols, tiles) = (codes.rows(), codes.cols, x.tiles());
        let groups = cols.div_ceil(to.group);
        let palette = Tiles::configure(isa);
        let direct = w.closed_form() == Some(ClosedForm::Signed { flip: 0 }) && rows == ROWS;
        // Codes that are read where they lie: those of the next call are asked for while these are multiplied.
        let mut ahead = codes.codes.as_ptr().wrapping_add(rows * codes.k + codes.first);
        for group in 0..groups {
            let start = group * to.group;
            let end = cols.min(start + to.group);
            let mut block = start;
            while block < end {
                let whole = (end - block) / STEP * STEP;
                let direct = direct && whole > 0;
                let width = if direct { whole.min(KC_DIRECT) } else { (end - block).min(KC) };
                let steps = width.div_ceil(STEP);
                if !direct {
                    let lines = block / LINE..(block + width).div_ceil(LINE);
                    decode(isa, w, lines, scratch.panel);
                }
                let mut plane = 0;
                for (sum, count) in planes.sums.iter().enumerate() {
                    // A sum's planes are `[step][plane][32 rows][64]`.
                    let panel = &scratch.panel[plane * ROWS * KC / STEP..];
                    let panel = if direct { panel } else { &panel[..count * ROWS * steps] };
                    let sums = &mut scratch.sums[sum * tiles * ROWS..][..tiles * ROWS];
                    let from = codes.first + block;
                    let work = Work {
                        a: match direct {
                            true => codes.codes[from..].as_ptr().cast(),
                            false => panel.as_ptr().cast(),
                        },
                        a_row: if direct { codes.k } else { STEP },
                        a_tile: if direct { 16 * codes.k } else { TILE },
                        a_step: if direct { STEP } else { 2 * TILE },
                        planes: *count,
                        steps,
                        x: x.x[block / STEP * if tiles > 1 { 2 * TILE } else { TILE }..].as_ptr(),
                        x_skip: (cols.div_ceil(STEP) - steps) * 2 * TILE,
                        tiles,
                        c: sums.as_mut_ptr().cast(),
                        add: usize::from(block > start),
                        ahead,
                        ahead_step: if direct { ahead_step(tiles) } else { 0 },
                    };
                    assert!(x.x.len() >= tiles * cols.div_ceil(STEP) * TILE);
                    assert!(!direct || codes.codes.len() >= ROWS * codes.k);
                    // SAFETY: what is read of the panel and written of the sums was sliced in the lines above; the last
                    // two lines say that x has all steps of all tiles, and that codes read where they lie are 32 whole
                    // rows, of which `width`, whole steps, are within `end`.
                    unsafe { accumulate_odd(&palette, work, x, block) };
                    plane += count;
                }
                ahead = ahead.wrapping_add(ROWS * width);
                block += width;
            }
            let part = match group {
                _ if groups == 1 => Part::Only,
                0 => Part::First,
                _ if group + 1 == groups => Part::Last,
                _ => Part::Middle,
            };
            finish(isa, (planes, x), (group, groups, part), to, scratch);
        }
    }
}

/// [`accumulate`], with an odd last tile's x where it is: behind all steps of all pairs.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn accumulate_odd(palette: &Tiles, mut work: Work, x: &TilesX<'_>, block: usize) {
    let tiles = work.tiles;
    if tiles % 2 == 1 && tiles > 1 {
        let pairs = tiles / 2;
        // SAFETY: the caller's promise, for the pairs alone.
        unsafe { accumulate(palette, &Work { tiles: 2 * pairs, ..work }) };
        let steps = work.steps + work.x_skip / (2 * TILE);
        work.x = x.x[2 * pairs * steps * TILE + block / STEP * TILE..].as_ptr();
        work.c = work.c.wrapping_add(2 * pairs * ROWS * 16);
        work.tiles = 1;
    }
    // SAFETY: the caller's promise.
    unsafe { accumulate(palette, &work) };
}

/// How far the loop goes at each step through codes to come, two lines of them: all of the next call's, if there are
/// enough pairs of x tiles.
fn ahead_step(tiles: usize) -> usize {
    (ROWS * STEP / tiles.div_ceil(2)).next_multiple_of(64).min(128)
}

/// Decodes some lines of all rows, of each sum to `[line][plane][32 rows][64]`.
#[inline(always)]
fn decode(isa: Amx, w: &Weights<'_>, lines: Range<usize>, panel: &mut [[i8; 64]]) {
    let planes = &w.table.signed;
    match (w.closed_form(), planes.count()) {
        (Some(ClosedForm::Signed { flip }), _) => {
            decode_lines(isa, w, &Bytes { flip: [flip; LINE] }, lines, panel);
        }
        (Some(_), _) => decode_lines(isa, w, &Halves, lines, panel),
        // Half a table will do where the sign is the code's top bit.
        (None, count) if w.table.seven_bits && w.table.sign == EntrySign::TopBit && !w.signed() => {
            match count {
                1 => decode_lines(isa, w, &Half::<1>(planes), lines, panel),
                2 => decode_lines(isa, w, &Half::<2>(planes), lines, panel),
                _ => decode_lines(isa, w, &Half::<3>(planes), lines, panel),
            }
        }
        (None, 1) => decode_lines(isa, w, &Whole::<1>(planes), lines, panel),
        (None, 2) => decode_lines(isa, w, &Whole::<2>(planes), lines, panel),
        (None, _) => decode_lines(isa, w, &Whole::<3>(planes), lines, panel),
    }
}

/// The loop over lines and rows. Lines first, rows second: so what is written is whole KiB, and not lines 2 KiB apart,
/// which share two sets of L1.
#[inline(always)]
fn decode_lines<D: Decoder<P>, const P: usize>(
    isa: Amx,
    w: &Weights<'_>,
    decoder: &D,
    lines: Range<usize>,
    panel: &mut [[i8; 64]],
) {
    let codes = &w.codes;
    let (rows, full) = (codes.rows(), codes.full_lines());
    let mut row = [Row::default(); ROWS];
    let mut tails = [Tail::EMPTY; ROWS];
    for r in 0..rows {
        row[r] = codes.row(r);
        if lines.end > full {
            tails[r] = codes.tail(r, 0);
        }
    }
    // Where each plane begins in the panel, and lines of it in a step.
    let mut at = [(0, 0); P];
    let mut plane = 0;
    for count in w.table.signed.sums {
        let sum = plane * ROWS * KC / STEP;
        for p in 0..*count {
            at[plane] = (sum + p * ROWS, count * ROWS);
            plane += 1;
        }
    }
    let regs = decoder.load(isa);
    for (step, line) in lines.enumerate() {
        // What is not there of a panel may be anything: its sums are not stored.
        for r in 0..rows {
            let from = if line < full { row[r] } else { tails[r].row(w.signed()) };
            let index = if line < full { line } else { 0 };
            let signs = from.signs.get(index).map_or(0, |signs| u64::from_le_bytes(*signs));
            // The same of the next call's rows, and a line of signs for eight of codes.
            prefetch(codes.codes, (r + ROWS) * codes.k + codes.first + line * LINE);
            if line % 8 == r % 8
                && let Some(signs) = codes.signs
            {
                prefetch(signs, (r + ROWS) * codes.k.div_ceil(8) + (codes.first + line * LINE) / 8);
            }
            let decoded = D::decode(isa, &regs, &from.codes[index], signs);
            for p in 0..P {
                panel[at[p].0 + step * at[p].1 + r] = bytemuck::cast(decoded[p]);
            }
        }
    }
}

/// How a line of codes becomes P planes.
trait Decoder<const P: usize> {
    type Regs;
    fn load(&self, isa: Amx) -> Self::Regs;
    fn decode(isa: Amx, regs: &Self::Regs, codes: &[u8; LINE], signs: u64) -> [__m512i; P];
}

/// int8 that has to be xored, or is not whole tiles.
struct Bytes {
    flip: [u8; LINE],
}

impl Decoder<1> for Bytes {
    type Regs = __m512i;

    fn load(&self, _: Amx) -> __m512i {
        bytemuck::cast(self.flip)
    }

    with_features! { "avx512f";
        fn decode(_isa: Amx, flip: &__m512i, codes: &[u8; LINE], _signs: u64) -> [__m512i; 1] {
            [_mm512_xor_si512(bytemuck::cast(*codes), *flip)]
        }
    }
}

/// QINS: `v = ⌊v/2⌋ + ⌈v/2⌉`, both negated where there is a sign.
struct Halves;

impl Decoder<2> for Halves {
    type Regs = ();

    fn load(&self, _: Amx) {}

    with_features! { "avx512f,avx512bw";
        fn decode(_isa: Amx, _regs: &(), codes: &[u8; LINE], signs: u64) -> [__m512i; 2] {
            let less = _mm512_subs_epu8(bytemuck::cast(*codes), _mm512_set1_epi8(1));
            let low = _mm512_and_si512(_mm512_srli_epi16::<1>(less), _mm512_set1_epi8(0x7F));
            let high = _mm512_sub_epi8(less, low);
            [negate(low, signs), negate(high, signs)]
        }
    }
}

/// Lookups in half a table.
struct Half<'a, const P: usize>(&'a SignedPlanes);

impl<const P: usize> Decoder<P> for Half<'_, P> {
    type Regs = [[__m512i; 2]; P];

    fn load(&self, _: Amx) -> Self::Regs {
        let mut regs = [bytemuck::cast([[0u8; 64]; 2]); P];
        for (regs, table) in regs.iter_mut().zip(&self.0.tables) {
            let [low, _]: [[i8; 128]; 2] = bytemuck::cast(*table);
            *regs = bytemuck::cast(low);
        }
        regs
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode[P](
            _isa: Amx,
            tables: &[[__m512i; 2]; P],
            codes: &[u8; LINE],
            _signs: u64,
        ) -> [__m512i; P] {
            let codes: __m512i = bytemuck::cast(*codes);
            let negative = _mm512_movepi8_mask(codes);
            let mut planes = [codes; P];
            for p in 0..P {
                let bytes = _mm512_permutex2var_epi8(tables[p][0], codes, tables[p][1]);
                planes[p] = negate(bytes, negative);
            }
            planes
        }
    }
}

/// Lookups in a whole one.
struct Whole<'a, const P: usize>(&'a SignedPlanes);

impl<const P: usize> Decoder<P> for Whole<'_, P> {
    type Regs = [[__m512i; 4]; P];

    fn load(&self, _: Amx) -> Self::Regs {
        let mut regs = [bytemuck::cast([[0u8; 64]; 4]); P];
        for (regs, table) in regs.iter_mut().zip(&self.0.tables) {
            *regs = bytemuck::cast(*table);
        }
        regs
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode[P](
            _isa: Amx,
            tables: &[[__m512i; 4]; P],
            codes: &[u8; LINE],
            signs: u64,
        ) -> [__m512i; P] {
            let codes: __m512i = bytemuck::cast(*codes);
            let upper = _mm512_movepi8_mask(codes);
            let mut planes = [codes; P];
            for p in 0..P {
                let low = _mm512_permutex2var_epi8(tables[p][0], codes, tables[p][1]);
                let high = _mm512_permutex2var_epi8(tables[p][2], codes, tables[p][3]);
                planes[p] = negate(_mm512_mask_blend_epi8(upper, low, high), signs);
            }
            planes
        }
    }
}

/// Negates the bytes of a mask.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn negate(bytes: __m512i, signs: u64) -> __m512i {
    _mm512_mask_sub_epi8(bytes, signs, _mm512_setzero_si512(), bytes)
}

/// Which of its groups a sum is of.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Only,
    First,
    Middle,
    Last,
}

/// Scales the sums of a group and adds them to the totals; behind the last one adds the bias, rounds and transposes.
#[inline(always)]
fn finish(
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
    for (block, to_tokens) in to.to.chunks_exact_mut(TOKENS).enumerate() {
        let token_scales = x.token_scales[block * TOKENS..].first_chunk().expect("whole tiles");
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
                only(isa, &tile, to_tokens, at);
                continue;
            }
            let totals = &mut scratch.totals[(block * 2 + half) * 256..];
            let totals: &mut [f64; 256] = totals.first_chunk_mut().expect("totals of all tiles");
            add(isa, &tile, totals, part == Part::First);
            if part == Part::Last {
                round(isa, &tile, totals, to_tokens, at);
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

/// Stores 16 rows of sums as rows `at` of 16 tokens.
#[target_feature(enable = "avx512f")]
#[inline]
fn store(rows: [__m512; 16], to: &mut [[f32; ROWS]], at: usize) {
    for (to, token) in to.iter_mut().zip(transpose(rows)) {
        let to: &mut [f32; 16] = to[at..].first_chunk_mut().expect("16 of 32 rows");
        *to = bytemuck::cast(token);
    }
}

with_features! { "avx512f,avx512dq";
    /// All there is to it where there is one group.
    fn only(_isa: Amx, tile: &Tile<'_>, to: &mut [[f32; ROWS]], at: usize) {
        let mut rows = [_mm512_setzero_ps(); 16];
        for r in 0..16 {
            rows[r] = round_row(term(tile, r), tile.bias[r]);
        }
        store(rows, to, at);
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
        to: &mut [[f32; ROWS]],
        at: usize,
    ) {
        let mut rows = [_mm512_setzero_ps(); 16];
        for (r, totals) in totals.as_chunks::<16>().0.iter().enumerate() {
            rows[r] = round_row(bytemuck::cast(*totals), tile.bias[r]);
        }
        store(rows, to, at);
    }
}
