//! What was measured, as JSON and as a table.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::Case;
use crate::table;

/// A product that was measured: a line of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    format: &'static str,
    scales: String,
    mode: &'static str,
    kernel: &'static str,
    shape: String,
    m: usize,
    n: usize,
    k: usize,
    threads: usize,
    pages: &'static str,
    seconds_best: f64,
    seconds_median: f64,
    gflops: f64,
    weight_gb_s: f64,
    read_gb_s: Option<f64>,
    roofline: Option<f64>,
    gemm_f32_gflops: Option<f64>,
    speedup_vs_gemm_f32: Option<f64>,
    rel_rms_error: f64,
    weight_bytes: usize,
    workspace_bytes: usize,
    cpu: String,
    version: &'static str,
}

impl Row {
    /// Of a case that was measured; `read_gb_s` is null for weights in a cache.
    pub fn new(
        case: &Case<'_>,
        format: &'static str,
        pages: &'static str,
        rel_rms_error: f64,
        read_gb_s: Option<f64>,
        gemm_seconds: Option<f64>,
        cpu: &str,
    ) -> Result<Self> {
        let w = case.weights();
        let best = case.times().best().context("a product was not measured")?;
        let weight_gb_s = w.bytes() as f64 / best / 1e9;
        Ok(Self {
            format,
            scales: w.scales().granularity().to_string(),
            mode: case.options().mode.name(),
            kernel: case.options().kernel.name(),
            shape: case.shape().to_string(),
            m: case.m(),
            n: w.n(),
            k: w.k(),
            threads: case.threads(),
            pages,
            seconds_best: best,
            seconds_median: case.times().median().unwrap_or(best),
            gflops: case.flops() / best / 1e9,
            weight_gb_s,
            read_gb_s,
            roofline: read_gb_s.map(|read| weight_gb_s / read),
            gemm_f32_gflops: gemm_seconds.map(|seconds| case.flops() / seconds / 1e9),
            speedup_vs_gemm_f32: gemm_seconds.map(|seconds| seconds / best),
            rel_rms_error,
            weight_bytes: w.bytes(),
            workspace_bytes: case.workspace_bytes(),
            cpu: cpu.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    fn cells(&self) -> [String; 15] {
        let some = |value: Option<f64>, digits: usize| {
            value.map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        [
            self.format.into(),
            self.scales.clone(),
            self.mode.into(),
            self.kernel.into(),
            self.m.to_string(),
            format!("{}×{}", self.n, self.k),
            self.threads.to_string(),
            self.pages.into(),
            seconds(self.seconds_best),
            seconds(self.seconds_median),
            format!("{:.1}", self.gflops),
            format!("{:.1}", self.weight_gb_s),
            some(self.roofline, 2),
            some(self.speedup_vs_gemm_f32, 2),
            format!("{:.1e}", self.rel_rms_error),
        ]
    }
}

/// The heads of [`Row::cells`].
const HEAD: [&str; 15] = [
    "format", "scales", "mode", "kernel", "m", "n×k", "threads", "pages", "best", "median",
    "GFLOP/s", "GB/s", "of read", "vs gemm", "error",
];

/// Seconds in a unit that fits.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.2} µs", s * 1e6),
    }
}

/// An object for each product.
pub fn json(rows: &[Row], out: &mut dyn Write) -> Result<()> {
    for row in rows {
        writeln!(out, "{}", serde_json::to_string(row)?)?;
    }
    Ok(())
}

/// A table, and what its columns are.
pub fn table(rows: &[Row], out: &mut dyn Write) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    writeln!(out, "lutmul {} on {}\n", first.version, first.cpu)?;
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    table::write(out, HEAD, &cells)?;
    writeln!(out)?;
    let mut reads: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row.pages, row.threads, row.read_gb_s?)))
        .map(|(pages, threads, read)| {
            let s = if threads == 1 { "" } else { "s" };
            format!("{read:.1} GB/s with {threads} thread{s} on pages \"{pages}\"")
        })
        .collect();
    reads.dedup();
    reads.sort();
    reads.dedup();
    if !reads.is_empty() {
        writeln!(out, "Memory was read at {}.", reads.join(", "))?;
    }
    writeln!(
        out,
        "best, median: of one product, packing of x and epilogue included. GB/s: bytes of weights; of \
         read: as a share of\nthe rate at which memory was read. vs gemm: times as fast as the f32 \
         GEMM of the crate gemm{}. error: relative\nroot mean square, against f64 with the same weights.",
        if crate::measure::gemm().is_some() { "" } else { " (needs --features peers)" },
    )?;
    Ok(())
}
