//! Packing for F32: floats, transposed or not.

use lutmul_kernels::{LINE, Order};

use super::Layout;
use crate::element::Element;
use crate::mat::MatRef;
use crate::options::Threads;

/// Row shape: `[lines][tokens][64]`, lines in the kernel's order, zero beyond k and m.
pub(super) fn pack_rows<X: Element>(x: MatRef<'_, X>, layout: &Layout, packed: &mut [f32]) {
    let (packed, _) = packed.as_chunks_mut::<LINE>();
    let tokens = layout.tokens();
    for token in 0..tokens {
        let row = if token < layout.m { x.row(token) } else { &[] };
        for (line, to) in packed.iter_mut().skip(token).step_by(tokens).enumerate() {
            let from = row.get(line * LINE..).unwrap_or_default();
            let mut wide = [0.0; LINE];
            let len = from.len().min(LINE);
            X::widen(&from[..len], &mut wide[..len]);
            for (to, from) in to.iter_mut().zip(layout.order) {
                *to = wide[usize::from(*from)];
            }
        }
    }
}

/// Panel shape: tiles of the kernel's width, the last one narrower, each `[columns][width]`.
pub(super) fn pack_tiles<X: Element>(
    x: MatRef<'_, X>,
    layout: &Layout,
    packed: &mut [f32],
    threads: Threads,
) {
    let full = layout.kernel.tile_width();
    let columns = layout.columns();
    let tile = |i: usize, packed: &mut [f32]| {
        let width = packed.len() / columns;
        for (line, to) in packed.chunks_exact_mut(LINE * width).enumerate() {
            pack_tile_line(x, i * full, line, layout.order, width, to);
        }
    };
    crate::driver::for_each_chunk(packed, full * columns, threads, tile);
}

/// Transposes 64 columns of a tile's tokens into `[64][width]`.
fn pack_tile_line<X: Element>(
    x: MatRef<'_, X>,
    first_token: usize,
    line: usize,
    order: &Order,
    width: usize,
    to: &mut [f32],
) {
    // Eight tokens side by side: a write of 32 bytes a column instead of one of 4.
    const SIDE: usize = 8;
    for side in (0..width).step_by(SIDE) {
        let mut wide = [[0.0; LINE]; SIDE];
        let count = SIDE.min(width - side);
        for (token, wide) in (first_token + side..x.rows()).zip(&mut wide[..count]) {
            let from = &x.row(token)[line * LINE..];
            let len = from.len().min(LINE);
            X::widen(&from[..len], &mut wide[..len]);
        }
        for (to, column) in to.chunks_exact_mut(width).zip(order) {
            for (to, wide) in to[side..side + count].iter_mut().zip(&wide) {
                *to = wide[usize::from(*column)];
            }
        }
    }
}
