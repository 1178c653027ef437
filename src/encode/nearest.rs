//! The code of the nearest entry of any table.
//!
//! Between two neighbouring entries there is one f64 from which on the upper one is the answer, ties
//! included; so a search is exact with comparisons alone. Most weights need none, nor a division: an estimate in
//! f32 names the bucket of a weight, and in most buckets all weights have the same code. Bound by the look-up, a
//! weight at a time.

use std::ops::RangeInclusive;

/// What a table with both zeros has added to values, with their own sign. It is far below the quotients of any two
/// f32 and above the thresholds at 0, so that it changes nothing but zeros: these are on either side then.
const ASIDE: f64 = 1e-300;

/// Buckets of one sign: those of finite f32, and of what is rounded to infinity.
const BUCKETS: u16 = 0x7F81;

/// In a bucket's entry: its values have several codes. The rest of the entry counts the thresholds at or below them all.
const SPLIT: u16 = 0x100;

/// How far estimates may be off, relatively and, where they are subnormal, absolutely: an inverse and a product, each
/// rounded to f32, are off by 2⁻²³, and some, and by 2⁻¹⁵⁰.
const SLACK: (f64, f64) = (1.0 / (1 << 22) as f64, 1e-44);

/// A table to search, sorted.
pub(super) struct Nearest {
    /// Codes in the order of their entries, equal entries and entries that aren't finite left out.
    codes: [u8; 256],
    /// The least value that belongs to the entry after this one; infinity from the last entry on.
    thresholds: [f64; 256],
    /// Indexed by [`bucket_of`] the estimate: the code of all values that may have it, or [`SPLIT`].
    buckets: Box<[u16; 65536]>,
    /// The most thresholds among the values of a bucket.
    steps: usize,
    /// [`ASIDE`] if there are two zeros, else 0.
    aside: f64,
    /// The codes nearest to 0 and to −0, for blocks without a scale.
    zeros: [u8; 2],
}

/// Sign, exponent and seven bits of an f32, to the nearest: thresholds between entries that are short in binary are in
/// the middle of buckets, where an estimate that is off is still in the right one.
#[inline(always)]
fn bucket_of(estimate: f32) -> u16 {
    (estimate.to_bits().wrapping_add(0x8000) >> 16) as u16
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
        let aside = if zeros == 2 { ASIDE } else { 0.0 };

        let (mut codes, mut thresholds) = ([0; 256], [f64::INFINITY; 256]);
        for (code, entry) in codes.iter_mut().zip(&entries) {
            *code = entry.1;
        }
        for (threshold, pair) in thresholds.iter_mut().zip(entries.windows(2)) {
            *threshold = least_of_upper(pair[0], pair[1]);
        }
        let thresholds_in_use = &thresholds[..entries.len().saturating_sub(1)];
        let (buckets, steps) = fill_buckets(thresholds_in_use, &codes, aside);
        let mut nearest = Self { codes, thresholds, buckets, steps, aside, zeros: [1; 2] };
        if !without_zero {
            nearest.zeros = [aside, -aside].map(|zero| nearest.codes[nearest.search(0, zero)]);
        }
        nearest
    }

    /// The position of a value's nearest entry, `first` or one after it, by binary search.
    fn search(&self, first: usize, value: f64) -> usize {
        first + self.thresholds[first..255].partition_point(|t| *t <= value)
    }

    /// The codes nearest to `map(w)/scale`, of the quotients rounded to f64.
    #[inline(always)]
    pub(super) fn codes(&self, w: &[f32], scale: f64, map: impl Fn(f32) -> f32, codes: &mut [u8]) {
        const PORTION: usize = 64;
        if scale == 0.0 {
            for (code, w) in codes.iter_mut().zip(w) {
                *code = self.zeros[usize::from(map(*w).is_sign_negative())];
            }
            return;
        }
        let table = &*self.buckets;
        // In f32 where that is a number with all its bits.
        let inverse = (1.0 / scale) as f32;
        let is_short = (1e-30..1e30).contains(&scale);
        for (w, codes) in w.chunks(PORTION).zip(codes.chunks_mut(PORTION)) {
            let mut buckets = [0; PORTION];
            let places = buckets.iter_mut().zip(w);
            if is_short {
                places.for_each(|(bucket, w)| *bucket = bucket_of(map(*w) * inverse));
            } else {
                let estimate = |w: f32| (f64::from(map(w)) / scale) as f32;
                places.for_each(|(bucket, w)| *bucket = bucket_of(estimate(*w)));
            }
            // Which of them are left to search is gathered without a branch, which could not be foreseen; and in the same
            // loop, which would otherwise be made of vectors that are taken apart again for the look-up (a sixth slower).
            let (mut left, mut count) = ([0u8; PORTION], 0);
            for (i, (code, bucket)) in codes.iter_mut().zip(buckets).enumerate() {
                let entry = table[usize::from(bucket)];
                *code = entry as u8;
                left[count % PORTION] = i as u8;
                count += usize::from(entry >= SPLIT);
            }
            for i in left[..count].iter().map(|i| usize::from(*i)) {
                let code = &mut codes[i];
                let quotient = f64::from(map(w[i])) / scale;
                let value = quotient + self.aside.copysign(quotient);
                let mut position = usize::from(*code);
                if self.steps > 8 {
                    position = self.search(position, value);
                } else {
                    // One comparison too many does no harm.
                    for _ in 0..self.steps {
                        position += usize::from(value >= self.thresholds[position]);
                    }
                }
                *code = self.codes[position];
            }
        }
    }
}

/// The entries of all buckets, and the most thresholds that there are in one. Thresholds ascend.
fn fill_buckets(thresholds: &[f64], codes: &[u8; 256], aside: f64) -> (Box<[u16; 65536]>, usize) {
    let mut buckets = vec![0; 65536];
    let mut steps = 0;
    let mut fill = |bucket: u16, below: usize, most: usize| {
        steps = steps.max(most - below);
        let entry = if most == below { u16::from(codes[below]) } else { below as u16 | SPLIT };
        buckets[usize::from(bucket)] = entry;
    };
    // Of the bucket's values: the thresholds at or below them all, and those at or below any; away from zero on either
    // side.
    let (mut below, mut most) = (0, 0);
    let (mut neg_below, mut neg_most) = (thresholds.len(), thresholds.len());
    let up =
        |from: usize, to: f64| from + thresholds[from..].iter().take_while(|t| **t <= to).count();
    let down = |from: usize, to: f64| {
        from - thresholds[..from].iter().rev().take_while(|t| **t > to).count()
    };
    for bucket in 0..BUCKETS {
        let (least, above) = (least_in(bucket).max(aside), least_above(bucket));
        below = up(below, least);
        most = up(most, above);
        fill(bucket, below, most);
        neg_below = down(neg_below, -above);
        neg_most = down(neg_most, -least);
        fill(bucket | 0x8000, neg_below, neg_most);
    }
    (buckets.into_boxed_slice().try_into().expect("there are 65536 buckets"), steps)
}

/// The least magnitude whose estimate may be in a bucket.
fn least_in(bucket: u16) -> f64 {
    edge(bucket) * (1.0 - SLACK.0) - SLACK.1
}

/// A magnitude above all those whose estimates may be in a bucket.
fn least_above(bucket: u16) -> f64 {
    edge(bucket + 1) * (1.0 + SLACK.0) + SLACK.1
}

/// The least f32 without a sign that is in a bucket, or in one of those after it.
fn edge(bucket: u16) -> f64 {
    match bucket {
        0 => 0.0,
        BUCKETS.. => f64::INFINITY,
        bucket => f64::from(f32::from_bits((u32::from(bucket) << 16) - 0x8000)),
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
            search.codes(&w, scale, |w| w, &mut codes);
            for (w, code) in w.iter().zip(&codes) {
                let v = f64::from(*w) / scale;
                let expected = brute(&entries, v);
                assert_eq!(*code, expected, "{v:e}: {} or {}", values[usize::from(*code)], {
                    values[usize::from(expected)]
                });
            }
        }
        // Where codes change, and where buckets begin: one f32 further, and one before, on either side of 0. With the
        // scales the quotients are no f32.
        let mut w = Vec::new();
        for threshold in search.thresholds.iter().filter(|t| t.is_finite()) {
            let bucket = bucket_of(threshold.abs() as f32);
            for value in [threshold.abs(), edge(bucket), edge(bucket + 1)] {
                let value = value as f32;
                let values = [value.next_down(), value, value.next_up()];
                w.extend(values.into_iter().flat_map(|v| [v, -v]).filter(|v| v.is_finite()));
            }
        }
        let mut codes = vec![0; w.len()];
        for scale in [1.0, f64::from(1.1f32), f64::from(0.7f32), f64::from(f32::MIN_POSITIVE)] {
            let w: Vec<f32> = w.iter().map(|w| (f64::from(*w) * scale) as f32).collect();
            search.codes(&w, scale, |w| w, &mut codes);
            for (w, code) in w.iter().zip(&codes) {
                let value = f64::from(*w) / scale;
                let value = value + search.aside.copysign(value);
                assert_eq!(*code, search.codes[search.search(0, value)], "{w:e} / {scale:e}");
            }
        }
    }

    #[test]
    fn estimates_are_in_buckets_that_hold_their_values() {
        let mut rng = StdRng::seed_from_u64(8);
        let mut number = || f32::from_bits(rng.random::<u32>() & 0x7FFF_FFFF);
        for _ in 0..1_000_000 {
            let (w, scale) = (number(), number());
            if !(w.is_finite() && (1e-30..1e30).contains(&scale)) {
                continue;
            }
            let estimate = w * ((1.0 / f64::from(scale)) as f32);
            let (value, bucket) = (f64::from(w) / f64::from(scale), bucket_of(estimate));
            assert!(least_in(bucket) <= value && value < least_above(bucket), "{w:e} / {scale:e}");
        }
        for bucket in 0..BUCKETS {
            let first = edge(bucket) as f32;
            assert_eq!([bucket_of(first), bucket_of(-first)], [bucket, bucket | 0x8000]);
            assert_eq!(bucket_of(first.next_down()), bucket.wrapping_sub(1).min(0x8000));
        }
        assert_eq!(bucket_of(f32::INFINITY), BUCKETS - 1);
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
        search.codes(&[-1e30, 0.0, 1e30], 1.0, |w| w, &mut codes);
        assert_eq!(codes, [77; 3]);
    }
}
