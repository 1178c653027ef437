//! The tile loop: `C[x tile][row tile] (+)= Σ_k A · X`, bytes by bytes into i32, as one block of assembly. (Intrinsics for
//! tiles are unstable in Rust 1.95, and tiles can only be clobbers of `asm!`.)
//!
//! Two row tiles by two x tiles, four sums: each tile that is loaded is used twice. Bound by the loads from L2: it does
//! 0.7 of pure `tdpbssd` there, 0.88 in L1.

use std::arch::asm;
use std::marker::PhantomData;
use std::mem::offset_of;

use super::Amx;
use crate::int::tiles::ROWS;

/// Bytes of a tile.
pub(super) const TILE: usize = 1024;

#[repr(C, align(64))]
struct Palette([u8; 64]);

/// Palette 1, 8 tiles of 16 rows of 64 bytes.
static PALETTE: Palette = {
    let mut palette = [0; 64];
    palette[0] = 1;
    let mut i = 0;
    while i < 8 {
        palette[16 + 2 * i] = 64;
        palette[48 + i] = 16;
        i += 1;
    }
    Palette(palette)
};

/// Tiles that are configured for this loop until this is dropped; a thread's own. Made and dropped within each call of a
/// kernel, so that nothing of another runtime's is relied on, and nothing is left: `ldtilecfg` takes some 270 cycles and
/// waits for all before it, a call some 10,000 and more.
pub(in super::super) struct Tiles(PhantomData<*mut ()>);

impl Tiles {
    pub fn configure(_: Amx) -> Self {
        // SAFETY: the token proves that tiles may be used.
        unsafe { Self::assume() }
    }

    /// The same without a token.
    ///
    /// # Safety
    /// The CPU has tiles, and the system permits them.
    pub unsafe fn assume() -> Self {
        // SAFETY: the caller's promise. The block reads memory, so it is not `nomem`.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const PALETTE, options(nostack, preserves_flags));
        }
        Self(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` was made, so tiles may be used. (Not released, the system would save 8 KiB at each switch.)
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
    }
}

/// Two tiles of rows, of each step of 64 columns.
#[repr(C)]
pub(super) struct Rows {
    /// Of each plane of each step two tiles of 16 rows of 64 bytes.
    pub a: *const i8,
    /// From a row to the next.
    pub row: usize,
    /// From the first row tile to the second.
    pub tile: usize,
    /// From a plane to the next, and from the last of a step to the first of the next.
    pub step: usize,
    /// Planes that are summed together.
    pub planes: usize,
}

/// What the loop works on.
#[repr(C)]
pub(super) struct Work {
    /// Weights.
    pub rows: Rows,
    /// Steps of 64 columns.
    pub steps: usize,
    /// x, `[pair of tiles][step][2 tiles][16 × 4 columns][16 tokens][4]`.
    pub x: *const i8,
    /// From the end of a pair's steps to the next pair.
    pub x_skip: usize,
    /// The last tile's, `[step][16 × 4 columns][16 tokens][4]`, if they are an odd number.
    pub x_odd: *const i8,
    /// x tiles.
    pub tiles: usize,
    /// Sums, `[x tile][2 row tiles][16 rows][16 tokens]`.
    pub c: *mut i32,
    /// Whether to add to them rather than to start them.
    pub add: usize,
    /// Codes that will be wanted soon: four lines are asked for at each step, and so many bytes gone on.
    pub ahead: *const u8,
    pub ahead_step: usize,
}

impl Work {
    /// Asks for as many codes as are multiplied here, if there are enough pairs of x tiles, from an address on.
    pub fn ask_ahead(&mut self, from: *const u8) {
        self.ahead = from;
        self.ahead_step = (2 * TILE / self.tiles.div_ceil(2)).next_multiple_of(64).min(4 * 64);
    }
}

/// Runs the loop.
///
/// `tileloaddt1` for x keeps the weights in L1 (19 % with int8); other orders of loads, pipelining by hand and other
/// distances of prefetches made less than 3 %.
///
/// # Safety
/// What `work` points to is there: A and x as many bytes as planes, steps and tiles are, C 2 KiB for each x tile.
pub(super) unsafe fn accumulate(_: &Tiles, work: &Work) {
    // SAFETY: a `Tiles` proves that tiles may be used and are configured; the caller answers for the memory; prefetches
    // don't fault. What the inner loop does not need is read from `work`, as a build with frame pointers has few registers.
    unsafe {
        asm!(
            "mov {pairs}, [{work} + {TILES}]",
            "shr {pairs}, 1",
            "jz 5f",
            // Pairs of x tiles.
            "2:",
            "cmp qword ptr [{work} + {ADD}], 0",
            "jne 21f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 22f",
            "21:",
            "tileloaddt1 tmm0, [{c} + {w}*1]",
            "tileloaddt1 tmm1, [{c} + {w}*1 + 1024]",
            "tileloaddt1 tmm2, [{c} + {w}*1 + 2048]",
            "tileloaddt1 tmm3, [{c} + {w}*1 + 3072]",
            "22:",
            "mov {a}, [{work} + {A}]",
            "mov {a2}, [{work} + {A_TILE}]",
            "add {a2}, {a}",
            "mov {n}, [{work} + {STEPS}]",
            ".p2align 4",
            "3:",
            "tileloaddt1 tmm6, [{x} + {w}*1]",
            "tileloaddt1 tmm7, [{x} + {w}*1 + 1024]",
            "prefetcht1 [{p}]",
            "prefetcht1 [{p} + 64]",
            "prefetcht1 [{p} + 128]",
            "prefetcht1 [{p} + 192]",
            "mov {q}, [{work} + {PLANES}]",
            "4:",
            "tileloadd tmm4, [{a} + {s}*1]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tdpbssd tmm2, tmm4, tmm7",
            "tileloadd tmm5, [{a2} + {s}*1]",
            "tdpbssd tmm1, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {a}, [{work} + {A_STEP}]",
            "add {a2}, [{work} + {A_STEP}]",
            "dec {q}",
            "jnz 4b",
            "add {x}, 2048",
            "add {p}, [{work} + {AHEAD_STEP}]",
            "dec {n}",
            "jnz 3b",
            "tilestored [{c} + {w}*1], tmm0",
            "tilestored [{c} + {w}*1 + 1024], tmm1",
            "tilestored [{c} + {w}*1 + 2048], tmm2",
            "tilestored [{c} + {w}*1 + 3072], tmm3",
            "add {x}, [{work} + {X_SKIP}]",
            "add {c}, 4096",
            "dec {pairs}",
            "jnz 2b",
            // The last one of an odd number.
            "5:",
            "test byte ptr [{work} + {TILES}], 1",
            "jz 9f",
            "mov {x}, [{work} + {X_ODD}]",
            "cmp qword ptr [{work} + {ADD}], 0",
            "jne 51f",
            "tilezero tmm0",
            "tilezero tmm1",
            "jmp 52f",
            "51:",
            "tileloaddt1 tmm0, [{c} + {w}*1]",
            "tileloaddt1 tmm1, [{c} + {w}*1 + 1024]",
            "52:",
            "mov {a}, [{work} + {A}]",
            "mov {a2}, [{work} + {A_TILE}]",
            "add {a2}, {a}",
            "mov {n}, [{work} + {STEPS}]",
            "6:",
            "tileloaddt1 tmm6, [{x} + {w}*1]",
            "prefetcht1 [{p}]",
            "prefetcht1 [{p} + 64]",
            "prefetcht1 [{p} + 128]",
            "prefetcht1 [{p} + 192]",
            "mov {q}, [{work} + {PLANES}]",
            "7:",
            "tileloadd tmm4, [{a} + {s}*1]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a2} + {s}*1]",
            "tdpbssd tmm1, tmm5, tmm6",
            "add {a}, [{work} + {A_STEP}]",
            "add {a2}, [{work} + {A_STEP}]",
            "dec {q}",
            "jnz 7b",
            "add {x}, 1024",
            "add {p}, [{work} + {AHEAD_STEP}]",
            "dec {n}",
            "jnz 6b",
            "tilestored [{c} + {w}*1], tmm0",
            "tilestored [{c} + {w}*1 + 1024], tmm1",
            "9:",
            work = in(reg) work,
            s = in(reg) work.rows.row,
            a = out(reg) _,
            a2 = out(reg) _,
            x = inout(reg) work.x => _,
            c = inout(reg) work.c => _,
            w = in(reg) 64usize,
            n = out(reg) _,
            q = out(reg) _,
            pairs = out(reg) _,
            p = inout(reg) work.ahead => _,
            A = const offset_of!(Work, rows.a),
            A_TILE = const offset_of!(Work, rows.tile),
            A_STEP = const offset_of!(Work, rows.step),
            PLANES = const offset_of!(Work, rows.planes),
            STEPS = const offset_of!(Work, steps),
            X_ODD = const offset_of!(Work, x_odd),
            X_SKIP = const offset_of!(Work, x_skip),
            TILES = const offset_of!(Work, tiles),
            ADD = const offset_of!(Work, add),
            AHEAD_STEP = const offset_of!(Work, ahead_step),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The loop in pieces, for one that does something else in between. What a tile holds stays from piece to piece, as its
/// configuration does: the compiler makes no instruction for tiles, so nothing but this module changes them.
///
/// With a pair of x tiles, tmm0…3 are their sums, 4 and 5 weights, 6 and 7 x; with one, 0…5 are up to three sums of it, 6
/// weights, 7 x. A slot is two tiles of sums, those of 32 rows.
impl Tiles {
    /// Starts the sums of a slot, from zero or from what is there.
    #[inline(always)]
    pub fn start(&self, slot: usize, sums: &[[i32; 16]], add: bool) {
        match slot {
            0 => self.start_tiles::<0, 1>(sums, add),
            1 => self.start_tiles::<2, 3>(sums, add),
            _ => self.start_tiles::<4, 5>(sums, add),
        }
    }

    /// Stores them.
    #[inline(always)]
    pub fn end(&self, slot: usize, sums: &mut [[i32; 16]]) {
        match slot {
            0 => self.end_tiles::<0, 1>(sums),
            1 => self.end_tiles::<2, 3>(sums),
            _ => self.end_tiles::<4, 5>(sums),
        }
    }

    /// Adds the products of a step's planes and a pair of x tiles.
    #[inline(always)]
    pub fn multiply_pair(&self, planes: &[[i8; 64]], x: &[i8]) {
        let x: &[i8; 2 * TILE] = x.first_chunk().expect("two tiles");
        // SAFETY: a `Tiles` proves that tiles may be used and are configured; what is read are two whole tiles, as the line
        // above says, and as each plane is.
        unsafe {
            asm!(
                "tileloaddt1 tmm6, [{x} + {w}*1]",
                "tileloaddt1 tmm7, [{x} + {w}*1 + 1024]",
                x = in(reg) x, w = in(reg) 64usize, options(nostack, readonly, preserves_flags),
            );
            for plane in planes.as_chunks::<ROWS>().0 {
                asm!(
                    "tileloadd tmm4, [{a} + {w}*1]",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tdpbssd tmm2, tmm4, tmm7",
                    "tileloadd tmm5, [{a} + {w}*1 + 1024]",
                    "tdpbssd tmm1, tmm5, tmm6",
                    "tdpbssd tmm3, tmm5, tmm7",
                    a = in(reg) plane, w = in(reg) 64usize,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
    }

    /// Loads a step of a single x tile.
    #[inline(always)]
    pub fn load_x(&self, x: &[i8]) {
        let x: &[i8; TILE] = x.first_chunk().expect("a tile");
        // SAFETY: as in `multiply_pair`.
        unsafe {
            asm!("tileloadd tmm7, [{x} + {w}*1]", x = in(reg) x, w = in(reg) 64usize,
                options(nostack, readonly, preserves_flags));
        }
    }

    /// Adds the products of a step's planes and the x tile that was loaded to the sums of a slot.
    #[inline(always)]
    pub fn multiply(&self, slot: usize, planes: &[[i8; 64]]) {
        for plane in planes.as_chunks::<ROWS>().0 {
            match slot {
                0 => self.multiply_tiles::<0, 1>(plane),
                1 => self.multiply_tiles::<2, 3>(plane),
                _ => self.multiply_tiles::<4, 5>(plane),
            }
        }
    }

    #[inline(always)]
    fn start_tiles<const C: u8, const D: u8>(&self, sums: &[[i32; 16]], add: bool) {
        let sums: &[[i32; 16]; ROWS] = sums.first_chunk().expect("sums of 32 rows");
        // SAFETY: as in `multiply_pair`.
        unsafe {
            match add {
                true => asm!(
                    "tileloadd tmm{C}, [{c} + {w}*1]",
                    "tileloadd tmm{D}, [{c} + {w}*1 + 1024]",
                    C = const C, D = const D, c = in(reg) sums, w = in(reg) 64usize,
                    options(nostack, readonly, preserves_flags),
                ),
                false => asm!(
                    "tilezero tmm{C}",
                    "tilezero tmm{D}",
                    C = const C, D = const D, options(nostack, nomem, preserves_flags),
                ),
            }
        }
    }

    #[inline(always)]
    fn end_tiles<const C: u8, const D: u8>(&self, sums: &mut [[i32; 16]]) {
        let sums: &mut [[i32; 16]; ROWS] = sums.first_chunk_mut().expect("sums of 32 rows");
        // SAFETY: as in `multiply_pair`; what is written are the two tiles of the line above.
        unsafe {
            asm!(
                "tilestored [{c} + {w}*1], tmm{C}",
                "tilestored [{c} + {w}*1 + 1024], tmm{D}",
                C = const C, D = const D, c = in(reg) sums, w = in(reg) 64usize,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    fn multiply_tiles<const C: u8, const D: u8>(&self, plane: &[[i8; 64]; ROWS]) {
        // SAFETY: as in `multiply_pair`.
        unsafe {
            asm!(
                "tileloadd tmm6, [{a} + {w}*1]",
                "tdpbssd tmm{C}, tmm6, tmm7",
                "tileloadd tmm6, [{a} + {w}*1 + 1024]",
                "tdpbssd tmm{D}, tmm6, tmm7",
                C = const C, D = const D, a = in(reg) plane, w = in(reg) 64usize,
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}
