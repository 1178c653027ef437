//! The quantised table: the fixed-point image of a table, which integer modes multiply by.

use crate::table::{ClosedForm, Table};

/// The most byte planes of a quantised table.
pub const PLANES: usize = 3;

/// Where the sign of an entry is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntrySign {
    /// No entry is negative.
    None,
    /// Entries of codes from 128 on are negative, the others are not.
    TopBit,
    /// Anything: a look into [`QuantisedTable::negative`].
    Table,
}

/// Unsigned magnitudes `L` of one to three bytes with `|entry| ≈ L · step`, the signs set apart.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct QuantisedTable {
    /// `planes[p][c]` is byte p of the magnitude of entry c, the lowest byte first.
    pub planes: [[u8; 256]; PLANES],
    /// 0xFF for negative entries, else 0.
    pub negative: [u8; 256],
    /// Planes in use: 1, 2 or 3.
    pub count: usize,
    /// Where signs are found.
    pub sign: EntrySign,
    /// Whether magnitudes depend on the code's lower seven bits only.
    pub seven_bits: bool,
    /// A formula for the integers of one byte, so that no lookup is needed.
    pub closed_form: Option<ClosedForm>,
    /// The integers as signed bytes.
    pub signed: SignedPlanes,
    /// What a magnitude of 1 stands for; 0 for a table of zeros.
    pub step: f64,
    /// Whether the image is the table, exactly.
    pub exact: bool,
}

impl QuantisedTable {
    /// The quantised form of a table, in at most `bytes` bytes: 2, or 3. Entries that are not finite become 0:
    /// weights that use them are refused before a product.
    ///
    /// The first that fits all finite entries: as few bytes as do, exact up to a power of two; else all
    /// of them, rounded half to even, with the step, of `max/(256^bytes − 1)` and the next power of two
    /// above it, whose squared error is smaller (the power of two on a tie).
    ///
    /// # Panics
    /// If `bytes` is neither 2 nor 3.
    pub fn new(table: &Table, bytes: usize) -> Self {
        assert!(matches!(bytes, 2 | PLANES), "quantised tables of {bytes} bytes");
        let magnitudes: [f64; 256] = std::array::from_fn(|c| {
            let entry = table.values[c];
            if entry.is_finite() { f64::from(entry.abs()) } else { 0.0 }
        });
        let max = magnitudes.iter().copied().fold(0.0, f64::max);
        let (step, exact) = step(&magnitudes, max, f64::from((1 << (8 * bytes)) - 1));
        let codes =
            magnitudes.map(|v| if step == 0.0 { 0 } else { (v / step).round_ties_even() as u32 });
        let largest = codes.into_iter().fold(0, u32::max);
        let count = (1..bytes).find(|count| largest >> (8 * count) == 0).unwrap_or(bytes);
        let mut planes = [[0; 256]; PLANES];
        let mut negative = [0; 256];
        for c in 0..256 {
            for (plane, byte) in planes.iter_mut().zip(codes[c].to_le_bytes()) {
                plane[c] = byte;
            }
            // A zero has no sign: so the top bit tells the sign of more tables.
            negative[c] = if codes[c] != 0 && table.values[c] < 0.0 { 0xFF } else { 0 };
        }
        // Zeros fit any sign.
        let fits = |negative_from: usize| {
            (0..256).all(|c| codes[c] == 0 || (negative[c] != 0) == (c >= negative_from))
        };
        let sign = match () {
            () if negative.iter().all(|n| *n == 0) => EntrySign::None,
            () if fits(128) => EntrySign::TopBit,
            () => EntrySign::Table,
        };
        let seven_bits = (0..128).all(|c| codes[c] == codes[c | 0x80]);
        let value = |c: usize| {
            let magnitude = codes[c] as i32;
            if negative[c] != 0 { -magnitude } else { magnitude }
        };
        let closed_form = ClosedForm::ALL
            .into_iter()
            .find(|form| (0..=u8::MAX).all(|c| form.integer(c) == Some(value(usize::from(c)))));
        let signed = SignedPlanes::new(&std::array::from_fn(value));
        Self { planes, negative, count, sign, seven_bits, closed_form, signed, step, exact }
    }

    /// The lowest planes as signed words; zeros beyond them.
    pub(crate) fn words(&self, planes: usize) -> [[i16; 256]; PLANES] {
        let mut words = [[0; 256]; PLANES];
        for (words, plane) in words.iter_mut().zip(&self.planes).take(planes) {
            for ((word, byte), negative) in words.iter_mut().zip(plane).zip(&self.negative) {
                *word = if *negative != 0 { -i16::from(*byte) } else { i16::from(*byte) };
            }
        }
        words
    }

    /// The magnitude of a code.
    pub fn magnitude(&self, code: u8) -> u32 {
        let [low, middle, high] = self.planes.each_ref().map(|plane| plane[usize::from(code)]);
        u32::from_le_bytes([low, middle, high, 0])
    }

    /// The signed integer of a code.
    pub fn value(&self, code: u8) -> i32 {
        let magnitude = self.magnitude(code) as i32;
        if self.negative[usize::from(code)] != 0 { -magnitude } else { magnitude }
    }
}

/// The signed integers of a table as planes of signed bytes, for units that multiply those: `v = Σ weight · Σ planes`.
///
/// Balanced base-255 digits, as of activations; a digit that does not fit is two halves, which are summed together.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct SignedPlanes {
    /// What a code is in each plane in use; zeros in the others.
    pub tables: [[i8; 256]; 3],
    /// For each sum of its own, how many planes it has, the most significant first; each sum has 255 times the weight of
    /// the next. Empty for integers beyond ±8,290,687.
    pub sums: &'static [usize],
}

impl SignedPlanes {
    fn new(values: &[i32; 256]) -> Self {
        let largest = values.iter().fold(0, |largest, v| largest.max(v.unsigned_abs()));
        let lowest = values.iter().copied().fold(0, i32::min);
        let sums: &[usize] = match largest {
            0..=127 => &[1],
            // int8's own.
            128 if lowest == -128 && values.iter().all(|v| *v < 128) => &[1],
            128..=254 => &[2],
            255..=32_512 => &[1, 1],
            // Of FP8 the largest is 57,344.
            32_513..=64_897 => &[2, 1],
            64_898..=8_290_687 => &[1, 1, 1],
            _ => &[],
        };
        let mut tables = [[0; 256]; 3];
        for (c, v) in values.iter().enumerate() {
            let (mut rest, mut plane) = (*v, 0);
            for (i, planes) in sums.iter().enumerate() {
                let weight = 255i32.pow((sums.len() - 1 - i) as u32);
                // The nearest multiple: 255 is odd, so there is but one.
                let digit = (rest + weight / 2).div_euclid(weight);
                rest -= digit * weight;
                let parts =
                    if *planes == 2 { [digit >> 1, digit - (digit >> 1)] } else { [digit, 0] };
                for part in &parts[..*planes] {
                    tables[plane][c] = *part as i8;
                    plane += 1;
                }
            }
        }
        Self { tables, sums }
    }

    /// Whether planes can be negated by a plane of signs: int8's −128 cannot.
    pub fn has_negatives(&self) -> bool {
        !self.tables[0].contains(&i8::MIN)
    }

    /// Planes in use.
    pub fn count(&self) -> usize {
        self.sums.iter().sum()
    }
}

/// The step of an image whose magnitudes go up to `limit`, and whether it is exact.
fn step(magnitudes: &[f64; 256], max: f64, limit: f64) -> (f64, bool) {
    if max == 0.0 {
        return (0.0, true);
    }
    // The largest power of two that divides all entries: the only candidate for an exact image.
    let unit =
        magnitudes.iter().filter(|v| **v > 0.0).map(|v| lowest_bit(*v)).fold(f64::MAX, f64::min);
    if max / unit <= limit {
        return (unit, true);
    }
    let full = max / limit;
    let power = next_power_of_two(full);
    let error = |step: f64| -> f64 {
        magnitudes.iter().map(|v| (v - (v / step).round_ties_even() * step).powi(2)).sum()
    };
    (if error(full) < error(power) { full } else { power }, false)
}

/// The value of the lowest set bit of a positive f64.
fn lowest_bit(v: f64) -> f64 {
    let bits = v.to_bits();
    // Entries are f32, so v is a normal f64.
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    power(exponent - 52 + mantissa.trailing_zeros() as i32)
}

/// The smallest power of two that is at least `v`.
fn next_power_of_two(v: f64) -> f64 {
    let bits = v.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    if bits & ((1 << 52) - 1) == 0 { v } else { power(exponent + 1) }
}

/// `2^exponent`, for exponents of normal f64.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_planes_add_up() {
        let largest =
            [0, 1, 127, 128, 254, 255, 32_512, 32_513, 57_344, 64_897, 64_898, 65_535, 8_290_687];
        let mut numbers = 1u64;
        for largest in largest {
            let values: [i32; 256] = std::array::from_fn(|c| {
                numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match c {
                    0 => largest,
                    1 => -largest,
                    _ => (numbers >> 33) as i32 % (largest + 1),
                }
            });
            let planes = SignedPlanes::new(&values);
            assert!(!planes.sums.is_empty() && planes.count() <= 3, "{largest}");
            for (c, v) in values.iter().enumerate() {
                let (mut sum, mut plane) = (0i64, 0);
                for planes_of_sum in planes.sums {
                    let digit: i64 = (plane..plane + planes_of_sum)
                        .map(|p| i64::from(planes.tables[p][c]))
                        .sum();
                    plane += planes_of_sum;
                    sum = 255 * sum + digit;
                }
                assert_eq!(sum, i64::from(*v), "code {c}, largest {largest}");
            }
        }
        let int8 = std::array::from_fn(|c| i32::from(c as u8 as i8));
        assert_eq!(SignedPlanes::new(&int8).sums, [1]);
        assert!(SignedPlanes::new(&[8_290_688; 256]).sums.is_empty());
    }
}
