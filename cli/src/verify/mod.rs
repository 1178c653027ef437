//! `lutmul verify`: how far a converted model is from its original; whether weights are what is stored.

mod oracle;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use lutmul::checkpoint::show::{quoted, shape};
use lutmul::checkpoint::{Checkpoint, Dtype, Floats, Linear, Matrix, Other, Reason};
use lutmul::{Error, ErrorReport};
use serde::Serialize;
use serde_json::json;

use crate::product::{self, ProductError};
use crate::{progress, table};
use oracle::Oracle;

/// Compare a converted model with the one it was made from, or look at one model by itself.
///
/// Prints the errors of every layer's weights, and of products with Gaussian x against the original's in
/// f64; makes sure that all other tensors are the same. Weights that are codes of 8 bits, in either model, are decoded
/// by other people's code, too, and must be the same bit for bit.
#[derive(clap::Args)]
pub struct Args {
    /// The model that was converted: a safetensors file, or the folder of a Hugging Face model
    original: PathBuf,
    /// What it was converted to; without it, the one model's weights are decoded and compared with what is stored
    converted: Option<PathBuf>,
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
    format: String,
    scales: Option<String>,
    weights: WeightError,
    /// None of floats, whose products are not lutmul's.
    products: Option<ProductError>,
}

/// [`ErrorReport`], as it is printed.
#[derive(Clone, Serialize)]
struct WeightError {
    mean_abs: f64,
    max_abs: f64,
    rms: f64,
    sqnr_db: f64,
    share_at_ends: Option<f64>,
    codes_used: Option<usize>,
}

impl From<ErrorReport> for WeightError {
    fn from(report: ErrorReport) -> Self {
        let ErrorReport { mean_abs, max_abs, rms, sqnr_db, share_at_ends, codes_used, .. } = report;
        let (share_at_ends, codes_used) = (Some(share_at_ends), Some(codes_used));
        Self { mean_abs, max_abs, rms, sqnr_db, share_at_ends, codes_used }
    }
}

impl WeightError {
    /// Of floats that were rounded.
    fn of_floats(original: &[f32], rounded: &[f32]) -> Self {
        let (mut abs, mut max_abs, mut squares, mut signal) = (0.0, 0f64, 0.0, 0.0);
        for (w, rounded) in original.iter().zip(rounded) {
            let (w, error) = (f64::from(*w), (f64::from(*w) - f64::from(*rounded)).abs());
            (abs, max_abs) = (abs + error, max_abs.max(error));
            (squares, signal) = (squares + error * error, signal + w * w);
        }
        let count = original.len().max(1) as f64;
        let sqnr_db = 10.0 * (signal / squares).log10();
        let (mean_abs, rms) = (abs / count, (squares / count).sqrt());
        Self { mean_abs, max_abs, rms, sqnr_db, share_at_ends: None, codes_used: None }
    }
}

/// Where a matrix is: a tensor, and which matrix of how many in it.
type Place<'a> = (&'a str, Option<(usize, usize)>);

/// Two models, one made from the other.
struct Pair<'a> {
    original: &'a Checkpoint,
    converted: &'a Checkpoint,
    /// The matrices of the original, by tensor and part.
    linears: HashMap<Place<'a>, &'a Linear>,
    /// Its other tensors, by name.
    others: HashMap<&'a str, Other<'a>>,
    oracles: [Oracle; 2],
}

impl<'a> Pair<'a> {
    fn new(original: &'a Checkpoint, converted: &'a Checkpoint) -> Result<Self> {
        let linears = original.linears().iter();
        let linears = linears.map(|l| ((l.tensor.as_str(), l.part), l)).collect();
        let others = original.others().map(|other| (other.name, other)).collect();
        let oracles = [Oracle::open(original)?, Oracle::open(converted)?];
        Ok(Self { original, converted, linears, others, oracles })
    }

    /// The weights that a layer was made from, as f32.
    fn source(&self, layer: &Linear, exact: &mut usize) -> Result<Vec<f32>> {
        let from = self.original.path().display();
        let (tensor, called) = (quoted(&layer.tensor), quoted(&layer.name));
        let (n, k) = layer.shape;
        if let Some(linear) = self.linears.get(&(layer.tensor.as_str(), layer.part)) {
            ensure!(
                linear.shape == layer.shape,
                "{from}: tensor {tensor} is of shape {}, but layer {called} is {n}×{k}",
                shape(&[linear.shape.0, linear.shape.1])
            );
            let values = decode(self.original, linear)?;
            *exact += usize::from(self.oracles[0].check(linear, &values)?);
            return Ok(values);
        }
        let other = self.others.get(layer.tensor.as_str()).with_context(|| {
            format!("{from}: no tensor {tensor}, which layer {called} should be made from")
        })?;
        ensure!(
            other.shape == [n, k],
            "{from}: tensor {tensor} is of shape {}, but layer {called} is {n}×{k}",
            shape(other.shape)
        );
        let dtype = other.dtype;
        ensure!(
            matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16),
            "{from}: tensor {tensor} is {dtype}, not F32, F16 or BF16"
        );
        let floats = Floats::new(layer.shape, dtype, self.original.bytes(other)?)?;
        let values = floats.to_f32().into_owned();
        check_finite(&values, k, || format!("{from}: tensor {tensor}"))?;
        Ok(values)
    }

    fn row(&self, layer: &Linear, seed: u64, exact: &mut usize) -> Result<Row> {
        let values = self.source(layer, exact)?;
        let decoded = decode(self.converted, layer)?;
        *exact += usize::from(self.oracles[1].check(layer, &decoded)?);
        let to = || format!("{}: layer {}", self.converted.path().display(), quoted(&layer.name));
        let (weights, products) = match self.converted.matrix(layer)? {
            Matrix::Coded(weights) => {
                let report = weights.error_report(&values).with_context(to)?;
                (report.into(), Some(product::error(&values, &weights, seed)?))
            }
            _ => (WeightError::of_floats(&values, &decoded), None),
        };
        let coding = layer.coding.as_ref();
        Ok(Row {
            name: layer.name.clone(),
            n: layer.shape.0,
            k: layer.shape.1,
            format: coding.map_or_else(|| layer.dtype.to_lowercase(), |c| c.format.to_string()),
            scales: coding.map(|coding| coding.granularity.to_string()),
            weights,
            products,
        })
    }

    /// Whether a layer is what it was: it need not be compared as one that was converted.
    fn is_same(&self, layer: &Linear) -> Result<bool> {
        let Some(linear) = self.linears.get(&(layer.tensor.as_str(), layer.part)) else {
            return Ok(false);
        };
        if (linear.shape, linear.dtype, &linear.coding) != (layer.shape, layer.dtype, &layer.coding)
        {
            return Ok(false);
        }
        Ok(match (self.original.matrix(linear)?, self.converted.matrix(layer)?) {
            (Matrix::Floats(a), Matrix::Floats(b)) => a.bytes() == b.bytes(),
            (Matrix::Coded(a), Matrix::Coded(b)) => {
                a.codes() == b.codes()
                    && a.signs() == b.signs()
                    && a.scales() == b.scales()
                    && a.lut() == b.lut()
            }
            _ => false,
        })
    }

    /// Every tensor of the original must be in the converted model: converted, or the same.
    fn check_carried(&self) -> Result<usize> {
        let (from, to) = (self.original.path().display(), self.converted.path().display());
        let mut carried = HashSet::new();
        for tensor in self.converted.others() {
            let name = quoted(tensor.name);
            let source = self.others.get(tensor.name);
            let source = source.with_context(|| format!("{from}: no tensor {name}, as in {to}"))?;
            ensure!(
                (source.dtype, source.shape) == (tensor.dtype, tensor.shape),
                "{to}: tensor {name} is {} of shape {}, but in {from} it is {} of shape {}",
                tensor.dtype,
                shape(tensor.shape),
                source.dtype,
                shape(source.shape)
            );
            let (a, b) = (self.original.bytes(source)?, self.converted.bytes(&tensor)?);
            if let Some(i) = a.iter().zip(&b[..]).position(|(a, b)| a != b) {
                bail!(
                    "{to}: tensor {name} was not converted, but differs from {from} at its byte {i}"
                );
            }
            carried.insert(tensor.name.to_owned());
        }
        let layers = self.converted.linears().iter();
        let layers: HashSet<_> = layers.map(|l| (l.tensor.as_str(), l.part)).collect();
        for (tensor, part) in self.linears.keys() {
            let found = layers.contains(&(tensor, *part));
            ensure!(found, "{to}: tensor {} of {from} is missing", quoted(tensor));
        }
        for (name, other) in &self.others {
            let found = carried.contains(*name)
                || layers.contains(&(name, None))
                || other.reason == Reason::ActivationScale;
            ensure!(found, "{to}: tensor {} of {from} is missing", quoted(name));
        }
        Ok(carried.len())
    }
}

/// The weights of a layer as f32, all of them finite.
fn decode(model: &Checkpoint, linear: &Linear) -> Result<Vec<f32>> {
    let matrix = model.matrix(linear)?;
    let path = model.path().display();
    let called = || match linear.coding {
        Some(_) => format!("{path}: layer {}", quoted(&linear.name)),
        None => format!("{path}: tensor {}", quoted(&linear.tensor)),
    };
    let values = matrix.to_f32().with_context(called)?.into_owned();
    check_finite(&values, linear.shape.1, called)?;
    Ok(values)
}

fn check_finite(values: &[f32], k: usize, what: impl Fn() -> String) -> Result<()> {
    if let Some(i) = values.iter().position(|w| !w.is_finite()) {
        bail!(Error::NonFinite { what: what(), row: i / k, col: i % k, value: values[i] });
    }
    Ok(())
}

impl Row {
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
            self.products.as_ref().map_or("-".into(), |products| small(products.rms)),
            self.products.as_ref().map_or("-".into(), |products| db(products.sqnr_db)),
        ]
    }
}

/// The heads of [`Row::cells`].
const HEAD: [&str; 8] =
    ["layer", "shape", "mean |e|", "max |e|", "rms e", "SQNR dB", "x·W rms e", "SQNR dB"];

impl Args {
    /// Compares.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let original = Checkpoint::open(&self.original)?;
        let Some(converted) = &self.converted else { return self.one(&original, out) };
        let converted = Checkpoint::open(converted)?;
        let pair = Pair::new(&original, &converted)?;
        let carried = pair.check_carried()?;
        let bar = progress::bytes(converted.linears().iter().map(|layer| layer.bytes).sum());
        let (mut rows, mut same, mut exact) = (Vec::new(), 0, 0);
        for layer in converted.linears() {
            bar.set_message(table::name(&layer.name));
            if pair.is_same(layer)? {
                same += 1;
            } else {
                rows.push(pair.row(layer, self.seed, &mut exact)?);
            }
            bar.inc(layer.bytes as u64);
        }
        bar.finish_and_clear();

        let mut worst = rows.clone();
        worst.sort_by(|a, b| a.weights.sqnr_db.total_cmp(&b.weights.sqnr_db));
        worst.truncate(self.worst);
        self.report(&rows, &worst, [carried, same, exact], out)?;
        self.check_sqnr(&worst)
    }

    /// One model by itself.
    fn one(&self, model: &Checkpoint, out: &mut dyn Write) -> Result<()> {
        let oracle = Oracle::open(model)?;
        let bar = progress::bytes(model.linears().iter().map(|layer| layer.bytes).sum());
        let mut exact = 0;
        for layer in model.linears() {
            bar.set_message(table::name(&layer.name));
            exact += usize::from(oracle.check(layer, &decode(model, layer)?)?);
            bar.inc(layer.bytes as u64);
        }
        bar.finish_and_clear();
        let layers = model.linears().len();
        if self.json {
            let model = self.original.display().to_string();
            let object = json!({ "model": model, "layers": layers, "oracle_identical": exact });
            writeln!(out, "{object}")?;
        } else {
            writeln!(out, "{layers} layers: all weights are finite")?;
            writeln!(
                out,
                "{exact} of them are codes, and decoded as by the crates float8 and half"
            )?;
        }
        Ok(())
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
        [carried, same, exact]: [usize; 3],
        out: &mut dyn Write,
    ) -> Result<()> {
        let mean = |of: fn(&Row) -> f64| {
            let finite = rows.iter().map(of).filter(|db| db.is_finite());
            let (sum, count) = finite.fold((0.0, 0), |(sum, n), db| (sum + db, n + 1));
            (count > 0).then(|| sum / f64::from(count))
        };
        let weights = mean(|row| row.weights.sqnr_db);
        let products = mean(|row| row.products.as_ref().map_or(f64::NAN, |p| p.sqnr_db));
        if self.json {
            let worst: Vec<_> = worst.iter().map(|row| &row.name).collect();
            let object = json!({
                "original": self.original.display().to_string(),
                "converted": self.converted.as_ref().map(|path| path.display().to_string()),
                "layers": rows,
                "worst": worst,
                "mean_sqnr_db": { "weights": weights, "products": products },
                "carried_identical": carried,
                "layers_identical": same,
                "oracle_identical": exact,
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
        if same > 0 {
            writeln!(out, "{same} layers: not converted, identical")?;
        }
        writeln!(
            out,
            "{exact} times a layer of codes was decoded as by the crates float8 and half"
        )?;
        Ok(())
    }
}
