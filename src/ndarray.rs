//! Arrays of the crate `ndarray` as matrices: standard order within rows, which may lie apart.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::mat::{IntoMatMut, IntoMatRef, MatMut, MatRef};

/// The distance of an array's rows. Refuses arrays whose rows are not slices (transposed ones, and those with every
/// other column), or in reverse order.
fn stride(what: &'static str, (rows, cols): (usize, usize), strides: &[isize]) -> Result<usize> {
    let refused = |why: &str| {
        let copy = "`as_standard_layout` copies it into one that can be taken";
        Err(Error::invalid(what, format!("is an array of strides {strides:?}, {why}; {copy}")))
    };
    if cols > 1 && strides[1] != 1 {
        return refused("whose rows are not contiguous");
    }
    // One row has no next one, whatever its stride says.
    match usize::try_from(strides[0]) {
        _ if rows <= 1 => Ok(cols),
        Ok(stride) => Ok(stride),
        Err(_) => refused("whose rows are in reverse order"),
    }
}

impl<'a, T: Element> IntoMatRef<'a> for ArrayView2<'a, T> {
    type Element = T;

    #[expect(unsafe_code, reason = "an array whose rows lie apart is no slice")]
    fn into_mat_ref(self, _: usize) -> Result<MatRef<'a, T>> {
        let stride = stride("x", self.dim(), self.strides())?;
        // SAFETY: the view has the elements, which are initialised and not written until 'a ends; its rows are
        // contiguous and lie `stride` apart (`stride`).
        unsafe { MatRef::from_raw_parts(self.as_ptr(), self.dim(), stride) }
    }
}

impl<'a, T: Element> IntoMatMut<'a> for ArrayViewMut2<'a, T> {
    type Element = T;

    #[expect(unsafe_code, reason = "an array whose rows lie apart is no slice")]
    fn into_mat_mut(mut self, _: (usize, usize)) -> Result<MatMut<'a, T>> {
        let stride = stride("y", self.dim(), self.strides())?;
        // SAFETY: the view has the elements, which are initialised, for itself until 'a ends, and is used up here;
        // its rows are contiguous and lie `stride` apart (`stride`).
        unsafe { MatMut::from_raw_parts(self.as_mut_ptr(), self.dim(), stride) }
    }
}

impl<'a, T: Element> IntoMatRef<'a> for &'a Array2<T> {
    type Element = T;

    fn into_mat_ref(self, cols: usize) -> Result<MatRef<'a, T>> {
        self.view().into_mat_ref(cols)
    }
}

impl<'a, T: Element> IntoMatMut<'a> for &'a mut Array2<T> {
    type Element = T;

    fn into_mat_mut(self, shape: (usize, usize)) -> Result<MatMut<'a, T>> {
        self.view_mut().into_mat_mut(shape)
    }
}
