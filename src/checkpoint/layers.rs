//! lutmul's own files: what their metadata says, and their layers as weights.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::header::Entry;
use super::tensors::{Tensor, TensorFile};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::lut::Lut;
use crate::scales::{Granularity, Scales};
use crate::show::{self, message, quoted};
use crate::weights::{Weights, sign_stride};

/// The version of the files that this library writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// The key of the file's metadata that makes it a lutmul file.
const KEY: &str = "lutmul";

/// What stands under that key.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub layers: BTreeMap<String, LayerRecord>,
}

/// What it says of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub tensor: String,
    pub dtype: Dtype,
    pub shape: (usize, usize),
    pub format: String,
    pub scales: String,
    pub signs: bool,
}

impl Record {
    pub fn new() -> Self {
        Self { version: VERSION, layers: BTreeMap::new() }
    }

    /// The record as an entry of a file's metadata.
    pub fn to_metadata(&self) -> (String, String) {
        let json = serde_json::to_string(self).expect("strings and numbers can be written");
        (KEY.into(), json)
    }

    fn parse(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let invalid = |e| format!("its metadata \"{KEY}\" is not valid: {}", message(e));
        let Versioned { version } = serde_json::from_str(json).map_err(invalid)?;
        if version != VERSION {
            return Err(format!("is of version {version}; this lutmul reads version {VERSION}"));
        }
        serde_json::from_str(json).map_err(invalid)
    }
}

/// A layer of a [`Checkpoint`]: what its weights are, without reading them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layer {
    /// Its name: that of the original tensor without `.weight`.
    pub name: String,
    /// The name of the original tensor.
    pub tensor: String,
    /// The type that the original's elements had.
    pub dtype: Dtype,
    /// Out features: rows.
    pub n: usize,
    /// In features: columns.
    pub k: usize,
    /// The format of the codes.
    pub format: Format,
    /// What each scale covers.
    pub granularity: Granularity,
    /// Whether it has a sign plane.
    pub signs: bool,
}

impl Layer {
    /// The tensors of the layer, with their types and shapes.
    pub(super) fn parts(&self) -> Vec<Entry> {
        let Self { name, n, k, .. } = self;
        let (rows, cols) = self.granularity.grid((*n, *k));
        let scales = match self.granularity {
            Granularity::Tensor => vec![],
            Granularity::Row => vec![rows * cols],
            Granularity::Group(_) | Granularity::Block(..) => vec![rows, cols],
        };
        let mut parts = vec![
            Entry::new(format!("{name}.codes"), Dtype::U8, &[*n, *k]),
            Entry::new(format!("{name}.table"), Dtype::F32, &[256]),
            Entry::new(format!("{name}.scales"), Dtype::F32, &scales),
        ];
        if self.signs {
            parts.push(Entry::new(format!("{name}.signs"), Dtype::U8, &[*n, sign_stride(*k)]));
        }
        parts
    }

    /// What the metadata says of it.
    pub(super) fn record(&self) -> LayerRecord {
        LayerRecord {
            tensor: self.tensor.clone(),
            dtype: self.dtype,
            shape: (self.n, self.k),
            format: self.format.to_string(),
            scales: self.granularity.to_string(),
            signs: self.signs,
        }
    }

    /// Checks what the metadata says of a layer against the tensors that are there.
    fn read(file: &TensorFile, name: &str, record: LayerRecord) -> Result<Self> {
        let LayerRecord { tensor, dtype, shape: (n, k), format, scales, signs } = record;
        let granularity: Granularity = scales.parse()?;
        let named: Option<Format> = (format != "table").then(|| format.parse()).transpose()?;
        // Its table is not needed to know which tensors there must be; it is read next.
        let format = named.clone().unwrap_or(Format::Table(Lut::int8()));
        if named.is_some() && format.has_signs() != signs {
            let why = format!("\"signs\" is {signs}, which is not what {format} has");
            return Err(Error::invalid("metadata", why));
        }
        let name = name.to_owned();
        let mut layer = Self { name, tensor, dtype, n, k, format, granularity, signs };
        for part in layer.parts() {
            let missing = || Error::invalid(format!("tensor {}", quoted(&part.name)), "is missing");
            let found = file.tensor(&part.name).ok_or_else(missing)?;
            // Rows without columns had scales once (`Scales::new`).
            let former =
                k == 0 && granularity == Granularity::Row && part.name.ends_with(".scales");
            let same_shape = found.shape == part.shape || (former && found.shape == [n]);
            if found.dtype != part.dtype || !same_shape {
                return Err(Error::invalid(
                    format!("tensor {}", quoted(&part.name)),
                    format!(
                        "is {} of shape {}, but {} of shape {} is what an {n}×{k} layer in {} \
                         with scales per {} needs",
                        found.dtype,
                        show::shape(found.shape),
                        part.dtype,
                        show::shape(&part.shape),
                        layer.format,
                        layer.granularity
                    ),
                ));
            }
        }
        let lut = layer.lut(file)?;
        if named.is_none() {
            layer.format = Format::Table(lut);
        }
        Ok(layer)
    }

    /// The table. Whether it is there, and of 256 f32, was checked when the file was opened.
    fn lut(&self, file: &TensorFile) -> Result<Lut> {
        Lut::new(self.floats(file, "table")?.as_slice().try_into().expect("256 entries"))
    }

    /// A tensor of f32, copied.
    fn floats(&self, file: &TensorFile, part: &'static str) -> Result<Vec<f32>> {
        let tensor = file.tensor(&format!("{}.{part}", self.name));
        let values = tensor.and_then(|t| t.values()).expect("checked when the file was opened");
        let (mut copy, bytes) = (Vec::new(), size_of_val(&values[..]));
        copy.try_reserve_exact(values.len()).map_err(|_| Error::Memory { what: part, bytes })?;
        copy.extend_from_slice(&values);
        Ok(copy)
    }
}

/// A lutmul file, memory-mapped: layers of codes, and the tensors that were carried over.
#[derive(Clone)]
pub struct Checkpoint {
    file: TensorFile,
    layers: Vec<Layer>,
}

impl Checkpoint {
    /// Opens a lutmul file and checks that its layers have all their tensors, of the right shapes.
    ///
    /// See [`TensorFile::open`] for what must not happen to the file meanwhile.
    ///
    /// # Errors
    /// [`Error::File`]: a file that cannot be read, is no sound safetensors file, is none of lutmul's,
    /// is of another version, or whose layers are not what its metadata says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(TensorFile::open(path)?)
    }

    /// Whether a safetensors file is one of lutmul's (perhaps a faulty one).
    pub fn recognises(file: &TensorFile) -> bool {
        file.metadata().contains_key(KEY)
    }

    /// A file that is open already.
    ///
    /// # Errors
    /// As of [`Checkpoint::open`].
    pub fn new(file: TensorFile) -> Result<Self> {
        let error = |why: String| Error::file(file.path(), why);
        let Some(json) = file.metadata().get(KEY) else {
            return Err(error(format!("is not a lutmul file: no \"{KEY}\" in its metadata")));
        };
        let record = Record::parse(json).map_err(error)?;
        let layers = record
            .layers
            .into_iter()
            .map(|(name, record)| {
                Layer::read(&file, &name, record)
                    .map_err(|e| error(format!("layer {}: {e}", quoted(&name))))
            })
            .collect::<Result<_>>()?;
        Ok(Self { file, layers })
    }

    /// The file behind it.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }

    /// The layers, by name.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer of a name, which may be that of the original tensor.
    pub fn layer(&self, name: &str) -> Option<&Layer> {
        let find = |name: &str| {
            let found = self.layers.binary_search_by(|layer| layer.name.as_str().cmp(name));
            found.ok().map(|i| &self.layers[i])
        };
        let of_tensor = || find(name.strip_suffix(".weight")?).filter(|l| l.tensor == name);
        find(name).or_else(of_tensor)
    }

    /// The tensors that belong to no layer.
    pub fn carried(&self) -> impl Iterator<Item = Tensor<'_>> {
        let parts: HashSet<String> =
            self.layers.iter().flat_map(|l| l.parts()).map(|part| part.name).collect();
        self.file.tensors().filter(move |t| !parts.contains(t.name))
    }

    /// The weights of a layer of this file: codes and signs stay where they are mapped.
    ///
    /// # Errors
    /// [`Error::File`] if a scale is NaN or infinite.
    pub fn weights(&self, layer: &Layer) -> Result<Weights<'static>> {
        let Layer { name, n, k, granularity, .. } = layer;
        let error =
            |e: Error| Error::file(self.file.path(), format!("layer {}: {e}", quoted(name)));
        let part = |part: &str| {
            let tensor = format!("{name}.{part}");
            let missing =
                || error(Error::invalid(format!("tensor {}", quoted(&tensor)), "is missing"));
            self.file.shared(&tensor).ok_or_else(missing)
        };
        let scales = layer.floats(&self.file, "scales").map_err(error)?;
        let scales = Scales::new(scales, (*n, *k), *granularity).map_err(error)?;
        let signs = layer.signs.then(|| part("signs")).transpose()?;
        let lut = layer.lut(&self.file).map_err(error)?;
        let weights = Weights::new(part("codes")?, (*n, *k), lut, scales)
            .and_then(|w| match signs {
                Some(signs) => w.with_signs(signs),
                None => Ok(w),
            })
            .map_err(error)?;
        Ok(weights.with_name(name))
    }
}
