//! Matrices to read and to write, row-major with a stride.

use lutmul_kernels::Columns;

use crate::error::{Error, Result};

/// A row-major matrix to read, the x of a product; its rows may lie apart.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A matrix whose rows follow each other.
    ///
    /// # Errors
    /// A slice of another length than `rows·cols`, or a product that overflows.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        exact(X, data.len(), rows, cols)?;
        Ok(Self { data, rows, cols, stride: cols })
    }

    /// A matrix whose rows lie `stride` elements apart.
    ///
    /// # Errors
    /// A stride smaller than a row, or a slice that ends before the last row does.
    pub fn with_stride(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Result<Self> {
        fits(X, data.len(), rows, cols, stride)?;
        Ok(Self { data, rows, cols, stride })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &'a [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        &self.data[row * self.stride..][..self.cols]
    }
}

/// A row-major matrix to write, the y of a product; its rows may lie apart, and what lies between
/// them is not touched.
#[derive(Debug)]
pub struct MatMut<'a, T>(Columns<'a, T>);

impl<'a, T> MatMut<'a, T> {
    /// A matrix whose rows follow each other.
    ///
    /// # Errors
    /// A slice of another length than `rows·cols`, or a product that overflows.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        exact(Y, data.len(), rows, cols)?;
        Self::with_stride(data, rows, cols, cols)
    }

    /// A matrix whose rows lie `stride` elements apart.
    ///
    /// # Errors
    /// A stride smaller than a row, or a slice that ends before the last row does.
    pub fn with_stride(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Result<Self> {
        let got = data.len();
        fits(Y, got, rows, cols, stride)?;
        let columns = Columns::new(data, rows, cols, stride);
        Ok(Self(columns.ok_or(Error::Stride { what: Y, stride, cols })?))
    }

    /// A matrix by a pointer to its first element, whose rows lie `stride` elements apart.
    ///
    /// For callers whose threads share one matrix by columns, as those of other languages do: slices of
    /// such parts would overlap.
    ///
    /// # Safety
    /// Until `'a` ends, the elements of the matrix (not what lies between its rows) can be read and
    /// written, are initialised, and are reached through this value only. The pointer is aligned, which
    /// for [`Unaligned`](crate::Unaligned) elements it always is.
    ///
    /// # Errors
    /// A stride smaller than a row, or a matrix larger than the address space.
    #[expect(unsafe_code, reason = "only the caller knows what a pointer points to")]
    pub unsafe fn from_raw_parts(
        first: *mut T,
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self> {
        if stride < cols && rows > 1 {
            return Err(Error::Stride { what: Y, stride, cols });
        }
        // SAFETY: what this function asks of its caller.
        let columns = unsafe { Columns::from_raw_parts(first, rows, cols, stride) };
        Ok(Self(columns.ok_or(Error::Overflow { what: Y, rows, cols })?))
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.0.rows()
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.0.cols()
    }

    /// The first `cols` columns and the others: parts for the caller's own threads.
    ///
    /// # Panics
    /// If there are fewer columns.
    pub fn split_columns(self, cols: usize) -> (Self, Self) {
        let (left, right) = self.0.split(cols);
        (Self(left), Self(right))
    }

    /// The same matrix for a shorter time.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut(self.0.reborrow())
    }

    /// The columns.
    pub(crate) fn columns(&mut self) -> &mut Columns<'a, T> {
        &mut self.0
    }
}

/// What errors call the two kinds of matrices.
const X: &str = "x";
const Y: &str = "y";

fn exact(what: &'static str, got: usize, rows: usize, cols: usize) -> Result<()> {
    let expected = crate::error::area(what, rows, cols)?;
    if got == expected {
        return Ok(());
    }
    Err(Error::Length { what, unit: "elements", rows, cols, expected, got })
}

fn fits(what: &'static str, got: usize, rows: usize, cols: usize, stride: usize) -> Result<()> {
    if stride < cols && rows > 1 {
        return Err(Error::Stride { what, stride, cols });
    }
    let before = crate::error::area(what, rows.saturating_sub(1), stride)?;
    let last = if rows == 0 { 0 } else { cols };
    let expected = before.checked_add(last).ok_or(Error::Overflow { what, rows, cols })?;
    if got >= expected {
        return Ok(());
    }
    Err(Error::Length { what, unit: "elements", rows, cols, expected, got })
}
