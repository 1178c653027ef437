//! Memory that products need, kept from call to call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lutmul_kernels::{IntPanel, IntRow, PANEL_COLS, PANEL_ROWS, PANEL_STEPS, PanelRow};

use super::Needs;
use crate::activations::Activations;
use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::options::Threads;

const INT_ROW: usize = PANEL_STEPS + 16;

/// What one thread needs: up to 200 KiB in the panel shape (a decoded panel of 48 × 512 weights, and
/// the sums of 48 rows × 512 tokens), 2 KiB in the row shape. In integer modes up to 950 KiB
/// (1.3 MiB with images of three bytes), and 4 KiB for each group of columns. Allocated by the first product.
#[derive(Debug, Default)]
pub struct Scratch(Aligned);

/// Floats of a row of a decoded panel.
const ROW: usize = PANEL_COLS + 16;

/// The most groups of columns in an integer panel, and starts of sums: one for 32 codes.
const GROUPS: usize = PANEL_ROWS * PANEL_STEPS / 8;

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Has memory for products that need no more than that, so that they allocate nothing.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&mut self, needs: Needs) -> Result<()> {
        let (what, bytes) = ("scratch", needs.scratch());
        if self.0.reserve(needs.scratch) { Ok(()) } else { Err(Error::Memory { what, bytes }) }
    }

    /// Room for sums.
    pub(super) fn sums(&mut self, sums: usize) -> &mut [f32] {
        self.0.take(sums)
    }

    /// Floats of [`Scratch::panel_buffers`].
    pub(super) fn panel_len(sums: usize) -> usize {
        sums + PANEL_ROWS * ROW
    }

    /// Room for `sums` sums, and for a panel.
    pub(super) fn panel_buffers(&mut self, sums: usize) -> (&mut [f32], &mut [PanelRow]) {
        let (sums, panel) = self.0.take(Self::panel_len(sums)).split_at_mut(sums);
        (sums, panel.as_chunks_mut::<ROW>().0)
    }
}

/// Room for integer modes.
impl Scratch {
    /// Floats of [`Scratch::int_buffers`].
    pub(super) fn int_len(sums: usize, totals: usize) -> usize {
        2 * (sums + totals)
    }

    /// Room for exact sums, and for what they become when scaled.
    pub(super) fn int_buffers(&mut self, sums: usize, totals: usize) -> (&mut [i64], &mut [f64]) {
        let both = self.0.take(Self::int_len(sums, totals));
        let (sums, totals) = both.split_at_mut(2 * sums);
        (bytemuck::cast_slice_mut(sums), bytemuck::cast_slice_mut(totals))
    }

    /// Floats of [`Scratch::int_panel_buffers`].
    pub(super) fn int_panel_len(sums: usize, planes: usize) -> usize {
        let rows = PANEL_ROWS * IntPanel::pitch(planes, false);
        2 * (plane_sums(sums, planes) + sums + GROUPS) + rows * INT_ROW + planes * GROUPS
    }

    /// Room for the sums of a panel, and for one of an image with that many planes.
    pub(super) fn int_panel_buffers(&mut self, sums: usize, planes: usize) -> IntPanelBuffers<'_> {
        let rows = PANEL_ROWS * IntPanel::pitch(planes, false);
        let all = self.0.take(Self::int_panel_len(sums, planes));
        let (wide, panel) = all.split_at_mut(2 * (plane_sums(sums, planes) + sums + GROUPS));
        let (totals, rest) = bytemuck::cast_slice_mut(wide).split_at_mut(sums);
        let (sums, scales) = rest.split_at_mut(plane_sums(sums, planes));
        let (panel, starts) = bytemuck::cast_slice_mut(panel).split_at_mut(rows * INT_ROW);
        let panel = panel.as_chunks_mut::<INT_ROW>().0;
        IntPanelBuffers { sums, totals, scales, panel, starts: bytemuck::cast_slice_mut(starts) }
    }
}

/// Sums of a panel's planes: those of a third one are apart.
fn plane_sums(sums: usize, planes: usize) -> usize {
    if planes > 2 { 2 * sums } else { sums }
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
        let threads = match Threads::current() {
            Threads::One => 1,
            #[cfg(feature = "rayon")]
            Threads::Rayon => rayon::current_num_threads(),
        };
        Self((0..threads).map(|_| Mutex::default()).collect())
    }

    /// Has memory for products that need no more than that, on any of the threads.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&self, needs: Needs) -> Result<()> {
        self.0.iter().try_for_each(|scratch| lock(scratch).reserve(needs))
    }

    /// Lends a thread's scratch. Threads beyond those known when the pool was made share some.
    pub(super) fn with(&self, thread: usize, work: impl FnOnce(&mut Scratch)) {
        work(&mut lock(&self.0[thread % self.0.len()]));
    }
}

fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    // What a panic leaves behind is only scratch.
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Has memory for products that need no more than that: they allocate nothing.
    ///
    /// ```
    /// use lutmul::{Format, Granularity, Needs, Options, Weights, Workspace};
    ///
    /// let w = Weights::encode(&[0.5f32; 64], (1, 64), &Format::E4m3, Granularity::Row)?;
    /// let (options, mut workspace) = (Options::new()?, Workspace::new());
    /// workspace.reserve(Needs::up_to(&w, 16, &options)?)?; // products of 1 to 16 tokens
    /// # Ok::<(), lutmul::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not so much.
    pub fn reserve(&mut self, needs: Needs) -> Result<()> {
        self.activations.reserve(needs)?;
        self.scratch.reserve(needs)
    }

    /// Bytes held at this moment.
    pub fn bytes(&self) -> usize {
        let scratch = self.scratch.0.iter().map(|scratch| lock(scratch).bytes());
        self.activations.bytes() + scratch.sum::<usize>()
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}
