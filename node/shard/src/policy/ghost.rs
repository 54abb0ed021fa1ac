//! The ghost: fingerprints of entries that left probation unused, 16 bits each, in buckets of
//! eight that forget their oldest. A wrong "yes" (one in eight thousand) costs an entry its
//! probation and nothing else.
//!
//! It grows and shrinks by pages of the arena, one at a time, and keeps most of what it knows:
//! a page's number is as many low bits of the hash as there are pages, less one bit where
//! that page is not there yet (linear hashing, Litwin 1980). For fewer entries than fill one
//! page, only a part of it is used: a ghost that remembers too much lets everything in.

use crate::class::{Class, PAGE_BYTES};
use crate::heap::{Handle, Heap};
use crate::reserve::prefetch;

/// Bytes of a bucket: eight fingerprints.
const BUCKET_BYTES: usize = 16;

const BUCKET_FINGERPRINTS: usize = BUCKET_BYTES / 2;

/// Buckets of a page.
const PAGE_BUCKETS: usize = PAGE_BYTES / BUCKET_BYTES;

/// Entries of the shard to one fingerprint, as a page of the ghost counts them.
const PAGE_ITEMS: u64 = PAGE_BYTES as u64 / 2;

/// Whether pages may be taken for what can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Others do not wait for them.
    Free,
    /// Others do.
    Short,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    pages: Vec<Handle>,
    /// Buckets in use in each page, a power of two; all of them from the second page on.
    buckets: usize,
}

impl Ghost {
    /// Adds a page, or takes one away, if the shard's entries want another number of them.
    pub(super) fn resize(&mut self, heap: &mut Heap, items: u64, pages: Pages) {
        let wanted = items.div_ceil(PAGE_ITEMS).max(1) as usize;
        if wanted > 1 || self.pages.len() > 1 {
            self.buckets = PAGE_BUCKETS;
        } else {
            let buckets = (items as usize / BUCKET_FINGERPRINTS).next_power_of_two();
            // Sizes that go to and fro forget nothing.
            if buckets > self.buckets || buckets * 4 <= self.buckets {
                self.buckets = buckets;
            }
        }
        if self.pages.len() < wanted {
            if pages == Pages::Short {
                return;
            }
            let page = heap.take(Class::POLICY);
            heap.bytes_mut(page, PAGE_BYTES).fill(0);
            self.pages.push(page);
        } else if self.pages.len() > wanted + wanted / 4 + 1
            && let Some(page) = self.pages.pop()
        {
            heap.give(page);
        }
    }

    pub(super) fn insert(&mut self, heap: &mut Heap, hash: u64) {
        if let Some((bucket, fingerprint)) = self.bucket(heap, hash) {
            // The youngest is in the low bits; the oldest falls out at the top.
            let fingerprints = u128::from_le_bytes(*bucket);
            *bucket = (fingerprints << 16 | u128::from(fingerprint)).to_le_bytes();
        }
    }

    /// Whether it remembers a hash. It forgets it then.
    pub(super) fn remove(&mut self, heap: &mut Heap, hash: u64) -> bool {
        let Some((bucket, fingerprint)) = self.bucket(heap, hash) else {
            return false;
        };
        for place in bucket.chunks_exact_mut(2) {
            if place == fingerprint.to_le_bytes() {
                place.fill(0);
                return true;
            }
        }
        false
    }

    fn bucket<'h>(
        &self,
        heap: &'h mut Heap,
        hash: u64,
    ) -> Option<(&'h mut [u8; BUCKET_BYTES], u16)> {
        let (page, start) = self.place(hash)?;
        let fingerprint = (hash >> 32) as u16 | 1;
        let page = heap.bytes_mut(page, PAGE_BYTES);
        let bucket = (&mut page[start..start + BUCKET_BYTES]).try_into();
        Some((bucket.expect("sixteen bytes"), fingerprint))
    }

    pub(super) fn prefetch(&self, heap: &Heap, hash: u64) {
        if let Some((page, start)) = self.place(hash) {
            prefetch(&heap.bytes(page, PAGE_BYTES)[start]);
        }
    }

    /// The page of a hash's bucket and where it begins.
    fn place(&self, hash: u64) -> Option<(Handle, usize)> {
        if self.pages.is_empty() {
            return None;
        }
        // Bits that the index does not look at first.
        let bits = self.pages.len().next_power_of_two();
        let mut number = hash as usize & (bits - 1);
        if number >= self.pages.len() {
            number &= bits / 2 - 1;
        }
        let bucket = (hash >> 20) as usize & (self.buckets - 1);
        Some((self.pages[number], bucket * BUCKET_BYTES))
    }

    pub(super) fn clear(&mut self, heap: &mut Heap) {
        for page in self.pages.drain(..) {
            heap.give(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::reserve::Backing;

    #[test]
    fn recent_hashes_are_known_and_others_are_not() {
        let mut random = StdRng::seed_from_u64(6);
        let mut heap = Heap::new(64, Backing::PLAIN).expect("address space");
        let mut ghost = Ghost::default();
        assert!(!ghost.remove(&mut heap, 1));
        for _ in 0..5 {
            ghost.resize(&mut heap, 5 * PAGE_ITEMS, Pages::Free);
        }
        assert_eq!(ghost.pages.len(), 5);
        let hashes: Vec<u64> = (0..50_000).map(|_| random.random()).collect();
        for hash in &hashes {
            ghost.insert(&mut heap, *hash);
        }
        // A page more: what it covers is forgotten, no more.
        ghost.resize(&mut heap, 6 * PAGE_ITEMS, Pages::Free);
        let known = hashes.iter().filter(|hash| ghost.remove(&mut heap, **hash));
        assert!(known.count() > 40_000);
        let again = hashes.iter().filter(|hash| ghost.remove(&mut heap, **hash));
        assert!(again.count() < 200);
        let strange = (0..50_000).filter(|_| ghost.remove(&mut heap, random.random()));
        assert!(strange.count() < 100);
        for _ in 0..6 {
            ghost.resize(&mut heap, 1, Pages::Short);
        }
        assert!(ghost.pages.len() < 4);
        ghost.clear(&mut heap);
        assert_eq!(heap.pages_in_use(), 0);
    }
}
