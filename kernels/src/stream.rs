//! Writing past the caches: for results that are larger than they are.

/// Copies floats. Whole cache lines are written past the caches where the CPU can (x86-64), anything else as usual.
/// [`stream_fence`] must follow before another thread may read them.
///
/// # Panics
/// If the slices differ in length.
pub fn stream(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    #[cfg(target_arch = "x86_64")]
    if to.as_ptr().addr().is_multiple_of(64) && to.len().is_multiple_of(16) {
        use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
        for (from, to) in from.as_chunks::<4>().0.iter().zip(to.as_chunks_mut::<4>().0) {
            // SAFETY: SSE is part of every x86-64; both are four floats, and `to` starts on 16 bytes, as the slice does
            // on 64 (the line above).
            unsafe { _mm_stream_ps(to.as_mut_ptr(), _mm_loadu_ps(from.as_ptr())) };
        }
        return;
    }
    to.copy_from_slice(from);
}

/// Waits until what [`stream`] wrote on this thread can be seen by others.
pub fn stream_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of every x86-64; a fence changes nothing but an order.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_is_copied() {
        let from: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let mut to = vec![0.0; 200];
        for (start, len) in [(0, 0), (0, 16), (1, 32), (16, 64), (3, 7), (0, 100)] {
            let first = to.as_ptr().align_offset(64) + start;
            to.fill(-1.0);
            super::stream(&from[..len], &mut to[first..][..len]);
            super::stream_fence();
            assert_eq!(to[first..][..len], from[..len]);
            assert!(to[..first].iter().chain(&to[first + len..]).all(|v| *v == -1.0));
        }
    }
}
