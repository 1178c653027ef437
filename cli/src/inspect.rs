//! `lutmul inspect`: what a file holds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use lutmul::checkpoint::{Checkpoint, Dtype, Tensor, TensorFile, show};
use serde::Serialize;
use serde_json::json;

use crate::model::Model;
use crate::table;

/// Show the layers of a lutmul file, or the tensors of any safetensors file, and their sizes.
#[derive(clap::Args)]
pub struct Args {
    /// The file, or a directory of one model.safetensors or of shards with an index
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A layer, as it is shown.
#[derive(Serialize)]
struct Row {
    name: String,
    tensor: String,
    dtype: String,
    n: usize,
    k: usize,
    format: &'static str,
    scales: String,
    bits_per_weight: f64,
    bytes: usize,
}

/// Sizes of some tensors as they are, and if their weights were f32 or bf16.
#[derive(Clone, Copy, Default, Serialize)]
struct Size {
    bytes: usize,
    bytes_f32: usize,
    bytes_bf16: usize,
}

impl Size {
    /// The size of a tensor: only floating point types would be other ones.
    fn of(tensor: &Tensor<'_>) -> Self {
        let bytes = tensor.bytes.len();
        let floats = match tensor.dtype {
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
    /// Shows the file.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let model = Model::open(&self.file)?;
        let files = model.files();
        if files.iter().any(|file| Checkpoint::recognises(file)) {
            let open = |file: &&TensorFile| Checkpoint::new((*file).clone());
            let checkpoints = files.iter().map(open).collect::<lutmul::Result<Vec<_>>>()?;
            self.layers(&checkpoints, out)
        } else {
            self.tensors(&files, out)
        }
    }

    fn layers(&self, checkpoints: &[Checkpoint], out: &mut dyn Write) -> Result<()> {
        let mut rows = Vec::new();
        for (checkpoint, layer) in
            checkpoints.iter().flat_map(|c| c.layers().iter().map(move |layer| (c, layer)))
        {
            // Looks at the scales, so that a faulty one is found here and not by the first product.
            let bytes = checkpoint.weights(layer)?.bytes();
            rows.push(Row {
                name: layer.name.clone(),
                tensor: layer.tensor.clone(),
                dtype: layer.dtype.to_string(),
                n: layer.n,
                k: layer.k,
                format: layer.format.name(),
                scales: layer.granularity.to_string(),
                bits_per_weight: 8.0 * bytes as f64 / (layer.n * layer.k).max(1) as f64,
                bytes,
            });
        }
        let coded = Size::sum(rows.iter().map(|row| {
            let weights = row.n * row.k;
            Size { bytes: row.bytes, bytes_f32: 4 * weights, bytes_bf16: 2 * weights }
        }));
        let carried: Vec<Size> =
            checkpoints.iter().flat_map(Checkpoint::carried).map(|t| Size::of(&t)).collect();
        let (others, carried) = (carried.len(), Size::sum(carried.into_iter()));
        let all = Size::sum([coded, carried].into_iter());
        let files: Vec<_> = checkpoints.iter().map(Checkpoint::file).collect();
        if self.json {
            let object = json!({
                "file": self.file.display().to_string(),
                "kind": "lutmul",
                "layers": rows,
                "coded": coded,
                "carried_tensors": others,
                "carried": carried,
                "total": all,
                "file_bytes": file_bytes(&files),
                "metadata": metadata(&files),
            });
            writeln!(out, "{object}")?;
            return Ok(());
        }
        let head = ["layer", "shape", "format", "scales", "bits/weight", "size"];
        let lines: Vec<[String; 6]> = rows
            .iter()
            .map(|row| {
                let (shape, bits) = (format!("{}×{}", row.n, row.k), row.bits_per_weight);
                let (format, scales) = (row.format.into(), row.scales.clone());
                let (bits, size) = (format!("{bits:.3}"), table::bytes(row.bytes));
                [table::name(&row.name), shape, format, scales, bits, size]
            })
            .collect();
        table::write(out, &head, &lines)?;
        writeln!(out)?;
        let totals = [
            coded.row(format!("{} layers coded", rows.len())),
            carried.row(format!("{others} other tensors")),
            all.row("all".into()),
        ];
        table::write(out, &TOTALS, &totals)?;
        Ok(())
    }

    fn tensors(&self, files: &[&TensorFile], out: &mut dyn Write) -> Result<()> {
        let tensors = || files.iter().flat_map(|file| file.tensors());
        let total = Size::sum(tensors().map(|t| Size::of(&t)));
        if self.json {
            let tensors: Vec<_> = tensors()
                .map(|t| {
                    let bytes = t.bytes.len();
                    json!({ "name": t.name, "dtype": t.dtype, "shape": t.shape, "bytes": bytes })
                })
                .collect();
            let object = json!({
                "file": self.file.display().to_string(),
                "kind": "safetensors",
                "tensors": tensors,
                "total": total,
                "file_bytes": file_bytes(files),
                "metadata": metadata(files),
            });
            writeln!(out, "{object}")?;
            return Ok(());
        }
        let lines: Vec<[String; 4]> = tensors()
            .map(|t| {
                let shape = show::sizes(t.shape, "×");
                let size = table::bytes(t.bytes.len());
                [table::name(t.name), t.dtype.to_string(), shape, size]
            })
            .collect();
        table::write(out, &["tensor", "dtype", "shape", "size"], &lines)?;
        writeln!(out)?;
        table::write(out, &TOTALS, &[total.row(format!("{} tensors", lines.len()))])?;
        Ok(())
    }
}

fn file_bytes(files: &[&TensorFile]) -> usize {
    files.iter().map(|file| file.size()).sum()
}

/// The metadata of a file; shards have each their own, which are not shown.
fn metadata<'a>(files: &[&'a TensorFile]) -> Option<&'a BTreeMap<String, String>> {
    match files {
        [file] => Some(file.metadata()),
        _ => None,
    }
}
