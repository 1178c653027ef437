//! What was measured, as it is kept: a report is made of this and of nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::bench::Row;
use crate::measure::{self, Caches, Ceilings};

/// The version of this layout. What reads a record refuses those of others.
const SCHEMA: u32 = 1;

/// One run on one machine, by one build. `docs/performance/README.md` documents the fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    /// What the files are called.
    pub name: String,
    pub version: String,
    pub commit: String,
    pub date: String,
    pub machine: Machine,
    pub ceilings: Maxima,
    pub products: Vec<Product>,
    /// Figures of PyTorch's, of a run of its own.
    pub beside: Option<Beside>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub id: Option<String>,
    pub threads: usize,
    pub l2_bytes: usize,
    pub last_cache_bytes: usize,
    /// Of what runs beside, when the run began.
    pub load: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Maxima {
    pub read: Vec<Read>,
    pub multiply: Vec<Multiply>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Read {
    pub threads: usize,
    pub gb_s: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Multiply {
    pub instruction: String,
    pub operand: String,
    pub threads: usize,
    pub gflops: f64,
}

/// A product, with the fields that `lutmul bench --json` gives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Product {
    pub peer: Option<String>,
    pub format: String,
    pub scales: String,
    pub mode: String,
    pub kernel: Option<String>,
    pub shape: Option<String>,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub threads: usize,
    pub pages: String,
    pub seconds_best: f64,
    pub seconds_median: f64,
    pub gflops: f64,
    pub weight_bytes: usize,
    pub read_gb_s: Option<f64>,
    pub peak_gflops: Option<f64>,
    pub rel_rms_error: f64,
    pub image_rel_rms_error: Option<f64>,
    pub product_rel_rms_error: f64,
}

impl Product {
    /// Bytes of weights read in a second, in 10⁹.
    pub fn weight_gb_s(&self) -> f64 {
        self.weight_bytes as f64 / self.seconds_best / 1e9
    }

    /// The most that memory and multipliers together allow, in 10⁹ operations a second; none if either is not known.
    pub fn ceiling_gflops(&self) -> Option<f64> {
        let operations = 2.0 * self.m as f64 * self.n as f64 * self.k as f64;
        let by_memory = operations * self.read_gb_s? / self.weight_bytes as f64;
        Some(by_memory.min(self.peak_gflops?))
    }
}

/// What `peers/pytorch.py --json` writes, as far as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beside {
    pub machine: String,
    pub pytorch: String,
    pub n: usize,
    pub k: usize,
    pub products: Vec<BesideProduct>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BesideProduct {
    pub product: String,
    pub tokens: usize,
    pub best_gflops: f64,
    pub median_gflops: f64,
    pub error: f64,
    pub kernel: String,
}

impl Record {
    /// Of this machine and build, with nothing measured yet.
    pub fn begin(name: Option<&str>) -> Result<Self> {
        let (cpu, caches) = (measure::cpu(), Caches::of_this_machine());
        let name = name.map_or_else(|| slug(&cpu), str::to_owned);
        check_name(&name)?;
        Ok(Self {
            schema: SCHEMA,
            name,
            version: env!("CARGO_PKG_VERSION").into(),
            commit: git_version::git_version!(
                args = ["--always", "--dirty=, changed since", "--abbrev=12", "--exclude=*"],
                fallback = "unknown"
            )
            .into(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            machine: Machine {
                cpu,
                id: measure::cpu_id(),
                threads: measure::threads(),
                l2_bytes: caches.l2,
                last_cache_bytes: caches.last,
                load: measure::load(),
            },
            ceilings: Maxima { read: Vec::new(), multiply: Vec::new() },
            products: Vec::new(),
            beside: None,
        })
    }

    /// With what was measured.
    pub fn with(mut self, rows: &[Row], ceilings: &Ceilings) -> Result<Self> {
        for row in rows {
            let product: Product = serde_json::from_value(serde_json::to_value(row)?)?;
            self.products.push(product);
        }
        // The best of what the products were measured beside.
        let mut read: Vec<Read> = Vec::new();
        for product in &self.products {
            let (threads, Some(gb_s)) = (product.threads, product.read_gb_s) else { continue };
            match read.iter_mut().find(|read| read.threads == threads) {
                Some(read) => read.gb_s = read.gb_s.max(gb_s),
                None => read.push(Read { threads, gb_s }),
            }
        }
        read.sort_by_key(|read| read.threads);
        let multiply = ceilings.multiplying().map(|peak| Multiply {
            instruction: peak.name.into(),
            operand: peak.operand.into(),
            threads: peak.threads,
            gflops: peak.gflops,
        });
        self.ceilings = Maxima { read, multiply: multiply.collect() };
        Ok(self)
    }

    /// Reads a record.
    pub fn read(file: &Path) -> Result<Self> {
        let place = || file.display().to_string();
        let text = fs::read_to_string(file).with_context(place)?;
        let json: serde_json::Value = serde_json::from_str(&text).with_context(place)?;
        let schema = json["schema"].as_u64();
        ensure!(
            schema == Some(SCHEMA.into()),
            "{}: is no record of `lutmul bench --report`, version {SCHEMA}",
            place()
        );
        let record: Self = serde_json::from_value(json).with_context(place)?;
        check_name(&record.name).with_context(place)?;
        ensure!(!record.products.is_empty(), "{}: has no products", place());
        Ok(record)
    }

    /// Calls its files something else.
    pub fn rename(&mut self, name: &str) -> Result<()> {
        check_name(name)?;
        self.name = name.into();
        Ok(())
    }

    /// Puts figures of PyTorch's in. They have to be of this machine.
    pub fn set_beside(&mut self, file: &Path) -> Result<()> {
        let place = || file.display().to_string();
        let text = fs::read_to_string(file).with_context(place)?;
        let beside: Beside = serde_json::from_str(&text).with_context(place)?;
        ensure!(
            beside.machine.starts_with(&self.machine.cpu),
            "{}: was measured on {:?}, the report on {:?}",
            place(),
            beside.machine,
            self.machine.cpu
        );
        self.beside = Some(beside);
        Ok(())
    }

    /// As a file has it: a product a line.
    pub fn json(&self) -> Result<String> {
        let products = self.products.iter().map(serde_json::to_string);
        let products = products.collect::<Result<Vec<_>, _>>()?.join(",\n    ");
        let head = serde_json::to_string_pretty(&Self { products: Vec::new(), ..self.clone() })?;
        // Quotes within strings are escaped: the first place is the field's own.
        let products = format!("\"products\": [\n    {products}\n  ]");
        Ok(head.replacen("\"products\": []", &products, 1) + "\n")
    }
}

/// A name is a part of the names of files, and of links.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    ensure!(
        !name.is_empty() && name.len() <= 100 && name.chars().all(plain),
        "name: {name:?} is not of letters, digits, - and _"
    );
    Ok(())
}

/// A CPU's name as that of a file, without what makers add to it.
fn slug(cpu: &str) -> String {
    let name = cpu.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let name = name.replace("(r)", " ").replace("(tm)", " ");
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !["", "cpu", "processor", "core"].contains(word));
    let slug = words.collect::<Vec<_>>().join("-");
    if slug.is_empty() { "cpu".into() } else { slug.chars().take(100).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        assert_eq!(slug("Intel(R) Xeon(R) Processor"), "intel-xeon");
        assert_eq!(slug("Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz"), "intel-i7-8550u");
        assert_eq!(slug("AMD EPYC 9R14"), "amd-epyc-9r14");
        assert_eq!(slug("***"), "cpu");
        for wrong in ["", "a/b", "..", "a b", &"x".repeat(101)] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
        check_name("emerald-rapids_2").expect("a name");
    }
}
