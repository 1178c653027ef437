//! The one rounding of integer modes but the last: an exact sum becomes `(f64(S)·sx) · (sl·f64(scale))`, in
//! that order and without FMA, so that it is the same on every CPU.

/// The terms of one token and some rows: `scales` are the rows'. Starts `totals`, or adds to them.
/// No sum is larger in magnitude than `largest`.
pub(super) fn rows(
    (sums, largest): (&[i64], u128),
    (sx, sl): (f64, f64),
    scales: &[f32],
    totals: &mut [f64],
    add: bool,
) {
    let terms = sums.iter().zip(scales).zip(totals);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            // Few vector units convert i64, but all of them do it this way.
            if largest < SMALL {
                for ((sum, scale), total) in terms {
                    let term = small(*sum) * sx * (sl * f64::from(*scale));
                    *total = if add { *total + term } else { term };
                }
            } else {
                for ((sum, scale), total) in terms {
                    let term = *sum as f64 * sx * (sl * f64::from(*scale));
                    *total = if add { *total + term } else { term };
                }
            }
        },
    );
}

/// Magnitudes that [`small`] converts.
const SMALL: u128 = 1 << 51;

/// An integer below 2⁵¹ in magnitude as f64. 1.5 · 2⁵² plus the integer has it in its lowest bits.
#[inline(always)]
fn small(v: i64) -> f64 {
    const OFFSET: f64 = 6_755_399_441_055_744.0;
    f64::from_bits((OFFSET.to_bits() as i64 + v) as u64) - OFFSET
}
