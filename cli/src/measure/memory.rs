//! Memory to measure in: on pages of a given size, or mapped from a file.

use std::fmt;
use std::fs;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lutmul::checkpoint::TensorFile;
use lutmul::{Buffer, Bytes, Weights};

use super::machine;
use crate::table;

/// What memory consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pages {
    /// The system's small pages.
    Small,
    /// Transparent huge pages.
    Huge,
    /// A mapped file.
    File,
}

impl Pages {
    /// Huge pages where there are any.
    pub fn best() -> Self {
        if Self::has_huge() { Self::Huge } else { Self::Small }
    }

    fn has_huge() -> bool {
        let modes = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        cfg!(target_os = "linux") && modes.is_ok_and(|modes| !modes.contains("[never]"))
    }

    /// The name that options and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "4k",
            Self::Huge => "2m",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pages {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Small, Self::Huge, Self::File];
        all.into_iter()
            .find(|pages| pages.name() == name)
            .ok_or_else(|| format!("pages: {name:?} is none of 4k, 2m, file"))
    }
}

/// Bytes that several matrices share.
pub type Region = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Makes memory, and fills it.
pub fn region(pages: Pages, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Region> {
    let what = || format!("{} of memory on pages \"{pages}\"", table::bytes(len));
    if pages == Pages::Huge {
        const HUGE: usize = 2 << 20;
        ensure!(Pages::has_huge(), "pages \"2m\": this system has no transparent huge pages");
        // Whole pages, however small the matrix is.
        let size = len.max(1).checked_next_multiple_of(HUGE).with_context(what)?;
        let mut memory = Buffer::zeroed(size);
        ensure!(memory.asked_for_huge_pages(), "{}: the system refuses them", what());
        fill(&mut memory[..len]);
        return Ok(Arc::new(Filled { memory, len }));
    }
    let mut memory = memmap2::MmapMut::map_anon(len.max(1)).with_context(what)?;
    // Huge pages may be given unasked. A system that was built without them doesn't know the advice.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::NoHugePage);
    fill(&mut memory[..len]);
    if pages == Pages::File {
        return file(&memory[..len]).context("a temporary file");
    }
    Ok(Arc::new(Filled { memory, len }))
}

/// The first bytes of some memory.
struct Filled<M> {
    memory: M,
    len: usize,
}

impl<M: AsRef<[u8]>> AsRef<[u8]> for Filled<M> {
    fn as_ref(&self) -> &[u8] {
        &self.memory.as_ref()[..self.len]
    }
}

/// Bytes in a file, mapped the way checkpoints are.
struct Mapped(TensorFile);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.tensor(DATA).map_or(&[], |tensor| tensor.bytes)
    }
}

const DATA: &str = "data";

/// A safetensors file with one tensor, which starts on a page of its own.
fn file(bytes: &[u8]) -> Result<Region> {
    const PAGE: usize = 4096;
    let mut header = serde_json::json!({
        DATA: { "dtype": "U8", "shape": [bytes.len()], "data_offsets": [0, bytes.len()] }
    })
    .to_string();
    let padding = (header.len() + 8).next_multiple_of(PAGE) - 8 - header.len();
    header.extend(std::iter::repeat_n(' ', padding));
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    file.write_all(bytes)?;
    file.flush()?;
    // The map outlives the name.
    let file = TensorFile::open(file.path())?;
    file.prefault()?;
    Ok(Arc::new(Mapped(file)))
}

/// Copies of a matrix, side by side in memory of their own.
pub fn copies(w: &Weights<'_>, count: usize, pages: Pages) -> Result<Vec<Weights<'static>>> {
    const ALIGN: usize = 64;
    let (codes, signs) = (w.codes().len(), w.signs().map_or(0, <[u8]>::len));
    let at_signs = codes.next_multiple_of(ALIGN);
    let step = at_signs + signs.next_multiple_of(ALIGN);
    let len = step.checked_mul(count).context("copies of the weights overflow memory")?;
    let region = region(pages, len, |to| {
        for to in to.chunks_exact_mut(step.max(1)) {
            to[..codes].copy_from_slice(w.codes());
            to[at_signs..][..signs].copy_from_slice(w.signs().unwrap_or_default());
        }
    })?;
    let part = |start: usize, len: usize| {
        Bytes::shared(Arc::clone(&region), start..start + len).context("a part of the region")
    };
    (0..count)
        .map(|i| {
            let (codes, signs) = (part(i * step, codes)?, part(i * step + at_signs, signs)?);
            let signs = w.signs().map(|_| signs);
            let scales = w.scales().clone();
            let copy =
                Weights::new(codes, (w.n(), w.k()), w.lut().clone(), scales).and_then(|w| {
                    match signs {
                        Some(signs) => w.with_signs(signs),
                        None => Ok(w),
                    }
                })?;
            copy.prepare()?;
            Ok(copy)
        })
        .collect()
}

/// An error unless there is that much memory.
pub fn check_free(bytes: Option<usize>, what: &str) -> Result<()> {
    let bytes = bytes.with_context(|| format!("{what}: its size overflows the address space"))?;
    if let Some(free) = machine::free_memory() {
        let (needed, there) = (table::bytes(bytes), table::bytes(free));
        ensure!(bytes <= free, "{what}: {needed} of memory are needed, {there} are free");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lutmul::{Format, Granularity};

    #[test]
    fn copies_are_the_same_on_all_pages() {
        let w: Vec<f32> = (0..3 * 70).map(|i| (i as f32).sin()).collect();
        let w =
            Weights::encode(&w, (3, 70), &Format::QinsLinear, Granularity::Row).expect("weights");
        for pages in [Pages::Small, Pages::best(), Pages::File] {
            assert_eq!(pages.name().parse(), Ok(pages));
            for copy in copies(&w, 3, pages).expect("copies") {
                assert_eq!((copy.codes(), copy.signs()), (w.codes(), w.signs()), "{pages}");
            }
        }
    }
}
