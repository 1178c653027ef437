//! Floats on cache lines.

/// Sixteen floats that are one cache line.
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A buffer of floats that starts on a cache line: 512-bit loads that straddle two take twice as long.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    /// How many floats were taken last.
    len: usize,
}

impl Aligned {
    /// The first `len` floats, grown if need be. What they hold is what was last written there.
    pub fn take(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; 16]));
        }
        self.len = len;
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..len]
    }

    /// The floats that were taken last.
    pub fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}
