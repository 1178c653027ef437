//! The kernels by themselves, on what the first-level cache holds: every kernel this CPU can run, every
//! decoder it has.
//!
//! `cargo bench --bench tile`

use std::collections::BTreeSet;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lutmul_kernels::{
    Digits, Groups, IntPanel, IntPanelMut, IntPortion, IntRowInput, IntTileInput, IntTileSums,
    Kernel, LINE, PANEL_COLS, PANEL_ROWS, PANEL_STEPS, Portion, RowInput, Scales, Table, TileInput,
    TileSums,
};

/// Columns of the row shape: 8 rows of them, with signs and x, take 26 KiB.
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
    let codes: Vec<u8> = (0..PANEL_ROWS * COLS).map(|i| (i * 37 % 120) as u8).collect();
    let signs: Vec<u8> = (0..PANEL_ROWS * COLS / 8).map(|i| (i * 91 % 256) as u8).collect();
    for kernel in Kernel::available() {
        for (name, lut, signed) in tables() {
            let table = Table::new(lut.values()).expect("a finite entry");
            let portion = |rows: usize, cols: usize| Portion {
                table: &table,
                finite: true,
                k: cols,
                codes: &codes[..rows * cols],
                signs: signed.then_some(&signs[..rows * cols / 8]),
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
            decode(c, kernel, &portion(PANEL_ROWS, PANEL_COLS), &label);
            let portion = |rows: usize, cols: usize| IntPortion {
                image: lut.image(),
                codes: &codes[..rows * cols],
                signs: signed.then_some(&signs[..rows * cols / 8]),
                stride: cols,
                first: 0,
                cols,
                group_lines: cols / LINE,
            };
            for (mode, digits) in MODES {
                let label = format!("{} {name}, {mode}", kernel.name());
                int_row(c, kernel, &portion(ROWS, COLS), digits, &label);
                int_tile(c, kernel, &portion(PANEL_ROWS, PANEL_COLS), digits, &label);
            }
        }
        tile(c, kernel);
    }
}

/// One row kernel call on 8 rows.
fn row(c: &mut Criterion, kernel: Kernel, w: &Portion<'_>, label: &str) {
    let bytes = w.codes.len() + w.signs.map_or(0, <[u8]>::len);
    for tokens in [1, 8] {
        let (x, skip) = aligned(tokens * COLS);
        let x = RowInput { x: &x[skip..][..tokens * COLS], tokens };
        let mut out = [0.0; 8 * ROWS];
        let mut group = c.benchmark_group(format!("row, {tokens} tokens"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: w.codes.len() as u64,
            bytes: bytes as u64,
        });
        group.bench_function(label, |b| b.iter(|| kernel.row(w, &x, &mut out, ROWS)));
        group.finish();
    }
}

/// Decoding a whole panel, which goes to L2.
fn decode(c: &mut Criterion, kernel: Kernel, w: &Portion<'_>, label: &str) {
    let bytes = w.codes.len() + w.signs.map_or(0, <[u8]>::len);
    let mut panel = vec![[0.0; PANEL_COLS + 16]; PANEL_ROWS];
    let mut group = c.benchmark_group("decode a panel");
    group.throughput(Throughput::ElementsAndBytes {
        elements: w.codes.len() as u64,
        bytes: bytes as u64,
    });
    group.bench_function(label, |b| {
        b.iter(|| kernel.panel(w, 0..PANEL_COLS / LINE, &mut panel));
    });
    group.finish();
}

/// Decoded rows by a tile of tokens, in every width; elements are multiply-adds.
fn tile(c: &mut Criterion, kernel: Kernel) {
    let panel = vec![[0.25; PANEL_COLS + 16]; PANEL_ROWS];
    let widths: BTreeSet<usize> = [kernel.lanes(), kernel.tile_width()].into();
    for width in widths {
        let (x, skip) = aligned(TILE_COLS * width);
        let x = TileInput { x: &x[skip..][..TILE_COLS * width], width };
        let (mut sums, skip) = aligned(PANEL_ROWS * (width + 16));
        let values = &mut sums[skip..];
        let mut group = c.benchmark_group(format!("tile of {width} tokens"));
        group.throughput(Throughput::ElementsAndBytes {
            elements: (TILE_ROWS * TILE_COLS * width) as u64,
            bytes: (4 * TILE_COLS * (TILE_ROWS + width)) as u64,
        });
        group.bench_function(kernel.name(), |b| {
            b.iter(|| {
                let (rows, stride) = (TILE_ROWS, width + 16);
                let mut to = TileSums { values: &mut *values, stride, rows, add: false };
                kernel.tile(&panel, &x, &mut to);
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

/// One row kernel call of an integer mode on 8 rows.
fn int_row(c: &mut Criterion, kernel: Kernel, w: &IntPortion<'_>, digits: Digits, label: &str) {
    for tokens in [1, 4] {
        let limbs = kernel.row_limbs(digits, w.image.count, tokens);
        let bytes = limbs.weights.len() * limbs.size() * tokens * w.cols;
        let (x, skip) = aligned(bytes / 4);
        let x = &bytemuck::cast_slice(&x[skip..])[..bytes];
        let x = IntRowInput { x, tokens, limbs };
        let mut out = [0; 4 * ROWS];
        let mut group = c.benchmark_group(format!("integer row, {tokens} tokens"));
        group.throughput(Throughput::Elements(w.codes.len() as u64));
        group.bench_function(label, |b| b.iter(|| kernel.int_row(w, &x, &mut out, ROWS)));
        group.finish();
    }
}

/// Decoding a panel of an integer mode, and the panel by the widest tile.
fn int_tile(c: &mut Criterion, kernel: Kernel, w: &IntPortion<'_>, digits: Digits, label: &str) {
    let planes = w.image.count;
    let limbs = kernel.panel_limbs(digits, planes);
    let (steps, width) = (w.cols / limbs.step(), kernel.int_tile_width(limbs));
    let mut rows = vec![[0; PANEL_STEPS + 16]; PANEL_ROWS * IntPanel::pitch(planes, limbs.words())];
    // As many starts as the smallest unit, that of a multiplier, makes.
    let mut starts = vec![0; PANEL_ROWS * planes * steps / 8];
    let start_steps = if digits.multiplied { 8 } else { steps };
    let mut group = c.benchmark_group("decode an integer panel");
    group.throughput(Throughput::Elements(w.codes.len() as u64));
    group.bench_function(label, |b| {
        b.iter(|| {
            let mut to = IntPanelMut { rows: &mut rows, starts: &mut starts, start_steps };
            kernel.int_panel(w, limbs, &mut to);
        });
    });
    group.finish();

    let (x, skip) = aligned((limbs.weights.len() * steps + steps / 8) * width);
    let x = bytemuck::cast_slice(&x[skip..]);
    let x = IntTileInput { x, steps, width, limbs, ahead: &[] };
    let panel = IntPanel { rows: &rows, starts: &starts, start_steps, group_steps: steps };
    let mut sums = vec![0.0; 2 * PANEL_ROWS * width];
    let (scales, tokens) = ([1.0; PANEL_ROWS], vec![1.0; width]);
    let mut group = c.benchmark_group("integer tile");
    group.throughput(Throughput::Elements((PANEL_ROWS * w.cols * width) as u64));
    group.bench_function(label, |b| {
        b.iter(|| {
            let (sums, totals) = sums.split_at_mut(PANEL_ROWS * width);
            let mut to = IntTileSums {
                sums,
                totals,
                stride: width,
                rows: PANEL_ROWS,
                resume: false,
                ends: true,
                add: false,
                steps: &tokens,
                scales: &scales,
            };
            kernel.int_tile(&panel, planes, &x, &mut to);
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
