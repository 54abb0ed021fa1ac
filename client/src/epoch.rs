//! What a node last said of the topology it knows, in the head of its replies.

use std::sync::atomic::{AtomicU16, Ordering};

use corelane_protocol::ShortEpoch;

/// Written by the connections of a node, read by whoever routes to it.
#[derive(Debug, Default)]
pub(crate) struct ToldEpoch(AtomicU16);

impl ToldEpoch {
    /// A reply carried this epoch. None is no news: replies to some requests carry none.
    pub(crate) fn tell(&self, epoch: ShortEpoch) {
        if epoch != ShortEpoch::default() && epoch != self.get() {
            self.0.store(epoch.0, Ordering::Relaxed);
        }
    }

    /// The last one told; 0: none ever was.
    pub(crate) fn get(&self) -> ShortEpoch {
        ShortEpoch(self.0.load(Ordering::Relaxed))
    }
}
