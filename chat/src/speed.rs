//! `lutmul-chat speed`: how fast a model is, and how much memory it takes. Needs no tokenizer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use lutmul_cli::{progress, table};
use serde::{Deserialize, Serialize};

use crate::attention::Cache;
use crate::chat::positive;
use crate::load::Files;
use crate::model::{Model, Runner};
use crate::options::{Linears, on_threads};
use crate::session::resident;

/// Measure how fast a model takes prompts and gives tokens, and its memory, with made-up tokens.
#[derive(clap::Args)]
pub struct Args {
    /// The model, as of a chat
    model: PathBuf,
    #[command(flatten)]
    linears: Linears,
    /// Tokens of the prompts
    #[arg(long, value_name = "M", value_delimiter = ',', default_value = "16,512", value_parser = positive)]
    prefill: Vec<usize>,
    /// Tokens that are given after the first of these prompts
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    decode: usize,
    /// How many times to measure each
    #[arg(long, value_name = "TIMES", default_value_t = 3, value_parser = positive)]
    repetitions: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tokens a second of one kind of work: the best and the median of some times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq)]
pub struct Rate {
    /// The best.
    pub best: f64,
    /// The median.
    pub median: f64,
}

impl Rate {
    /// Those of so many tokens, which took so many seconds each time.
    pub fn of(tokens: usize, mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let rate = |seconds: f64| tokens as f64 / seconds;
        Self { best: rate(seconds[0]), median: rate(seconds[seconds.len() / 2]) }
    }
}

/// What was measured of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Speed {
    /// Bytes of its linears.
    pub bytes: usize,
    /// Seconds that loading took.
    pub load: f64,
    /// Prompts: tokens, and how fast they were taken.
    pub prefill: Vec<(usize, Rate)>,
    /// How fast tokens were given.
    pub decode: Rate,
    /// Bytes of this process in memory, where the system says so.
    pub resident: Option<usize>,
}

/// Made-up tokens.
pub fn tokens(vocabulary: usize, count: usize) -> Vec<u32> {
    // Knuth's multiplier: all over the vocabulary.
    (0..count as u64).map(|i| (i * 2_654_435_761 % vocabulary as u64) as u32).collect()
}

/// Seconds that a prompt takes, up to the logits of its last token.
///
/// # Errors
/// Those of the model; Ctrl-C.
pub fn prefill(model: &Model, tokens: &[u32], runner: &mut Runner) -> Result<f64> {
    let mut cache = Cache::new(&model.config, model.config.context.max(tokens.len()));
    let start = Instant::now();
    model.prefill(tokens, &mut cache, runner, &mut interrupted)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds that so many tokens after a prompt take.
///
/// # Errors
/// As of [`prefill`].
pub fn decode(model: &Model, prompt: &[u32], count: usize, runner: &mut Runner) -> Result<f64> {
    let mut cache = Cache::new(&model.config, model.config.context.max(prompt.len() + count));
    model.prefill(prompt, &mut cache, runner, &mut interrupted)?;
    let start = Instant::now();
    for token in tokens(model.config.vocabulary, count) {
        interrupted()?;
        let state = model.forward(&[token], &mut cache, runner)?;
        model.logits(&state, runner)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Whether Ctrl-C was pressed, as an error.
///
/// # Errors
/// That.
pub fn interrupted() -> Result<()> {
    ensure!(!progress::interrupted(), "interrupted");
    Ok(())
}

impl Args {
    /// Measures, and prints.
    ///
    /// # Errors
    /// Models that cannot be loaded; output.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        progress::catch_interrupts();
        let speed = on_threads(self.linears.threads, || self.measure())?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&speed)?)?;
            return Ok(());
        }
        let path: &Path = &self.model;
        let (name, mode) = (path.display(), self.linears.mode());
        writeln!(out, "{name}, mode {mode}: loaded in {:.1} s", speed.load)?;
        writeln!(out, "linears: {}", table::bytes(speed.bytes))?;
        let resident = speed.resident.map_or("unknown".into(), table::bytes);
        writeln!(out, "resident memory: {resident}")?;
        for (tokens, rate) in &speed.prefill {
            let (best, median) = (rate.best, rate.median);
            writeln!(out, "prompt of {tokens}: {best:.1} tokens/s, median {median:.1}")?;
        }
        let Rate { best, median } = speed.decode;
        writeln!(out, "decode: {best:.1} tokens/s, median {median:.1}")?;
        Ok(())
    }

    fn measure(&self) -> Result<Speed> {
        let start = Instant::now();
        let files = Files::open(&self.model)?;
        let (context, coding) = (self.linears.context()?, self.linears.coding()?);
        let model = files.load(&coding)?;
        let load = start.elapsed().as_secs_f64();
        let most = files.config.context;
        let longest = self.prefill.iter().copied().chain([self.prefill[0] + self.decode]).max();
        ensure!(longest <= Some(most), "the model was made for {most} tokens");
        let mut runner = Runner::new(context);
        let prompt = |count: usize| tokens(files.config.vocabulary, count);
        let mut seconds = vec![Vec::new(); self.prefill.len() + 1];
        // In turns, so that a busy minute slows all of them.
        for _ in 0..self.repetitions {
            for (seconds, count) in seconds.iter_mut().zip(&self.prefill) {
                seconds.push(prefill(&model, &prompt(*count), &mut runner)?);
            }
            let first = prompt(self.prefill[0]);
            seconds[self.prefill.len()].push(decode(&model, &first, self.decode, &mut runner)?);
        }
        let decode = Rate::of(self.decode, seconds.pop().unwrap_or_default());
        let prefill =
            self.prefill.iter().zip(seconds).map(|(n, s)| (*n, Rate::of(*n, s))).collect();
        Ok(Speed { bytes: model.bytes(), load, prefill, decode, resident: resident() })
    }
}
