//! Weights put together from anything, and products with them.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lutmul::{Bytes, Format, Granularity, Lut, Scales, Weights};

#[derive(Arbitrary, Debug)]
struct Input {
    shape: (u8, u8),
    granularity: u8,
    sizes: (u8, u8),
    table: u8,
    entries: Vec<u32>,
    wide: bool,
    signs: bool,
    /// How many bytes and scales there are more or fewer than there should be, mostly none.
    off: [i8; 3],
    scales: Vec<u32>,
    codes: Vec<u8>,
}

/// A list of this length, repeated as often as it takes.
fn repeat<T: Copy>(list: &[T], empty: T, count: usize, off: i8) -> Vec<T> {
    let count = count.saturating_add_signed(isize::from(off / 64));
    (0..count).map(|i| list.get(i % list.len().max(1)).copied().unwrap_or(empty)).collect()
}

fn table(input: &Input) -> Option<Lut> {
    let named = Format::NAMED.get(input.table as usize / 4).and_then(|format| format.lut());
    let lut = named.or_else(|| {
        let entries = repeat(&input.entries, 0x3F80_0000, 256, 0);
        Lut::new(&std::array::from_fn(|i| f32::from_bits(entries[i]))).ok()
    })?;
    Some(if input.wide { lut.with_wide_image() } else { lut })
}

fuzz_target!(|input: Input| {
    let (n, k) = (usize::from(input.shape.0 % 40), usize::from(input.shape.1));
    let (rows, cols) = (usize::from(input.sizes.0), usize::from(input.sizes.1));
    let granularity = [
        Granularity::Tensor,
        Granularity::Row,
        Granularity::Group(cols),
        Granularity::Group(cols / 32 * 32),
        Granularity::Block(rows, cols),
    ][usize::from(input.granularity % 5)];
    let Some(lut) = table(&input) else { return };
    let (grid_rows, grid_cols) =
        if rows > 0 && cols / 32 > 0 { granularity.grid((n, k)) } else { (1, 1) };
    let scales = repeat(&input.scales, 0x3C00_0000, grid_rows * grid_cols, input.off[0]);
    let scales = scales.into_iter().map(f32::from_bits).collect();
    let Ok(scales) = Scales::new(scales, (n, k), granularity) else { return };
    let codes = repeat(&input.codes, 0x11, n * k, input.off[1]);
    let signs = input
        .signs
        .then(|| Bytes::from(repeat(&input.codes, 0x55, n * k.div_ceil(8), input.off[2])));
    if let Ok(weights) = Weights::new(codes, (n, k), lut, scales).and_then(|w| match signs { Some(signs) => w.with_signs(signs), None => Ok(w) }) {
        lutmul_fuzz::multiply(weights);
    }
});
