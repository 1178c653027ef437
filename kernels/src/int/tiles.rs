//! gemm by matrix tiles: weights and digits of activations are both signed bytes (i8 · i8).
//!
//! A kernel call takes up to [`ROWS`] rows, all their columns, and a block of tokens, and gives rounded sums. What the
//! weights of a table become is in its [`SignedPlanes`](crate::SignedPlanes).

use super::Weights;
use crate::isa::Feature;

/// Rows of a call.
pub const ROWS: usize = 32;

/// Columns of a step.
pub const STEP: usize = 64;

/// Tokens of an x tile.
pub const TOKENS: usize = 16;

/// Bytes of a tile.
pub const TILE: usize = STEP * TOKENS;

/// Columns whose sums i32 holds: 65,536 · 254 · 127 < 2³¹.
pub const MOST_COLUMNS: usize = 1 << 16;

/// Columns of a block of k (`kc`): three planes of 32 rows are 48 KiB, an L1.
pub const KC: usize = 512;

/// Columns of a block of codes that are read where they lie: fewer sums go to memory (8 % with 512).
pub const KC_DIRECT: usize = 1024;

/// Activations: a block of tokens in all columns.
#[derive(Clone, Copy, Debug)]
pub struct TilesX<'a> {
    /// `[pair of tiles][step][2 tiles][16 × 4 columns][16 tokens][4]`, an odd last tile alone; tiles are
    /// `[16 tokens][digit]`, the most significant first. Zero beyond columns and tokens.
    pub x: &'a [i8],
    /// Digits of an activation.
    pub digits: usize,
    /// sx of each token, padded to 16.
    pub token_scales: &'a [f64],
}

impl TilesX<'_> {
    /// Number of x tiles.
    pub fn tiles(&self) -> usize {
        self.token_scales.len() / TOKENS * self.digits
    }
}

/// What a call does with its sums: `to[token · stride + row] = f32(Σ_g (S_g · sx) · scale_g + bias)`.
#[derive(Debug)]
pub struct TilesOut<'a> {
    /// Columns of a group, a multiple of [`STEP`], or all.
    pub group: usize,
    /// The table's step times the scale of each row and group, `[ROWS][groups]`.
    pub scales: &'a [f64],
    /// Of each row; −0 changes nothing.
    pub bias: &'a [f64; ROWS],
    /// [`ROWS`] floats for each token, padded to 16.
    pub to: &'a mut [f32],
    /// From a token to the next.
    pub stride: usize,
}

/// Memory of a call.
#[derive(Debug)]
pub struct TilesScratch<'a> {
    /// Decoded weights: [`panel_len`].
    pub panel: &'a mut [[i8; 64]],
    /// Sums in i32: [`sums_len`].
    pub sums: &'a mut [[i32; 16]],
    /// Scaled sums, [`ROWS`] for each token; none where there is one group.
    pub totals: &'a mut [f64],
}

/// Lines of a panel of so many planes.
pub fn panel_len(planes: usize) -> usize {
    planes * ROWS * KC / 64
}

/// Rows of 16 sums for tables of so many sums, and so many x tiles.
pub fn sums_len(sums: usize, tiles: usize) -> usize {
    sums * tiles * ROWS
}

/// The tiles of a kernel. What has to be run is unsafe: its caller vouches for the features and the permission.
pub(crate) struct TilesEntry {
    pub features: &'static [Feature],
    /// Why the system does not let this process use them.
    pub refusal: fn() -> Option<&'static str>,
    pub run: unsafe fn(&Weights<'_>, &TilesX<'_>, &mut TilesOut<'_>, &mut TilesScratch<'_>),
}
