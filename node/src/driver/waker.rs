//! Wakes a driver that waits in [`Driver::turn`](super::Driver::turn), from any thread.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Makes one driver report [`Event::Woken`](super::Event::Woken) soon: an event descriptor,
/// so that a wake is one write, and many wakes before the driver looks are one event.
#[derive(Clone, Debug)]
pub struct Waker(Arc<File>);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(File::from(corelane_uring::event_descriptor()?))))
    }

    /// Wakes the driver. A wake that comes while it is busy ends its next wait.
    pub fn wake(&self) {
        // The only failure is a counter at its maximum, and then the driver has a wake to
        // look at anyway.
        let _ = (&*self.0).write(&1u64.to_ne_bytes());
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
