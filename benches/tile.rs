//! The kernels by themselves, on what the first-level cache holds: every kernel this CPU can run, every
//! decoder it has.
//!
//! `cargo bench --bench tile`

use std::collections::BTreeSet;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lutmul_kernels::float::{self, Groups, Scales};
use lutmul_kernels::int::{self, Digits, MULTIPLIED};
use lutmul_kernels::{Codes, Kernel, LINE, MC, Table};

/// Columns of the gemv: 8 rows of them, with signs and x, take 26 KiB.
const COLS: usize = 2048;
const ROWS: usize = 8;

/// Columns of a tile: 64 of 64 tokens and of 24 rows take 22 KiB.
const TILE_COLS: usize = 64;
const TILE_ROWS: usize = 24;

/// Tables whose decoders may differ, and whether they come with a sign plane.
fn tables() -> Vec<(&'static str, lutmul::Lut, bool)> {
    let any = |f: fn(usize) -> f32| lutmul::Lut::new(&std::array::from_fn(f)).expect("a table");
    vec![
        ("qins-linear", lutmul::Lut::qins_linear(), true),
        ("e4m3", lutmul::Lut::e4m3(), false),
        ("e5m2", lutmul::Lut::e5m2(), false),
        ("int8", lutmul::Lut::int8(), false),
        ("three bytes", any(|c| (c * 257) as f32), false),
        ("kmeans-signed", any(|c| (c as f32 * 0.37).cos().abs()), true),
        ("kmeans", any(|c| (c as f32 * 0.37).sin()), false),
    ]
}

/// Floats on a cache line.
fn aligned(len: usize) -> (Vec<f32>, usize) {
    let floats: Vec<f32> = (0..len + 16).map(|i| (i % 7) as f32 - 3.0).collect();
    let skip = floats.as_ptr().align_offset(64);
    (floats, skip)
}

fn kernels(c: &mut Criterion) {
    // Codes that no table has NaN or infinity for.
    let codes: Vec<u8> = (0..MC * COLS).map(|i| (i * 37 % 120) as u8).collect();
    let signs: Vec<u8> = (0..MC * COLS / 8).map(|i| (i * 91 % 256) as u8).collect();
    for kernel in Kernel::available() {
        for (name, lut, signed) in tables() {
            let table = Table::new(lut.values()).expect("a finite entry");
            let of = |rows: usize, cols: usize| {
                let signs = signed.then_some(&signs[..rows * cols / 8]);
                Codes::whole(&codes[..rows * cols], signs, cols)
            };
            let portion = |rows: usize, cols: usize| float::Weights {
                codes: of(rows, cols),
                table: &table,
                finite: true,
                scales: Scales {
                    values: &[0.5],
                    stride: 1,
                    block_rows: rows,
                    first_row: 0,
                    groups: Groups::Whole,
                },
            };
            let label = format!("{} {name} ({})", kernel.name(), kernel.decoder(&portion(1, COLS)));
            row(c, kernel, &portion(ROWS, COLS), &label);
            decode(c, kernel, &portion(MC, float::KC), &label);
            let portion = |rows: usize, cols: usize| int::Weights {
                codes: of(rows, cols),
                table: lut.image(),
                group_lines: cols / LINE,
            };
            for (mode, digits) in MODES {
                let label = format!("{} {name}, {mode}", kernel.name());
                int_row(c, kernel, &portion(ROWS, COLS), digits, &label);
                int_tile(c, kernel, &portion(MC, float::KC), digits, &label);
            }
        }
        tile(c, kernel);
    }
}

/// One gemv call on 8 rows.
fn row(c: &mut Criterion, kernel: Kernel, w: &float::Weights<'_>, label: &str) {
    let bytes = w.codes.codes.len() + w.codes.signs.map_or(0, <[u8]>::len);
    for tokens in [1, 8] {
        let (x, skip) = aligned(tokens * COLS);
        let x = float::GemvX { x: &x[skip..][..tokens * COLS], tokens };
        let mut out = [0.0; 8 * ROWS];
        let mut group = c.benchmark_group(format!("gemv, {tokens} tokens"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: w.codes.codes.len() as u64,
            bytes: bytes as u64,
        });
        group.bench_function(label, |b| b.iter(|| kernel.gemv_f32(w, &x, &mut out, ROWS)));
        group.finish();
    }
}

/// Decoding a whole panel, which goes to L2.
fn decode(c: &mut Criterion, kernel: Kernel, w: &float::Weights<'_>, label: &str) {
    let bytes = w.codes.codes.len() + w.codes.signs.map_or(0, <[u8]>::len);
    let mut panel = vec![[0.0; float::KC + 16]; MC];
    let mut group = c.benchmark_group("decode a panel");
    group.throughput(Throughput::ElementsAndBytes {
        elements: w.codes.codes.len() as u64,
        bytes: bytes as u64,
    });
    group.bench_function(label, |b| {
        b.iter(|| kernel.decode_f32(w, 0..float::KC / LINE, &mut panel));
    });
    group.finish();
}

/// Decoded rows by a tile of tokens, in every width; elements are multiply-adds.
fn tile(c: &mut Criterion, kernel: Kernel) {
    let panel = vec![[0.25; float::KC + 16]; MC];
    let widths: BTreeSet<usize> = [kernel.lanes(), kernel.tile_width()].into();
    for width in widths {
        let (x, skip) = aligned(TILE_COLS * width);
        let x = float::TileX { x: &x[skip..][..TILE_COLS * width], width };
        let (mut sums, skip) = aligned(MC * (width + 16));
        let values = &mut sums[skip..];
        let mut group = c.benchmark_group(format!("tile of {width} tokens"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: (TILE_ROWS * TILE_COLS * width) as u64,
            bytes: (4 * TILE_COLS * (TILE_ROWS + width)) as u64,
        });
        group.bench_function(kernel.name(), |b| {
            b.iter(|| {
                let (rows, stride) = (TILE_ROWS, width + 16);
                let mut to = float::TileSums { values: &mut *values, stride, rows, add: false };
                kernel.gemm_f32(&panel, &x, &mut to);
            });
        });
        group.finish();
    }
}

/// Integer modes.
const MODES: [(&str, Digits); 4] = [
    ("a24", Digits { count: 3, multiplied: false }),
    ("a16", Digits { count: 2, multiplied: false }),
    ("a8", Digits { count: 2, multiplied: true }),
    ("a8t", Digits { count: 1, multiplied: false }),
];

/// One gemv call of an integer mode on 8 rows.
fn int_row(c: &mut Criterion, kernel: Kernel, w: &int::Weights<'_>, digits: Digits, label: &str) {
    for tokens in [1, 4] {
        let limbs = kernel.gemv_limbs(digits, w.table.count, tokens);
        let bytes = limbs.weights.len() * limbs.size() * tokens * w.codes.cols;
        let (x, skip) = aligned(bytes / 4);
        let x = &bytemuck::cast_slice(&x[skip..])[..bytes];
        let x = int::GemvX { x, tokens, limbs };
        let mut out = [0; 4 * ROWS];
        let mut group = c.benchmark_group(format!("integer gemv, {tokens} tokens"));
        group.throughput(Throughput::Elements(w.codes.codes.len() as u64));
        group.bench_function(label, |b| b.iter(|| kernel.gemv_int(w, &x, &mut out, ROWS)));
        group.finish();
    }
}

/// Decoding a panel of an integer mode, and the panel by the widest tile.
fn int_tile(c: &mut Criterion, kernel: Kernel, w: &int::Weights<'_>, digits: Digits, label: &str) {
    let planes = w.table.count;
    let limbs = kernel.gemm_limbs(digits, planes);
    let (words, width) = (w.codes.cols / limbs.kr(), kernel.int_tile_width(limbs));
    let mut rows = vec![[0; int::KC + 16]; MC * int::Panel::pitch(planes, limbs.operand)];
    // As many starts as the smallest unit, that of a multiplier, makes.
    let mut starts = vec![0; MC * planes * words / 8];
    let start_words = if digits.multiplied { MULTIPLIED / 4 } else { words };
    let mut group = c.benchmark_group("decode an integer panel");
    group.throughput(Throughput::Elements(w.codes.codes.len() as u64));
    group.bench_function(label, |b| {
        b.iter(|| {
            let mut to = int::PanelMut { rows: &mut rows, compensation: &mut starts, start_words };
            kernel.decode_int(w, limbs, &mut to);
        });
    });
    group.finish();

    let (x, skip) = aligned((limbs.weights.len() * words + words / 8) * width);
    let x = bytemuck::cast_slice(&x[skip..]);
    let x = int::TileX { x, words, width, limbs, ahead: &[] };
    let panel = int::Panel { rows: &rows, compensation: &starts, start_words, group_words: words };
    let mut sums = vec![0.0; 2 * MC * width];
    let (scales, tokens) = ([1.0; MC], vec![1.0; width]);
    let mut group = c.benchmark_group("integer tile");
    group.throughput(Throughput::Elements((MC * w.codes.cols * width) as u64));
    group.bench_function(label, |b| {
        b.iter(|| {
            let (sums, totals) = sums.split_at_mut(MC * width);
            let mut to = int::TileSums {
                sums,
                totals,
                stride: width,
                rows: MC,
                resume: false,
                ends: true,
                add: false,
                token_scales: &tokens,
                scales: &scales,
            };
            kernel.gemm_int(&panel, planes, &x, &mut to);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    // About a second each.
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    targets = kernels
}
criterion_main!(benches);
