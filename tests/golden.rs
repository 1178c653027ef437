//! Golden bits: every kernel gives, in every integer mode, what a Python script that shares no code with
//! lutmul says the contract means (`tests/golden/golden.py`; CI makes its file anew).

use testing::with_signs;

use std::collections::HashMap;
use std::str::FromStr;

use lutmul::{
    Bytes, Context, Epilogue, Granularity, Lut, MatMut, MatRef, Options, Scales, Threads, Weights,
};
use testing::contract::MODES;
use testing::kernels::kernels;

const GOLDEN: &str = include_str!("golden/golden.txt");

/// Enough tokens for gemm, and for a tile of 16 lanes that takes two micro-kernels side by side.
const PANEL_TOKENS: usize = 35;

/// A table or a case: the words of its first line, and the bytes of the others by their key.
struct Section {
    head: Vec<&'static str>,
    values: HashMap<&'static str, Vec<u8>>,
}

impl Section {
    /// The sections of the file.
    fn all() -> Vec<Self> {
        let mut sections: Vec<Self> = Vec::new();
        for line in GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, rest) = line.split_once(' ').expect("a key");
            if let "table" | "case" = key {
                let head = line.split(' ').collect();
                sections.push(Self { head, values: HashMap::new() });
            } else {
                let section = sections.last_mut().expect("a table or a case");
                section.values.entry(key).or_default().extend(bytes(rest));
            }
        }
        sections
    }

    fn number(&self, word: usize) -> usize {
        self.head[word].parse().expect("a number")
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// Big-endian integers.
    fn u32s(&self, key: &str) -> Option<Vec<u32>> {
        let (words, rest) = self.get(key)?.as_chunks();
        assert!(rest.is_empty(), "{key} of {:?}", self.head);
        Some(words.iter().map(|w| u32::from_be_bytes(*w)).collect())
    }

    fn f32s(&self, key: &str) -> Option<Vec<f32>> {
        Some(self.u32s(key)?.into_iter().map(f32::from_bits).collect())
    }

    fn expect<T>(&self, key: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| panic!("no {key} in {:?}", self.head))
    }

    /// Bytes of a magnitude: 2, or 3 where the image may have as many.
    fn image_bytes(&self) -> usize {
        self.expect("magnitudes", self.get("magnitudes")).len() / 256
    }

    fn table(&self) -> Lut {
        let values = self.expect("values", self.f32s("values"));
        let lut = Lut::new(values.as_slice().try_into().expect("256 entries")).expect("a table");
        if self.image_bytes() == 3 { lut.with_wide_image() } else { lut }
    }

    /// What differs between the image of the table and the script's.
    fn image_failures(&self, lut: &Lut) -> Vec<String> {
        let mut failures = Vec::new();
        let (name, image) = (self.head[1], lut.image());
        let step = self.expect("step", self.get("step")).try_into().expect("an f64");
        let step = f64::from_be_bytes(step);
        if image.step.to_bits() != step.to_bits() {
            failures.push(format!("table {name}: step {:e}, not {step:e}", image.step));
        }
        let bytes = self.image_bytes();
        assert!(matches!(bytes, 2 | 3), "magnitudes of {name}");
        let magnitudes = self.expect("magnitudes", self.get("magnitudes")).chunks(bytes);
        assert_eq!(magnitudes.len(), 256, "magnitudes of {name}");
        let negative = self.expect("negative", self.get("negative"));
        for (code, magnitude) in (0..=u8::MAX).zip(magnitudes) {
            let value = magnitude.iter().fold(0, |value, byte| value << 8 | i32::from(*byte));
            let below = negative[usize::from(code / 8)] >> (code % 8) & 1 == 1;
            let value = if below { -value } else { value };
            if image.value(code) != value {
                let got = image.value(code);
                failures.push(format!("table {name}: entry {code} is {got}, not {value}"));
            }
        }
        failures
    }
}

/// The bytes of words: hexadecimal digits, or `count*digits`.
fn bytes(words: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for word in words.split(' ').filter(|word| *word != "-") {
        let (count, digits) = match word.split_once('*') {
            Some((count, digits)) => (count.parse().expect("a count"), digits),
            None => (1, word),
        };
        let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
        assert!(odd.is_empty(), "half a byte in {word}");
        let byte = |pair: &[u8; 2]| {
            let digit = |d: u8| char::from(d).to_digit(16).expect("a hexadecimal digit") as u8;
            digit(pair[0]) << 4 | digit(pair[1])
        };
        all.extend(pairs.iter().map(byte).collect::<Vec<_>>().repeat(count));
    }
    all
}

/// The bits of a product with these tokens of the file's `m`, counted round and round.
fn product(
    w: &Weights<'_>,
    x: &[f32],
    m: usize,
    tokens: impl Iterator<Item = usize>,
    bias: Option<&[f32]>,
    options: &Options,
) -> Vec<u32> {
    let (n, k) = (w.n(), w.k());
    let tokens: Vec<usize> = tokens.map(|token| token % m).collect();
    let x: Vec<f32> = tokens.iter().flat_map(|token| &x[token * k..][..k]).copied().collect();
    let mut y = vec![7.0f32; tokens.len() * n];
    let from = MatRef::new(&x, (tokens.len(), k)).expect("x");
    let to = MatMut::new(&mut y, (tokens.len(), n)).expect("y");
    let epilogue = Epilogue { bias, ..Epilogue::default() };
    w.product()
        .epilogue(epilogue)
        .matmul(from, to, &mut Context::from(*options))
        .expect("a product");
    y.into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_kernel_gives_the_golden_bits() {
    let mut tables = HashMap::new();
    let (mut cases, mut products) = (0, 0);
    let mut failures = Vec::new();
    for section in Section::all() {
        if section.head[0] == "table" {
            let lut = section.table();
            failures.extend(section.image_failures(&lut));
            tables.insert(section.head[1], lut);
            continue;
        }
        let lut: &Lut = &tables[section.head[1]];
        let granularity = Granularity::from_str(section.head[2]).expect("a granularity");
        let (m, n, k) = (section.number(3), section.number(4), section.number(5));
        let codes = section.expect("codes", section.get("codes")).to_vec();
        let signs = section.get("signs").map(|signs| Bytes::from(signs.to_vec()));
        let scales = section.expect("scales", section.f32s("scales"));
        let scales = Scales::new(scales, (n, k), granularity).expect("scales");
        let w = Weights::new(codes, (n, k), lut.clone(), scales)
            .and_then(|w| with_signs(w, signs))
            .expect("weights");
        let x = section.expect("x", section.f32s("x"));
        let bias = section.f32s("bias");
        assert_eq!(x.len(), m * k, "x of {:?}", section.head);
        cases += 1;
        for mode in MODES {
            let golden = section.expect(mode.name(), section.u32s(mode.name()));
            assert_eq!(golden.len(), m * n, "{mode} of {:?}", section.head);
            for kernel in kernels() {
                let options =
                    Options::new().with_kernel(kernel).with_mode(mode).with_threads(Threads::One);
                // The tokens as they are, each in turn alone, and so many that lanes run along them.
                for tokens in [0..m, cases % m..cases % m + 1, 0..PANEL_TOKENS] {
                    let y = product(&w, &x, m, tokens.clone(), bias.as_deref(), &options);
                    products += 1;
                    let wrong = tokens
                        .clone()
                        .flat_map(|token| &golden[token % m * n..][..n])
                        .zip(&y)
                        .enumerate()
                        .filter(|(_, (golden, y))| golden != y);
                    let count = wrong.clone().count();
                    if let Some((i, (golden, y))) = wrong.clone().next() {
                        let at = (tokens.start + i / n, i % n);
                        failures.push(format!(
                            "{}, {mode}, {}, {} tokens: {count} wrong, the first at {at:?}: \
                             {y:08x}, not {golden:08x}",
                            kernel.name(),
                            section.head.join(" "),
                            tokens.len(),
                        ));
                    }
                }
            }
        }
    }
    println!("{} tables, {cases} cases, {products} products", tables.len());
    assert!(cases > 0 && products >= cases * MODES.len() * 3, "{cases} cases, {products} products");
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
}

/// The script makes tables of its own, from the definitions of the formats.
#[test]
fn named_tables_are_the_scripts() {
    let named = [
        ("qins-linear", Lut::qins_linear()),
        ("qins-log", Lut::qins_log(-9.0, 0.0).expect("a table")),
        ("qins-inverse", Lut::qins_inverse(256.0).expect("a table")),
        ("e4m3", Lut::e4m3()),
        ("e5m2", Lut::e5m2()),
        ("int8", Lut::int8()),
        ("int8-biased", Lut::int8_biased(128)),
        ("int8-zero-point-3", Lut::int8_biased(3)),
    ];
    let sections = Section::all();
    for (name, lut) in named {
        let section = sections.iter().find(|s| s.head == ["table", name]).expect(name);
        for (code, (ours, script)) in lut.values().iter().zip(section.table().values()).enumerate()
        {
            let same = ours.to_bits() == script.to_bits() || ours.is_nan() && script.is_nan();
            assert!(same, "{name}: entry {code} is {ours:e}, in the script {script:e}");
        }
    }
}
