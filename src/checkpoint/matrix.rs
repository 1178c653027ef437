//! A matrix out of a file: codes, or floats.

use std::borrow::Cow;
use std::ops::Range;

use safetensors::tensor::Dtype;

use crate::bytes::Bytes;
use crate::element::{Element, Unaligned};
use crate::error::{Error, Result, area};
use crate::format::Format;
use crate::lut::Lut;
use crate::scales::{Granularity, Scales};
use crate::weights::Weights;
use half::{bf16, f16};

/// Where the bytes of a matrix are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// In the map of the file.
    Map,
    /// In a map of their own that is read already.
    Window,
    /// In memory of their own, read by ordinary calls.
    Copy,
}

/// A matrix of a [`Checkpoint`](super::Checkpoint).
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are few of them, and each is moved once or twice"
)]
#[non_exhaustive]
pub enum Matrix {
    /// Codes that can be multiplied with.
    Coded(Weights<'static>),
    /// Floats, to be encoded.
    Floats(Floats),
}

impl Matrix {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Coded(weights) => (weights.n(), weights.k()),
            Self::Floats(floats) => floats.shape(),
        }
    }

    /// All weights as f32: decoded if they are codes; floats are copied only where they are no f32, or not aligned.
    ///
    /// # Errors
    /// [`Error::NonFinite`]: a code that stands for NaN or infinity. [`Error::Memory`].
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>> {
        match self {
            Self::Floats(floats) => Ok(floats.to_f32()),
            Self::Coded(weights) => {
                let count = area("weights", weights.n(), weights.k())?;
                let (mut values, bytes) = (Vec::new(), count.saturating_mul(4));
                let error = |_| Error::Memory { what: "weights", bytes };
                values.try_reserve_exact(count).map_err(error)?;
                values.resize(count, 0.0);
                weights.decode(&mut values)?;
                Ok(Cow::Owned(values))
            }
        }
    }

    /// Encodes it, also if it has codes already: the weights that they stand for. If they are of this format and
    /// granularity, they stay as they are.
    ///
    /// # Errors
    /// As of [`Weights::encode`] and [`Weights::recode`].
    pub fn encode(self, format: &Format, granularity: Granularity) -> Result<Weights<'static>> {
        match self {
            Self::Floats(floats) => floats.encode(format, granularity),
            Self::Coded(weights) if is_coded(&weights, format, granularity) => {
                weights.prepare()?;
                Ok(weights)
            }
            Self::Coded(weights) => weights.recode(format, granularity),
        }
    }
}

/// Whether weights are what encoding them would make of them. A table that is fitted to its weights is not fitted
/// anew to what it gave.
fn is_coded(weights: &Weights<'_>, format: &Format, granularity: Granularity) -> bool {
    weights.scales().granularity() == granularity
        && weights.signs().is_some() == format.has_signs()
        && format.lut().is_some_and(|lut| lut == *weights.lut())
}

/// A matrix of F32, F16 or BF16, as in its file: little-endian, row-major, at any alignment.
#[derive(Clone, Debug)]
pub struct Floats {
    shape: (usize, usize),
    dtype: Dtype,
    bytes: Bytes<'static>,
}

impl Floats {
    /// A matrix of rows × columns.
    ///
    /// # Errors
    /// Another type, or another number of bytes than shape and type ask for.
    pub fn new(shape: (usize, usize), dtype: Dtype, bytes: Bytes<'static>) -> Result<Self> {
        if !is_float(dtype) {
            return Err(Error::invalid("floats", format!("{dtype} is not F32, F16 or BF16")));
        }
        let (rows, cols) = shape;
        let expected = area("floats", rows, cols)?.saturating_mul(dtype.bitsize() / 8);
        if bytes.len() != expected {
            let (what, unit, got) = ("floats", "bytes", bytes.len());
            return Err(Error::Length { what, unit, rows, cols, expected, got });
        }
        Ok(Self { shape, dtype, bytes })
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// F32, F16 or BF16.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All floats as f32, copied unless they are and are aligned.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        widened(self.dtype, &self.bytes)
    }

    /// Some rows as f32.
    pub(super) fn rows(&self, rows: Range<usize>) -> Cow<'_, [f32]> {
        let each = self.shape.1 * (self.dtype.bitsize() / 8);
        widened(self.dtype, &self.bytes[rows.start * each..rows.end * each])
    }

    /// Widens rows in the order of a list, in which they may repeat, into `out`, `rows.len() × columns` row-major: what
    /// [`Weights::decode_list`] is for codes.
    ///
    /// ```
    /// use lutmul::checkpoint::{Dtype, Floats};
    ///
    /// let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    /// let embedding = Floats::new((2, 2), Dtype::F32, bytes.into())?;
    /// let mut rows = [0f32; 4];
    /// embedding.decode_list(&[1, 1], &mut rows)?;
    /// assert_eq!(rows, [3.0, 4.0, 3.0, 4.0]);
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] if `out` has another length; [`Error::RowRange`] naming the first row that there is not.
    pub fn decode_list(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let (n, cols) = self.shape;
        if let Some(row) = rows.iter().find(|row| **row >= n) {
            return Err(Error::RowRange { range: *row..row.saturating_add(1), n });
        }
        let expected = area("out", rows.len(), cols)?;
        if out.len() != expected {
            let (what, unit, got) = ("out", "elements", out.len());
            return Err(Error::Length { what, unit, rows: rows.len(), cols, expected, got });
        }
        for (row, out) in rows.iter().zip(out.chunks_mut(cols.max(1))) {
            out.copy_from_slice(&self.rows(*row..row + 1));
        }
        Ok(())
    }

    /// Looks for NaN and infinity.
    pub(super) fn check(&self) -> Result<()> {
        fn of<T: Element>(floats: &Floats) -> Result<()> {
            let values = self::floats::<T>(&floats.bytes);
            let Some(i) = values.iter().position(|v| !v.to_f32().is_finite()) else {
                return Ok(());
            };
            let (k, value) = (floats.shape.1, values[i].to_f32());
            Err(Error::NonFinite { what: "floats".into(), row: i / k, col: i % k, value })
        }
        match self.dtype {
            Dtype::F16 => of::<f16>(self),
            Dtype::BF16 => of::<bf16>(self),
            _ => of::<f32>(self),
        }
    }

    /// Encodes it.
    ///
    /// # Errors
    /// As of [`Weights::encode`].
    pub fn encode(&self, format: &Format, granularity: Granularity) -> Result<Weights<'static>> {
        fn of<T: Element>(
            floats: &Floats,
            format: &Format,
            granularity: Granularity,
        ) -> Result<Weights<'static>> {
            let bytes = little_endian::<T>(&floats.bytes);
            let values: &[Unaligned<T>] = bytemuck::cast_slice(&bytes);
            Weights::encode(values, floats.shape, format, granularity)
        }
        match self.dtype {
            Dtype::F16 => of::<f16>(self, format, granularity),
            Dtype::BF16 => of::<bf16>(self, format, granularity),
            _ => of::<f32>(self, format, granularity),
        }
    }
}

/// Floats of one of the three types as f32.
fn widened(dtype: Dtype, bytes: &[u8]) -> Cow<'_, [f32]> {
    fn widen<T: Element>(bytes: &[u8]) -> Cow<'_, [f32]> {
        let values = floats::<T>(bytes);
        let mut wide = vec![0.0; values.len()];
        T::widen(&values, &mut wide);
        Cow::Owned(wide)
    }
    match dtype {
        Dtype::F16 => widen::<f16>(bytes),
        Dtype::BF16 => widen::<bf16>(bytes),
        _ => floats(bytes),
    }
}

/// Whether elements of a type are what [`Floats`] holds.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Little-endian bytes as this machine has them.
fn little_endian<T>(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut bytes = Cow::Borrowed(bytes);
    if cfg!(target_endian = "big") {
        bytes.to_mut().chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    }
    bytes
}

/// Little-endian elements, copied where they aren't aligned.
pub(super) fn floats<T: Element>(bytes: &[u8]) -> Cow<'_, [T]> {
    if cfg!(target_endian = "little")
        && let Ok(values) = bytemuck::try_cast_slice(bytes)
    {
        return Cow::Borrowed(values);
    }
    let bytes = little_endian::<T>(bytes);
    Cow::Owned(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
}

/// Floats as the little-endian bytes of a file.
pub(super) fn to_bytes<T: Element>(values: &[T]) -> Cow<'_, [u8]> {
    little_endian::<T>(bytemuck::cast_slice(values))
}

/// The scales of a matrix. Here, and in [`weights`], is where checkpoints make them.
pub(super) fn scales(
    granularity: Granularity,
    shape: (usize, usize),
    values: Vec<f32>,
) -> Result<Scales> {
    Scales::new(values, shape, granularity)
}

/// The weights of a matrix.
pub(super) fn weights(
    shape: (usize, usize),
    codes: Bytes<'static>,
    lut: Lut,
    signs: Option<Bytes<'static>>,
    scales: Scales,
) -> Result<Weights<'static>> {
    let weights = Weights::new(codes, shape, lut, scales)?;
    match signs {
        Some(signs) => weights.with_signs(signs),
        None => Ok(weights),
    }
}
