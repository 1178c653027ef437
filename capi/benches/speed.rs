//! What the C ABI costs, in turns with what it is compared with: `cargo bench -p lutmul-capi`.
//!
//! - A call against the Rust call behind it, with one token and weights of 64×64.
//! - Ranges of 64 rows that two threads of one's own take in turns (`lutmul_matmul_rows`), against
//!   `lutmul_matmul` on two threads of the workspace's. x is packed in both.

use std::ffi::CStr;
use std::hint::black_box;
use std::ptr::null;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use lutmul_capi::product::*;
use lutmul_capi::workspace::lutmul_workspace_reserve_scratch;
use testing::capi::*;

fn main() {
    call();
    for (m, rounds) in [(1, 300), (512, 12)] {
        for mode in [c"f32", c"a16", c"a8", c"a8t"] {
            rows(m, mode, rounds);
        }
    }
}

/// Seconds that something takes.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Best and median.
fn summary(times: &mut [f64]) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}

fn call() {
    const CALLS: usize = 1000;
    let (n, k) = (64, 64);
    for mode in [c"f32", c"a16", c"a8t"] {
        let weights = Weights::encode(n, k, "qins-linear");
        let workspace = Workspace::for_products(&weights, 1, mode, 0);
        let (w, x, mut y) = (noise(n * k, 7), noise(k, 1), vec![0f32; n]);
        let format = lutmul::Format::QinsLinear;
        let rust = lutmul::Weights::encode(&w, (n, k), &format, lutmul::Granularity::Row);
        let rust = rust.expect("weights");
        let mode = mode.to_str().expect("a name").parse().expect("a mode");
        let context = lutmul::Context::new().with_mode(mode);
        let mut context = context.with_threads(lutmul::Threads::One);
        let (mut of_rust, mut of_c) = (Vec::new(), Vec::new());
        for _ in 0..500 {
            of_rust.push(time(|| {
                for _ in 0..CALLS {
                    rust.matmul(black_box(&x), &mut y, &mut context).expect("a product");
                }
            }));
            of_c.push(time(|| {
                for _ in 0..CALLS {
                    let (x, y) = (matrix(black_box(&x), 1, k), matrix_mut(&mut y, 1, n));
                    // SAFETY: pointers to what lives here, as in all of this file.
                    ok(unsafe { lutmul_matmul(workspace.0, weights.0, &x, &y, null()) });
                }
            }));
        }
        let nanoseconds = |times: &mut [f64]| summary(times).map(|t| t * 1e9 / CALLS as f64);
        let (of_rust, of_c) = (nanoseconds(&mut of_rust), nanoseconds(&mut of_c));
        for (i, what) in ["best", "median"].into_iter().enumerate() {
            let [rust, c] = [of_rust[i], of_c[i]];
            println!("call, {mode}, {what}: Rust {rust:.0} ns, C {c:.0} ns, {:.0} more", c - rust);
        }
    }
}

fn rows(m: usize, mode: &CStr, rounds: usize) {
    const ROWS: usize = 64;
    let (n, k) = (16384, 3072);
    let weights = Weights::encode(n, k, "qins-linear");
    let own = Workspace::for_products(&weights, m, mode, 2);
    let (x, mut y) = (noise(m * k, 1), vec![0f32; m * n]);
    let packed = Activations::pack(&own, &weights, &matrix(&x, m, k));
    let to = matrix_mut(&mut y, m, n);
    let workspaces = [0, 1].map(|_| Workspace::new(mode, 0));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (begin, end) = (Barrier::new(2), Barrier::new(2));
    let (w, packed, to) = (Shared(weights.0), Shared(packed.0), Shared(&raw const to));
    let share = |workspace: &Shared<_>| loop {
        let first = next.fetch_add(ROWS, Ordering::Relaxed);
        if first >= n {
            return;
        }
        let (workspace, last) = (workspace.get(), n.min(first + ROWS));
        // SAFETY: as above; no row is taken twice.
        ok(unsafe {
            lutmul_matmul_rows(workspace, w.get(), packed.get(), first, last, to.get(), null())
        });
    };
    for workspace in &workspaces {
        // SAFETY: as above.
        ok(unsafe { lutmul_workspace_reserve_scratch(workspace.0, weights.0, m) });
    }
    let [first, second] = workspaces.each_ref().map(|w| Shared(w.0));
    let (mut of_rows, mut of_own) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                begin.wait();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                share(&second);
                end.wait();
            }
        });
        for _ in 0..rounds {
            of_own.push(time(|| {
                // SAFETY: as above.
                ok(unsafe { lutmul_matmul_packed(own.0, w.get(), packed.get(), to.get(), null()) });
            }));
            of_rows.push(time(|| {
                next.store(0, Ordering::Relaxed);
                begin.wait();
                share(&first);
                end.wait();
            }));
        }
        stop.store(true, Ordering::Relaxed);
        begin.wait();
    });
    let (of_rows, of_own) = (summary(&mut of_rows), summary(&mut of_own));
    for (i, what) in ["best", "median"].into_iter().enumerate() {
        let [rows, own] = [of_rows[i] * 1e3, of_own[i] * 1e3];
        let ratio = own / rows;
        println!("rows, m = {m}, {mode:?}, {what}: own {own:.3} ms, rows {rows:.3} ms, {ratio:.3}");
    }
}
