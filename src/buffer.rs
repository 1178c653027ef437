//! Memory of our own, on huge pages where it is large and the system has them.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Sixty-four bytes that are one cache line.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that start on a cache line, and are zero at first.
///
/// From 2 MiB on they start on a boundary of 2 MiB, and Linux is asked to put them on transparent huge pages
/// (feature `huge-pages`, on by default): one that reads a matrix of weights once has a page of
/// 4 KiB looked up every 64 cache lines otherwise. Elsewhere, and where the system refuses, it is ordinary
/// memory; that costs time only.
///
/// What [`Weights::encode`](crate::Weights::encode) makes lies in such buffers, and so do packed
/// activations. Mapped files don't: their pages are the system's. Weights that are used often can be
/// copied:
///
/// ```
/// use lutmul::{Buffer, Bytes, Lut, Scales, Weights};
///
/// let mapped: &[u8] = &[1, 2, 3, 4];
/// let codes = Bytes::from(Buffer::copy(mapped));
/// let w = Weights::new(codes, (2, 2), Lut::int8(), Scales::tensor(0.5, (2, 2))?)?;
/// assert_eq!(w.at(1, 1), 2.0);
/// # Ok::<(), lutmul::Error>(())
/// ```
pub struct Buffer {
    memory: Memory,
    len: usize,
}

enum Memory {
    Lines(Vec<Line>),
    /// A mapping, and where in it the bytes start.
    #[cfg(all(feature = "huge-pages", target_os = "linux"))]
    Mapped(memmap2::MmapMut, usize),
}

/// The size of a huge page on x86-64, and on aarch64 with pages of 4 KiB.
#[cfg(any(test, all(feature = "huge-pages", target_os = "linux")))]
const HUGE: usize = 2 << 20;

impl Buffer {
    /// `len` bytes of zeros.
    ///
    /// # Panics
    /// As a `Vec` does: if `len` is beyond `isize::MAX`.
    pub fn zeroed(len: usize) -> Self {
        let memory = mapped(len).unwrap_or_else(|| {
            Memory::Lines(bytemuck::allocation::zeroed_vec(len.div_ceil(size_of::<Line>())))
        });
        Self { memory, len }
    }

    /// `len` bytes of zeros, or `None` where there is not so much memory.
    pub fn try_zeroed(len: usize) -> Option<Self> {
        let lines = || bytemuck::allocation::try_zeroed_vec(len.div_ceil(size_of::<Line>()));
        let memory = mapped(len).or_else(|| lines().ok().map(Memory::Lines))?;
        Some(Self { memory, len })
    }

    /// A copy of some bytes.
    pub fn copy(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }

    /// Whether the system was asked for huge pages, and did not refuse. How many of them it gives is its own
    /// affair.
    pub fn asked_for_huge_pages(&self) -> bool {
        !matches!(self.memory, Memory::Lines(_))
    }
}

/// Large memory for which the system takes the advice to use huge pages.
#[cfg(all(feature = "huge-pages", target_os = "linux"))]
fn mapped(len: usize) -> Option<Memory> {
    if len < HUGE {
        return None;
    }
    // Addresses cost nothing; what lies beside the bytes is never touched.
    let map = memmap2::MmapMut::map_anon(len.checked_add(HUGE)?).ok()?;
    let start = map.as_ptr().align_offset(HUGE);
    // The rest, less than a huge page, is on small ones, so that no memory is lost.
    let whole = len / HUGE * HUGE;
    map.advise_range(memmap2::Advice::HugePage, start, whole).ok()?;
    Some(Memory::Mapped(map, start))
}

#[cfg(not(all(feature = "huge-pages", target_os = "linux")))]
fn mapped(_: usize) -> Option<Memory> {
    None
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Lines(lines) => &bytemuck::cast_slice(lines)[..self.len],
            #[cfg(all(feature = "huge-pages", target_os = "linux"))]
            Memory::Mapped(map, start) => &map[*start..][..self.len],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            #[cfg(all(feature = "huge-pages", target_os = "linux"))]
            Memory::Mapped(map, start) => &mut map[*start..][..self.len],
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a buffer of {} bytes", self.len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn bytes_and_alignment() {
        for len in [0, 1, 63, 64, 65, 5000, HUGE - 1, HUGE, HUGE + 1, 3 * HUGE + 77] {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|byte| *byte == 0), "{len}");
            let alignment = if buffer.asked_for_huge_pages() { HUGE } else { 64 };
            assert!(
                buffer.as_ptr().addr().is_multiple_of(alignment),
                "{len}: {:p}",
                buffer.as_ptr()
            );
            for (i, byte) in buffer.iter_mut().enumerate() {
                *byte = (i % 251) as u8;
            }
            let copy = Buffer::copy(&buffer);
            assert!(
                *copy == *buffer && copy.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8)
            );
            assert!(len >= HUGE || !buffer.asked_for_huge_pages());
        }
        assert!(Buffer::default().is_empty());
    }

    /// What Linux says of the memory that bytes start in: the line of `/proc/self/smaps` with that key.
    /// `None` under an emulator, which takes advice on memory and does not pass it on: its CPU is not the one
    /// that Linux runs on.
    #[cfg(any(feature = "checkpoint", all(feature = "huge-pages", target_os = "linux")))]
    pub(crate) fn smaps(bytes: &[u8], key: &str) -> Option<String> {
        let arch = std::fs::read_to_string("/proc/sys/kernel/arch");
        if arch.is_ok_and(|arch| arch.trim() != std::env::consts::ARCH) {
            return None;
        }
        let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let address = bytes.as_ptr().addr();
        let has_address = |line: &str| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let parse = |s: &str| usize::from_str_radix(s, 16).ok();
            Some((parse(start)?..parse(end)?).contains(&address))
        };
        let mut lines = smaps.lines().skip_while(|line| has_address(line) != Some(true)).skip(1);
        let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    }

    /// How many of the bytes, and of what else is mapped with them, are in memory.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn resident(bytes: &[u8]) -> Option<usize> {
        let kilobytes: usize = smaps(bytes, "Rss")?.strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    #[test]
    #[cfg(all(feature = "huge-pages", target_os = "linux"))]
    fn the_system_was_asked_for_huge_pages() {
        let mut buffer = Buffer::zeroed(8 * HUGE);
        buffer.fill(1);
        let enabled = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if enabled.is_err() {
            // It may still take the advice, as emulators do that don't pass it on.
            return println!("left out: this system has no huge pages; the bytes are {buffer:?}");
        }
        let Some(flags) = smaps(&buffer, "VmFlags") else {
            return println!("left out: this system does not tell what memory there is");
        };
        assert!(buffer.asked_for_huge_pages());
        assert!(flags.split(' ').any(|flag| flag == "hg"), "{flags}");
        // How many it gives depends on how much memory is in one piece.
        let given = smaps(&buffer, "AnonHugePages");
        println!("on huge pages: {given:?} of {} kB; enabled: {enabled:?}", 8 * HUGE / 1024);
    }
}
