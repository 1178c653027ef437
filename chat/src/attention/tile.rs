//! Some queries, which share a head of keys: their scores, the weights that become of these, and sums of values.
//!
//! Both products are `sum[q][c] += weight[q] · line[c]` over lines of registers: over the elements of keys, and over keys.
//! A tile holds Q·C sums in registers, 12 at most beside what is loaded (AVX2 has 16); for each multiply-add it loads a
//! weight, which two loads a cycle keep up with. Of one or three queries it takes several registers of each line, because
//! a chain of its own would wait for the last multiply-add.

use std::array::from_fn;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{Head, Heads};
use crate::ops::{LANES, exp_scores};

/// Queries of some tokens, of the heads that share one head of keys.
pub struct Queries<'a> {
    pub heads: Heads,
    pub qkv: &'a [f32],
    /// The position of the first row of `qkv`.
    pub first: usize,
    /// The first row that is asked about.
    pub from: usize,
    /// The head of keys.
    pub head: usize,
}

/// Memory of a thread: rows of scores, and queries, element by element.
pub struct Scores {
    scores: Vec<f32>,
    queries: Vec<f32>,
}

impl Scores {
    pub const fn new() -> Self {
        Self { scores: Vec::new(), queries: Vec::new() }
    }
}

/// Attention of all queries for which there is room in `out`.
pub struct Attend<'a> {
    pub queries: Queries<'a>,
    pub head: &'a Head,
    /// Elements of a row of values.
    pub stride: usize,
    pub scores: &'a mut Scores,
    pub out: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { queries, head, stride, scores, out } = self;
        let (dim, mut i) = (queries.heads.dim, 0);
        let count = out.len() / dim;
        while i < count {
            let out = &mut out[i * dim..];
            let tile = Tile { simd, queries: &queries, first: i, head, stride };
            i += match count - i {
                12.. => tile.attend::<12, 1>(scores, out),
                6..12 => tile.attend::<6, 2>(scores, out),
                3..6 => tile.attend::<3, 4>(scores, out),
                _ => tile.attend::<1, 8>(scores, out),
            };
        }
    }
}

impl Queries<'_> {
    /// The position of a query, and the query.
    #[inline(always)]
    fn query(&self, i: usize) -> (usize, &[f32]) {
        let Heads { group, dim, .. } = self.heads;
        let token = self.from + i / group;
        let column = (self.head * group + i % group) * dim;
        (self.first + token, &self.qkv[token * self.heads.width() + column..][..dim])
    }
}

/// Some queries, from number `first` on.
struct Tile<'a, S> {
    simd: S,
    queries: &'a Queries<'a>,
    first: usize,
    head: &'a Head,
    stride: usize,
}

impl<S: Simd> Tile<'_, S> {
    /// Q of them; gives Q.
    #[inline(always)]
    fn attend<const Q: usize, const C: usize>(
        &self,
        scores: &mut Scores,
        out: &mut [f32],
    ) -> usize {
        let Scores { scores, queries } = scores;
        let dim = self.queries.heads.dim;
        let seen: [Range<usize>; Q] =
            from_fn(|q| self.queries.heads.seen(self.queries.query(self.first + q).0));
        // From the first key that any of them sees to the last.
        let first = seen.iter().map(|seen| seen.start).min().unwrap_or(0);
        let last = seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        let blocks = first / LANES..last.div_ceil(LANES);
        let (origin, columns) = (blocks.start * LANES, blocks.len() * LANES);
        grow(scores, Q * columns);
        grow(queries, Q * dim);
        let scores = &mut scores[..Q * columns];
        let queries = queries[..Q * dim].as_chunks_mut::<Q>().0;
        for q in 0..Q {
            let (_, query) = self.queries.query(self.first + q);
            for (to, element) in queries.iter_mut().zip(query) {
                to[q] = *element;
            }
        }

        self.scores::<Q, C>(&*queries, &self.head.keys[blocks.start * dim..], scores);
        let mut totals = [0f32; Q];
        for q in 0..Q {
            let row = &mut scores[q * columns..][..columns];
            totals[q] = exp_scores(&mut row[seen[q].start - origin..seen[q].end - origin]);
        }
        let values = &self.head.values[origin * self.stride..];
        let seen = seen.map(|seen| seen.start - origin..seen.end - origin);
        self.values::<Q, C>(scores, &seen, values, totals, out);
        Q
    }

    /// Scores of all keys of some blocks, a row for each query.
    #[inline(always)]
    fn scores<const Q: usize, const C: usize>(
        &self,
        queries: &[[f32; Q]],
        keys: &[[f32; LANES]],
        scores: &mut [f32],
    ) {
        let registers = scores.len() / Q / S::F32_LANES;
        let mut register = 0;
        while register < registers {
            register += match registers - register >= C {
                true => self.some_scores::<Q, C>(queries, keys, register, scores),
                false => self.some_scores::<Q, 1>(queries, keys, register, scores),
            };
        }
    }

    /// C registers of the scores. All blocks are one line of registers here, of which each block has some.
    #[inline(always)]
    fn some_scores<const Q: usize, const C: usize>(
        &self,
        queries: &[[f32; Q]],
        keys: &[[f32; LANES]],
        register: usize,
        scores: &mut [f32],
    ) -> usize {
        let (dim, columns) = (queries.len(), scores.len() / Q);
        let of_block = LANES / S::F32_LANES;
        let line = |element: usize| -> [S::f32s; C] {
            from_fn(|c| {
                let line = &keys[(register + c) / of_block * dim + element];
                S::as_simd_f32s(line).0[(register + c) % of_block]
            })
        };
        let mut sums = [[self.simd.splat_f32s(0.0); C]; Q];
        self.chains(0..dim, |d| queries[d], line, &mut sums);
        let scale = self.simd.splat_f32s(1.0 / (dim as f32).sqrt());
        for q in 0..Q {
            let row = &mut scores[q * columns + register * S::F32_LANES..][..C * S::F32_LANES];
            let row = S::as_mut_simd_f32s(row).0;
            for c in 0..C {
                row[c] = self.simd.mul_f32s(sums[q][c], scale);
            }
        }
        C
    }

    /// Sums of values by weights, of which `weights` has a row for each query, divided by their totals.
    #[inline(always)]
    fn values<const Q: usize, const C: usize>(
        &self,
        weights: &[f32],
        seen: &[Range<usize>; Q],
        values: &[f32],
        totals: [f32; Q],
        out: &mut [f32],
    ) {
        let registers = self.queries.heads.dim.div_ceil(S::F32_LANES);
        let mut register = 0;
        while register < registers {
            register += match registers - register >= C {
                true => self.some_values::<Q, C>(weights, seen, values, register, totals, out),
                false => self.some_values::<Q, 1>(weights, seen, values, register, totals, out),
            };
        }
    }

    /// C registers of the sums of values.
    #[inline(always)]
    fn some_values<const Q: usize, const C: usize>(
        &self,
        weights: &[f32],
        seen: &[Range<usize>; Q],
        values: &[f32],
        register: usize,
        totals: [f32; Q],
        out: &mut [f32],
    ) -> usize {
        let (dim, columns) = (self.queries.heads.dim, weights.len() / Q);
        let rows: [&[f32]; Q] = from_fn(|q| &weights[q * columns..][..columns]);
        let from = register * S::F32_LANES;
        let line = |key: usize| -> [S::f32s; C] {
            let line = &values[key * self.stride + from..][..C * S::F32_LANES];
            let line = S::as_simd_f32s(line).0;
            from_fn(|c| line[c])
        };
        // Those that all see.
        let start = seen.iter().map(|seen| seen.start).max().unwrap_or(0);
        let end = seen.iter().map(|seen| seen.end).min().unwrap_or(0).max(start);
        let mut sums = [[self.simd.splat_f32s(0.0); C]; Q];
        // A chain for each query, over the keys that it sees, in order: its own, all queries', its own.
        for q in 0..Q {
            let own = seen[q].start..start.min(seen[q].end);
            self.chains(own, |key| [rows[q][key]], line, std::array::from_mut(&mut sums[q]));
        }
        self.chains(start..end, |key| from_fn(|q| rows[q][key]), line, &mut sums);
        for q in 0..Q {
            let own = end.max(seen[q].start)..seen[q].end;
            self.chains(own, |key| [rows[q][key]], line, std::array::from_mut(&mut sums[q]));
        }
        for q in 0..Q {
            let inverse = self.simd.splat_f32s(1.0 / totals[q]);
            for sum in &mut sums[q] {
                *sum = self.simd.mul_f32s(*sum, inverse);
            }
            // The last register may have more than the elements of a head.
            let out = &mut out[q * dim + from..(q + 1) * dim];
            let len = out.len().min(C * S::F32_LANES);
            out[..len].copy_from_slice(&pulp::bytemuck::cast_slice(&sums[q])[..len]);
        }
        C
    }

    /// `sums[q][c] += weights(i)[q] · line(i)[c]` for all i, in order.
    #[inline(always)]
    fn chains<const Q: usize, const C: usize>(
        &self,
        range: Range<usize>,
        weights: impl Fn(usize) -> [f32; Q],
        line: impl Fn(usize) -> [S::f32s; C],
        sums: &mut [[S::f32s; C]; Q],
    ) {
        let mut held = *sums;
        for i in range {
            let (weights, line) = (weights(i), line(i));
            for q in 0..Q {
                let weight = self.simd.splat_f32s(weights[q]);
                for c in 0..C {
                    held[q][c] = self.simd.mul_add_f32s(weight, line[c], held[q][c]);
                }
            }
        }
        *sums = held;
    }
}

fn grow(list: &mut Vec<f32>, len: usize) {
    if list.len() < len {
        list.resize(len, 0.0);
    }
}
