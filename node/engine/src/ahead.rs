//! Looking ahead at the requests that have arrived. One by one, each lookup waits for memory
//! three times, and often a fourth time for what is known of its slot; asked for together, those
//! waits overlap (see the steps of [`corelane_shard::Shard::prefetch_index`]). What was found out
//! about a key on the way is kept until its request's turn, so that nothing is hashed twice.
//!
//! Where each connection sends one request and waits for its reply, there is nothing to look ahead
//! at in what one of them has sent, so it is the pieces of all of them that are looked at
//! ([`Arrivals`]), as far as they have arrived in the same turn.
//!
//! Looking ahead changes nothing: requests are decoded and executed one after the other as if
//! it had not been.

use corelane_dialect::Ahead;
use corelane_protocol::{Space, wire::PlainGet};
use corelane_ring::{CoreMap, Slot, slot_of};
use corelane_shard::{EntryHint, KeyHash, Shard};

use crate::execute::Executor;
use crate::limits::{LOOKAHEAD, LOOKAHEAD_VALUES};

/// What was found out about a key of this core.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KnownKey {
    pub(crate) hash: KeyHash,
    pub(crate) entry: EntryHint,
}

/// Where a key's request is executed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    Here(KnownKey),
    /// On another core; while it is found out, also on this one.
    Core(u16),
    /// Not on this node, or not yet.
    Elsewhere(Slot),
}

/// What is known of a request beside its key, so that it need not be decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plain {
    /// Nothing.
    No,
    /// It is a get of nothing but the value, of a native client.
    Get(PlainGet),
    /// It is this, in a dialect.
    Command(Ahead),
}

/// A request that has arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coming<'k> {
    /// Which request, as the caller counts.
    pub(crate) at: usize,
    /// Its length, where it stands by itself.
    pub(crate) bytes: usize,
    pub(crate) space: Space,
    pub(crate) key: &'k [u8],
    pub(crate) plain: Plain,
}

/// What is known of a request before its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Which request, as the caller counts.
    pub(crate) at: usize,
    /// Its length, where it stands by itself.
    pub(crate) bytes: usize,
    pub(crate) space: Space,
    pub(crate) plain: Plain,
    pub(crate) owner: Owner,
}

// Which ones are looked at again is kept in a word.
const _: () = assert!(LOOKAHEAD <= u32::BITS as usize);

/// The keys of the next requests: of those in one run of bytes, or of the only one in each of
/// several.
#[derive(Debug)]
pub(crate) struct Lookahead {
    known: [Known; LOOKAHEAD],
    next: usize,
    count: usize,
}

impl Default for Lookahead {
    fn default() -> Lookahead {
        let space = Space::default();
        let nothing = Known { at: 0, bytes: 0, space, plain: Plain::No, owner: Owner::Core(0) };
        Lookahead { known: [nothing; LOOKAHEAD], next: 0, count: 0 }
    }
}

impl Lookahead {
    /// Whether all that was known has been taken.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.next == self.count
    }

    /// Forgets what it knows, since other requests follow, but what is known of the first.
    #[inline]
    pub(crate) fn restart(&mut self, first: Option<Known>) {
        (self.next, self.count) = (0, 0);
        if let Some(first) = first {
            self.known[0] = first;
            self.count = 1;
        }
    }

    /// Looks at the keys of the next requests.
    #[inline]
    pub(crate) fn look<'k>(
        &mut self,
        executor: &Executor,
        cores: &CoreMap,
        requests: impl Iterator<Item = Coming<'k>>,
    ) {
        self.next = 0;
        let shard = &executor.shard;
        let mut keys = [(Slot::FIRST, [].as_slice()); LOOKAHEAD];
        let mut count = 0;
        // In this order, or one request too many would be looked for.
        for ((known, place), request) in self.known.iter_mut().zip(&mut keys).zip(requests) {
            let Coming { at, bytes, space, key, plain } = request;
            let slot = slot_of(key);
            shard.prefetch_slot(slot.number());
            *place = (slot, key);
            *known = Known { at, bytes, space, plain, owner: core_of(cores, slot) };
            count += 1;
        }
        self.count = count;
        let known = &mut self.known[..count];
        for (known, (slot, key)) in known.iter_mut().zip(&keys) {
            known.owner = known.owner.here(executor, *slot, known.space, key);
        }
        let mut again = 0_u32;
        for (number, known) in known.iter_mut().enumerate() {
            if let Owner::Here(key) = &mut known.owner {
                key.entry = shard.prefetch_entry(key.entry);
                again |= u32::from(key.entry.is_on_its_way()) << number;
            }
        }
        while again != 0 {
            if let Owner::Here(key) = &mut known[again.trailing_zeros() as usize].owner {
                key.entry = shard.prefetch_entry(key.entry);
            }
            again &= again - 1;
        }
        for known in known.iter().take(LOOKAHEAD_VALUES) {
            known.prefetch_value(shard);
        }
    }

    /// What is known of the next request, if it is the one with this number. Requests that were
    /// not looked at may come in between, but none that was is left out.
    #[inline]
    pub(crate) fn next(&self, at: usize) -> Option<&Known> {
        self.known[..self.count].get(self.next).filter(|known| known.at == at)
    }

    /// Goes on to the request after the next.
    #[inline]
    pub(crate) fn advance(&mut self, shard: &Shard) {
        if let Some(later) = self.known[..self.count].get(self.next + LOOKAHEAD_VALUES) {
            later.prefetch_value(shard);
        }
        self.next += 1;
    }

    /// Goes on past what was known of requests before `at`, which were taken otherwise.
    #[inline]
    pub(crate) fn pass(&mut self, at: usize, shard: &Shard) {
        while self.known[..self.count].get(self.next).is_some_and(|known| known.at < at) {
            self.advance(shard);
        }
    }

    /// [`Lookahead::next`], and on.
    #[inline]
    pub(crate) fn take(&mut self, at: usize, shard: &Shard) -> Option<Owner> {
        let owner = self.next(at)?.owner;
        self.advance(shard);
        Some(owner)
    }
}

/// What was found out about pieces that have arrived, while they wait for their turn: where
/// each connection asks for little at a time, requests to look ahead at are those of others.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    ahead: Lookahead,
    /// Counts pieces: the number of the next one.
    next: usize,
}

impl Arrivals {
    /// Looks at the next pieces, in their order: for each, its request if there is but one.
    #[inline]
    pub(crate) fn look<'k>(
        &mut self,
        executor: &Executor,
        cores: &CoreMap,
        pieces: impl Iterator<Item = Option<Coming<'k>>>,
    ) {
        let next = self.next;
        let requests = pieces.enumerate().filter_map(|(number, request)| {
            request.map(|request| Coming { at: next + number, ..request })
        });
        self.ahead.look(executor, cores, requests);
    }

    /// What is known of the next piece.
    #[inline]
    pub(crate) fn take(&mut self, shard: &Shard) -> Option<Known> {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let known = *self.ahead.next(number)?;
        self.ahead.advance(shard);
        Some(Known { at: 0, ..known })
    }

    /// Forgets what it knows: slots or connections may have changed since.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.ahead.restart(None);
    }
}

impl Known {
    #[inline]
    fn prefetch_value(&self, shard: &Shard) {
        if let Owner::Here(key) = &self.owner {
            shard.prefetch_value(key.entry);
        }
    }
}

impl Owner {
    /// The same, where it is this core with what is known of the key, whose memory is asked for.
    #[inline(always)]
    fn here(self, executor: &Executor, slot: Slot, space: Space, key: &[u8]) -> Owner {
        match self {
            Owner::Core(core) if core == executor.config.core => {
                let hash = executor.shard.key(slot.number(), space.number(), key).hash();
                Owner::Here(KnownKey { hash, entry: executor.shard.prefetch_index(&hash) })
            }
            other => other,
        }
    }
}

/// Who executes requests for a key, whose memory is asked for if it is here.
#[inline(always)]
pub(crate) fn owner_of(executor: &Executor, cores: &CoreMap, space: Space, key: &[u8]) -> Owner {
    let slot = slot_of(key);
    core_of(cores, slot).here(executor, slot, space, key)
}

/// The same where the core is known.
pub(crate) fn owner_at(executor: &Executor, core: u16, space: Space, key: &[u8]) -> Owner {
    Owner::Core(core).here(executor, slot_of(key), space, key)
}

/// The core that answers for a slot, be it this one.
#[inline(always)]
fn core_of(cores: &CoreMap, slot: Slot) -> Owner {
    if cores.owns_all() || cores.owns(slot) {
        Owner::Core(cores.core_of(slot).0)
    } else {
        Owner::Elsewhere(slot)
    }
}
