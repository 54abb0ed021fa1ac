//! Which core a request of a dialect concerns.

use corelane_protocol::{Atomic, Request};
use corelane_ring::slot_of;

/// Where a request is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the core of this slot.
    Slot(u16),
    /// At this core.
    Core(u16),
    /// Wherever it arrived.
    Anywhere,
    /// At every core.
    Everywhere,
}

/// Where a request is executed.
pub(crate) fn place_of(request: &Request<'_>) -> Place {
    if let Some(key) = request.key() {
        return Place::Slot(slot_of(key).number());
    }
    match *request {
        Request::Scan { cursor, .. } | Request::FlushSpace { cursor } => Place::Core(cursor.core()),
        Request::KeysInSlot { slot, .. }
        | Request::CountKeys { slot: Some(slot) }
        | Request::Atomic(Atomic { slot, .. }) => Place::Slot(slot),
        Request::RandomKey
        | Request::CountKeys { slot: None }
        | Request::Flush { .. }
        | Request::Stats => Place::Everywhere,
        _ => Place::Anywhere,
    }
}
