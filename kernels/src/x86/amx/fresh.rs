//! Decoding to bf16 while tiles are multiplied: `tdpbf16ps` is another unit's, and has 16 cycles to do where decoding four rows
//! of a line has 28.
//!
//! One block of assembly, as tiles are. Behind each product are four rows of the next line of codes, whose two steps are
//! multiplied by when all 32 are there. (Behind one another, a line's rows and its products overlap half as well.) What
//! decodes a row is `avx512vbmi/bf16.rs` once more, as instructions.

use std::arch::asm;
use std::mem::offset_of;

use super::tiles::Tiles;
use crate::float::bf16::{Fresh, PanelStep, ROWS, TileSums, XStep};
use crate::prefetch::prefetch;
use crate::weights::LINE;

/// Decodes a block of k and multiplies two tiles by it.
pub(super) trait Decode: 'static {
    fn fresh(tiles: &Tiles, fresh: &mut Fresh<'_>, sums: &mut [TileSums]);
}

/// Half a table: the sign is the code's top bit.
pub(super) struct HalfTable;
/// A whole one.
pub(super) struct WholeTable;
/// A whole one, and a plane of signs.
pub(super) struct SignedTable;

/// What the assembly works on.
#[repr(C)]
struct Work {
    /// The first line of the first row.
    codes: *const u8,
    signs: *const u8,
    /// From a row to the next.
    row: usize,
    sign_row: usize,
    /// From behind the last row of a line to the first of the next.
    back: usize,
    sign_back: usize,
    /// From a row of codes to the one that will be wanted in the next call.
    ahead: usize,
    panel: *mut PanelStep,
    x: [*const XStep; 2],
    sums: *mut TileSums,
    lines: usize,
    add: usize,
    /// The top bytes of entries, and the second ones.
    tables: [*const u8; 2],
    /// Eights of codes in the order that unpacking undoes.
    order: *const [u64; 8],
}

static ORDER: [u64; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl Work {
    fn new(fresh: &mut Fresh<'_>, sums: &mut [TileSums]) -> Self {
        let (codes, lines, table) = (&fresh.w.codes, fresh.lines.clone(), fresh.w.table);
        let (row, sign_row) = (codes.k, codes.k.div_ceil(8));
        let (first, sign) = (lines.start * LINE, lines.start * LINE / 8);
        // All that the assembly reads and writes is there: lines of 32 rows, steps of the panel and of two tiles, their sums.
        assert!(codes.codes.len() == ROWS * row && lines.end * LINE <= row && !lines.is_empty());
        assert!(codes.signs.is_none_or(|signs| signs.len() == ROWS * sign_row));
        let steps = 2 * lines.len();
        assert!(fresh.panel.len() == steps && fresh.x.len() >= fresh.tile + steps);
        assert!(fresh.tile >= steps && sums.len() == 2);
        if let Some(signs) = codes.signs {
            // A line of them is a block's.
            for r in 0..ROWS {
                prefetch(signs, (ROWS + r) * sign_row + sign);
            }
        }
        Self {
            codes: codes.codes[first..].as_ptr(),
            signs: codes.signs.map_or(std::ptr::null(), |signs| signs[sign..].as_ptr()),
            row,
            sign_row,
            back: (ROWS * row).wrapping_sub(LINE),
            sign_back: (ROWS * sign_row).wrapping_sub(LINE / 8),
            ahead: ROWS * row,
            panel: fresh.panel.as_mut_ptr(),
            x: [fresh.x.as_ptr(), fresh.x[fresh.tile..].as_ptr()],
            sums: sums.as_mut_ptr(),
            lines: lines.len(),
            // The first block starts them.
            add: usize::from(lines.start > 0),
            tables: [table.planes[3].as_ptr(), table.planes[2].as_ptr()],
            order: &raw const ORDER,
        }
    }
}

/// A row by half a table: tables in zmm16 to zmm19, order in zmm20, 0x80 in zmm21.
macro_rules! half_row {
    () => {
        concat!(
            "vpermq zmm24, zmm20, [{code}]\n",
            "prefetcht1 [{code} + {ahead}]\n",
            "vmovdqa64 zmm25, zmm24\n",
            "vpermi2b zmm25, zmm16, zmm17\n",
            "vmovdqa64 zmm26, zmm24\n",
            "vpermi2b zmm26, zmm18, zmm19\n",
            // a | (b & c)
            "vpternlogd zmm25, zmm24, zmm21, 0xF8\n",
            "vpunpcklbw zmm27, zmm26, zmm25\n",
            "vpunpckhbw zmm28, zmm26, zmm25\n",
            store_row!()
        )
    };
}

/// A row by a whole table: the other halves of tables in zmm22, zmm23, zmm29 and zmm30.
macro_rules! whole_row {
    () => {
        concat!(look_up!(), store_row!())
    };
}

/// The same with signs: 0x8000 in zmm31.
macro_rules! signed_row {
    () => {
        concat!(
            look_up!(),
            "kmovd k2, [{sign}]\n",
            "kmovd k3, [{sign} + 4]\n",
            "vpaddw zmm27{{k2}}, zmm27, zmm31\n",
            "vpaddw zmm28{{k3}}, zmm28, zmm31\n",
            "add {sign}, [{work} + {SIGN_ROW}]\n",
            store_row!()
        )
    };
}

macro_rules! look_up {
    () => {
        concat!(
            "vpermq zmm24, zmm20, [{code}]\n",
            "prefetcht1 [{code} + {ahead}]\n",
            "vpmovb2m k1, zmm24\n",
            "vmovdqa64 zmm25, zmm24\n",
            "vpermi2b zmm25, zmm16, zmm17\n",
            "vmovdqa64 zmm26, zmm24\n",
            "vpermi2b zmm26, zmm22, zmm23\n",
            "vmovdqu8 zmm25{{k1}}, zmm26\n",
            "vmovdqa64 zmm26, zmm24\n",
            "vpermi2b zmm26, zmm18, zmm19\n",
            "vpermi2b zmm24, zmm29, zmm30\n",
            "vmovdqu8 zmm26{{k1}}, zmm24\n",
            "vpunpcklbw zmm27, zmm26, zmm25\n",
            "vpunpckhbw zmm28, zmm26, zmm25\n",
        )
    };
}

macro_rules! store_row {
    () => {
        "vmovdqu64 [{to}], zmm27\n\
         vmovdqu64 [{to} + 2048], zmm28\n\
         add {code}, [{work} + {ROW}]\n\
         add {to}, 64\n"
    };
}

/// Two steps of products, each followed by what is given.
macro_rules! products {
    ($between:expr) => {
        concat!(one_step!($between), one_step!($between))
    };
}

macro_rules! one_step {
    ($between:expr) => {
        concat!(
            "tileloaddt1 tmm6, [{x} + {w}*1]\n",
            "tileloadd tmm4, [{panel} + {w}*1]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            $between,
            "tileloadd tmm5, [{panel} + {w}*1 + 1024]\n",
            "tdpbf16ps tmm1, tmm5, tmm6\n",
            $between,
            "tileloaddt1 tmm7, [{y} + {w}*1]\n",
            "tdpbf16ps tmm2, tmm4, tmm7\n",
            $between,
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            $between,
            "add {panel}, 2048\n",
            "add {x}, 1024\n",
            "add {y}, 1024\n"
        )
    };
}

macro_rules! decode {
    ($table:ident, $row:ident, $signs:literal) => {
        impl Decode for $table {
            fn fresh(_: &Tiles, fresh: &mut Fresh<'_>, sums: &mut [TileSums]) {
                let work = Work::new(fresh, sums);
                // SAFETY: a `Tiles` proves that tiles may be used and are configured, and its token what vectors are used
                // here; `Work::new` has seen that all memory is there, and this decoder's entry that there are signs. What
                // is not needed in each row is read from `work`, as a build with frame pointers has few registers.
                unsafe {
                    asm!(
                        "mov {y}, [{work} + {ORDER}]",
                        "vmovdqu64 zmm20, [{y}]",
                        "mov {y}, [{work} + {TABLES}]",
                        "vmovdqu64 zmm16, [{y}]",
                        "vmovdqu64 zmm17, [{y} + 64]",
                        "vmovdqu64 zmm22, [{y} + 128]",
                        "vmovdqu64 zmm23, [{y} + 192]",
                        "mov {y}, [{work} + {TABLES} + 8]",
                        "vmovdqu64 zmm18, [{y}]",
                        "vmovdqu64 zmm19, [{y} + 64]",
                        "vmovdqu64 zmm29, [{y} + 128]",
                        "vmovdqu64 zmm30, [{y} + 192]",
                        "mov {y:e}, 0x80808080",
                        "vpbroadcastd zmm21, {y:e}",
                        "mov {y:e}, 0x80008000",
                        "vpbroadcastd zmm31, {y:e}",
                        "cmp qword ptr [{work} + {ADD}], 0",
                        "jne 2f",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "jmp 3f",
                        "2:",
                        "mov {y}, [{work} + {SUMS}]",
                        "tileloadd tmm0, [{y} + {w}*1]",
                        "tileloadd tmm1, [{y} + {w}*1 + 1024]",
                        "tileloadd tmm2, [{y} + {w}*1 + 2048]",
                        "tileloadd tmm3, [{y} + {w}*1 + 3072]",
                        "3:",
                        // The first line.
                        "mov {to}, {panel}",
                        "mov {y:e}, 32",
                        ".p2align 4",
                        "4:",
                        $row!(),
                        "dec {y:e}",
                        "jnz 4b",
                        "mov {y}, [{work} + {X} + 8]",
                        // A line's products, and the next line.
                        "5:",
                        "sub {code}, [{work} + {BACK}]",
                        $signs,
                        "add {to}, 2048",
                        "dec {n}",
                        "jz 6f",
                        products!(concat!($row!(), $row!(), $row!(), $row!())),
                        "jmp 5b",
                        // The last line's.
                        "6:",
                        products!(""),
                        "mov {y}, [{work} + {SUMS}]",
                        "tilestored [{y} + {w}*1], tmm0",
                        "tilestored [{y} + {w}*1 + 1024], tmm1",
                        "tilestored [{y} + {w}*1 + 2048], tmm2",
                        "tilestored [{y} + {w}*1 + 3072], tmm3",
                        work = in(reg) &work,
                        w = in(reg) 64usize,
                        code = inout(reg) work.codes => _,
                        sign = inout(reg) work.signs => _,
                        ahead = in(reg) work.ahead,
                        panel = inout(reg) work.panel => _,
                        to = out(reg) _,
                        x = inout(reg) work.x[0] => _,
                        y = out(reg) _,
                        n = inout(reg) work.lines => _,
                        ROW = const offset_of!(Work, row),
                        SIGN_ROW = const offset_of!(Work, sign_row),
                        BACK = const offset_of!(Work, back),
                        SIGN_BACK = const offset_of!(Work, sign_back),
                        ORDER = const offset_of!(Work, order),
                        TABLES = const offset_of!(Work, tables),
                        ADD = const offset_of!(Work, add),
                        SUMS = const offset_of!(Work, sums),
                        X = const offset_of!(Work, x),
                        out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
                        out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                        out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
                        out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
                        out("k1") _, out("k2") _, out("k3") _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

decode!(HalfTable, half_row, "# no signs: {sign} {SIGN_ROW} {SIGN_BACK}");
decode!(WholeTable, whole_row, "# no signs: {sign} {SIGN_ROW} {SIGN_BACK}");
decode!(SignedTable, signed_row, "sub {sign}, [{work} + {SIGN_BACK}]");
