//! The panel shape: tiles of tokens, `[blocks of k][limbs][steps][width]`.

use std::ops::Range;

use lutmul_kernels::{Form, LINE, Limbs, MULTIPLIED, PANEL_STEPS};

use super::{LimbLine, Quantiser, store};
use crate::activations::Layout;
use crate::element::Element;

/// Tokens packed side by side, so that writes are 32 bytes and not 4.
const SIDE: usize = 8;

/// How limbs lie, by blocks of columns: as many as a panel holds, whole groups where that is possible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PanelLayout {
    pub limbs: Limbs,
    /// Columns of a group; the last one may have fewer.
    group: usize,
    k: usize,
}

/// A block of columns.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub columns: Range<usize>,
    /// Groups that it has a part in.
    pub groups: Range<usize>,
    /// Whether the first of them began in an earlier block.
    pub resume: bool,
    /// Whether the last of them ends here.
    pub ends: bool,
    /// Words of one token before this block.
    before: usize,
}

impl Block {
    /// Steps of it, in whole multiplied groups.
    pub fn steps(&self, limbs: Limbs) -> usize {
        self.columns.len().next_multiple_of(MULTIPLIED) / limbs.step()
    }
}

impl PanelLayout {
    pub fn new(layout: &Layout) -> Self {
        Self { limbs: layout.limbs, group: layout.group.max(1), k: layout.k }
    }

    /// The blocks, in order.
    pub fn blocks(self) -> impl Iterator<Item = Block> {
        let room = PANEL_STEPS * self.limbs.step();
        let mut next = (0, 0);
        std::iter::from_fn(move || {
            let (start, before) = next;
            let group = start / self.group;
            let end = match self.group {
                // A part of one group.
                size if size > room => (start + room).min((group + 1) * size),
                size => start + room / size * size,
            };
            let end = end.min(self.k);
            let block = Block {
                columns: start..end,
                groups: group..end.div_ceil(self.group),
                resume: !start.is_multiple_of(self.group),
                ends: end == self.k || end.is_multiple_of(self.group),
                before,
            };
            next = (end, before + self.words(&block));
            (start < end).then_some(block)
        })
    }

    /// Words of one token in a block.
    fn words(self, block: &Block) -> usize {
        let multipliers = match self.limbs.form {
            Form::Multiplied => block.columns.len().div_ceil(MULTIPLIED),
            _ => 0,
        };
        self.limbs.weights.len() * block.steps(self.limbs) + multipliers
    }

    /// Words of a token.
    pub fn token_words(self) -> usize {
        self.blocks().last().map_or(0, |block| block.before + self.words(&block))
    }

    /// Steps of a group.
    pub fn group_steps(self) -> usize {
        self.group.next_multiple_of(MULTIPLIED) / self.limbs.step()
    }

    /// A block of the tile that begins at `token`.
    pub fn x<'a>(
        self,
        packed: &'a [f32],
        block: &Block,
        (token, width): (usize, usize),
        token_words: usize,
    ) -> &'a [u32] {
        let tile = &bytemuck::cast_slice(packed)[token * token_words..];
        &tile[block.before * width..][..self.words(block) * width]
    }
}

/// Packs a tile.
pub(super) fn pack_tile<X: Element>(
    x: &Quantiser<'_, X>,
    layout: &PanelLayout,
    first_token: usize,
    packed: &mut [u32],
) {
    let width = packed.len() / layout.token_words();
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for block in layout.blocks() {
                let words = layout.words(&block);
                let packed = &mut packed[block.before * width..][..words * width];
                for side in (0..width).step_by(SIDE) {
                    pack_block(x, &block, first_token + side, (width, side), packed);
                }
            }
        },
    );
}

/// Packs a block of eight tokens side by side.
#[inline(always)]
fn pack_block<X: Element>(
    x: &Quantiser<'_, X>,
    block: &Block,
    first_token: usize,
    (width, side): (usize, usize),
    packed: &mut [u32],
) {
    let limbs = x.limbs;
    let (count, steps) = (limbs.weights.len(), block.steps(limbs));
    let tokens = SIDE.min(width - side);
    let (digits, multipliers) = packed.split_at_mut(count * steps * width);
    let mut made = LimbLine::ZERO;
    for (line, first) in block.columns.clone().step_by(LINE).enumerate() {
        let columns = first..block.columns.end.min(first + LINE);
        let mut cut = [[[0u32; LINE / 2]; SIDE]; 3];
        for token in 0..tokens {
            x.line(first_token + token, columns.clone(), &mut made);
            for (limb, cut) in made.limbs.iter().zip(&mut cut).take(count) {
                let to = &mut bytemuck::cast_slice_mut(&mut cut[token])[..LINE * limbs.size()];
                store(limb, to, limbs.words());
            }
            if limbs.form == Form::Multiplied {
                let rows = multipliers[2 * line * width..].chunks_mut(width);
                for (to, multiplier) in rows.zip(made.multipliers) {
                    to[side + token] = multiplier as u32;
                }
            }
        }
        let line_steps = LINE / limbs.step();
        let first_step = line * line_steps;
        let line_steps = line_steps.min(steps - first_step);
        for (limb, cut) in cut.iter().enumerate().take(count) {
            let to = &mut digits[(limb * steps + first_step) * width..][..line_steps * width];
            for (step, to) in to.chunks_exact_mut(width).enumerate() {
                for (to, cut) in to[side..][..tokens].iter_mut().zip(cut) {
                    *to = cut[step];
                }
            }
        }
    }
}
