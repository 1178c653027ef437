//! What this machine does at most, measured in turns with products: reading memory, and multiplying.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use lutmul_kernels::Peak;

use super::bandwidth::Reader;
use super::machine::Caches;
use super::memory::Pages;
use super::team::Team;

/// Seconds of a sample of multiplying: long enough for threads that begin it some microseconds apart.
const SAMPLE: f64 = 4e-3;

/// The rates that were reached so far.
#[derive(Default)]
pub struct Ceilings {
    readers: BTreeMap<Pages, Reader>,
    read: BTreeMap<(Pages, usize), f64>,
    multiply: BTreeMap<(usize, usize), f64>,
    /// How many rounds a sample takes.
    rounds: BTreeMap<usize, u64>,
}

/// A rate of multiplying.
#[derive(Clone, Copy, Debug)]
pub struct Multiplying {
    /// The instruction.
    pub name: &'static str,
    /// What it multiplies: `f32`, `bf16`, `i16` or `i8`.
    pub operand: &'static str,
    /// Threads.
    pub threads: usize,
    /// 10⁹ operations a second.
    pub gflops: f64,
}

impl Ceilings {
    /// Ceilings that samples will find. Memory is read on those pages: on none if what reads it is in a cache.
    pub fn new(pages: &[Pages], caches: Caches) -> Result<Self> {
        let reader = |pages: &Pages| Ok((*pages, Reader::new(*pages, caches)?));
        Ok(Self { readers: pages.iter().map(reader).collect::<Result<_>>()?, ..Self::default() })
    }

    /// Takes samples of everything with some threads: a tenth of a second or so.
    pub fn sample(&mut self, team: &Team) {
        let threads = team.threads();
        for (pages, reader) in &mut self.readers {
            keep(&mut self.read, (*pages, threads), reader.sample(team));
        }
        for (i, peak) in Peak::available().enumerate() {
            let rounds = *self.rounds.entry(i).or_insert_with(|| rounds_of(peak));
            let start = Instant::now();
            team.each(|_| {
                peak.run(rounds);
            });
            let operations = threads as u64 * rounds * peak.run(1);
            let gflops = operations as f64 / start.elapsed().as_secs_f64() / 1e9;
            keep(&mut self.multiply, (i, threads), gflops);
        }
    }

    /// Forgets what memory gave: the next samples are of another time.
    pub fn forget_reads(&mut self) {
        self.read.clear();
    }

    /// The fastest rate at which memory was read, in GB/s.
    pub fn read(&self, pages: Pages, threads: usize) -> Option<f64> {
        self.read.get(&(pages, threads)).copied()
    }

    /// What can multiply in a mode, of that name: F32 by its own products, integers by those of bytes or words; bf16 by
    /// its own, or by those of f32.
    pub fn peak(&self, mode: &str, threads: usize) -> Option<Multiplying> {
        let operands: &[&str] = match mode {
            "f32" => &["f32"],
            "bf16" => &["bf16", "f32"],
            _ => &["i8", "i16"],
        };
        self.multiplying()
            .filter(|peak| peak.threads == threads && operands.contains(&peak.operand))
            .max_by(|a, b| a.gflops.total_cmp(&b.gflops))
    }

    /// All rates of multiplying.
    pub fn multiplying(&self) -> impl Iterator<Item = Multiplying> {
        let rate = |(key, gflops): (&(usize, usize), &f64)| {
            let peak = Peak::available().nth(key.0)?;
            let (name, operand) = (peak.name, peak.operand);
            Some(Multiplying { name, operand, threads: key.1, gflops: *gflops })
        };
        self.multiply.iter().filter_map(rate)
    }
}

/// Rounds that take about as long as a sample should.
fn rounds_of(peak: &'static Peak) -> u64 {
    const FEW: u64 = 10_000;
    let start = Instant::now();
    peak.run(FEW);
    let share = SAMPLE / start.elapsed().as_secs_f64().max(1e-7);
    (FEW as f64 * share) as u64
}

/// Keeps the better rate.
fn keep<K: Ord>(rates: &mut BTreeMap<K, f64>, key: K, rate: f64) {
    let best = rates.entry(key).or_default();
    *best = best.max(rate);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let mut ceilings = Ceilings::new(&[], Caches::of_this_machine()).expect("no memory");
        assert!(ceilings.peak("f32", 1).is_none());
        ceilings.sample(&Team::new(1).expect("a thread"));
        let count = Peak::available().count();
        assert_eq!(ceilings.multiplying().count(), count);
        assert!(ceilings.multiplying().all(|peak| peak.gflops > 0.0 && peak.threads == 1));
        for (mode, operands) in [("f32", &["f32"][..]), ("a8t", &["i8", "i16"])] {
            let fits = |peak: &&'static Peak| operands.contains(&peak.operand);
            let found = ceilings.peak(mode, 1).map(|peak| peak.operand);
            assert_eq!(found.is_some(), Peak::available().any(|peak| fits(&peak)), "{mode}");
            assert!(found.is_none_or(|operand| operands.contains(&operand)), "{mode}");
        }
        assert!(ceilings.read(Pages::Small, 1).is_none() && ceilings.peak("f32", 2).is_none());
    }
}
