//! The table of kernels, and the handle that proves that one of them can run.

use std::fmt;
use std::ops::Range;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use crate::aarch64 as arm;
use crate::float::bf16::{self, Bf16Entry};
use crate::float::{self, FloatEntry, Groups, Order};
use crate::int::tiles::{self, TilesEntry, TilesOut, TilesScratch, TilesX};
use crate::int::{self, Digits, IntEntry, Limbs, Operand};
use crate::isa::Feature;
use crate::table::Planes;
use crate::weights::{LINE, MC};
#[cfg(target_arch = "x86_64")]
use crate::x86;
use crate::{portable, scalar};

/// A line of the kernel table: a name, and what runs under it.
struct Entry {
    name: &'static str,
    float: &'static FloatEntry,
    int: Operands,
    /// Matrix tiles, for more than a few tokens of the integer modes.
    tiles: Option<&'static TilesEntry>,
    /// Instructions for bf16, for more than a few tokens of that mode.
    bf16: Option<&'static Bf16Entry>,
    /// Whether it is the best one where it can run: an instruction may be there and slow.
    pays: fn() -> bool,
}

/// The operands of the integer modes.
enum Operands {
    /// Words, or bytes, for all modes.
    One(&'static IntEntry),
    /// Bytes, and words for what they are better at.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    Both { bytes: &'static IntEntry, words: &'static IntEntry },
}

/// Every kernel of this build, best first, scalar last.
static KERNELS: &[Entry] = &[
    #[cfg(target_arch = "x86_64")]
    Entry {
        name: "amx",
        float: &x86::avx512vbmi::f32::ENTRY,
        int: Operands::Both {
            bytes: &x86::avx512vbmi::u8i8::ENTRY,
            words: &x86::avx512vbmi::i16::ENTRY,
        },
        tiles: Some(&x86::amx::i8i8::ENTRY),
        bf16: Some(&x86::amx::bf16::ENTRY),
        pays: || true,
    },
    #[cfg(target_arch = "x86_64")]
    Entry {
        name: "avx512bf16",
        float: &x86::avx512vbmi::f32::ENTRY,
        int: Operands::Both {
            bytes: &x86::avx512vbmi::u8i8::ENTRY,
            words: &x86::avx512vbmi::i16::ENTRY,
        },
        tiles: None,
        bf16: Some(&x86::avx512bf16::bf16::ENTRY),
        pays: x86::avx512bf16::pays,
    },
    #[cfg(target_arch = "x86_64")]
    Entry {
        name: "avx512vbmi",
        float: &x86::avx512vbmi::f32::ENTRY,
        int: Operands::Both {
            bytes: &x86::avx512vbmi::u8i8::ENTRY,
            words: &x86::avx512vbmi::i16::ENTRY,
        },
        tiles: None,
        bf16: None,
        pays: || true,
    },
    #[cfg(target_arch = "x86_64")]
    Entry {
        name: "avx512",
        float: &x86::avx512::f32::ENTRY,
        int: Operands::One(&x86::avx512::i16::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    #[cfg(target_arch = "x86_64")]
    Entry {
        name: "avxvnni",
        float: &x86::avx2::f32::ENTRY,
        int: Operands::One(&x86::avxvnni::u8i8::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    #[cfg(target_arch = "x86_64")]
    Entry {
        name: "avx2",
        float: &x86::avx2::f32::ENTRY,
        int: Operands::One(&x86::avx2::i16::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Entry {
        name: "neon-bf16",
        float: &arm::neon::f32::ENTRY,
        int: Operands::One(&arm::i8mm::ENTRY),
        tiles: None,
        bf16: Some(&arm::bf16::ENTRY),
        pays: || true,
    },
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Entry {
        name: "neon-i8mm",
        float: &arm::neon::f32::ENTRY,
        int: Operands::One(&arm::i8mm::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Entry {
        name: "neon-dotprod",
        float: &arm::neon::f32::ENTRY,
        int: Operands::One(&arm::dotprod::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Entry {
        name: "neon",
        float: &arm::neon::f32::ENTRY,
        int: Operands::One(&arm::neon::i16::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    Entry {
        name: "portable",
        float: &portable::ENTRY,
        int: Operands::One(&scalar::i16::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    Entry {
        name: "scalar",
        float: &scalar::f32::ENTRY,
        int: Operands::One(&scalar::i16::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    // After the scalar kernel, which runs everywhere: so these are never the best.
    #[cfg(all(target_arch = "x86_64", feature = "gather"))]
    Entry {
        name: "avx512-gather",
        float: &x86::gather::AVX512,
        int: Operands::One(&scalar::i16::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
    #[cfg(all(target_arch = "x86_64", feature = "gather"))]
    Entry {
        name: "avx2-gather",
        float: &x86::gather::AVX2,
        int: Operands::One(&scalar::i16::ENTRY),
        tiles: None,
        bf16: None,
        pays: || true,
    },
];

impl Entry {
    /// The features of all parts.
    fn features(&self) -> impl Iterator<Item = &'static Feature> {
        let int = match self.int {
            Operands::One(one) => [one.features, &[]],
            Operands::Both { bytes, words } => [bytes.features, words.features],
        };
        let tiles = self.tiles.map_or(&[][..], |tiles| tiles.features);
        let bf16 = self.bf16.map_or(&[][..], |bf16| bf16.features);
        let all = self.float.features.iter().chain(int.into_iter().flatten());
        let all = all.chain(tiles).chain(bf16);
        let mut known = Vec::new();
        all.filter(move |feature| {
            let new = !known.contains(&feature.name);
            known.push(feature.name);
            new
        })
    }

    /// The part for an operand.
    fn int(&self, operand: Operand) -> Option<&'static IntEntry> {
        match self.int {
            Operands::One(one) => (one.operand == operand).then_some(one),
            Operands::Both { bytes, words } => Some(match operand {
                Operand::U8I8 => bytes,
                Operand::I16 => words,
            }),
        }
    }

    fn has(&self, operand: Operand) -> bool {
        self.int(operand).is_some()
    }
}

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
        KERNELS.iter().map(Self)
    }

    /// The kernel's name, as `LUTMUL_ISA` takes it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The CPU features it needs, as Rust names them.
    pub fn features(self) -> Vec<&'static str> {
        self.0.features().map(|feature| feature.name).collect()
    }

    /// The features that this CPU lacks, of those the kernel needs.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        self.0.features().filter(|feature| !(feature.detected)()).map(|feature| feature.name)
    }

    /// How the kernel decodes this table in F32 mode, as [`Kernel::decoder`] says for one that can run.
    pub fn decoder(self, w: &float::Weights<'_>) -> &'static str {
        (self.0.float.decoder)(w).name
    }

    /// Why the system does not let this process use the kernel, though the CPU has its features.
    pub fn refusal(self) -> Option<&'static str> {
        if self.missing().next().is_some() {
            return None;
        }
        let tiles = self.0.tiles.and_then(|tiles| (tiles.refusal)());
        tiles.or_else(|| self.0.bf16.and_then(|bf16| (bf16.refusal)()))
    }

    /// The kernel itself, if this CPU can run it and the system lets it.
    pub fn kernel(self) -> Option<Kernel> {
        let usable = self.missing().next().is_none() && self.refusal().is_none();
        usable.then_some(Kernel(self.0))
    }
}

impl Kernel {
    /// The kernels that this CPU can run, best first, scalar last.
    pub fn available() -> impl Iterator<Item = Self> + Clone {
        KernelInfo::all().filter_map(KernelInfo::kernel)
    }

    /// The best kernel for this CPU: the first one that can run, but for those whose instructions are slow on it.
    pub fn best() -> Self {
        let mut kernels = Self::available();
        kernels.find(|kernel| (kernel.0.pays)()).expect("the scalar kernel runs everywhere")
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What is known of it.
    pub fn info(self) -> KernelInfo {
        KernelInfo(self.0)
    }
}

/// F32.
impl Kernel {
    /// Lanes of its vectors of f32: tiles are multiples of it wide.
    pub fn lanes(self) -> usize {
        self.0.float.lanes
    }

    /// The widest tile of gemm, in tokens.
    pub fn tile_width(self) -> usize {
        self.0.float.tile_width()
    }

    /// The order in which the kernel decodes the codes of a line.
    pub fn order(self, w: &float::Weights<'_>) -> &'static Order {
        (self.0.float.decoder)(w).order
    }

    /// How the kernel decodes this table: the name of a lookup or of a closed form.
    pub fn decoder(self, w: &float::Weights<'_>) -> &'static str {
        (self.0.float.decoder)(w).name
    }

    /// The gemv loops for a layout of scales.
    fn gemv_loops(self, w: &float::Weights<'_>) -> &'static [float::Gemv] {
        let decoder = (self.0.float.decoder)(w);
        match w.scales.groups {
            Groups::Whole => decoder.gemv[float::WHOLE as usize],
            Groups::Lines(_) => decoder.gemv[float::LINES as usize],
            Groups::Quarters(_) => decoder.gemv[float::QUARTERS as usize],
        }
    }

    /// How many tokens gemv should be given for `m` of them: so that none but the last loop has padding.
    pub fn gemv_f32_tokens(self, w: &float::Weights<'_>, m: usize) -> usize {
        let loops = self.gemv_loops(w);
        let rest = m % loops[0].tokens;
        let last = loops.iter().map(|gemv| gemv.tokens).filter(|tokens| *tokens >= rest).min();
        m - rest + if rest > 0 { last.unwrap_or(rest) } else { 0 }
    }

    /// gemv: `out[t·stride + r] = scale · Σ_k x[t,k]·W[r,k]` for all rows.
    ///
    /// # Panics
    /// If the buffers don't have the lengths that their types document.
    pub fn gemv_f32(
        self,
        w: &float::Weights<'_>,
        x: &float::GemvX<'_>,
        out: &mut [f32],
        stride: usize,
    ) {
        assert!(x.tokens > 0 && w.codes.k > 0 && w.codes.cols == w.codes.k);
        assert_eq!(x.x.len(), x.tokens * w.codes.lines() * LINE, "packed activations");
        let loops = self.gemv_loops(w);
        let mut token = 0;
        while token < x.tokens {
            let fits = |gemv: &&float::Gemv| gemv.tokens <= x.tokens - token;
            let gemv = loops.iter().find(fits).expect("a loop for one token");
            // SAFETY: a `Kernel` is made in `KernelInfo::kernel` only, after its features were detected.
            unsafe { (gemv.run)(w, x, token, out, stride) };
            token += gemv.tokens;
        }
    }

    /// Decodes columns `lines` (in lines of 64) of some rows into a panel, in the kernel's
    /// order, scales multiplied in. Rows of the panel beyond the weights' are left as they are.
    ///
    /// # Panics
    /// If there are more rows than in the panel, or the lines are not within the weights.
    pub fn decode_f32(
        self,
        w: &float::Weights<'_>,
        lines: Range<usize>,
        to: &mut [float::PanelRow],
    ) {
        assert!(w.codes.rows() <= to.len() && lines.end <= w.codes.lines());
        assert!(w.codes.cols == w.codes.k);
        // SAFETY: as in `gemv_f32`.
        unsafe { ((self.0.float.decoder)(w).decode)(w, lines, to) }
    }

    /// gemm: multiplies a panel by a tile, `sums[r][t] (+)= Σ_k panel[r][k] · x[k][t]`.
    ///
    /// Rows are done in the micro-kernel's steps, so some beyond the panel's last may be written.
    ///
    /// # Panics
    /// If the width is none of the kernel's, or a buffer is too short.
    pub fn gemm_f32(
        self,
        panel: &[float::PanelRow],
        x: &float::TileX<'_>,
        sums: &mut float::TileSums<'_>,
    ) {
        let lanes = self.lanes();
        assert!(x.width > 0 && x.width.is_multiple_of(lanes) && x.width <= self.tile_width());
        assert!(panel.len() == MC && sums.rows <= MC && sums.stride >= x.width);
        assert!(x.x.len().is_multiple_of(x.width));
        let (mut at, vectors) = (0, x.width / lanes);
        while at < vectors {
            let fits = |kernel: &&float::Microkernel| kernel.vectors <= vectors - at;
            let kernel = self.0.float.gemm.iter().find(fits).expect("one for one vector");
            // SAFETY: as in `gemv_f32`.
            unsafe { (kernel.run)(panel, x, at, sums) };
            at += kernel.vectors;
        }
    }
}

/// bf16, by instructions for it.
impl Kernel {
    /// The fewest tokens from which its instructions for bf16 are faster than F32's loops; `None` if it has none, or not
    /// for such groups of scales.
    pub fn bf16_from(self, groups: &Groups<'_>) -> Option<usize> {
        self.0.bf16.filter(|_| bf16::takes(groups)).map(|bf16| bf16.from)
    }

    fn bf16(self) -> &'static Bf16Entry {
        self.0.bf16.expect("a kernel with instructions for bf16")
    }

    /// Columns of a token that lie side by side in x.
    ///
    /// # Panics
    /// If the kernel has no instructions for bf16.
    pub fn bf16_side(self) -> usize {
        self.bf16().side
    }

    /// Bytes of x that should stay in L2 while rows pass by.
    ///
    /// # Panics
    /// If the kernel has no instructions for bf16.
    pub fn bf16_x_bytes(self) -> usize {
        self.bf16().x_bytes
    }

    /// gemm of bf16: `to[token][row] = Σ_g scale · Σ_k x[token][k]·W[row][k]`, handed to `done` tile by tile. x is a
    /// [`bf16::XStep`] for each step of each tile of tokens, zero beyond columns and tokens; tiles are as many as sums.
    ///
    /// # Panics
    /// If the kernel has no instructions for bf16 or not for these groups, the table is none of bf16, or a buffer does not
    /// have the length that its type documents.
    pub fn gemm_bf16(
        self,
        w: &float::Weights<'_>,
        x: &[bf16::XStep],
        scratch: &mut bf16::Scratch<'_>,
        done: &mut bf16::Done<'_>,
    ) {
        let (entry, codes) = (self.bf16(), &w.codes);
        assert!(bf16::takes(&w.scales.groups) && w.table.needed == Planes::Two);
        assert!(codes.cols > 0 && codes.cols == codes.k);
        assert!(codes.rows() > 0 && codes.rows() <= bf16::ROWS);
        let (steps, tiles) = (codes.cols.div_ceil(bf16::STEP), scratch.sums.len());
        assert!(tiles > 0 && x.len() == tiles * steps, "packed activations");
        assert!(scratch.panel.len() >= (2 * codes.lines()).min(bf16::PANEL));
        // SAFETY: as in `gemv_f32`, and the system was asked there whether it permits tiles.
        unsafe { (entry.run)(w, x, scratch, done) }
    }
}

/// Integer modes.
impl Kernel {
    /// How gemv takes activations, for a table of that many planes.
    pub fn gemv_limbs(self, digits: Digits, planes: usize, tokens: usize) -> Limbs {
        let operand = match (self.0.has(Operand::U8I8), self.0.has(Operand::I16)) {
            (false, _) => Operand::I16,
            // Signs are applied to each token's bytes, but to words of weights once.
            (true, true) if digits.count >= 2 && planes == 1 && tokens >= 2 => Operand::I16,
            (true, _) => Operand::U8I8,
        };
        Limbs::new(operand, digits)
    }

    /// The most tokens for which gemv is the faster one.
    ///
    /// Measured at k = 3,072 on a Zen 4. `vpdpbusd` with one digit: gemv of 8 and 8 tokens takes 0.9 ms
    /// where a panel for 16 takes 1.1 (decoding it takes most of that), and 1.8 ms where one for 32 takes 1.4.
    /// With more digits or planes, and with words, gemm is faster as soon as there are two blocks.
    pub fn gemv_tokens(self, digits: Digits) -> usize {
        let one = digits.count == 1 && self.0.has(Operand::U8I8);
        if one { 16 } else { 8 }
    }

    /// How gemm takes them.
    pub fn gemm_limbs(self, digits: Digits, planes: usize) -> Limbs {
        let operand = match (self.0.has(Operand::U8I8), self.0.has(Operand::I16)) {
            (false, _) => Operand::I16,
            (true, _) if digits.multiplied => return Limbs::MULTIPLIED,
            // One product of words is as much as two of bytes, and needs no sign; but sums of words
            // are widened more often, and planes cannot share the sign that words don't need.
            (true, true) if digits.count == 2 && planes == 1 => Operand::I16,
            (true, _) => Operand::U8I8,
        };
        Limbs::new(operand, digits)
    }

    fn int(self, limbs: Limbs) -> &'static IntEntry {
        self.0.int(limbs.operand).expect("limbs of another kernel")
    }

    /// i32 lanes: tiles are multiples of it wide.
    pub fn int_lanes(self, limbs: Limbs) -> usize {
        self.int(limbs).lanes
    }

    /// The widest tile of gemm, in tokens.
    pub fn int_tile_width(self, limbs: Limbs) -> usize {
        let entry = self.int(limbs);
        entry.lanes * entry.gemm.vectors
    }

    /// gemv: `out[(g·tokens + t)·stride + r] = Σ_k X[t,k] · ±L[code]`, exactly, for each group g
    /// of `group_lines` lines.
    ///
    /// # Panics
    /// If the buffers don't have the lengths that their types document, or the kernel does not take
    /// such limbs.
    pub fn gemv_int(
        self,
        w: &int::Weights<'_>,
        x: &int::GemvX<'_>,
        out: &mut [i64],
        stride: usize,
    ) {
        assert!(x.tokens > 0 && w.codes.cols > 0 && w.codes.first.is_multiple_of(8));
        assert!(w.group_lines > 0 && w.codes.first + w.codes.cols <= w.codes.k);
        assert!(!x.limbs.multiplied, "gemv has no multipliers");
        let limbs = x.limbs.weights.len();
        let bytes = limbs * x.limbs.size() * LINE;
        assert_eq!(x.x.len(), w.codes.lines() * x.tokens * bytes, "packed activations");
        let loops = (self.int(x.limbs).decoder)(w).gemv;
        let mut token = 0;
        while token < x.tokens {
            let left = (x.tokens - token) * limbs;
            let fits = |g: &&int::Gemv| g.vectors <= left && g.vectors.is_multiple_of(limbs);
            let gemv = loops.iter().find(fits).expect("a loop for one token");
            // SAFETY: as in `gemv_f32`.
            unsafe { (gemv.run)(w, x, token, out, stride) };
            token += gemv.vectors / limbs;
        }
    }

    /// Decodes weights into a panel of [`int::Panel::pitch`] rows a row. There must be no more
    /// columns than the panel has room for.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn decode_int(self, w: &int::Weights<'_>, limbs: Limbs, panel: &mut int::PanelMut<'_>) {
        assert!(w.codes.lines() * LINE <= int::KC * limbs.kr());
        assert!(w.codes.first.is_multiple_of(8) && w.codes.first + w.codes.cols <= w.codes.k);
        assert!(panel.start_words > 0 && panel.start_words.is_multiple_of(8));
        // SAFETY: as in `gemv_f32`.
        unsafe { ((self.int(limbs).decoder)(w).decode)(w, panel) }
    }

    /// gemm: multiplies a panel of a table with that many planes by a tile; see [`int::TileSums`].
    ///
    /// # Panics
    /// If the width or the planes are none of the kernel's, or a buffer is too short.
    pub fn gemm_int(
        self,
        panel: &int::Panel<'_>,
        planes: usize,
        x: &int::TileX<'_>,
        to: &mut int::TileSums<'_>,
    ) {
        let entry = self.int(x.limbs);
        assert!(x.width.is_multiple_of(entry.lanes) && x.width <= self.int_tile_width(x.limbs));
        assert!(x.width > 0 && x.words > 0 && x.words <= int::KC && panel.group_words > 0);
        assert!(to.rows <= MC && to.stride >= x.width && to.token_scales.len() >= x.width);
        // SAFETY: as in `gemv_f32`.
        unsafe { (entry.gemm.tile[planes - 1])(panel, x, to) }
    }

    /// Rounds totals of a tile, `[MC][stride]`, to f32 and transposes them:
    /// `to[token][row] = f32(totals[row][token] + bias[row])`. (A bias of −0 changes nothing.)
    ///
    /// # Panics
    /// If tokens are no multiple of the kernel's lanes, or there are too few totals.
    pub fn round(
        self,
        limbs: Limbs,
        totals: &[f64],
        stride: usize,
        bias: &[f64; MC],
        to: &mut [[f32; MC]],
    ) {
        assert!(to.len().is_multiple_of(self.int_lanes(limbs)) && stride >= to.len());
        // SAFETY: as in `gemv_f32`.
        unsafe { (self.int(limbs).gemm.round)(totals, stride, bias, to) }
    }
}

/// Matrix tiles, for the integer modes.
impl Kernel {
    /// The fewest tokens from which tiles are faster than gemv, for a table; `None` if the kernel has no tiles,
    /// or they can't do the table.
    ///
    /// Measured on a Sapphire Rapids, 16384×3072, weights cold, against gemv on AVX-512 in the same run: int8 1.0 of its
    /// speed with 2 tokens, 1.0 to 1.1 with 3, 1.8 to 2.3 with 5; what has to be decoded, QINS and E4M3, 0.75 to 0.9 with 4
    /// and 1.25 to 1.7 with 5, where gemv begins a second pass.
    pub fn tiles_from(self, w: &int::Weights<'_>) -> Option<usize> {
        self.0.tiles?;
        match w.table.signed.count() {
            0 => None,
            _ if w.signed() && !w.table.signed.has_negatives() => None,
            1 => Some(3),
            _ => Some(5),
        }
    }

    /// gemm by tiles; see [`int::tiles`].
    ///
    /// # Panics
    /// If the kernel has no tiles or they can't do the table, or a buffer does not have the length that its type documents.
    pub fn gemm_tiles(
        self,
        w: &int::Weights<'_>,
        x: &TilesX<'_>,
        to: &mut TilesOut<'_>,
        scratch: &mut TilesScratch<'_>,
    ) {
        let (entry, codes) = (self.0.tiles.expect("a kernel with tiles"), &w.codes);
        let (sums, groups) = (w.table.signed.sums.len(), codes.cols.div_ceil(to.group.max(1)));
        assert!(self.tiles_from(w).is_some());
        assert!(sums > 0 && codes.cols > 0 && codes.rows() <= tiles::ROWS && codes.rows() > 0);
        assert!(codes.first.is_multiple_of(tiles::STEP) && codes.first + codes.cols <= codes.k);
        assert!(to.group.min(codes.cols) <= tiles::MOST_COLUMNS);
        assert!(groups <= 1 || to.group.is_multiple_of(tiles::STEP));
        assert!(matches!(x.digits, 1..=3) && !x.token_scales.is_empty());
        let tokens = x.token_scales.len();
        assert!(tokens.is_multiple_of(tiles::TOKENS) && to.stride >= tiles::ROWS);
        assert!(to.to.len() >= (tokens - 1) * to.stride + tiles::ROWS);
        let steps = codes.cols.div_ceil(tiles::STEP);
        assert_eq!(x.x.len(), x.tiles() * steps * tiles::TILE, "packed activations");
        assert!(to.scales.len() >= tiles::ROWS * groups);
        assert!(scratch.panel.len() >= tiles::panel_len(w.table.signed.count()));
        assert!(scratch.sums.len() >= tiles::sums_len(sums, x.tiles()));
        assert!(groups == 1 || scratch.totals.len() >= tokens * tiles::ROWS);
        // SAFETY: as in `gemv_f32`, and the system was asked there whether it permits tiles.
        unsafe { (entry.run)(w, x, to, scratch) }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kernel({})", self.0.name)
    }
}

impl Eq for Kernel {}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        // Each of the table's lines is another kernel.
        std::ptr::eq(self.0, other.0)
    }
}
