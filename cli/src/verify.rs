//! `lutmul verify`: how far a converted file is from its original.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lutmul::checkpoint::show::{quoted, shape};
use lutmul::checkpoint::{Checkpoint, Layer, TensorFile};
use lutmul::{Error, ErrorReport};
use serde::Serialize;
use serde_json::json;

use crate::model::Model;
use crate::product::{self, ProductError};
use crate::{progress, table};

/// Compare a lutmul file with the file it was made from.
///
/// Prints the errors of every layer's weights, and of products with Gaussian x against the original's in
/// f64; makes sure that all other tensors are the same.
#[derive(clap::Args)]
pub struct Args {
    /// The safetensors file that was converted, or the directory of shards
    original: PathBuf,
    /// The lutmul file, or the directory of shards
    converted: PathBuf,
    /// Fail if a layer's weights have a lower SQNR, in dB
    #[arg(long, value_name = "DB")]
    min_sqnr: Option<f64>,
    /// How many of the worst layers to list
    #[arg(long, default_value_t = 5)]
    worst: usize,
    /// The seed of x
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A layer's errors.
#[derive(Clone, Serialize)]
struct Row {
    name: String,
    n: usize,
    k: usize,
    format: &'static str,
    scales: String,
    weights: WeightError,
    products: ProductError,
}

/// [`ErrorReport`], as it is printed.
#[derive(Clone, Serialize)]
struct WeightError {
    mean_abs: f64,
    max_abs: f64,
    rms: f64,
    sqnr_db: f64,
    share_at_ends: f64,
    codes_used: usize,
}

impl From<ErrorReport> for WeightError {
    fn from(report: ErrorReport) -> Self {
        let ErrorReport { mean_abs, max_abs, rms, sqnr_db, share_at_ends, codes_used, .. } = report;
        Self { mean_abs, max_abs, rms, sqnr_db, share_at_ends, codes_used }
    }
}

impl Row {
    fn new(
        original: &TensorFile,
        converted: &Checkpoint,
        layer: &Layer,
        seed: u64,
    ) -> Result<Self> {
        let Layer { name, tensor, n, k, .. } = layer;
        let from = original.path().display();
        let source = original.tensor(tensor);
        let (tensor, called) = (quoted(tensor), quoted(name));
        let source = source.with_context(|| {
            format!("{from}: no tensor {tensor}, which layer {called} should be made from")
        })?;
        ensure!(
            source.shape == [*n, *k],
            "{from}: tensor {tensor} is of shape {}, but layer {called} is {n}×{k}",
            shape(source.shape)
        );
        let values = source.to_f32().with_context(|| {
            format!("{from}: tensor {tensor} is {}, not F32, F16 or BF16", source.dtype)
        })?;
        if let Some(i) = values.iter().position(|w| !w.is_finite()) {
            let (what, value) = (format!("{from}: tensor {tensor}"), values[i]);
            bail!(Error::NonFinite { what, row: i / k, col: i % k, value });
        }
        let weights = converted.weights(layer)?;
        let to = || format!("{}: layer {called}", converted.file().path().display());
        weights.prepare().with_context(to)?;
        Ok(Self {
            name: name.clone(),
            n: *n,
            k: *k,
            format: layer.format.name(),
            scales: layer.granularity.to_string(),
            weights: weights.error_report(&values).with_context(to)?.into(),
            products: product::error(&values, &weights, seed)?,
        })
    }

    fn cells(&self) -> [String; 8] {
        let WeightError { mean_abs, max_abs, rms, sqnr_db, .. } = self.weights;
        let small = |x: f64| format!("{x:.2e}");
        // A layer of zeros has an SQNR too: of −∞ if they are not zeros any more.
        let exact = |db: f64| db.is_nan() || db == f64::INFINITY;
        let db = |db: f64| if exact(db) { "exact".into() } else { format!("{db:.1}") };
        [
            table::name(&self.name),
            format!("{}×{}", self.n, self.k),
            small(mean_abs),
            small(max_abs),
            small(rms),
            db(sqnr_db),
            small(self.products.rms),
            db(self.products.sqnr_db),
        ]
    }
}

/// The heads of [`Row::cells`].
const HEAD: [&str; 8] =
    ["layer", "shape", "mean |e|", "max |e|", "rms e", "SQNR dB", "x·W rms e", "SQNR dB"];

impl Args {
    /// Compares.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let (original, converted) = (Model::open(&self.original)?, Model::open(&self.converted)?);
        let pairs = self.pairs(&original, &converted)?;
        let layers = || pairs.iter().flat_map(|(_, converted)| converted.layers());
        let bar = progress::bytes(layers().map(|layer| 4 * (layer.n * layer.k)).sum());
        let (mut rows, mut carried) = (Vec::new(), 0);
        for (original, converted) in &pairs {
            carried += check_carried(original, converted)?;
            for layer in converted.layers() {
                bar.set_message(table::name(&layer.name));
                rows.push(Row::new(original, converted, layer, self.seed)?);
                bar.inc(4 * (layer.n * layer.k) as u64);
            }
        }
        bar.finish_and_clear();

        let mut worst = rows.clone();
        worst.sort_by(|a, b| a.weights.sqnr_db.total_cmp(&b.weights.sqnr_db));
        worst.truncate(self.worst);
        self.report(&rows, &worst, carried, out)?;
        self.check_sqnr(&worst)
    }

    /// The file, or every shard, with what it was converted to.
    fn pairs<'a>(
        &self,
        original: &'a Model,
        converted: &Model,
    ) -> Result<Vec<(&'a TensorFile, Checkpoint)>> {
        let (from, to) = (original.files(), converted.files());
        if let (Model::File(from), Model::File(to)) = (original, converted) {
            return Ok(vec![(from, Checkpoint::new(to.clone())?)]);
        }
        let missing = |file: &TensorFile, directory: &Path| {
            let (file, directory) = (file.path().display(), directory.display());
            format!("{directory}: has no counterpart of {file}")
        };
        let same = |a: &TensorFile, b: &TensorFile| a.path().file_name() == b.path().file_name();
        if let Some(file) = to.iter().find(|to| !from.iter().any(|from| same(from, to))) {
            bail!(missing(file, &self.original));
        }
        let pair = |from: &'a TensorFile| {
            let to = to.iter().find(|to| same(from, to));
            let to = to.with_context(|| missing(from, &self.converted))?;
            Ok((from, Checkpoint::new((*to).clone())?))
        };
        from.into_iter().map(pair).collect()
    }

    fn check_sqnr(&self, worst: &[Row]) -> Result<()> {
        if let (Some(least), Some(row)) = (self.min_sqnr, worst.first()) {
            let (name, found) = (quoted(&row.name), row.weights.sqnr_db);
            ensure!(found >= least, "layer {name}: SQNR of {found:.1} dB, less than {least}");
        }
        Ok(())
    }

    fn report(
        &self,
        rows: &[Row],
        worst: &[Row],
        carried: usize,
        out: &mut dyn Write,
    ) -> Result<()> {
        let mean = |of: fn(&Row) -> f64| {
            let finite = rows.iter().map(of).filter(|db| db.is_finite());
            let (sum, count) = finite.fold((0.0, 0), |(sum, n), db| (sum + db, n + 1));
            (count > 0).then(|| sum / f64::from(count))
        };
        let weights = mean(|row| row.weights.sqnr_db);
        let products = mean(|row| row.products.sqnr_db);
        if self.json {
            let worst: Vec<_> = worst.iter().map(|row| &row.name).collect();
            let object = json!({
                "original": self.original.display().to_string(),
                "converted": self.converted.display().to_string(),
                "layers": rows,
                "worst": worst,
                "mean_sqnr_db": { "weights": weights, "products": products },
                "carried_identical": carried,
                "tokens": product::TOKENS,
                "seed": self.seed,
            });
            writeln!(out, "{object}")?;
            return Ok(());
        }
        let cells = |rows: &[Row]| -> Vec<_> { rows.iter().map(Row::cells).collect() };
        table::write(out, &HEAD, &cells(rows))?;
        if rows.len() > worst.len() {
            writeln!(out, "\nworst")?;
            table::write(out, &HEAD, &cells(worst))?;
        }
        let db = |db: Option<f64>| db.map_or("exact".into(), |db| format!("{db:.1} dB"));
        writeln!(
            out,
            "\n{} layers: mean SQNR of weights {}, of products with {} Gaussian tokens {}",
            rows.len(),
            db(weights),
            product::TOKENS,
            db(products),
        )?;
        writeln!(out, "{carried} other tensors: identical")?;
        Ok(())
    }
}

/// Every tensor of the original must be in the converted file: coded, or the same.
fn check_carried(original: &TensorFile, converted: &Checkpoint) -> Result<usize> {
    let (from, to) = (original.path().display(), converted.file().path().display());
    let mut carried = 0;
    for tensor in converted.carried() {
        let (name, source) = (quoted(tensor.name), original.tensor(tensor.name));
        let source = source.with_context(|| format!("{from}: no tensor {name}, as in {to}"))?;
        ensure!(
            (source.dtype, source.shape) == (tensor.dtype, tensor.shape),
            "{to}: tensor {name} is {} of shape {}, but in {from} it is {} of shape {}",
            tensor.dtype,
            shape(tensor.shape),
            source.dtype,
            shape(source.shape)
        );
        let differ = source.bytes.iter().zip(tensor.bytes).position(|(a, b)| a != b);
        if let Some(i) = differ {
            bail!("{to}: tensor {name} was not coded, but differs from {from} at its byte {i}");
        }
        carried += 1;
    }
    let coded: HashSet<_> = converted.layers().iter().map(|l| l.tensor.as_str()).collect();
    for tensor in original.tensors() {
        let name = tensor.name;
        let found = converted.file().tensor(name).is_some() || coded.contains(name);
        ensure!(found, "{to}: tensor {} of {from} is missing", quoted(name));
    }
    Ok(carried)
}
