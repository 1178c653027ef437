//! Short groups of columns: sums are scaled in registers.

use std::marker::PhantomData;

use super::add_plane;
use super::micro::{Rows, multiply, start_sums};
use crate::int::{Doubles, F, Int, IsaOf, Lanes, Panel, Sums, TileSums, TileX, V};
use crate::isa::{Isa, Task};
use crate::weights::MC;

/// A loop over short groups.
pub(crate) struct Groups {
    pub vectors: usize,
    pub(super) run: unsafe fn(&Panel<'_>, &TileX<'_>, usize, &mut TileSums<'_>),
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
