//! Codes on uniform grids, and sign planes: the loops that run at a billion weights a second.
//!
//! A code is the real number `|w|·top/max` rounded half to even, and f64 is enough to get it exactly
//! right. With W, M the 24-bit significands of w and max, that number is a tie only if
//! `2·top·W − (2j+1)·M·2^e = 0`; if not, it is at least `1/(2·M·2^e) > 2⁻³⁵` away from every tie that
//! rounding could confuse it with. Multiplying by the rounded `top/max` errs by less than 2⁻⁴³.
//! So adding and subtracting [`SNAP`], which rounds to multiples of 2⁻³⁹, puts ties where they belong and
//! makes no new ones. It is two additions instead of a division.

/// The sum of it and a number below 2¹³ is a multiple of 2⁻³⁹ (of 2⁻⁴⁰ if that number is negative).
const SNAP: f64 = 8192.0;

/// Adding it rounds half to even to an integer, in the low bits (two's complement).
const ROUND: f64 = 1.5 * (1u64 << 52) as f64;

/// QINS linear: `round_half_even(|w|·inverse + 1)`; `inverse` is `254/max`, or 0.
#[inline(always)]
pub(super) fn magnitude_codes(w: &[f32], inverse: f64, codes: &mut [u8]) {
    for (code, w) in codes.iter_mut().zip(w) {
        let v = (f64::from(w.abs()) * inverse + SNAP) - SNAP;
        *code = ((v + 1.0) + ROUND).to_bits() as u8;
    }
}

/// int8: `round_half_even(w·inverse)`; `inverse` is `127/max`, or 0.
#[inline(always)]
pub(super) fn signed_codes(w: &[f32], inverse: f64, codes: &mut [u8]) {
    for (code, w) in codes.iter_mut().zip(w) {
        let v = (f64::from(*w) * inverse + SNAP) - SNAP;
        *code = (v + ROUND).to_bits() as u8;
    }
}

/// A row of a sign plane: a bit for every weight, set where it is below 0, least significant first.
/// Bits beyond the row are 0.
#[inline(always)]
pub(super) fn pack_signs(w: &[f32], signs: &mut [u8]) {
    let (w, w_rest) = w.as_chunks::<64>();
    let (signs, signs_rest) = signs.split_at_mut(8 * w.len());
    for (w, signs) in w.iter().zip(signs.as_chunks_mut::<8>().0) {
        *signs = sign_bits(w);
    }
    let mut padded = [0.0; 64];
    padded[..w_rest.len()].copy_from_slice(w_rest);
    signs_rest.copy_from_slice(&sign_bits(&padded)[..signs_rest.len()]);
}

/// The sign bits of a line of weights. In two steps, because LLVM vectorises the comparison but has
/// no idiom for its mask.
#[inline(always)]
fn sign_bits(w: &[f32; 64]) -> [u8; 8] {
    let mut negative = [0u8; 64];
    for (negative, w) in negative.iter_mut().zip(w) {
        *negative = u8::from(*w < 0.0);
    }
    let mut signs = [0; 8];
    for (sign, eight) in signs.iter_mut().zip(negative.as_chunks::<8>().0) {
        // Byte i, times 2^(56−7i), is bit 56 + i.
        *sign = (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `round_half_even(a/b)` of nonnegative integers.
    fn round_half_even(a: u128, b: u128) -> u128 {
        let (quotient, rest) = (a / b, a % b);
        let up = 2 * rest > b || (2 * rest == b && quotient % 2 == 1);
        quotient + u128::from(up)
    }

    /// w and max as integers times one power of two, if w/max is at least 2⁻⁴⁰.
    fn ratio(w: f32, max: f32) -> Option<(u128, u128)> {
        let split = |x: f32| {
            let exponent = (x.to_bits() >> 23).max(1);
            let hidden = u32::from(x.to_bits() >> 23 > 0) << 23;
            (u128::from(x.to_bits() & 0x7F_FFFF | hidden), exponent)
        };
        let ((w, we), (m, me)) = (split(w.abs()), split(max));
        (me - we <= 40).then(|| (w, m << (me - we)))
    }

    #[test]
    fn codes_are_those_of_integer_arithmetic() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 32) as u32
        };
        let mut ties = 0;
        for round in 0..20_000 {
            // Many maxima with few bits, so that ties abound.
            let max = match round % 3 {
                0 => f32::from_bits((random() % 0x7F00_0000).max(0x0080_0000) & 0xFFF8_0000),
                1 => (random() % 1000 + 1) as f32,
                _ => f32::from_bits((random() % 0x7F00_0000).max(0x0080_0000)),
            };
            let mut w: Vec<f32> = (0..32).map(|_| (random() as f32 / 4294967296.0) * max).collect();
            // Exact ties, and their neighbours.
            for j in 0..16 {
                let tie = ((f64::from(max) / 508.0) * f64::from(2 * (random() % 254) + 1)) as f32;
                w.extend([tie.min(max), tie.next_up().min(max), -tie.next_down().min(max)]);
                w[j] = -w[j];
            }
            let (mut qins, mut int8) = (vec![0; w.len()], vec![0; w.len()]);
            magnitude_codes(&w, 254.0 / f64::from(max), &mut qins);
            signed_codes(&w, 127.0 / f64::from(max), &mut int8);
            for ((w, qins), int8) in w.iter().zip(qins).zip(int8) {
                let (a, b) = ratio(*w, max).unwrap_or((0, 1));
                ties += u32::from(b > 1 && (508 * a) % b == 0 && (508 * a) / b % 2 == 1);
                assert_eq!(u128::from(qins), round_half_even(254 * a + b, b), "{w:e} of {max:e}");
                let magnitude = round_half_even(127 * a, b) as i32;
                let expected = if *w < 0.0 { -magnitude } else { magnitude };
                assert_eq!(i32::from(int8 as i8), expected, "{w:e} of {max:e}");
            }
        }
        assert!(ties > 1000, "only {ties} ties tested");
    }

    #[test]
    fn sign_bits() {
        for k in 0..140 {
            let w: Vec<f32> = (0..k).map(|i| [1.0, -1.0, -0.0, 0.0, -2.0][i * i % 5]).collect();
            let mut signs = vec![0xFF; k.div_ceil(8)];
            pack_signs(&w, &mut signs);
            for bit in 0..8 * signs.len() {
                let expected = w.get(bit).is_some_and(|w| *w < 0.0);
                assert_eq!(signs[bit / 8] >> (bit % 8) & 1 == 1, expected, "bit {bit} of {k}");
            }
        }
    }
}
