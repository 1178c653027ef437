//! All coded layers of a model, one after the other, as a program that runs the model takes them: what a token costs that
//! goes through its linears, and in how much memory. Nothing is in a cache that a layer's turn would not find there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use lutmul::checkpoint::Checkpoint;
use lutmul::{Options, Weights};
use serde::Serialize;

use super::plan::Plan;
use crate::measure::{Case, Product, Room, Size, Team, activations, resident};
use crate::{progress, table};

/// What was measured of a mode, with some tokens and threads.
#[derive(Serialize)]
struct Row {
    kernel: &'static str,
    mode: &'static str,
    threads: usize,
    m: usize,
    seconds_best: f64,
    seconds_median: f64,
    tokens_s: f64,
    gflops: f64,
    weight_gb_s: f64,
}

/// The model, and all of its rows.
#[derive(Serialize)]
struct Report {
    model: String,
    /// How many layers have a format and scales.
    layers: BTreeMap<String, usize>,
    /// Linears of floats, which are left aside.
    floats: usize,
    weights: usize,
    weight_bytes: usize,
    bf16_bytes: usize,
    f32_bytes: usize,
    resident_bytes: Option<usize>,
    cpu: String,
    rows: Vec<Row>,
}

/// One x a width, since layers have several.
struct Whole<'a> {
    layers: &'a [Weights<'static>],
    x: &'a BTreeMap<usize, Vec<f32>>,
    m: usize,
    options: Options,
}

impl Product for Whole<'_> {
    /// That of the largest y.
    fn size(&self) -> Size {
        let n = self.layers.iter().map(Weights::n).max().unwrap_or(0);
        let k = self.layers.iter().map(Weights::k).max().unwrap_or(0);
        Size { m: self.m, n, k }
    }

    fn multiply(&mut self, room: &mut Room) -> Result<()> {
        let (y, context) = room.for_outputs(self.size().outputs());
        context.options = self.options;
        for w in self.layers {
            w.matmul(&self.x[&w.k()], &mut y[..self.m * w.n()], context)?;
        }
        Ok(())
    }

    fn output(&self, _: &Room) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// Measures a model's layers for the modes, tokens and threads of a plan.
pub fn run(path: &Path, plan: &Plan, json: bool, out: &mut dyn Write) -> Result<()> {
    let model = Checkpoint::open(path)?;
    let (coded, floats): (Vec<_>, Vec<_>) =
        model.linears().iter().partition(|linear| linear.coding.is_some());
    let layers: Vec<_> = coded.into_iter().map(|l| model.weights(l)).collect::<Result<_, _>>()?;
    ensure!(
        layers.iter().any(|w| w.n() * w.k() > 0),
        "{}: has no coded layers; `lutmul convert` makes some",
        path.display()
    );
    let weights: usize = layers.iter().map(|w| w.n() * w.k()).sum();
    let bytes: usize = layers.iter().map(Weights::bytes).sum();
    let mut kinds = BTreeMap::new();
    for w in &layers {
        let kind = format!("{} {}", w.format().name(), w.scales().granularity());
        *kinds.entry(kind).or_insert(0) += 1;
    }
    let mut rows = Vec::new();
    let bar = progress::steps(plan.threads.len() * plan.options().count() * plan.tokens.len());
    for threads in &plan.threads {
        let team = Team::new(*threads)?;
        for options in plan.options() {
            let options = options.with_threads(team.option());
            for m in &plan.tokens {
                bar.set_message(format!("{}, {m} tokens", options.mode));
                rows.push(measure(&layers, plan, &team, options, *m)?);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let report = Report {
        model: path.display().to_string(),
        layers: kinds,
        floats: floats.len(),
        weights,
        weight_bytes: bytes,
        bf16_bytes: 2 * weights,
        f32_bytes: 4 * weights,
        resident_bytes: resident(),
        cpu: crate::measure::cpu(),
        rows,
    };
    if json {
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
        return Ok(());
    }
    report.print(out)
}

/// At least twice: the first time reads the file.
fn measure(
    layers: &[Weights<'static>],
    plan: &Plan,
    team: &Team,
    options: Options,
    m: usize,
) -> Result<Row> {
    let widths = layers.iter().map(Weights::k);
    let x: BTreeMap<usize, Vec<f32>> =
        widths.map(|k| (k, activations((m, k), plan.seed, plan.outliers))).collect();
    let mut case = Case::new([Whole { layers, x: &x, m, options }], team);
    case.warm_up()?;
    for _ in 0..plan.repetitions.div_ceil(2) {
        case.visit()?;
    }
    let (best, median) = (case.times().best().unwrap_or(0.0), case.times().median().unwrap_or(0.0));
    let bytes: usize = layers.iter().map(Weights::bytes).sum();
    let weights: usize = layers.iter().map(|w| w.n() * w.k()).sum();
    Ok(Row {
        kernel: options.kernel()?.name(),
        mode: options.mode.name(),
        threads: team.threads(),
        m,
        seconds_best: best,
        seconds_median: median,
        tokens_s: m as f64 / best,
        gflops: 2.0 * (m * weights) as f64 / best / 1e9,
        weight_gb_s: bytes as f64 / best / 1e9,
    })
}

impl Report {
    fn print(&self, out: &mut dyn Write) -> Result<()> {
        let kinds: Vec<_> = self.layers.iter().map(|(kind, n)| format!("{n} of {kind}")).collect();
        writeln!(out, "{}: {}", table::name(&self.model), kinds.join(", "))?;
        if self.floats > 0 {
            writeln!(out, "{} of floats left aside", self.floats)?;
        }
        let [coded, bf16, f32] = [self.weight_bytes, self.bf16_bytes, self.f32_bytes];
        write!(
            out,
            "{:.2} G weights: {} coded, {} in bf16, {} in f32",
            self.weights as f64 / 1e9,
            table::bytes(coded),
            table::bytes(bf16),
            table::bytes(f32)
        )?;
        match self.resident_bytes {
            Some(bytes) => writeln!(out, "; {} in memory", table::bytes(bytes))?,
            None => writeln!(out)?,
        }
        let head = [
            "kernel",
            "mode",
            "threads",
            "tokens",
            "tokens/s",
            "median",
            "GFLOP/s",
            "GB/s of weights",
        ];
        let rows: Vec<[String; 8]> = self.rows.iter().map(Row::cells).collect();
        Ok(table::write(out, &head, &rows)?)
    }
}

impl Row {
    fn cells(&self) -> [String; 8] {
        [
            self.kernel.into(),
            self.mode.into(),
            self.threads.to_string(),
            self.m.to_string(),
            format!("{:.1}", self.tokens_s),
            format!("{:.1}", self.m as f64 / self.seconds_median),
            format!("{:.1}", self.gflops),
            format!("{:.1}", self.weight_gb_s),
        ]
    }
}
