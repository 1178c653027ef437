//! How fast this machine reads memory: the ceiling of products with few tokens.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use lutmul_kernels::{Read, read_sum};

use super::machine::Caches;
use super::memory::{Pages, Region, region};
use super::team::Team;

/// A buffer to read, and where to go on.
pub struct Reader {
    region: Region,
    next: usize,
}

/// Bytes that are read at a time: about as long as a product takes, so that whatever else runs on the machine leaves
/// the one alone as often as the other.
const PIECE: usize = 64 << 20;
/// Pieces that a sample reads in every way.
const SAMPLES: usize = 3;

impl Reader {
    /// Bytes of the buffer: 512 MiB, or what is cold in any case.
    pub fn size(caches: Caches) -> usize {
        (512 << 20).max(caches.cold()).next_multiple_of(PIECE)
    }

    /// A buffer on pages of that kind.
    pub fn new(pages: Pages, caches: Caches) -> Result<Self> {
        // Not all zero: pages that were never written could all be one page.
        let region = region(pages, Self::size(caches), |bytes| {
            for (i, line) in bytes.chunks_mut(64).enumerate() {
                line.fill(i as u8);
            }
        })?;
        Ok(Self { region, next: 0 })
    }

    /// Reads some pieces in every way, and returns the best rate, in GB/s.
    pub fn sample(&mut self, team: &Team) -> f64 {
        let mut best = f64::INFINITY;
        for how in [Read::ALL; SAMPLES].as_flattened() {
            let bytes = (*self.region).as_ref();
            let piece = &bytes[self.next * PIECE..][..PIECE];
            self.next = (self.next + 1) % (bytes.len() / PIECE);
            let part = PIECE / team.threads();
            let start = Instant::now();
            team.each(|thread| {
                black_box(read_sum(&piece[thread * part..][..part], *how));
            });
            best = best.min(start.elapsed().as_secs_f64() / PIECE as f64);
        }
        1e-9 / best
    }
}
