//! `lutmul convert`: a model into lutmul's own files, or into floats.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use globset::{Glob, GlobMatcher};
use lutmul::checkpoint::{self, Candidate, Checkpoint, Conversion, Dtype, Left, Progress, Summary};
use lutmul::{Error, Granularity};
use serde_json::json;

use crate::format::{self, FormatArg};
use crate::{progress, table};

/// Convert a model's weights to codes, or to floats, and carry everything else over.
///
/// Reads F32, F16 and BF16; FP8 with scales by tensor, row, group or block; int8 of compressed-tensors and of
/// bitsandbytes; lutmul's own files. Converted are the weights of linears, but for those that config.json says are not
/// to be quantised; what is not is named, with the reason. A folder becomes a folder, with config and tokenizer.
///
/// Work is done in OUT.partial. If it is interrupted, the same command carries on from there.
#[derive(clap::Args)]
pub struct Args {
    /// The model: a safetensors file, or the folder of a Hugging Face model (or of a snapshot in its cache)
    model: PathBuf,
    /// What to write: a file if the model is one, else a folder (or, of a model in one file, a name that ends in
    /// .safetensors)
    out: PathBuf,
    #[arg(long, default_value = "qins-linear", help = help())]
    format: TargetArg,
    /// What shares a scale: tensor, row, group:N, or block:RxC
    #[arg(long, default_value = "row")]
    scales: Granularity,
    /// Convert 2-D tensors of this name, too; * and ? are any text and any character (may be repeated)
    #[arg(long, value_name = "GLOB")]
    include: Vec<Glob>,
    /// Carry tensors of this name over, whatever else is said (may be repeated)
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<Glob>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the output if it exists (a file, never a folder)
    #[arg(long)]
    force: bool,
    /// Throw away what an interrupted conversion has left
    #[arg(long)]
    restart: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// What weights become.
#[derive(Clone, Debug)]
enum TargetArg {
    Codes(FormatArg),
    Floats(Dtype),
}

/// The floats, by name.
const FLOATS: [(&str, Dtype); 3] =
    [("f32", Dtype::F32), ("bf16", Dtype::BF16), ("f16", Dtype::F16)];

impl FromStr for TargetArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match FLOATS.iter().find(|(name, _)| *name == text) {
            Some((_, dtype)) => Ok(Self::Floats(*dtype)),
            None => text.parse().map(Self::Codes).map_err(|e| format!("{e}, f32, bf16, f16")),
        }
    }
}

fn help() -> String {
    format!("{}; f32, bf16, f16", format::help())
}

/// Which tensors are meant by the options.
struct Selection {
    include: Vec<GlobMatcher>,
    exclude: Vec<GlobMatcher>,
}

impl Selection {
    fn selects(&self, candidate: &Candidate<'_>) -> bool {
        let named_in = |list: &[GlobMatcher]| list.iter().any(|g| g.is_match(candidate.tensor));
        (candidate.default || named_in(&self.include)) && !named_in(&self.exclude)
    }

    /// A pattern that means no tensor is a slip of the pen.
    fn check(&self, model: &Checkpoint) -> Result<()> {
        let floats = |dtype: Dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let convertible = || {
            let others = model.others().filter(|o| o.shape.len() == 2 && floats(o.dtype));
            let linears = model.linears().iter().map(|linear| linear.tensor.as_str());
            linears.chain(others.map(|other| other.name))
        };
        let path = model.path().display();
        for glob in &self.include {
            let text = glob.glob();
            ensure!(
                convertible().any(|name| glob.is_match(name)),
                "--include {text:?}: {path} has no tensor of that name that could be converted"
            );
        }
        for glob in &self.exclude {
            let text = glob.glob();
            let mut all = convertible().chain(model.others().map(|other| other.name));
            ensure!(
                all.any(|name| glob.is_match(name)),
                "--exclude {text:?}: {path} has no tensor of that name"
            );
        }
        Ok(())
    }
}

impl Args {
    /// Converts, and says what was done.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let mut conversion = match &self.format {
            TargetArg::Codes(format) => Conversion::to_codes(format.load()?, self.scales),
            TargetArg::Floats(dtype) => Conversion::to_floats(*dtype),
        };
        let model = Checkpoint::open(&self.model)?;
        let matchers = |globs: &[Glob]| globs.iter().map(Glob::compile_matcher).collect();
        let selection =
            Selection { include: matchers(&self.include), exclude: matchers(&self.exclude) };
        selection.check(&model)?;
        let select = |candidate: &Candidate<'_>| selection.selects(candidate);
        (conversion.overwrite, conversion.restart) = (self.force, self.restart);
        let conversion = conversion.of(&select);
        if self.dry_run {
            let summary = checkpoint::preview(&model, &self.out, &conversion)?;
            return self.report(&summary, &conversion.target.to_string(), out);
        }
        progress::catch_interrupts();
        let bar = progress::bytes(model.files().iter().map(|file| file.size).sum());
        let mut step = |progress: Progress<'_>| {
            bar.set_message(table::name(progress.tensor));
            bar.inc(progress.bytes);
            if !progress::interrupted() {
                return Ok(());
            }
            let why = "interrupted: the same command carries on".into();
            Err(Error::File { path: self.out.display().to_string(), why })
        };
        let summary = checkpoint::convert(&model, &self.out, &conversion, &mut step);
        bar.finish_and_clear();
        self.report(&summary?, &conversion.target.to_string(), out)
    }

    fn report(&self, summary: &Summary, target: &str, out: &mut dyn Write) -> Result<()> {
        let before = summary.converted.iter().map(|layer| layer.bytes_before).sum();
        let after = summary.converted.iter().map(|layer| layer.bytes_after).sum();
        if self.json {
            let floats = matches!(self.format, TargetArg::Floats(_));
            let format = target.split(' ').next().unwrap_or_default().to_lowercase();
            let object = json!({
                "input": self.model.display().to_string(),
                "output": self.out.display().to_string(),
                "dry_run": self.dry_run,
                "format": format,
                "scales": (!floats).then(|| self.scales.to_string()),
                "layers": layers(summary),
                "left": summary.left.iter().map(left).collect::<Vec<_>>(),
                "left_2d": summary.left.len(),
                "carried": summary.carried,
                "dropped": summary.dropped,
                "copied_files": summary.copied,
                "not_copied_files": summary.not_copied,
                "bytes_before": summary.bytes_before,
                "bytes_after": summary.bytes_after,
                "bytes_resumed": summary.resumed,
            });
            writeln!(out, "{object}")?;
            return Ok(());
        }
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(
            out,
            "{} layers {would}converted to {target}: {} → {}",
            summary.converted.len(),
            table::bytes(before),
            table::bytes(after),
        )?;
        writeln!(out, "{} other tensors {would}carried over", summary.carried)?;
        if !summary.left.is_empty() {
            let rows: Vec<[String; 4]> = summary.left.iter().map(left_cells).collect();
            writeln!(out, "of them, weights that are not converted:")?;
            table::write(out, &["tensor", "dtype", "shape", "reason"], &rows)?;
        }
        let lists = [
            ("scales of activations left out", &summary.dropped),
            ("files copied", &summary.copied),
            ("files not copied", &summary.not_copied),
        ];
        for (what, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            let names = list.iter().take(12).map(|name| table::name(name)).collect::<Vec<_>>();
            let more = if list.len() > names.len() { ", …" } else { "" };
            writeln!(out, "{} {what}: {}{more}", list.len(), names.join(", "))?;
        }
        if summary.resumed > 0 {
            let done = usize::try_from(summary.resumed).unwrap_or(usize::MAX);
            writeln!(out, "{} had been done before", table::bytes(done))?;
        }
        let size = |bytes: u64| usize::try_from(bytes).map(table::bytes).unwrap_or_default();
        writeln!(
            out,
            "{}: {} → {}: {}",
            self.model.display(),
            size(summary.bytes_before),
            self.out.display(),
            size(summary.bytes_after),
        )?;
        Ok(())
    }
}

fn layers(summary: &Summary) -> Vec<serde_json::Value> {
    let layer = |layer: &checkpoint::Converted| {
        json!({
            "name": layer.name,
            "tensor": layer.tensor,
            "dtype": layer.dtype,
            "n": layer.shape.0,
            "k": layer.shape.1,
            "bytes_before": layer.bytes_before,
            "bytes_after": layer.bytes_after,
        })
    };
    summary.converted.iter().map(layer).collect()
}

fn left(left: &Left) -> serde_json::Value {
    json!({
        "tensor": left.tensor,
        "dtype": left.dtype,
        "shape": left.shape,
        "reason": left.why.to_string(),
    })
}

fn left_cells(left: &Left) -> [String; 4] {
    let shape = checkpoint::show::sizes(&left.shape, "×");
    [table::name(&left.tensor), left.dtype.into(), shape, left.why.to_string()]
}
