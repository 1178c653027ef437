//! A matrix to read, between whose rows lies what is not its own.

use std::marker::PhantomData;

use crate::columns::span;

/// Shared access to the rows of a row-major matrix.
///
/// What lies between the rows may be somebody else's, and be written meanwhile, which no slice can express: hence
/// this type.
#[derive(Debug)]
pub struct Rows<'a, T> {
    /// The first element of the first row.
    first: *const T,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a [T]>,
}

impl<T> Clone for Rows<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Rows<'_, T> {}

// SAFETY: a `Rows` is shared access to its elements, as a `&[T]` is.
unsafe impl<T: Sync> Send for Rows<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    /// A matrix whose rows lie `stride` elements apart; `None` if the stride is smaller than a row or the
    /// slice shorter than the matrix.
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Option<Self> {
        let fits = span(rows, cols, stride)? <= data.len();
        fits.then_some(Self { first: data.as_ptr(), rows, cols, stride, borrow: PhantomData })
    }

    /// The same from a pointer to the first element; `None` if the stride is smaller than a row, or the
    /// matrix larger than an allocation can be.
    ///
    /// # Safety
    /// Until `'a` ends, the elements of the matrix (not what lies between its rows) can be read, are initialised,
    /// and are not written. The pointer is aligned.
    pub unsafe fn from_raw_parts(
        first: *const T,
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Option<Self> {
        let len = span(rows, cols, stride)?;
        let fits = len.checked_mul(size_of::<T>())? <= isize::MAX as usize;
        fits.then_some(Self { first, rows, cols, stride, borrow: PhantomData })
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
        // SAFETY: within the matrix (the line above), which is there for 'a (`new`, or what `from_raw_parts` asks).
        unsafe { std::slice::from_raw_parts(self.first.add(row * self.stride), self.cols) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_lie_apart() {
        let data: [u8; 8] = std::array::from_fn(|i| i as u8);
        let matrix = Rows::new(&data, 2, 3, 5).expect("as long as it needs to be");
        assert_eq!((matrix.row(0), matrix.row(1)), (&data[..3], &data[5..]));
        assert!(Rows::new(&data, 2, 4, 5).is_none());
        // SAFETY: nothing of these is read.
        unsafe {
            assert!(Rows::from_raw_parts(data.as_ptr(), 2, 5, 4).is_none());
            assert!(Rows::from_raw_parts(data.as_ptr(), usize::MAX, 5, 8).is_none());
        }
    }
}
