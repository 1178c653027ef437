//! Floats on cache lines.

/// Sixteen floats that are one cache line.
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A buffer of floats that starts on a cache line: 512-bit loads that straddle two take twice as long.
#[derive(Debug, Default)]
pub(crate) struct Aligned(Vec<Line>);

impl Aligned {
    /// The first `len` floats, grown if need be. What they hold is what was last written there.
    pub fn take(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; 16]));
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }

    /// All floats.
    pub fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Line>()
    }
}
