//! Large values: chains of chunks, so that no value needs contiguous memory, and each piece
//! can be received, sent and given back by itself.
//!
//! | bytes of a chunk | field |
//! | --- | --- |
//! | 0–7 | bits 0–35: handle of the next chunk, 0 at the end; above: bytes of the value in this chunk |
//! | 8–15 | bits 0–27: how many hold this chunk and those after it, the entry and leases; above: handle of the next chain in a list of discarded ones |
//! | 16–… | the value's bytes |
//!
//! Chunks never move. A chain is given back when its last holder lets go, a few chunks at a
//! time. Until then it waits in a list that runs through the chains themselves, so that however
//! many are let go, none needs memory for it.
//!
//! Invariant LEASED: once a chain is whole, nothing of it changes but the count of its holders,
//! which is only touched as an atomic, until that is zero. So a [`Lease`] may read the chain on
//! any thread, without the shard.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::class::Class;
use crate::heap::{Handle, Heap};
use crate::reserve::Pin;

const HEADER_BYTES: usize = 16;

/// Which word of the first chunk counts the holders, and its bits that do.
const HOLDERS: usize = 1;
const HOLDER_BITS: u32 = u64::BITS - Handle::BITS;
const HOLDER_MASK: u64 = (1 << HOLDER_BITS) - 1;

/// What the first word of a chunk says.
#[derive(Clone, Copy)]
struct Link {
    next: Option<Handle>,
    /// Bytes of the value in this chunk.
    length: usize,
}

impl Link {
    fn from_word(word: u64) -> Self {
        let next = word & ((1 << Handle::BITS) - 1);
        let next = (next != 0).then(|| Handle::new(next));
        Self { next, length: (word >> Handle::BITS) as usize }
    }

    fn to_word(self) -> u64 {
        self.next.map_or(0, Handle::units) | (self.length as u64) << Handle::BITS
    }

    fn read(heap: &Heap, chunk: Handle) -> Self {
        Self::from_word(heap.words(chunk, 1)[0])
    }

    fn write(self, heap: &mut Heap, chunk: Handle) {
        heap.words_mut(chunk, 1)[0] = self.to_word();
    }
}

/// Chunks given back in one slice.
const SLICE_CHUNKS: usize = 16;

/// Chains whose leases are looked at in one slice.
const SLICE_LEASED: usize = 16;

/// The class for the next chunk of a value with so many bytes to come: the smallest that holds
/// them, unless that wastes over an eighth and a smaller one can take a part.
pub(crate) fn next_class(bytes_to_come: usize) -> Class {
    let room = |class: &Class| class.slot_bytes() - HEADER_BYTES;
    let whole = Class::chunks().find(|class| room(class) >= bytes_to_come);
    let part = Class::chunks().rev().find(|class| room(class) <= bytes_to_come);
    match (whole, part) {
        (Some(whole), Some(_)) if room(&whole) - bytes_to_come <= bytes_to_come / 8 => whole,
        (_, Some(part)) => part,
        (Some(whole), None) => whole,
        (None, None) => unreachable!("a value fits a chunk or fills one"),
    }
}

/// A chain that is being written.
#[derive(Debug)]
pub(crate) struct Chain {
    first: Option<Handle>,
    last: Option<Handle>,
    /// Bytes of the value that have no chunk yet.
    to_come: usize,
    /// Bytes that the last chunk still takes.
    room: usize,
}

impl Chain {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { first: None, last: None, to_come: bytes, room: 0 }
    }

    /// The class of the chunk that must be added before more bytes are written; `None` while
    /// the last has room or nothing is to come.
    pub(crate) fn wants(&self) -> Option<Class> {
        (self.room == 0 && self.to_come > 0).then(|| next_class(self.to_come))
    }

    /// Adds the chunk that is wanted.
    pub(crate) fn add_chunk(&mut self, heap: &mut Heap) {
        let class = self.wants().expect("a chunk is wanted");
        let handle = heap.take(class);
        self.room = self.to_come.min(class.slot_bytes() - HEADER_BYTES);
        self.to_come -= self.room;
        Link { next: None, length: 0 }.write(heap, handle);
        heap.words_mut(handle, 2)[HOLDERS] = u64::from(self.first.is_none());
        match self.last {
            Some(last) => {
                Link { next: Some(handle), ..Link::read(heap, last) }.write(heap, last);
            }
            None => self.first = Some(handle),
        }
        self.last = Some(handle);
    }

    /// Writes as many bytes as the last chunk takes and returns how many.
    pub(crate) fn write(&mut self, heap: &mut Heap, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room);
        let Some(last) = self.last else {
            return 0;
        };
        let mut link = Link::read(heap, last);
        let start = HEADER_BYTES + link.length;
        heap.bytes_mut(last, start + count)[start..].copy_from_slice(&bytes[..count]);
        link.length += count;
        link.write(heap, last);
        self.room -= count;
        count
    }

    /// Bytes that may still be written.
    pub(crate) fn bytes_left(&self) -> usize {
        self.to_come + self.room
    }

    /// The first chunk, if there is one yet.
    pub(crate) fn first(&self) -> Option<Handle> {
        self.first
    }
}

/// The pieces of a large value, in order.
#[derive(Clone, Copy)]
pub(crate) struct Chunks<'s> {
    heap: &'s Heap,
    next: Option<Handle>,
    bytes_left: usize,
}

impl<'s> Chunks<'s> {
    pub(crate) fn new(heap: &'s Heap, first: Handle, bytes: usize) -> Self {
        Self { heap, next: Some(first), bytes_left: bytes }
    }

    pub(crate) fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// Leases what is left, from the first chunk on.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let first = self.next?;
        let pin = self.heap.pin(first, HOLDERS);
        Some(Lease { pin, next: self.next, skip: 0, bytes: self.bytes_left })
    }
}

impl<'s> Iterator for Chunks<'s> {
    type Item = &'s [u8];

    fn next(&mut self) -> Option<&'s [u8]> {
        let handle = self.next?;
        let Link { next, length } = Link::read(self.heap, handle);
        self.next = next;
        self.bytes_left -= length;
        Some(&self.heap.bytes(handle, HEADER_BYTES + length)[HEADER_BYTES..])
    }
}

impl std::fmt::Debug for Chunks<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Chunks").field("bytes_left", &self.bytes_left).finish_non_exhaustive()
    }
}

/// A large value that stays where it is and as it is, whatever happens to its entry, until the
/// lease and all pieces taken from it are dropped, on whatever thread. Its bytes are read piece
/// by piece, for instance by a send of the kernel.
pub struct Lease {
    pin: Pin,
    next: Option<Handle>,
    /// Bytes that are passed over before the next piece.
    skip: usize,
    bytes: usize,
}

impl Lease {
    /// Only a range of the bytes that were not taken yet.
    ///
    /// # Panics
    /// There are not as many.
    pub fn narrow(mut self, range: Range<usize>) -> Lease {
        assert!(range.start <= range.end && range.end <= self.bytes);
        self.skip += range.start;
        self.bytes = range.len();
        self
    }

    /// Bytes of the value that were not taken yet.
    pub fn bytes_left(&self) -> usize {
        self.bytes
    }

    /// Takes the next piece, of at most 64 KiB.
    pub fn take(&mut self) -> Option<LeasedPiece> {
        while self.bytes > 0 {
            let start = self.next?.offset();
            // SAFETY: LEASED; this lease holds the chain, and `next` came from it.
            let word = unsafe { self.pin.bytes(start..start + 8) };
            let word = u64::from_ne_bytes(word.try_into().expect("eight bytes"));
            let Link { next, length } = Link::from_word(word);
            self.next = next;
            let skipped = self.skip.min(length);
            self.skip -= skipped;
            let length = (length - skipped).min(self.bytes);
            if length > 0 {
                self.bytes -= length;
                let start = start + HEADER_BYTES + skipped;
                return Some(LeasedPiece { pin: self.pin.clone(), start, length });
            }
        }
        None
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Lease").field("bytes_left", &self.bytes).finish_non_exhaustive()
    }
}

/// A piece of a leased value. The bytes that it gives neither move nor change while it lives,
/// also while the piece itself moves.
pub struct LeasedPiece {
    pin: Pin,
    start: usize,
    length: usize,
}

impl LeasedPiece {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: LEASED; the piece holds the chain, and this is a chunk of it.
        unsafe { self.pin.bytes(self.start..self.start + self.length) }
    }
}

impl std::fmt::Debug for LeasedPiece {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("LeasedPiece").field("length", &self.length).finish_non_exhaustive()
    }
}

/// A list of chains, the first in first out.
#[derive(Default)]
struct Chains {
    first: Option<Handle>,
    last: Option<Handle>,
    count: usize,
}

impl Chains {
    fn push(&mut self, heap: &Heap, chain: Handle) {
        match self.last.replace(chain) {
            // Leases may come off the count in the same word meanwhile.
            Some(last) => {
                let next = chain.units() << HOLDER_BITS;
                heap.counter(last, HOLDERS).fetch_or(next, Ordering::Relaxed);
            }
            None => self.first = Some(chain),
        }
        self.count += 1;
    }

    fn pop(&mut self, heap: &Heap) -> Option<Handle> {
        let chain = self.first?;
        let word = heap.counter(chain, HOLDERS).fetch_and(HOLDER_MASK, Ordering::Relaxed);
        let next = word >> HOLDER_BITS;
        self.first = (next != 0).then(|| Handle::new(next));
        if self.first.is_none() {
            self.last = None;
        }
        self.count -= 1;
        Some(chain)
    }
}

/// Chains that no entry holds any more.
#[derive(Default)]
pub(crate) struct Discarded {
    /// What is left of the chain that is being given back.
    under_way: Option<Handle>,
    /// On their way back.
    chains: Chains,
    /// Still leased.
    leased: Chains,
}

impl Discarded {
    /// Lets a chain go that an entry, or nothing yet, held.
    pub(crate) fn let_go(&mut self, heap: &Heap, first: Handle) {
        heap.counter(first, HOLDERS).fetch_sub(1, Ordering::Relaxed);
        self.put(heap, first);
    }

    fn put(&mut self, heap: &Heap, first: Handle) {
        if is_held(heap, first) {
            self.leased.push(heap, first);
        } else {
            self.chains.push(heap, first);
        }
    }

    /// Whether chains wait for those who read them.
    pub(crate) fn waits_for_leases(&self) -> bool {
        self.leased.count > 0
    }

    /// Gives some chunks back. Returns whether there are more that could be.
    pub(crate) fn give_back(&mut self, heap: &mut Heap) -> bool {
        for _ in 0..SLICE_LEASED.min(self.leased.count) {
            let first = self.leased.pop(heap).expect("counted");
            self.put(heap, first);
        }
        for _ in 0..SLICE_CHUNKS {
            let Some(chunk) = self.under_way.take().or_else(|| self.chains.pop(heap)) else {
                return false;
            };
            let Link { next, .. } = Link::read(heap, chunk);
            heap.give(chunk);
            self.under_way = next;
        }
        self.under_way.is_some() || self.chains.count > 0
    }
}

/// Whether an entry or a lease holds a chain. If not, all its readers are done.
fn is_held(heap: &Heap, first: Handle) -> bool {
    heap.counter(first, HOLDERS).load(Ordering::Acquire) & HOLDER_MASK > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reserve::Backing;

    #[test]
    fn chains_hold_values_of_every_size() {
        let mut heap = Heap::new(64, Backing::PLAIN).expect("address space");
        let mut discarded = Discarded::default();
        for length in [1, 4_080, 4_081, 16_000, 20_000, 65_520, 65_521, 70_000, 1 << 20] {
            let value: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut chain = Chain::new(length);
            let mut rest = &value[..];
            while chain.bytes_left() > 0 {
                if chain.wants().is_some() {
                    chain.add_chunk(&mut heap);
                }
                // Odd pieces, as a network brings them.
                let piece = rest.len().min(1_777);
                let written = chain.write(&mut heap, &rest[..piece]);
                rest = &rest[written..];
            }
            let first = chain.first().expect("some bytes");
            let read: Vec<u8> = Chunks::new(&heap, first, length).flatten().copied().collect();
            assert_eq!(read, value);
            let held = heap.slot_bytes_of(crate::class::Kind::Chunk) as usize;
            assert!(held - length <= length / 8 + 4_096, "{held} for {length}");

            let mut lease = Chunks::new(&heap, first, length).lease().expect("it has bytes");
            discarded.let_go(&heap, first);
            assert!(!discarded.give_back(&mut heap), "a lease holds the chain");
            let pieces: Vec<LeasedPiece> = std::iter::from_fn(|| lease.take()).collect();
            drop(lease);
            assert!(!discarded.give_back(&mut heap), "pieces hold the chain");
            // Another thread may be the last reader.
            let reader = std::thread::spawn(move || {
                pieces.iter().flat_map(LeasedPiece::bytes).copied().collect::<Vec<u8>>()
            });
            assert_eq!(reader.join().expect("it only reads"), value);
            while discarded.give_back(&mut heap) {}
            assert_eq!(heap.slot_bytes_of(crate::class::Kind::Chunk), 0);
        }
        heap.invariants();
    }
}
