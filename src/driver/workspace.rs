//! Memory that products need, kept from call to call.

use std::sync::{Mutex, PoisonError};

use lutmul_kernels::{IntPanel, IntRow, PANEL_COLS, PANEL_ROWS, PANEL_STEPS, PanelRow};

use crate::activations::Activations;
use crate::aligned::Aligned;

const INT_ROW: usize = PANEL_STEPS + 16;

/// What one thread needs: up to 200 KiB in the panel shape (a decoded panel of 48 × 512 weights, and
/// the sums of 48 rows × 512 tokens), 2 KiB in the row shape. In integer modes up to 950 KiB
/// (1.3 MiB with images of three bytes), and 4 KiB for each group of columns. Allocated by the first product.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) sums: Aligned,
    panel: Aligned,
}

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.sums.bytes() + self.panel.bytes()
    }

    /// Room for `sums` sums, and for a panel.
    pub(super) fn panel_buffers(&mut self, sums: usize) -> (&mut [f32], &mut [PanelRow]) {
        const ROW: usize = PANEL_COLS + 16;
        let panel = self.panel.take(PANEL_ROWS * ROW);
        (self.sums.take(sums), panel.as_chunks_mut::<ROW>().0)
    }
}

/// Room for integer modes.
impl Scratch {
    /// Room for exact sums, and for what they become when scaled.
    pub(super) fn int_buffers(&mut self, sums: usize, totals: usize) -> (&mut [i64], &mut [f64]) {
        let both = self.sums.take(2 * (sums + totals));
        let (sums, totals) = both.split_at_mut(2 * sums);
        (bytemuck::cast_slice_mut(sums), bytemuck::cast_slice_mut(totals))
    }

    /// Room for the sums of a panel, and for one of an image with that many planes.
    pub(super) fn int_panel_buffers(&mut self, sums: usize, planes: usize) -> IntPanelBuffers<'_> {
        // The most groups of columns in a panel, and starts: one for 32 codes.
        const GROUPS: usize = PANEL_ROWS * PANEL_STEPS / 8;
        let rows = PANEL_ROWS * IntPanel::pitch(planes, false);
        // Those of a third plane are apart.
        let plane_sums = if planes > 2 { 2 * sums } else { sums };
        let floats = self.sums.take(2 * (plane_sums + sums + GROUPS));
        let all: &mut [f64] = bytemuck::cast_slice_mut(floats);
        let (totals, rest) = all.split_at_mut(sums);
        let (sums, scales) = rest.split_at_mut(plane_sums);
        let panel: &mut [u32] =
            bytemuck::cast_slice_mut(self.panel.take(rows * INT_ROW + planes * GROUPS));
        let (panel, starts) = panel.split_at_mut(rows * INT_ROW);
        let panel = panel.as_chunks_mut::<INT_ROW>().0;
        IntPanelBuffers { sums, totals, scales, panel, starts: bytemuck::cast_slice_mut(starts) }
    }
}

/// What the panel shape of integer modes needs.
pub(super) struct IntPanelBuffers<'a> {
    /// Sums of groups of columns that go on in another block of k.
    pub sums: &'a mut [f64],
    /// Scaled sums.
    pub totals: &'a mut [f64],
    /// Scales of a panel's rows and groups.
    pub scales: &'a mut [f64],
    /// The decoded panel.
    pub panel: &'a mut [IntRow],
    /// Where its sums start.
    pub starts: &'a mut [i32],
}

/// A [`Scratch`] for every thread that may work on a product.
#[derive(Debug)]
pub struct Pool(Vec<Mutex<Scratch>>);

impl Pool {
    fn new() -> Self {
        #[cfg(feature = "rayon")]
        let threads = rayon::current_num_threads();
        #[cfg(not(feature = "rayon"))]
        let threads = 1;
        Self((0..threads).map(|_| Mutex::default()).collect())
    }

    /// Lends a thread's scratch. Threads beyond those known when the pool was made share some.
    pub(super) fn with(&self, thread: usize, work: impl FnOnce(&mut Scratch)) {
        let scratch = &self.0[thread % self.0.len()];
        // What a panic leaves behind is only scratch.
        work(&mut scratch.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Memory that products need, kept from call to call: packed activations ([`Activations`]) and a
/// [`Scratch`] for each thread. Weights are never copied into it.
///
/// Made for the number of threads of rayon's current pool; another pool can use it, but threads
/// beyond that number wait for each other.
#[derive(Debug)]
pub struct Workspace {
    pub(super) activations: Activations,
    pub(super) scratch: Pool,
}

impl Workspace {
    /// An empty one; the first product allocates.
    pub fn new() -> Self {
        Self { activations: Activations::new(), scratch: Pool::new() }
    }

    /// The part that [`matmul_packed`](crate::matmul_packed) needs.
    pub fn scratch(&self) -> &Pool {
        &self.scratch
    }

    /// Bytes held at this moment.
    pub fn bytes(&self) -> usize {
        let lock = |s: &Mutex<Scratch>| s.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        self.activations.bytes() + self.scratch.0.iter().map(lock).sum::<usize>()
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}
