//! Memory for products, kept from call to call, and shared by the layers of a model.

use std::sync::{Arc, Mutex, PoisonError};

use lutmul::{Activations, Context};

/// Memory for products, shared by layers: as many [`Context`]s as there were calls at the same time, each lent to one
/// call. Clones share it.
///
/// The layers of a [`Loader`](crate::Loader) share one. Others have one of their own, unless they are given
/// [another's](crate::LutLinear::sharing).
#[derive(Clone, Debug, Default)]
pub struct Rooms(Arc<Mutex<Vec<Room>>>);

/// What a call needs.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub context: Context,
    /// x that several layers take.
    pub packed: Activations,
}

impl Rooms {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of those that no call is using.
    pub fn bytes(&self) -> usize {
        let of = |room: &Room| room.context.bytes() + room.packed.bytes();
        self.with(|rooms| rooms.iter().map(of).sum())
    }

    /// Lends one to some work. The list is not locked meanwhile.
    pub(crate) fn lend<R>(&self, work: impl FnOnce(&mut Room) -> R) -> R {
        // One that work panicked in is dropped.
        let mut room = self.with(Vec::pop).unwrap_or_default();
        let result = work(&mut room);
        self.with(|rooms| rooms.push(room));
        result
    }

    fn with<R>(&self, f: impl FnOnce(&mut Vec<Room>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
