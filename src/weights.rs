//! A matrix of weights: codes, an optional sign plane, a table, scales.

use std::ops::Range;
use std::sync::OnceLock;

use lutmul_kernels::float::{self, Groups};
use lutmul_kernels::{Codes, LINE, int};

use crate::bytes::Bytes;
use crate::error::{Error, Result, area};
use crate::format::Format;
use crate::kernel::Kernel;
use crate::lut::Lut;
use crate::mode::Mode;
use crate::options::Threads;
use crate::scales::Scales;

/// What a code that stands for NaN or infinity means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// An error that names tensor, row and column, found by one scan before the first product.
    #[default]
    Reject,
    /// IEEE 754 propagation: such weights make outputs NaN or infinite (modes F32 and BF16 only).
    Propagate,
}

/// An `n × k` matrix of 8-bit weights: `W[n,k] = sign · table[code] · scale`.
///
/// Lengths are validated once, here. Codes and signs may be borrowed, owned or shared, at any
/// alignment; they are read as they stand and never copied.
#[derive(Clone, Debug)]
pub struct Weights<'a> {
    n: usize,
    k: usize,
    lut: Lut,
    codes: Bytes<'a>,
    signs: Option<Bytes<'a>>,
    scales: Scales,
    name: String,
    non_finite: NonFinite,
    groups: GroupIndex,
    /// Columns that share their scales: the whole of k, or the size of a group.
    group: usize,
    /// The first code in use that is not finite, once looked for.
    scanned: OnceLock<Option<(usize, usize)>>,
}

/// Which of its row's scales a code has, laid out as kernels read it.
#[derive(Clone, Debug)]
pub(crate) enum GroupIndex {
    Whole,
    /// For each line of 64 codes.
    Lines(Vec<u32>),
    /// For each line, of its four quarters.
    Quarters(Vec<[u32; 4]>),
    /// Groups that are no multiple of 16: beyond the kernels.
    Odd,
}

impl GroupIndex {
    fn new(scales: &Scales) -> Self {
        let (n, k) = scales.shape();
        let group = scales.granularity().block((n, k)).1;
        let last = k.div_ceil(group).saturating_sub(1);
        let lines = 0..k.div_ceil(LINE);
        // Without rows there is no use for an index, and k may be anything.
        if group >= k || n == 0 {
            Self::Whole
        } else if group.is_multiple_of(LINE) {
            Self::Lines(lines.map(|line| (line * LINE / group) as u32).collect())
        } else if group.is_multiple_of(16) {
            let quarter = |line: usize, q: usize| ((line * LINE + 16 * q) / group).min(last) as u32;
            Self::Quarters(lines.map(|l| [0, 1, 2, 3].map(|q| quarter(l, q))).collect())
        } else {
            Self::Odd
        }
    }
}

/// Bytes of a row of a sign plane: one bit a weight, least significant first, rows byte-aligned.
pub fn sign_stride(k: usize) -> usize {
    k.div_ceil(8)
}

/// Whether there are `stride` bytes for each row of a matrix.
fn check(what: &'static str, got: usize, shape: (usize, usize), stride: usize) -> Result<()> {
    let (rows, cols) = shape;
    let expected = area(what, rows, stride)?;
    if got == expected {
        return Ok(());
    }
    Err(Error::Length { what, unit: "bytes", rows, cols, expected, got })
}

impl<'a> Weights<'a> {
    /// Puts a matrix of weights without a sign plane together; [`Weights::with_signs`] adds one.
    ///
    /// `codes` is `[n, k]` row-major, and may be borrowed, owned, or shared.
    ///
    /// ```
    /// use lutmul::{Lut, Scales, Weights};
    ///
    /// // Two rows of three weights. Codes of QINS linear stand for c − 1; the sign plane is apart.
    /// let codes: &[u8] = &[2, 3, 5, 1, 2, 4]; // borrowed; a Vec<u8> or a mapped file does as well
    /// let signs: &[u8] = &[0b010, 0b100];
    /// let scales = Scales::tensor(0.5, (2, 3))?;
    /// let w = Weights::new(codes, (2, 3), Lut::qins_linear(), scales)?.with_signs(signs)?;
    /// assert_eq!((w.at(0, 0), w.at(0, 1), w.at(1, 2)), (0.5, -1.0, -1.5));
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// Wrong lengths, `n·k` beyond the address space, scales of another shape.
    pub fn new(
        codes: impl Into<Bytes<'a>>,
        shape: (usize, usize),
        lut: Lut,
        scales: Scales,
    ) -> Result<Self> {
        let (codes, (n, k)) = (codes.into(), shape);
        check("codes", codes.len(), shape, k)?;
        if scales.shape() != shape {
            return Err(Error::Shape { what: "scales", expected: shape, got: scales.shape() });
        }
        let (name, signs, scanned) = ("weights".into(), None, OnceLock::new());
        let (non_finite, groups) = (NonFinite::Reject, GroupIndex::new(&scales));
        let group = scales.granularity().block(shape).1.min(k);
        Ok(Self { n, k, lut, codes, signs, scales, name, non_finite, groups, group, scanned })
    }

    /// Gives it a sign plane, `[n, ⌈k/8⌉]`: bit `k % 8` of byte `k / 8` of a row is set for a negative weight; bits beyond
    /// k are ignored.
    ///
    /// # Errors
    /// A plane of another length.
    pub fn with_signs(self, signs: impl Into<Bytes<'a>>) -> Result<Self> {
        let signs = signs.into();
        check("signs", signs.len(), (self.n, self.k), sign_stride(self.k))?;
        Ok(Self { signs: Some(signs), ..self })
    }

    /// Gives the matrix the name that errors call it by.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says what codes that stand for NaN or infinity mean.
    pub fn with_non_finite(mut self, policy: NonFinite) -> Self {
        self.non_finite = policy;
        self
    }

    /// Lets the table's image have three bytes: see [`Lut::with_wide_image`].
    ///
    /// ```
    /// use lutmul::{Format, Granularity, Weights};
    ///
    /// let floats = [0.5f32, 0.013, -0.7, 0.25];
    /// let w = Weights::encode(&floats, (1, 4), &Format::E4m3, Granularity::Row)?.with_wide_image();
    /// assert!(w.lut().image().exact);
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    pub fn with_wide_image(mut self) -> Self {
        self.lut = self.lut.with_wide_image();
        self
    }

    /// Out features: rows.
    pub fn n(&self) -> usize {
        self.n
    }

    /// In features: columns.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The name that errors call the matrix by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table.
    pub fn lut(&self) -> &Lut {
        &self.lut
    }

    /// The format that has this table, and a sign plane or none as these weights: [`Format::Table`] if none has.
    ///
    /// ```
    /// # use lutmul::{Format, Granularity, Weights};
    /// let weights = Weights::encode(&[1.0f32, -0.5], (1, 2), &Format::E4m3, Granularity::Row)?;
    /// assert_eq!(weights.with_wide_image().format().name(), "e4m3");
    /// let fitted = Weights::encode(&[1.0f32, -0.5], (1, 2), &Format::KMeans, Granularity::Row)?;
    /// assert_eq!(fitted.format().name(), "table");
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    pub fn format(&self) -> Format {
        let bits = |lut: &Lut| lut.values().map(f32::to_bits);
        let same = |format: &Format| {
            format.has_signs() == self.signs().is_some()
                && format.lut().is_some_and(|lut| bits(&lut) == bits(self.lut()))
        };
        Format::NAMED.into_iter().find(same).unwrap_or_else(|| Format::Table(self.lut().clone()))
    }

    /// The codes, `[n, k]`.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The sign plane, `[n, ⌈k/8⌉]`.
    pub fn signs(&self) -> Option<&[u8]> {
        self.signs.as_deref()
    }

    /// The scales.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// What codes that stand for NaN or infinity mean.
    pub fn non_finite(&self) -> NonFinite {
        self.non_finite
    }

    /// Bytes that a product reads: codes, signs, scales and table.
    pub fn bytes(&self) -> usize {
        self.codes.len()
            + self.signs().map_or(0, <[u8]>::len)
            + 4 * self.scales.values().len()
            + 1024
    }

    /// How a kernel decodes these weights: the name of a lookup or of a closed form.
    pub fn decoder(&self, kernel: Kernel) -> &'static str {
        kernel.info().decoder(self)
    }

    /// One weight, decoded.
    ///
    /// # Panics
    /// If row or column are outside of the matrix.
    pub fn at(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.n && col < self.k, "({row}, {col}) is not within {}×{}", self.n, self.k);
        let magnitude = self.lut.entry(self.codes[row * self.k + col]) * self.scales.at(row, col);
        let negative = self
            .signs()
            .is_some_and(|s| s[row * sign_stride(self.k) + col / 8] >> (col % 8) & 1 == 1);
        if negative { -magnitude } else { magnitude }
    }

    /// How scales are laid along k.
    pub(crate) fn groups(&self) -> &GroupIndex {
        &self.groups
    }

    /// Columns that share their scales: the whole of k, or the size of a group.
    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// Some rows, as the kernels of F32 and BF16 take them. With [`GroupIndex::Odd`], and without columns, scales are left at 1.
    pub(crate) fn float(&self, rows: Range<usize>, mode: Mode) -> float::Weights<'_> {
        let (block_rows, _) = self.scales.granularity().block((self.n, self.k));
        let (values, groups) = match &self.groups {
            _ if self.k == 0 => (&[1.0][..], Groups::Whole),
            GroupIndex::Whole => (self.scales.values(), Groups::Whole),
            GroupIndex::Lines(index) => (self.scales.values(), Groups::Lines(index)),
            GroupIndex::Quarters(index) => (self.scales.values(), Groups::Quarters(index)),
            GroupIndex::Odd => (&[1.0][..], Groups::Whole),
        };
        // Kernels read a scale for each row, also where that has no columns.
        let odd = matches!(self.groups, GroupIndex::Odd) || self.k == 0;
        float::Weights {
            codes: self.rows(rows.clone(), 0..self.k),
            table: if mode == Mode::Bf16 { self.lut.bf16() } else { &self.lut }.table(),
            finite: self.lut.is_finite() || self.non_finite == NonFinite::Reject,
            scales: float::Scales {
                values,
                stride: if odd { 1 } else { self.scales.row_len() },
                block_rows: if odd { self.n.max(1) } else { block_rows },
                first_row: rows.start,
                groups,
            },
        }
    }

    /// Some columns of some rows, as integer kernels take them.
    pub(crate) fn int(&self, rows: Range<usize>, cols: Range<usize>) -> int::Weights<'_> {
        int::Weights {
            codes: self.rows(rows, cols),
            table: self.lut.image(),
            group_lines: self.group().div_ceil(LINE),
        }
    }

    fn rows(&self, rows: Range<usize>, cols: Range<usize>) -> Codes<'_> {
        let stride = sign_stride(self.k);
        Codes {
            codes: &self.codes[rows.start * self.k..rows.end * self.k],
            signs: self.signs().map(|s| &s[rows.start * stride..rows.end * stride]),
            k: self.k,
            first: cols.start,
            cols: cols.len(),
        }
    }

    /// Does now what the first product would do: the scan for used codes that are not finite.
    ///
    /// Only tables with such entries (FP8, the caller's own) are scanned, once, in parallel.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the first such weight, unless they are to be propagated.
    pub fn prepare(&self) -> Result<()> {
        if self.non_finite == NonFinite::Propagate || self.lut.is_finite() {
            return Ok(());
        }
        // Never scanned within the cell: a worker that waits for its share of a scan takes up other work of its
        // pool, which may be a product with these weights, and would wait here for itself. Calls at the same
        // time scan twice, and find the same.
        let found = self.scanned.get().copied().unwrap_or_else(|| {
            let found = self.scan();
            *self.scanned.get_or_init(|| found)
        });
        match found {
            None => Ok(()),
            Some((row, col)) => {
                let value = self.lut.entry(self.codes[row * self.k + col]);
                Err(Error::NonFinite { what: self.name.clone(), row, col, value })
            }
        }
    }

    /// The first code in use that stands for NaN or infinity.
    fn scan(&self) -> Option<(usize, usize)> {
        /// Enough for a thread to be worth waking, little enough to stop soon.
        const CHUNK: usize = 1 << 18;
        let bad = self.lut.values().map(|v| !v.is_finite());
        // A whole block without a branch is some ten times as fast as a search that stops at once.
        let first = |(i, chunk): (usize, &[u8])| {
            let used = chunk
                .chunks(4096)
                .position(|b| b.iter().fold(false, |any, c| any | bad[usize::from(*c)]))?;
            let at =
                4096 * used + chunk[4096 * used..].iter().position(|c| bad[usize::from(*c)])?;
            Some(i * CHUNK + at)
        };
        let found = match Threads::current() {
            Threads::One => self.codes.chunks(CHUNK).enumerate().find_map(first),
            #[cfg(feature = "rayon")]
            Threads::Rayon => {
                use rayon::prelude::*;
                self.codes.par_chunks(CHUNK).enumerate().find_map_first(first)
            }
        };
        found.map(|i| (i / self.k, i % self.k))
    }
}
