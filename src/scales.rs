//! Scales and how much of the matrix each of them covers.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result, area};

/// The part of a matrix that shares one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// The whole tensor.
    Tensor,
    /// A row.
    Row,
    /// `N` neighbouring weights of a row; the last group of a row may be shorter.
    Group(usize),
    /// A block of rows × columns, such as 128×128; blocks at the edges may be partial.
    Block(usize, usize),
}

impl Granularity {
    /// Rows and columns that one scale covers in an `n × k` matrix (never 0).
    pub fn block(self, (n, k): (usize, usize)) -> (usize, usize) {
        match self {
            Self::Tensor => (n.max(1), k.max(1)),
            Self::Row => (1, k.max(1)),
            Self::Group(cols) => (1, cols),
            Self::Block(rows, cols) => (rows, cols),
        }
    }

    /// Rows and columns of the grid of scales of an `n × k` matrix. What has no weights has no scales, but for
    /// the one of a tensor.
    pub fn grid(self, (n, k): (usize, usize)) -> (usize, usize) {
        let (rows, cols) = self.block((n, k));
        match self {
            Self::Tensor => (1, 1),
            Self::Row => (n, k.min(1)),
            Self::Group(_) | Self::Block(..) => (n.div_ceil(rows), k.div_ceil(cols)),
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor => f.write_str("tensor"),
            Self::Row => f.write_str("row"),
            Self::Group(n) => write!(f, "group:{n}"),
            Self::Block(r, c) => write!(f, "block:{r}x{c}"),
        }
    }
}

impl FromStr for Granularity {
    type Err = Error;

    /// Reads `tensor`, `row`, `group:N` and `block:RxC`.
    fn from_str(text: &str) -> Result<Self> {
        let size = |s: &str| s.parse().ok().filter(|size: &usize| *size > 0);
        let parsed = match text.split_once(':') {
            None if text == "tensor" => Some(Self::Tensor),
            None if text == "row" => Some(Self::Row),
            Some(("group", n)) => size(n).map(Self::Group),
            Some(("block", block)) => {
                block.split_once('x').and_then(|(r, c)| Some(Self::Block(size(r)?, size(c)?)))
            }
            _ => None,
        };
        parsed.ok_or_else(|| Error::Unknown {
            what: "scales",
            got: text.into(),
            known: "tensor, row, group:N, block:RxC (N, R, C ≥ 1)".into(),
        })
    }
}

/// The scales of a matrix: one finite `f32` for every part, row-major over the grid of parts.
///
/// They are always multiplied, and always held in memory of our own (files align them at will).
#[derive(Clone, Debug, PartialEq)]
pub struct Scales {
    values: Vec<f32>,
    granularity: Granularity,
    shape: (usize, usize),
}

impl Scales {
    /// Scales of an `n × k` matrix; `values` is the grid of [`Granularity::grid`], row-major.
    ///
    /// ```
    /// use lutmul::{Granularity, Scales};
    ///
    /// // 256 × 200 weights in blocks of 128 × 128: two by two of them, the right ones partial.
    /// let blocks = Granularity::Block(128, 128);
    /// assert_eq!(blocks.grid((256, 200)), (2, 2));
    /// let scales = Scales::new(vec![0.1, 0.2, 0.3, 0.4], (256, 200), blocks)?;
    /// assert_eq!(scales.at(130, 0), 0.3);
    ///
    /// let error = Scales::new(vec![1.0; 255], (256, 200), Granularity::Row).unwrap_err();
    /// assert_eq!(error.to_string(), "scales: expected 256 elements for 256×1, got 255");
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// A group or block size of 0, a wrong number of values, or a value that is NaN or infinite
    /// (row and column are then those of the grid).
    ///
    /// Rows without columns had a scale each in files of former versions: so many values are fine, and dropped.
    pub fn new(
        mut values: Vec<f32>,
        shape: (usize, usize),
        granularity: Granularity,
    ) -> Result<Self> {
        let (n, k) = shape;
        if let (0, _) | (_, 0) = granularity.block(shape) {
            return Err(Error::invalid("scales", format!("{granularity} has a size of 0")));
        }
        let (rows, cols) = granularity.grid(shape);
        let expected = area("scales", rows, cols)?;
        let of_rows = k == 0 && granularity == Granularity::Row && values.len() == n;
        if values.len() != expected && !of_rows {
            let (what, unit, got) = ("scales", "elements", values.len());
            return Err(Error::Length { what, unit, rows, cols, expected, got });
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            let cols = cols.max(1);
            let (row, col) = (i / cols, i % cols);
            return Err(Error::NonFinite { what: "scales".into(), row, col, value: values[i] });
        }
        if expected == 0 {
            values = Vec::new();
        }
        Ok(Self { values, granularity, shape })
    }

    /// One scale for the whole matrix.
    ///
    /// # Errors
    /// A scale that is NaN or infinite.
    pub fn tensor(scale: f32, shape: (usize, usize)) -> Result<Self> {
        Self::new(vec![scale], shape, Granularity::Tensor)
    }

    /// The values, row-major over the grid.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// What each scale covers.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Rows and columns of the weights they belong to.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Scales in a row of the grid.
    pub(crate) fn row_len(&self) -> usize {
        self.granularity.grid(self.shape).1
    }

    /// The scales of a row of weights, one for every [`Granularity::block`]`.1` columns.
    pub fn row(&self, row: usize) -> &[f32] {
        let cols = self.row_len();
        let grid_row = row / self.granularity.block(self.shape).0;
        &self.values[grid_row * cols..][..cols]
    }

    /// The scales of rows of weights, from `row` on, in one group of columns.
    pub(crate) fn column(&self, row: usize, group: usize, mut to: &mut [f32]) {
        let block = self.granularity.block(self.shape).0;
        let grid_rows = self.values[group..].iter().step_by(self.row_len()).skip(row / block);
        if block == 1 {
            to.iter_mut().zip(grid_rows).for_each(|(to, scale)| *to = *scale);
            return;
        }
        let mut left = block - row % block;
        for scale in grid_rows {
            let rows = to.split_off_mut(..left.min(to.len())).unwrap_or_default();
            rows.fill(*scale);
            left = block;
            if to.is_empty() {
                break;
            }
        }
    }

    /// The scale of a weight.
    pub fn at(&self, row: usize, col: usize) -> f32 {
        self.row(row)[col / self.granularity.block(self.shape).1]
    }
}
