//! Handles: what a pointer that C programs hold points to, with a tag that says what it is.

use crate::call::Caller;
use crate::status::*;

/// What there are handles of. Any thread may use one, and several may at a time.
pub trait Kind: Send + Sync {
    /// The type's name in C.
    const NAME: &'static str;
    /// What the memory of its handles begins with.
    const TAG: u64 = tag(Self::NAME);
}

/// All of them, for texts.
const KINDS: [&str; 5] =
    ["lutmul_table", "lutmul_weights", "lutmul_file", "lutmul_activations", "lutmul_workspace"];

/// A name as a number (FNV-1a).
const fn tag(name: &str) -> u64 {
    let (mut hash, mut i) = (0xCBF2_9CE4_8422_2325u64, 0);
    while i < name.len() {
        hash = (hash ^ name.as_bytes()[i] as u64).wrapping_mul(0x0100_0000_01B3);
        i += 1;
    }
    hash
}

/// A thing and its tag, which is the first in memory whatever the thing is.
#[repr(C)]
pub struct Handle<T> {
    tag: u64,
    pub value: T,
}

impl<T: Kind> Handle<T> {
    pub fn new(value: T) -> Self {
        Self { tag: T::TAG, value }
    }

    /// Takes the tag away, so that the handle is known to be dead while nothing else has its memory.
    pub fn bury(&mut self) {
        // SAFETY: a field of our own. Volatile, for no other code reads it before it is freed.
        unsafe { (&raw mut self.tag).write_volatile(0) };
    }
}

/// The thing behind a handle, if that is alive and of its kind, as far as its first bytes tell.
pub fn check<T: Kind>(caller: &Caller, handle: *mut T, argument: &str) -> Result<*mut Handle<T>> {
    let wrong = |what: &str| {
        Err(Failure::new(LUTMUL_HANDLE, argument, format!("is {what}, not a {} in use", T::NAME)))
    };
    let handle = handle.cast::<Handle<T>>();
    let tag = caller.read(handle.cast::<u64>(), argument)?;
    if tag == T::TAG && handle.is_aligned() {
        return Ok(handle);
    }
    match KINDS.iter().find(|name| self::tag(name) == tag) {
        Some(name) => wrong(&format!("a {name}")),
        None => wrong("freed, or no handle"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::call;
    use crate::table::lutmul_table;

    #[test]
    fn freed_handles_are_known_while_nothing_else_has_their_memory() {
        let mut handle = Box::new(Handle::new(lutmul_table(lutmul::Lut::int8())));
        let status = |handle: &Handle<lutmul_table>| {
            let pointer = (&raw const *handle).cast::<lutmul_table>();
            // SAFETY: the handle is there, and `get` finds out whether it is alive.
            unsafe { call("test", |c| c.get(pointer, "table").map(drop)) }
        };
        assert_eq!(status(&handle), LUTMUL_OK);
        handle.bury();
        assert_eq!(status(&handle), LUTMUL_HANDLE);
    }

    #[test]
    fn tags_differ() {
        let mut tags = KINDS.map(tag);
        tags.sort();
        assert!(tags.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
