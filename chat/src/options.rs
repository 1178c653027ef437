//! What subcommands have in common: of what linears are made, how they are multiplied, by how many threads.

use anyhow::{Context as _, Result, ensure};
use lutmul::{Context, Format, Granularity, MAX_THREADS, Mode};
use lutmul_cli::format::FormatArg;
use lutmul_cli::measure;

use crate::linear::{Coding, Float};

/// Of what linears are made, and how they are multiplied.
#[derive(clap::Args, Clone, Debug)]
pub struct Linears {
    /// The format of all linears; without it codes stay as they are in the model, and floats become qins-linear
    #[arg(long)]
    format: Option<FormatArg>,
    /// What shares a scale: tensor, row, group:N, or block:RxC [default: row]
    #[arg(long, value_name = "SCALES")]
    scales: Option<Granularity>,
    /// How activations are represented: f32, bf16, a24, a16, a8, a8t
    #[arg(long, default_value = "a16")]
    mode: Mode,
    /// Multiply floats by candle's matrix product instead: f32, bf16
    #[arg(long, conflicts_with_all = ["format", "scales", "mode"])]
    baseline: Option<Float>,
    /// Threads [default: as many as the machine runs at a time]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

impl Linears {
    /// Of what linears are to be made.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn coding(&self) -> Result<Coding> {
        if let Some(float) = self.baseline {
            return Ok(Coding::Baseline(float));
        }
        let granularity = self.scales.unwrap_or(Granularity::Row);
        Ok(match &self.format {
            Some(format) => Coding::All(format.load()?, granularity),
            None if self.scales.is_some() => Coding::All(Format::QinsLinear, granularity),
            None => Coding::Stored(Format::QinsLinear, granularity),
        })
    }

    /// How linears are multiplied. The kernel is that of `LUTMUL_ISA`, or the best.
    ///
    /// # Errors
    /// A kernel that this CPU cannot run.
    pub fn context(&self) -> Result<Context> {
        let context = Context::new().with_mode(self.mode);
        context.options.kernel()?;
        Ok(context)
    }

    /// The mode, or the baseline's type.
    pub fn mode(&self) -> String {
        match self.baseline {
            Some(_) => "candle".into(),
            None => self.mode.to_string(),
        }
    }
}

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_THREADS) => Ok(count),
        _ => Err(format!("not a number from 1 to {MAX_THREADS}")),
    }
}

/// Does work on so many threads: all that it calls shares them.
///
/// # Errors
/// Threads that cannot be had, and those of the work.
pub fn on_threads<R: Send>(
    count: Option<usize>,
    work: impl FnOnce() -> Result<R> + Send,
) -> Result<R> {
    let count = count.unwrap_or_else(measure::threads);
    ensure!(count > 0, "no threads");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build();
    pool.with_context(|| format!("{count} threads"))?.install(work)
}
