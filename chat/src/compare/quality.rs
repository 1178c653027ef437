//! How far a model's predictions are from the f32 model's.

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

/// What the f32 model says of a text.
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
    /// The mean of `Σ p·(ln p − ln q)`, p being the f32 model's probabilities.
    pub kl: f64,
    /// The share of tokens after which both hold the same token for the most likely.
    pub top1: f64,
    /// Tokens of the greedy continuation before the first that differs.
    pub same: usize,
}

/// Sums over tokens.
#[derive(Clone, Copy, Default)]
struct Sums {
    kl: f64,
    same: usize,
    surprise: f64,
    predicted: usize,
}

impl<'a> Reference<'a> {
    /// Runs the f32 model over a text, and has it continue the beginning by so many tokens.
    pub fn new(model: &Model, text: &'a [u32], greedy: usize) -> Result<Self> {
        let mut runner = Runner::new(Context::new());
        let mut logits = Vec::with_capacity(text.len() * model.config.vocabulary);
        predict(model, text, &mut runner, &mut |_, rows| logits.extend_from_slice(rows))?;
        let answer = continuation(model, &text[..PROMPT], greedy, &mut runner)?;
        Ok(Self { text, logits, answer })
    }

    /// Compares a model with it.
    pub fn measure(&self, model: &Model, context: Context) -> Result<Measured> {
        let mut runner = Runner::new(context);
        let (vocabulary, text) = (model.config.vocabulary, self.text);
        let mut sums = Sums::default();
        predict(model, text, &mut runner, &mut |first, rows| {
            let expected =
                self.logits[first * vocabulary..][..rows.len()].par_chunks_exact(vocabulary);
            let each =
                expected.zip(rows.par_chunks_exact(vocabulary)).enumerate().map(|(i, (p, q))| {
                    // The last of a window has no next one that was predicted from it.
                    let next = first + i + 1;
                    let target = (!next.is_multiple_of(WINDOW)).then(|| text.get(next)).flatten();
                    Sums::of(p, q, target.copied())
                });
            // Added in the order of the text, whatever the threads.
            let each: Vec<Sums> = each.collect();
            each.into_iter().for_each(|one| sums.add(one));
        })?;
        let answer = continuation(model, &text[..PROMPT], self.answer.len(), &mut runner)?;
        let same = answer.iter().zip(&self.answer).take_while(|(a, b)| a == b).count();
        Ok(Measured {
            perplexity: (sums.surprise / sums.predicted as f64).exp(),
            kl: sums.kl / text.len() as f64,
            top1: sums.same as f64 / text.len() as f64,
            same,
        })
    }
}

impl Sums {
    /// Those of one token, of logits p of the f32 model and q.
    fn of(p: &[f32], q: &[f32], target: Option<u32>) -> Self {
        let max =
            |logits: &[f32]| f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let (max_p, max_q) = (max(p), max(q));
        let (mut sum_p, mut sum_q, mut differences) = (0.0, 0.0, 0.0);
        for (p, q) in p.iter().zip(q) {
            let (p, q) = (f64::from(*p) - max_p, f64::from(*q) - max_q);
            let weight = p.exp();
            sum_p += weight;
            sum_q += q.exp();
            differences += weight * (p - q);
        }
        let surprise = |token: u32| sum_q.ln() + max_q - f64::from(q[token as usize]);
        Self {
            kl: differences / sum_p - sum_p.ln() + sum_q.ln(),
            same: usize::from(greedy(p) == greedy(q)),
            surprise: target.map_or(0.0, surprise),
            predicted: usize::from(target.is_some()),
        }
    }

    fn add(&mut self, other: Self) {
        self.kl += other.kl;
        self.same += other.same;
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
        let sums = Sums::of(&p, &q, Some(1));
        assert!((sums.kl - kl).abs() < 1e-12);
        assert!((sums.surprise + b[1].ln()).abs() < 1e-12);
        assert_eq!((sums.same, sums.predicted), (0, 1));
        let sums = Sums::of(&p, &p.map(|l| l + 7.0), None);
        assert!(sums.kl.abs() < 1e-12 && sums.same == 1 && sums.predicted == 0);
    }
}
