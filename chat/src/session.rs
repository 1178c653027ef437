//! A conversation with a model: tokens in, text out, and what it took.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lutmul_cli::{progress, table};

use crate::attention::Cache;
use crate::model::{Model, Runner};
use crate::sample::Sampler;
use crate::text::{Message, Text};

/// A model, what it remembers, and how it answers.
pub struct Session<'a> {
    model: &'a Model,
    text: &'a Text,
    runner: Runner,
    cache: Cache,
    sampler: Sampler,
    /// The tokens that the cache is of.
    seen: Vec<u32>,
    /// The most tokens of an answer.
    most: usize,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ended it.
    Whole,
    /// As many tokens as were asked for.
    Most,
    /// The context is full.
    Full,
    /// Ctrl-C.
    Interrupted,
}

/// What an answer took.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was said.
    pub text: String,
    /// How it ended.
    pub ending: Ending,
    /// Tokens of the prompt that were not in the cache yet.
    pub prompt: usize,
    /// Tokens of the answer, that which ended it included.
    pub tokens: usize,
    /// From the prompt to the first token.
    pub first: Duration,
    /// From the first token to the last.
    pub rest: Duration,
}

impl<'a> Session<'a> {
    /// A conversation that begins, in a context of so many tokens; answers have at most so many.
    pub fn new(
        (model, text): (&'a Model, &'a Text),
        context: lutmul::Context,
        sampler: Sampler,
        (tokens, most): (usize, usize),
    ) -> Self {
        let cache = Cache::new(&model.config, tokens);
        Self { model, text, runner: Runner::new(context), cache, sampler, seen: vec![], most }
    }

    /// The answer to a conversation, written as it comes. Of what is in the cache already, nothing is computed again.
    ///
    /// # Errors
    /// As of [`Session::complete`], and those of the template.
    pub fn answer(&mut self, messages: &[Message], out: &mut dyn Write) -> Result<Answer> {
        let prompt = self.text.render(messages)?;
        self.complete(&prompt, out)
    }

    /// What follows a text, written as it comes.
    ///
    /// # Errors
    /// An empty text, or one that is longer than the context; memory; output.
    pub fn complete(&mut self, prompt: &str, out: &mut dyn Write) -> Result<Answer> {
        let tokens = self.text.encode(prompt)?;
        let context = self.cache.context();
        ensure!(!tokens.is_empty(), "the prompt is empty");
        ensure!(
            tokens.len() < context,
            "the prompt has {} tokens; the context of {context} has no room for it and an answer (--context)",
            tokens.len()
        );
        let start = Instant::now();
        // The last token is always taken anew: its logits are what is asked for.
        let known = tokens.iter().zip(&self.seen).take_while(|(a, b)| a == b).count();
        let known = known.min(tokens.len() - 1);
        self.cache.truncate(known);
        self.seen.truncate(known);
        let new = &tokens[known..];
        let mut stop = || match progress::interrupted() {
            true => bail!("interrupted"),
            false => Ok(()),
        };
        let result = self.model.prefill(new, &mut self.cache, &mut self.runner, &mut stop);
        let mut logits = match result {
            // What is in the cache of the prompt is of no use.
            Err(_) if progress::take_interrupt() => {
                self.cache.truncate(known);
                let (text, ending) = (String::new(), Ending::Interrupted);
                let (first, rest) = (start.elapsed(), Duration::ZERO);
                return Ok(Answer { text, ending, prompt: new.len(), tokens: 0, first, rest });
            }
            result => result?,
        };
        self.seen.extend(new);

        let mut first = None;
        let (mut text, mut stream) = (String::new(), self.text.stream());
        let mut count = 0;
        let ending = loop {
            let token = self.sampler.next(&logits);
            count += 1;
            first.get_or_insert_with(Instant::now);
            if self.model.config.ends.contains(&token) {
                break Ending::Whole;
            }
            let part = stream.push(token)?;
            if !part.is_empty() {
                write!(out, "{part}")?;
                out.flush()?;
                text += &part;
            }
            if count >= self.most {
                break Ending::Most;
            }
            if self.cache.len() == self.cache.context() {
                break Ending::Full;
            }
            if progress::take_interrupt() {
                break Ending::Interrupted;
            }
            let state = self.model.forward(&[token], &mut self.cache, &mut self.runner)?;
            self.seen.push(token);
            logits = self.model.logits(&state, &mut self.runner)?;
        };
        let end = Instant::now();
        let part = stream.finish()?;
        write!(out, "{part}")?;
        out.flush()?;
        text += &part;
        let first = first.unwrap_or(end);
        Ok(Answer {
            text,
            ending,
            prompt: new.len(),
            tokens: count,
            first: first - start,
            rest: end - first,
        })
    }
}

impl Answer {
    /// Its figures in a line.
    pub fn figures(&self) -> String {
        let rate = |count: usize, time: Duration| match time.as_secs_f64() {
            seconds if seconds > 0.0 && count > 0 => format!("{:.1}", count as f64 / seconds),
            _ => "–".into(),
        };
        let ending = match self.ending {
            Ending::Whole => "",
            Ending::Most => ", as many as --max-tokens allows",
            Ending::Full => ", and the context is full",
            Ending::Interrupted => ", interrupted",
        };
        format!(
            "prompt: {} tokens, {}/s; first token after {:.0} ms; answer: {} tokens, {}/s{ending}; \
             resident memory: {}",
            self.prompt,
            rate(self.prompt, self.first),
            1e3 * self.first.as_secs_f64(),
            self.tokens,
            rate(self.tokens.saturating_sub(1), self.rest),
            resident().map_or("unknown".into(), table::bytes),
        )
    }
}

/// Bytes of this process that are in memory, where the system says so.
pub fn resident() -> Option<usize> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem)
}
