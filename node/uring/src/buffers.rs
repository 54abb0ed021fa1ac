//! Receive buffers that the kernel picks from: a ring of descriptors shared with it, and
//! the memory that they point to, in one mapping.
//!
//! **Invariant (one owner).** A buffer is the kernel's from when it is put into the ring
//! until a completion names it, and the holder's of its [`Filled`] from then until
//! [`Buffers::recycle`]. [`Buffers::take`] is the only place that makes a `Filled`, called
//! once for each completion that names a buffer.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The buffer group of a ring; there is one.
pub(crate) const GROUP: u16 = 0;

/// The most buffers the kernel takes in one group.
const BUFFERS_MAX: u16 = 1 << 15;

/// A buffer that the kernel filled. Give it back to the ring that it came from.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the ring"]
pub struct Filled {
    bytes: NonNull<u8>,
    length: u32,
    buffer: u16,
}

impl Filled {
    /// What was received.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: by "one owner" the kernel does not write to the buffer while this value
        // exists, the first `length` bytes were written by it, and `Buffers` keeps the
        // mapping for as long as a `Filled` is out.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.length as usize) }
    }
}

/// See the module.
pub(crate) struct Buffers {
    memory: Mapping,
    /// Where the first buffer begins in the mapping.
    data_offset: usize,
    count: u16,
    buffer_bytes: u32,
    /// Counts what was ever put into the ring; published by [`Buffers::publish`].
    tail: u16,
    published: u16,
    /// How many are out as [`Filled`].
    held: u16,
}

impl Buffers {
    /// `count` buffers, a power of two, all of them the kernel's once they are registered.
    ///
    /// # Panics
    /// When the numbers are impossible, or the process has no address space left.
    pub(crate) fn new(count: u16, buffer_bytes: u32) -> Self {
        assert!(
            count.is_power_of_two() && count <= BUFFERS_MAX && buffer_bytes > 0,
            "the number of receive buffers is a power of two up to {BUFFERS_MAX} and each has \
             a byte at least, not {count} × {buffer_bytes}"
        );
        let data_offset = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let memory = Mapping::new(data_offset + usize::from(count) * buffer_bytes as usize);
        let mut buffers =
            Self { memory, data_offset, count, buffer_bytes, tail: 0, published: 0, held: 0 };
        for buffer in 0..count {
            buffers.put(buffer);
        }
        buffers.publish();
        buffers
    }

    /// Tells the kernel of the ring.
    ///
    /// # Safety
    /// The buffers live, or are leaked, until the kernel's ring is gone or has no operation
    /// under way.
    pub(crate) unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        // SAFETY: the mapping begins with `count` entries and is page-aligned; the caller
        // keeps it.
        unsafe {
            submitter.register_buf_ring_with_flags(
                self.memory.start.as_ptr() as u64,
                self.count,
                GROUP,
                0,
            )
        }
    }

    /// How many buffers are not held by the caller: those that the kernel has or will have
    /// with the next turn.
    pub(crate) fn free(&self) -> u16 {
        self.count - self.held
    }

    /// The buffer that a completion named.
    ///
    /// # Safety
    /// A completion named `buffer` with `length` bytes, and `take` was not called for that
    /// completion before.
    #[inline]
    pub(crate) unsafe fn take(&mut self, buffer: u16, length: u32) -> Filled {
        assert!(
            buffer < self.count && length <= self.buffer_bytes,
            "the kernel named no buffer of ours"
        );
        self.held += 1;
        Filled { bytes: self.data(buffer), length, buffer }
    }

    /// Gives a buffer back; the kernel sees it with the next [`Buffers::publish`].
    ///
    /// # Panics
    /// When it belongs to another ring.
    #[inline]
    pub(crate) fn recycle(&mut self, filled: Filled) {
        assert!(
            filled.buffer < self.count && filled.bytes == self.data(filled.buffer),
            "the buffer came from another ring"
        );
        self.held -= 1;
        self.put(filled.buffer);
    }

    /// Shows the kernel all buffers that were put since the last time.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        // SAFETY: the ring begins with at least one entry, initialised or zeroed.
        let tail = unsafe { BufRingEntry::tail(self.entries()) };
        // SAFETY: the kernel reads the tail as an aligned 16-bit integer, and it is written
        // here only. Release makes the entries visible before it.
        unsafe { (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release) };
    }

    #[inline]
    fn put(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        let address = self.data(buffer).as_ptr() as u64;
        // SAFETY: `place` is below `count`, and the entry is not the kernel's: the ring has
        // room for all buffers, and this one was not in it. The setters leave alone the
        // field of the first entry that the tail occupies.
        let entry = unsafe { &mut *self.entries().add(place) };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn entries(&self) -> *mut BufRingEntry {
        self.memory.start.as_ptr().cast()
    }

    #[inline]
    fn data(&self, buffer: u16) -> NonNull<u8> {
        let offset = self.data_offset + usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: callers pass numbers below `count`, for which the mapping has room.
        unsafe { self.memory.start.add(offset) }
    }
}

impl Buffers {
    /// Keeps the memory for ever, since the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        self.memory.leak();
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.held > 0 {
            // Somebody still reads what was received.
            self.memory.leak();
        }
    }
}

/// Zeroed pages of its own, touched only as they are used.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is plain memory that belongs to the process.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(length: usize) -> Self {
        // SAFETY: a new private mapping at an address of the kernel's choice touches
        // nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(
            start,
            libc::MAP_FAILED,
            "{length} bytes for receive buffers: {}",
            io::Error::last_os_error()
        );
        let start = NonNull::new(start.cast()).expect("no mapping begins at address zero");
        Self { start, length }
    }

    /// Keeps the memory for ever.
    fn leak(&mut self) {
        self.length = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping was made with this start and length, and its owner is gone.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_out_and_come_back() {
        let mut buffers = Buffers::new(4, 16);
        assert_eq!((buffers.free(), buffers.tail), (4, 4));
        // SAFETY: the test plays the kernel and names each buffer once.
        let (first, second) = unsafe { (buffers.take(2, 16), buffers.take(0, 0)) };
        assert_eq!(buffers.free(), 2);
        assert_eq!(first.bytes(), [0; 16]);
        assert_eq!(second.bytes(), []);
        buffers.recycle(first);
        assert_eq!((buffers.free(), buffers.published), (3, 4));
        buffers.publish();
        assert_eq!(buffers.published, 5);
        buffers.recycle(second);
    }

    #[test]
    fn received_bytes_outlive_the_buffers() {
        let mut buffers = Buffers::new(1, 4096);
        // SAFETY: the test plays the kernel and names the buffer once.
        let filled = unsafe { buffers.take(0, 4096) };
        drop(buffers);
        assert_eq!(filled.bytes(), [0; 4096]);
    }

    #[test]
    #[should_panic(expected = "another ring")]
    fn a_buffer_of_another_ring_is_refused() {
        let mut mine = Buffers::new(1, 64);
        let mut other = Buffers::new(1, 64);
        // SAFETY: the test plays the kernel and names the buffer once.
        mine.recycle(unsafe { other.take(0, 1) });
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (count, bytes) in [(0, 1), (3, 1), (1, 0), (u16::MAX, 1)] {
            let outcome = std::panic::catch_unwind(|| Buffers::new(count, bytes));
            assert!(outcome.is_err(), "{count} × {bytes}");
        }
    }
}
