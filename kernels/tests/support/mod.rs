//! What the tests of kernels share: tables, weights with their values in f64, and a report.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fmt;

use lutmul_kernels::float::{self, Groups, Scales};
use lutmul_kernels::{Codes, Kernel, LINE, Table};

/// A table, and how it may be used.
pub struct Case {
    pub name: &'static str,
    pub table: Table,
    /// With a sign plane.
    pub signed: bool,
    /// Whether kernels may rely on codes being finite; if not, all codes occur.
    pub finite: bool,
    /// Entries are integers below 256.
    pub integer: bool,
}

/// Every kind of table that a kernel tells apart, with and without signs.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, finite, integer, entry: &dyn Fn(u8) -> f32| {
        let table = Table::new(&std::array::from_fn(|c| entry(c as u8))).expect("finite entries");
        for signed in [false, true] {
            cases.push(Case { name, table: table.clone(), signed, finite, integer });
        }
    };
    add("QINS linear", false, true, &|c| f32::from(c.max(1) - 1));
    add("int8", false, true, &|c| f32::from(c as i8));
    add("biased int8", false, true, &|c| f32::from((c ^ 0x80) as i8));
    add("int8 with a zero point", false, true, &|c| f32::from(c) - 100.0);
    add("finite E4M3", true, false, &e4m3);
    add("E4M3", false, false, &e4m3);
    add("finite E5M2", true, false, &e5m2);
    add("E5M2", false, false, &e5m2);
    add("three planes", false, false, &|c| (f32::from(c) - 77.0) * 257.0);
    add("four planes", false, false, &|c| (f32::from(c) * 0.37).sin());
    add("signs and magnitudes", false, false, &|c| {
        let magnitude = f32::from_bits((f32::from(c & 0x7F) * 0.37).exp2().to_bits() & 0xFFFF_0000);
        if c & 0x80 == 0 { magnitude } else { -magnitude }
    });
    add("signs and four planes", false, false, &|c| {
        let magnitude = (f32::from(c & 0x7F) * 0.01).exp();
        if c & 0x80 == 0 { magnitude } else { -magnitude }
    });
    add("NaN and infinity", false, false, &|c| match c {
        0 | 128 => f32::NAN,
        255 => f32::INFINITY,
        _ => f32::from(c) * 0.3,
    });
    cases
}

fn e4m3(c: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(c >> 3 & 15), f32::from(c & 7));
    let magnitude = match (exponent, c & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * (-6f32).exp2(),
        _ => (1.0 + mantissa / 8.0) * ((exponent - 7) as f32).exp2(),
    };
    if c & 0x80 == 0 { magnitude } else { -magnitude }
}

fn e5m2(c: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(c >> 2 & 31), f32::from(c & 3));
    let magnitude = match (exponent, c & 3) {
        (31, 0) => f32::INFINITY,
        (31, _) => f32::NAN,
        (0, _) => mantissa / 4.0 * (-14f32).exp2(),
        _ => (1.0 + mantissa / 4.0) * ((exponent - 15) as f32).exp2(),
    };
    if c & 0x80 == 0 { magnitude } else { -magnitude }
}

/// How scales lie along k.
#[derive(Clone, Copy)]
pub struct Grouping {
    name: &'static str,
    /// Codes of a group; 0 for the whole row.
    size: usize,
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

pub const GROUPINGS: [Grouping; 3] = [
    Grouping { name: "whole", size: 0 },
    Grouping { name: "line", size: 2 * LINE },
    Grouping { name: "quarter", size: 48 },
];

/// Groups of half a line: a step of bf16 instructions.
pub const HALVES: Grouping = Grouping { name: "half a line", size: LINE / 2 };

/// Rows of weights, whose scales are those of a larger matrix with blocks of three rows.
pub struct Weights {
    pub groups: Grouping,
    /// The weights themselves.
    pub values: Vec<f64>,
    k: usize,
    codes: Vec<u8>,
    signs: Vec<u8>,
    scales: Vec<f32>,
    stride: usize,
    lines: Vec<u32>,
    quarters: Vec<[u32; 4]>,
}

const FIRST_ROW: usize = 2;
const BLOCK_ROWS: usize = 3;

impl Weights {
    pub fn random(
        numbers: &mut Numbers,
        case: &Case,
        (rows, k): (usize, usize),
        groups: Grouping,
    ) -> Self {
        let usable = |c: &u8| !case.finite || case.table.values[usize::from(*c)].is_finite();
        let usable: Vec<u8> = (0..=255).filter(usable).collect();
        let codes = (0..rows * k).map(|_| usable[numbers.below(usable.len())]).collect();
        // The padding bits of sign rows are random too.
        let signs = (0..rows * k.div_ceil(8)).map(|_| numbers.below(256) as u8).collect();
        Self::new(numbers, case, k, groups, codes, signs)
    }

    /// Every code that may be used, once positive and once negative.
    pub fn every_code(numbers: &mut Numbers, case: &Case, groups: Grouping) -> Self {
        let pad = case.table.pad;
        let code = |c: u8| match case.table.values[usize::from(c)].is_finite() {
            false if case.finite => pad,
            _ => c,
        };
        let codes = (0..512).map(|i| code(i as u8)).collect();
        let signs = (0..64).map(|i| if i < 32 { 0 } else { 0xFF }).collect();
        Self::new(numbers, case, 256, groups, codes, signs)
    }

    fn new(
        numbers: &mut Numbers,
        case: &Case,
        k: usize,
        groups: Grouping,
        codes: Vec<u8>,
        signs: Vec<u8>,
    ) -> Self {
        let lines = k.div_ceil(LINE);
        let (stride, group) = match groups.size {
            0 => (1, lines * LINE),
            size => (k.div_ceil(size), size),
        };
        let rows = (FIRST_ROW + codes.len() / k).div_ceil(BLOCK_ROWS);
        let scale = |column: usize| (column / group).min(stride - 1) as u32;
        let mut weights = Self {
            groups,
            values: Vec::new(),
            k,
            codes,
            signs,
            scales: vec![0.0; rows * stride],
            stride,
            lines: (0..lines).map(|l| scale(l * LINE)).collect(),
            quarters: (0..lines).map(|l| [0, 16, 32, 48].map(|q| scale(l * LINE + q))).collect(),
        };
        weights.rescale(case, |_| numbers.float() + 1.5);
        weights
    }

    /// Other scales.
    pub fn rescale(&mut self, case: &Case, mut scale: impl FnMut(usize) -> f32) {
        self.scales = (0..self.scales.len()).map(&mut scale).collect();
        let mut values = Vec::with_capacity(self.codes.len());
        for row in 0..self.codes.len() / self.k {
            for column in 0..self.k {
                let (entry, scale) = self.factors(case, row, column);
                values.push(f64::from(entry) * f64::from(scale));
            }
        }
        self.values = values;
    }

    /// Entry and scale of a weight.
    fn factors(&self, case: &Case, row: usize, column: usize) -> (f32, f32) {
        let entry = case.table.values[usize::from(self.codes[row * self.k + column])];
        let byte = self.signs[row * self.k.div_ceil(8) + column / 8];
        let negative = case.signed && byte >> (column % 8) & 1 == 1;
        let scales = &self.scales[(FIRST_ROW + row) / BLOCK_ROWS * self.stride..];
        let group = column.checked_div(self.groups.size).unwrap_or(0);
        (if negative { -entry } else { entry }, scales[group])
    }

    /// A weight as a panel holds it.
    pub fn product(&self, case: &Case, row: usize, column: usize) -> f32 {
        let (entry, scale) = self.factors(case, row, column);
        entry * scale
    }

    pub fn borrow<'a>(&'a self, case: &'a Case) -> float::Weights<'a> {
        let groups = match self.groups.name {
            "whole" => Groups::Whole,
            "line" => Groups::Lines(&self.lines),
            _ => Groups::Quarters(&self.quarters),
        };
        let signs = case.signed.then_some(&self.signs[..]);
        float::Weights {
            codes: Codes::whole(&self.codes, signs, self.k),
            table: &case.table,
            finite: case.finite,
            scales: Scales {
                values: &self.scales,
                stride: self.stride,
                block_rows: BLOCK_ROWS,
                first_row: FIRST_ROW,
                groups,
            },
        }
    }
}

/// Equal bits; or both NaN; or both zero, because closed forms don't keep a zero's sign.
pub fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (a == 0.0 && b == 0.0)
}

/// `γ_steps · abs`, with room for sums in the subnormal range.
pub fn bound(steps: usize, abs: f64) -> f64 {
    let u = steps as f64 * f64::from(f32::EPSILON) / 2.0;
    u / (1.0 - u) * abs + steps as f64 * 1e-45
}

/// Pseudo-random numbers (splitmix64) from a seed.
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// In −1…1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

/// Counts what ran, collects what failed.
pub struct Report {
    test: &'static str,
    ran: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

impl Report {
    pub fn new(test: &'static str) -> Self {
        Self { test, ran: BTreeMap::new(), failures: Vec::new() }
    }

    pub fn count(&mut self, kernel: Kernel, wrong: usize, what: impl FnOnce() -> String) {
        *self.ran.entry(kernel.name()).or_default() += 1;
        if wrong > 0 {
            self.failures.push(format!("{}: {wrong} wrong: {}", kernel.name(), what()));
        }
    }

    /// Fails if anything did, or if a kernel did not run.
    pub fn finish(self) {
        println!("{}: {:?}", self.test, self.ran);
        let shown: Vec<&str> = self.failures.iter().take(40).map(String::as_str).collect();
        assert!(shown.is_empty(), "{} failures, first\n{}", self.failures.len(), shown.join("\n"));
        for info in lutmul_kernels::KernelInfo::all() {
            let has = info.features().iter().all(|f| detected(f));
            let supported = has && info.refusal().is_none();
            let ran = self.ran.get(info.name()).is_some_and(|cases| *cases > 0);
            assert!(
                ran || !supported || !testing::kernels::wanted(info.name()),
                "{} did not run",
                info.name()
            );
        }
    }
}

/// Whether the standard library detects a feature.
pub fn detected(feature: &str) -> bool {
    // The standard library tells of AMX in unstable Rust only; Linux, which has to support it, always.
    if feature.starts_with("amx") {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flag = feature.replace('-', "_");
        return cpuinfo.split_whitespace().any(|word| word == flag);
    }
    macro_rules! ask {
        ($detect:ident: $($name:tt),*) => {
            match feature {
                $($name => std::arch::$detect!($name),)*
                other => panic!("ask for {other} here too"),
            }
        };
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    return ask!(is_x86_feature_detected: "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "avx512f",
        "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni", "avx512bf16", "avxvnni");
    #[cfg(target_arch = "aarch64")]
    return ask!(is_aarch64_feature_detected: "neon", "fp16", "dotprod", "i8mm", "bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
    ask!(none: )
}
