//! The one rounding of integer modes but the last: an exact sum becomes `(f64(S)·sx) · (sl·f64(scale))`, in
//! that order and without FMA, so that it is the same on every CPU.

/// The terms of one token and some rows: `scales` are the rows'. Starts `totals`, or adds to them.
pub(super) fn rows(sums: &[i64], sx: f64, scales: &[f64], totals: &mut [f64], add: bool) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((sum, scale), total) in sums.iter().zip(scales).zip(totals) {
                let term = *sum as f64 * sx * scale;
                *total = if add { *total + term } else { term };
            }
        },
    );
}
