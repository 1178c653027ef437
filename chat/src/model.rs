//! The decoder: embedding, layers, norm, head.

use anyhow::{Context as _, Result, ensure};
use lutmul::checkpoint::Matrix;
use rayon::prelude::*;

use crate::attention::{Cache, Heads};
use crate::config::ModelConfig;
use crate::linear::{Products, Projection};
use crate::ops;

/// Tokens that go through the layers at a time, at most: what is between linears is then a few megabytes.
pub const PORTION: usize = 512;

/// A decoder, whichever of the architectures: what Phi-3 fuses lies side by side for Llama as well.
pub struct Model {
    /// Its sizes.
    pub config: ModelConfig,
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: Projection,
}

/// A layer.
pub(crate) struct Layer {
    pub input_norm: Vec<f32>,
    /// Queries, keys, values.
    pub qkv: Projection,
    pub output: Projection,
    pub ffn_norm: Vec<f32>,
    /// Gate and up.
    pub gate_up: Projection,
    pub down: Projection,
}

/// What a forward pass needs beside the model: how products are computed, and memory that is kept.
pub struct Runner {
    /// How products are computed.
    pub products: Products,
    normed: Vec<f32>,
    wide: Vec<f32>,
    narrow: Vec<f32>,
    scratch: Vec<f32>,
}

impl Runner {
    /// One that computes products by these options.
    pub fn new(context: lutmul::Context) -> Self {
        let [normed, wide, narrow, scratch] = [const { Vec::new() }; 4];
        Self { products: Products::new(context), normed, wide, narrow, scratch }
    }
}

impl Model {
    /// Bytes of all linears, the head included.
    pub fn bytes(&self) -> usize {
        self.projections().flat_map(Projection::linears).map(crate::linear::Linear::bytes).sum()
    }

    /// What linears are made of, and how many of each kind there are, most first.
    pub fn codings(&self) -> Vec<(String, usize)> {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for name in self.projections().flat_map(Projection::linears).map(|linear| linear.describe())
        {
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }

    fn projections(&self) -> impl Iterator<Item = &Projection> {
        self.layers
            .iter()
            .flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down])
            .chain([&self.head])
    }

    /// Takes tokens that follow those of the cache, at most [`PORTION`] of them, and gives their last states, normed:
    /// `[tokens, hidden]`. [`Model::logits`] makes logits of those that are asked for.
    ///
    /// # Errors
    /// No tokens, or too many; a token that is not in the vocabulary; more than the context holds; memory; and those of
    /// products. The cache is as it was then.
    pub fn forward(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        runner: &mut Runner,
    ) -> Result<Vec<f32>> {
        ensure!(
            !tokens.is_empty() && tokens.len() <= PORTION,
            "a portion of {} tokens",
            tokens.len()
        );
        cache.reserve(tokens.len())?;
        let Self { config, .. } = self;
        let (hidden, m) = (config.hidden, tokens.len());
        let heads = Heads::new(config);
        let Runner { products, normed, wide, narrow, scratch } = runner;
        let mut x = self.embed(tokens)?;
        for (number, layer) in self.layers.iter().enumerate() {
            self.norm(&x, &layer.input_norm, normed);
            wide.resize(m * heads.width(), 0.0);
            layer.qkv.forward(normed, wide, products)?;
            narrow.resize(m * heads.queries(), 0.0);
            cache.attend(number, wide, scratch, narrow);
            normed.resize(m * hidden, 0.0);
            layer.output.forward(narrow, normed, products)?;
            ops::add(normed, &mut x);

            self.norm(&x, &layer.ffn_norm, normed);
            wide.resize(2 * m * config.intermediate, 0.0);
            layer.gate_up.forward(normed, wide, products)?;
            narrow.resize(m * config.intermediate, 0.0);
            let gate_up = wide.par_chunks_exact(2 * config.intermediate);
            let rows = gate_up.zip(narrow.par_chunks_exact_mut(config.intermediate));
            rows.with_min_len(ROWS).for_each(|(gate_up, y)| ops::silu_times_up(gate_up, y));
            normed.resize(m * hidden, 0.0);
            layer.down.forward(narrow, normed, products)?;
            ops::add(normed, &mut x);
        }
        cache.advance(m);
        self.norm(&x, &self.norm, normed);
        x.copy_from_slice(normed);
        Ok(x)
    }

    /// Logits of states: `[tokens, vocabulary]`.
    ///
    /// # Errors
    /// Those of products.
    pub fn logits(&self, states: &[f32], runner: &mut Runner) -> Result<Vec<f32>> {
        let tokens = states.len() / self.config.hidden;
        let mut logits = vec![0.0; tokens * self.config.vocabulary];
        self.head.forward(states, &mut logits, &mut runner.products)?;
        Ok(logits)
    }

    /// Takes any number of tokens, in portions, and gives the logits of the last. `go_on` is asked after each portion.
    ///
    /// # Errors
    /// Those of [`Model::forward`], and what `go_on` says.
    pub fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        runner: &mut Runner,
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<f32>> {
        ensure!(!tokens.is_empty(), "there are no tokens");
        let mut last = Vec::new();
        for portion in tokens.chunks(PORTION) {
            last = self.forward(portion, cache, runner)?;
            go_on()?;
        }
        let last = &last[last.len() - self.config.hidden..];
        self.logits(last, runner)
    }

    /// Rows of the embedding, as f32.
    fn embed(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let (vocabulary, hidden) = self.embedding.shape();
        let rows: Vec<usize> = tokens.iter().map(|token| *token as usize).collect();
        if let Some(row) = rows.iter().find(|row| **row >= vocabulary) {
            anyhow::bail!("token {row} is not in the vocabulary of {vocabulary}");
        }
        let mut x = vec![0.0; tokens.len() * hidden];
        match &self.embedding {
            Matrix::Coded(weights) => {
                weights.decode_list(&rows, &mut x).context("the embedding")?
            }
            Matrix::Floats(floats) => floats.decode_list(&rows, &mut x).context("the embedding")?,
            _ => anyhow::bail!("an embedding of another kind"),
        }
        Ok(x)
    }

    /// RMSNorm of each row.
    fn norm(&self, x: &[f32], weight: &[f32], y: &mut Vec<f32>) {
        let (hidden, eps) = (self.config.hidden, self.config.norm_eps);
        y.resize(x.len(), 0.0);
        let rows = x.par_chunks_exact(hidden).zip(y.par_chunks_exact_mut(hidden));
        rows.with_min_len(ROWS).for_each(|(x, y)| ops::rms_norm(x, weight, eps, y));
    }
}

/// Rows that a thread takes at least, of what is between linears: a few microseconds.
const ROWS: usize = 16;
