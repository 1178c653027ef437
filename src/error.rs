//! What can go wrong, said so that the caller can act on it.

use std::ops::Range;

use crate::show::{MESSAGE, NAME, TEXT, shortened};

/// An error of lutmul. Every variant names the thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer has another length than its shape asks for.
    #[error("{what}: expected {expected} {unit} for {rows}×{cols}, got {got}")]
    Length {
        /// The buffer.
        what: &'static str,
        /// "bytes" or "elements".
        unit: &'static str,
        /// Rows of the shape.
        rows: usize,
        /// Columns of the shape.
        cols: usize,
        /// Length that the shape asks for.
        expected: usize,
        /// Length that was given.
        got: usize,
    },
    /// The number of elements of a shape is no `usize`.
    #[error("{what}: {rows}×{cols} elements overflow the address space")]
    Overflow {
        /// The matrix.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
    },
    /// A row stride is smaller than a row.
    #[error("{what}: a row stride of {stride} is smaller than its {cols} columns")]
    Stride {
        /// The matrix.
        what: &'static str,
        /// The stride given, in elements.
        stride: usize,
        /// Columns of the matrix.
        cols: usize,
    },
    /// Two matrices of a product don't fit each other.
    #[error("{what}: expected {expected:?} (rows, columns), got {got:?}")]
    Shape {
        /// The matrix that doesn't fit.
        what: &'static str,
        /// Rows and columns that the product asks for.
        expected: (usize, usize),
        /// Rows and columns that were given.
        got: (usize, usize),
    },
    /// A range of rows reaches beyond the matrix.
    #[error("rows {}..{} are not within the {n} rows of the weights", range.start, range.end)]
    RowRange {
        /// The range given.
        range: Range<usize>,
        /// Rows of the weights.
        n: usize,
    },
    /// A weight, a scale or a table entry in use is NaN or infinite.
    #[error("{}: {value} at row {row}, column {col}", shortened(what, MESSAGE))]
    NonFinite {
        /// The tensor.
        what: String,
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        col: usize,
        /// What stands there.
        value: f32,
    },
    /// A table with no finite entry.
    #[error("table: none of its 256 entries is finite")]
    TableNotFinite,
    /// A name that is not in a list of names.
    #[error("{what}: \"{}\" is none of {known}", shortened(got, NAME))]
    Unknown {
        /// What is being named.
        what: &'static str,
        /// The name given.
        got: String,
        /// The names there are.
        known: String,
    },
    /// A kernel that this CPU (or this build) cannot run.
    #[error(
        "kernel \"{}\": this CPU lacks {missing}; it can run {available}",
        shortened(name, NAME)
    )]
    UnsupportedKernel {
        /// The kernel asked for.
        name: String,
        /// The features it needs and the CPU lacks.
        missing: String,
        /// The kernels that can run here.
        available: String,
    },
    /// A parameter out of its range.
    #[error("{}: {}", shortened(what, MESSAGE), shortened(why, TEXT))]
    Invalid {
        /// The parameter.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Activations packed for another kernel, mode or width than the product asks for.
    #[error("activations: packed for {packed}, but the product asks for {asked}")]
    Packing {
        /// How they were packed.
        packed: String,
        /// What the product needs.
        asked: String,
    },
    /// More memory than there is.
    #[error("{what}: there is no memory for {bytes} bytes")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// Floating-point arithmetic is not what products are defined by on this thread.
    #[error("floating-point environment of this thread: {why}")]
    Environment {
        /// What is not at its default.
        why: &'static str,
    },
    /// A file that cannot be read, written or understood.
    #[error("{}: {}", shortened(path, TEXT), shortened(why, TEXT))]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A result with lutmul's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), why: why.into() }
    }

    /// Something is wrong with a file.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn file(path: &std::path::Path, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), why: why.to_string() }
    }
}

/// The number of elements of a `rows × cols` matrix.
pub(crate) fn area(what: &'static str, rows: usize, cols: usize) -> Result<usize> {
    rows.checked_mul(cols).filter(|area| *area <= isize::MAX as usize).ok_or(Error::Overflow {
        what,
        rows,
        cols,
    })
}
