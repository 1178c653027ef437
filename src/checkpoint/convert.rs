//! From a safetensors file to one of lutmul's own.

use std::path::Path;

use safetensors::tensor::Dtype;

use super::header::Entry;
use super::layers::{Checkpoint, Layer, Record};
use super::tensors::{Tensor, TensorFile};
use super::write::Writer;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::scales::Granularity;
use crate::show::quoted;
use crate::weights::Weights;
use half::{bf16, f16};

/// What is wrong with a model without linears.
pub(super) const NOTHING: &str = "has no 2-D weights in F32, F16 or BF16 to code";

/// How to convert a file.
#[derive(Clone)]
pub struct Conversion<'a> {
    /// The format of the codes.
    pub format: Format,
    /// What each scale covers.
    pub granularity: Granularity,
    /// Which tensors to code, of those with two dimensions in F32, F16 or BF16: [`is_linear`], say.
    pub select: &'a dyn Fn(&Tensor<'_>) -> bool,
    /// Whether a file at the output's path may be replaced.
    pub overwrite: bool,
}

/// What a conversion did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// The layers that were coded.
    pub layers: Vec<CodedLayer>,
    /// How many tensors were carried over.
    pub carried: usize,
    /// Bytes of the input file.
    pub bytes_before: usize,
    /// Bytes of the output file.
    pub bytes_after: usize,
}

/// A layer that was coded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CodedLayer {
    /// What it is now.
    pub layer: Layer,
    /// Bytes of the original tensor.
    pub bytes_before: usize,
    /// Bytes of codes, signs, table and scales.
    pub bytes_after: usize,
}

/// Whether a tensor is, by its name and shape, the weight of a linear layer.
///
/// These are the 2-D tensors called `….weight`, but for embeddings, position tables and norms, which
/// are looked up or multiplied elementwise.
pub fn is_linear(tensor: &Tensor<'_>) -> bool {
    const OTHERS: [&str; 6] =
        ["embed", "wte", "wpe", "norm", "position", "relative_attention_bias"];
    let name = tensor.name.to_lowercase();
    tensor.shape.len() == 2
        && (name == "weight" || name.ends_with(".weight"))
        && !OTHERS.iter().any(|other| name.contains(other))
}

/// Codes the selected weights of a safetensors file, and carries everything else over.
///
/// One tensor is in memory at a time. The output appears under its name when it is whole and on disk;
/// after an error there is no trace of it. `progress` is told of every tensor done and how many bytes
/// of the input that was; an error of its own stops the conversion.
///
/// # Errors
/// An output that exists, cannot be written or is the input; an input that is a lutmul file or has
/// nothing to code; names that would clash; what [`Weights::encode`] refuses.
pub fn convert(
    input: &TensorFile,
    output: &Path,
    conversion: &Conversion<'_>,
    progress: &mut dyn FnMut(&str, usize) -> Result<()>,
) -> Result<Summary> {
    if let (Ok(from), Ok(to)) = (input.path().canonicalize(), output.canonicalize())
        && from == to
    {
        return Err(Error::file(output, "is the input as well as the output"));
    }
    convert_file(input, output, conversion, progress, true)
}

/// Converts a file, which may be a shard that has nothing to code.
pub(super) fn convert_file(
    input: &TensorFile,
    output: &Path,
    conversion: &Conversion<'_>,
    progress: &mut dyn FnMut(&str, usize) -> Result<()>,
    must_code: bool,
) -> Result<Summary> {
    let Conversion { format, granularity, select, overwrite } = conversion;
    if Checkpoint::recognises(input) {
        return Err(Error::file(input.path(), "is a lutmul file already"));
    }
    let layers: Vec<Option<Layer>> = input
        .tensors()
        .map(|t| {
            coded(&t).filter(|_| select(&t)).map(|shape| plan(&t, shape, format, *granularity))
        })
        .collect();
    if must_code && layers.iter().all(Option::is_none) {
        return Err(Error::file(input.path(), NOTHING));
    }
    let mut record = Record::new();
    let mut tensors = Vec::new();
    for (tensor, layer) in input.tensors().zip(&layers) {
        match layer {
            None => tensors.push(Entry::new(tensor.name, tensor.dtype, tensor.shape)),
            Some(layer) => {
                record.layers.insert(layer.name.clone(), layer.record());
                tensors.extend(layer.parts());
            }
        }
    }
    let mut metadata = input.metadata().clone();
    metadata.extend([record.to_metadata()]);

    let mut writer = Writer::create(output, tensors, metadata, *overwrite)?;
    let mut summary = Summary {
        layers: Vec::new(),
        carried: 0,
        bytes_before: input.size(),
        bytes_after: writer.size(),
    };
    for (tensor, layer) in input.tensors().zip(layers) {
        match layer {
            None => {
                writer.write(tensor.name, tensor.bytes)?;
                summary.carried += 1;
            }
            Some(layer) => {
                let weights = encode(&tensor, &layer).map_err(|e| within(input, &tensor, e))?;
                write_layer(&mut writer, &layer, &weights)?;
                let (bytes_before, bytes_after) = (tensor.bytes.len(), weights.bytes());
                summary.layers.push(CodedLayer { layer, bytes_before, bytes_after });
            }
        }
        progress(tensor.name, tensor.bytes.len())?;
    }
    writer.finish()?;
    Ok(summary)
}

/// The shape of a tensor that can be coded.
fn coded(tensor: &Tensor<'_>) -> Option<(usize, usize)> {
    let float = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    match *tensor.shape {
        [n, k] if float => Some((n, k)),
        _ => None,
    }
}

/// What a tensor will be.
fn plan(
    tensor: &Tensor<'_>,
    (n, k): (usize, usize),
    format: &Format,
    granularity: Granularity,
) -> Layer {
    let name = tensor.name.strip_suffix(".weight").unwrap_or(tensor.name).to_owned();
    let (format, signs) = (format.clone(), format.has_signs());
    Layer {
        name,
        tensor: tensor.name.into(),
        dtype: tensor.dtype,
        n,
        k,
        format,
        granularity,
        signs,
    }
}

fn encode(tensor: &Tensor<'_>, layer: &Layer) -> Result<Weights<'static>> {
    fn of<T: Element>(tensor: &Tensor<'_>, layer: &Layer) -> Result<Weights<'static>> {
        let values = tensor.values::<T>().expect("its type was looked at");
        Weights::encode(&values, (layer.n, layer.k), &layer.format, layer.granularity)
    }
    match tensor.dtype {
        Dtype::F16 => of::<f16>(tensor, layer),
        Dtype::BF16 => of::<bf16>(tensor, layer),
        _ => of::<f32>(tensor, layer),
    }
}

fn write_layer(writer: &mut Writer, layer: &Layer, weights: &Weights<'_>) -> Result<()> {
    let name = &layer.name;
    let floats =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    writer.write(&format!("{name}.codes"), weights.codes())?;
    writer.write(&format!("{name}.table"), &floats(weights.lut().values()))?;
    writer.write(&format!("{name}.scales"), &floats(weights.scales().values()))?;
    weights.signs().map_or(Ok(()), |signs| writer.write(&format!("{name}.signs"), signs))
}

/// Says in which tensor of which file something is wrong.
fn within(input: &TensorFile, tensor: &Tensor<'_>, error: Error) -> Error {
    let why = match error {
        Error::NonFinite { row, col, value, .. } => format!("{value} at row {row}, column {col}"),
        other => other.to_string(),
    };
    Error::file(input.path(), format!("tensor {}: {why}", quoted(tensor.name)))
}
