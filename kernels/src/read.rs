//! Reading memory and doing next to nothing with it: the ceiling that products are measured against.

use crate::prefetch::near;

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// How [`read_sum`] goes through memory. None is the fastest everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// From the first byte to the last, with the hardware's prefetch alone.
    Plain,
    /// The same, asking for each line 4 KiB before it is needed (x86-64; elsewhere as `Plain`).
    Prefetched,
    /// Eight places at once, each an eighth of the bytes.
    Streams,
}

impl Read {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Prefetched, Self::Streams];
}

/// The sum of the bytes as little-endian words of 64 bits (a rest of less than eight lines is left
/// out), by the widest loads of this CPU. The sum is there for the compiler to keep the loads.
pub fn read_sum(bytes: &[u8], how: Read) -> u64 {
    let lines = bytes.as_chunks::<LINE>().0;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || match how {
            Read::Plain => in_order::<0>(lines),
            Read::Prefetched => in_order::<64>(lines),
            Read::Streams => streams(lines),
        },
    )
}

/// Sums of words, a vector's worth for each of eight lines: enough chains to never wait for one.
type Sums = [[u64; LINE / 8]; 8];

#[inline(always)]
fn add_line(sums: &mut [u64; LINE / 8], line: &[u8; LINE]) {
    for (sum, word) in sums.iter_mut().zip(line.as_chunks().0) {
        *sum = sum.wrapping_add(u64::from_le_bytes(*word));
    }
}

#[inline(always)]
fn total(sums: &Sums) -> u64 {
    sums.as_flattened().iter().fold(0, |total, sum| total.wrapping_add(*sum))
}

#[inline(always)]
fn in_order<const AHEAD: usize>(lines: &[[u8; LINE]]) -> u64 {
    let mut sums = Sums::default();
    for block in lines.as_chunks::<8>().0 {
        for (sums, line) in sums.iter_mut().zip(block) {
            // Elsewhere it was not tried.
            if AHEAD > 0 && cfg!(target_arch = "x86_64") {
                near(line.as_ptr().wrapping_add(AHEAD * LINE));
            }
            add_line(sums, line);
        }
    }
    total(&sums)
}

#[inline(always)]
fn streams(lines: &[[u8; LINE]]) -> u64 {
    let mut sums = Sums::default();
    let each = lines.len() / 8;
    let parts: [&[[u8; LINE]]; 8] = std::array::from_fn(|i| &lines[i * each..][..each]);
    for i in 0..each {
        for (sums, part) in sums.iter_mut().zip(&parts) {
            add_line(sums, &part[i]);
        }
    }
    total(&sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_reads_everything() {
        for lines in [0, 8, 64, 72] {
            let bytes: Vec<u8> = (0..lines * LINE).map(|i| (i * 31 % 251) as u8).collect();
            let words = bytes.as_chunks::<8>().0.iter();
            let sum = words.fold(0u64, |sum, w| sum.wrapping_add(u64::from_le_bytes(*w)));
            for how in Read::ALL {
                assert_eq!(read_sum(&bytes, how), sum, "{lines} lines, {how:?}");
            }
        }
    }
}
