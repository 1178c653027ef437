//! The table of kernels, and the handle that proves that one of them can run.

use std::fmt;
use std::ops::Range;

use crate::portion::{LINE, Order, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput, TileSums};

/// A line of the kernel table. Made by `stamp!`.
pub(crate) struct Entry {
    pub name: &'static str,
    pub features: &'static [&'static str],
    pub available: fn() -> bool,
    /// Whether this CPU has the i-th feature.
    pub detected: fn(usize) -> bool,
    /// f32 lanes of a vector.
    pub lanes: usize,
    /// The most vectors of tokens in a tile; a tile has 1 to that many.
    pub vectors: usize,
    pub order: fn(&Portion<'_>) -> &'static Order,
    pub decoder: fn(&Portion<'_>) -> &'static str,
    pub row: unsafe fn(&Portion<'_>, &RowInput<'_>, &mut [f32], usize),
    pub panel: unsafe fn(&Portion<'_>, Range<usize>, &mut [PanelRow]),
    pub tile: unsafe fn(&[PanelRow], &TileInput<'_>, &mut TileSums<'_>),
}

/// Every kernel of this build, best first, scalar last.
static KERNELS: &[&Entry] = &[
    #[cfg(target_arch = "x86_64")]
    &crate::x86::vbmi::ENTRY,
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    &crate::aarch64::neon::ENTRY,
    &crate::portable::ENTRY,
    &crate::scalar::ENTRY,
];

/// A kernel that this CPU can run. Having one is the proof: there is no other way to get it than by
/// detection.
#[derive(Clone, Copy)]
pub struct Kernel(&'static Entry);

/// What is known of a kernel, whether or not it can run here.
#[derive(Clone, Copy)]
pub struct KernelInfo(&'static Entry);

impl KernelInfo {
    /// All kernels of this build, best first, scalar last.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        KERNELS.iter().map(|entry| Self(entry))
    }

    /// The kernel's name, as `LUTMUL_ISA` takes it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The CPU features it needs, as Rust names them.
    pub fn features(self) -> &'static [&'static str] {
        self.0.features
    }

    /// The features that this CPU lacks, of those the kernel needs.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        let entry = self.0;
        entry
            .features
            .iter()
            .enumerate()
            .filter(|(i, _)| !(entry.detected)(*i))
            .map(|(_, name)| *name)
    }

    /// The kernel itself, if this CPU can run it.
    pub fn kernel(self) -> Option<Kernel> {
        (self.0.available)().then_some(Kernel(self.0))
    }
}

impl Kernel {
    /// The kernels that this CPU can run, best first, scalar last.
    pub fn available() -> impl Iterator<Item = Self> + Clone {
        KernelInfo::all().filter_map(KernelInfo::kernel)
    }

    /// The best kernel for this CPU.
    pub fn best() -> Self {
        Self::available().next().expect("the scalar kernel runs everywhere")
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The CPU features it uses.
    pub fn features(self) -> &'static [&'static str] {
        self.0.features
    }

    /// Lanes of its vectors of f32: tiles are multiples of it wide.
    pub fn lanes(self) -> usize {
        self.0.lanes
    }

    /// The widest tile of the panel shape, in tokens.
    pub fn tile_width(self) -> usize {
        self.0.lanes * self.0.vectors
    }

    /// The order in which the kernel decodes the codes of a line.
    pub fn order(self, w: &Portion<'_>) -> &'static Order {
        (self.0.order)(w)
    }

    /// How the kernel decodes this table: the name of a lookup or of a closed form.
    pub fn decoder(self, w: &Portion<'_>) -> &'static str {
        (self.0.decoder)(w)
    }

    /// The row shape: `out[t·stride + r] = scale · Σ_k x[t,k]·W[r,k]` for all rows of the portion.
    ///
    /// # Panics
    /// If the buffers don't have the lengths that their types document.
    pub fn row(self, w: &Portion<'_>, x: &RowInput<'_>, out: &mut [f32], stride: usize) {
        assert!(matches!(x.tokens, 1 | 2 | 4 | 8) && w.k > 0);
        assert_eq!(x.x.len(), x.tokens * w.lines() * LINE, "packed activations");
        // SAFETY: a `Kernel` is made in `KernelInfo::kernel` only, after its features were detected.
        unsafe { (self.0.row)(w, x, out, stride) }
    }

    /// Decodes columns `lines` (in lines of 64) of a portion's rows into a panel, in the kernel's
    /// order, scales multiplied in. Rows of the panel beyond the portion's are left as they are.
    ///
    /// # Panics
    /// If the portion has more rows than the panel, or the lines are not within the portion.
    pub fn panel(self, w: &Portion<'_>, lines: Range<usize>, to: &mut [PanelRow]) {
        assert!(w.rows() <= to.len() && lines.end <= w.lines());
        // SAFETY: as in `row`.
        unsafe { (self.0.panel)(w, lines, to) }
    }

    /// Multiplies a panel by a tile: `sums[r][t] (+)= Σ_k panel[r][k] · x[k][t]`.
    ///
    /// Rows are done in the micro-kernel's steps, so some beyond the panel's last may be written.
    ///
    /// # Panics
    /// If the width is none of the kernel's, or a buffer is too short.
    pub fn tile(self, panel: &[PanelRow], x: &TileInput<'_>, sums: &mut TileSums<'_>) {
        assert!(
            x.width > 0 && x.width.is_multiple_of(self.0.lanes) && x.width <= self.tile_width()
        );
        assert!(panel.len() == PANEL_ROWS && sums.rows <= PANEL_ROWS && sums.stride >= x.width);
        // SAFETY: as in `row`.
        unsafe { (self.0.tile)(panel, x, sums) }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.0.name)
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}
