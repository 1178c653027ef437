//! How lines of codes become planes of signed bytes.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::offset_of;

use super::Amx;
use crate::int::Weights;
use crate::int::tiles::ROWS;
use crate::isa::{Isa, Task, with_features};
use crate::prefetch::{line, prefetch};
use crate::quantised::EntrySign;
use crate::table::ClosedForm;
use crate::weights::{Codes, LINE, Tail};

/// A line of each row of a call: codes and signs of the first row, and how far on the next one's are.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    codes: *const u8,
    pitch: usize,
    signs: *const u8,
    signs_pitch: usize,
}

/// The lines of a call's rows.
pub(super) struct Source<'a> {
    codes: &'a Codes<'a>,
    rows: usize,
    full: usize,
    /// The partial line behind them.
    tails: [Tail; ROWS],
}

impl<'a> Source<'a> {
    #[inline(always)]
    pub fn of(codes: &'a Codes<'a>) -> Self {
        let (rows, full) = (codes.rows(), codes.full_lines());
        let mut tails = [Tail::EMPTY; ROWS];
        if full < codes.lines() {
            for (r, tail) in tails.iter_mut().enumerate().take(rows) {
                *tail = codes.tail(r, 0);
            }
        }
        Self { codes, rows, full, tails }
    }

    /// A line of all rows. What [`decode`] reads of it is there as long as this is.
    #[inline(always)]
    fn lines(&self, line: usize) -> Lines {
        /// Signs of weights that have no plane of them.
        static NONE: [u8; 8] = [0; 8];
        let Codes { codes, signs, k, first, .. } = *self.codes;
        if line >= self.full {
            assert!(line == self.full);
            let (tails, pitch) = (self.tails.as_ptr().cast::<u8>(), size_of::<Tail>());
            let codes = tails.wrapping_add(offset_of!(Tail, codes));
            let signs = tails.wrapping_add(offset_of!(Tail, signs));
            return Lines { codes, pitch, signs, signs_pitch: pitch };
        }
        // The last row's whole line is there: it is one of the full ones.
        let (start, signs_start) = (first + line * LINE, (first + line * LINE) / 8);
        let (signs_pitch, last) = (k.div_ceil(8), self.rows - 1);
        assert!(last * k + start + LINE <= codes.len() && last < ROWS);
        let codes = codes[start..].as_ptr();
        match signs {
            Some(signs) => {
                assert!(last * signs_pitch + signs_start + 8 <= signs.len());
                let signs = signs[signs_start..].as_ptr();
                Lines { codes, pitch: k, signs, signs_pitch }
            }
            None => Lines { codes, pitch: k, signs: NONE.as_ptr(), signs_pitch: 0 },
        }
    }
}

/// Decodes a line of all rows to where in a panel each plane's 32 rows begin. It asks for as many
/// signs of the next call's rows, and with `ahead` codes.
pub(super) type Decode =
    fn(Amx, &Weights<'_>, &Source<'_>, (usize, bool), &mut [[i8; 64]], [usize; 3]);

/// The decoder of these weights.
pub(super) fn decoder(w: &Weights<'_>) -> Decode {
    let planes = w.table.signed.count();
    match (w.closed_form(), planes) {
        (Some(ClosedForm::Signed { .. }), _) => decode::<Bytes, 1>,
        (Some(_), _) => decode::<Halves, 2>,
        // Half a table will do where the sign is the code's top bit.
        (None, count) if w.table.seven_bits && w.table.sign == EntrySign::TopBit && !w.signed() => {
            match count {
                1 => decode::<Half<1>, 1>,
                2 => decode::<Half<2>, 2>,
                _ => decode::<Half<3>, 3>,
            }
        }
        (None, 1) => decode::<Whole<1>, 1>,
        (None, 2) => decode::<Whole<2>, 2>,
        (None, _) => decode::<Whole<3>, 3>,
    }
}

fn decode<D: Decoder<P>, const P: usize>(
    isa: Amx,
    w: &Weights<'_>,
    source: &Source<'_>,
    (line, ahead): (usize, bool),
    panel: &mut [[i8; 64]],
    at: [usize; 3],
) {
    let (from, rows) = (source.lines(line), source.rows);
    let mut to = [std::ptr::null_mut(); P];
    for p in 0..P {
        to[p] = panel[at[p]..][..ROWS].as_mut_ptr();
    }
    // In the order in which they lie there, not row by row. A line of signs is for eight of codes.
    let mut next = w.codes.codes.as_ptr_range().end;
    if ahead {
        next = next.wrapping_add(line * ROWS * LINE);
    }
    if let Some(signs) = w.codes.signs {
        for i in 0..ROWS / 8 {
            prefetch(signs, signs.len() + (line * ROWS / 8 + i) * LINE);
        }
    }
    // What is asked for over and over costs nothing.
    let next_pitch = if ahead { LINE } else { 0 };
    isa.run(DecodeLines::<D, P> { w, from, rows, next, next_pitch, to, decoder: PhantomData });
}

struct DecodeLines<'a, D, const P: usize> {
    w: &'a Weights<'a>,
    from: Lines,
    rows: usize,
    next: *const u8,
    next_pitch: usize,
    to: [*mut [i8; 64]; P],
    decoder: PhantomData<D>,
}

/// Lines first, rows second: so what is written is whole KiB, and not lines 2 KiB apart, which share two sets of L1.
impl<D: Decoder<P>, const P: usize> Task<Amx> for DecodeLines<'_, D, P> {
    #[inline(always)]
    fn run(self, isa: Amx) {
        let Self { w, mut from, rows, mut next, next_pitch, to, .. } = self;
        let regs = D::load(isa, w);
        // What is not there of a panel may be anything: its sums are not stored.
        for r in 0..rows {
            // SAFETY: `Source::lines`, which made `from`, says that its rows have a line there, and signs.
            let (codes, signs) = unsafe {
                (from.codes.cast::<[u8; LINE]>().read(), from.signs.cast::<[u8; 8]>().read())
            };
            line(next);
            let decoded = D::decode(isa, &regs, &codes, u64::from_le_bytes(signs));
            for p in 0..P {
                // SAFETY: `decode` found 32 rows of each plane; `rows` is no more.
                unsafe { to[p].add(r).write(bytemuck::cast(decoded[p])) };
            }
            from.codes = from.codes.wrapping_add(from.pitch);
            from.signs = from.signs.wrapping_add(from.signs_pitch);
            next = next.wrapping_add(next_pitch);
        }
    }
}

/// How a line of codes becomes P planes.
trait Decoder<const P: usize> {
    type Regs;
    fn load(isa: Amx, w: &Weights<'_>) -> Self::Regs;
    fn decode(isa: Amx, regs: &Self::Regs, codes: &[u8; LINE], signs: u64) -> [__m512i; P];
}

/// int8 that has to be xored, or is not whole tiles.
struct Bytes;

impl Decoder<1> for Bytes {
    type Regs = __m512i;

    fn load(_: Amx, w: &Weights<'_>) -> __m512i {
        let flip = match w.closed_form() {
            Some(ClosedForm::Signed { flip }) => flip,
            _ => 0,
        };
        bytemuck::cast([flip; LINE])
    }

    with_features! { "avx512f";
        fn decode(_isa: Amx, flip: &__m512i, codes: &[u8; LINE], _signs: u64) -> [__m512i; 1] {
            [_mm512_xor_si512(bytemuck::cast(*codes), *flip)]
        }
    }
}

/// QINS: `v = ⌊v/2⌋ + ⌈v/2⌉`, both negated where there is a sign.
struct Halves;

impl Decoder<2> for Halves {
    type Regs = ();

    fn load(_: Amx, _: &Weights<'_>) {}

    with_features! { "avx512f,avx512bw";
        fn decode(_isa: Amx, _regs: &(), codes: &[u8; LINE], signs: u64) -> [__m512i; 2] {
            let less = _mm512_subs_epu8(bytemuck::cast(*codes), _mm512_set1_epi8(1));
            let low = _mm512_and_si512(_mm512_srli_epi16::<1>(less), _mm512_set1_epi8(0x7F));
            let high = _mm512_sub_epi8(less, low);
            [negate(low, signs), negate(high, signs)]
        }
    }
}

/// Lookups in half a table.
struct Half<const P: usize>;

impl<const P: usize> Decoder<P> for Half<P> {
    type Regs = [[__m512i; 2]; P];

    fn load(_: Amx, w: &Weights<'_>) -> Self::Regs {
        let mut regs = [bytemuck::cast([[0u8; 64]; 2]); P];
        for (regs, table) in regs.iter_mut().zip(&w.table.signed.tables) {
            let [low, _]: [[i8; 128]; 2] = bytemuck::cast(*table);
            *regs = bytemuck::cast(low);
        }
        regs
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode[P](
            _isa: Amx,
            tables: &[[__m512i; 2]; P],
            codes: &[u8; LINE],
            _signs: u64,
        ) -> [__m512i; P] {
            let codes: __m512i = bytemuck::cast(*codes);
            let negative = _mm512_movepi8_mask(codes);
            let mut planes = [codes; P];
            for p in 0..P {
                let bytes = _mm512_permutex2var_epi8(tables[p][0], codes, tables[p][1]);
                planes[p] = negate(bytes, negative);
            }
            planes
        }
    }
}

/// Lookups in a whole one.
struct Whole<const P: usize>;

impl<const P: usize> Decoder<P> for Whole<P> {
    type Regs = [[__m512i; 4]; P];

    fn load(_: Amx, w: &Weights<'_>) -> Self::Regs {
        let mut regs = [bytemuck::cast([[0u8; 64]; 4]); P];
        for (regs, table) in regs.iter_mut().zip(&w.table.signed.tables) {
            *regs = bytemuck::cast(*table);
        }
        regs
    }

    with_features! { "avx512f,avx512bw,avx512vbmi";
        fn decode[P](
            _isa: Amx,
            tables: &[[__m512i; 4]; P],
            codes: &[u8; LINE],
            signs: u64,
        ) -> [__m512i; P] {
            let codes: __m512i = bytemuck::cast(*codes);
            let upper = _mm512_movepi8_mask(codes);
            let mut planes = [codes; P];
            for p in 0..P {
                let low = _mm512_permutex2var_epi8(tables[p][0], codes, tables[p][1]);
                let high = _mm512_permutex2var_epi8(tables[p][2], codes, tables[p][3]);
                planes[p] = negate(_mm512_mask_blend_epi8(upper, low, high), signs);
            }
            planes
        }
    }
}

/// Negates the bytes of a mask.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn negate(bytes: __m512i, signs: u64) -> __m512i {
    _mm512_mask_sub_epi8(bytes, signs, _mm512_setzero_si512(), bytes)
}
