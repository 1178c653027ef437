//! `lutmul convert`: a safetensors file into one of lutmul's own.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use lutmul::checkpoint::{self, Conversion, Summary, Tensor, TensorFile};
use lutmul::{Error, Granularity};
use serde_json::json;

use crate::format::{self, FormatArg};
use crate::model::Model;
use crate::{progress, table};

/// Code the linear weights of a safetensors file, and carry everything else over.
///
/// Coded are the 2-D tensors called *.weight in F32, F16 or BF16, but for embeddings, position tables
/// and norms.
#[derive(clap::Args)]
pub struct Args {
    /// The model: a safetensors file in F32, F16 or BF16, or a directory of one model.safetensors or of
    /// shards with an index
    model: PathBuf,
    /// The file to write, or for shards the directory to make (of them and index; nothing else is copied)
    out: PathBuf,
    #[arg(long, default_value = "qins-linear", help = format::help())]
    format: FormatArg,
    /// What shares a scale: tensor, row, group:N, or block:RxC
    #[arg(long, default_value = "row")]
    scales: Granularity,
    /// Code 2-D tensors whose name contains this, too (may be repeated)
    #[arg(long, value_name = "TEXT")]
    include: Vec<String>,
    /// Carry tensors whose name contains this over, whatever else is said (may be repeated)
    #[arg(long, value_name = "TEXT")]
    exclude: Vec<String>,
    /// Replace the output if it exists (a file, never a directory)
    #[arg(long)]
    force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Converts, and says what was done.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let format = self.format.load()?;
        let model = Model::open(&self.model)?;
        self.check_patterns(&model)?;
        let conversion = Conversion {
            format,
            granularity: self.scales,
            select: &|tensor| self.selects(tensor),
            overwrite: self.force,
        };
        progress::catch_interrupts();
        let bar = progress::bytes(model.files().iter().map(|file| file.size()).sum());
        let mut progress = |name: &str, bytes: usize| {
            bar.set_message(table::name(name));
            bar.inc(bytes as u64);
            let (path, why) = (self.out.display().to_string(), "interrupted".into());
            if progress::interrupted() { Err(Error::File { path, why }) } else { Ok(()) }
        };
        let summary = match &model {
            Model::File(file) => checkpoint::convert(file, &self.out, &conversion, &mut progress),
            Model::Shards(shards) => shards.convert(&self.out, &conversion, &mut progress),
        };
        bar.finish_and_clear();
        self.report(&summary?, out)
    }

    fn selects(&self, tensor: &Tensor<'_>) -> bool {
        let named_in = |list: &[String]| list.iter().any(|text| tensor.name.contains(text));
        (checkpoint::is_linear(tensor) || named_in(&self.include)) && !named_in(&self.exclude)
    }

    /// A pattern that means no tensor is a slip of the pen.
    fn check_patterns(&self, model: &Model) -> Result<()> {
        let lists = [("include", &self.include), ("exclude", &self.exclude)];
        for (option, text) in lists.iter().flat_map(|(o, list)| list.iter().map(move |t| (o, t))) {
            let mut tensors = model.files().into_iter().flat_map(TensorFile::tensors);
            let found = tensors.any(|tensor| tensor.name.contains(text));
            ensure!(found, "--{option} {text:?}: no tensor of {} has that", self.model.display());
        }
        Ok(())
    }

    fn report(&self, summary: &Summary, out: &mut dyn Write) -> Result<()> {
        let Summary { layers, carried, bytes_before, bytes_after, .. } = summary;
        let before = layers.iter().map(|layer| layer.bytes_before).sum();
        let after = layers.iter().map(|layer| layer.bytes_after).sum();
        if self.json {
            let layers: Vec<_> = layers
                .iter()
                .map(|coded| {
                    json!({
                        "name": coded.layer.name,
                        "tensor": coded.layer.tensor,
                        "dtype": coded.layer.dtype,
                        "n": coded.layer.n,
                        "k": coded.layer.k,
                        "bytes_before": coded.bytes_before,
                        "bytes_after": coded.bytes_after,
                    })
                })
                .collect();
            let summary = json!({
                "input": self.model.display().to_string(),
                "output": self.out.display().to_string(),
                "format": layers_format(summary),
                "scales": self.scales.to_string(),
                "layers": layers,
                "carried": carried,
                "bytes_before": bytes_before,
                "bytes_after": bytes_after,
            });
            writeln!(out, "{summary}")?;
            return Ok(());
        }
        writeln!(
            out,
            "{} layers coded as {} with scales per {}: {} → {}",
            layers.len(),
            layers_format(summary),
            self.scales,
            table::bytes(before),
            table::bytes(after),
        )?;
        writeln!(out, "{carried} other tensors carried over")?;
        writeln!(
            out,
            "{}: {} → {}: {}",
            self.model.display(),
            table::bytes(*bytes_before),
            self.out.display(),
            table::bytes(*bytes_after),
        )?;
        Ok(())
    }
}

/// The name of the format: there is one for all layers.
fn layers_format(summary: &Summary) -> &'static str {
    summary.layers.first().map_or("none", |coded| coded.layer.format.name())
}
