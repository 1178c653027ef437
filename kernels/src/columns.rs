//! A matrix to write to, which threads can share by columns.

use std::marker::PhantomData;
use std::ops::Range;

/// Exclusive access to a block of columns of a row-major matrix.
///
/// The rows of a product's weights are the columns of its result, so threads that share a product
/// need disjoint columns of one buffer, which no slice can express: hence this type.
#[derive(Debug)]
pub struct Columns<'a, T> {
    /// The first element of the first row.
    first: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Columns` is exclusive access to its elements, as a `&mut [T]` is.
unsafe impl<T: Send> Send for Columns<'_, T> {}
// SAFETY: through a shared `Columns` nothing can be reached.
unsafe impl<T: Sync> Sync for Columns<'_, T> {}

impl<'a, T> Columns<'a, T> {
    /// All columns of a matrix whose rows lie `stride` elements apart; `None` if the stride is
    /// smaller than a row or the slice shorter than the matrix.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Option<Self> {
        let fits = span(rows, cols, stride)? <= data.len();
        fits.then_some(Self { first: data.as_mut_ptr(), rows, cols, stride, borrow: PhantomData })
    }

    /// The same from a pointer to the first element; `None` if the stride is smaller than a row, or the
    /// matrix larger than an allocation can be.
    ///
    /// # Safety
    /// Until `'a` ends, the elements of the matrix (not what lies between its rows) can be read and written,
    /// are initialised, and are reached through this value only. The pointer is aligned.
    pub unsafe fn from_raw_parts(
        first: *mut T,
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

    /// A part of a row.
    ///
    /// # Panics
    /// If row or columns are outside of the block.
    pub fn part(&mut self, row: usize, cols: Range<usize>) -> &mut [T] {
        assert!(row < self.rows && cols.start <= cols.end && cols.end <= self.cols);
        // SAFETY: within the matrix (the line above, and `new` for the matrix within its slice), and
        // exclusive: `split` leaves each column in one block only, and `&mut self` is held.
        unsafe {
            let first = self.first.add(row * self.stride + cols.start);
            std::slice::from_raw_parts_mut(first, cols.len())
        }
    }

    /// Asks for a part of some rows ahead of writing to it. Rows of a wide matrix are far apart: without
    /// this, writing a tile of 64 tokens waited for memory again and again, as long as a tenth of the
    /// tile's products took.
    pub fn prefetch(&self, rows: Range<usize>, cols: Range<usize>) {
        for row in rows {
            for offset in (cols.start * size_of::<T>()..cols.end * size_of::<T>()).step_by(64) {
                let first = self.first.wrapping_add(row * self.stride);
                crate::prefetch::line(first.cast_const().cast::<u8>().wrapping_add(offset));
            }
        }
    }

    /// The block's first `cols` columns, and the others.
    ///
    /// # Panics
    /// If the block has fewer columns.
    pub fn split(self, cols: usize) -> (Self, Self) {
        assert!(cols <= self.cols);
        // A matrix without rows may have an empty slice, within which there is nowhere to go.
        let offset = if self.rows == 0 { 0 } else { cols };
        // SAFETY: with a row there are `self.cols ≥ cols` elements from `first` on (`new`).
        let second = unsafe { self.first.add(offset) };
        (Self { cols, ..self }, Self { first: second, cols: self.cols - cols, ..self })
    }

    /// The same columns for a shorter time.
    pub fn reborrow(&mut self) -> Columns<'_, T> {
        Columns { borrow: PhantomData, ..*self }
    }
}

/// Elements from the first to the last one of a matrix; `None` if rows overlap, or if they are too many.
pub(crate) fn span(rows: usize, cols: usize, stride: usize) -> Option<usize> {
    match rows {
        0 => Some(0),
        1 => Some(cols),
        _ if stride < cols => None,
        _ => (rows - 1).checked_mul(stride)?.checked_add(cols),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!(span(0, 5, 0), Some(0));
        assert_eq!(span(1, 5, 0), Some(5));
        assert_eq!(span(3, 5, 7), Some(19));
        assert_eq!(span(2, 5, 4), None);
        assert_eq!(span(usize::MAX, 2, 2), None);
    }

    #[test]
    fn columns_by_a_pointer() {
        let mut data = [0u8; 12];
        let first = data.as_mut_ptr();
        // SAFETY: two columns of two rows each, and no column in both.
        let (left, right) = unsafe {
            let left = Columns::from_raw_parts(first, 2, 2, 6);
            (left, Columns::from_raw_parts(first.add(3), 2, 2, 6))
        };
        let (mut left, mut right) = (left.expect("columns"), right.expect("columns"));
        left.part(1, 0..2).fill(1);
        right.part(0, 1..2).fill(2);
        assert_eq!(data, [0, 0, 0, 0, 2, 0, 1, 1, 0, 0, 0, 0]);
        // SAFETY: nothing of these is read or written.
        unsafe {
            assert!(Columns::from_raw_parts(first, 2, 5, 4).is_none());
            assert!(Columns::from_raw_parts(first, usize::MAX, 5, 8).is_none());
        }
    }
}
