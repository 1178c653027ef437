//! The instructions for bf16 of every kernel that has some, by themselves: integers exactly, other numbers within their bound.

mod support;

use lutmul_kernels::float::Groups;
use lutmul_kernels::float::bf16::{PANEL, ROWS, STEP, Scratch, TOKENS, XStep, takes};
use lutmul_kernels::{Kernel, Planes};
use support::{Case, GROUPINGS, HALVES, Numbers, Weights, bound, cases, same};
use testing::kernels::instructions;

/// Rows, columns and tokens: all ends of lines, steps, blocks of k and tiles.
const SHAPES: [(usize, usize, usize); 18] = [
    (1, 1, 1),
    (7, 31, 5),
    (32, 32, 16),
    (31, 33, 17),
    (32, 63, 31),
    (32, 64, 32),
    (9, 65, 33),
    (32, 127, 48),
    (32, 128, 49),
    (32, 512, 40),
    (32, 513, 40),
    (8, 544, 16),
    (32, 576, 64),
    (32, 640, 33),
    (17, 1024, 20),
    (32, 1024, 50),
    (32, 1100, 50),
    (32, 4097, 35),
];

/// x in steps of tiles.
fn pack(kernel: Kernel, x: &[f32], k: usize) -> Vec<XStep> {
    let (side, steps) = (kernel.bf16_side(), k.div_ceil(STEP));
    let mut packed = vec![[0; TOKENS * STEP]; (x.len() / k).div_ceil(TOKENS) * steps];
    for (token, x) in x.chunks(k).enumerate() {
        for (col, x) in x.iter().enumerate() {
            assert_eq!(x.to_bits() & 0xFFFF, 0, "a bf16");
            let within = col % STEP / side * TOKENS * side + token % TOKENS * side + col % side;
            packed[token / TOKENS * steps + col / STEP][within] = (x.to_bits() >> 16) as u16;
        }
    }
    packed
}

/// How many outputs are wrong; panels and sums are full of NaN before.
fn check(kernel: Kernel, case: &Case, weights: &Weights, x: &[f32], exact: bool) -> usize {
    let w = weights.borrow(case);
    let (rows, k) = (w.codes.rows(), w.codes.k);
    let tokens = x.len() / k;
    let packed = pack(kernel, x, k);
    let mut panel = vec![[0x7FC0; ROWS * STEP]; PANEL.min(2 * w.codes.lines())];
    let mut sums = vec![[[f32::NAN; TOKENS]; ROWS]; tokens.div_ceil(TOKENS)];
    let (mut wrong, mut seen) = (0, 0);
    let mut scratch = Scratch { panel: &mut panel, sums: &mut sums };
    kernel.gemm_bf16(&w, &packed, &mut scratch, &mut |tile, to| {
        seen += 1;
        for (token, to) in (tile * TOKENS..tokens).zip(to) {
            let x = &x[token * k..][..k];
            for (row, got) in to.iter().enumerate().take(rows) {
                let row = &weights.values[row * k..][..k];
                let terms = x.iter().zip(row).map(|(x, w)| f64::from(*x) * w);
                let (sum, abs) = terms.fold((0.0, 0.0), |(sum, abs), t| (sum + t, abs + t.abs()));
                let right = match sum.is_finite() {
                    true if exact => f64::from(*got) == sum,
                    // Twice the rounding, as Arm rounds to odd.
                    true => (f64::from(*got) - sum).abs() <= 2.01 * bound(k + 4, abs) + 1e-30,
                    false => same(*got, sum as f32),
                };
                wrong += usize::from(!right);
            }
        }
    });
    wrong + usize::from(seen != tokens.div_ceil(TOKENS))
}

fn run(name: &str, exact: bool, x: impl Fn(&mut Numbers, usize) -> Vec<f32>) {
    let mut numbers = Numbers(name.len() as u64);
    let (mut ran, mut failures) = (Vec::new(), Vec::new());
    let of_bf16 = |case: &Case| case.table.needed == Planes::Two && (!exact || case.integer);
    let cases: Vec<Case> = cases().into_iter().filter(of_bf16).collect();
    let mut products = Vec::new();
    for case in &cases {
        for groups in GROUPINGS.into_iter().chain([HALVES]) {
            products.extend(SHAPES.map(|shape| (case, groups, shape)));
        }
    }
    for (case, groups, (rows, k, tokens)) in testing::thin("table × scales × shape", products, 7)
    {
        let mut weights = Weights::random(&mut numbers, case, (rows, k), groups);
        if exact {
            weights.rescale(case, |_| 0.25);
        }
        let x = x(&mut numbers, tokens * k);
        for kernel in instructions() {
            let scales = weights.borrow(case).scales.groups;
            let Some(_) = kernel.bf16_from(&scales) else { continue };
            assert!(takes(&scales));
            ran.push(kernel.name());
            let wrong = check(kernel, case, &weights, &x, exact);
            if wrong > 0 {
                let what = format!("{rows}×{k}, {tokens} tokens, {groups} scales");
                let (kernel, signs) = (kernel.name(), case.signed);
                failures.push(format!("{kernel}: {} ({signs}), {what}: {wrong}", case.name));
            }
        }
    }
    let products = ran.len();
    ran.sort_unstable();
    ran.dedup();
    println!("{name}: {products} products by {ran:?}");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    let with = instructions().filter(|kernel| kernel.bf16_from(&Groups::Whole).is_some()).count();
    assert_eq!(ran.len(), with, "one did not run");
    if with == 0 {
        println!("LEFT OUT, no kernel here has instructions for bf16");
    }
}

#[test]
fn integers_are_exact() {
    run("integers_are_exact", true, |numbers, len| {
        (0..len).map(|_| numbers.below(9) as f32 - 4.0).collect()
    });
}

#[test]
fn sums_keep_their_bound() {
    run("sums_keep_their_bound", false, |numbers, len| {
        let upper = |x: f32| f32::from_bits(x.to_bits() & 0xFFFF_0000);
        numbers.floats(len).into_iter().map(upper).collect()
    });
}

/// Groups that end within a step are F32's loops'.
#[test]
fn groups_that_are_not_taken() {
    let mut numbers = Numbers(3);
    for case in cases() {
        let weights = Weights::random(&mut numbers, &case, (2, 200), GROUPINGS[2]);
        assert!(!takes(&weights.borrow(&case).scales.groups), "groups of 48");
    }
}
