//! A product that is timed.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use lutmul::{
    Epilogue, Granularity, MatMut, MatRef, Options, Scales, Shape, Weights, Workspace, matmul,
    sign_stride,
};

use super::error::Sampled;
use super::machine::Caches;
use super::team::Team;
use super::timing::{Budget, Times};

/// A product that is timed: packing of x and epilogue included, everything but allocation.
pub struct Case<'a> {
    /// The same weights several times, for them to be cold.
    copies: &'a [Weights<'a>],
    next: usize,
    x: &'a [f32],
    m: usize,
    options: Options,
    team: &'a Team,
    times: Times,
    spent: f64,
    workspace_bytes: usize,
}

/// Seconds of a product beside which the first use of memory is no matter.
const LONG: f64 = 1.0;

/// Copies that together don't fit the caches; one if there are more tokens than the row shape takes:
/// such products are not bound by memory.
pub fn copies_for(w: &Weights<'_>, tokens: &[usize], caches: Caches) -> usize {
    if tokens.iter().any(|m| Shape::of(w, *m) == Shape::Row) {
        caches.cold().div_ceil(w.bytes().max(1)).max(2)
    } else {
        1
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
    let (grid_rows, grid_cols) = granularity.grid(rows, w.k());
    let values = w.scales().values()[..grid_rows * grid_cols].to_vec();
    let scales = Scales::new(granularity, rows, w.k(), values)?;
    let signs = w.signs().map(|signs| signs[..rows * sign_stride(w.k())].into());
    let codes = &w.codes()[..rows * w.k()];
    Ok(Weights::new((rows, w.k()), w.lut().clone(), codes, signs, scales)?.with_name(w.name()))
}

impl<'a> Case<'a> {
    /// Products of the first `m` tokens of x with each of the copies in turn.
    pub fn new(
        copies: &'a [Weights<'a>],
        x: &'a [f32],
        m: usize,
        options: Options,
        team: &'a Team,
    ) -> Self {
        let x = &x[..m * copies[0].k()];
        let options = options.threads(team.option());
        let (times, spent, workspace_bytes) = (Times::default(), 0.0, 0);
        Self { copies, next: 0, x, m, options, team, times, spent, workspace_bytes }
    }

    /// The weights.
    pub fn weights(&self) -> &'a Weights<'a> {
        &self.copies[0]
    }

    /// Tokens.
    pub fn m(&self) -> usize {
        self.m
    }

    /// How it is multiplied.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// The loop shape.
    pub fn shape(&self) -> Shape {
        Shape::of(self.weights(), self.m)
    }

    /// Operations of a product.
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.weights().n() as f64 * self.weights().k() as f64
    }

    /// The times so far.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Bytes of the workspace after [`Case::warm_up`].
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }

    /// Multiplies once with a workspace of its own, and returns y and the seconds it took.
    pub fn warm_up(&mut self) -> Result<(Vec<f32>, f64)> {
        let mut y = vec![f32::NAN; self.m * self.weights().n()];
        let mut workspace = self.team.run(Workspace::new);
        let seconds = self.products(1, &mut y, &mut workspace)?;
        self.workspace_bytes = workspace.bytes();
        self.spent += seconds;
        if seconds > LONG {
            self.times.push(seconds);
        }
        Ok((y, seconds))
    }

    /// Warms up, and compares the result with what it should be.
    pub fn error(&mut self, expected: &Sampled) -> Result<f64> {
        let n = self.weights().n();
        Ok(expected.relative_rms(&self.warm_up()?.0, n))
    }

    /// Takes samples for a moment, unless it has had its share of the time.
    pub fn visit(&mut self, budget: &Budget) -> Result<()> {
        if !budget.allows(self.spent, &self.times) {
            return Ok(());
        }
        let start = Instant::now();
        let mut times = std::mem::take(&mut self.times);
        let team = self.team;
        let mut room = team.room();
        let (y, workspace) = room.for_outputs(self.m * self.weights().n());
        let result = times.visit(|count| self.products(count, y, workspace));
        self.times = times;
        self.spent += start.elapsed().as_secs_f64();
        result
    }

    /// Seconds of one of `count` products.
    fn products(&mut self, count: usize, y: &mut [f32], workspace: &mut Workspace) -> Result<f64> {
        let Self { copies, x, m, options, team, next, .. } = self;
        let (n, k) = (copies[0].n(), copies[0].k());
        let x = MatRef::new(x, *m, k)?;
        team.run(|| {
            let start = Instant::now();
            for _ in 0..count {
                let w = &copies[*next % copies.len()];
                *next += 1;
                let y = MatMut::new(y, *m, n)?;
                matmul(w, x, y, &Epilogue::default(), options, workspace)?;
            }
            black_box(y);
            Ok(start.elapsed().as_secs_f64() / count as f64)
        })
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
