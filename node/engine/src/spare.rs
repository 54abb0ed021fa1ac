//! Emptied buffers for what comes next: replies, and requests to other cores. Buffers travel
//! between cores with the mail in them, and whoever empties one keeps it.

use crate::limits::{SPARE_BUFFER_BYTES_MAX, SPARE_BUFFERS};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<Vec<u8>>);

impl Spare {
    /// An empty buffer.
    #[inline]
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps a buffer for later, unless it is large or there are enough.
    #[inline]
    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= SPARE_BUFFER_BYTES_MAX && self.0.len() < SPARE_BUFFERS {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
