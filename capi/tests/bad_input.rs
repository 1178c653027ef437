//! Wrong calls: a status, a text that names the function and the argument, and y as it was.

use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lutmul::Mode;
use lutmul_capi::activations::*;
use lutmul_capi::file::*;
use lutmul_capi::kernel::*;
use lutmul_capi::matrix::*;
use lutmul_capi::product::*;
use lutmul_capi::status::*;
use lutmul_capi::table::*;
use lutmul_capi::weights::*;
use lutmul_capi::workspace::*;
use testing::capi::*;

const M: usize = 2;
const N: usize = 5;
const K: usize = 64;

/// A product that would be right, to be made wrong in one place at a time.
struct Right {
    weights: Weights,
    workspace: Workspace,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Right {
    fn new(mode: &CStr) -> Self {
        let weights = Weights::encode(N, K, "qins-linear");
        let workspace = Workspace::for_products(&weights, M, mode, 0);
        Self { weights, workspace, x: noise(M * K, 1), y: vec![7.0; M * N] }
    }

    fn epilogue() -> lutmul_epilogue {
        let size = size_of::<lutmul_epilogue>();
        lutmul_epilogue { size, bias: null(), bias_count: 0, activation: null(), accumulate: 0 }
    }

    /// Makes the product with something changed; it must fail, and leave y alone.
    #[track_caller]
    fn fails(
        &mut self,
        expected: lutmul_status,
        argument: &str,
        words: &str,
        change: impl Fn(&mut lutmul_matrix, &mut lutmul_matrix_mut, &mut lutmul_epilogue),
    ) {
        let mut x = matrix(&self.x, M, K);
        let mut y = matrix_mut(&mut self.y, M, N);
        let mut epilogue = Self::epilogue();
        change(&mut x, &mut y, &mut epilogue);
        // SAFETY: what `change` leaves valid is; the rest must not be looked at.
        let status = unsafe { lutmul_matmul(self.workspace.0, self.weights.0, &x, &y, &epilogue) };
        fails(status, expected, &format!("lutmul_matmul: {argument}"), words);
        assert!(self.y.iter().all(|y| *y == 7.0), "y was written to");
    }
}

#[test]
fn matrices() {
    for mode in [c"f32", c"a16"] {
        let mut right = Right::new(mode);
        right.fails(LUTMUL_NULL, "x", "is NULL", |x, _, _| x.data = null());
        right.fails(LUTMUL_NULL, "y", "is NULL", |_, y, _| y.data = null_mut());
        right.fails(LUTMUL_SIZE, "x.rows", "negative", |x, _, _| x.rows = -1isize as usize);
        right.fails(LUTMUL_SIZE, "y.cols", "negative", |_, y, _| y.cols = -5isize as usize);
        right.fails(LUTMUL_SIZE, "x.stride", "negative", |x, _, _| x.stride = usize::MAX);
        right.fails(LUTMUL_SIZE, "x", "PTRDIFF_MAX", |x, _, _| x.stride = isize::MAX as usize);
        right.fails(LUTMUL_SIZE, "y", "address space", |_, y, _| y.stride = isize::MAX as usize);
        right.fails(LUTMUL_TOO_SMALL, "workspace", "this needs", |x, _, _| x.rows = 1 << 20);
        right.fails(LUTMUL_SHAPE, "x", "expected (2, 64)", |x, _, _| x.cols = K - 1);
        right.fails(LUTMUL_SHAPE, "x", "stride of 63", |x, _, _| x.stride = K - 1);
        right.fails(LUTMUL_SHAPE, "y", "expected (2, 5)", |_, y, _| y.rows = M + 1);
        right.fails(LUTMUL_SHAPE, "y", "expected (2, 5)", |_, y, _| y.cols = N + 1);
        right.fails(LUTMUL_SHAPE, "y", "stride of 4", |_, y, _| y.stride = N - 1);
        right.fails(LUTMUL_VALUE, "x.element", "9 is no lutmul_element", |x, _, _| x.element = 9);
        right.fails(LUTMUL_STRUCT, "y.reserved", "not 0", |_, y, _| y.reserved = 1);
    }
}

#[test]
fn epilogues() {
    let mut right = Right::new(c"f32");
    let bias = noise(N, 2);
    right.fails(LUTMUL_NULL, "epilogue.bias", "is NULL", |_, _, e| e.bias_count = N);
    right.fails(LUTMUL_SHAPE, "bias", "expected 5", |_, _, e| {
        (e.bias, e.bias_count) = (bias.as_ptr(), N - 1);
    });
    right.fails(LUTMUL_SIZE, "epilogue.bias", "negative", |_, _, e| {
        (e.bias, e.bias_count) = (bias.as_ptr(), usize::MAX);
    });
    right.fails(LUTMUL_NAME, "epilogue.activation", "gelu-erf", |_, _, e| {
        e.activation = c"gelu".as_ptr();
    });
    right.fails(LUTMUL_NAME, "epilogue.activation", "UTF-8 from byte 1", |_, _, e| {
        e.activation = c"g\xFF".as_ptr();
    });
    right.fails(LUTMUL_VALUE, "epilogue.accumulate", "neither 0 nor 1", |_, _, e| e.accumulate = 2);
    right.fails(LUTMUL_STRUCT, "epilogue.size", "sizeof", |_, _, e| e.size = 0);
    right.fails(LUTMUL_STRUCT, "epilogue.size", "sizeof", |_, _, e| e.size = 12);
    right.fails(LUTMUL_STRUCT, "epilogue.size", "sizeof", |_, _, e| e.size = usize::MAX - 7);
}

#[test]
fn structs_of_other_versions() {
    #[repr(C)]
    struct Future {
        known: lutmul_options,
        unknown: [usize; 2],
    }
    let size = size_of::<Future>();
    let known = lutmul_options { size, kernel: null(), mode: c"a8".as_ptr(), threads: 0 };
    let (mut options, mut workspace) = (Future { known, unknown: [0, 0] }, null_mut());
    // SAFETY: pointers to what lives here, here and in all of this file.
    unsafe {
        ok(lutmul_workspace_create(&raw const options.known, &mut workspace));
        lutmul_workspace_free(workspace);
        options.unknown[1] = 1;
        let status = lutmul_workspace_create(&raw const options.known, &mut workspace);
        fails(status, LUTMUL_STRUCT, "lutmul_workspace_create: options", "beyond the 32 bytes");
        assert!(workspace.is_null());
        // One that knows of the kernel only.
        options.known.size = 16;
        ok(lutmul_workspace_create(&raw const options.known, &mut workspace));
        lutmul_workspace_free(workspace);

        // What is told: no more than there is room for, and zeros beyond what is known.
        let weights = Weights::encode(N, K, "int8");
        let mut told = [usize::MAX; 20];
        told[0] = 24;
        ok(lutmul_weights_describe(weights.0, told.as_mut_ptr().cast()));
        assert_eq!(told[..4], [24, N, K, usize::MAX]);
        told[0] = size_of_val(&told);
        ok(lutmul_weights_describe(weights.0, told.as_mut_ptr().cast()));
        assert_eq!(told[size_of::<lutmul_weights_info>() / 8..], [0; 9]);
        told[0] = 7;
        let status = lutmul_weights_describe(weights.0, told.as_mut_ptr().cast());
        fails(status, LUTMUL_STRUCT, "lutmul_weights_describe: info.size", "is 7");
    }
}

#[test]
fn rows() {
    let mut right = Right::new(c"f32");
    let activations = Activations::pack(&right.workspace, &right.weights, &matrix(&right.x, M, K));
    let y = matrix_mut(&mut right.y, M, N);
    let (workspace, weights) = (right.workspace.0, right.weights.0);
    for (begin, end) in [(0, N + 1), (3, 2), (N + 1, N + 1), (usize::MAX, 0), (0, usize::MAX)] {
        // SAFETY: as above.
        let status = unsafe {
            lutmul_matmul_rows(workspace, weights, activations.0, begin, end, &y, null())
        };
        let start = "lutmul_matmul_rows: row_begin, row_end";
        fails(status, LUTMUL_RANGE, start, &format!("rows {begin}..{end} are not within"));
    }
    // SAFETY: as above.
    unsafe {
        let narrow = lutmul_matrix_mut { cols: 2, ..y };
        let status = lutmul_matmul_rows(workspace, weights, activations.0, 0, 2, &narrow, null());
        fails(status, LUTMUL_SHAPE, "lutmul_matmul_rows: y", "expected (2, 5)");
        let status = lutmul_weights_decode(weights, 2, 1, &y, null_mut());
        fails(status, LUTMUL_RANGE, "lutmul_weights_decode: row_begin, row_end", "2..1");
        let status = lutmul_weights_decode(weights, 0, 1, &y, null_mut());
        fails(status, LUTMUL_SHAPE, "lutmul_weights_decode: out", "expected (1, 64)");
        let status =
            lutmul_weights_compare(weights, &matrix(&right.x, M, K), null_mut(), null_mut());
        fails(status, LUTMUL_SHAPE, "lutmul_weights_compare: original", "expected (5, 64)");
    }
    assert!(right.y.iter().all(|y| *y == 7.0));
}

#[test]
fn activations() {
    let right = Right::new(c"a16");
    let x = matrix(&right.x, M, K);
    let (workspace, weights) = (right.workspace.0, right.weights.0);
    let mut y = right.y.clone();
    let to = matrix_mut(&mut y, M, N);
    let mut fresh = null_mut();
    // SAFETY: as above.
    unsafe {
        ok(lutmul_activations_create(&mut fresh));
        let status = lutmul_activations_pack(fresh, workspace, weights, &x);
        fails(status, LUTMUL_TOO_SMALL, "lutmul_activations_pack: activations", "Reserve");
        let none = lutmul_matrix_mut { rows: 0, ..to };
        let status = lutmul_matmul_packed(workspace, weights, fresh, &none, null());
        fails(status, LUTMUL_PACKING, "lutmul_matmul_packed: activations", "nothing yet");
        ok(lutmul_activations_free(fresh));

        let packed = Activations::pack(&right.workspace, &right.weights, &x);
        let other = Workspace::for_products(&right.weights, M, c"a8", 0);
        let status = lutmul_matmul_packed(other.0, weights, packed.0, &to, null());
        fails(status, LUTMUL_PACKING, "lutmul_matmul_packed: activations", "packed for 2×64, a16");
        let small = Workspace::new(c"a16", 0);
        let status = lutmul_matmul_packed(small.0, weights, packed.0, &to, null());
        fails(status, LUTMUL_TOO_SMALL, "lutmul_matmul_packed: workspace", "has 0 bytes");
        let status = lutmul_workspace_reserve(small.0, weights, 1 << 56);
        fails(status, LUTMUL_RESOURCES, "lutmul_workspace_reserve: workspace", "no memory");
        let status = lutmul_workspace_reserve(small.0, weights, usize::MAX);
        fails(status, LUTMUL_SIZE, "lutmul_workspace_reserve: max_tokens", "overflow");
    }
    assert_eq!(y, right.y);
}

#[test]
fn the_size_is_what_is_reserved() {
    let weights = Weights::encode(64, 128, "int8");
    let (mut activations, mut scratch) = (0, 0);
    // SAFETY: as above.
    unsafe {
        ok(lutmul_workspace_size(null(), weights.0, 8, &mut activations, &mut scratch));
        assert_eq!(activations, 8 * 128 * 4);
        assert_eq!(scratch, 64 * 8 * 4);
        ok(lutmul_workspace_size(null(), weights.0, 0, &mut activations, &mut scratch));
        assert_eq!((activations, scratch), (0, 0));
    }
}

#[test]
fn handles() {
    let right = Right::new(c"f32");
    let (weights, workspace) = (right.weights.0, right.workspace.0);
    // SAFETY: handles of another kind begin with as many bytes as are looked at.
    unsafe {
        let status = lutmul_weights_prepare(null(), null_mut());
        fails(status, LUTMUL_NULL, "lutmul_weights_prepare: weights", "is NULL");
        let status = lutmul_weights_prepare(workspace.cast_const().cast(), null_mut());
        let words = "is a lutmul_workspace, not a lutmul_weights";
        fails(status, LUTMUL_HANDLE, "lutmul_weights_prepare: weights", words);
        let status = lutmul_table_free(weights.cast());
        fails(status, LUTMUL_HANDLE, "lutmul_table_free: table", "is a lutmul_weights");
        let nothing = [0u64; 8];
        let status = lutmul_weights_prepare(nothing.as_ptr().cast(), null_mut());
        fails(status, LUTMUL_HANDLE, "lutmul_weights_prepare: weights", "freed, or no handle");
        let status = lutmul_table_create(null(), null_mut());
        fails(status, LUTMUL_NULL, "lutmul_table_create: table", "is NULL");
        let mut table = null_mut();
        fails(
            lutmul_table_create(null(), &mut table),
            LUTMUL_NULL,
            "lutmul_table_create: values",
            "",
        );
        ok(lutmul_table_free(null_mut()));
        ok(lutmul_weights_free(null_mut()));
        ok(lutmul_file_free(null_mut()));
        ok(lutmul_activations_free(null_mut()));
        ok(lutmul_workspace_free(null_mut()));
    }
}

#[test]
fn names() {
    let (mut table, mut weights, mut file, mut workspace) =
        (null_mut(), null_mut(), null_mut(), null_mut());
    let w = noise(N * K, 1);
    let original = matrix(&w, N, K);
    // SAFETY: as above.
    unsafe {
        let status = lutmul_table_of_format(c"int4".as_ptr(), &mut table);
        fails(status, LUTMUL_NAME, "lutmul_table_of_format: format", "\"int4\" is none of");
        let status = lutmul_table_of_format(c"kmeans".as_ptr(), &mut table);
        fails(status, LUTMUL_VALUE, "lutmul_table_of_format: format", "depends on the weights");
        let status = lutmul_table_of_format(c"\xC3\x28".as_ptr(), &mut table);
        fails(status, LUTMUL_NAME, "lutmul_table_of_format: format", "UTF-8");
        let encode = |format: &CStr, scales: &CStr, weights: &mut *mut lutmul_weights| {
            let (format, scales) = (format.as_ptr(), scales.as_ptr());
            lutmul_weights_encode(&original, format, scales, null_mut(), weights)
        };
        let status = encode(c"int8", c"column", &mut weights);
        fails(status, LUTMUL_NAME, "lutmul_weights_encode: granularity", "group:N");
        let status = encode(c"int8", c"group:0", &mut weights);
        fails(status, LUTMUL_NAME, "lutmul_weights_encode: granularity", "group:0");
        let status = lutmul_file_open(c"/nowhere/at/all".as_ptr(), &mut file);
        fails(status, LUTMUL_FILE, "lutmul_file_open: path", "/nowhere/at/all");
        let size = size_of::<lutmul_options>();
        let mut options = lutmul_options { size, kernel: null(), mode: null(), threads: 0 };
        options.mode = c"f64".as_ptr();
        let status = lutmul_workspace_create(&options, &mut workspace);
        fails(status, LUTMUL_NAME, "lutmul_workspace_create: options.mode", "a24");
        (options.mode, options.kernel) = (null(), c"mmx".as_ptr());
        let status = lutmul_workspace_create(&options, &mut workspace);
        fails(status, LUTMUL_NAME, "lutmul_workspace_create: options.kernel", "\"mmx\" is none");
        (options.kernel, options.threads) = (null(), -1isize as usize);
        let status = lutmul_workspace_create(&options, &mut workspace);
        fails(status, LUTMUL_VALUE, "lutmul_workspace_create: options.threads", "negative");
        let mut kernel: lutmul_kernel = std::mem::zeroed();
        kernel.size = size_of::<lutmul_kernel>();
        let count = (0..).take_while(|i| lutmul_kernel_at(*i, &mut kernel) == LUTMUL_OK).count();
        let status = lutmul_kernel_at(count, &mut kernel);
        fails(status, LUTMUL_RANGE, "lutmul_kernel_at: index", "is not within");
    }
}

#[test]
fn codes() {
    let (table_bytes, scale) = ([0u8; 12], [0.5f32, f32::NAN]);
    let mut table = null_mut();
    // SAFETY: as above.
    ok(unsafe { lutmul_table_of_format(c"e4m3".as_ptr(), &mut table) });
    let right = lutmul_codes {
        size: size_of::<lutmul_codes>(),
        n: 3,
        k: 4,
        table,
        codes: table_bytes.as_ptr(),
        codes_size: 12,
        signs: table_bytes.as_ptr(),
        signs_size: 3,
        scales: scale.as_ptr(),
        scales_count: 1,
        granularity: c"tensor".as_ptr(),
        name: null(),
        propagate_non_finite: 0,
    };
    let wrong = |expected, argument: &str, words: &str, change: &dyn Fn(&mut lutmul_codes)| {
        let (mut codes, mut weights) = (right, null_mut());
        change(&mut codes);
        // SAFETY: as above.
        let status = unsafe { lutmul_weights_create(&codes, &mut weights) };
        fails(status, expected, &format!("lutmul_weights_create: {argument}"), words);
        assert!(weights.is_null());
    };
    wrong(LUTMUL_NULL, "codes.table", "is NULL", &|c| c.table = null());
    wrong(LUTMUL_NULL, "codes.codes", "is NULL", &|c| c.codes = null());
    wrong(LUTMUL_NULL, "codes.signs", "is NULL", &|c| c.signs = null());
    wrong(LUTMUL_NULL, "codes.scales", "is NULL", &|c| c.scales = null());
    wrong(LUTMUL_NULL, "codes.granularity", "is NULL", &|c| c.granularity = null());
    wrong(LUTMUL_SHAPE, "codes", "expected 12 bytes for 3×4, got 11", &|c| c.codes_size = 11);
    wrong(LUTMUL_SHAPE, "signs", "expected 3 bytes", &|c| c.signs_size = 4);
    wrong(LUTMUL_SHAPE, "scales", "expected 1 elements", &|c| c.scales_count = 0);
    wrong(LUTMUL_SIZE, "codes", "overflow", &|c| c.n = usize::MAX);
    wrong(LUTMUL_SIZE, "codes.codes", "negative", &|c| c.codes_size = usize::MAX);
    wrong(LUTMUL_NON_FINITE, "codes.scales", "NaN at row 0", &|c| {
        c.scales = c.scales.wrapping_add(1);
    });
    wrong(LUTMUL_VALUE, "codes.propagate_non_finite", "is 2", &|c| c.propagate_non_finite = 2);
    wrong(LUTMUL_NAME, "codes.name", "UTF-8", &|c| c.name = c"\xFF".as_ptr());

    // A code in use that stands for NaN is found by the first product, and named.
    let bytes = [0u8, 1, 2, 3, 4, 5, 0x7F, 7, 8, 9, 10, 11];
    let (mut codes, mut weights) = (right, null_mut());
    (codes.codes, codes.name) = (bytes.as_ptr(), c"layer 3".as_ptr());
    // SAFETY: as above.
    unsafe {
        ok(lutmul_weights_create(&codes, &mut weights));
        ok(lutmul_table_free(table));
        let status = lutmul_weights_prepare(weights, null_mut());
        let start = "lutmul_weights_prepare: weights";
        fails(status, LUTMUL_NON_FINITE, start, "layer 3: NaN at row 1, column 2");
        ok(lutmul_weights_free(weights));
    }
}

#[test]
fn a_workspace_in_use() {
    let right = Right::new(c"f32");
    let x = matrix(&right.x, M, K);
    let packed = Activations::pack(&right.workspace, &right.weights, &x);
    let (workspace, weights) = (Shared(right.workspace.0), Shared(right.weights.0));
    let shared = Shared(packed.0);
    // Two threads, until one of them has been refused, or for a while.
    let refused = AtomicBool::new(false);
    let work = || {
        let mut y = vec![0f32; M * N];
        let to = matrix_mut(&mut y, M, N);
        let until = Instant::now() + Duration::from_secs(60);
        while !refused.load(Ordering::Relaxed) && Instant::now() < until {
            // SAFETY: the handles live until both threads have ended.
            let status = unsafe {
                lutmul_matmul_packed(workspace.get(), weights.get(), shared.get(), &to, null())
            };
            if status != LUTMUL_OK {
                let start = "lutmul_matmul_packed: workspace";
                fails(status, LUTMUL_BUSY, start, "is in use by another call");
                refused.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    assert!(refused.into_inner(), "two calls at a time were never refused");
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn floating_point_environments() {
    for changed in environment::CHANGED {
        for mode in Mode::ALL.into_iter().filter(|mode| mode.is_integer()) {
            let name = CString::new(mode.name()).expect("a name");
            let mut right = Right::new(&name);
            let packed =
                Activations::pack(&right.workspace, &right.weights, &matrix(&right.x, M, K));
            let y = matrix_mut(&mut right.y, M, N);
            let before = environment::set(changed);
            // SAFETY: as above.
            let status = unsafe {
                lutmul_matmul_rows(right.workspace.0, right.weights.0, packed.0, 0, N, &y, null())
            };
            environment::set(before);
            let start = "lutmul_matmul_rows: workspace";
            fails(status, LUTMUL_ENVIRONMENT, start, mode.name());
            assert!(right.y.iter().all(|y| *y == 7.0));
        }
    }
    // Threads of a workspace have an environment of their own, whoever made it.
    let weights = Weights::encode(N, K, "int8");
    let before = environment::set(environment::CHANGED[0]);
    let workspace = Workspace::for_products(&weights, 1, c"f32", 2);
    environment::set(before);
    let (x, mut y) = ([1e-42; K], [0f32; N]);
    let (x, y_matrix) = (matrix(&x, 1, K), matrix_mut(&mut y, 1, N));
    // SAFETY: as above.
    ok(unsafe { lutmul_matmul(workspace.0, weights.0, &x, &y_matrix, null()) });
    assert!(y.iter().any(|y| *y != 0.0), "subnormal numbers were flushed to zero");
    // F32 takes it as it is.
    let mut right = Right::new(c"f32");
    let (x, y) = (matrix(&right.x, M, K), matrix_mut(&mut right.y, M, N));
    let before = environment::set(environment::CHANGED[0]);
    // SAFETY: as above.
    let status = unsafe { lutmul_matmul(right.workspace.0, right.weights.0, &x, &y, null()) };
    environment::set(before);
    ok(status);
}

/// The control register of floating-point arithmetic.
mod environment {
    #[cfg(target_arch = "x86_64")]
    mod imp {
        use std::arch::asm;

        /// The default with flushing of results, of operands, and with rounding down.
        pub const CHANGED: [u64; 3] = [0x1F80 | 1 << 15, 0x1F80 | 1 << 6, 0x1F80 | 1 << 13];

        pub fn set(value: u64) -> u64 {
            let (mut before, value) = (0u32, value as u32);
            // SAFETY: nothing is computed in floats until it is set back.
            unsafe {
                asm!("stmxcsr [{}]", in(reg) &mut before, options(nostack));
                asm!("ldmxcsr [{}]", in(reg) &value, options(nostack));
            }
            before.into()
        }
    }

    #[cfg(target_arch = "aarch64")]
    mod imp {
        use std::arch::asm;

        /// Flushing, and rounding down.
        pub const CHANGED: [u64; 2] = [1 << 24, 2 << 22];

        pub fn set(value: u64) -> u64 {
            let before: u64;
            // SAFETY: nothing is computed in floats until it is set back.
            unsafe {
                asm!("mrs {}, fpcr", out(reg) before, options(nostack));
                asm!("msr fpcr, {}", in(reg) value, options(nostack));
            }
            before
        }
    }

    pub use imp::{CHANGED, set};
}
