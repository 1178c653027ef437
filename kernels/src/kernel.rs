//! The table of kernels, and the handle that proves that one of them can run.

use std::fmt;
use std::ops::Range;

use crate::int::{
    Digits, Form, IntPanel, IntPanelMut, IntPortion, IntRowInput, IntTileInput, IntTileSums, Limbs,
    PANEL_STEPS,
};
use crate::portion::{LINE, Order, PANEL_ROWS, PanelRow, Portion, RowInput, TileInput, TileSums};

/// The F32 half of a kernel. Made by `stamp!`.
pub(crate) struct Entry {
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

/// Rounds totals, `[PANEL_ROWS][stride]`, biases added, and transposes them.
type Finish = unsafe fn(&[f64], usize, &[f64; PANEL_ROWS], &mut [[f32; PANEL_ROWS]]);

/// One of the integer parts of a kernel. Made by `int_stamp!`.
pub(crate) struct IntEntry {
    pub features: &'static [&'static str],
    pub available: fn() -> bool,
    /// Whether this CPU has the i-th feature.
    pub detected: fn(usize) -> bool,
    /// Whether weights and activations are words rather than bytes.
    pub words: bool,
    /// i32 lanes of a vector.
    pub lanes: usize,
    /// The most vectors of tokens in a tile.
    pub vectors: usize,
    pub row: unsafe fn(&IntPortion<'_>, &IntRowInput<'_>, &mut [i64], usize),
    pub panel: unsafe fn(&IntPortion<'_>, &mut IntPanelMut<'_>),
    pub tile: unsafe fn(&IntPanel<'_>, usize, &IntTileInput<'_>, &mut IntTileSums<'_>),
    pub finish: Finish,
}

/// A line of the kernel table: a name, and what runs under it in F32 and in integer modes.
pub(crate) struct Pair {
    pub name: &'static str,
    pub float: &'static Entry,
    /// One that takes bytes, one that takes words, or both.
    pub int: &'static [&'static IntEntry],
}

/// Every kernel of this build, best first, scalar last.
static KERNELS: &[Pair] = &[
    #[cfg(target_arch = "x86_64")]
    Pair {
        name: "avx512vbmi",
        float: &crate::x86::vbmi::ENTRY,
        int: &[&crate::x86::vnni::INT_ENTRY, &crate::x86::words512::dpwssd::INT_ENTRY],
    },
    #[cfg(target_arch = "x86_64")]
    Pair {
        name: "avx512",
        float: &crate::x86::avx512::ENTRY,
        int: &[&crate::x86::words512::madd::INT_ENTRY],
    },
    #[cfg(target_arch = "x86_64")]
    Pair {
        name: "avxvnni",
        float: &crate::x86::avx2::ENTRY,
        int: &[&crate::x86::avxvnni::vex::INT_ENTRY],
    },
    #[cfg(target_arch = "x86_64")]
    Pair {
        name: "avx512vl-vnni",
        float: &crate::x86::avx2::ENTRY,
        int: &[&crate::x86::avxvnni::evex::INT_ENTRY],
    },
    #[cfg(target_arch = "x86_64")]
    Pair { name: "avx2", float: &crate::x86::avx2::ENTRY, int: &[&crate::x86::madd::INT_ENTRY] },
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Pair {
        name: "neon-i8mm",
        float: &crate::aarch64::neon::ENTRY,
        int: &[&crate::aarch64::dot::i8mm::INT_ENTRY],
    },
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Pair {
        name: "neon-dotprod",
        float: &crate::aarch64::neon::ENTRY,
        int: &[&crate::aarch64::dot::dotprod::INT_ENTRY],
    },
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Pair {
        name: "neon",
        float: &crate::aarch64::neon::ENTRY,
        int: &[&crate::aarch64::mlal::INT_ENTRY],
    },
    Pair {
        name: "portable",
        float: &crate::portable::ENTRY,
        int: &[&crate::scalar::int::INT_ENTRY],
    },
    Pair { name: "scalar", float: &crate::scalar::ENTRY, int: &[&crate::scalar::int::INT_ENTRY] },
    // After the scalar kernel, which runs everywhere: so these are never the best.
    #[cfg(all(target_arch = "x86_64", feature = "gather"))]
    Pair {
        name: "avx512-gather",
        float: &crate::x86::avx512_gather::ENTRY,
        int: &[&crate::scalar::int::INT_ENTRY],
    },
    #[cfg(all(target_arch = "x86_64", feature = "gather"))]
    Pair {
        name: "avx2-gather",
        float: &crate::x86::avx2_gather::ENTRY,
        int: &[&crate::scalar::int::INT_ENTRY],
    },
];

/// A kernel that this CPU can run. Having one is the proof: there is no other way to get it than by
/// detection.
#[derive(Clone, Copy)]
pub struct Kernel(&'static Pair);

/// What is known of a kernel, whether or not it can run here.
#[derive(Clone, Copy)]
pub struct KernelInfo(&'static Pair);

impl KernelInfo {
    /// All kernels of this build, best first, scalar last.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        KERNELS.iter().map(Self)
    }

    /// The kernel's name, as `LUTMUL_ISA` takes it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The CPU features it needs, as Rust names them.
    pub fn features(self) -> Vec<&'static str> {
        self.detected().map(|(name, _)| name).collect()
    }

    /// The features that this CPU lacks, of those the kernel needs.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        self.detected().filter(|(_, has)| !has).map(|(name, _)| name)
    }

    /// The features of both halves, and whether this CPU has them.
    fn detected(self) -> impl Iterator<Item = (&'static str, bool)> {
        let Pair { float, int, .. } = self.0;
        let of_float = float.features.iter().enumerate().map(|(i, f)| (*f, (float.detected)(i)));
        let of_int = int
            .iter()
            .flat_map(|int| int.features.iter().enumerate().map(|(i, f)| (*f, (int.detected)(i))));
        let mut known = Vec::new();
        of_float.chain(of_int).filter(move |(name, _)| {
            let new = !known.contains(name);
            known.push(*name);
            new
        })
    }

    /// How the kernel decodes this table in F32 mode, as [`Kernel::decoder`] says for one that can run.
    pub fn decoder(self, w: &Portion<'_>) -> &'static str {
        (self.0.float.decoder)(w)
    }

    /// The kernel itself, if this CPU can run it.
    pub fn kernel(self) -> Option<Kernel> {
        let Pair { float, int, .. } = self.0;
        let available = (float.available)() && int.iter().all(|int| (int.available)());
        available.then_some(Kernel(self.0))
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

    /// What is known of it.
    pub fn info(self) -> KernelInfo {
        KernelInfo(self.0)
    }

    /// Lanes of its vectors of f32: tiles are multiples of it wide.
    pub fn lanes(self) -> usize {
        self.0.float.lanes
    }

    /// The widest tile of the panel shape, in tokens.
    pub fn tile_width(self) -> usize {
        self.0.float.lanes * self.0.float.vectors
    }

    /// The order in which the kernel decodes the codes of a line.
    pub fn order(self, w: &Portion<'_>) -> &'static Order {
        (self.0.float.order)(w)
    }

    /// How the kernel decodes this table: the name of a lookup or of a closed form.
    pub fn decoder(self, w: &Portion<'_>) -> &'static str {
        (self.0.float.decoder)(w)
    }

    /// The row shape: `out[t·stride + r] = scale · Σ_k x[t,k]·W[r,k]` for all rows of the portion.
    ///
    /// # Panics
    /// If the buffers don't have the lengths that their types document.
    pub fn row(self, w: &Portion<'_>, x: &RowInput<'_>, out: &mut [f32], stride: usize) {
        assert!(matches!(x.tokens, 1 | 2 | 4 | 8) && w.k > 0);
        assert_eq!(x.x.len(), x.tokens * w.lines() * LINE, "packed activations");
        // SAFETY: a `Kernel` is made in `KernelInfo::kernel` only, after its features were detected.
        unsafe { (self.0.float.row)(w, x, out, stride) }
    }

    /// Decodes columns `lines` (in lines of 64) of a portion's rows into a panel, in the kernel's
    /// order, scales multiplied in. Rows of the panel beyond the portion's are left as they are.
    ///
    /// # Panics
    /// If the portion has more rows than the panel, or the lines are not within the portion.
    pub fn panel(self, w: &Portion<'_>, lines: Range<usize>, to: &mut [PanelRow]) {
        assert!(w.rows() <= to.len() && lines.end <= w.lines());
        // SAFETY: as in `row`.
        unsafe { (self.0.float.panel)(w, lines, to) }
    }

    /// Multiplies a panel by a tile: `sums[r][t] (+)= Σ_k panel[r][k] · x[k][t]`.
    ///
    /// Rows are done in the micro-kernel's steps, so some beyond the panel's last may be written.
    ///
    /// # Panics
    /// If the width is none of the kernel's, or a buffer is too short.
    pub fn tile(self, panel: &[PanelRow], x: &TileInput<'_>, sums: &mut TileSums<'_>) {
        assert!(
            x.width > 0
                && x.width.is_multiple_of(self.0.float.lanes)
                && x.width <= self.tile_width()
        );
        assert!(panel.len() == PANEL_ROWS && sums.rows <= PANEL_ROWS && sums.stride >= x.width);
        // SAFETY: as in `row`.
        unsafe { (self.0.float.tile)(panel, x, sums) }
    }
}

/// Integer modes.
impl Kernel {
    /// How the row shape takes activations, for an image of that many planes.
    pub fn row_limbs(self, digits: Digits, planes: usize, tokens: usize) -> Limbs {
        let form = match (self.entry(false), self.entry(true)) {
            (None, _) => Form::Words,
            // Signs are applied to each token's bytes, but to words of weights once.
            (Some(_), Some(_)) if digits.count >= 2 && planes == 1 && tokens >= 2 => Form::Words,
            _ => Form::Bytes,
        };
        Limbs::new(form, digits)
    }

    /// The most tokens for which the row shape is the faster one.
    ///
    /// Measured at k = 3,072 on a Zen 4. `vpdpbusd` with one digit: rows of 8 and 8 tokens take 0.9 ms
    /// where a panel of 16 takes 1.1 (decoding it takes most of that), and 1.8 ms where one of 32 takes 1.4.
    /// With more digits or planes, and with words, panels are faster as soon as there are two blocks.
    pub fn row_tokens(self, digits: Digits) -> usize {
        let one = digits.count == 1 && self.entry(false).is_some();
        if one { 16 } else { 8 }
    }

    /// How the panel shape takes them.
    pub fn panel_limbs(self, digits: Digits, planes: usize) -> Limbs {
        let form = match (self.entry(false), self.entry(true)) {
            (None, _) => Form::Words,
            (Some(_), _) if digits.multiplied => Form::Multiplied,
            // One product of words is as much as two of bytes, and needs no sign; but sums of words
            // are widened more often, and planes cannot share the sign that words don't need.
            (Some(_), Some(_)) if digits.count == 2 && planes == 1 => Form::Words,
            _ => Form::Bytes,
        };
        Limbs::new(form, digits)
    }

    /// The entry for words, or for bytes.
    fn entry(self, words: bool) -> Option<&'static IntEntry> {
        self.0.int.iter().copied().find(|entry| entry.words == words)
    }

    fn entry_of(self, limbs: Limbs) -> &'static IntEntry {
        self.entry(limbs.words()).expect("limbs of another kernel")
    }

    /// i32 lanes: tiles are multiples of it wide.
    pub fn int_lanes(self, limbs: Limbs) -> usize {
        self.entry_of(limbs).lanes
    }

    /// The widest tile of the panel shape, in tokens.
    pub fn int_tile_width(self, limbs: Limbs) -> usize {
        let entry = self.entry_of(limbs);
        entry.lanes * entry.vectors
    }

    /// The row shape: `out[(g·tokens + t)·stride + r] = Σ_k X[t,k] · ±L[code]`, exactly, for each group g
    /// of `group_lines` lines.
    ///
    /// # Panics
    /// If the buffers don't have the lengths that their types document, or the kernel does not take
    /// such limbs.
    pub fn int_row(self, w: &IntPortion<'_>, x: &IntRowInput<'_>, out: &mut [i64], stride: usize) {
        assert!(matches!(x.tokens, 1 | 2 | 4 | 8) && w.cols > 0 && w.first.is_multiple_of(8));
        assert!(w.group_lines > 0 && w.first + w.cols <= w.stride);
        assert!(x.limbs.form != Form::Multiplied, "the row shape has no multipliers");
        let limbs = x.limbs.weights.len() * x.limbs.size();
        assert_eq!(x.x.len(), w.lines() * x.tokens * limbs * LINE, "packed activations");
        // SAFETY: a `Kernel` is made in `KernelInfo::kernel` only, after its features were detected.
        unsafe { (self.entry_of(x.limbs).row)(w, x, out, stride) }
    }

    /// Decodes a portion into a panel of [`IntPanel::pitch`] rows a row. The portion must have no more
    /// columns than the panel has room for.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn int_panel(self, w: &IntPortion<'_>, limbs: Limbs, panel: &mut IntPanelMut<'_>) {
        assert!(w.lines() * LINE <= PANEL_STEPS * limbs.step() && w.first.is_multiple_of(8));
        assert!(w.first + w.cols <= w.stride);
        assert!(panel.start_steps > 0 && panel.start_steps.is_multiple_of(8));
        // SAFETY: as in `int_row`.
        unsafe { (self.entry_of(limbs).panel)(w, panel) }
    }

    /// Multiplies a panel of an image with that many planes by a tile; see [`IntTileSums`].
    ///
    /// # Panics
    /// If the width is none of the kernel's, or a buffer is too short.
    pub fn int_tile(
        self,
        panel: &IntPanel<'_>,
        planes: usize,
        x: &IntTileInput<'_>,
        to: &mut IntTileSums<'_>,
    ) {
        let lanes = self.int_lanes(x.limbs);
        assert!(x.width.is_multiple_of(lanes) && x.width <= self.int_tile_width(x.limbs));
        assert!(x.width > 0 && x.steps > 0 && x.steps <= PANEL_STEPS && panel.group_steps > 0);
        assert!(to.rows <= PANEL_ROWS && to.stride >= x.width && to.steps.len() >= x.width);
        // SAFETY: as in `int_row`.
        unsafe { (self.entry_of(x.limbs).tile)(panel, planes, x, to) }
    }

    /// Rounds totals of a tile, `[PANEL_ROWS][stride]`, to f32 and transposes them:
    /// `to[token][row] = f32(totals[row][token] + bias[row])`. (A bias of −0 changes nothing.)
    ///
    /// # Panics
    /// If tokens are no multiple of the kernel's lanes, or there are too few totals.
    pub fn int_finish(
        self,
        limbs: Limbs,
        totals: &[f64],
        stride: usize,
        bias: &[f64; PANEL_ROWS],
        to: &mut [[f32; PANEL_ROWS]],
    ) {
        assert!(to.len().is_multiple_of(self.int_lanes(limbs)) && stride >= to.len());
        // SAFETY: as in `int_row`.
        unsafe { (self.entry_of(limbs).finish)(totals, stride, bias, to) }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.0.name)
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        // Each of the table's lines is another kernel.
        std::ptr::eq(self.0, other.0)
    }
}
