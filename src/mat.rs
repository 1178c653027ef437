//! Matrices to read and to write, row-major with a stride.

use lutmul_kernels::{Columns, Rows};

use crate::element::Element;
use crate::error::{Error, Result, area};

/// A row-major matrix to read, the x of a product; its rows may lie apart.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T>(Rows<'a, T>);

impl<'a, T> MatRef<'a, T> {
    /// A matrix of a shape (rows, columns), whose rows follow each other.
    ///
    /// # Errors
    /// A slice of another length than the shape has elements, or a shape that overflows.
    pub fn new(data: &'a [T], shape: (usize, usize)) -> Result<Self> {
        exact(X, data.len(), shape)?;
        Self::with_stride(data, shape, shape.1)
    }

    /// A matrix whose rows lie `stride` elements apart.
    ///
    /// # Errors
    /// A stride smaller than a row, or a slice that ends before the last row does.
    pub fn with_stride(data: &'a [T], shape: (usize, usize), stride: usize) -> Result<Self> {
        fits(X, data.len(), shape, stride)?;
        let (rows, cols) = shape;
        let matrix = Rows::new(data, rows, cols, stride);
        Ok(Self(matrix.ok_or(Error::Stride { what: X, stride, cols })?))
    }

    /// A matrix by a pointer to its first element, whose rows lie `stride` elements apart.
    ///
    /// # Safety
    /// Until `'a` ends, the elements of the matrix (not what lies between its rows) can be read, are initialised, and are
    /// not written. The pointer is aligned, which for [`Unaligned`](crate::Unaligned) elements it always is.
    ///
    /// # Errors
    /// A stride smaller than a row, or a matrix larger than the address space.
    #[expect(unsafe_code, reason = "only the caller knows what a pointer points to")]
    pub unsafe fn from_raw_parts(
        first: *const T,
        (rows, cols): (usize, usize),
        stride: usize,
    ) -> Result<Self> {
        if stride < cols && rows > 1 {
            return Err(Error::Stride { what: X, stride, cols });
        }
        // SAFETY: what this function asks of its caller.
        let matrix = unsafe { Rows::from_raw_parts(first, rows, cols, stride) };
        Ok(Self(matrix.ok_or(Error::Overflow { what: X, rows, cols })?))
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.0.rows()
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.0.cols()
    }

    /// A row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &'a [T] {
        self.0.row(row)
    }
}

/// A row-major matrix to write, the y of a product; its rows may lie apart, and what lies between
/// them is not touched.
#[derive(Debug)]
pub struct MatMut<'a, T>(Columns<'a, T>);

impl<'a, T> MatMut<'a, T> {
    /// A matrix of a shape (rows, columns), whose rows follow each other.
    ///
    /// # Errors
    /// A slice of another length than the shape has elements, or a shape that overflows.
    pub fn new(data: &'a mut [T], shape: (usize, usize)) -> Result<Self> {
        exact(Y, data.len(), shape)?;
        Self::with_stride(data, shape, shape.1)
    }

    /// A matrix whose rows lie `stride` elements apart.
    ///
    /// # Errors
    /// A stride smaller than a row, or a slice that ends before the last row does.
    pub fn with_stride(data: &'a mut [T], shape: (usize, usize), stride: usize) -> Result<Self> {
        fits(Y, data.len(), shape, stride)?;
        let (rows, cols) = shape;
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
        (rows, cols): (usize, usize),
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

fn exact(what: &'static str, got: usize, (rows, cols): (usize, usize)) -> Result<()> {
    let expected = area(what, rows, cols)?;
    if got == expected {
        return Ok(());
    }
    Err(Error::Length { what, unit: "elements", rows, cols, expected, got })
}

fn fits(what: &'static str, got: usize, shape: (usize, usize), stride: usize) -> Result<()> {
    let (rows, cols) = shape;
    if stride < cols && rows > 1 {
        return Err(Error::Stride { what, stride, cols });
    }
    let before = area(what, rows.saturating_sub(1), stride)?;
    let last = if rows == 0 { 0 } else { cols };
    let expected = before.checked_add(last).ok_or(Error::Overflow { what, rows, cols })?;
    if got >= expected {
        return Ok(());
    }
    Err(Error::Length { what, unit: "elements", rows, cols, expected, got })
}

/// What can be read as a matrix with a given number of columns: a [`MatRef`], or a slice, `Vec` or array of rows that
/// follow each other; views of `ndarray` with that feature.
pub trait IntoMatRef<'a> {
    /// The type of its elements.
    type Element: Element;

    /// The matrix. One that knows its own shape may have another number of columns than `cols`: it is its user who
    /// checks that.
    ///
    /// # Errors
    /// What has no matrix of so many columns: a slice whose length is no multiple of them, or that is not empty though
    /// they are none; rows that are not contiguous.
    fn into_mat_ref(self, cols: usize) -> Result<MatRef<'a, Self::Element>>;
}

/// What can be written as a matrix of a given shape: a [`MatMut`], or a slice, `Vec` or array of rows that
/// follow each other; mutable views of `ndarray` with that feature.
pub trait IntoMatMut<'a> {
    /// The type of its elements.
    type Element: Element;

    /// The matrix. One that knows its own shape may have another one: it is its user who checks that.
    ///
    /// # Errors
    /// What is no matrix of that shape: a slice of another length; rows that are not contiguous.
    fn into_mat_mut(self, shape: (usize, usize)) -> Result<MatMut<'a, Self::Element>>;
}

impl<'a, T: Element> IntoMatRef<'a> for MatRef<'a, T> {
    type Element = T;

    fn into_mat_ref(self, _: usize) -> Result<Self> {
        Ok(self)
    }
}

impl<'a, T: Element> IntoMatMut<'a> for MatMut<'a, T> {
    type Element = T;

    fn into_mat_mut(self, _: (usize, usize)) -> Result<Self> {
        Ok(self)
    }
}

impl<'a, T: Element> IntoMatRef<'a> for &'a [T] {
    type Element = T;

    fn into_mat_ref(self, cols: usize) -> Result<MatRef<'a, T>> {
        // As many rows as it would take: the error says what is missing in the last.
        MatRef::new(self, (self.len().div_ceil(cols.max(1)), cols))
    }
}

impl<'a, T: Element> IntoMatMut<'a> for &'a mut [T] {
    type Element = T;

    fn into_mat_mut(self, shape: (usize, usize)) -> Result<MatMut<'a, T>> {
        MatMut::new(self, shape)
    }
}

/// For what is a slice by another name.
macro_rules! as_slices {
    ($([$($parameter:tt)*] $type:ty),*) => {$(
        impl<'a, T: Element, $($parameter)*> IntoMatRef<'a> for &'a $type {
            type Element = T;

            fn into_mat_ref(self, cols: usize) -> Result<MatRef<'a, T>> {
                self[..].into_mat_ref(cols)
            }
        }

        impl<'a, T: Element, $($parameter)*> IntoMatMut<'a> for &'a mut $type {
            type Element = T;

            fn into_mat_mut(self, shape: (usize, usize)) -> Result<MatMut<'a, T>> {
                self[..].into_mat_mut(shape)
            }
        }
    )*};
}

as_slices!([] Vec<T>, [const N: usize] [T; N]);
