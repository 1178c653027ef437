//! After a fork the child has one thread. lutmul's calls come to an end there, with the same results, in silence.

#![cfg(target_os = "linux")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};
use std::thread;
use std::time::{Duration, Instant};

use lutmul_capi::product::*;
use lutmul_capi::status::*;
use lutmul_capi::weights::*;
use lutmul_capi::workspace::*;
use testing::capi::*;

/// Runs some work in a child, with what it prints to standard error coming here. It must succeed, print nothing,
/// and come to an end: this fails in a minute if it hangs.
fn in_child(what: &str, work: impl FnOnce()) {
    let mut pipe = [0; 2];
    // SAFETY: an array of two.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: the child goes on with this one thread, as lutmul's header says one may.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{what}: no process");
    if child == 0 {
        // SAFETY: descriptors of our own.
        unsafe { libc::dup2(pipe[1], 2) };
        // Not `resume_unwind`, nor the harness's hook, which would print it for another thread to read.
        let result = catch_unwind(AssertUnwindSafe(work));
        if let Err(panic) = &result {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let _ = writeln!(std::io::stderr(), "failed: {}", text.unwrap_or("a panic"));
        }
        // SAFETY: ends the child, and runs nothing of the harness's.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    // SAFETY: descriptors of our own, each owned once.
    let (mut from, to) = unsafe { (File::from_raw_fd(pipe[0]), File::from_raw_fd(pipe[1])) };
    drop(to);
    let start = Instant::now();
    let mut status = 0;
    // SAFETY: a child of ours.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > Duration::from_secs(60) {
            // SAFETY: as above; it has not been waited for.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: as above.
            unsafe { libc::waitpid(child, &mut status, 0) };
            panic!("{what}: the child hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    from.read_to_string(&mut said).expect("text");
    assert_eq!((status, said.as_str()), (0, ""), "{what}");
}

const N: usize = 700;
const K: usize = 300;
const M: usize = 20;
const MODES: [&CStr; 2] = [c"f32", c"a16"];

/// Everything that uses a workspace's threads; the bits of all results.
fn everything(weights: &Weights, workspace: &Workspace) -> Vec<u32> {
    let x = noise(M * K, 3);
    let x = matrix(&x, M, K);
    let (mut a, mut b, mut c, mut d) =
        (vec![0f32; M * N], vec![0f32; M * N], vec![0f32; M * N], vec![0f32; N * K]);
    let packed = Activations::pack(workspace, weights, &x);
    let original = noise(N * K, 7);
    let original = matrix(&original, N, K);
    let mut encoded = null_mut();
    // SAFETY: all pointers are those of what lives here.
    unsafe {
        let (w, y) = (workspace.0, matrix_mut(&mut a, M, N));
        ok(lutmul_matmul(w, weights.0, &x, &y, null()));
        let y = matrix_mut(&mut b, M, N);
        ok(lutmul_matmul_packed(w, weights.0, packed.0, &y, null()));
        let y = matrix_mut(&mut c, M, N);
        ok(lutmul_matmul_rows(w, weights.0, packed.0, 100, 200, &y, null()));
        let row = c"row".as_ptr();
        ok(lutmul_weights_encode(&original, c"e4m3".as_ptr(), row, w, &mut encoded));
        let to = matrix_mut(&mut d, N, K);
        ok(lutmul_weights_decode(encoded, 0, N, &to, w));
        ok(lutmul_weights_free(encoded));
        ok(lutmul_workspace_reserve(w, weights.0, 2 * M));
    }
    assert_eq!(a, b);
    [a, b, c, d].concat().into_iter().map(f32::to_bits).collect()
}

#[test]
fn workspaces_of_the_parent() {
    let weights = Weights::encode(N, K, "e4m3");
    for (mode, threads) in MODES.into_iter().flat_map(|mode| [1, 2, 3].map(|t| (mode, t))) {
        let what = format!("{mode:?} with {threads} threads");
        let used = Workspace::for_products(&weights, M, mode, threads);
        let expected = everything(&weights, &used);
        let fresh = Workspace::new(mode, threads);
        in_child(&what, || {
            let own = Workspace::for_products(&weights, M, mode, threads);
            for workspace in [&used, &own] {
                assert!(everything(&weights, workspace) == expected, "other bits");
            }
            // A child of the child's, which has threads of neither.
            in_child("the child's child", || {
                for workspace in [&used, &own] {
                    assert!(everything(&weights, workspace) == expected, "other bits");
                    // SAFETY: not used any more in this process.
                    ok(unsafe { lutmul_workspace_free(workspace.0) });
                }
            });
            for workspace in [used.0, fresh.0, own.0] {
                // SAFETY: not used any more in this process.
                ok(unsafe { lutmul_workspace_free(workspace) });
            }
            std::mem::forget(own);
        });
        // The parent's threads are none of the child's affair.
        assert!(everything(&weights, &used) == expected, "{what}: other bits in the parent");
    }
}

#[test]
fn a_workspace_that_was_in_use() {
    let owner = Weights::encode(4096, 2048, "e4m3");
    let workspace = Workspace::for_products(&owner, 64, c"f32", 2);
    let x = noise(64 * 2048, 3);
    let (shared, weights) = (Shared(workspace.0.cast_const()), Shared(owner.0.cast_const()));
    let product = |workspace: *mut lutmul_workspace| {
        let mut y = vec![0f32; 64 * 4096];
        let (x, y) = (matrix(&x, 64, 2048), matrix_mut(&mut y, 64, 4096));
        // SAFETY: all pointers are those of what lives here.
        unsafe { lutmul_matmul(workspace, weights.get(), &x, &y, null()) }
    };
    for delay in 0..8 {
        thread::scope(|scope| {
            let busy = scope.spawn(|| ok(product(shared.get())));
            thread::sleep(Duration::from_millis(delay));
            in_child("during a product", || {
                let status = product(workspace.0);
                assert!([LUTMUL_OK, LUTMUL_BUSY].contains(&status), "{status:?}");
                // SAFETY: not used any more in this process.
                ok(unsafe { lutmul_workspace_free(workspace.0) });
            });
            busy.join().expect("a product");
        });
    }
}
