//! Scales as tensors of files: of several types, of rank 0, 1 or 2.

use std::ops::Range;

use safetensors::tensor::Dtype;

use super::files::Files;
use super::matrix::{Access, floats, scales};
use super::source::TensorId;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::scales::{Granularity, Scales};
use crate::show;
use half::{bf16, f16};

/// The scales of a matrix, in a tensor.
#[derive(Clone, Debug)]
pub(super) struct ScaleTensor {
    id: TensorId,
    /// Which of its elements.
    part: Range<usize>,
    granularity: Granularity,
    exponents: bool,
    /// What they are divided by: 127, where a scale is a row's largest magnitude.
    pub divisor: f32,
}

/// What a layout allows of the shape of scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// One, or one for each row.
    TensorOrRow,
    /// This and no other.
    Only(Granularity),
}

/// The matrix that scales are for: its shape, and which of how many it is in a tensor of three dimensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub shape: (usize, usize),
    pub part: Option<(usize, usize)>,
}

impl ScaleTensor {
    /// Makes sure that a tensor holds scales of a matrix, of a type and shape that are known. U8 are exponents only
    /// where a layout says so.
    pub fn new(
        files: &Files,
        id: TensorId,
        place: Place,
        allowed: Allowed,
        u8_exponents: bool,
    ) -> Result<Self> {
        let tensor = files.tensor(id);
        let exponents = match tensor.dtype {
            Dtype::F32 | Dtype::BF16 | Dtype::F16 => false,
            Dtype::F8_E8M0 => true,
            Dtype::U8 if u8_exponents => true,
            other => {
                let why = format!("scales are {other}, not F32, BF16, F16 or F8_E8M0");
                return Err(files.error(id, why));
            }
        };
        let Place { shape: (n, k), part } = place;
        // Of an expert, what its own scales have for a shape; all may share one.
        let (mine, which) = match (part, tensor.shape) {
            (None, shape) => (shape, 0),
            (Some(_), [] | [1]) => (&[][..], 0),
            (Some((which, count)), [first, mine @ ..]) if *first == count => (mine, which),
            _ => return Err(unfit(files, id, place, allowed)),
        };
        let one = matches!(mine, [] | [1]) || (part.is_some() && matches!(mine, [1, 1]));
        let row = matches!(mine, [rows] | [rows, 1] if *rows == n);
        let granularity = match allowed {
            Allowed::TensorOrRow if one => Granularity::Tensor,
            Allowed::TensorOrRow if row => Granularity::Row,
            Allowed::Only(Granularity::Tensor) if one => Granularity::Tensor,
            Allowed::Only(Granularity::Row) if row || (one && n == 1) => Granularity::Row,
            Allowed::Only(grid @ (Granularity::Group(_) | Granularity::Block(..))) => {
                let (rows, cols) = grid.grid((n, k));
                if *mine != [rows, cols] {
                    return Err(unfit(files, id, place, allowed));
                }
                grid
            }
            _ => return Err(unfit(files, id, place, allowed)),
        };
        let (rows, cols) = granularity.grid((n, k));
        // A row without columns has a scale in some files, which is not read.
        let each = rows.checked_mul(cols).ok_or_else(|| unfit(files, id, place, allowed))?;
        let all: usize = mine.iter().product();
        let first = which * all;
        Ok(Self { id, part: first..first + each, granularity, exponents, divisor: 1.0 })
    }

    /// The tensor.
    pub fn id(&self) -> TensorId {
        self.id
    }

    /// What each of them covers.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Bytes on disk.
    pub fn bytes(&self, files: &Files) -> usize {
        self.part.len() * files.tensor(self.id).dtype.bitsize() / 8
    }

    /// Reads them.
    pub fn read(&self, files: &Files, shape: (usize, usize), access: Access) -> Result<Scales> {
        let dtype = files.tensor(self.id).dtype;
        let size = dtype.bitsize() / 8;
        let range = self.part.start * size..self.part.end * size;
        let bytes = files.file(self.id).part(self.id.tensor as usize, range, access)?;
        let mut values = match dtype {
            _ if self.exponents => bytes.iter().map(|b| exponent(*b)).collect(),
            Dtype::F16 => widen::<f16>(&bytes),
            Dtype::BF16 => widen::<bf16>(&bytes),
            _ => widen::<f32>(&bytes),
        };
        if self.divisor != 1.0 {
            values.iter_mut().for_each(|v| *v /= self.divisor);
        }
        scales(self.granularity, shape, values).map_err(|e| files.error(self.id, within(e)))
    }
}

/// An error, where the tensor is named anyhow.
pub(super) fn within(error: Error) -> String {
    match error {
        Error::NonFinite { row, col, value, .. } => format!("{value} at row {row}, column {col}"),
        other => other.to_string(),
    }
}

/// The scale that an E8M0 byte stands for: `2^(b−127)`, and NaN for 255.
fn exponent(byte: u8) -> f32 {
    match byte {
        // The one that is subnormal.
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        b => f32::from_bits(u32::from(b) << 23),
    }
}

/// Little-endian elements as f32.
fn widen<T: Element>(bytes: &[u8]) -> Vec<f32> {
    floats::<T>(bytes).iter().map(|v| v.to_f32()).collect()
}

/// What is wrong with the shape of scales.
fn unfit(files: &Files, id: TensorId, place: Place, allowed: Allowed) -> Error {
    let Place { shape: (n, k), part } = place;
    let got = show::shape(files.tensor(id).shape);
    let of = part.map_or(String::new(), |(_, count)| format!(" (one of {count})"));
    let why = match allowed {
        Allowed::TensorOrRow => format!(
            "scales of shape {got} fit no {n}×{k} weight{of}: [], [1], [{n}] and [{n}, 1] would, and a \
             grid if config.json gave the size of blocks"
        ),
        Allowed::Only(granularity) => {
            let (rows, cols) = granularity.grid((n, k));
            let expected = match granularity {
                Granularity::Tensor => "[] or [1]".into(),
                Granularity::Row => format!("[{n}] or [{n}, 1]"),
                _ => format!("[{rows}, {cols}]"),
            };
            format!(
                "scales of shape {got} are not those of a {n}×{k} weight{of} per {granularity}, as \
                 config.json has it: {expected}"
            )
        }
    };
    files.error(id, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_powers_of_two() {
        assert_eq!(exponent(127), 1.0);
        for b in 0..255u8 {
            assert_eq!(f64::from(exponent(b)), 2f64.powi(i32::from(b) - 127), "{b}");
        }
        assert!(exponent(255).is_nan());
    }
}
