//! What becomes of each tensor of a model, found out before any of it is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;

use super::folder::Folder;
use super::output::{check_output, is_folder};
use super::{Candidate, Conversion, Converted, Left, Summary, Target, Why};
use crate::checkpoint::dtype;
use crate::checkpoint::header::size_of;
use crate::checkpoint::layouts::{self, LayerRecord, Record};
use crate::checkpoint::matrix::is_float;
use crate::checkpoint::model::{Checkpoint, Coding, Linear, Reason};
use crate::checkpoint::source::{TensorId, TensorInfo};
use crate::checkpoint::write::{Layout, Planned};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::scales::Granularity;
use crate::show::quoted;

/// What is wrong with a model without linears.
const NOTHING: &str = "has no 2-D weights to convert";

/// A conversion, as it will be done.
pub(super) struct Plan {
    /// What it makes, under the name that it will have.
    pub output: PathBuf,
    /// What the output has beside files of weights, if it is a folder.
    pub folder: Option<Folder>,
    pub files: Vec<FilePlan>,
    pub summary: Summary,
    /// A number that is the same for the same plan.
    pub fingerprint: u64,
}

/// A file that will be written.
pub(super) struct FilePlan {
    pub name: String,
    pub layout: Layout,
    /// What there is to do, in the order of the input.
    pub items: Vec<Item>,
}

/// Something to do.
pub(super) struct Item {
    /// The tensor of the input.
    pub tensor: String,
    /// How many bytes of the input are done with it.
    pub bytes: usize,
    pub work: Work,
}

/// What is done with a tensor.
pub(super) enum Work {
    /// It is copied.
    Carry(TensorId),
    /// It becomes a layer of a lutmul file; of what format, unless it stays as it is.
    Codes { from: Origin, name: String, to: Option<(Format, Granularity)>, bytes: usize },
    /// It becomes floats, from some byte of a tensor on.
    Floats { from: Origin, name: String, dtype: Dtype, first: usize },
}

/// A matrix of the input.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// A linear, by its number.
    Linear(usize),
    /// A tensor of floats that is none.
    Tensor(TensorId, (usize, usize)),
}

/// A plan in the making.
struct Planner<'a> {
    model: &'a Checkpoint,
    conversion: &'a Conversion<'a>,
    files: Vec<Draft>,
    summary: Summary,
    /// Modules whose weights are no longer what they were.
    changed: HashSet<String>,
    /// Tensors of floats that are put together of several matrices: how many are there yet.
    joined: HashMap<String, (usize, usize)>,
    /// Whether matrices stay that only their own layout can read.
    keeps_layout: bool,
}

/// A file in the making.
#[derive(Default)]
struct Draft {
    tensors: Vec<Planned>,
    record: BTreeMap<String, LayerRecord>,
    /// With the place in the input.
    items: Vec<(TensorId, Item)>,
}

impl Plan {
    /// Plans a conversion, and finds out what would be in its way.
    pub fn new(model: &Checkpoint, output: &Path, conversion: &Conversion<'_>) -> Result<Self> {
        let is_folder = is_folder(model, output)?;
        check_output(model, output, is_folder, conversion.overwrite)?;
        let mut planner = Planner {
            model,
            conversion,
            files: model.files().iter().map(|_| Draft::default()).collect(),
            summary: Summary::default(),
            changed: HashSet::new(),
            joined: HashMap::new(),
            keeps_layout: false,
        };
        for linear in model.linears() {
            planner.linear(linear)?;
        }
        for (id, reason) in model.source().others() {
            planner.other(*id, *reason);
        }
        planner.finish(output, is_folder)
    }
}

impl Planner<'_> {
    fn linear(&mut self, linear: &Linear) -> Result<()> {
        let skipped = linear.skipped && matches!(self.conversion.target, Target::Codes { .. });
        let candidate = Candidate { tensor: &linear.tensor, default: !skipped };
        let why = if !(self.conversion.select)(&candidate) {
            Some(if skipped { Why::Skipped } else { Why::Excluded })
        } else if let Target::Floats(dtype) = self.conversion.target
            && linear.coding.is_none()
            && dtype::name(dtype) == linear.dtype
        {
            Some(Why::Already)
        } else {
            None
        };
        if let Some(why) = why {
            self.leave(linear, why);
            return Ok(());
        }
        if linear.coding.is_some() {
            self.changed.insert(layouts::module(&linear.tensor).to_owned());
        }
        self.convert(Origin::Linear(linear.number), linear)
    }

    /// Plans what becomes of a matrix.
    fn convert(&mut self, from: Origin, linear: &Linear) -> Result<()> {
        let Linear { name, tensor, part, shape, dtype, bytes, file, .. } = linear;
        let after = match &self.conversion.target {
            Target::Codes { format, granularity } => {
                let signs = format.has_signs();
                let coding = Coding { format: format.clone(), granularity: *granularity, signs };
                let size = self.files[*file].layer(linear, &coding)?;
                let to = Some((format.clone(), *granularity));
                let work = Work::Codes { from, name: name.clone(), to, bytes: size };
                self.push(linear, from, work);
                size
            }
            Target::Floats(dtype) => {
                let (n, k) = *shape;
                let size = n.checked_mul(k).and_then(|c| c.checked_mul(dtype.bitsize() / 8));
                let too_large = || self.model.error(linear, "too large");
                let size = size.ok_or_else(too_large)?;
                let first = match part {
                    None => {
                        self.files[*file].tensors.push(Planned::new(tensor, *dtype, &[n, k]));
                        0
                    }
                    Some((which, count)) => self.join(linear, *dtype, *which, *count, size)?,
                };
                let work = Work::Floats { from, name: tensor.clone(), dtype: *dtype, first };
                self.push(linear, from, work);
                size
            }
        };
        self.summary.converted.push(Converted {
            name: name.clone(),
            tensor: tensor.clone(),
            dtype,
            shape: *shape,
            bytes_before: *bytes,
            bytes_after: after,
        });
        Ok(())
    }

    /// Where in a tensor of several matrices one begins.
    fn join(
        &mut self,
        linear: &Linear,
        dtype: Dtype,
        which: usize,
        count: usize,
        size: usize,
    ) -> Result<usize> {
        let (n, k) = linear.shape;
        let planned = Planned::new(&linear.tensor, dtype, &[count, n, k]);
        let known = self.joined.entry(linear.tensor.clone()).or_insert_with(|| {
            self.files[linear.file].tensors.push(planned.clone());
            (0, count)
        });
        known.0 += 1;
        let tensors = &self.files[linear.file].tensors;
        if known.0 > count || !tensors.contains(&planned) {
            let why = "its matrices have not one shape, or are not in one file";
            return Err(self.model.error(linear, why));
        }
        which.checked_mul(size).ok_or_else(|| self.model.error(linear, "too large"))
    }

    /// Plans that a matrix stays as it is.
    fn leave(&mut self, linear: &Linear, why: Why) {
        let source = self.model.source();
        let parts = source.parts(linear.number);
        let first = linear.part.is_none_or(|(which, _)| which == 0);
        if linear.own {
            if let Some(coding) = &linear.coding {
                let record = record(linear, coding);
                self.files[linear.file].record.insert(linear.name.clone(), record);
            }
        } else if linear.coding.is_some() && !parts.is_empty() {
            self.keeps_layout = true;
        }
        match &linear.coding {
            // Only as lutmul's own can it be read back.
            Some(coding) if parts.is_empty() => {
                let from = Origin::Linear(linear.number);
                if let Ok(bytes) = self.files[linear.file].layer(linear, coding) {
                    let name = linear.name.clone();
                    self.push(linear, from, Work::Codes { from, name, to: None, bytes });
                }
            }
            // Matrices of one tensor stay together: with the first of them; lutmul's have tensors of their own.
            _ if first || linear.own => parts.into_iter().for_each(|id| self.carry(id)),
            _ => {}
        }
        if first {
            let (n, k) = linear.shape;
            let shape = linear.part.map(|(_, count)| count).into_iter().chain([n, k]).collect();
            let (tensor, dtype) = (linear.tensor.clone(), linear.dtype);
            self.summary.left.push(Left { tensor, dtype, shape, why });
        }
    }

    /// Plans what becomes of a tensor that is no linear's.
    fn other(&mut self, id: TensorId, reason: Reason) {
        let source = self.model.source();
        let TensorInfo { name, dtype, shape, bytes } = source.tensor(id);
        if reason == Reason::ActivationScale {
            let module = layouts::activations_of(name);
            if self.changed.contains(module) {
                self.summary.dropped.push(name.into());
                return;
            }
        }
        let matrix = match *shape {
            [n, k] if is_float(dtype) => Some((n, k)),
            _ => None,
        };
        let candidate = Candidate { tensor: name, default: false };
        if let Some(shape) = matrix
            && (self.conversion.select)(&candidate)
        {
            let linear = Linear {
                name: layouts::module(name).into(),
                tensor: name.into(),
                part: None,
                shape,
                dtype: dtype::name(dtype),
                coding: None,
                bytes,
                file: id.file as usize,
                skipped: false,
                own: false,
                number: usize::MAX,
            };
            if self.convert(Origin::Tensor(id, shape), &linear).is_ok() {
                return;
            }
        }
        let is_8_bit = dtype.bitsize() == 8 && dtype::name(dtype).starts_with("F8");
        if shape.len() == 2 || is_8_bit {
            self.summary.left.push(Left {
                tensor: name.into(),
                dtype: dtype::name(dtype),
                shape: shape.into(),
                why: Why::Not(reason),
            });
        }
        self.carry(id);
    }

    fn carry(&mut self, id: TensorId) {
        let TensorInfo { name, dtype, shape, bytes } = self.model.source().tensor(id);
        let draft = &mut self.files[id.file as usize];
        draft.tensors.push(Planned::new(name, dtype, shape));
        let item = Item { tensor: name.into(), bytes, work: Work::Carry(id) };
        draft.items.push((id, item));
        self.summary.carried += 1;
    }

    fn push(&mut self, linear: &Linear, from: Origin, work: Work) {
        let id = match from {
            Origin::Tensor(id, _) => id,
            Origin::Linear(number) => {
                let parts = self.model.source().parts(number);
                let (file, tensor) = (linear.file as u32, number as u32);
                parts.first().copied().unwrap_or(TensorId { file, tensor })
            }
        };
        let item = Item { tensor: linear.tensor.clone(), bytes: linear.bytes, work };
        self.files[linear.file].items.push((id, item));
    }

    fn finish(mut self, output: &Path, is_folder: bool) -> Result<Plan> {
        let model = self.model;
        if self.summary.converted.is_empty() {
            return Err(Error::file(model.path(), NOTHING));
        }
        for (tensor, (found, count)) in &self.joined {
            if found != count {
                let why = format!("tensor {}: {found} of its {count} matrices", quoted(tensor));
                return Err(Error::file(model.path(), format!("{why} are there")));
            }
        }
        let origin = model.source().origin();
        let mut hasher = DefaultHasher::new();
        hash_target(&self.conversion.target, &mut hasher);
        let mut files = Vec::new();
        let has_codes = self.files.iter().any(|draft| !draft.record.is_empty());
        for (i, mut draft) in std::mem::take(&mut self.files).into_iter().enumerate() {
            let mut metadata = origin.metadata.get(i).map_or_else(BTreeMap::new, |&m| m.clone());
            metadata.remove(layouts::KEY);
            if !draft.record.is_empty() {
                metadata.extend([Record::new(draft.record).to_metadata()]);
            }
            let layout = Layout::new(draft.tensors, &metadata);
            let layout = layout.map_err(|why| Error::file(output, why))?;
            draft.items.sort_by_key(|(id, _)| *id);
            let items: Vec<Item> = draft.items.into_iter().map(|(_, item)| item).collect();
            let name = model.files()[i].path.with_extension("safetensors");
            let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.summary.bytes_before += model.files()[i].size as u64;
            self.summary.bytes_after += layout.size;
            (&name, &layout.head).hash(&mut hasher);
            items.iter().for_each(|item| item.tensor.hash(&mut hasher));
            files.push(FilePlan { name, layout, items });
        }
        let folder = is_folder.then(|| {
            let quantisation = if self.keeps_layout { None } else { Some(has_codes) };
            Folder::new(model, &files, &self.conversion.target, quantisation)
        });
        let folder = folder.transpose()?;
        if let Some(folder) = &folder {
            (self.summary.copied, self.summary.not_copied) = folder.names();
        }
        let (output, summary) = (output.into(), self.summary);
        Ok(Plan { output, folder, files, summary, fingerprint: hasher.finish() })
    }
}

impl Draft {
    /// Plans a layer of a lutmul file; returns its size.
    fn layer(&mut self, linear: &Linear, coding: &Coding) -> Result<usize> {
        let parts = layouts::parts(&linear.name, linear.shape, coding.granularity, coding.signs);
        let mut sizes = parts.iter().map(|part| size_of(part.dtype, &part.shape));
        let size = sizes.try_fold(0usize, |sum, size| sum.checked_add(size?));
        let size = size.ok_or(Error::Overflow {
            what: "codes",
            rows: linear.shape.0,
            cols: linear.shape.1,
        })?;
        self.tensors.extend(parts);
        self.record.insert(linear.name.clone(), record(linear, coding));
        Ok(size)
    }
}

/// What a lutmul file says of a layer.
fn record(linear: &Linear, coding: &Coding) -> LayerRecord {
    LayerRecord {
        tensor: linear.tensor.clone(),
        dtype: linear.dtype.into(),
        shape: linear.shape,
        format: coding.format.to_string(),
        scales: coding.granularity.to_string(),
        signs: coding.signs,
        part: linear.part,
    }
}

fn hash_target(target: &Target, hasher: &mut DefaultHasher) {
    target.to_string().hash(hasher);
    if let Target::Codes { format: Format::Table(lut), .. } = target {
        lut.values().map(f32::to_bits).hash(hasher);
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Codes { format, granularity } => {
                write!(f, "{format} with scales per {granularity}")
            }
            Self::Floats(dtype) => f.write_str(dtype::name(*dtype)),
        }
    }
}
