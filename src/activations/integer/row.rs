//! The row shape: blocks of tokens, `[lines][tokens][parts][limbs][64]`, by groups of columns.
//!
//! Groups of 32 have two parts, which are as two tokens to a kernel: in the first, columns of a line's upper
//! half are zero, in the second those of its lower half. So each line of codes is decoded once, for two sums.

use std::ops::Range;

use lutmul_kernels::{LINE, Limbs};

use super::{LimbLine, Quantiser, store};
use crate::activations::Layout;
use crate::driver::Shape;
use crate::element::Element;

/// How limbs lie: each group of columns is padded to whole lines, or has a part of its own of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowLayout {
    pub limbs: Limbs,
    /// Tokens of x.
    m: usize,
    /// Columns of a group; the last one may have fewer.
    group: usize,
    k: usize,
    /// Groups in a line, beside each other: 1 or 2.
    parts: usize,
}

impl RowLayout {
    pub fn new(layout: &Layout) -> Self {
        let group = layout.group.max(1);
        let parts = if group == LINE / 2 && layout.k > group { 2 } else { 1 };
        Self { limbs: layout.limbs, m: layout.m, group, k: layout.k, parts }
    }

    /// Blocks of tokens: their first token, and how many there are, padding included.
    pub fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let most = self.most();
        let size = move |token: usize| (self.m - token).min(most).next_power_of_two();
        (0..self.m).step_by(most).map(move |token| (token, size(token)))
    }

    /// The most tokens of a block: as many as make a kernel's most, with their parts.
    fn most(&self) -> usize {
        Shape::ROW_TOKENS / self.parts
    }

    /// Tokens with their padding.
    pub fn tokens(self) -> usize {
        let rest = self.m % self.most();
        self.m - rest + if rest > 0 { rest.next_power_of_two() } else { 0 }
    }

    /// What a block of tokens is to a kernel.
    pub fn kernel_tokens(&self, tokens: usize) -> usize {
        tokens * self.parts
    }

    /// Which of the kernel's sums is that of a group, counted from the first of a call, and a token of a block.
    pub fn sum(&self, group: usize, (token, tokens): (usize, usize)) -> usize {
        (group / self.parts * tokens + token) * self.parts + group % self.parts
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
        if self.parts > 1 || self.group.is_multiple_of(LINE) { self.groups() } else { 1 }
    }

    /// Sums of a kernel call for each of a block's tokens.
    pub fn sums(&self) -> usize {
        self.groups_at_once().next_multiple_of(self.parts)
    }

    /// Lines before a group that starts one; with the number of groups, lines of all.
    fn lines_before(&self, group: usize) -> usize {
        if self.parts > 1 {
            return group.div_ceil(self.parts);
        }
        let before = group.min(self.groups() - 1);
        let last = if group > before { self.columns(before).len() } else { 0 };
        before * self.group.div_ceil(LINE) + last.div_ceil(LINE)
    }

    /// Bytes of a line of one token.
    fn line_bytes(&self) -> usize {
        LINE * self.limbs.size() * self.limbs.weights.len() * self.parts
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
            for group in (0..layout.groups()).step_by(layout.parts) {
                let last = layout.groups().min(group + layout.parts) - 1;
                let columns = layout.columns(group).start..layout.columns(last).end;
                for first in columns.clone().step_by(LINE) {
                    for token in 0..tokens {
                        let columns = first..columns.end.min(first + LINE);
                        x.line(first_token + token, columns, &mut line);
                        for part in 0..layout.parts {
                            for limb in &line.limbs[..limbs.weights.len()] {
                                let to = to.next().expect("room for all limbs");
                                store(limb, to, limbs.words());
                                if layout.parts > 1 {
                                    let halves = to.split_at_mut(LINE / 2 * limbs.size());
                                    let other = if part == 0 { halves.1 } else { halves.0 };
                                    other.fill(0);
                                }
                            }
                        }
                    }
                }
            }
        },
    );
}
