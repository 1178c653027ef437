//! lutmul's own files: what their metadata says, and the tensors of their layers.

use std::collections::BTreeMap;

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};

use super::{Found, Layout, Role, Stored};
use crate::checkpoint::dtype;
use crate::checkpoint::files::Files;
use crate::checkpoint::matrix::{Access, Matrix, floats, scales, weights};
use crate::checkpoint::model::{Coding, Linear};
use crate::checkpoint::source::TensorId;
use crate::checkpoint::write::Planned;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::lut::Lut;
use crate::scales::Granularity;
use crate::show::{self, message, quoted};
use crate::weights::sign_stride;

/// The version of the files that this library writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// The key of the file's metadata that makes it a lutmul file.
pub(in crate::checkpoint) const KEY: &str = "lutmul";

/// What stands under that key.
#[derive(Serialize, Deserialize)]
pub(in crate::checkpoint) struct Record {
    version: u32,
    pub layers: BTreeMap<String, LayerRecord>,
}

/// What it says of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::checkpoint) struct LayerRecord {
    pub tensor: String,
    pub dtype: String,
    pub shape: (usize, usize),
    pub format: String,
    pub scales: String,
    pub signs: bool,
    /// Which matrix of how many, in a tensor of three dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(usize, usize)>,
}

impl Record {
    pub fn new(layers: BTreeMap<String, LayerRecord>) -> Self {
        Self { version: VERSION, layers }
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

/// The tensors of a layer, with their types and shapes.
pub(in crate::checkpoint) fn parts(
    name: &str,
    (n, k): (usize, usize),
    granularity: Granularity,
    signs: bool,
) -> Vec<Planned> {
    let (rows, cols) = granularity.grid((n, k));
    let scales = match granularity {
        Granularity::Tensor => vec![],
        Granularity::Row => vec![rows * cols],
        Granularity::Group(_) | Granularity::Block(..) => vec![rows, cols],
    };
    let mut parts = vec![
        Planned::new(format!("{name}.codes"), Dtype::U8, &[n, k]),
        Planned::new(format!("{name}.table"), Dtype::F32, &[256]),
        Planned::new(format!("{name}.scales"), Dtype::F32, &scales),
    ];
    if signs {
        parts.push(Planned::new(format!("{name}.signs"), Dtype::U8, &[n, sign_stride(k)]));
    }
    parts
}

/// The layout of this file.
pub(super) struct Own;

/// A layer.
struct Layer {
    shape: (usize, usize),
    granularity: Granularity,
    lut: Lut,
    codes: TensorId,
    table: TensorId,
    scales: TensorId,
    signs: Option<TensorId>,
    name: String,
}

impl Layout for Own {
    fn methods(&self) -> &'static [&'static str] {
        &[KEY]
    }

    fn applies(&self, _: Option<&str>) -> bool {
        true
    }

    fn find(&self, found: &mut Found<'_>) -> Result<()> {
        let files = found.files;
        for (i, file) in files.files().iter().enumerate() {
            let error = |why: String| Error::file(file.path(), why);
            let Some(json) = file.metadata().get(KEY) else { continue };
            for (name, record) in Record::parse(json).map_err(error)?.layers {
                read(found, i, &name, record)
                    .map_err(|e| error(format!("layer {}: {e}", quoted(&name))))?;
            }
        }
        Ok(())
    }
}

/// Checks what the metadata says of a layer against the tensors that are there.
fn read(found: &mut Found<'_>, file: usize, name: &str, record: LayerRecord) -> Result<()> {
    let LayerRecord { tensor, dtype, shape: (n, k), format, scales, signs, part } = record;
    let granularity: Granularity = scales.parse()?;
    let named: Option<Format> = (format != "table").then(|| format.parse()).transpose()?;
    if let Some(format) = named.as_ref().filter(|format| format.has_signs() != signs) {
        let why = format!("\"signs\" is {signs}, which is not what {format} has");
        return Err(Error::invalid("metadata", why));
    }
    if part.is_some_and(|(which, count)| which >= count) {
        return Err(Error::invalid("metadata", "\"part\" is not one of its tensor"));
    }
    let dtype = dtype::known(&dtype)
        .ok_or_else(|| Error::invalid("metadata", format!("unknown variant {}", quoted(&dtype))))?;
    let mut ids = Vec::new();
    let mut bytes = 0;
    let tensors = &found.files.files()[file];
    for part in parts(name, (n, k), granularity, signs) {
        let what = || format!("tensor {}", quoted(&part.name));
        let i = tensors.find(&part.name);
        let i = i.ok_or_else(|| Error::invalid(what(), "is missing"))?;
        let tensor = tensors.view(i);
        // Rows without columns had scales once (`Scales::new`).
        let former = k == 0 && granularity == Granularity::Row && part.name.ends_with(".scales");
        let same_shape = tensor.shape == part.shape || (former && tensor.shape == [n]);
        if tensor.dtype != part.dtype || !same_shape {
            let why = format!(
                "is {} of shape {}, but {} of shape {} is what an {n}×{k} layer in {} with scales per \
                 {granularity} needs",
                tensor.dtype,
                show::shape(tensor.shape),
                part.dtype,
                show::shape(&part.shape),
                show::name(&format),
            );
            return Err(Error::invalid(what(), why));
        }
        bytes += tensor.bytes.len();
        ids.push(TensorId { file: file as u32, tensor: i as u32 });
    }
    let (codes, table, scales) = (ids[0], ids[1], ids[2]);
    let values = found.files.tensor(table).values().expect("its type was looked at");
    let lut = found.share(Lut::new(values[..].try_into().expect("256 entries"))?);
    for id in &ids {
        if *found.role(*id) == Role::Taken {
            let name = quoted(found.files.tensor(*id).name);
            return Err(Error::invalid(format!("tensor {name}"), "is another layer's too"));
        }
        found.set(*id, Role::Taken);
    }
    let skipped = found.files.config.skips(name)?;
    let format = named.unwrap_or_else(|| Format::Table(lut.clone()));
    let linear = Linear {
        name: name.into(),
        tensor,
        part,
        shape: (n, k),
        dtype,
        coding: Some(Coding { format, granularity, signs }),
        bytes,
        file,
        skipped,
        own: true,
        number: 0,
    };
    let (shape, name, signs) = ((n, k), name.into(), ids.get(3).copied());
    let layer = Layer { shape, granularity, lut, codes, table, scales, signs, name };
    found.linears.push((linear, Box::new(layer)));
    Ok(())
}

impl Stored for Layer {
    fn matrix(&self, files: &Files, access: Access) -> Result<Matrix> {
        let Self { shape, granularity, lut, codes, signs, name, .. } = self;
        let file = files.file(*codes);
        let error = |e: Error| Error::file(file.path(), format!("layer {}: {e}", quoted(name)));
        let read = |id: TensorId| {
            let length = files.tensor(id).bytes.len();
            file.part(id.tensor as usize, 0..length, access)
        };
        let values = floats::<f32>(&read(self.scales)?).into_owned();
        let scales = scales(*granularity, *shape, values).map_err(error)?;
        let signs = signs.map(read).transpose()?;
        let weights = weights(*shape, read(*codes)?, lut.clone(), signs, scales).map_err(error)?;
        Ok(Matrix::Coded(weights))
    }

    fn parts(&self) -> Vec<TensorId> {
        [self.codes, self.table, self.scales].into_iter().chain(self.signs).collect()
    }
}
