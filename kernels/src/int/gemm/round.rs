//! Totals become outputs.

use std::marker::PhantomData;

use crate::int::{Doubles, Int, IsaOf, Sums};
use crate::isa::{Isa, Task};
use crate::weights::MC;

/// Rounds the totals of a tile to f32, biases added, and turns rows of tokens into tokens of rows.
///
/// # Safety
/// The CPU has the features of the operand's ISA.
pub(super) unsafe fn round<O: Int>(
    totals: &[f64],
    stride: usize,
    bias: &[f64; MC],
    to: &mut [[f32; MC]],
) {
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
