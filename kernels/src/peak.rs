//! Multiplying and nothing else: the ceilings that products of many tokens are measured against.

use crate::isa::Feature;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use crate::aarch64::peak::PEAKS;
#[cfg(target_arch = "x86_64")]
use crate::x86::peak::PEAKS;

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
static PEAKS: &[Peak] = &[];

/// An instruction that multiplies and adds, which this CPU has: [`Peak::available`] is the only way to get one.
///
/// ```
/// for peak in lutmul_kernels::Peak::available() {
///     let start = std::time::Instant::now();
///     let operations = peak.run(100_000);
///     let rate = operations as f64 / start.elapsed().as_secs_f64();
///     println!("{} of {}: {:.0} GFLOP/s", peak.name, peak.operand, rate / 1e9);
/// }
/// ```
pub struct Peak {
    /// The instruction, with the width of its registers where there are several.
    pub name: &'static str,
    /// What it multiplies: `f32`, `bf16`, `i16` or `i8`.
    pub operand: &'static str,
    pub(crate) features: &'static [Feature],
    /// Why the system does not let this process use it, where it has to be asked.
    pub(crate) refusal: fn() -> Option<&'static str>,
    /// Operations of a round; a multiplication and an addition are two.
    pub(crate) operations: u64,
    /// Does so many rounds: at least one.
    ///
    /// # Safety
    /// The CPU has the features, and the system does not refuse them.
    pub(crate) rounds: unsafe fn(u64),
}

impl Peak {
    /// Those of this CPU, the fastest of each operand first.
    pub fn available() -> impl Iterator<Item = &'static Self> + Clone {
        let can_run = |peak: &&Self| {
            peak.features.iter().all(|feature| (feature.detected)()) && (peak.refusal)().is_none()
        };
        PEAKS.iter().filter(can_run)
    }

    /// Does at least one round, of numbers that are all zero and sums that don't wait for each other, and returns the
    /// operations done. A round is a dozen instructions.
    pub fn run(&'static self, rounds: u64) -> u64 {
        let rounds = rounds.max(1);
        // SAFETY: fields are set in this crate alone, and `available` hands out those only whose features were found.
        unsafe { (self.rounds)(rounds) };
        rounds * self.operations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peak_runs() {
        for peak in Peak::available() {
            assert_eq!(peak.run(3), 3 * peak.run(0), "{}", peak.name);
            assert!(["f32", "bf16", "i16", "i8"].contains(&peak.operand), "{}", peak.name);
        }
        #[cfg(target_arch = "aarch64")]
        assert!(Peak::available().any(|peak| peak.operand == "f32"));
    }
}
