//! What tests of the C functions share: handles made and freed, and what a failed call says.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};

use lutmul_capi::activations::*;
use lutmul_capi::matrix::*;
use lutmul_capi::status::*;
use lutmul_capi::weights::*;
use lutmul_capi::workspace::*;

/// The text of this thread's last failure.
pub fn last_error() -> String {
    // SAFETY: the function returns a string that ends.
    unsafe { CStr::from_ptr(lutmul_last_error()) }.to_str().expect("UTF-8").into()
}

#[track_caller]
pub fn ok(status: lutmul_status) {
    assert_eq!(status, LUTMUL_OK, "{}", last_error());
}

/// Expects a failure whose text begins with function and argument, and has some more words in it.
#[track_caller]
pub fn fails(status: lutmul_status, expected: lutmul_status, start: &str, words: &str) {
    let text = last_error();
    assert_eq!(status, expected, "{text}");
    assert!(text.starts_with(&format!("{start}: ")), "{text:?} does not begin with {start:?}");
    assert!(text.contains(words), "{text:?} does not say {words:?}");
}

/// A matrix of floats to read.
pub fn matrix(data: &[f32], rows: usize, cols: usize) -> lutmul_matrix {
    let data = data.as_ptr().cast();
    lutmul_matrix { data, rows, cols, stride: 0, element: LUTMUL_F32 as u32, reserved: 0 }
}

/// A matrix of floats to write to.
pub fn matrix_mut(data: &mut [f32], rows: usize, cols: usize) -> lutmul_matrix_mut {
    let data = data.as_mut_ptr().cast::<c_void>();
    lutmul_matrix_mut { data, rows, cols, stride: 0, element: LUTMUL_F32 as u32, reserved: 0 }
}

use lutmul_element::LUTMUL_F32;

/// A pointer that threads share.
#[derive(Clone, Copy)]
pub struct Shared<T>(pub *const T);

// SAFETY: what the header says of threads is the test's to keep.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn get(&self) -> *mut T {
        self.0.cast_mut()
    }
}

/// Floats in −1…1.
pub fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub struct Weights(pub *mut lutmul_weights);
pub struct Workspace(pub *mut lutmul_workspace);
pub struct Activations(pub *mut lutmul_activations);

impl Weights {
    pub fn encode(n: usize, k: usize, format: &str) -> Self {
        let w = noise(n * k, 7);
        let (format, mut weights) = (CString::new(format).expect("a name"), null_mut());
        let (original, row) = (matrix(&w, n, k), c"row".as_ptr());
        // SAFETY: all pointers are those of what lives here.
        let status = unsafe {
            lutmul_weights_encode(&original, format.as_ptr(), row, null_mut(), &mut weights)
        };
        ok(status);
        Self(weights)
    }
}

impl Workspace {
    pub fn new(mode: &CStr, threads: usize) -> Self {
        let size = size_of::<lutmul_options>();
        let options = lutmul_options { size, kernel: null(), mode: mode.as_ptr(), threads };
        let mut workspace = null_mut();
        // SAFETY: as above.
        ok(unsafe { lutmul_workspace_create(&options, &mut workspace) });
        Self(workspace)
    }

    pub fn for_products(weights: &Weights, tokens: usize, mode: &CStr, threads: usize) -> Self {
        let workspace = Self::new(mode, threads);
        // SAFETY: as above.
        ok(unsafe { lutmul_workspace_reserve(workspace.0, weights.0, tokens) });
        workspace
    }
}

impl Activations {
    pub fn pack(workspace: &Workspace, weights: &Weights, x: &lutmul_matrix) -> Self {
        let mut activations = null_mut();
        // SAFETY: as above.
        unsafe {
            ok(lutmul_activations_create(&mut activations));
            ok(lutmul_activations_reserve(activations, workspace.0, weights.0, x.rows));
            ok(lutmul_activations_pack(activations, workspace.0, weights.0, x));
        }
        Self(activations)
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        // SAFETY: made above, freed once.
        unsafe { lutmul_weights_free(self.0) };
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { lutmul_workspace_free(self.0) };
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { lutmul_activations_free(self.0) };
    }
}
