//! Address space reserved once and faulted in by use: the arena, and tables that are as long
//! as the largest budget needs and cost memory only where they were touched.
//!
//! All `unsafe` that memory needs is here: behind it, the arena is one slice of bytes with
//! checked bounds, and handles are offsets into it.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::HugePages;

/// What memory a reservation is to get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backing {
    pub(crate) huge_pages: HugePages,
    /// See [`ShardConfig::memory_node`](crate::ShardConfig::memory_node).
    pub(crate) memory_node: Option<u16>,
}

impl Backing {
    /// Small pages from wherever they are touched.
    pub(crate) const PLAIN: Self = Self { huge_pages: HugePages::Never, memory_node: None };
}

/// How far the arena is used, for the helper that faults memory in.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes from the start that were handed out.
    pub(crate) used: AtomicU64,
    /// Bytes from the start that the budget allows.
    pub(crate) allowed: AtomicU64,
}

/// A private anonymous mapping, zero until written.
///
/// Invariants:
/// - MAPPED: `base` is the start of `bytes` bytes that stay mapped readable and writable while
///   `mapping` lives; `bytes` is above zero and below `isize::MAX`.
/// - OWNED: nothing else reads or writes them but through this value, with two exceptions. A
///   [`Prefaulter`] keeps the mapping alive and changes no byte. A [`Pin`] reads bytes that
///   this value is not asked to change while the pin lasts, and shares one counter with it
///   that both touch as an atomic only. So references made here cover what was asked for and
///   no byte more.
/// - INITIALISED: the kernel hands out zeroed memory, so every byte always has a value.
pub(crate) struct Reservation {
    base: NonNull<u8>,
    bytes: usize,
    mapping: Arc<Mapping>,
}

/// Unmaps when the last user is gone.
struct Mapping {
    base: usize,
    bytes: usize,
    /// Whether what is faulted in ahead of use is to be huge pages.
    huge_ahead: bool,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `Reservation::new`, and whoever looks at it holds this value.
        unsafe { libc::munmap(self.base as *mut libc::c_void, self.bytes) };
    }
}

// SAFETY: by OWNED, the memory moves with the value, like a `Box<[u8]>`.
unsafe impl Send for Reservation {}
// SAFETY: shared access only reads, as with a `Box<[u8]>`.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves address space, rounded up to whole system pages by the kernel, or to whole huge
    /// pages where there may be some.
    pub(crate) fn new(bytes: usize, backing: Backing) -> io::Result<Self> {
        assert!(bytes > 0 && bytes < isize::MAX as usize / 2);
        let (base, bytes) = match backing.huge_pages {
            HugePages::Never => (map(bytes)?, bytes),
            _ => {
                let bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES as usize);
                (map_aligned(bytes, HUGE_PAGE_BYTES as usize)?, bytes)
            }
        };
        let advice = match backing.huge_pages {
            // Where nobody goes ahead, small pages: the owner's own first touches stay short.
            HugePages::Never | HugePages::Ahead => libc::MADV_NOHUGEPAGE,
            HugePages::Advise => libc::MADV_HUGEPAGE,
        };
        // A kernel without huge pages refuses either advice, and needs none.
        // SAFETY: MAPPED; the advice changes no content.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, advice) };
        let huge_ahead = backing.huge_pages == HugePages::Ahead;
        let mapping = Arc::new(Mapping { base: base.as_ptr().addr(), bytes, huge_ahead });
        if let Some(node) = backing.memory_node {
            prefer_node(&mapping, node)?;
        }
        Ok(Self { base, bytes, mapping })
    }

    /// Some of it.
    ///
    /// # Panics
    /// The range is not within it; the same holds for all that follow.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.bytes);
        // SAFETY: within MAPPED, and INITIALISED; OWNED makes the borrow of `self` cover it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// Some of it.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.bytes);
        // SAFETY: as for `bytes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// Some of it as words, by their number; a last partial one is left out.
    #[inline]
    pub(crate) fn words(&self, range: Range<usize>) -> &[u64] {
        assert!(range.start <= range.end && range.end <= self.bytes / 8);
        // SAFETY: as for `bytes`. Mappings start at a system page, which aligns words, and any
        // eight bytes are a word.
        unsafe {
            let start = self.base.as_ptr().cast::<u64>().add(range.start);
            std::slice::from_raw_parts(start, range.len())
        }
    }

    /// Some of it as words, by their number; a last partial one is left out.
    #[inline]
    pub(crate) fn words_mut(&mut self, range: Range<usize>) -> &mut [u64] {
        assert!(range.start <= range.end && range.end <= self.bytes / 8);
        // SAFETY: as for `words`, and the borrow is exclusive.
        unsafe {
            let start = self.base.as_ptr().cast::<u64>().add(range.start);
            std::slice::from_raw_parts_mut(start, range.len())
        }
    }

    /// Some of it as words to read and some to write, which have none in common.
    #[inline]
    pub(crate) fn words_and_mut(
        &mut self,
        read: Range<usize>,
        write: Range<usize>,
    ) -> (&[u64], &mut [u64]) {
        let words = self.bytes / 8;
        assert!(read.start <= read.end && read.end <= words);
        assert!(write.start <= write.end && write.end <= words);
        assert!(read.end <= write.start || write.end <= read.start);
        // SAFETY: as for `words`; the borrow of `self` is exclusive, and the two do not overlap.
        unsafe {
            let base = self.base.as_ptr().cast::<u64>();
            (
                std::slice::from_raw_parts(base.add(read.start), read.len()),
                std::slice::from_raw_parts_mut(base.add(write.start), write.len()),
            )
        }
    }

    /// Copies bytes to another place, which may overlap.
    #[inline]
    pub(crate) fn copy_within(&mut self, from: Range<usize>, to: usize) {
        assert!(from.start <= from.end && from.end <= self.bytes);
        assert!(to <= self.bytes && from.len() <= self.bytes - to);
        // SAFETY: both places are within MAPPED; the borrow is exclusive.
        unsafe {
            let base = self.base.as_ptr();
            std::ptr::copy(base.add(from.start), base.add(to), from.len());
        }
    }

    /// A word as a counter that pins share.
    #[inline]
    pub(crate) fn counter(&self, word: usize) -> &AtomicU64 {
        assert!(word < self.bytes / 8);
        // SAFETY: within MAPPED, aligned as a word; by OWNED whoever else touches it does so
        // as an atomic, as long as its users do (see `large`).
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast::<u64>().add(word)) }
    }

    /// Asks the processor to bring the line of a word near, if there is such a word.
    #[inline]
    pub(crate) fn prefetch_word(&self, word: usize) {
        if word < self.bytes / 8 {
            prefetch(&self.words(word..word + 1)[0]);
        }
    }

    /// Adds one to the counter in a word, for the pin that takes it off again.
    pub(crate) fn pin(&self, counter: usize) -> Pin {
        self.counter(counter).fetch_add(1, Ordering::Relaxed);
        Pin { base: self.base, mapping: self.mapping.clone(), counter }
    }

    /// Gives the memory of a range back to the system; it reads as zero afterwards. The range
    /// is in bytes and lies on system pages.
    pub(crate) fn release(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.bytes);
        // A refusal leaves the memory where it is, which is only wasteful.
        // SAFETY: MAPPED; the exclusive borrow proves that nobody looks at the bytes.
        unsafe {
            libc::madvise(
                self.base.as_ptr().add(range.start).cast(),
                range.len(),
                libc::MADV_DONTNEED,
            )
        };
    }

    /// A helper that faults memory in ahead of its use.
    pub(crate) fn prefaulter(&self, progress: Arc<Progress>) -> Prefaulter {
        let mapping = self.mapping.clone();
        Prefaulter { mapping, progress, done: 0, advised: 0, advices_left: ADVICES_MAX }
    }
}

/// Keeps bytes of a reservation as they are while it lasts, wherever it goes: it counts in a
/// word that the reservation's owner looks at before it changes them (see `large`).
pub(crate) struct Pin {
    base: NonNull<u8>,
    mapping: Arc<Mapping>,
    /// The word that counts.
    counter: usize,
}

// SAFETY: what a pin is used to read does not change while it lasts, and its counter is atomic.
unsafe impl Send for Pin {}
// SAFETY: as above.
unsafe impl Sync for Pin {}

impl Pin {
    fn counter(&self) -> &AtomicU64 {
        // SAFETY: `Reservation::pin` checked that it is within the mapping, which `mapping`
        // keeps; see `Reservation::counter`.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast::<u64>().add(self.counter)) }
    }

    /// Bytes that the pin keeps as they are.
    ///
    /// # Safety
    /// Nobody changes these bytes before the counter of this pin is back at zero.
    #[inline]
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.mapping.bytes);
        // SAFETY: within the mapping, which `mapping` keeps; unchanging, by the contract.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(range.start), range.len()) }
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        self.counter().fetch_add(1, Ordering::Relaxed);
        Self { base: self.base, mapping: self.mapping.clone(), counter: self.counter }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Whoever sees the zero sees that all reading is done.
        self.counter().fetch_sub(1, Ordering::Release);
    }
}

/// Faults the arena in ahead of its use, from a thread of its own, so that the data core never
/// waits for the kernel to zero a page. It changes no content and may run at any time; memory
/// it touches counts as the shard's.
pub struct Prefaulter {
    mapping: Arc<Mapping>,
    progress: Arc<Progress>,
    /// Bytes from the start that were faulted in.
    done: u64,
    /// Where the last run of huge pages ends.
    advised: u64,
    /// How many more such runs there may be.
    advices_left: u32,
}

/// Maps fresh memory, zero until written.
fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing
    // that exists.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(base.cast::<u8>()).expect("the kernel maps nothing at address 0"))
}

/// The same at a multiple of `alignment`, of which `bytes` is one.
fn map_aligned(bytes: usize, alignment: usize) -> io::Result<NonNull<u8>> {
    let base = map(bytes + alignment)?;
    let before = base.as_ptr().addr().next_multiple_of(alignment) - base.as_ptr().addr();
    // SAFETY: what was just mapped around the aligned part; nobody knows of it, and the kernel
    // takes whole system pages, which the alignment and the mapping are made of.
    unsafe {
        let start = base.as_ptr().add(before);
        if before > 0 {
            libc::munmap(base.as_ptr().cast(), before);
        }
        libc::munmap(start.add(bytes).cast(), alignment - before);
        Ok(NonNull::new_unchecked(start))
    }
}

/// What a huge page has on x86-64, and on others with small pages of 4 KiB.
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Runs of huge pages in one mapping. A new one begins where the owner was faster and has touched
/// small pages; each costs the process two of its mappings, of which it may have 65,530.
const ADVICES_MAX: u32 = 256;

impl Prefaulter {
    /// Faults in at most `most` bytes, or one huge page, while less than `ahead` bytes beyond what
    /// the shard uses are there and its budget is not passed. Returns how many; zero says to look
    /// again later. An `ahead` of `u64::MAX` faults in the whole budget.
    ///
    /// # Errors
    /// The kernel refused: `EINVAL` before Linux 5.14, `ENOMEM` where memory is short.
    pub fn step(&mut self, ahead: u64, most: u64) -> io::Result<u64> {
        const STEP_BYTES: u64 = 64 << 10;
        let used = self.progress.used.load(Ordering::Relaxed);
        let allowed = self.progress.allowed.load(Ordering::Relaxed);
        let end = used.saturating_add(ahead).min(allowed).min(self.mapping.bytes as u64);
        let start = self.done.max(used) / STEP_BYTES * STEP_BYTES;
        let left = end.saturating_sub(start);
        let bytes = match start.next_multiple_of(HUGE_PAGE_BYTES) - start {
            _ if !self.mapping.huge_ahead => left.min(most),
            0 if left >= HUGE_PAGE_BYTES && self.want_huge_page(start) => HUGE_PAGE_BYTES,
            0 => left.min(most),
            before => left.min(most).min(before),
        };
        let bytes = bytes / STEP_BYTES * STEP_BYTES;
        if bytes == 0 {
            return Ok(0);
        }
        self.advise(start, bytes, libc::MADV_POPULATE_WRITE)?;
        self.done = start + bytes;
        Ok(bytes)
    }

    /// Asks that what begins here be a huge page. Whether it may be one; the kernel may have
    /// none, and gives small ones then.
    fn want_huge_page(&mut self, start: u64) -> bool {
        if start != self.advised {
            let Some(left) = self.advices_left.checked_sub(1) else { return false };
            self.advices_left = left;
        }
        self.advised = start + HUGE_PAGE_BYTES;
        self.advise(start, HUGE_PAGE_BYTES, libc::MADV_HUGEPAGE).is_ok()
    }

    fn advise(&self, start: u64, bytes: u64, advice: libc::c_int) -> io::Result<()> {
        assert!(start + bytes <= self.mapping.bytes as u64);
        let address = (self.mapping.base + start as usize) as *mut libc::c_void;
        // SAFETY: the range is within the mapping, which `mapping` keeps. Neither asking for
        // huge pages nor populating, which writes what is there already, changes any content.
        match unsafe { libc::madvise(address, bytes as usize, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Asks for a mapping's memory from one node, others helping out (`MPOL_PREFERRED` of
/// mbind(2)). A kernel without NUMA has one node only, and need not be asked.
fn prefer_node(mapping: &Mapping, node: u16) -> io::Result<()> {
    const MPOL_PREFERRED: libc::c_int = 1;
    const MASK_BITS: usize = 1024;
    let node = usize::from(node);
    if node >= MASK_BITS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut mask = [0_u64; MASK_BITS / 64];
    mask[node / 64] = 1 << (node % 64);
    // SAFETY: the range is the whole mapping, whose content the call does not touch; the
    // kernel reads as many bits of `mask` as it is told, less one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            mapping.base,
            mapping.bytes,
            MPOL_PREFERRED,
            mask.as_ptr(),
            MASK_BITS + 1,
            0,
        )
    };
    let error = io::Error::last_os_error();
    match result {
        0 => Ok(()),
        _ if error.raw_os_error() == Some(libc::ENOSYS) && node == 0 => Ok(()),
        _ => Err(error),
    }
}

/// Values that are right when all their bytes are zero.
///
/// # Safety
/// All-zero bytes are a valid value, and values need no drop.
pub(crate) unsafe trait Zeroed: Copy {}

// SAFETY: plain numbers.
unsafe impl Zeroed for u32 {}
// SAFETY: plain numbers.
unsafe impl Zeroed for u64 {}

/// A fixed-length array in reserved address space; untouched parts cost nothing.
pub(crate) struct Table<T> {
    memory: Reservation,
    length: usize,
    values: PhantomData<T>,
}

impl<T: Zeroed> Table<T> {
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let bytes = length.max(1) * size_of::<T>();
        Ok(Self { memory: Reservation::new(bytes, Backing::PLAIN)?, length, values: PhantomData })
    }
}

impl<T: Zeroed> std::ops::Deref for Table<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: MAPPED holds `length` values by construction; INITIALISED with zeros or
        // values written through `deref_mut`, both valid by `Zeroed`; mappings are aligned to
        // system pages.
        unsafe { std::slice::from_raw_parts(self.memory.base.as_ptr().cast(), self.length) }
    }
}

impl<T: Zeroed> std::ops::DerefMut for Table<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base.as_ptr().cast(), self.length) }
    }
}

/// Asks the processor to bring the cache line of `place` near. Without the instruction it
/// does nothing, and nothing but speed depends on it.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetching reads nothing architecturally, and the address is that of a
    // reference.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
            std::ptr::from_ref(place).cast(),
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_until_written_and_after_release() {
        let mut memory = Reservation::new(1 << 20, Backing::PLAIN).expect("address space");
        assert!(memory.bytes(0..1 << 20).iter().all(|byte| *byte == 0));
        memory.bytes_mut(4096..8192).fill(7);
        assert_eq!(memory.words(512..513), [0x0707_0707_0707_0707]);
        memory.words_mut(0..1)[0] = 1;
        memory.copy_within(0..8, 12);
        assert_eq!(memory.bytes(8..24), [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let (from, to) = memory.words_and_mut(1..2, 3..4);
        to.copy_from_slice(from);
        assert_eq!(memory.words(3..4), memory.words(1..2));
        memory.bytes_mut(24..32).fill(0);
        memory.bytes_mut(12..13).fill(0);
        memory.release(4096..8192);
        assert_eq!(memory.bytes(0..1), [1]);
        assert!(memory.bytes(8..1 << 20).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn faulting_in_stays_ahead_and_changes_nothing() {
        let mut memory = Reservation::new(4 << 20, Backing::PLAIN).expect("address space");
        memory.bytes_mut(1 << 20..(1 << 20) + 1)[0] = 5;
        let progress = Arc::new(Progress::default());
        progress.used.store(1 << 20, Ordering::Relaxed);
        progress.allowed.store(4 << 20, Ordering::Relaxed);
        let mut prefaulter = memory.prefaulter(progress.clone());
        match prefaulter.step(1 << 20, 256 << 10) {
            Ok(bytes) => assert_eq!(bytes, 256 << 10),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
                return;
            }
        }
        while prefaulter.step(1 << 20, 256 << 10).expect("memory") > 0 {}
        assert_eq!(prefaulter.done, 2 << 20);
        progress.used.store(4 << 20, Ordering::Relaxed);
        assert_eq!(prefaulter.step(1 << 20, 1 << 20).expect("memory"), 0);
        assert_eq!(memory.bytes(1 << 20..(1 << 20) + 1), [5]);
        drop(memory);
        drop(prefaulter);
    }

    #[test]
    fn huge_pages_are_asked_for_where_they_are_whole() {
        const HUGE: u64 = HUGE_PAGE_BYTES;
        let backing = Backing { huge_pages: HugePages::Ahead, ..Backing::PLAIN };
        let memory = Reservation::new(16 << 20, backing).expect("address space");
        assert!(memory.mapping.base.is_multiple_of(HUGE as usize));
        let progress = Arc::new(Progress::default());
        let mut prefaulter = memory.prefaulter(progress.clone());
        let mut steps = |used: u64, allowed: u64| {
            progress.used.store(used, Ordering::Relaxed);
            progress.allowed.store(allowed, Ordering::Relaxed);
            let mut done = Vec::new();
            loop {
                match prefaulter.step(u64::MAX, 1 << 20).map_err(|error| error.raw_os_error()) {
                    Ok(0) | Err(Some(libc::EINVAL)) => return done,
                    Ok(bytes) => done.push(bytes),
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let small = 1 << 20;
        let done = steps(0, 2 * HUGE + small);
        if done.is_empty() {
            // The kernel is too old to be asked.
            return;
        }
        assert_eq!(done, [HUGE, HUGE, small], "the budget ends within the third");
        assert_eq!(steps(0, 5 * HUGE), [small, HUGE, HUGE]);
        assert_eq!(steps(6 * HUGE - 65_536, 8 * HUGE), [65_536, HUGE, HUGE]);
    }

    #[test]
    fn memory_can_be_asked_for_from_a_node() {
        let from = |node| {
            let backing = Backing { memory_node: Some(node), ..Backing::PLAIN };
            Reservation::new(1 << 20, backing)
        };
        let mut memory = from(0).expect("there is a first node");
        memory.bytes_mut(0..1 << 20).fill(7);
        assert!(memory.bytes(0..1 << 20).iter().all(|byte| *byte == 7));
        // No machine has so many.
        assert!(from(1023).is_err() && from(u16::MAX).is_err());
    }

    #[test]
    fn tables_are_slices() {
        let mut table = Table::<u32>::new(3).expect("address space");
        assert_eq!(&table[..], &[0, 0, 0]);
        table[2] = 9;
        assert_eq!(&table[..], &[0, 0, 9]);
    }
}
