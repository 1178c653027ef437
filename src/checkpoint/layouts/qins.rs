//! QINS as its original project saved it, exported by `scripts/export-qins.py`: a byte a weight, and another for its
//! sign.
//!
//! | variant | tensors | a weight |
//! |---|---|---|
//! | log | `stored` U8 `[n, k]`, `sign` I8 `[n, k]`, `log_min`, `log_max` | `sign·exp(log_min + (255−c)/254·(log_max−log_min))` |
//! | linear | `stored`, `sign`, `max` | `sign·(c−1)/254·max` |
//! | linear, inverse | `stored`, `sign`, `lut` F32 `[256]` | `sign·lut[c]` |
//! | rational | `w_encoded` U8 `[n, k]`, `alpha` | `z = c/127.5 − 1`, `sign(z)·(1−abs z)/(alpha·abs z)` |
//!
//! Tables are computed in f64 and rounded once: torch, which computes in f32, may differ in the last bit, and for the
//! largest weights of the rational variant in some more. Code 0 is a weight that was dropped, whatever a formula or a
//! `lut` has for it, and so is a weight whose sign is 0: it gets code 0 here. What was zero and has a sign is, in the
//! log variant, `exp(log_min)` like the smallest weights: nothing can tell them apart any more.
//!
//! Signs become a plane of bits, in memory of their own, when a matrix is read. Codes stay where they are mapped,
//! unless some have to become 0.

use safetensors::tensor::Dtype;

use super::{Found, Layout, Place, Role, Stored};
use crate::buffer::Buffer;
use crate::bytes::Bytes;
use crate::checkpoint::files::Files;
use crate::checkpoint::matrix::{Access, Matrix, scales, weights};
use crate::checkpoint::model::Coding;
use crate::checkpoint::source::TensorId;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::lut::Lut;
use crate::scales::Granularity;
use crate::show;
use crate::weights::sign_stride;

/// The layout of this file.
pub(super) struct Qins;

/// What codes with a sign beside them are called, and those with the sign inside.
pub(super) const CODES: [&str; 2] = [".stored", ".w_encoded"];

/// A matrix.
#[derive(Clone)]
struct Layer {
    shape: (usize, usize),
    lut: Lut,
    scale: f32,
    codes: TensorId,
    signs: Option<TensorId>,
    /// What the table was made from.
    table: Vec<TensorId>,
}

impl Layout for Qins {
    fn methods(&self) -> &'static [&'static str] {
        &["qins"]
    }

    fn find(&self, found: &mut Found<'_>) -> Result<()> {
        for codes in found.of(&[Dtype::U8]) {
            let files = found.files;
            let name = files.tensor(codes).name;
            let variants = CODES.map(|suffix| name.strip_suffix(suffix));
            let (layer, format) = match variants {
                [Some(module), _] => signed(files, codes, module)?,
                [_, Some(module)] => rational(files, codes, module)?,
                _ => continue,
            };
            let Layer { shape, signs, .. } = layer;
            let parts = [&layer.table[..], signs.as_slice()].concat();
            let bytes = parts.iter().map(|id| files.tensor(*id).bytes.len()).sum::<usize>();
            let bytes = bytes + files.tensor(codes).bytes.len();
            let (granularity, signs) = (Granularity::Tensor, signs.is_some());
            let coding = Coding { format, granularity, signs };
            let place = Place { shape, part: None };
            found.add(codes, [place], |_| Ok((layer.clone(), Some(coding.clone()), bytes)))?;
            parts.into_iter().for_each(|id| found.set(id, Role::Taken));
        }
        Ok(())
    }
}

/// The variants with a tensor of signs.
fn signed(files: &Files, codes: TensorId, module: &str) -> Result<(Layer, Format)> {
    let shape = matrix(files, codes)?;
    let find = |name: &str| files.find(&format!("{module}.{name}"));
    let missing =
        |what| files.error(codes, format!("QINS without {what} of {}", show::quoted(module)));
    let signs = find("sign").ok_or_else(|| missing("a tensor \"sign\""))?;
    let tensor = files.tensor(signs);
    if tensor.dtype != Dtype::I8 || tensor.shape != files.tensor(codes).shape {
        let (n, k) = shape;
        let got = (tensor.dtype, show::shape(tensor.shape));
        let why = format!("is {} of shape {}, not I8 of shape [{n}, {k}]", got.0, got.1);
        return Err(files.error(signs, why));
    }
    let ids = ["log_min", "log_max", "lut", "max"].map(find);
    let (lut, scale, format, table) = match ids {
        [Some(low), Some(high), ..] => {
            let range = (number(files, low)?, number(files, high)?);
            let lut = Lut::qins_log(range.0.into(), range.1.into());
            (lut.map_err(|e| files.error(low, e))?, 1.0, Format::QinsLog, vec![low, high])
        }
        [.., Some(id), _] => {
            let (lut, scale, format) = table(files, id)?;
            (lut, scale, format, vec![id])
        }
        [.., Some(id)] => {
            let scale = (f64::from(number(files, id)?) / 254.0) as f32;
            (Lut::qins_linear(), scale, Format::QinsLinear, vec![id])
        }
        _ => return Err(missing("\"log_min\" and \"log_max\", \"lut\" or \"max\"")),
    };
    Ok((Layer { shape, lut, scale, codes, signs: Some(signs), table }, format))
}

/// The variant whose codes have the sign inside.
fn rational(files: &Files, codes: TensorId, module: &str) -> Result<(Layer, Format)> {
    let shape = matrix(files, codes)?;
    let missing =
        || files.error(codes, format!("QINS without \"alpha\" of {}", show::quoted(module)));
    let id = files.find(&format!("{module}.alpha")).ok_or_else(missing)?;
    let lut = Lut::qins_rational(number(files, id)?.into()).map_err(|e| files.error(id, e))?;
    let format = Format::Table(lut.clone());
    Ok((Layer { shape, lut, scale: 1.0, codes, signs: None, table: vec![id] }, format))
}

/// The shape of codes.
fn matrix(files: &Files, codes: TensorId) -> Result<(usize, usize)> {
    let tensor = files.tensor(codes);
    match *tensor.shape {
        [n, k] => Ok((n, k)),
        _ => {
            let why = format!("codes of shape {} are no matrix", show::shape(tensor.shape));
            Err(files.error(codes, why))
        }
    }
}

/// A tensor that is one finite number.
fn number(files: &Files, id: TensorId) -> Result<f32> {
    let tensor = files.tensor(id);
    let value = match tensor.values::<f32>().as_deref() {
        Some([value]) if tensor.shape.len() < 2 => *value,
        _ => {
            let (dtype, shape) = (tensor.dtype, show::shape(tensor.shape));
            return Err(files.error(id, format!("is {dtype} of shape {shape}, not one F32")));
        }
    };
    let finite = value.is_finite().then_some(value);
    finite.ok_or_else(|| files.error(id, format!("is {value}")))
}

/// A table that was saved: linear up to rounding, inverse, or any other.
fn table(files: &Files, id: TensorId) -> Result<(Lut, f32, Format)> {
    let tensor = files.tensor(id);
    let values: Option<[f32; 256]> = tensor.values::<f32>().and_then(|v| v[..].try_into().ok());
    let Some(mut values) = values.filter(|_| tensor.shape.len() == 1) else {
        let (dtype, shape) = (tensor.dtype, show::shape(tensor.shape));
        return Err(files.error(id, format!("is {dtype} of shape {shape}, not F32 of shape [256]")));
    };
    if let Some(i) = values.iter().skip(1).position(|v| !v.is_finite() || *v < 0.0) {
        let (i, value) = (i + 1, values[i + 1]);
        return Err(files.error(id, format!("entry {i} is {value}: magnitudes are from 0 on")));
    }
    values[0] = 0.0;
    if let Some((lut, scale)) = Lut::split_affine(&values) {
        return Ok((lut, scale, Format::QinsLinear));
    }
    let lut = Lut::new(&values).map_err(|e| files.error(id, e))?;
    let format = match Format::QinsInverse.lut() {
        Some(inverse) if inverse == lut => Format::QinsInverse,
        _ => Format::Table(lut.clone()),
    };
    Ok((lut, 1.0, format))
}

impl Stored for Layer {
    fn matrix(&self, files: &Files, access: Access) -> Result<Matrix> {
        let read = |id: TensorId| {
            let length = files.tensor(id).bytes.len();
            files.file(id).part(id.tensor as usize, 0..length, access)
        };
        let (codes, shape) = (read(self.codes)?, self.shape);
        let (codes, signs) = match self.signs {
            None => (codes, None),
            Some(id) => {
                let found = apply(codes, &read(id)?, shape);
                let (codes, signs) = found.map_err(|e| files.error(id, e))?;
                (codes, Some(signs))
            }
        };
        let scales = scales(Granularity::Tensor, shape, vec![self.scale]);
        let made = scales.and_then(|scales| weights(shape, codes, self.lut.clone(), signs, scales));
        Ok(Matrix::Coded(made.map_err(|e| files.error(self.codes, e))?))
    }

    fn parts(&self) -> Vec<TensorId> {
        [&[self.codes], self.signs.as_slice(), &self.table].concat()
    }
}

/// Makes a plane of signs, and codes of 0 where there is none.
fn apply(
    codes: Bytes<'static>,
    signs: &[u8],
    (n, k): (usize, usize),
) -> Result<(Bytes<'static>, Bytes<'static>)> {
    let memory = |what, bytes| Error::Memory { what, bytes };
    let stride = sign_stride(k);
    let mut plane = Buffer::try_zeroed(n * stride).ok_or(memory("signs", n * stride))?;
    if k == 0 {
        return Ok((codes, plane.into()));
    }
    let mut dropped = false;
    for (row, (signs, plane)) in signs.chunks(k).zip(plane.chunks_mut(stride)).enumerate() {
        for (col, sign) in signs.iter().enumerate() {
            match *sign as i8 {
                1 => {}
                -1 => plane[col / 8] |= 1 << (col % 8),
                0 => dropped = true,
                other => {
                    let why = format!("{other} at row {row}, column {col} is no sign");
                    return Err(Error::invalid("sign", why));
                }
            }
        }
    }
    if !dropped {
        return Ok((codes, plane.into()));
    }
    let mut kept = Buffer::try_zeroed(codes.len()).ok_or(memory("codes", codes.len()))?;
    for ((kept, code), sign) in kept.iter_mut().zip(&*codes).zip(signs) {
        *kept = if *sign == 0 { 0 } else { *code };
    }
    Ok((kept.into(), plane.into()))
}
