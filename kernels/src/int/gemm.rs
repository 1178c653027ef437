//! gemm: lanes run along tokens.
//!
//! Computes `S[r][t] = Σ_k panel[r][k] · X[k][t]` for each group of columns, and adds `(S · sx[t]) · scale[r]` to totals.
//! Two things that know nothing of each other: *accumulate*, a micro-kernel whose i32 sums of a few rows and vectors of
//! tokens stay in registers, and *finish*, which widens them to f64, scales, rounds and transposes. A row's planes are
//! summed side by side, so that they share loads and signs of x; limbs one after the other. Each plane has i32 sums
//! of its own, whose bounds do not depend on how many there are. They are widened at the latest after
//! `FLUSH_WORDS` words (with multipliers: after 64), and stay exact there. Bound by the multiplications.

use std::marker::PhantomData;
use std::ops::Range;

use super::{
    Decoder, Doubles, F, Int, IsaOf, Lanes, MULTIPLIED, MULTIPLIED_WORDS, Panel, PanelMut,
    PanelRow, Round, SHORT_GROUP, Sums, TileSums, TileX, V, Weights,
};
use crate::isa::{Isa, Task};
use crate::prefetch::{DISTANCE, prefetch};
use crate::weights::{LINE, MC};

/// The gemm part of an operand's entry.
pub(crate) struct GemmEntry {
    /// Vectors of tokens of the widest tile.
    pub vectors: usize,
    /// Multiplies a panel of one, two or three planes by a tile.
    pub tile: [TileFn; 3],
    pub round: Round,
}

type TileFn = unsafe fn(&Panel<'_>, &TileX<'_>, &mut TileSums<'_>);

impl GemmEntry {
    pub const fn of<O: Microkernels<1> + Microkernels<2> + Microkernels<3>>() -> Self {
        Self {
            vectors: <O as Microkernels<1>>::WHOLE[0].vectors,
            tile: [tile::<O, 1>, tile::<O, 2>, tile::<O, 3>],
            round: round::<O>,
        }
    }

    /// The same with another operand for tables of one plane.
    #[cfg(target_arch = "x86_64")]
    pub const fn with_one_plane<O: Microkernels<1>>(rest: Self) -> Self {
        Self { tile: [tile::<O, 1>, rest.tile[1], rest.tile[2]], ..rest }
    }
}

/// The micro-kernels of an operand for tables of P planes: those for more vectors of tokens first, the one for a
/// single one last.
pub(crate) trait Microkernels<const P: usize>: Int {
    /// Sums over many words.
    const WHOLE: &'static [Microkernel<Self>];
    /// Sums over short groups of columns, scaled in registers; none where there are three planes.
    const GROUPS: &'static [Groups];
    /// Sums with multipliers; none where they are no limbs of the operand.
    const MULTIPLIED: &'static [Microkernel<Self>];
}

/// i32 sums on their way from a micro-kernel: `[R][A][P]`.
type Accumulators<O> = [V<O>; 24];

/// A micro-kernel: R rows (`mr`) by A vectors of tokens (`nr`).
pub(crate) struct Microkernel<O: Int> {
    pub vectors: usize,
    pub rows: usize,
    run: fn(IsaOf<O>, &Steps<'_, O>, &mut Accumulators<O>),
}

/// What a micro-kernel goes through.
struct Steps<'a, O: Int> {
    panel: &'a Panel<'a>,
    /// The first of its rows.
    row: usize,
    /// A limb of x, a word of which is `pitch` vectors.
    x: &'a [Lanes<O>],
    /// Multipliers, in the same way.
    multipliers: &'a [Lanes<O>],
    pitch: usize,
    /// The first vector of tokens.
    at: usize,
    words: Range<usize>,
    /// Starts in a row, and which of them the sums have, if they do not start from zero.
    starts: usize,
    start: Option<usize>,
    /// Codes to prefetch.
    ahead: &'a [u8],
}

/// Decodes a portion into a panel.
///
/// # Safety
/// The CPU has the features of the operand's ISA.
pub(super) unsafe fn decode<O: Int, D: Decoder<O, P>, const P: usize>(
    w: &Weights<'_>,
    panel: &mut PanelMut<'_>,
) {
    // SAFETY: the caller's promise.
    let isa = unsafe { IsaOf::<O>::assume() };
    isa.run(Decode::<O, D, P> { w, panel, kind: PhantomData });
}

struct Decode<'a, 'p, O, D, const P: usize> {
    w: &'a Weights<'a>,
    panel: &'a mut PanelMut<'p>,
    kind: PhantomData<(O, D)>,
}

impl<O: Int, D: Decoder<O, P>, const P: usize> Task<IsaOf<O>> for Decode<'_, '_, O, D, P> {
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Self { w, panel, .. } = self;
        let regs = O::load(isa, w.table, if D::LOOKUP { P } else { 0 });
        let codes = &w.codes;
        let pitch = Panel::pitch(P, O::OPERAND);
        let eighths = codes.cols.div_ceil(MULTIPLIED);
        let start_eighths = panel.start_words / 8;
        let starts = eighths.div_ceil(start_eighths);
        for r in 0..codes.rows() {
            let to = &mut panel.rows[r * pitch..][..pitch];
            let row = codes.row(r);
            for (line, codes_line) in row.codes.iter().enumerate() {
                prefetch(codes.codes, r * codes.k + codes.first + (line + DISTANCE) * LINE);
                let signs = if D::SIGNED { u64::from_le_bytes(row.signs[line]) } else { 0 };
                O::store_line(isa, &D::decode(isa, &regs, codes_line, signs), to, line);
            }
            if row.codes.len() < codes.lines() {
                let tail = codes.tail(r, 0);
                let signs = if D::SIGNED { u64::from_le_bytes(tail.signs[0]) } else { 0 };
                let line = D::decode(isa, &regs, &tail.codes[0], signs);
                O::store_line(isa, &line, to, row.codes.len());
            }
            if pitch == P {
                continue;
            }
            let signs = to[P].as_chunks::<8>().0[..eighths].chunks(start_eighths);
            for (i, signs) in signs.enumerate() {
                for p in 0..P {
                    let magnitudes = &to[p].as_chunks::<8>().0[i * start_eighths..][..signs.len()];
                    let start = O::compensation(isa, magnitudes, signs);
                    panel.compensation[(r * starts + i) * P + p] = start;
                }
            }
        }
    }
}

/// # Safety
/// The CPU has the features of the operand's ISA.
unsafe fn tile<O: Microkernels<P>, const P: usize>(
    panel: &Panel<'_>,
    x: &TileX<'_>,
    to: &mut TileSums<'_>,
) {
    // SAFETY: the caller's promise.
    let isa = unsafe { IsaOf::<O>::assume() };
    let vectors = x.width / O::Sums::LANES;
    let short = panel.group_words <= SHORT_GROUP && to.ends && !to.resume;
    let mut at = 0;
    while at < vectors {
        let fits = |kernel: usize| kernel <= vectors - at;
        if short && !x.limbs.multiplied && !O::GROUPS.is_empty() {
            let groups = O::GROUPS.iter().find(|k| fits(k.vectors)).expect("one for one vector");
            // SAFETY: the caller's promise.
            unsafe { (groups.run)(panel, x, at, to) };
            at += groups.vectors;
            continue;
        }
        let (list, flush) = if x.limbs.multiplied {
            // Eight multiplied sums of 32 · 255 · 127 · 255 are below 2³¹.
            (O::MULTIPLIED, 8 * MULTIPLIED_WORDS)
        } else {
            (O::WHOLE, O::FLUSH_WORDS)
        };
        let kernel = list.iter().find(|k| fits(k.vectors)).expect("one for one vector");
        isa.run(Tile::<O, P> { kernel, flush, panel, x, at, to });
        at += kernel.vectors;
    }
}

/// Columns of a tile, by a micro-kernel that gives its sums back.
struct Tile<'a, 't, O: Int, const P: usize> {
    kernel: &'a Microkernel<O>,
    flush: usize,
    panel: &'a Panel<'a>,
    x: &'a TileX<'a>,
    /// First vector of tokens.
    at: usize,
    to: &'a mut TileSums<'t>,
}

impl<O: Int, const P: usize> Task<IsaOf<O>> for Tile<'_, '_, O, P> {
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Self { kernel, flush, panel, x, at, to } = self;
        let pitch = x.width / O::Sums::LANES;
        let vectors: &[Lanes<O>] = bytemuck::cast_slice(x.x);
        let groups = x.words.div_ceil(panel.group_words);
        let starts = x.words.div_ceil(panel.start_words);
        // The first columns of a tile ask for codes, all of their rows a part.
        let ahead = if at == 0 { x.ahead } else { &[] };
        let ahead_lines = (ahead.len() / LINE).div_ceil(to.rows.div_ceil(kernel.rows));
        let last_limb = x.limbs.weights.len() - 1;
        let multipliers = vectors.get((last_limb + 1) * x.words * pitch..).unwrap_or(&[]);
        let mut sums = [O::Sums::zero(isa); 24];
        for row in (0..to.rows).step_by(kernel.rows) {
            let mut ahead = ahead.get(row / kernel.rows * ahead_lines * LINE..).unwrap_or(&[]);
            ahead = &ahead[..ahead.len().min(ahead_lines * LINE)];
            for group in 0..groups {
                let from = group * panel.group_words;
                let end = x.words.min(from + panel.group_words);
                let resume = group == 0 && to.resume;
                let ends = group + 1 < groups || to.ends;
                for first in (from..end).step_by(flush) {
                    let words = first..end.min(first + flush);
                    for (limb, weight) in x.limbs.weights.iter().enumerate() {
                        let steps = Steps {
                            panel,
                            row,
                            x: &vectors[limb * x.words * pitch..],
                            multipliers,
                            pitch,
                            at,
                            words: words.clone(),
                            starts,
                            start: (first == from).then_some(from / panel.start_words),
                            ahead: std::mem::take(&mut ahead),
                        };
                        (kernel.run)(isa, &steps, &mut sums);
                        let place = Place {
                            row,
                            rows: kernel.rows,
                            at,
                            vectors: kernel.vectors,
                            group,
                            groups,
                            start: first == from && limb == 0 && !resume,
                            end: words.end == end && limb == last_limb && ends,
                        };
                        fold::<O, P>(isa, &sums, *weight, &place, to);
                    }
                }
            }
        }
    }
}

/// Which sums a fold is about.
struct Place {
    /// The first row, and how many.
    row: usize,
    rows: usize,
    /// The first vector of tokens, and how many.
    at: usize,
    vectors: usize,
    /// The group, of those in the block.
    group: usize,
    groups: usize,
    /// Whether nothing has been summed of this group.
    start: bool,
    /// Whether all of this group has been.
    end: bool,
}

/// Adds i32 sums of all planes to the sum of their group, and a group's sum to the totals.
///
/// A third plane has sums of its own: so both parts are exact, where what they come to may be beyond
/// 2⁵³. Adding them then rounds it, once.
#[inline(always)]
fn fold<O: Int, const P: usize>(
    isa: IsaOf<O>,
    sums: &Accumulators<O>,
    weight: i64,
    place: &Place,
    to: &mut TileSums<'_>,
) {
    type D<O> = <<O as Int>::Sums as Sums>::Doubles;
    let lanes = D::<O>::LANES;
    let tokens: &[<D<O> as Doubles>::Lanes] =
        bytemuck::cast_slice(&to.token_scales[2 * lanes * place.at..][..2 * lanes * place.vectors]);
    let by = D::<O>::splat(isa, weight as f64);
    for r in 0..place.rows {
        let row = place.row + r;
        let scale = D::<O>::splat(isa, to.scales[row * place.groups + place.group]);
        let start = row * to.stride + 2 * lanes * place.at;
        let in_row = start..start + 2 * lanes * place.vectors;
        let high = MC * to.stride;
        let high = if P > 2 { high + in_row.start..high + in_row.end } else { 0..0 };
        let groups = to.sums.get_disjoint_mut([in_row.clone(), high]).expect("rows of sums");
        let [group, high_group] = groups;
        let group: &mut [<D<O> as Doubles>::Lanes] = bytemuck::cast_slice_mut(group);
        let high_group: &mut [<D<O> as Doubles>::Lanes] = bytemuck::cast_slice_mut(high_group);
        let totals: &mut [<D<O> as Doubles>::Lanes] =
            bytemuck::cast_slice_mut(&mut to.totals[in_row]);
        for a in 0..place.vectors {
            let Some(sums) =
                sums.get((r * place.vectors + a) * P..).and_then(|s| s.first_chunk::<P>())
            else {
                break;
            };
            let mut sum = O::Sums::widen(isa, sums[0]);
            if P > 1 {
                sum = add_plane::<O::Sums>(isa, sum, sums[1]);
            }
            let mut high = if P > 2 { O::Sums::widen(isa, sums[2]) } else { sum };
            if weight != 1 {
                sum = [D::<O>::mul(isa, sum[0], by), D::<O>::mul(isa, sum[1], by)];
                high = [D::<O>::mul(isa, high[0], by), D::<O>::mul(isa, high[1], by)];
            }
            for half in 0..2 {
                let (mut sum, mut high) = (sum[half], high[half]);
                let at = 2 * a + half;
                if !place.start {
                    sum = D::<O>::add(isa, D::<O>::load(isa, &group[at]), sum);
                    if P > 2 {
                        high = D::<O>::add(isa, D::<O>::load(isa, &high_group[at]), high);
                    }
                }
                if !place.end {
                    D::<O>::store(isa, sum, &mut group[at]);
                    if P > 2 {
                        D::<O>::store(isa, high, &mut high_group[at]);
                    }
                    continue;
                }
                if P > 2 {
                    let high = D::<O>::mul(isa, high, D::<O>::splat(isa, 65_536.0));
                    sum = D::<O>::add(isa, high, sum);
                }
                let scaled = D::<O>::mul(isa, sum, D::<O>::load(isa, &tokens[at]));
                let mut term = D::<O>::mul(isa, scaled, scale);
                if to.add || place.group > 0 {
                    term = D::<O>::add(isa, D::<O>::load(isa, &totals[at]), term);
                }
                D::<O>::store(isa, term, &mut totals[at]);
            }
        }
    }
}

/// `256 · plane + sum`.
#[inline(always)]
fn add_plane<S: Sums>(isa: S::Isa, sum: [F<S>; 2], plane: S::V) -> [F<S>; 2] {
    let (plane, by) = (S::widen(isa, plane), S::Doubles::splat(isa, 256.0));
    [
        S::Doubles::add(isa, S::Doubles::mul(isa, plane[0], by), sum[0]),
        S::Doubles::add(isa, S::Doubles::mul(isa, plane[1], by), sum[1]),
    ]
}

/// The micro-kernel over many words.
pub(crate) const fn whole<O: Int, const P: usize, const A: usize, const R: usize>() -> Microkernel<O>
{
    const { assert!(A * R * P <= 24 && MC.is_multiple_of(R)) };
    Microkernel { vectors: A, rows: R, run: |isa, x, to| isa.run(Whole::<O, P, A, R> { x, to }) }
}

struct Whole<'a, O: Int, const P: usize, const A: usize, const R: usize> {
    x: &'a Steps<'a, O>,
    to: &'a mut Accumulators<O>,
}

impl<'a, O: Int, const P: usize, const A: usize, const R: usize> Task<IsaOf<O>>
    for Whole<'a, O, P, A, R>
{
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Self { x, to } = self;
        let rows = Rows::<R, P>::of::<O>(x.panel, x.row);
        let mut sums = [[[O::Sums::zero(isa); P]; A]; R];
        if let Some(start) = x.start {
            start_sums::<O, P, A, R>(isa, x.panel, (x.row, x.starts, start), &mut sums);
        }
        let vectors = &x.x[x.words.start * x.pitch..];
        // Where a tile is this micro-kernel's, its words are neighbours, and the compiler knows how far apart.
        if x.pitch == A {
            let tokens = vectors.as_chunks::<A>().0.iter();
            words::<O, P, A, R>(isa, x, &rows, tokens, &mut sums);
        } else {
            let part = |x: &'a [Lanes<O>]| x.first_chunk::<A>();
            let tokens = vectors[x.at..].chunks(x.pitch).map_while(part);
            words::<O, P, A, R>(isa, x, &rows, tokens, &mut sums);
        }
        store_sums::<O, P, A, R>(&sums, to);
    }
}

/// The products of some words, of which `tokens` are those of x.
#[inline(always)]
fn words<'x, O: Int, const P: usize, const A: usize, const R: usize>(
    isa: IsaOf<O>,
    x: &Steps<'_, O>,
    rows: &Rows<'_, R, P>,
    tokens: impl Iterator<Item = &'x [Lanes<O>; A]>,
    to: &mut [[[V<O>; P]; A]; R],
) {
    let mut sums = *to;
    for ((i, word), tokens) in x.words.clone().enumerate().zip(tokens) {
        if i * LINE < x.ahead.len() {
            prefetch(x.ahead, i * LINE);
        }
        multiply::<O, P, A, R>(isa, rows, tokens, word, &mut sums);
    }
    *to = sums;
}

/// The same with multipliers, one for eight words.
pub(crate) const fn multiplied<O: Int, const P: usize, const A: usize, const R: usize>()
-> Microkernel<O> {
    const { assert!(A * R * P <= 24 && MC.is_multiple_of(R)) };
    let run: fn(IsaOf<O>, &Steps<'_, O>, &mut Accumulators<O>) =
        |isa, x, to| isa.run(Multiplied::<O, P, A, R> { x, to });
    Microkernel { vectors: A, rows: R, run }
}

struct Multiplied<'a, O: Int, const P: usize, const A: usize, const R: usize> {
    x: &'a Steps<'a, O>,
    to: &'a mut Accumulators<O>,
}

impl<O: Int, const P: usize, const A: usize, const R: usize> Task<IsaOf<O>>
    for Multiplied<'_, O, P, A, R>
{
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        let Self { x, to } = self;
        let rows = Rows::<R, P>::of::<O>(x.panel, x.row);
        let mut sums = [[[O::Sums::zero(isa); P]; A]; R];
        for part in x.words.start / MULTIPLIED_WORDS..x.words.end.div_ceil(MULTIPLIED_WORDS) {
            let mut parts = [[[O::Sums::zero(isa); P]; A]; R];
            start_sums::<O, P, A, R>(isa, x.panel, (x.row, x.starts, part), &mut parts);
            let words = x.x[part * MULTIPLIED_WORDS * x.pitch..].chunks_exact(x.pitch);
            for (word, tokens) in words.take(MULTIPLIED_WORDS).enumerate() {
                let Some(tokens) = tokens[x.at..].first_chunk::<A>() else { break };
                let word = part * MULTIPLIED_WORDS + word;
                multiply::<O, P, A, R>(isa, &rows, tokens, word, &mut parts);
            }
            for a in 0..A {
                let multiplier = O::Sums::load(isa, &x.multipliers[part * x.pitch + x.at + a]);
                for r in 0..R {
                    for p in 0..P {
                        let sum = &mut sums[r][a][p];
                        *sum = O::Sums::multiply_add(isa, *sum, parts[r][a][p], multiplier);
                    }
                }
            }
        }
        store_sums::<O, P, A, R>(&sums, to);
    }
}

#[inline(always)]
fn store_sums<O: Int, const P: usize, const A: usize, const R: usize>(
    sums: &[[[V<O>; P]; A]; R],
    to: &mut Accumulators<O>,
) {
    for r in 0..R {
        for a in 0..A {
            for p in 0..P {
                to[(r * A + a) * P + p] = sums[r][a][p];
            }
        }
    }
}

/// The planes and signs of some rows of a panel.
struct Rows<'a, const R: usize, const P: usize> {
    planes: [[&'a PanelRow; P]; R],
    /// The last plane where there are none.
    signs: [&'a PanelRow; R],
}

impl<'a, const R: usize, const P: usize> Rows<'a, R, P> {
    #[inline(always)]
    fn of<O: Int>(panel: &Panel<'a>, row: usize) -> Self {
        let pitch = Panel::pitch(P, O::OPERAND);
        let mut rows = Self { planes: [[&panel.rows[0]; P]; R], signs: [&panel.rows[0]; R] };
        for r in 0..R {
            let planes = &panel.rows[(row + r) * pitch..][..pitch];
            for p in 0..P {
                rows.planes[r][p] = &planes[p];
            }
            rows.signs[r] = &planes[pitch - 1];
        }
        rows
    }
}

/// Sums of tokens for a few rows, where they start: row, starts in a row, which of them.
#[inline(always)]
fn start_sums<O: Int, const P: usize, const A: usize, const R: usize>(
    isa: IsaOf<O>,
    panel: &Panel<'_>,
    (row, starts, start): (usize, usize, usize),
    sums: &mut [[[V<O>; P]; A]; R],
) {
    if Panel::pitch(P, O::OPERAND) == P {
        return;
    }
    for r in 0..R {
        for p in 0..P {
            let start = panel.compensation[((row + r) * starts + start) * P + p];
            for a in 0..A {
                sums[r][a][p] = O::Sums::splat(isa, start as u32);
            }
        }
    }
}

/// The products of a word of some rows and vectors of tokens.
#[inline(always)]
fn multiply<O: Int, const P: usize, const A: usize, const R: usize>(
    isa: IsaOf<O>,
    rows: &Rows<'_, R, P>,
    x: &[Lanes<O>; A],
    word: usize,
    sums: &mut [[[V<O>; P]; A]; R],
) {
    let mut tokens = [O::Sums::zero(isa); A];
    for a in 0..A {
        tokens[a] = O::Sums::load(isa, &x[a]);
    }
    for r in 0..R {
        let mut weights = [O::Sums::zero(isa); P];
        for p in 0..P {
            weights[p] = O::Sums::splat(isa, rows.planes[r][p][word]);
        }
        let sign = O::Sums::splat(isa, rows.signs[r][word]);
        for a in 0..A {
            O::madd(isa, &mut sums[r][a], &weights, sign, tokens[a]);
        }
    }
}

/// A loop over short groups.
pub(crate) struct Groups {
    pub vectors: usize,
    run: unsafe fn(&Panel<'_>, &TileX<'_>, usize, &mut TileSums<'_>),
}

/// For groups of columns that end within the panel and are short: at most `SHORT_GROUP` words, so that their
/// planes, one or two, can be joined in i32. Totals stay in registers, as far
/// as there are any, and scaling a group overlaps with the products of the next: with 128×128 blocks that gained 3 to
/// 10 % on a Zen 4.
pub(crate) const fn groups<O: Int, const P: usize, const A: usize, const R: usize>() -> Groups {
    /// # Safety
    /// The CPU has the features of the operand's ISA.
    unsafe fn run<O: Int, const P: usize, const A: usize, const R: usize>(
        panel: &Panel<'_>,
        x: &TileX<'_>,
        at: usize,
        to: &mut TileSums<'_>,
    ) {
        // SAFETY: the caller's promise.
        let isa = unsafe { IsaOf::<O>::assume() };
        isa.run(GroupsTile::<O, P, A, R> { panel, x, at, to, operand: PhantomData });
    }
    const { assert!(P <= 2 && MC.is_multiple_of(R)) };
    Groups { vectors: A, run: run::<O, P, A, R> }
}

struct GroupsTile<'a, 't, O, const P: usize, const A: usize, const R: usize> {
    panel: &'a Panel<'a>,
    x: &'a TileX<'a>,
    at: usize,
    to: &'a mut TileSums<'t>,
    operand: PhantomData<O>,
}

impl<O: Int, const P: usize, const A: usize, const R: usize> Task<IsaOf<O>>
    for GroupsTile<'_, '_, O, P, A, R>
{
    #[inline(always)]
    fn run(self, isa: IsaOf<O>) {
        type D<O> = <<O as Int>::Sums as Sums>::Doubles;
        let Self { panel, x, at, to, .. } = self;
        let pitch = x.width / O::Sums::LANES;
        let vectors: &[Lanes<O>] = bytemuck::cast_slice(x.x);
        let groups = x.words.div_ceil(panel.group_words);
        let starts = x.words.div_ceil(panel.start_words);
        let lanes = D::<O>::LANES;
        let tokens: &[<D<O> as Doubles>::Lanes] =
            bytemuck::cast_slice(&to.token_scales[2 * lanes * at..][..2 * lanes * A]);
        for row in (0..to.rows).step_by(R) {
            let rows = Rows::<R, P>::of::<O>(panel, row);
            // −0 changes no term that is added to it.
            let mut totals = [[[D::<O>::splat(isa, -0.0); 2]; A]; R];
            if to.add {
                for r in 0..R {
                    let from =
                        &to.totals[(row + r) * to.stride + 2 * lanes * at..][..2 * lanes * A];
                    let from: &[<D<O> as Doubles>::Lanes] = bytemuck::cast_slice(from);
                    for a in 0..A {
                        totals[r][a] =
                            [D::<O>::load(isa, &from[2 * a]), D::<O>::load(isa, &from[2 * a + 1])];
                    }
                }
            }
            for group in 0..groups {
                let from = group * panel.group_words;
                let words = from..x.words.min(from + panel.group_words);
                let mut sums = [[[D::<O>::splat(isa, 0.0); 2]; A]; R];
                for (limb, weight) in x.limbs.weights.iter().enumerate() {
                    let mut parts = [[[O::Sums::zero(isa); P]; A]; R];
                    start_sums::<O, P, A, R>(isa, panel, (row, starts, group), &mut parts);
                    let limb_x =
                        vectors[(limb * x.words + words.start) * pitch..].chunks_exact(pitch);
                    for (word, tokens) in words.clone().zip(limb_x) {
                        let Some(tokens) = tokens[at..].first_chunk::<A>() else { break };
                        multiply::<O, P, A, R>(isa, &rows, tokens, word, &mut parts);
                    }
                    let by = D::<O>::splat(isa, *weight as f64);
                    for r in 0..R {
                        for a in 0..A {
                            let part = join::<O, P>(isa, &parts[r][a]);
                            for half in 0..2 {
                                let part = if *weight == 1 {
                                    part[half]
                                } else {
                                    D::<O>::mul(isa, part[half], by)
                                };
                                sums[r][a][half] = D::<O>::add(isa, sums[r][a][half], part);
                            }
                        }
                    }
                }
                for r in 0..R {
                    let scale = D::<O>::splat(isa, to.scales[(row + r) * groups + group]);
                    for a in 0..A {
                        for half in 0..2 {
                            let sx = D::<O>::load(isa, &tokens[2 * a + half]);
                            let scaled = D::<O>::mul(isa, sums[r][a][half], sx);
                            let term = D::<O>::mul(isa, scaled, scale);
                            totals[r][a][half] = D::<O>::add(isa, totals[r][a][half], term);
                        }
                    }
                }
            }
            for r in 0..R {
                let to = &mut to.totals[(row + r) * to.stride + 2 * lanes * at..][..2 * lanes * A];
                let to: &mut [<D<O> as Doubles>::Lanes] = bytemuck::cast_slice_mut(to);
                for a in 0..A {
                    D::<O>::store(isa, totals[r][a][0], &mut to[2 * a]);
                    D::<O>::store(isa, totals[r][a][1], &mut to[2 * a + 1]);
                }
            }
        }
    }
}

/// The sum of all planes.
#[inline(always)]
fn join<O: Int, const P: usize>(isa: IsaOf<O>, planes: &[V<O>; P]) -> [F<O::Sums>; 2] {
    if O::JOINED {
        let mut sum = planes[P - 1];
        for p in (0..P - 1).rev() {
            sum = O::Sums::shift_add(isa, sum, planes[p]);
        }
        return O::Sums::widen(isa, sum);
    }
    let mut sum = O::Sums::widen(isa, planes[0]);
    for p in 1..P {
        sum = add_plane::<O::Sums>(isa, sum, planes[p]);
    }
    sum
}

/// Rounds the totals of a tile to f32, biases added, and turns rows of tokens into tokens of rows.
///
/// # Safety
/// The CPU has the features of the operand's ISA.
unsafe fn round<O: Int>(totals: &[f64], stride: usize, bias: &[f64; MC], to: &mut [[f32; MC]]) {
    // SAFETY: the caller's promise.
    let isa = unsafe { IsaOf::<O>::assume() };
    isa.run(RoundTile::<O::Sums> { totals, stride, bias, to, sums: PhantomData });
}

struct RoundTile<'a, S> {
    totals: &'a [f64],
    stride: usize,
    bias: &'a [f64; MC],
    to: &'a mut [[f32; MC]],
    sums: PhantomData<S>,
}

impl<S: Sums> Task<S::Isa> for RoundTile<'_, S> {
    #[inline(always)]
    fn run(self, isa: S::Isa) {
        let Self { totals, stride, bias, to, .. } = self;
        let lanes = S::LANES;
        for (block, to) in to.chunks_mut(lanes).enumerate() {
            for row in (0..MC).step_by(lanes) {
                let mut rows: <S::Doubles as Doubles>::Block = bytemuck::Zeroable::zeroed();
                for (r, to) in rows.as_mut().iter_mut().enumerate() {
                    let at = (row + r) * stride + block * lanes;
                    let totals: &[<S::Doubles as Doubles>::Lanes] =
                        bytemuck::cast_slice(&totals[at..][..lanes]);
                    let bias = S::Doubles::splat(isa, bias[row + r]);
                    let low = S::Doubles::load(isa, &totals[0]);
                    let high = S::Doubles::load(isa, &totals[1]);
                    let sums = [S::Doubles::add(isa, low, bias), S::Doubles::add(isa, high, bias)];
                    *to = S::Doubles::round(isa, sums);
                }
                let tokens = S::Doubles::transpose(isa, rows);
                for (to, token) in to.iter_mut().zip(tokens.as_ref()) {
                    to[row..][..lanes]
                        .copy_from_slice(bytemuck::cast_slice(std::slice::from_ref(token)));
                }
            }
        }
    }
}
