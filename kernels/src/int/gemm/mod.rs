//! gemm: lanes run along tokens.
//!
//! Computes `S[r][t] = Σ_k panel[r][k] · X[k][t]` for each group of columns, and adds `(S · sx[t]) · scale[r]` to totals.
//! Two things that know nothing of each other: *accumulate*, a micro-kernel whose i32 sums of a few rows and vectors of
//! tokens stay in registers, and *finish*, which widens them to f64, scales, rounds and transposes. A row's planes are
//! summed side by side, so that they share loads and signs of x; limbs one after the other. Each plane has i32 sums
//! of its own, whose bounds do not depend on how many there are. They are widened at the latest after
//! `FLUSH_WORDS` words (with multipliers: after 64), and stay exact there. Bound by the multiplications.

mod groups;
mod micro;
mod round;

use std::marker::PhantomData;

pub(crate) use groups::{Groups, groups};
use micro::{Accumulators, Steps};
pub(crate) use micro::{Microkernel, multiplied, whole};

use super::{
    Decoder, Doubles, F, Int, IsaOf, Lanes, MULTIPLIED, MULTIPLIED_WORDS, Panel, PanelMut, Round,
    SHORT_GROUP, Sums, TileSums, TileX, Weights,
};
use crate::isa::{Isa, Task};
use crate::prefetch::{PANEL_DISTANCE, prefetch};
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
            round: round::round::<O>,
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
                prefetch(codes.codes, r * codes.k + codes.first + (line + PANEL_DISTANCE) * LINE);
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
