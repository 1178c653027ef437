//! The code of the nearest entry of any table.
//!
//! Between two neighbouring entries there is one f64 from which on the upper one is the answer, ties
//! included; so a search is exact with comparisons alone. Where to start is looked up with the top 16
//! bits of the weight as f32: 64 KiB, and then mostly one comparison is left.

use std::ops::RangeInclusive;

/// What a table with both zeros has added to values, with their own sign. It is far below the quotients of any two
/// f32 and above the thresholds at 0, so that it changes nothing but zeros: these are on either side then.
const ASIDE: f64 = 1e-300;

/// A table to search, sorted.
pub(super) struct Nearest {
    /// Codes in the order of their entries, equal entries and entries that aren't finite left out.
    codes: [u8; 256],
    /// The least value that belongs to the entry after this one; infinity from the last entry on.
    thresholds: [f64; 256],
    /// Indexed by the top 16 bits of a value as f32: thresholds at or below all such values.
    first: Box<[u8; 65536]>,
    /// The most thresholds among values with the same top 16 bits.
    steps: usize,
    /// [`ASIDE`] if there are two zeros, else 0.
    aside: f64,
    /// The codes nearest to 0 and to −0, for blocks without a scale.
    zeros: [u8; 2],
}

impl Nearest {
    /// Prepares a table; `allowed` are the codes that may be used. At least one of their entries is finite.
    ///
    /// For a scale of 0, where any code will do, it is 1 if code 0 is not allowed (the QINS formats).
    pub(super) fn new(values: &[f32; 256], allowed: RangeInclusive<u8>) -> Self {
        let without_zero = *allowed.start() > 0;
        let mut entries: Vec<(f32, u8)> = allowed
            .map(|code| (values[usize::from(code)], code))
            .filter(|(value, _)| value.is_finite())
            .collect();
        // −0 comes before 0. The sort is stable, so that of equal entries the lowest code is the first.
        entries.sort_by(|a, b| a.0.total_cmp(&b.0));
        entries.dedup_by(|later, first| later.0.to_bits() == first.0.to_bits());
        let zeros = entries.iter().filter(|entry| entry.0 == 0.0).count();

        let (mut codes, mut thresholds) = ([0; 256], [f64::INFINITY; 256]);
        for (code, entry) in codes.iter_mut().zip(&entries) {
            *code = entry.1;
        }
        for (threshold, pair) in thresholds.iter_mut().zip(entries.windows(2)) {
            *threshold = least_of_upper(pair[0], pair[1]);
        }
        let thresholds_in_use = &thresholds[..entries.len().saturating_sub(1)];
        let below = |value: f32| thresholds_in_use.partition_point(|t| *t <= f64::from(value));
        let (mut first, mut steps) = (vec![0; 65536], 0);
        for (bucket, first) in first.iter_mut().enumerate() {
            let ends = [(bucket << 16) as u32, (bucket << 16) as u32 | 0xFFFF].map(f32::from_bits);
            if !ends[0].is_nan() {
                // A value was rounded to f32 to find its bucket: allow for that.
                let low = if bucket < 0x8000 { ends[0] } else { ends[1].max(f32::MIN) };
                let high = if bucket < 0x8000 { ends[1].min(f32::MAX) } else { ends[0] };
                let least = below(low.next_down());
                *first = least as u8;
                steps = steps.max(below(high.next_up()) - least);
            }
        }
        let first = first.into_boxed_slice().try_into().expect("there are 65536 buckets");
        let aside = if zeros == 2 { ASIDE } else { 0.0 };
        let mut nearest = Self { codes, thresholds, first, steps, aside, zeros: [1; 2] };
        if !without_zero {
            nearest.zeros = [aside, -aside].map(|zero| nearest.codes[nearest.index(zero)]);
        }
        nearest
    }

    /// The position of a value's nearest entry, by binary search.
    fn index(&self, value: f64) -> usize {
        self.thresholds[..255].partition_point(|t| *t <= value)
    }

    /// The codes nearest to `map(w/scale)`, of the quotients rounded to f64.
    #[inline(always)]
    pub(super) fn codes(&self, w: &[f32], scale: f64, map: impl Fn(f64) -> f64, codes: &mut [u8]) {
        const PORTION: usize = 64;
        if scale == 0.0 {
            for (code, w) in codes.iter_mut().zip(w) {
                *code = self.zeros[usize::from(map(f64::from(*w)).is_sign_negative())];
            }
            return;
        }
        for (w, codes) in w.chunks(PORTION).zip(codes.chunks_mut(PORTION)) {
            // What vectorises comes first: division, and the bits to look up.
            let (mut values, mut buckets) = ([0.0; PORTION], [0; PORTION]);
            for (value, w) in values.iter_mut().zip(w) {
                let quotient = map(f64::from(*w) / scale);
                *value = quotient + self.aside.copysign(quotient);
            }
            for (bucket, value) in buckets.iter_mut().zip(&values) {
                *bucket = ((*value as f32).to_bits() >> 16) as u16;
            }
            // A few fixed numbers of comparisons, so that their loop unrolls; one too many does no harm.
            match self.steps {
                0..=1 => self.look_up::<1>(&values, &buckets, codes),
                2 => self.look_up::<2>(&values, &buckets, codes),
                3..=4 => self.look_up::<4>(&values, &buckets, codes),
                5..=8 => self.look_up::<8>(&values, &buckets, codes),
                _ => {
                    for (code, value) in codes.iter_mut().zip(values) {
                        *code = self.codes[self.index(value)];
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn look_up<const STEPS: usize>(&self, values: &[f64], buckets: &[u16], codes: &mut [u8]) {
        for ((code, value), bucket) in codes.iter_mut().zip(values).zip(buckets) {
            let mut i = self.first[usize::from(*bucket)];
            for _ in 0..STEPS {
                i += u8::from(*value >= self.thresholds[usize::from(i)]);
            }
            *code = self.codes[usize::from(i)];
        }
    }
}

/// The least f64 whose nearest entry is `upper` rather than `lower`. On a tie that is the one with an even
/// code, or if both or neither are even, the one with the lower code. Of two zeros each has its side.
fn least_of_upper(lower: (f32, u8), upper: (f32, u8)) -> f64 {
    if lower.0 == upper.0 {
        return 0.0;
    }
    let (a, b) = (f64::from(lower.0), f64::from(upper.0));
    // Knuth's two-sum: a + b = sum + rest exactly (f32's range cannot overflow or underflow f64's).
    let sum = a + b;
    let b_part = sum - a;
    let rest = (a - (sum - b_part)) + (b - b_part);
    let middle = sum / 2.0;
    let tie_goes_up = match (lower.1 % 2, upper.1 % 2) {
        (0, 1) => false,
        (1, 0) => true,
        _ => upper.1 < lower.1,
    };
    if rest > 0.0 || (rest == 0.0 && !tie_goes_up) { middle.next_up() } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// The sign of `|v − a| − |v − b|` for a < b, in exact arithmetic: of `2v − (a + b)`.
    fn closer_to_upper(v: f64, a: f32, b: f32) -> std::cmp::Ordering {
        // Integers times 2⁻¹⁰⁷⁴ would be long; three floats whose sum's sign is wanted are enough:
        // distil 2v, −a, −b until the leading part decides.
        let mut parts = [2.0 * v, -f64::from(a), -f64::from(b)];
        for _ in 0..8 {
            for i in 1..parts.len() {
                let (x, y) = (parts[i - 1], parts[i]);
                let s = x + y;
                let yy = s - x;
                parts[i] = s;
                parts[i - 1] = (x - (s - yy)) + (y - yy);
            }
        }
        let lead = parts.iter().rev().find(|p| **p != 0.0);
        lead.map_or(std::cmp::Ordering::Equal, |p| p.partial_cmp(&0.0).unwrap())
    }

    /// By trying all entries: the lowest codes of all different finite ones. Where there are two zeros, only the
    /// one of the value's sign is tried.
    fn brute(entries: &[(f32, u8)], v: f64) -> u8 {
        let zeros = entries.iter().filter(|entry| entry.0 == 0.0).count();
        let tried = |entry: &&(f32, u8)| {
            zeros < 2 || entry.0 != 0.0 || entry.0.is_sign_negative() == v.is_sign_negative()
        };
        let entries: Vec<_> = entries.iter().filter(tried).copied().collect();
        let mut best = entries[0];
        for new in &entries[1..] {
            let up = new.0 > best.0;
            let (low, high) = if up { (best.0, new.0) } else { (new.0, best.0) };
            let better = match closer_to_upper(v, low, high) {
                std::cmp::Ordering::Greater => up,
                std::cmp::Ordering::Less => !up,
                // Codes ascend, so that of equal parity the one held stays.
                std::cmp::Ordering::Equal => new.1 % 2 == 0 && best.1 % 2 == 1,
            };
            if better {
                best = *new;
            }
        }
        best.1
    }

    fn check(values: &[f32; 256], rng: &mut StdRng) {
        let search = Nearest::new(values, 0..=255);
        let finite: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let entries: Vec<(f32, u8)> = (0..=255u8)
            .map(|c| (values[usize::from(c)], c))
            .filter(|(v, c)| {
                let same = |other: &f32| other.to_bits() == v.to_bits();
                v.is_finite() && !values[..usize::from(*c)].iter().any(same)
            })
            .collect();
        let mut w: Vec<f32> = vec![0.0, -0.0, f32::MAX, f32::MIN, 1e-45, -1e-45];
        w.extend([1e-38, -1e-38, 1e-20, -1e-20]);
        for _ in 0..200 {
            let (a, b) = (
                finite[rng.random_range(0..finite.len())],
                finite[rng.random_range(0..finite.len())],
            );
            let middle = ((f64::from(a) + f64::from(b)) / 2.0) as f32;
            w.extend([a, middle, middle.next_up(), middle.next_down(), a.next_up()]);
            w.push(a + (b - a) * rng.random::<f32>());
        }
        w.retain(|w| w.is_finite());
        let mut codes = vec![0; w.len()];
        for scale in [1.0, 0.25, 3.0, f64::from(f32::MAX)] {
            search.codes(&w, scale, |v| v, &mut codes);
            for (w, code) in w.iter().zip(&codes) {
                let v = f64::from(*w) / scale;
                let expected = brute(&entries, v);
                assert_eq!(*code, expected, "{v:e}: {} or {}", values[usize::from(*code)], {
                    values[usize::from(expected)]
                });
            }
        }
    }

    #[test]
    fn as_by_trying_all_entries() {
        let mut rng = StdRng::seed_from_u64(7);
        for round in 0..24 {
            let mut values = [0.0f32; 256];
            for value in &mut values {
                *value = match round % 6 {
                    // Few values, so that many are equal; ties at halves.
                    0 => rng.random_range(-20..20) as f32 * 0.5,
                    1 => rng.random::<f32>() - 0.5,
                    // Any bits at all, NaN and infinity among them.
                    2 => f32::from_bits(rng.random()),
                    // A cluster in one bucket.
                    3 => 1.0 + rng.random::<f32>() * 1e-3,
                    4 => (rng.random::<f32>() * 40.0 - 30.0).exp() * rng.random_range(-1..2) as f32,
                    _ => [f32::NAN, f32::INFINITY, -0.0, 0.0, 1.0, -1e-45, 3e38]
                        [rng.random_range(0..7)],
                };
            }
            if values.iter().any(|v| v.is_finite()) {
                check(&values, &mut rng);
            }
        }
        for lut in [crate::Lut::e4m3(), crate::Lut::e5m2(), crate::Lut::int8()] {
            check(lut.values(), &mut rng);
        }
    }

    #[test]
    fn one_entry_is_enough() {
        let mut values = [f32::NAN; 256];
        values[77] = -3.0;
        let search = Nearest::new(&values, 0..=255);
        let mut codes = [0; 3];
        search.codes(&[-1e30, 0.0, 1e30], 1.0, |v| v, &mut codes);
        assert_eq!(codes, [77; 3]);
    }
}
