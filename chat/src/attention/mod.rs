//! Attention: keys and values of the tokens so far, and each query's weighted sum of them.
//!
//! A head's keys lie in blocks of 16 tokens, `[block][element][16 tokens]`, its values in rows, `[token][element]`: lanes
//! run along keys for scores and along elements for sums, so that every score and every output is one chain of fused
//! multiply-adds, over elements and over keys in order. That order depends on nothing else, and queries can be taken
//! several at a time, as they come: the heads that share keys, and neighbouring tokens (`tile`).

mod tile;

use std::cell::RefCell;
use std::ops::Range;

use anyhow::{Context, Result};
use pulp::Arch;
use rayon::prelude::*;

use crate::config::ModelConfig;
use crate::ops::{LANES, Rotary};
use tile::{Attend, Queries, Scores};

/// Multiply-adds below which a second thread is not woken.
const FEW: usize = 1 << 18;

/// Queries that a task takes, about: enough to pay for waking a thread, few enough to share evenly.
const QUERIES: usize = 24;

/// Sizes of the heads of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads of keys and values.
    kv: usize,
    /// Heads of queries for each of them.
    group: usize,
    dim: usize,
    /// How many tokens a query sees at most.
    window: usize,
}

/// Keys and values of a head.
#[derive(Default)]
struct Head {
    keys: Vec<[f32; LANES]>,
    values: Vec<f32>,
}

/// Keys and values of all layers: what a model remembers of a conversation.
pub struct Cache {
    heads: Heads,
    /// Elements of a row of values: those of a head, and zeros up to whole lanes.
    stride: usize,
    layers: Vec<Vec<Head>>,
    len: usize,
    rotary: Rotary,
    context: usize,
}

impl Heads {
    /// Those of a model.
    pub fn new(config: &ModelConfig) -> Self {
        let (kv, dim) = (config.kv_heads, config.head_dim);
        let window = config.window.unwrap_or(usize::MAX);
        Self { kv, group: config.heads / kv, dim, window }
    }

    /// Elements of all queries of a token.
    pub fn queries(&self) -> usize {
        self.kv * self.group * self.dim
    }

    /// Elements of all queries, keys and values of a token.
    pub fn width(&self) -> usize {
        self.queries() + 2 * self.kv * self.dim
    }

    /// The keys that a query at a position sees.
    fn seen(&self, position: usize) -> Range<usize> {
        (position + 1).saturating_sub(self.window)..position + 1
    }
}

impl Cache {
    /// An empty one, for conversations of up to `context` tokens. Memory is taken as it is needed.
    pub fn new(config: &ModelConfig, context: usize) -> Self {
        let heads = Heads::new(config);
        let head = || (0..heads.kv).map(|_| Head::default()).collect();
        Self {
            heads,
            stride: heads.dim.next_multiple_of(LANES),
            layers: (0..config.layers).map(|_| head()).collect(),
            len: 0,
            rotary: Rotary::new(&config.rope, context),
            context,
        }
    }

    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most tokens that it is for.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Forgets all tokens but the first.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Has room for so many tokens more.
    ///
    /// # Errors
    /// More than the context holds, or than there is memory for.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        let Self { heads, stride, layers, len, rotary, context } = self;
        let end = *len + more;
        anyhow::ensure!(end <= *context, "{end} tokens are more than the context of {context}");
        rotary.reach(end);
        let blocks = end.div_ceil(LANES);
        for head in layers.iter_mut().flatten() {
            grow(&mut head.keys, blocks * heads.dim, [0.0; LANES])?;
            grow(&mut head.values, blocks * LANES * *stride, 0.0)?;
        }
        Ok(())
    }

    /// Counts tokens whose keys and values all layers have.
    pub fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Attention of a layer: of new tokens, whose queries, keys and values are the rows of `qkv`, side by side. They are
    /// rotated there; keys and values are kept. `out` becomes `[tokens, heads · elements]`; `scratch` is as large.
    ///
    /// # Panics
    /// If there is no such layer, or no room was [reserved](Cache::reserve).
    pub fn attend(
        &mut self,
        layer: usize,
        qkv: &mut [f32],
        scratch: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let Self { heads, stride, layers, len: first, rotary, .. } = self;
        let (heads, stride, first) = (*heads, *stride, *first);
        let Heads { kv, group, dim, .. } = heads;
        let (width, tokens) = (heads.width(), qkv.len() / heads.width());
        // One task, of this thread, where there is little to do.
        let many = tokens * (first + tokens) * kv * group * dim > FEW;
        let grain = if many { 1 } else { usize::MAX };

        qkv.par_chunks_exact_mut(width).with_min_len(grain).enumerate().for_each(|(t, row)| {
            let rotated = &mut row[..heads.queries() + kv * dim];
            rotated.chunks_exact_mut(dim).for_each(|head| rotary.rotate(first + t, head));
        });
        let qkv = &*qkv;
        let layer = &mut layers[layer];
        layer.par_iter_mut().with_min_len(grain).enumerate().for_each(|(h, head)| {
            for (t, row) in qkv.chunks_exact(width).enumerate() {
                let (key, value) = row[heads.queries()..].split_at(kv * dim);
                head.store(first + t, stride, &key[h * dim..][..dim], &value[h * dim..][..dim]);
            }
        });

        // Head by head, of each its tokens: of one token that is the order of the result.
        let columns = group * dim;
        let rows = (QUERIES / group).max(1);
        let sorted = if tokens == 1 {
            &mut *out
        } else {
            scratch.resize(out.len(), 0.0);
            &mut scratch[..]
        };
        let of_heads = sorted.par_chunks_exact_mut(tokens * columns).with_min_len(grain);
        of_heads.zip(&*layer).enumerate().for_each(|(h, (out, head))| {
            let tasks = out.par_chunks_mut(rows * columns).with_min_len(grain);
            tasks.enumerate().for_each(|(i, out)| {
                let queries = Queries { heads, qkv, first, from: i * rows, head: h };
                SCORES.with_borrow_mut(|scores| {
                    Arch::new().dispatch(Attend { queries, head, stride, scores, out });
                });
            });
        });
        if tokens > 1 {
            for (h, head) in scratch.chunks_exact(tokens * columns).enumerate() {
                for (t, from) in head.chunks_exact(columns).enumerate() {
                    out[t * kv * columns + h * columns..][..columns].copy_from_slice(from);
                }
            }
        }
    }
}

fn grow<T: Copy>(list: &mut Vec<T>, len: usize, value: T) -> Result<()> {
    if let Some(more) = len.checked_sub(list.len()) {
        list.try_reserve(more).context("there is no memory for keys and values of more tokens")?;
        list.resize(len, value);
    }
    Ok(())
}

impl Head {
    fn store(&mut self, position: usize, stride: usize, key: &[f32], value: &[f32]) {
        let block = &mut self.keys[position / LANES * key.len()..][..key.len()];
        for (line, key) in block.iter_mut().zip(key) {
            line[position % LANES] = *key;
        }
        self.values[position * stride..][..value.len()].copy_from_slice(value);
    }
}

thread_local! {
    /// Scores of the queries at hand, and those queries.
    static SCORES: RefCell<Scores> = const { RefCell::new(Scores::new()) };
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::config::{Architecture, Rope, Scaling};

    fn config(
        kv_heads: usize,
        group: usize,
        head_dim: usize,
        window: Option<usize>,
    ) -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Llama,
            vocabulary: 1,
            hidden: 1,
            intermediate: 1,
            layers: 1,
            heads: kv_heads * group,
            kv_heads,
            head_dim,
            norm_eps: 0.0,
            // Nothing is rotated.
            rope: Rope { theta: 1e4, dim: 0, scaling: Scaling::None },
            context: 4096,
            window,
            tied: true,
            ends: vec![],
        }
    }

    fn data(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 0.7311).sin() * 2.0).collect()
    }

    /// The definition in f64.
    fn plain(config: &ModelConfig, qkv: &[f32]) -> Vec<f64> {
        let heads = Heads::new(config);
        let Heads { kv, group, dim, .. } = heads;
        let width = heads.width();
        let mut out = Vec::new();
        for t in 0..qkv.len() / width {
            for h in 0..kv * group {
                let q = &qkv[t * width + h * dim..][..dim];
                let row = |s: usize, part: usize| {
                    &qkv[s * width + heads.queries() + (part * kv + h / group) * dim..][..dim]
                };
                let dot = |s: usize| -> f64 {
                    q.iter().zip(row(s, 0)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let weights: Vec<f64> =
                    heads.seen(t).map(|s| (dot(s) / (dim as f64).sqrt()).exp()).collect();
                let total: f64 = weights.iter().sum();
                out.extend((0..dim).map(|d| {
                    let terms = heads.seen(t).zip(&weights);
                    terms.map(|(s, w)| w * f64::from(row(s, 1)[d])).sum::<f64>() / total
                }));
            }
        }
        out
    }

    /// All at once, in parts, token by token, and by the definition.
    #[test]
    fn portions_change_no_bit() {
        let cases = [
            (1, 1, 8, None, 5),
            (3, 3, 64, None, 70),
            (2, 1, 24, Some(7), 40),
            (2, 4, 16, Some(16), 50),
            (1, 7, 96, None, 130),
        ];
        for (kv, group, dim, window, tokens) in cases {
            let config = config(kv, group, dim, window);
            let width = Heads::new(&config).width();
            let qkv = data(tokens * width);
            let run = |portion: usize| {
                let mut cache = Cache::new(&config, 4096);
                let mut out = Vec::new();
                for part in qkv.chunks(portion * width) {
                    let count = part.len() / width;
                    cache.reserve(count).unwrap();
                    let mut y = vec![f32::NAN; count * kv * group * dim];
                    cache.attend(0, &mut part.to_vec(), &mut Vec::new(), &mut y);
                    cache.advance(count);
                    out.extend(y.iter().map(|y| y.to_bits()));
                }
                out
            };
            let whole = run(tokens);
            for portion in [1, 2, 17] {
                assert_eq!(whole, run(portion), "{kv} {group} {dim} {window:?} by {portion}");
            }
            for (y, exact) in whole.iter().zip(plain(&config, &qkv)) {
                let y = f64::from(f32::from_bits(*y));
                assert!((y - exact).abs() < 2e-6 * 3.0, "{y} {exact}");
            }
        }
    }

    /// This CPU's vector unit gives the bits of plain code.
    #[test]
    fn vector_units_change_no_bit() {
        for (kv, group, dim, tokens) in [(2, 3, 64, 37), (1, 1, 24, 100), (2, 7, 96, 20)] {
            let config = config(kv, group, dim, None);
            let heads = Heads::new(&config);
            let qkv = data(tokens * heads.width());
            let mut cache = Cache::new(&config, 4096);
            cache.reserve(tokens).unwrap();
            let columns = group * dim;
            let mut y = vec![f32::NAN; tokens * kv * columns];
            cache.attend(0, &mut qkv.clone(), &mut Vec::new(), &mut y);
            for (h, head) in cache.layers[0].iter().enumerate() {
                let queries = Queries { heads, qkv: &qkv, first: 0, from: 0, head: h };
                let mut plain = vec![f32::NAN; tokens * columns];
                let (scores, out) = (&mut Scores::new(), &mut plain[..]);
                let attend = Attend { queries, head, stride: cache.stride, scores, out };
                attend.with_simd(pulp::Scalar::new());
                let of_head = y.chunks_exact(columns).skip(h).step_by(kv).flatten();
                assert!(of_head.map(|y| y.to_bits()).eq(plain.iter().map(|y| y.to_bits())));
            }
        }
    }

    #[test]
    fn the_context_is_the_most() {
        let mut cache = Cache::new(&config(1, 1, 8, None), 10);
        cache.reserve(10).unwrap();
        cache.advance(10);
        let error = cache.reserve(1).unwrap_err().to_string();
        assert_eq!(error, "11 tokens are more than the context of 10");
        cache.truncate(3);
        assert_eq!((cache.len(), cache.is_empty()), (3, false));
        cache.reserve(7).unwrap();
    }
}
