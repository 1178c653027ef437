//! The row shape: blocks of tokens, `[lines][tokens][limbs][64]`, by groups of columns.

use std::ops::Range;

use lutmul_kernels::{LINE, Limbs};

use super::{LimbLine, Quantiser, store};
use crate::activations::Layout;
use crate::driver::Shape;
use crate::element::Element;

/// How limbs lie: each group of columns is padded to whole lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowLayout {
    pub limbs: Limbs,
    /// Tokens of x.
    m: usize,
    /// Columns of a group; the last one may have fewer.
    group: usize,
    k: usize,
}

impl RowLayout {
    pub fn new(layout: &Layout) -> Self {
        Self { limbs: layout.limbs, m: layout.m, group: layout.group.max(1), k: layout.k }
    }

    /// Blocks of tokens: their first token, and how many there are, padding included.
    pub fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let size = move |token: usize| (self.m - token).min(Shape::ROW_TOKENS).next_power_of_two();
        (0..self.m).step_by(Shape::ROW_TOKENS).map(move |token| (token, size(token)))
    }

    /// Tokens with their padding.
    pub fn tokens(self) -> usize {
        let rest = self.m % Shape::ROW_TOKENS;
        self.m - rest + if rest > 0 { rest.next_power_of_two() } else { 0 }
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
    }

    /// The columns of a group.
    pub fn columns(&self, group: usize) -> Range<usize> {
        group * self.group..self.k.min((group + 1) * self.group)
    }

    /// Groups that a kernel can do in one call: all, where they are whole lines.
    pub fn groups_at_once(&self) -> usize {
        if self.group.is_multiple_of(LINE) { self.groups() } else { 1 }
    }

    /// Lines before a group; with the number of groups, lines of all.
    fn lines_before(&self, group: usize) -> usize {
        let before = group.min(self.groups() - 1);
        let last = if group > before { self.columns(before).len() } else { 0 };
        before * self.group.div_ceil(LINE) + last.div_ceil(LINE)
    }

    /// Bytes of a line of one token.
    fn line_bytes(&self) -> usize {
        LINE * self.limbs.size() * self.limbs.weights.len()
    }

    /// Bytes of a token.
    pub fn token_bytes(&self) -> usize {
        self.lines_before(self.groups()) * self.line_bytes()
    }

    /// The part of the packed bytes that is some groups' of a block.
    pub fn x<'a>(
        &self,
        packed: &'a [f32],
        (token, tokens): (usize, usize),
        groups: Range<usize>,
    ) -> &'a [u8] {
        let line = self.line_bytes() * tokens;
        let lines = self.lines_before(groups.start)..self.lines_before(groups.end);
        let block = token * self.token_bytes();
        &bytemuck::cast_slice(packed)[block..][lines.start * line..lines.end * line]
    }
}

/// Packs a block of tokens.
pub(super) fn pack<X: Element>(
    x: &Quantiser<'_, X>,
    layout: &RowLayout,
    (first_token, tokens): (usize, usize),
    packed: &mut [u8],
) {
    let limbs = x.limbs;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut to = packed.chunks_exact_mut(LINE * limbs.size());
            let mut line = LimbLine::ZERO;
            for group in 0..layout.groups() {
                let columns = layout.columns(group);
                for first in columns.clone().step_by(LINE) {
                    for token in 0..tokens {
                        let columns = first..columns.end.min(first + LINE);
                        x.line(first_token + token, columns, &mut line);
                        for (limb, to) in
                            line.limbs.iter().zip(to.by_ref().take(limbs.weights.len()))
                        {
                            store(limb, to, limbs.words());
                        }
                    }
                }
            }
        },
    );
}
