//! Asking for memory ahead of time.

use std::ops::Range;

use crate::weights::{Codes, LINE};

/// How far ahead of its loads gemv prefetches, in lines of each row.
///
/// Without it cold products of one token are a quarter to a half slower on a Zen 4, and half as fast on a Sapphire
/// Rapids. It must follow the kernel from group to group of rows: looking 2 KiB ahead within a row of 3 KiB asked for
/// lines of the next row, which had long been loaded, and gained nothing. Asking for the rows to come in the order in
/// which they lie did 0.98 of this, in F32 0.9. On an Emerald Rapids 8 lines did 0.85 of 16, 32 did 0.95, 48 did 0.91;
/// the second-level cache as aim, from 32 lines, 0.9 (on a Zen 4, from 32 lines, either was as good).
const DISTANCE: usize = 16;

/// The same for what decodes panels, into the second-level cache: they are multiplied by many tokens meanwhile.
pub(crate) const PANEL_DISTANCE: usize = 32;

/// Asks for the cache line at `offset`, which may lie beyond the slice, in the second-level cache.
/// Does nothing on CPUs for which nobody wrote it.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8], offset: usize) {
    line(bytes.as_ptr().wrapping_add(offset));
}

/// Asks for the line at an address, whatever is there, in the second-level cache.
#[inline(always)]
pub(crate) fn line(address: *const u8) {
    ask::<2>(address);
}

/// The same, in the first-level cache.
#[inline(always)]
pub(crate) fn near(address: *const u8) {
    ask::<1>(address);
}

#[inline(always)]
fn ask<const LEVEL: u8>(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program could see and never faults, whatever the
        // address; SSE is part of every x86-64.
        unsafe {
            match LEVEL {
                1 => _mm_prefetch::<_MM_HINT_T0>(address.cast()),
                _ => _mm_prefetch::<_MM_HINT_T1>(address.cast()),
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch changes nothing that a program could see and never faults, whatever the
    // address. (The intrinsic for it is not stable.)
    unsafe {
        use std::arch::asm;
        match LEVEL {
            1 => {
                asm!("prfm pldl1keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags))
            }
            _ => {
                asm!("prfm pldl2keep, [{0}]", in(reg) address, options(readonly, nostack, preserves_flags))
            }
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// What a gemv of some rows side by side is to ask for, line by line.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<'a> {
    signs: &'a [u8],
    /// Offset of the signs of the next group of rows.
    next_signs: usize,
    codes: &'a [u8],
    /// Offset in `codes` of what is ahead of line 0, before the line `turn` and from then on.
    before: usize,
    after: usize,
    turn: usize,
    /// Distance of rows.
    k: usize,
}

impl<'a> Ahead<'a> {
    /// For lines that are the last ones anyway.
    pub const NOTHING: Self =
        Self { signs: &[], next_signs: 0, codes: &[], before: 0, after: 0, turn: 0, k: 0 };

    /// Of some rows of that many lines: within the rows, and when they have ended in the next group of rows.
    #[inline(always)]
    pub fn of(w: &Codes<'a>, rows: Range<usize>, lines: usize) -> Self {
        let distance = DISTANCE.min(lines);
        let at = |row: usize, line: usize| row * w.k + w.first + line * LINE;
        Self {
            signs: w.row_signs(0),
            next_signs: rows.end * w.k.div_ceil(8),
            codes: w.codes,
            before: at(rows.start, distance),
            after: at(rows.end, distance).wrapping_sub(lines * LINE),
            turn: lines - distance,
            k: w.k,
        }
    }

    /// Signs of the next group of rows: those of eight rows are as many lines as the codes of one.
    #[inline(always)]
    pub fn signs(&self, line: usize) {
        near(self.signs.as_ptr().wrapping_add(self.next_signs + line * LINE));
    }

    /// Where to ask for codes while `line` is multiplied.
    #[inline(always)]
    pub fn offset(&self, line: usize) -> usize {
        let base = if line < self.turn { self.before } else { self.after };
        base.wrapping_add(line * LINE)
    }

    /// Codes of one of the rows, at such an offset.
    #[inline(always)]
    pub fn codes(&self, offset: usize, row: usize) {
        near(self.codes.as_ptr().wrapping_add(offset.wrapping_add(row * self.k)));
    }
}
