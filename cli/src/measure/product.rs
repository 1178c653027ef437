//! What can be timed.

use anyhow::Result;
use lutmul::{Granularity, Options, Scales, Shape, Weights, sign_stride};

use super::machine::Caches;
use super::team::Room;

/// The size of a product.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Tokens.
    pub m: usize,
    /// Out features.
    pub n: usize,
    /// In features.
    pub k: usize,
}

impl Size {
    /// Outputs.
    pub fn outputs(self) -> usize {
        self.m * self.n
    }

    /// Operations.
    pub fn flops(self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

/// A product that can be repeated: weights and activations are given, as is who works.
pub trait Product: Send {
    /// Its size.
    fn size(&self) -> Size;

    /// Multiplies, on the threads of the team that it is called in.
    fn multiply(&mut self, room: &mut Room) -> Result<()>;

    /// The last result, `[m, n]`: what is in the room, unless it was put elsewhere.
    fn output(&self, room: &Room) -> Result<Vec<f32>> {
        Ok(room.outputs(self.size().outputs()).to_vec())
    }
}

impl<P: Product + ?Sized> Product for Box<P> {
    fn size(&self) -> Size {
        (**self).size()
    }

    fn multiply(&mut self, room: &mut Room) -> Result<()> {
        (**self).multiply(room)
    }

    fn output(&self, room: &Room) -> Result<Vec<f32>> {
        (**self).output(room)
    }
}

/// A product by lutmul: packing of x and epilogue included.
#[derive(Clone, Copy)]
pub struct Lutmul<'a> {
    /// The weights.
    pub weights: &'a Weights<'a>,
    /// The activations, `[m, k]`.
    pub x: &'a [f32],
    /// How it is multiplied.
    pub options: Options,
}

impl Product for Lutmul<'_> {
    fn size(&self) -> Size {
        let (n, k) = (self.weights.n(), self.weights.k());
        Size { m: self.x.len() / k, n, k }
    }

    fn multiply(&mut self, room: &mut Room) -> Result<()> {
        let (y, context) = room.for_outputs(self.size().outputs());
        context.options = self.options;
        Ok(self.weights.matmul(self.x, y, context)?)
    }
}

/// The most tokens with which a peer's product is taken to be bound by memory.
pub const FEW_TOKENS: usize = 8;

/// Copies of weights of so many bytes that together don't fit the caches; one for gemm: such products are not bound
/// by memory.
pub fn copies_for(bytes: usize, shape: Shape, caches: Caches) -> usize {
    match shape {
        Shape::Gemv => caches.cold().div_ceil(bytes.max(1)).max(2),
        Shape::Gemm => 1,
    }
}

/// The first rows of a matrix.
pub fn head<'a>(w: &'a Weights<'_>, rows: usize) -> Result<Weights<'a>> {
    let rows = rows.min(w.n());
    let granularity = match w.scales().granularity() {
        // As many rows a block as before, though there be fewer than one.
        Granularity::Block(r, c) => Granularity::Block(r.min(rows.max(1)), c),
        other => other,
    };
    let (grid_rows, grid_cols) = granularity.grid((rows, w.k()));
    let values = w.scales().values()[..grid_rows * grid_cols].to_vec();
    let scales = Scales::new(values, (rows, w.k()), granularity)?;
    let codes = &w.codes()[..rows * w.k()];
    let head = Weights::new(codes, (rows, w.k()), w.lut().clone(), scales)?.with_name(w.name());
    match w.signs() {
        Some(signs) => Ok(head.with_signs(&signs[..rows * sign_stride(w.k())])?),
        None => Ok(head),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lutmul::Format;

    #[test]
    fn heads_are_the_first_rows() {
        let w: Vec<f32> = (0..10 * 70).map(|i| (i as f32).sin()).collect();
        for scales in ["tensor", "row", "group:32", "block:4x16", "block:128x128"] {
            let scales = scales.parse().expect(scales);
            let w = Weights::encode(&w, (10, 70), &Format::QinsLinear, scales).expect("weights");
            for rows in [1, 5, 10, 20] {
                let head = head(&w, rows).expect("rows");
                assert_eq!((head.n(), head.k()), (rows.min(10), 70));
                for (row, col) in [(0, 0), (head.n() - 1, 69)] {
                    assert_eq!(head.at(row, col).to_bits(), w.at(row, col).to_bits(), "{scales}");
                }
            }
        }
    }
}
