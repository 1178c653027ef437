//! Packing for integer modes: limbs of quantised activations.

use std::ops::Range;

use lutmul_kernels::{LINE, Limbs};

use super::Layout;
use crate::aligned::Aligned;
use crate::driver::Shape;
use crate::element::Element;
use crate::error::{Error, Result, area};
use crate::mat::MatRef;
use crate::options::{Mode, Threads};
use crate::quantize::{self, A8_GROUP, TokenScale};

/// Tokens packed side by side in the panel shape, so that writes are 32 bytes and not 4.
const SIDE: usize = 8;

/// How limbs lie: by groups of columns, each padded to whole lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntLayout {
    pub limbs: Limbs,
    /// Columns of a group; the last one may have fewer.
    group: usize,
    k: usize,
    tokens: usize,
}

impl IntLayout {
    pub fn new(layout: &Layout) -> Self {
        let digits = layout.mode.digits();
        let limbs = match layout.shape {
            Shape::Row => layout.kernel.row_limbs(digits),
            Shape::Panel => layout.kernel.panel_limbs(digits),
        };
        Self { limbs, group: layout.group.max(1), k: layout.k, tokens: layout.tokens() }
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
    }

    /// The columns of a group.
    pub fn columns(&self, group: usize) -> Range<usize> {
        group * self.group..self.k.min((group + 1) * self.group)
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
    fn token_bytes(&self) -> usize {
        self.lines_before(self.groups()) * self.line_bytes()
    }

    /// Groups that a kernel of the row shape can do in one call: all, where they are whole lines.
    pub fn row_groups(&self) -> usize {
        if self.group.is_multiple_of(LINE) { self.groups() } else { 1 }
    }

    /// Row shape: the part of the packed bytes that is some groups', `[lines][tokens][limbs][64]`.
    pub fn row_x<'a>(&self, packed: &'a [f32], groups: Range<usize>) -> &'a [u8] {
        let line = self.line_bytes() * self.tokens;
        let lines = self.lines_before(groups.start)..self.lines_before(groups.end);
        &bytemuck::cast_slice(packed)[lines.start * line..lines.end * line]
    }

    /// Panel shape: one limb of a group and a tile that begins at `token`, `[steps][width]`.
    pub fn tile_limb<'a>(
        &self,
        packed: &'a [f32],
        group: usize,
        token: usize,
        width: usize,
        limb: usize,
    ) -> &'a [u32] {
        let line_steps = LINE / self.limbs.step();
        let count = self.limbs.weights.len();
        let before = self.lines_before(group) * line_steps;
        let steps = self.lines_before(group + 1) * line_steps - before;
        let tile = token * self.token_bytes() / 4;
        let at = tile + (before * count + limb * steps) * width;
        &bytemuck::cast_slice(packed)[at..at + steps * width]
    }
}

/// Quantises and packs x.
pub(super) fn pack<X: Element>(
    x: MatRef<'_, X>,
    layout: &Layout,
    packed: &mut Aligned,
    tokens: &mut Vec<TokenScale>,
    threads: Threads,
) -> Result<()> {
    let (m, k) = (layout.m, layout.k);
    if layout.group < k && !layout.group.is_multiple_of(A8_GROUP) {
        let why = format!(
            "groups of {} along k are no multiple of 32, as {} asks",
            layout.group, layout.mode
        );
        return Err(Error::invalid("scales", why));
    }
    let limit = layout.mode.max_k();
    if k > limit {
        let why = format!("{k} columns are beyond the {limit} that {} sums exactly", layout.mode);
        return Err(Error::invalid("k", why));
    }
    tokens.clear();
    if m == 0 || k == 0 {
        return Ok(());
    }
    tokens.resize(m, TokenScale::default());
    crate::driver::for_each_chunk(tokens, SIDE, threads, |i, tokens| {
        for (j, token) in tokens.iter_mut().enumerate() {
            *token = TokenScale::new(max_abs(x.row(i * SIDE + j)), layout.mode);
        }
    });
    let int = IntLayout::new(layout);
    let len = area("packed activations", layout.tokens(), int.token_bytes())?;
    let packed = &mut bytemuck::cast_slice_mut(packed.take(len.div_ceil(4)))[..len];
    match layout.shape {
        Shape::Row => pack_rows(x, layout.mode, &int, tokens, packed),
        Shape::Panel => {
            let full = layout.kernel.int_tile_width();
            let tile = |i: usize, packed: &mut [u8]| {
                pack_tile(x, layout.mode, &int, tokens, i * full, packed);
            };
            crate::driver::for_each_chunk(packed, full * int.token_bytes(), threads, tile);
        }
    }
    Ok(())
}

/// The largest magnitude of a row.
fn max_abs<X: Element>(row: &[X]) -> f32 {
    if let Some(row) = X::as_f32(row) {
        return quantize::max_abs(row);
    }
    let mut wide = [0.0; LINE];
    let maxima = row.chunks(LINE).map(|x| {
        let wide = &mut wide[..x.len()];
        X::widen(x, wide);
        quantize::max_abs(wide)
    });
    // Magnitudes and NaN, ordered by their bits.
    f32::from_bits(maxima.map(f32::to_bits).max().unwrap_or(0))
}

/// A line of a token, quantised and cut into limbs; zero beyond the group and beyond x.
fn limbs<X: Element>(
    x: MatRef<'_, X>,
    token: usize,
    columns: Range<usize>,
    scales: &[TokenScale],
    mode: Mode,
    limbs: Limbs,
) -> [[i32; LINE]; 3] {
    let Some(scale) = scales.get(token) else { return [[0; LINE]; 3] };
    let mut wide = [0.0; LINE];
    X::widen(&x.row(token)[columns.clone()], &mut wide[..columns.len()]);
    limbs.cut(quantize::line(&wide, *scale, mode))
}

/// Row shape: `[lines][tokens][limbs][64]`.
fn pack_rows<X: Element>(
    x: MatRef<'_, X>,
    mode: Mode,
    int: &IntLayout,
    scales: &[TokenScale],
    packed: &mut [u8],
) {
    let size = int.limbs.size();
    let mut to = packed.chunks_exact_mut(LINE * size);
    for group in 0..int.groups() {
        let columns = int.columns(group);
        for first in columns.clone().step_by(LINE) {
            for token in 0..int.tokens {
                let line = first..columns.end.min(first + LINE);
                let limbs = limbs(x, token, line, scales, mode, int.limbs);
                for (limb, to) in limbs.iter().zip(to.by_ref().take(int.limbs.weights.len())) {
                    store(limb, to, size);
                }
            }
        }
    }
}

/// Panel shape: a tile, `[groups][limbs][steps][width]`.
fn pack_tile<X: Element>(
    x: MatRef<'_, X>,
    mode: Mode,
    int: &IntLayout,
    scales: &[TokenScale],
    first_token: usize,
    packed: &mut [u8],
) {
    let width = packed.len() / int.token_bytes();
    let (size, count) = (int.limbs.size(), int.limbs.weights.len());
    let steps = LINE / int.limbs.step();
    let packed: &mut [u32] = bytemuck::cast_slice_mut(packed);
    for group in 0..int.groups() {
        let columns = int.columns(group);
        let before = int.lines_before(group) * steps;
        let group_steps = int.lines_before(group + 1) * steps - before;
        for (line, first) in columns.clone().step_by(LINE).enumerate() {
            let line_columns = first..columns.end.min(first + LINE);
            for side in (0..width).step_by(SIDE) {
                let side_tokens = SIDE.min(width - side);
                let mut cut = [[[0u32; LINE / 2]; SIDE]; 3];
                for token in 0..side_tokens {
                    let at = first_token + side + token;
                    let limbs = limbs(x, at, line_columns.clone(), scales, mode, int.limbs);
                    for (limb, cut) in limbs.iter().zip(&mut cut).take(count) {
                        store(
                            limb,
                            &mut bytemuck::cast_slice_mut(&mut cut[token])[..LINE * size],
                            size,
                        );
                    }
                }
                for (limb, cut) in cut.iter().enumerate().take(count) {
                    let at = (before * count + limb * group_steps + line * steps) * width;
                    for (step, to) in
                        packed[at..at + steps * width].chunks_exact_mut(width).enumerate()
                    {
                        for (to, cut) in to[side..side + side_tokens].iter_mut().zip(cut) {
                            *to = cut[step];
                        }
                    }
                }
            }
        }
    }
}

/// Stores a limb of a line as bytes or words.
fn store(limb: &[i32; LINE], to: &mut [u8], size: usize) {
    if size == 1 {
        for (to, limb) in to.iter_mut().zip(limb) {
            *to = *limb as u8;
        }
    } else {
        for (to, limb) in to.as_chunks_mut::<2>().0.iter_mut().zip(limb) {
            *to = (*limb as i16).to_ne_bytes();
        }
    }
}
