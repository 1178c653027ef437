//! `lutmul demo`: what 8-bit weights cost and gain, on this machine, in under a minute.

mod advice;
mod layer;
mod report;

use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use lutmul::checkpoint::{Checkpoint, Linear};
use lutmul::{Error, Kernel, Mode, Options};

use crate::bench::{positive, threads};
use crate::measure::{self, Caches, Dims, Pages, Reader, Team, check_free, transformer_weights};
use crate::{files, progress, table};
use layer::{Layer, Rig};
use report::Report;

/// Encode a layer in every format, multiply by it with every kernel, show error, speed, size and share of
/// the read bandwidth, against f32, and say which format and mode to use on this machine.
///
/// Without a model, the layer is made up: of the shape of a Phi-3.5-mini projection, with the statistics
/// of a transformer's weights.
#[derive(clap::Args)]
pub struct Args {
    /// A model whose largest linears to take, of any layout that `convert` reads: a safetensors file, or
    /// the folder of a Hugging Face model
    model: Option<PathBuf>,
    /// How many linears of the model
    #[arg(long, default_value_t = 2, requires = "model", value_parser = positive)]
    layers: usize,
    /// The shape of the made-up layer: out features x in features
    #[arg(long, value_name = "NxK", default_value = "8192x3072", conflicts_with = "model")]
    shape: Dims,
    /// Tokens of the large product
    #[arg(long, value_name = "M", default_value_t = 256, value_parser = positive)]
    tokens: usize,
    /// Threads [default: as many as the machine runs at a time]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// How many times to go through the products of each format
    #[arg(long, value_name = "TIMES", default_value_t = 4, value_parser = positive)]
    repetitions: usize,
    /// The seed of weights and activations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON: an object for each layer, format, kernel and number of tokens, a line each
    #[arg(long)]
    json: bool,
    /// Draw speed against error, for all formats and modes, as SVG into a file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

impl Args {
    /// Shows it.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        // A wrong LUTMUL_ISA is an error here too, though all kernels are tried.
        Options::new().kernel()?;
        let model = self.model.as_deref().map(Checkpoint::open).transpose()?;
        let linears = model.as_ref().map(|model| largest(model, self.layers)).transpose()?;
        let linears = linears.unwrap_or_default();
        let largest = linears
            .iter()
            .map(|linear| dims(linear))
            .chain([self.shape].into_iter().filter(|_| model.is_none()));
        for dims in largest {
            let bytes = || {
                // Weights in f32 and coded, packed and other activations, outputs; copies.
                let weights = dims.count().checked_mul(8)?;
                let tokens =
                    self.tokens.checked_mul(dims.n.checked_add(dims.k)?)?.checked_mul(12)?;
                weights.checked_add(tokens)?.checked_add(1 << 30)
            };
            let tokens = self.tokens;
            check_free(bytes(), &format!("shape {}x{}, {tokens} tokens", dims.n, dims.k))?;
        }
        if let Some(file) = &self.plot {
            files::check(file)?;
        }
        let caches = Caches::of_this_machine();
        let pages = Pages::best();
        let team = Team::new(self.threads.unwrap_or_else(measure::threads))?;
        // Errors come before anything is said.
        for (linear, model) in linears.iter().zip(model.iter().cycle()) {
            floats(model, linear)?;
        }
        if !self.json {
            report::opening(out, team.threads(), self.seconds(linears.len().max(1)))?;
        }
        let mut reader = Reader::new(pages, caches)?;
        let bar = progress::steps(layer::STEPS * linears.len().max(1));
        let mut rig = Rig {
            team: &team,
            caches,
            pages,
            reader: &mut reader,
            tokens: self.tokens,
            repetitions: self.repetitions,
            seed: self.seed,
            bar: &bar,
        };
        let mut layers = Vec::new();
        for (linear, model) in linears.iter().zip(model.iter().cycle()) {
            let (name, dims) = (name(linear), dims(linear));
            let floats = Cow::Owned(floats(model, linear)?);
            layers.push(rig.measure(&Layer { name, dims, floats })?);
        }
        if model.is_none() {
            let Dims { n, k } = self.shape;
            let floats = Cow::Owned(transformer_weights((n, k), self.seed));
            layers.push(rig.measure(&Layer {
                name: "made up".into(),
                dims: self.shape,
                floats,
            })?);
        }
        bar.finish_and_clear();
        let report = Report {
            layers,
            model: self.model.map(|path| path.display().to_string().escape_debug().to_string()),
            threads: team.threads(),
            pages: pages.name(),
            tokens: self.tokens,
            seed: self.seed,
        };
        if let Some(file) = &self.plot {
            files::write(file, &report.picture())?;
        }
        if self.json { report.json(out) } else { report.text(out) }
    }

    /// About how long it takes: visits of a moment, and for each format a second or two until they can begin.
    fn seconds(&self, layers: usize) -> usize {
        let kernels = Kernel::available().count() + Mode::ALL.len() - 1;
        let visit = 0.06;
        let products = 2.0 * visit * (kernels * self.repetitions) as f64;
        let weights = (self.shape.count() as f64 / 25e6).min(4.0);
        ((products + 1.0 + weights) * (layers * layer::STEPS) as f64) as usize
    }
}

/// The largest linears of a model, by the number of weights.
fn largest(model: &Checkpoint, count: usize) -> Result<Vec<&Linear>> {
    let has_weights = |linear: &&Linear| linear.shape.0 > 0 && linear.shape.1 > 0;
    let mut linears: Vec<_> = model.linears().iter().filter(has_weights).collect();
    ensure!(
        !linears.is_empty(),
        "{}: has no 2-D weights",
        model.path().display().to_string().escape_debug()
    );
    linears.sort_by_key(|linear| std::cmp::Reverse(dims(linear).count()));
    linears.truncate(count);
    Ok(linears)
}

/// What it is called: as its tensor, if it is all of it.
fn name(linear: &Linear) -> String {
    table::name(if linear.part.is_none() { &linear.tensor } else { &linear.name })
}

fn dims(linear: &Linear) -> Dims {
    Dims { n: linear.shape.0, k: linear.shape.1 }
}

/// The weights of a linear, decoded if they are codes.
fn floats(model: &Checkpoint, linear: &Linear) -> Result<Vec<f32>> {
    let floats = model.matrix(linear)?.to_f32()?.into_owned();
    match floats.iter().position(|w| !w.is_finite()) {
        None => Ok(floats),
        Some(i) => {
            let (row, col, value) = (i / linear.shape.1, i % linear.shape.1, floats[i]);
            bail!(Error::NonFinite { what: name(linear), row, col, value })
        }
    }
}
