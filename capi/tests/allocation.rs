//! Once memory is reserved, no product allocates: on this thread or on the workspace's. (Without the test
//! harness, for all threads are counted.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};

use lutmul::Mode;
use lutmul_capi::product::*;
use lutmul_capi::weights::lutmul_weights_prepare;
use testing::capi::*;

/// Counts what all threads allocate.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: what the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations while something is done.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

fn main() {
    const MOST: usize = 40;
    let (mut failures, mut workspaces) = (Vec::new(), 0);
    let shapes = [("qins-linear", 300, 200), ("e4m3", 1000, 300), ("kmeans", 70, 2000)];
    let quick = std::env::var_os("LUTMUL_QUICK").is_some();
    for (format, n, k) in shapes.into_iter().take(if quick { 1 } else { 3 }) {
        let weights = Weights::encode(n, k, format);
        let (x, bias) = (noise(MOST * k, 3), noise(n + 1, 5));
        let mut y = vec![0f32; MOST * n];
        for (mode, threads) in
            Mode::ALL.into_iter().flat_map(|mode| [0, 2, 3].map(|threads| (mode, threads)))
        {
            let name = CString::new(mode.name()).expect("a name");
            let workspace = Workspace::for_products(&weights, MOST, &name, threads);
            // SAFETY: pointers to what lives here, as in all of this test.
            ok(unsafe { lutmul_weights_prepare(weights.0, workspace.0) });
            let activations = Activations::pack(&workspace, &weights, &matrix(&x, MOST, k));
            let more = allocations(|| {
                for m in (0..200).map(|i| 1 + i % MOST) {
                    let (from, to) = (matrix(&x, m, k), matrix_mut(&mut y[..m * n], m, n));
                    // At an odd address: it is copied.
                    let bias = bias.as_ptr().wrapping_byte_add(m % 3);
                    let (size, activation) = (size_of::<lutmul_epilogue>(), c"silu".as_ptr());
                    let epilogue =
                        lutmul_epilogue { size, bias, bias_count: n, activation, accumulate: 1 };
                    // SAFETY: as above.
                    unsafe { ok(lutmul_matmul(workspace.0, weights.0, &from, &to, &epilogue)) };
                }
                let to = matrix_mut(&mut y, MOST, n);
                for first in (0..n).step_by(64) {
                    let end = n.min(first + 64);
                    // SAFETY: as above.
                    ok(unsafe {
                        lutmul_matmul_rows(
                            workspace.0,
                            weights.0,
                            activations.0,
                            first,
                            end,
                            &to,
                            null(),
                        )
                    });
                }
                // SAFETY: as above.
                ok(unsafe {
                    lutmul_matmul_packed(workspace.0, weights.0, activations.0, &to, null())
                });
            });
            workspaces += 1;
            if more > 0 {
                failures.push(format!("{format}, {mode:?}, {threads} threads: {more}"));
            }
        }
    }
    assert!(failures.is_empty(), "allocations in products: {failures:#?}");
    println!("no product of {workspaces} workspaces allocates");
}
