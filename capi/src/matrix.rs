//! Matrices of the caller's, of any element type and at any address.

use std::ffi::c_void;
use std::ops::Range;

use lutmul::{Element, MatMut, MatRef, Unaligned};

use crate::call::{Caller, is_allocatable, not_null};
use crate::status::*;

/// Types of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum lutmul_element {
    /// float.
    LUTMUL_F32 = 0,
    /// IEEE 754 binary16, in 2 bytes.
    LUTMUL_F16 = 1,
    /// bfloat16, in 2 bytes.
    LUTMUL_BF16 = 2,
}

/// A matrix to read, row-major. The pointer need not be aligned.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_matrix {
    /// The first element; may be NULL if there are none.
    pub data: *const c_void,
    /// Number of rows: tokens in x.
    pub rows: usize,
    /// Number of columns: in features in x.
    pub cols: usize,
    /// Elements from one row to the next; 0 if rows follow each other.
    pub stride: usize,
    /// A lutmul_element.
    pub element: u32,
    /// 0.
    pub reserved: u32,
}

/// A matrix to write to; otherwise as lutmul_matrix. What lies between its rows is left alone.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_matrix_mut {
    /// The first element; may be NULL if there are none.
    pub data: *mut c_void,
    /// Number of rows: tokens in y.
    pub rows: usize,
    /// Number of columns: out features in y.
    pub cols: usize,
    /// Elements from one row to the next; 0 if rows follow each other.
    pub stride: usize,
    /// A lutmul_element.
    pub element: u32,
    /// 0.
    pub reserved: u32,
}

/// Does the same for each type of element: in `work` the type `T` is the one that `element` stands for.
macro_rules! with_element {
    ($element:expr, $T:ident => $work:expr) => {
        match $element {
            $crate::matrix::lutmul_element::LUTMUL_F32 => {
                type $T = f32;
                $work
            }
            $crate::matrix::lutmul_element::LUTMUL_F16 => {
                type $T = lutmul::f16;
                $work
            }
            $crate::matrix::lutmul_element::LUTMUL_BF16 => {
                type $T = lutmul::bf16;
                $work
            }
        }
    };
}
pub(crate) use with_element;

/// A matrix whose numbers mean something. Whether its memory is read or written is for the function to know.
pub(crate) struct Matrix {
    data: *mut c_void,
    pub rows: usize,
    pub cols: usize,
    stride: usize,
    pub element: lutmul_element,
    /// What errors call it.
    argument: &'static str,
}

// SAFETY: the memory is lent to a call, which reads and writes it from the threads that work for it; none of
// them writes where another one reads or writes (`columns`).
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// The matrix that an argument points to, to be read.
    pub fn read(c: &Caller, from: *const lutmul_matrix, argument: &'static str) -> Result<Self> {
        let lutmul_matrix { data, rows, cols, stride, element, reserved } =
            c.read(from, argument)?;
        let data = data.cast_mut();
        let same = lutmul_matrix_mut { data, rows, cols, stride, element, reserved };
        Self::new(same, argument)
    }

    /// The matrix that an argument points to, to be written to.
    pub fn write(c: &Caller, to: *const lutmul_matrix_mut, argument: &'static str) -> Result<Self> {
        Self::new(c.read(to, argument)?, argument)
    }

    fn new(matrix: lutmul_matrix_mut, argument: &'static str) -> Result<Self> {
        use lutmul_element::*;
        let lutmul_matrix_mut { data, rows, cols, stride, element, reserved } = matrix;
        let wrong = |status, field: &str, why| {
            Err(Failure::new(status, &format!("{argument}.{field}"), why))
        };
        for (field, size) in [("rows", rows), ("cols", cols), ("stride", stride)] {
            if !is_allocatable::<u8>(size) {
                let why = format!("{size} is beyond PTRDIFF_MAX (a negative number?)");
                return wrong(LUTMUL_SIZE, field, why);
            }
        }
        let Some(element) =
            [LUTMUL_F32, LUTMUL_F16, LUTMUL_BF16].into_iter().find(|e| *e as u32 == element)
        else {
            return wrong(LUTMUL_VALUE, "element", format!("{element} is no lutmul_element"));
        };
        if reserved != 0 {
            return wrong(LUTMUL_STRUCT, "reserved", format!("is {reserved}, not 0"));
        }
        let stride = if stride == 0 { cols } else { stride };
        Ok(Self { data, rows, cols, stride, element, argument })
    }

    /// Elements from the first to the last, and room for the rows between.
    fn span(&self) -> Result<usize> {
        let Self { rows, cols, stride, argument, .. } = *self;
        if rows == 0 || cols == 0 {
            return Ok(0);
        }
        let span = (rows - 1).checked_mul(stride).and_then(|before| before.checked_add(cols));
        span.ok_or_else(|| {
            let why = format!("{rows} rows of {stride} elements are beyond the address space");
            Failure::new(LUTMUL_SIZE, argument, why)
        })
    }

    /// To be read.
    pub fn view<'a, T: Element>(&self, c: &Caller) -> Result<MatRef<'a, Unaligned<T>>> {
        let data = c.slice(self.data.cast_const().cast(), self.span()?, self.argument)?;
        MatRef::with_stride(data, (self.rows, self.cols), self.stride).of(self.argument)
    }

    /// The elements of a matrix whose rows follow each other, to be read.
    pub fn elements<'a, T: Element>(&self, c: &Caller) -> Result<&'a [Unaligned<T>]> {
        c.slice(self.data.cast_const().cast(), self.dense()?, self.argument)
    }

    /// The same, to be written to.
    pub fn elements_mut<'a, T: Element>(&self, c: &Caller) -> Result<&'a mut [Unaligned<T>]> {
        c.slice_mut(self.data.cast(), self.dense()?, self.argument)
    }

    /// The number of elements, unless rows lie apart.
    fn dense(&self) -> Result<usize> {
        let Self { rows, cols, stride, argument, .. } = *self;
        if stride != cols && rows > 1 {
            let why = format!("is {stride}, but here rows of {cols} must follow each other");
            return Err(Failure::new(LUTMUL_SHAPE, &format!("{argument}.stride"), why));
        }
        self.span()
    }

    /// Some columns, to be written to. Other calls may write to other columns meanwhile.
    pub fn columns<'a, T: Element>(
        &self,
        _: &Caller,
        cols: Range<usize>,
    ) -> Result<MatMut<'a, Unaligned<T>>> {
        if !is_allocatable::<T>(self.span()?) {
            return Err(Failure::new(LUTMUL_SIZE, self.argument, "is beyond the address space"));
        }
        if self.span()? > 0 {
            not_null(self.data, self.argument)?;
        }
        let data = self.data.cast::<Unaligned<T>>().wrapping_add(cols.start);
        // SAFETY: the caller has lent the memory (`Caller`), of which these columns are within the matrix, and
        // initialised it, as the header asks; no other call has these columns.
        unsafe { MatMut::from_raw_parts(data, (self.rows, cols.len()), self.stride) }
            .of(self.argument)
    }
}
