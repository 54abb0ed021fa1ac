//! Large values: chains of chunks, so that no value needs contiguous memory, and each piece
//! can be received, sent and given back by itself.
//!
//! | bytes of a chunk | field |
//! | --- | --- |
//! | 0–7 | handle of the next chunk, 0 at the end |
//! | 8–11 | bytes of the value in this chunk |
//! | 12–15 | in the first chunk: who holds the chain, the entry and leases |
//! | 16–… | the value's bytes |
//!
//! Chunks never move. A chain is given back when its last holder lets go, a few chunks at a
//! time.

use std::collections::VecDeque;

use crate::class::Class;
use crate::heap::{Handle, Heap};

const HEADER_BYTES: usize = 16;

/// Chunks given back in one slice.
const SLICE_CHUNKS: usize = 16;

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
        let header = heap.words_mut(handle, 2);
        header[0] = 0;
        header[1] = u64::from(self.first.is_none()) << 32;
        match self.last {
            Some(last) => heap.words_mut(last, 1)[0] = handle.units(),
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
        let filled = heap.words(last, 2)[1] as u32 as usize;
        let start = HEADER_BYTES + filled;
        heap.bytes_mut(last, start + count)[start..].copy_from_slice(&bytes[..count]);
        heap.words_mut(last, 2)[1] += count as u64;
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
}

impl<'s> Iterator for Chunks<'s> {
    type Item = &'s [u8];

    fn next(&mut self) -> Option<&'s [u8]> {
        let handle = self.next?;
        let header = self.heap.words(handle, 2);
        let length = header[1] as u32 as usize;
        self.next = (header[0] != 0).then(|| Handle::new(header[0]));
        self.bytes_left -= length;
        Some(&self.heap.bytes(handle, HEADER_BYTES + length)[HEADER_BYTES..])
    }
}

impl std::fmt::Debug for Chunks<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Chunks").field("bytes_left", &self.bytes_left).finish_non_exhaustive()
    }
}

/// Adds a holder to a chain.
pub(crate) fn hold(heap: &mut Heap, first: Handle) {
    heap.words_mut(first, 2)[1] += 1 << 32;
}

/// Chains without a holder, on their way back.
#[derive(Default)]
pub(crate) struct Discarded {
    chains: VecDeque<Handle>,
}

impl Discarded {
    /// Takes a holder from a chain; without holders it is discarded.
    pub(crate) fn let_go(&mut self, heap: &mut Heap, first: Handle) {
        let header = heap.words_mut(first, 2);
        header[1] -= 1 << 32;
        if header[1] >> 32 == 0 {
            self.chains.push_back(first);
        }
    }

    /// Gives some chunks back. Returns whether there are more.
    pub(crate) fn give_back(&mut self, heap: &mut Heap) -> bool {
        for _ in 0..SLICE_CHUNKS {
            let Some(chunk) = self.chains.front_mut() else {
                return false;
            };
            let next = heap.words(*chunk, 1)[0];
            heap.give(*chunk);
            if next == 0 {
                self.chains.pop_front();
            } else {
                *chunk = Handle::new(next);
            }
        }
        !self.chains.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HugePages;

    #[test]
    fn chains_hold_values_of_every_size() {
        let mut heap = Heap::new(64, HugePages::Never).expect("address space");
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

            hold(&mut heap, first);
            discarded.let_go(&mut heap, first);
            assert!(!discarded.give_back(&mut heap), "a lease holds the chain");
            let read = Chunks::new(&heap, first, length).flatten();
            assert!(read.eq(&value));
            discarded.let_go(&mut heap, first);
            while discarded.give_back(&mut heap) {}
            assert_eq!(heap.slot_bytes_of(crate::class::Kind::Chunk), 0);
        }
        heap.invariants();
    }
}
