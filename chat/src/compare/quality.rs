//! How far a model's predictions are from the f32 model's, and from those of its own weights in f32.

use anyhow::Result;
use lutmul::Context;
use rayon::prelude::*;
use serde::Serialize;

use crate::attention::Cache;
use crate::model::{Model, PORTION, Runner};
use crate::sample::greedy;
use crate::speed::interrupted;

/// Tokens that are predicted from each other; the next ones are begun anew.
pub const WINDOW: usize = PORTION;

/// Tokens of the text that greedy answers continue.
pub const PROMPT: usize = 32;

/// Rows of logits at a time.
const ROWS: usize = 64;

/// What a model says of a text in mode f32.
pub struct Reference<'a> {
    text: &'a [u32],
    /// A row for each token of the text.
    logits: Vec<f32>,
    /// The greedy continuation of the text's beginning.
    answer: Vec<u32>,
}

/// How far a model is from the f32 model.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// e to the mean negative logarithm of the probability of the next token.
    pub perplexity: f64,
    /// From the f32 model: what the weights' format and the arithmetic make.
    pub total: Divergence,
    /// From the same weights in mode f32: what the arithmetic makes.
    pub arithmetic: Option<Divergence>,
    /// Tokens of the greedy continuation before the first that differs from the f32 model's.
    pub same: usize,
}

/// How far predictions are from others.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Divergence {
    /// The mean of `Σ p·(ln p − ln q)`, p being the others' probabilities of the next token.
    pub kl: f64,
    /// The share of tokens after which both hold the same token for the most likely.
    pub top1: f64,
}

/// Sums over tokens.
#[derive(Clone, Copy, Default)]
struct Sums {
    total: Divergence,
    arithmetic: Divergence,
    surprise: f64,
    predicted: usize,
}

impl<'a> Reference<'a> {
    /// Runs a model over a text, and has it continue the beginning by so many tokens.
    pub fn new(model: &Model, text: &'a [u32], greedy: usize) -> Result<Self> {
        let mut runner = Runner::new(Context::new());
        let mut logits = Vec::with_capacity(text.len() * model.config.vocabulary);
        predict(model, text, &mut runner, &mut |_, rows| logits.extend_from_slice(rows))?;
        let answer = continuation(model, &text[..PROMPT], greedy, &mut runner)?;
        Ok(Self { text, logits, answer })
    }

    /// Compares a model with it, and with what its own weights say in mode f32.
    pub fn measure(
        &self,
        model: &Model,
        context: Context,
        own: Option<&Reference<'_>>,
    ) -> Result<Measured> {
        let mut runner = Runner::new(context);
        let (vocabulary, text) = (model.config.vocabulary, self.text);
        let mut sums = Sums::default();
        predict(model, text, &mut runner, &mut |first, rows| {
            let each = rows.par_chunks_exact(vocabulary).enumerate().map(|(i, q)| {
                let row = first + i;
                // The last of a window has no next one that was predicted from it.
                let next = (!(row + 1).is_multiple_of(WINDOW)).then(|| text.get(row + 1)).flatten();
                let of = |reference: &Reference<'_>| {
                    Divergence::of(&reference.logits[row * vocabulary..][..vocabulary], q)
                };
                Sums {
                    total: of(self),
                    arithmetic: own.map_or(Divergence::default(), of),
                    surprise: next.map_or(0.0, |next| surprise(q, *next)),
                    predicted: usize::from(next.is_some()),
                }
            });
            // Added in the order of the text, whatever the threads.
            let each: Vec<Sums> = each.collect();
            each.into_iter().for_each(|one| sums.add(one));
        })?;
        let answer = continuation(model, &text[..PROMPT], self.answer.len(), &mut runner)?;
        let same = answer.iter().zip(&self.answer).take_while(|(a, b)| a == b).count();
        let mean = |sum: Divergence| Divergence {
            kl: sum.kl / text.len() as f64,
            top1: sum.top1 / text.len() as f64,
        };
        Ok(Measured {
            perplexity: (sums.surprise / sums.predicted as f64).exp(),
            total: mean(sums.total),
            arithmetic: own.map(|_| mean(sums.arithmetic)),
            same,
        })
    }
}

fn largest(logits: &[f32]) -> f64 {
    f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

/// The negative logarithm of a token's probability.
fn surprise(logits: &[f32], token: u32) -> f64 {
    let max = largest(logits);
    let sum: f64 = logits.iter().map(|q| (f64::from(*q) - max).exp()).sum();
    sum.ln() + max - f64::from(logits[token as usize])
}

impl Divergence {
    /// Of one token: logits q from p.
    fn of(p: &[f32], q: &[f32]) -> Self {
        let (max_p, max_q) = (largest(p), largest(q));
        let (mut sum_p, mut sum_q, mut differences) = (0.0, 0.0, 0.0);
        for (p, q) in p.iter().zip(q) {
            let (p, q) = (f64::from(*p) - max_p, f64::from(*q) - max_q);
            let weight = p.exp();
            sum_p += weight;
            sum_q += q.exp();
            differences += weight * (p - q);
        }
        Self {
            kl: differences / sum_p - sum_p.ln() + sum_q.ln(),
            top1: if greedy(p) == greedy(q) { 1.0 } else { 0.0 },
        }
    }

    fn add(&mut self, other: Self) {
        self.kl += other.kl;
        self.top1 += other.top1;
    }
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.total.add(other.total);
        self.arithmetic.add(other.arithmetic);
        self.surprise += other.surprise;
        self.predicted += other.predicted;
    }
}

/// Logits after each token of a text, window by window: `each` gets rows of them and the number of the first.
fn predict(
    model: &Model,
    text: &[u32],
    runner: &mut Runner,
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<()> {
    for (w, window) in text.chunks(WINDOW).enumerate() {
        interrupted()?;
        let mut cache = Cache::new(&model.config, WINDOW);
        let states = model.forward(window, &mut cache, runner)?;
        for (r, states) in states.chunks(ROWS * model.config.hidden).enumerate() {
            let logits = model.logits(states, runner)?;
            each(w * WINDOW + r * ROWS, &logits);
        }
    }
    Ok(())
}

/// The most likely tokens that follow a prompt, each with those before it; what ends an answer is a token as any other.
fn continuation(
    model: &Model,
    prompt: &[u32],
    count: usize,
    runner: &mut Runner,
) -> Result<Vec<u32>> {
    if count == 0 {
        return Ok(vec![]);
    }
    let mut cache = Cache::new(&model.config, prompt.len() + count);
    let mut logits = model.prefill(prompt, &mut cache, runner, &mut interrupted)?;
    let mut answer = vec![greedy(&logits)];
    while answer.len() < count {
        interrupted()?;
        let state = model.forward(&answer[answer.len() - 1..], &mut cache, runner)?;
        logits = model.logits(&state, runner)?;
        answer.push(greedy(&logits));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_distributions() {
        let (p, q) = ([1.0f32, 2.0, 3.0], [1.0f32, 2.5, 2.0]);
        let distribution = |logits: [f32; 3]| {
            let weights = logits.map(|l| f64::from(l).exp());
            weights.map(|w| w / weights.iter().sum::<f64>())
        };
        let (a, b) = (distribution(p), distribution(q));
        let kl: f64 = a.iter().zip(b).map(|(a, b)| a * (a / b).ln()).sum();
        let divergence = Divergence::of(&p, &q);
        assert!((divergence.kl - kl).abs() < 1e-12);
        assert_eq!(divergence.top1, 0.0);
        assert!((surprise(&q, 1) + b[1].ln()).abs() < 1e-12);
        let same = Divergence::of(&p, &p.map(|l| l + 7.0));
        assert!(same.kl.abs() < 1e-12 && same.top1 == 1.0);
    }
}
