//! What was measured, as JSON and as a table.

use std::io::Write;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

use crate::measure::{Case, Product};
use crate::table;

/// What a product is.
#[derive(Clone, Debug, Serialize)]
pub struct Label {
    /// Of a model, if it is one's.
    pub layer: Option<String>,
    /// Whose it is, if not lutmul's.
    pub peer: Option<&'static str>,
    pub format: &'static str,
    pub scales: String,
    pub mode: &'static str,
    /// Of peers, if they say.
    pub kernel: Option<String>,
    /// Lutmul's loop shape.
    pub shape: Option<String>,
    pub pages: &'static str,
    /// Of the table's fixed-point image, in integer modes, or of its entries in bf16.
    pub image_bytes: Option<usize>,
    /// Bytes of weights that a product reads.
    pub weight_bytes: usize,
}

/// Errors of a product's outputs.
#[derive(Clone, Debug, Serialize)]
pub struct Errors {
    /// Against f64 with the same weights: in integer modes, the same image of the table; in bf16 the table rounded to it.
    #[serde(rename = "rel_rms_error")]
    pub arithmetic: f64,
    /// What that image alone changes.
    #[serde(rename = "image_rel_rms_error")]
    pub image: Option<f64>,
    /// Against f64 with the weights that were encoded: what weights lose is part of it.
    #[serde(rename = "product_rel_rms_error")]
    pub whole: f64,
}

/// A product that was measured: a line of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub label: Label,
    pub m: usize,
    n: usize,
    k: usize,
    pub threads: usize,
    pub seconds_best: f64,
    seconds_median: f64,
    gflops: f64,
    weight_gb_s: f64,
    read_gb_s: Option<f64>,
    roofline: Option<f64>,
    /// What this CPU's fastest multiplier for the mode did in the same run.
    peak_gflops: Option<f64>,
    #[serde(flatten, serialize_with = "versus")]
    pub versus: Vec<Versus>,
    #[serde(flatten)]
    errors: Errors,
    workspace_bytes: Option<usize>,
    cpu: String,
    version: &'static str,
}

/// A product beside that of a peer.
#[derive(Clone, Debug)]
pub struct Versus {
    pub peer: &'static str,
    /// Of the peer; none if it was not measured.
    pub seconds: Option<f64>,
    /// Of the product, and its operations.
    pub own_seconds: f64,
    pub flops: f64,
}

impl Versus {
    fn speedup(&self) -> Option<f64> {
        self.seconds.map(|seconds| seconds / self.own_seconds)
    }
}

/// `PEER_gflops` and `speedup_vs_PEER`.
fn versus<S: Serializer>(versus: &[Versus], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(versus.iter().flat_map(|versus| {
        let peer = versus.peer.replace('-', "_");
        let gflops = versus.seconds.map(|seconds| versus.flops / seconds / 1e9);
        [(format!("{peer}_gflops"), gflops), (format!("speedup_vs_{peer}"), versus.speedup())]
    }))
}

impl Row {
    /// Of a case that was measured, with the rates at which memory was read (none for weights in a cache) and numbers
    /// multiplied.
    pub fn new<P: Product>(
        case: &Case<'_, P>,
        label: Label,
        errors: Errors,
        (read_gb_s, peak_gflops): (Option<f64>, Option<f64>),
        cpu: &str,
    ) -> Result<Self> {
        let size = case.size();
        let best = case.times().best().context("a product was not measured")?;
        let weight_gb_s = label.weight_bytes as f64 / best / 1e9;
        let own = label.peer.is_none();
        Ok(Self {
            label,
            m: size.m,
            n: size.n,
            k: size.k,
            threads: case.threads(),
            seconds_best: best,
            seconds_median: case.times().median().unwrap_or(best),
            gflops: size.flops() / best / 1e9,
            weight_gb_s,
            read_gb_s,
            roofline: read_gb_s.map(|read| weight_gb_s / read),
            peak_gflops,
            versus: Vec::new(),
            errors,
            workspace_bytes: own.then(|| case.workspace_bytes()),
            cpu: cpu.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Compares with a peer whose product of the same size took so long, if it was measured.
    pub fn compare(&mut self, peer: &'static str, seconds: Option<f64>) {
        let flops = self.gflops * self.seconds_best * 1e9;
        self.versus.push(Versus { peer, seconds, own_seconds: self.seconds_best, flops });
    }

    /// What stands under each head.
    fn cells(&self) -> Vec<(String, String)> {
        let some = |value: Option<f64>, digits: usize| {
            value.map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        let Label { peer, format, scales, mode, kernel, pages, image_bytes, .. } = &self.label;
        let kernel = match (peer, kernel) {
            (None, kernel) => kernel.clone().unwrap_or_default(),
            (Some(peer), None) => (*peer).into(),
            (Some(peer), Some(kernel)) => format!("{peer}: {kernel}"),
        };
        let cell = |head: &str, cell: String| (head.to_owned(), cell);
        let layer = self.label.layer.as_ref().map(|layer| cell("layer", layer.clone()));
        let mut cells: Vec<_> = layer.into_iter().collect();
        cells.extend([
            cell("format", (*format).into()),
            cell("scales", scales.clone()),
            cell("mode", (*mode).into()),
            cell("kernel", kernel),
            cell("m", self.m.to_string()),
            cell("n×k", format!("{}×{}", self.n, self.k)),
            cell("threads", self.threads.to_string()),
            cell("pages", (*pages).into()),
            cell("best", seconds(self.seconds_best)),
            cell("median", seconds(self.seconds_median)),
            cell("GFLOP/s", format!("{:.1}", self.gflops)),
            cell("GB/s", format!("{:.1}", self.weight_gb_s)),
            cell("of read", some(self.roofline, 2)),
            cell("of peak", some(self.peak_gflops.map(|peak| self.gflops / peak), 2)),
        ]);
        for versus in &self.versus {
            cells.push(cell(&format!("vs {}", versus.peer), some(versus.speedup(), 2)));
        }
        let error = |error: f64| if error == 0.0 { "0".into() } else { format!("{error:.1e}") };
        cells.push(cell("error", error(self.errors.arithmetic)));
        let image = image_bytes.zip(self.errors.image);
        let image = image.map(|(bytes, of_image)| format!("{bytes} B {}", error(of_image)));
        cells.push(cell("image", image.unwrap_or("-".into())));
        cells
    }
}

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
    let head: Vec<String> = first.cells().into_iter().map(|(head, _)| head).collect();
    let cells = |row: &Row| row.cells().into_iter().map(|(_, cell)| cell).collect();
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table::write(out, &head, &cells)?;
    writeln!(out)?;
    let mut reads: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row.label.pages, row.threads, row.read_gb_s?)))
        .map(|(pages, threads, read)| {
            let s = if threads == 1 { "" } else { "s" };
            format!("{read:.1} GB/s with {threads} thread{s} on pages \"{pages}\"")
        })
        .collect();
    reads.sort();
    reads.dedup();
    if !reads.is_empty() {
        writeln!(out, "Memory was read at {}.", reads.join(", "))?;
    }
    let peers = if crate::measure::gemm().is_some() { "" } else { " (needs --features peers)" };
    writeln!(
        out,
        "best, median: of one product, packing of x and epilogue included. GB/s: bytes of weights; of \
         read: as a share of\nthe rate at which memory was read; of peak: of what the fastest multiplier for the mode does. vs: times as fast as that; gemm-f32 is \
         the f32 GEMM of the crate gemm{peers}.\nerror: relative root mean square, against f64 with the \
         same weights; in integer modes the table's fixed-point image\ncounts as the weights, in bf16 \
         the rounded table, and image is its bytes and the error that it adds.",
    )?;
    Ok(())
}
