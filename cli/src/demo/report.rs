//! What the demo shows.

use std::io::Write;

use anyhow::Result;
use lutmul::Mode;
use serde_json::json;

use super::layer::{Coded, Measured, Run};
use crate::measure::cpu;
use crate::table::{self, threads};

/// The gate, or up, projection of Phi-3.5-mini.
const PHI: (usize, usize) = (8192, 3072);

/// What is going to happen, said before it does.
pub fn opening(out: &mut dyn Write, threads: usize, seconds: usize) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "lutmul {version}: 8-bit weights, multiplied as they are stored")?;
    writeln!(out, "on {}, {}\n", cpu(), table::threads(threads))?;
    let about = match seconds.next_multiple_of(10) {
        seconds @ ..100 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", (seconds + 30) / 60),
    };
    writeln!(out, "Measuring, for about {about}; longer if something else runs.\n")?;
    Ok(out.flush()?)
}

/// Everything that was measured.
pub struct Report {
    pub layers: Vec<Measured>,
    pub model: Option<String>,
    pub threads: usize,
    pub pages: &'static str,
    pub tokens: usize,
    pub seed: u64,
}

impl Measured {
    fn f32_bytes(&self) -> usize {
        4 * self.dims.count()
    }

    /// The f32 product to compare a run with.
    fn baseline(&self, m: usize) -> Option<&Run> {
        if m == 1 { Some(&self.gemv) } else { self.gemm.as_ref() }
    }

    fn speedup(&self, run: &Run) -> Option<f64> {
        Some(run.weights / self.baseline(run.m)?.weights)
    }

    fn kernels(&self) -> Vec<&'static str> {
        let runs = self.formats.first().map(|coded| &coded.runs[..]).unwrap_or_default();
        let runs = runs.iter().filter(|run| run.m == 1 && run.mode == Mode::F32);
        runs.map(|run| run.kernel).collect()
    }
}

impl Coded {
    /// The format, and the granularity of scales where it isn't the usual one.
    pub fn label(&self) -> String {
        if self.scales == "row" {
            self.format.into()
        } else {
            format!("{}, {}", self.format, self.scales)
        }
    }

    /// The run with so many tokens in a mode; in f32 the fastest.
    pub fn fastest(&self, m: usize, mode: Mode) -> Option<&Run> {
        let runs = self.runs.iter().filter(|run| run.m == m && run.mode == mode);
        runs.max_by(|a, b| a.weights.total_cmp(&b.weights))
    }
}

impl Report {
    /// An object for each product.
    pub fn json(&self, out: &mut dyn Write) -> Result<()> {
        let cpu = cpu();
        for layer in &self.layers {
            let common = |run: &Run| {
                json!({
                    "layer": layer.name,
                    "model": self.model,
                    "seed": self.seed,
                    "format": "f32",
                    "scales": null,
                    "kernel": run.kernel,
                    "mode": run.mode.name(),
                    "m": run.m,
                    "n": layer.dims.n,
                    "k": layer.dims.k,
                    "rows_measured": run.rows,
                    "threads": self.threads,
                    "pages": self.pages,
                    "seconds_best": run.seconds,
                    "gweights_s": run.weights / 1e9,
                    "gflops": run.flops / 1e9,
                    "weight_gb_s": run.bytes / 1e9,
                    "read_gb_s": layer.read,
                    "roofline": run.bytes / 1e9 / layer.read,
                    "speedup_vs_f32": layer.speedup(run),
                    "weight_bytes": layer.f32_bytes(),
                    "f32_bytes": layer.f32_bytes(),
                    "weight_sqnr_db": null,
                    "product_rel_rms_error": null,
                    "rel_rms_error": null,
                    "encoding_gweights_s": null,
                    "cpu": cpu,
                    "version": env!("CARGO_PKG_VERSION"),
                })
            };
            for run in [Some(&layer.gemv), layer.gemm.as_ref()].into_iter().flatten() {
                writeln!(out, "{}", common(run))?;
            }
            for coded in &layer.formats {
                for run in &coded.runs {
                    let mut object = common(run);
                    object["format"] = coded.format.into();
                    object["scales"] = coded.scales.clone().into();
                    object["weight_bytes"] = coded.bytes.into();
                    object["weight_sqnr_db"] = coded.sqnr_db.into();
                    object["product_rel_rms_error"] = run.error.into();
                    object["rel_rms_error"] = run.arithmetic.into();
                    object["encoding_gweights_s"] = (coded.encoding / 1e9).into();
                    writeln!(out, "{object}")?;
                }
            }
        }
        Ok(())
    }

    /// A screen or two for each layer, for someone who has never heard of this, and what to make of it.
    pub fn text(&self, out: &mut dyn Write) -> Result<()> {
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            self.layer(layer, out)?;
        }
        self.advice(out)
    }

    fn layer(&self, layer: &Measured, out: &mut dyn Write) -> Result<()> {
        let (n, k) = (layer.dims.n, layer.dims.k);
        let count = layer.dims.count() as f64 / 1e6;
        match &self.model {
            Some(model) => writeln!(out, "THE LAYER: {} of {model}", layer.name)?,
            None => writeln!(
                out,
                "THE LAYER: made up (seed {}), with a transformer's statistics: Gaussian rows, each with \
                 a scale of\nits own, a few columns eight times larger. {}",
                self.seed,
                if (n, k) == PHI { "The shape is that of Phi-3.5-mini's MLP." } else { "" },
            )?,
        }
        writeln!(
            out,
            "{n} outputs × {k} inputs: {count:.1} M weights, {} as f32. The activations are Gaussian, \
             a few channels\n30 times larger. This machine reads memory at {:.1} GB/s ({}).\n",
            table::bytes(layer.f32_bytes()),
            layer.read,
            threads(self.threads),
        )?;
        self.costs(layer, out)?;
        self.speeds(layer, 1, out)?;
        if self.tokens > 1 {
            self.speeds(layer, self.tokens, out)?;
        }
        self.modes(layer, out)
    }

    fn costs(&self, layer: &Measured, out: &mut dyn Write) -> Result<()> {
        writeln!(
            out,
            "SIZE AND ERROR. A weight is stored as a code of 8 bits, an index into a table of 256 \
             numbers, times a scale\n(one for each row, unless the format says otherwise); the qins \
             formats and kmeans-signed add a sign bit.\nweights: how far above the rounding noise they \
             are. products: relative RMS error of x·W against the f32\nweights; of it, arithmetic: what \
             multiplying adds. qins-inverse is a known failure, kept for comparison.\n"
        )?;
        let head = ["format", "size", "of f32", "weights", "products", "arithmetic", "encoding"];
        let rows: Vec<[String; 7]> = layer
            .formats
            .iter()
            .map(|coded| {
                let best = coded.runs.first();
                [
                    coded.label(),
                    table::bytes(coded.bytes),
                    format!("{:.1} %", 100.0 * coded.bytes as f64 / layer.f32_bytes() as f64),
                    decibels(coded.sqnr_db),
                    best.map_or("-".into(), |run| percent(run.error)),
                    best.map_or("-".into(), |run| format!("{:.5} %", 100.0 * run.arithmetic)),
                    format!("{:.2} G/s", coded.encoding / 1e9),
                ]
            })
            .collect();
        table::write(out, &head, &rows)?;
        writeln!(out)?;
        Ok(())
    }

    fn speeds(&self, layer: &Measured, m: usize, out: &mut dyn Write) -> Result<()> {
        let baseline = layer.baseline(m);
        if m == 1 {
            let plain = layer.gemv.weights / 1e9;
            let share = 100.0 * layer.gemv.bytes / 1e9 / layer.read;
            writeln!(
                out,
                "ONE TOKEN, as when a model writes: memory decides. 10⁹ weights a second, and bytes read \
                 as a share of what\nmemory gives, for each kernel this CPU can run. With f32 weights: \
                 {plain:.1} ({share:.0} %, plain loops).\n"
            )?;
        } else {
            let f32 = match baseline {
                Some(gemm) => format!("With f32 weights: {:.0} (gemm crate).", gemm.flops / 1e9),
                None => "(--features peers adds an f32 GEMM.)".into(),
            };
            writeln!(
                out,
                "{m} TOKENS AT ONCE, as when it reads a prompt: arithmetic decides. GFLOP/s. {f32}\n"
            )?;
        }
        let kernels = layer.kernels();
        let mut head = vec!["format"];
        head.extend(&kernels);
        head.extend(baseline.map(|_| "best vs f32"));
        let rows: Vec<Vec<String>> = layer
            .formats
            .iter()
            .map(|coded| {
                let mut row = vec![coded.label()];
                for kernel in &kernels {
                    let mut runs = coded.runs.iter().filter(|run| run.mode == Mode::F32);
                    let run = runs.find(|run| run.m == m && run.kernel == *kernel);
                    row.push(run.map_or("-".into(), |run| cell(run, layer.read)));
                }
                let best = coded.fastest(m, Mode::F32).and_then(|run| layer.speedup(run));
                row.extend(best.map(|speedup| format!("{speedup:.1}×")));
                row
            })
            .collect();
        table::write(out, &head, &rows)?;
        writeln!(out)?;
        Ok(())
    }

    /// Error and speed of all modes, by the best kernel.
    fn modes(&self, layer: &Measured, out: &mut dyn Write) -> Result<()> {
        let Some(kernel) = layer.kernels().first().copied() else { return Ok(()) };
        let integer = Mode::ALL.into_iter().filter(|mode| mode.is_integer());
        let integer = integer.map(Mode::name).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "MODES. In {integer} activations become integers and sums are exact: the same bits \
             by every kernel, on\nevery CPU. By kernel {kernel}, for each mode: relative RMS error of \
             arithmetic, table's\nimage included; 10⁹ weights a second with one token{}.\n",
            if self.tokens > 1 { format!("; GFLOP/s with {}", self.tokens) } else { String::new() },
        )?;
        let head: Vec<&str> =
            ["format"].into_iter().chain(Mode::ALL.into_iter().map(Mode::name)).collect();
        let rows: Vec<Vec<String>> = layer
            .formats
            .iter()
            .map(|coded| {
                let modes = Mode::ALL.into_iter().map(|mode| {
                    let of = |m| {
                        let mut runs = coded.runs.iter().filter(|run| run.kernel == kernel);
                        runs.find(|run| run.m == m && run.mode == mode)
                    };
                    let Some(one) = of(1) else { return "-".into() };
                    let many = of(self.tokens).filter(|run| run.m > 1);
                    let many =
                        many.map_or(String::new(), |run| format!(" {:4.0}", run.flops / 1e9));
                    format!("{:.0e} {:4.1}{many}", one.arithmetic, one.weights / 1e9)
                });
                [coded.label()].into_iter().chain(modes).collect()
            })
            .collect();
        table::write(out, &head, &rows)?;
        writeln!(out)?;
        Ok(())
    }
}

fn cell(run: &Run, read: f64) -> String {
    if run.m == 1 {
        format!("{:.1} ({:.0} %)", run.weights / 1e9, 100.0 * run.bytes / 1e9 / read)
    } else {
        format!("{:.1}", run.flops / 1e9)
    }
}

pub fn percent(share: f64) -> String {
    let digits = if share < 1.0 { 2 } else { 0 };
    format!("{:.digits$} %", 100.0 * share)
}

fn decibels(db: f64) -> String {
    if db.is_finite() { format!("{db:.1} dB") } else { "exact".into() }
}
