//! What is evicted: one short file a policy, over the same parts.
//!
//! A policy names candidates, a few at a time; the shard evicts them one by one as room is
//! needed, and reports each. Policies work on the index's words and do not touch entries.

mod clock;
mod fifo;
mod ghost;
mod hand;
mod lfu;
mod queue;
mod random;
mod s3;
mod ttl;

use self::ghost::Ghost;
pub(crate) use self::ghost::Pages;
use self::hand::Hand;
use self::queue::Queue;
use crate::config::{Algorithm, Among, Policy};
use crate::heap::{Handle, Heap};
use crate::index::word::Word;
use crate::index::{Index, Leaf, Mark};
use crate::reserve::prefetch;
use crate::types::Millis;
use crate::wheel::Wheel;

/// Candidates that are named ahead.
const CANDIDATES_AHEAD: usize = 8;

/// Room for them; a policy that looks at a group at a time may name a few more.
const CANDIDATES_MAX: usize = CANDIDATES_AHEAD + 8;

/// An entry that may go. It may have moved or gone by itself since it was named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: u16,
    /// The leading bits of its hash that the index knows.
    pub(crate) hash: u64,
    pub(crate) handle: Handle,
}

/// What a policy says about an entry that compaction came upon while room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may go now.
    Leave,
    /// It stays, with this word.
    Stay(Word),
}

/// A policy at work. See the module.
pub(crate) struct Evictor {
    policy: Policy,
    hand: Hand,
    /// Entries on probation, the oldest first.
    queue: Queue,
    ghost: Ghost,
    /// How long the entries were in the queue that left it last.
    probation_ms: u64,
    candidates: [Option<Candidate>; CANDIDATES_MAX],
    candidate_count: usize,
    /// Steps of all searches so far; each looks at a line or two of the index.
    steps: u64,
    random: Random,
    fifo: fifo::Stamp,
    /// Whether room was ever needed since the shard was last empty. Until then nothing is
    /// put on probation.
    in_use: bool,
}

/// The parts of the shard that a policy works on.
pub(crate) struct Ground<'a> {
    pub(crate) index: &'a mut Index,
    pub(crate) heap: &'a mut Heap,
    pub(crate) wheel: &'a mut Wheel,
    pub(crate) now: Millis,
}

impl Evictor {
    pub(crate) fn new(policy: Policy, random_seed: u64) -> Self {
        Self {
            policy,
            hand: Hand::default(),
            queue: Queue::default(),
            ghost: Ghost::default(),
            probation_ms: 0,
            candidates: [None; CANDIDATES_MAX],
            candidate_count: 0,
            steps: 0,
            random: Random(random_seed | 1),
            fifo: fifo::Stamp::default(),
            in_use: false,
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// Steps of all searches for candidates so far; one search takes about a thousand at most.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether the policy lets an entry go at all.
    pub(crate) fn may_go(&self, word: Word) -> bool {
        match self.policy {
            Policy::NoEviction => false,
            Policy::Evict { among, .. } => is_among(among, word),
        }
    }

    /// Changes the policy. What counters say under the old one is read by the new one; both
    /// forget soon.
    pub(crate) fn set_policy(&mut self, policy: Policy, heap: &mut Heap) {
        self.policy = policy;
        self.candidate_count = 0;
        // The queue stays: entries know that they are on probation, and `s3` may come back.
        self.ghost.clear(heap);
    }

    /// Forgets everything. The heap drops the memory.
    pub(crate) fn flush(&mut self) {
        self.candidate_count = 0;
        self.queue = Queue::default();
        self.ghost = Ghost::default();
        self.in_use = false;
    }

    /// The word of an entry after a read or an overwrite, where it changes.
    #[inline]
    pub(crate) fn used(&mut self, word: Word) -> Option<Word> {
        match self.policy {
            Policy::Evict { algorithm: Algorithm::Clock | Algorithm::S3, .. } => clock::used(word),
            Policy::Evict { algorithm: Algorithm::Lfu, .. } => lfu::used(word, &mut self.random),
            _ => None,
        }
    }

    /// Asks for the memory that inserting an entry with this hash looks at.
    pub(crate) fn prefetch(&self, heap: &Heap, hash: u64) {
        self.ghost.prefetch(heap, hash);
    }

    /// The word of a new entry. It must be followed by [`Evictor::inserted`].
    pub(crate) fn insert(&mut self, heap: &mut Heap, hash: u64, word: Word) -> Word {
        let Policy::Evict { algorithm, among } = self.policy else {
            return word;
        };
        match algorithm {
            Algorithm::S3 if self.in_use && (among == Among::All || word.expires()) => {
                word.with_probation(!self.ghost.remove(heap, hash))
            }
            Algorithm::Lfu => lfu::insert(word),
            Algorithm::Fifo => self.fifo.insert(word),
            _ => word,
        }
    }

    /// An entry was inserted with this word.
    pub(crate) fn inserted(
        &mut self,
        heap: &mut Heap,
        slot: u16,
        hash: u64,
        word: Word,
        now: Millis,
    ) {
        if word.on_probation() {
            self.queue.push(heap, Mark::new(slot, hash), now);
        }
    }

    /// How often an entry was read, as far as that is counted and not forgotten.
    pub(crate) fn uses(&self, word: Word) -> u8 {
        let Policy::Evict { algorithm, .. } = self.policy else { return 0 };
        match algorithm {
            Algorithm::Clock | Algorithm::S3 => word.counter(),
            Algorithm::Lfu => lfu::uses(word),
            Algorithm::Fifo | Algorithm::Random | Algorithm::Ttl => 0,
        }
    }

    /// See [`ShardStats::probation_ms`](crate::ShardStats::probation_ms).
    pub(crate) fn probation_ms(&self) -> u64 {
        self.probation_ms
    }

    /// See [`ShardStats::hand_round_ms`](crate::ShardStats::hand_round_ms).
    pub(crate) fn hand_round_ms(&self) -> u64 {
        self.hand.round_ms()
    }

    /// An entry was evicted; it may be remembered.
    pub(crate) fn evicted(&mut self, heap: &mut Heap, hash: u64, word: Word) {
        if word.on_probation() {
            self.ghost.insert(heap, hash);
        }
    }

    /// The next entry to evict. `None` where a bounded search found nothing that may go.
    pub(crate) fn candidate(&mut self, ground: &mut Ground<'_>) -> Option<Candidate> {
        let Policy::Evict { algorithm, among } = self.policy else {
            return None;
        };
        if self.candidate_count == 0 {
            self.in_use = true;
            match algorithm {
                Algorithm::Clock => clock::refill(self, ground, among),
                Algorithm::S3 => s3::refill(self, ground, among),
                Algorithm::Lfu => lfu::refill(self, ground, among),
                Algorithm::Fifo => fifo::refill(self, ground, among),
                Algorithm::Random => random::refill(self, ground, among),
                Algorithm::Ttl => ttl::refill(self, ground, among),
            }
            // Entries with an expiry may be too few for a bounded search to meet one; the
            // wheel knows where they are.
            if self.candidate_count == 0 && among == Among::WithExpiry {
                ttl::soonest(self, ground);
            }
            for candidate in self.candidates[..self.candidate_count].iter().flatten() {
                // The next line too: a key may lie across two.
                let bytes = ground.heap.rest_of_page(candidate.handle);
                prefetch(&bytes[0]);
                if let Some(next_line) = bytes.get(64) {
                    prefetch(next_line);
                }
            }
        }
        self.candidate_count = self.candidate_count.checked_sub(1)?;
        self.candidates[self.candidate_count].take()
    }

    /// Whether an entry that is in the way may go. It is as if the policy had come to it.
    pub(crate) fn judge(&self, word: Word) -> Verdict {
        let Policy::Evict { algorithm, among } = self.policy else {
            return Verdict::Stay(word);
        };
        if among == Among::WithExpiry && !word.expires() {
            return Verdict::Stay(word);
        }
        match algorithm {
            Algorithm::Clock | Algorithm::S3 | Algorithm::Lfu => match word.counter() {
                0 => Verdict::Leave,
                counter => Verdict::Stay(word.with_counter(counter - 1)),
            },
            Algorithm::Fifo | Algorithm::Random | Algorithm::Ttl => Verdict::Leave,
        }
    }

    /// Brings the policy's memory to the size that the shard's content wants, a step at a time.
    pub(crate) fn resize(&mut self, heap: &mut Heap, index: &mut Index, pages: Pages) {
        if self.in_use && matches!(self.policy, Policy::Evict { algorithm: Algorithm::S3, .. }) {
            self.ghost.resize(heap, index.items(), pages);
            s3::shorten_queue(self, heap, index);
        }
    }

    /// How many candidates are named ahead: enough that their memory arrives together, few
    /// beside all entries.
    fn wanted(&self, ground: &Ground<'_>) -> usize {
        ((ground.index.items() / 64) as usize).clamp(1, CANDIDATES_AHEAD)
    }

    fn offer(&mut self, leaf: &Leaf, word: Word) {
        self.offer_entry(Candidate {
            slot: leaf.slot,
            hash: leaf.known_hash(word),
            handle: word.handle(),
        });
    }

    fn offer_entry(&mut self, candidate: Candidate) {
        if self.candidate_count < CANDIDATES_MAX {
            self.candidates[self.candidate_count] = Some(candidate);
            self.candidate_count += 1;
        }
    }
}

/// Whether a policy over these entries may evict one.
fn is_among(among: Among, word: Word) -> bool {
    among == Among::All || word.expires()
}

/// Numbers by lot: xorshift64* (Marsaglia 2003, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_are_spread() {
        let mut random = Random(1);
        let mut counts = [0; 16];
        for _ in 0..16_000 {
            counts[(random.next() >> 60) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)));
    }
}
