//! What of safetensors files is a matrix of weights: a file for each family of layouts, and a line of [`LAYOUTS`].
//!
//! A [`Layout`] looks through the tensors for those that hold codes in its way, says what goes with them (scales,
//! signs, a table), and adds them to what was [`Found`]. Most are [`Coded`] matrices; a layout whose bytes are not
//! those of lutmul's weights implements [`Stored`] itself. Layouts come in order: what one has taken, the next don't
//! see.

mod bitsandbytes;
mod compressed;
mod float;
mod fp8;
mod own;
mod qins;

use std::ops::Range;

use safetensors::tensor::Dtype;

use super::dtype;
use super::files::Files;
use super::matrix::{Access, Matrix, scales, weights};
use super::model::{Coding, Linear, Reason};
use super::scale::{Place, ScaleTensor};
use super::source::TensorId;
use super::tensors::Tensor;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::lut::Lut;
use crate::scales::Granularity;
use crate::show::{self, quoted};

pub(super) use float::activations_of;
pub use float::is_linear;
pub use own::VERSION;
pub(super) use own::{KEY, LayerRecord, Record, parts};

/// All of them, in the order in which they look.
const LAYOUTS: [&dyn Layout; 6] = [
    &own::Own,
    &qins::Qins,
    &fp8::Fp8,
    &compressed::CompressedTensors,
    &bitsandbytes::BitsAndBytes,
    &float::Float,
];

/// A family of layouts.
trait Layout: Sync {
    /// What config.json calls it, as `quant_method`.
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it may be there in a model that is quantised by this method, or of which nothing is said.
    fn applies(&self, method: Option<&str>) -> bool {
        method.is_none_or(|method| self.methods().contains(&method))
    }

    /// Finds its matrices.
    fn find(&self, found: &mut Found<'_>) -> Result<()>;
}

/// How to read a matrix.
pub(super) trait Stored: Send + Sync {
    /// Reads it.
    fn matrix(&self, files: &Files, access: Access) -> Result<Matrix>;

    /// The tensors that it is in.
    fn parts(&self) -> Vec<TensorId>;
}

/// What a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody has looked at it yet.
    Free,
    /// A matrix, or a part of one.
    Taken,
    /// None, for this reason.
    Other(Reason),
}

/// What was found in some files.
pub(super) struct Found<'a> {
    pub files: &'a Files,
    /// What each tensor of each file is.
    pub roles: Vec<Vec<Role>>,
    pub linears: Vec<(Linear, Box<dyn Stored>)>,
    /// Some tables, so that layers share them.
    luts: Vec<Lut>,
}

/// Looks for matrices.
pub(super) fn find(files: &Files) -> Result<Found<'_>> {
    let method = files.config.method();
    let methods = || LAYOUTS.iter().flat_map(|layout| layout.methods());
    if let Some(method) = method
        && !methods().any(|known| *known == method)
    {
        let known = methods().copied().collect::<Vec<_>>().join(", ");
        let method = quoted(method);
        return Err(files.config.error(format!("quant_method {method} is none of {known}")));
    }
    let roles = files.files().iter().map(|file| vec![Role::Free; file.len()]).collect();
    let mut found = Found { files, roles, linears: Vec::new(), luts: Vec::new() };
    for layout in LAYOUTS.iter().filter(|layout| layout.applies(method)) {
        layout.find(&mut found)?;
    }
    found.linears.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    for pair in found.linears.windows(2) {
        let [(a, _), (b, _)] = pair else { continue };
        if a.name == b.name {
            let why = format!("its layer and that of tensor {} have one name", quoted(&a.tensor));
            let path = files.files()[b.file].path();
            return Err(Error::file(path, format!("tensor {}: {why}", quoted(&b.tensor))));
        }
    }
    Ok(found)
}

impl Found<'_> {
    /// The tensors that nobody has taken, and that are of one of these types.
    fn of(&self, dtypes: &[Dtype]) -> Vec<TensorId> {
        let fits = |id: &TensorId| {
            *self.role(*id) == Role::Free && dtypes.contains(&self.files.tensor(*id).dtype)
        };
        self.files.ids().filter(fits).collect()
    }

    fn role(&self, id: TensorId) -> &Role {
        &self.roles[id.file as usize][id.tensor as usize]
    }

    /// Says what a tensor is.
    fn set(&mut self, id: TensorId, role: Role) {
        self.roles[id.file as usize][id.tensor as usize] = role;
    }

    /// The same table, shared with other layers.
    fn share(&mut self, lut: Lut) -> Lut {
        const MOST: usize = 8;
        if let Some(same) = self.luts.iter().find(|other| **other == lut) {
            return same.clone();
        }
        if self.luts.len() < MOST {
            self.luts.push(lut.clone());
        }
        lut
    }

    /// Adds the matrices in a tensor.
    fn add<S: Stored + 'static>(
        &mut self,
        id: TensorId,
        places: impl IntoIterator<Item = Place>,
        each: impl Fn(Place) -> Result<(S, Option<Coding>, usize)>,
    ) -> Result<()> {
        let tensor = self.files.tensor(id);
        let module = module(tensor.name);
        let skipped = self.files.config.skips(module)?;
        for place in places {
            let (stored, coding, bytes) = each(place)?;
            let name = match place.part {
                None => module.into(),
                Some((which, _)) => format!("{module}.{which}"),
            };
            let linear = Linear {
                name,
                tensor: tensor.name.into(),
                part: place.part,
                shape: place.shape,
                dtype: dtype::name(tensor.dtype),
                coding,
                bytes,
                file: id.file as usize,
                skipped,
                own: false,
                number: 0,
            };
            self.linears.push((linear, Box::new(stored)));
        }
        self.set(id, Role::Taken);
        Ok(())
    }

    /// Adds the matrices in a tensor of codes, whose scales, if they have any, are checked against their shape. One
    /// more tensor may go with them.
    fn add_coded(
        &mut self,
        id: TensorId,
        format: &Format,
        [scale, beside]: [Option<TensorId>; 2],
        check: impl Fn(TensorId, Place) -> Result<ScaleTensor>,
    ) -> Result<()> {
        let files = self.files;
        let places = places(&files.tensor(id)).ok_or_else(|| {
            let shape = show::shape(files.tensor(id).shape);
            files.error(id, format!("codes of shape {shape} are no matrix, nor a list of them"))
        })?;
        let lut = self.share(format.lut().expect("tables of files are not fitted to weights"));
        self.add(id, places, |place| {
            let scales = scale.map(|scale| check(scale, place)).transpose()?;
            let granularity = scales.as_ref().map_or(Granularity::Tensor, ScaleTensor::granularity);
            let bytes = place.shape.0 * place.shape.1;
            let bytes = bytes + scales.as_ref().map_or(0, |scales| scales.bytes(files));
            let coding = Coding { format: format.clone(), granularity, signs: false };
            let coded = Coded { codes: id, place, lut: lut.clone(), scales, beside };
            Ok((coded, Some(coding), bytes))
        })?;
        for part in [scale, beside].into_iter().flatten() {
            self.set(part, Role::Taken);
        }
        Ok(())
    }
}

/// A matrix of codes that lie in their tensor as lutmul multiplies by them.
struct Coded {
    codes: TensorId,
    place: Place,
    lut: Lut,
    /// Without any, codes are the weights.
    scales: Option<ScaleTensor>,
    /// Another tensor that goes with them.
    beside: Option<TensorId>,
}

impl Stored for Coded {
    fn matrix(&self, files: &Files, access: Access) -> Result<Matrix> {
        let Self { codes, place, lut, scales: tensor, .. } = self;
        let scales = match tensor {
            Some(tensor) => tensor.read(files, place.shape, access)?,
            None => scales(Granularity::Tensor, place.shape, vec![1.0])?,
        };
        let bytes = files.file(*codes).part(codes.tensor as usize, place.elements(), access)?;
        let weights = weights(place.shape, bytes, lut.clone(), None, scales);
        Ok(Matrix::Coded(weights.map_err(|e| files.error(*codes, e))?))
    }

    fn parts(&self) -> Vec<TensorId> {
        let scales = self.scales.as_ref().map(ScaleTensor::id);
        [Some(self.codes), scales, self.beside].into_iter().flatten().collect()
    }
}

impl Place {
    /// Its elements within its tensor.
    fn elements(&self) -> Range<usize> {
        let count = self.shape.0 * self.shape.1;
        let first = self.part.map_or(0, |(which, _)| which) * count;
        first..first + count
    }
}

/// The matrices in a tensor: one of two dimensions, several of three.
fn places(tensor: &Tensor<'_>) -> Option<Vec<Place>> {
    /// More than any model has: each is an entry of a list.
    const MOST: usize = 1 << 16;
    match *tensor.shape {
        [n, k] => Some(vec![Place { shape: (n, k), part: None }]),
        [count, n, k] if count <= MOST && n > 0 && k > 0 => {
            let place = |which| Place { shape: (n, k), part: Some((which, count)) };
            Some((0..count).map(place).collect())
        }
        _ => None,
    }
}

/// The module that a tensor belongs to: its name without `.weight`, or what QINS's codes are called.
pub(super) fn module(tensor: &str) -> &str {
    let suffixes = [".weight"].into_iter().chain(qins::CODES);
    suffixes.filter_map(|suffix| tensor.strip_suffix(suffix)).next().unwrap_or(tensor)
}

/// Refuses what cannot be written as a table and scales: zero points of rows or groups, and another order of columns.
/// What is found of the tensor `zero_point` is one for all, or none.
fn check_order(files: &Files, tensor: &str) -> Result<Option<TensorId>> {
    for (suffix, what) in [("_g_idx", "an order of columns"), ("_zero_point", "zero points")] {
        let Some(id) = files.find(&format!("{tensor}{suffix}")) else { continue };
        let shape = files.tensor(id).shape;
        if suffix == "_zero_point" && shape.iter().all(|size| *size == 1) {
            return Ok(Some(id));
        }
        let why = format!(
            "{what} of shape {} for {} cannot be multiplied with: codes of a row have one table, in order",
            show::shape(shape),
            quoted(tensor)
        );
        return Err(files.error(id, why));
    }
    Ok(None)
}
