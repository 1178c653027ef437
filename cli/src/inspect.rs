//! `lutmul inspect`: what a model holds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use lutmul::checkpoint::{Checkpoint, Dtype, Linear, Other, show};
use serde::Serialize;
use serde_json::json;

use crate::table;

/// Show a model's layers: their formats, scales and sizes; and its other tensors, and why they are none.
#[derive(clap::Args)]
pub struct Args {
    /// The model: a safetensors file, or the folder of a Hugging Face model
    model: PathBuf,
    /// Read all codes and scales, and say where they are NaN or infinite
    #[arg(long)]
    validate: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A layer, as it is shown.
#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    tensor: &'a str,
    /// Which matrix of how many.
    part: Option<(usize, usize)>,
    dtype: &'a str,
    n: usize,
    k: usize,
    format: String,
    scales: Option<String>,
    bits_per_weight: f64,
    bytes: usize,
    /// Whether config.json says that it is not to be quantised.
    skipped: bool,
}

impl<'a> Layer<'a> {
    fn new(linear: &'a Linear) -> Self {
        let (n, k) = linear.shape;
        let floats = || linear.dtype.to_lowercase();
        let coding = linear.coding.as_ref();
        Self {
            name: &linear.name,
            tensor: &linear.tensor,
            part: linear.part,
            dtype: linear.dtype,
            n,
            k,
            format: coding.map_or_else(floats, |coding| coding.format.to_string()),
            scales: coding.map(|coding| coding.granularity.to_string()),
            bits_per_weight: 8.0 * linear.bytes as f64 / weights(linear).max(1) as f64,
            bytes: linear.bytes,
            skipped: linear.skipped,
        }
    }

    fn cells(&self) -> [String; 6] {
        let Self { name, n, k, format, scales, bits_per_weight, bytes, .. } = self;
        let (shape, bits) = (format!("{n}×{k}"), format!("{bits_per_weight:.3}"));
        let scales = scales.clone().unwrap_or_else(|| "-".into());
        [table::name(name), shape, format.clone(), scales, bits, table::bytes(*bytes)]
    }
}

fn weights(linear: &Linear) -> usize {
    linear.shape.0.saturating_mul(linear.shape.1)
}

/// Sizes of some tensors as they are, and if their weights were f32 or bf16.
#[derive(Clone, Copy, Default, Serialize)]
struct Size {
    bytes: usize,
    bytes_f32: usize,
    bytes_bf16: usize,
}

impl Size {
    fn of_linear(linear: &Linear) -> Self {
        let (bytes, weights) = (linear.bytes, weights(linear));
        Self { bytes, bytes_f32: 4 * weights, bytes_bf16: 2 * weights }
    }

    /// Only floating point types would be other ones.
    fn of_other(other: &Other<'_>) -> Self {
        let bytes = other.bytes;
        let floats = match other.dtype {
            Dtype::F16 | Dtype::BF16 => bytes / 2,
            Dtype::F32 => bytes / 4,
            Dtype::F64 => bytes / 8,
            _ => return Self { bytes, bytes_f32: bytes, bytes_bf16: bytes },
        };
        Self { bytes, bytes_f32: 4 * floats, bytes_bf16: 2 * floats }
    }

    fn sum(sizes: impl Iterator<Item = Self>) -> Self {
        sizes.fold(Self::default(), |a, b| Self {
            bytes: a.bytes + b.bytes,
            bytes_f32: a.bytes_f32 + b.bytes_f32,
            bytes_bf16: a.bytes_bf16 + b.bytes_bf16,
        })
    }

    /// A line of the table of totals.
    fn row(&self, what: String) -> [String; 6] {
        let share = |of: usize| format!("{:.3}", self.bytes as f64 / of.max(1) as f64);
        let [bytes, f32, bf16] = [self.bytes, self.bytes_f32, self.bytes_bf16];
        [what, table::bytes(bytes), table::bytes(f32), share(f32), table::bytes(bf16), share(bf16)]
    }
}

/// The heads of the table of totals.
const TOTALS: [&str; 6] = ["total", "size", "in f32", "ratio", "in bf16", "ratio"];

impl Args {
    /// Shows the model.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let model = Checkpoint::open(&self.model)?;
        if self.validate {
            self.check_finite(&model)?;
        } else {
            // Looks at the scales, so that a faulty one is found here and not by the first product.
            for linear in model.linears() {
                model.matrix(linear)?;
            }
        }
        let layers: Vec<Layer<'_>> = model.linears().iter().map(Layer::new).collect();
        let coded = |linear: &&Linear| linear.coding.is_some();
        let count = model.linears().iter().filter(coded).count();
        let sizes = Sizes {
            coded: Size::sum(model.linears().iter().filter(coded).map(Size::of_linear)),
            floats: Size::sum(model.linears().iter().filter(|l| !coded(l)).map(Size::of_linear)),
            others: Size::sum(model.others().map(|other| Size::of_other(&other))),
        };
        if self.json {
            return self.print_json(&model, &layers, &sizes, out);
        }
        if !layers.is_empty() {
            let head = ["layer", "shape", "format", "scales", "bits/weight", "size"];
            table::write(out, &head, &layers.iter().map(Layer::cells).collect::<Vec<_>>())?;
            writeln!(out)?;
        }
        let others: Vec<[String; 5]> = model
            .others()
            .map(|o| {
                let (shape, size) = (show::sizes(o.shape, "×"), table::bytes(o.bytes));
                [table::name(o.name), o.dtype.to_string(), shape, size, o.reason.to_string()]
            })
            .collect();
        if !others.is_empty() {
            let head = ["other tensor", "dtype", "shape", "size", "why it is no layer"];
            table::write(out, &head, &others)?;
            writeln!(out)?;
        }
        let totals = [
            sizes.coded.row(format!("{count} layers of codes")),
            sizes.floats.row(format!("{} layers of floats", layers.len() - count)),
            sizes.others.row(format!("{} other tensors", others.len())),
            sizes.all().row("all".into()),
        ];
        table::write(out, &TOTALS, &totals)?;
        Ok(())
    }

    /// Every layer that has a NaN or infinity is said to have one.
    fn check_finite(&self, model: &Checkpoint) -> Result<()> {
        let bar = crate::progress::bytes(model.linears().iter().map(|l| l.bytes).sum());
        let errors = model.validate(&mut |linear| {
            bar.inc(linear.bytes as u64);
            Ok(())
        });
        bar.finish_and_clear();
        let (count, mut errors) = (errors.len(), errors.into_iter());
        match (errors.next(), count) {
            (None, _) => Ok(()),
            (Some(error), 1) => Err(error.into()),
            (Some(first), _) => {
                let all: Vec<_> =
                    [first].into_iter().chain(errors).map(|e| e.to_string()).collect();
                bail!("{count} layers: {}", all.join("; "))
            }
        }
    }

    fn print_json(
        &self,
        model: &Checkpoint,
        layers: &[Layer<'_>],
        sizes: &Sizes,
        out: &mut dyn Write,
    ) -> Result<()> {
        let others: Vec<_> = model
            .others()
            .map(|o| {
                json!({
                    "name": o.name,
                    "dtype": o.dtype,
                    "shape": o.shape,
                    "bytes": o.bytes,
                    "reason": o.reason.to_string(),
                })
            })
            .collect();
        let object = json!({
            "file": self.model.display().to_string(),
            "layers": layers,
            "tensors": others,
            "coded": sizes.coded,
            "floats": sizes.floats,
            "others": sizes.others,
            "total": sizes.all(),
            "file_bytes": model.files().iter().map(|file| file.size).sum::<usize>(),
            "metadata": metadata(model),
        });
        writeln!(out, "{object}")?;
        Ok(())
    }
}

/// What the parts of a model take.
struct Sizes {
    coded: Size,
    floats: Size,
    others: Size,
}

impl Sizes {
    fn all(&self) -> Size {
        Size::sum([self.coded, self.floats, self.others].into_iter())
    }
}

/// The metadata of a file; shards have each their own, which are not shown.
fn metadata(model: &Checkpoint) -> Option<&BTreeMap<String, String>> {
    if model.files().len() == 1 { model.metadata(0) } else { None }
}
