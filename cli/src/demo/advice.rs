//! What a person wants to know in the end: which format and mode to take on this machine.

use std::io::Write;

use anyhow::Result;

use super::report::{Report, percent};
use crate::chart::error::{Product, SpeedAndError, Tokens};
use crate::measure::cpu;
use crate::table::threads;

/// The error of products that most models bear: a format and mode beyond it are recommended only where none is within.
const BEARABLE: f64 = 0.02;

/// Formats that lose more than this are failures: they would push all others into a corner of the picture.
const FAILED: f64 = 0.5;

/// A format and a mode, over all layers.
struct Candidate {
    format: String,
    mode: &'static str,
    m: usize,
    /// Relative RMS error of products, weights included.
    error: f64,
    /// Weights multiplied in a second.
    weights: f64,
    /// Bytes, as a share of f32's.
    size: f64,
}

impl Report {
    /// Every format and mode by its fastest kernel, with so many tokens.
    fn candidates(&self, m: usize) -> Vec<Candidate> {
        let Some(first) = self.layers.first() else { return Vec::new() };
        let runs = first.formats.iter().enumerate().flat_map(|(i, coded)| {
            let modes = lutmul::Mode::ALL.into_iter();
            modes.filter(move |mode| coded.fastest(m, *mode).is_some()).map(move |mode| (i, mode))
        });
        runs.filter_map(|(i, mode)| {
            let (mut seconds, mut count, mut squares, mut bytes) = (0.0, 0.0, 0.0, 0.0);
            for layer in &self.layers {
                let run = layer.formats[i].fastest(m, mode)?;
                let weights = layer.dims.count() as f64;
                seconds += weights / run.weights;
                count += weights;
                squares += weights * run.error.powi(2);
                bytes += layer.formats[i].bytes as f64;
            }
            Some(Candidate {
                format: first.formats[i].label(),
                mode: mode.name(),
                m,
                error: (squares / count).sqrt(),
                weights: count / seconds,
                size: bytes / (4.0 * count),
            })
        })
        .collect()
    }

    /// Three lines.
    pub fn advice(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(
            out,
            "WHAT TO USE on this machine, if {} of error can be borne:",
            percent(BEARABLE)
        )?;
        let one = self.candidates(1);
        let bearable = |all: &[Candidate]| {
            let least = all.iter().map(|c| c.error).fold(f64::INFINITY, f64::min);
            BEARABLE.max(1.01 * least)
        };
        let fastest = |all: &[Candidate]| {
            let limit = bearable(all);
            let fits = (0..all.len()).filter(|i| all[*i].error <= limit);
            fits.max_by(|a, b| all[*a].weights.total_cmp(&all[*b].weights))
        };
        if let Some(best) = fastest(&one).map(|i| &one[i]) {
            writeln!(
                out,
                "To write, a token at a time: {}: {:.1} G weights a second, {} of error.",
                best.name(),
                best.weights / 1e9,
                best.error(),
            )?;
        }
        let many = if self.tokens > 1 { self.candidates(self.tokens) } else { Vec::new() };
        if let Some(best) = fastest(&many).map(|i| &many[i]) {
            writeln!(
                out,
                "To read, {} tokens at once: {}: {:.0} GFLOP/s, {} of error.",
                self.tokens,
                best.name(),
                best.gflops(),
                best.error(),
            )?;
        }
        if let Some(best) = one.iter().min_by(|a, b| a.error.total_cmp(&b.error)) {
            writeln!(
                out,
                "Least error: {}: {}, in {:.0} % of f32's memory, {:.1} G weights a second.",
                best.name(),
                best.error(),
                100.0 * best.size,
                best.weights / 1e9,
            )?;
        }
        Ok(())
    }

    /// Speed against error, with one token and with many.
    pub fn picture(&self) -> String {
        let tokens = if self.tokens > 1 { vec![1, self.tokens] } else { vec![1] };
        let candidates: Vec<Vec<Candidate>> = tokens.iter().map(|m| self.candidates(*m)).collect();
        let shown = || candidates.iter().flatten().filter(|c| c.error < FAILED);
        let mut formats: Vec<String> = Vec::new();
        for candidate in shown() {
            if !formats.contains(&candidate.format) {
                formats.push(candidate.format.clone());
            }
        }
        let modes = lutmul::Mode::ALL.map(lutmul::Mode::name);
        let panels = tokens.into_iter().map(|m| {
            let products = shown().filter(|c| c.m == m).filter_map(|c| {
                Some(Product {
                    format: formats.iter().position(|format| *format == c.format)?,
                    mode: modes.iter().position(|mode| *mode == c.mode)?,
                    error: c.error,
                    gflops: c.gflops(),
                })
            });
            Tokens { m, products: products.collect(), others: Vec::new() }
        });
        let panels = panels.collect();
        let title = format!("Speed and error: {}, {}", cpu(), threads(self.threads));
        let modes = modes.map(str::to_owned).to_vec();
        SpeedAndError { title, formats, modes, panels }.figure().svg()
    }
}

impl Candidate {
    fn name(&self) -> String {
        format!("{} in mode {}", self.format, self.mode)
    }

    fn gflops(&self) -> f64 {
        2.0 * self.m as f64 * self.weights / 1e9
    }

    fn error(&self) -> String {
        percent(self.error)
    }
}
