//! How much of a conversion is in memory at a time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that may be in memory at a time: more only for a tensor that is larger, alone.
const BYTES: usize = 640 << 20;

/// Memory that may be in use, shared by those who take and those who give back.
#[derive(Default)]
pub(super) struct Budget {
    used: Mutex<Used>,
    changed: Condvar,
}

#[derive(Default)]
struct Used {
    bytes: usize,
    closed: bool,
}

impl Budget {
    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so much is free, or everything. False: nobody needs it any more.
    pub fn take(&self, bytes: usize) -> bool {
        let full = |used: &mut Used| {
            !used.closed && used.bytes > 0 && used.bytes.saturating_add(bytes) > BYTES
        };
        let wait = self.changed.wait_while(self.lock(), full);
        let mut used = wait.unwrap_or_else(PoisonError::into_inner);
        used.bytes = used.bytes.saturating_add(bytes);
        !used.closed
    }

    /// Gives so much back.
    pub fn give(&self, bytes: usize) {
        let mut used = self.lock();
        used.bytes = used.bytes.saturating_sub(bytes);
        drop(used);
        self.changed.notify_all();
    }

    /// Has nobody wait any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}
