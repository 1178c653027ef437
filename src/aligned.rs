//! Floats on cache lines.

use crate::buffer::Buffer;

/// A buffer of floats that starts on a cache line: 512-bit loads that straddle two take twice as long.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    buffer: Buffer,
    /// How many floats were taken last.
    len: usize,
}

impl Aligned {
    /// The first `len` floats, in new memory if need be. What they hold is anything.
    pub fn take(&mut self, len: usize) -> &mut [f32] {
        let bytes = (len * size_of::<f32>()).next_multiple_of(64);
        if self.buffer.len() < bytes {
            // Of what was there nothing is needed: not both at a time.
            self.buffer = Buffer::default();
            self.buffer = Buffer::zeroed(bytes);
        }
        self.len = len;
        &mut bytemuck::cast_slice_mut(&mut self.buffer)[..len]
    }

    /// Memory for `len` floats, which later takings need not ask for; whether there was so much.
    pub fn reserve(&mut self, len: usize) -> bool {
        let bytes = len.checked_mul(size_of::<f32>()).and_then(|b| b.checked_next_multiple_of(64));
        let Some(bytes) = bytes else { return false };
        if self.buffer.len() >= bytes {
            return true;
        }
        // What is there stays if there is no more.
        let Some(buffer) = Buffer::try_zeroed(bytes) else { return false };
        (self.buffer, self.len) = (buffer, 0);
        true
    }

    /// The floats that were taken last.
    pub fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.buffer)[..self.len]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }
}
