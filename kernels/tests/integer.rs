//! Integer kernels by themselves: every kernel that this CPU can run, gemv and gemm, for tables of one to
//! three planes and all limbs that it takes, against sums in i64.

mod support;

use lutmul_kernels::int::{
    Digits, GemvX, KC, Limbs, MULTIPLIED, Operand, Panel, PanelMut, TileSums, TileX, Weights,
};
use lutmul_kernels::{Codes, Kernel, LINE, MC, QuantisedTable, Table};
use support::{Numbers, Report};

/// Digits of A8T, A16, A24 and A8, and the largest integer that they make.
const DIGITS: [(Digits, i32); 4] = [
    (Digits { count: 1, multiplied: false }, 127),
    (Digits { count: 2, multiplied: false }, 32_512),
    (Digits { count: 3, multiplied: false }, 8_290_687),
    (Digits { count: 2, multiplied: true }, 127 * 255),
];

/// Images of integers of one to three bytes: signs by the code's top bit and by a lookup, magnitudes by
/// seven bits and by eight. Code 100 has the largest. With a plane of signs beside them and without.
fn images() -> Vec<(String, QuantisedTable, bool)> {
    let mut images = Vec::new();
    for bytes in 1..=3 {
        let most = (1u32 << (8 * bytes)) - 1;
        let magnitude = move |c: u8| if c == 100 { most } else { (c as u32 * 65_479 + 1) % most };
        let seven = move |c: u8| magnitude(c & 0x7F) as f32 * if c < 128 { 1.0 } else { -1.0 };
        let eight = move |c: u8| magnitude(c) as f32 * if c % 3 == 1 { -1.0 } else { 1.0 };
        let entries: [(&str, &dyn Fn(u8) -> f32); 2] = [("seven", &seven), ("eight", &eight)];
        for (bits, entry) in entries {
            let table = Table::new(&std::array::from_fn(|c| entry(c as u8))).expect("a table");
            let image = QuantisedTable::new(&table, 3);
            assert_eq!((image.count, image.step, image.closed_form), (bytes, 1.0, None));
            for signed in [true, false] {
                let signs = if signed { ", signs" } else { "" };
                images.push((
                    format!("{bytes} bytes by {bits} bits{signs}"),
                    image.clone(),
                    signed,
                ));
            }
        }
    }
    images
}

/// What a kernel takes as activations of so many digits.
fn limbs(kernel: Kernel, digits: Digits, panel: bool) -> Vec<Limbs> {
    let multiplied = kernel.gemm_limbs(digits, 1).multiplied;
    // It has said what it takes when all its choices are known.
    let choices = DIGITS.map(|(digits, _)| kernel.gemv_limbs(digits, 1, 2).operand);
    let operands = [Operand::U8I8, Operand::I16].into_iter().filter(|o| choices.contains(o));
    let limbs = operands.map(|operand| Limbs::new(operand, digits));
    limbs.chain((panel && multiplied).then_some(Limbs::MULTIPLIED)).collect()
}

/// A matrix, activations and the largest they hold.
struct Case {
    k: usize,
    codes: Vec<u8>,
    signs: Option<Vec<u8>>,
    /// `[tokens][k]`: digits, and the multiplier of each 32 of them where there are any.
    x: Vec<i32>,
    multipliers: Vec<i32>,
}

impl Case {
    fn new(
        numbers: &mut Numbers,
        (rows, k, tokens): (usize, usize, usize),
        (digits, limit): (Digits, i32),
        (signed, largest): (bool, bool),
    ) -> Self {
        let mut below = |end: usize| if largest { end - 1 } else { numbers.below(end) };
        let codes = (0..rows * k).map(|_| if largest { 100 } else { below(256) as u8 }).collect();
        let signs = signed.then(|| (0..rows * k.div_ceil(8)).map(|_| below(256) as u8).collect());
        let most = if digits.multiplied { 127 } else { limit };
        let x = (0..tokens * k).map(|_| below(2 * most as usize + 1) as i32 - most).collect();
        let groups = tokens * k.div_ceil(MULTIPLIED);
        let by = (0..groups).map(|_| if digits.multiplied { 1 + below(255) as i32 } else { 1 });
        let multipliers = by.collect();
        Self { k, codes, signs, x, multipliers }
    }

    /// A digit of a token and its multiplier, zero beyond k.
    fn digit(&self, token: usize, col: usize) -> (i32, i32) {
        let at = token * self.k.div_ceil(MULTIPLIED) + col / MULTIPLIED;
        if col < self.k { (self.x[token * self.k + col], self.multipliers[at]) } else { (0, 0) }
    }

    /// The limbs of some columns of a token; those of [`Limbs::MULTIPLIED`] are the digits.
    fn line(&self, limbs: Limbs, token: usize, first: usize) -> [[i32; LINE]; 3] {
        let integers =
            std::array::from_fn(|i| match (limbs.multiplied, self.digit(token, first + i)) {
                (true, (digit, _)) => digit,
                (_, (digit, by)) => digit * by,
            });
        let mut cut = [[0; LINE]; 3];
        limbs.cut(integers, &mut cut);
        cut
    }

    fn sum(
        &self,
        image: &QuantisedTable,
        row: usize,
        token: usize,
        cols: std::ops::Range<usize>,
    ) -> i64 {
        let term = |col: usize| {
            let at = row * self.k.div_ceil(8) + col / 8;
            let bits = self.signs.as_ref().map_or(0, |signs| signs[at]);
            let value = i64::from(image.value(self.codes[row * self.k + col]));
            let (digit, by) = self.digit(token, col);
            (if bits >> (col % 8) & 1 == 1 { -value } else { value }) * i64::from(digit * by)
        };
        cols.map(term).sum()
    }

    fn weights<'a>(&'a self, table: &'a QuantisedTable, group: usize) -> Weights<'a> {
        Weights {
            codes: Codes::whole(&self.codes, self.signs.as_deref(), self.k),
            table,
            group_lines: group.div_ceil(LINE),
        }
    }
}

fn store(limb: &[i32], operand: Operand) -> Vec<u8> {
    if operand == Operand::I16 {
        limb.iter().flat_map(|v| (*v as i16).to_ne_bytes()).collect()
    } else {
        limb.iter().map(|v| *v as u8).collect()
    }
}

/// Sums of gemv that are wrong, in groups of whole lines.
fn check_gemv(
    kernel: Kernel,
    image: &QuantisedTable,
    case: &Case,
    limbs: Limbs,
    group: usize,
) -> usize {
    let (rows, tokens) = (case.codes.len() / case.k, case.x.len() / case.k);
    let mut x = Vec::new();
    for first in (0..case.k).step_by(LINE) {
        for token in 0..tokens {
            for limb in case.line(limbs, token, first).iter().take(limbs.weights.len()) {
                x.extend(store(limb, limbs.operand));
            }
        }
    }
    let groups = case.k.div_ceil(group);
    let mut out = vec![i64::MIN; groups * tokens * rows];
    let input = GemvX { x: &x, tokens, limbs };
    kernel.gemv_int(&case.weights(image, group), &input, &mut out, rows);
    let expected = (0..groups * tokens * rows).map(|i| {
        let (group_at, token, row) = (i / (tokens * rows), i / rows % tokens, i % rows);
        case.sum(image, row, token, group_at * group..case.k.min((group_at + 1) * group))
    });
    out.iter().zip(expected).filter(|(y, expected)| **y != *expected).count()
}

/// Totals of gemm that are wrong: one block, groups of multiples of 32.
fn check_tile(
    kernel: Kernel,
    image: &QuantisedTable,
    case: &Case,
    limbs: Limbs,
    group: usize,
) -> usize {
    let (rows, tokens) = (case.codes.len() / case.k, case.x.len() / case.k);
    let (planes, k) = (image.count, case.k.next_multiple_of(MULTIPLIED));
    let (words, group_words) = (k / limbs.kr(), group / limbs.kr());
    let start_words = if limbs.multiplied { 8 } else { group_words };
    let width = tokens.next_multiple_of(kernel.int_lanes(limbs));
    let mut x = vec![0u32; (limbs.weights.len() * words + words / 8) * width];
    for (token, first) in (0..tokens).flat_map(|t| (0..k).step_by(LINE).map(move |c| (t, c))) {
        for (l, limb) in case.line(limbs, token, first).iter().enumerate().take(limbs.weights.len())
        {
            let bytes = store(limb, limbs.operand);
            let line = first / limbs.kr()..words.min((first + LINE) / limbs.kr());
            for (step, word) in line.zip(bytes.as_chunks::<4>().0) {
                x[(l * words + step) * width + token] = u32::from_ne_bytes(*word);
            }
        }
        if limbs.multiplied {
            for col in (first..k.min(first + LINE)).step_by(MULTIPLIED) {
                x[(words + col / MULTIPLIED) * width + token] = case.digit(token, col).1 as u32;
            }
        }
    }
    let pitch = Panel::pitch(planes, limbs.operand);
    let mut panel = vec![[0; KC + 16]; MC * pitch];
    let mut starts = vec![0; MC * words.div_ceil(start_words) * planes];
    let mut to = PanelMut { rows: &mut panel, compensation: &mut starts, start_words };
    kernel.decode_int(&case.weights(image, group), limbs, &mut to);

    let groups = words.div_ceil(group_words);
    let (mut sums, mut totals) = (vec![f64::NAN; 2 * MC * width], vec![0.0; MC * width]);
    let (scales, token_scales) = (vec![1.0; MC * groups], vec![1.0; width]);
    let panel = Panel { rows: &panel, compensation: &starts, start_words, group_words };
    let mut to = TileSums {
        sums: &mut sums,
        totals: &mut totals,
        stride: width,
        rows,
        resume: false,
        ends: true,
        add: false,
        token_scales: &token_scales,
        scales: &scales,
    };
    kernel.gemm_int(&panel, planes, &TileX { x: &x, words, width, limbs, ahead: &[] }, &mut to);
    let at = |i: usize| (i / tokens, i % tokens);
    let wrong = |i: &usize| {
        let (row, token) = at(*i);
        totals[row * width + token] != case.sum(image, row, token, 0..case.k) as f64
    };
    (0..rows * tokens).filter(wrong).count()
}

#[test]
fn gemv_is_exact() {
    let mut report = Report::new("gemv_is_exact");
    let mut numbers = Numbers(11);
    for (name, image, signed) in images() {
        for digits in DIGITS {
            for (rows, k, group) in [(1, 1, 64), (7, 65, 128), (5, 200, 64)] {
                for tokens in [1, 2, 4, 8] {
                    let case = Case::new(&mut numbers, (rows, k, tokens), digits, (signed, false));
                    for kernel in Kernel::available() {
                        for limbs in limbs(kernel, digits.0, false) {
                            let wrong = check_gemv(kernel, &image, &case, limbs, group);
                            report.count(kernel, wrong, || {
                                format!("{name}, {limbs:?}, gemv {tokens}×{rows}×{k} by {group}")
                            });
                        }
                    }
                }
            }
        }
    }
    report.finish();
}

#[test]
fn tiles_are_exact() {
    let mut report = Report::new("tiles_are_exact");
    let mut numbers = Numbers(12);
    for (name, image, signed) in images() {
        for digits in DIGITS {
            // Short groups, with and without a partial last one, and long ones; sums stay below 2⁵³.
            for (rows, k, group) in [(1, 1, 32), (3, 64, 64), (49, 65, 32), (9, 300, 128)] {
                let (rows, tokens) = (rows.min(MC), [1, 17, 33, 50][k % 4]);
                let case = Case::new(&mut numbers, (rows, k, tokens), digits, (signed, false));
                for kernel in Kernel::available() {
                    for limbs in limbs(kernel, digits.0, true) {
                        if tokens > kernel.int_tile_width(limbs) {
                            continue;
                        }
                        let wrong = check_tile(kernel, &image, &case, limbs, group);
                        report.count(kernel, wrong, || {
                            format!("{name}, {limbs:?}, tile {tokens}×{rows}×{k} by {group}")
                        });
                    }
                }
            }
        }
    }
    report.finish();
}

/// All weights and activations the largest, around where i32 sums are widened and planes joined.
#[test]
fn the_largest_sums() {
    let mut report = Report::new("the_largest_sums");
    let mut numbers = Numbers(13);
    for (name, image, signed) in images() {
        for digits in DIGITS {
            for k in [64 * 64 + 64, (1 << 16) + 64] {
                let case = Case::new(&mut numbers, (1, k, 1), digits, (signed, true));
                for kernel in Kernel::available() {
                    for limbs in limbs(kernel, digits.0, false) {
                        let wrong = check_gemv(kernel, &image, &case, limbs, k);
                        report.count(kernel, wrong, || format!("{name}, {limbs:?}, gemv of {k}"));
                    }
                }
            }
            for (k, group) in [(64, 64), (256, 256), (512, 256), (1536, 1536)] {
                let largest = i64::from(digits.1) << (8 * image.count.min(2));
                let case = Case::new(&mut numbers, (3, k, 5), digits, (signed, true));
                for kernel in Kernel::available().filter(|_| largest * (k as i64) < 1 << 53) {
                    for limbs in limbs(kernel, digits.0, true) {
                        if 5 > kernel.int_tile_width(limbs) {
                            continue;
                        }
                        let wrong = check_tile(kernel, &image, &case, limbs, group);
                        report.count(kernel, wrong, || {
                            format!("{name}, {limbs:?}, tile of {k} by {group}")
                        });
                    }
                }
            }
        }
    }
    report.finish();
}
