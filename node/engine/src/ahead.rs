//! Looking ahead at the requests that have arrived. One by one, each lookup waits for memory
//! three times; asked for together, those waits overlap (see the steps of
//! [`corelane_shard::Shard::prefetch_index`]). What was found out about a key on the way is
//! kept until its request's turn, so that nothing is hashed twice.
//!
//! Looking ahead changes nothing: requests are decoded and executed one after the other as if
//! it had not been.

use corelane_ring::{CoreMap, Slot, slot_of};
use corelane_shard::{EntryHint, KeyHash, Shard};

use crate::execute::Executor;
use crate::limits::{LOOKAHEAD, LOOKAHEAD_VALUES};

/// Where a key's request is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Here, under this hash.
    Here(KeyHash),
    /// On another core.
    Core(u16),
    /// Not on this node, or not yet.
    Elsewhere(Slot),
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Which request, as the caller counts.
    at: usize,
    owner: Owner,
    entry: EntryHint,
}

/// The keys of the next requests of one run of bytes.
#[derive(Debug)]
pub(crate) struct Lookahead {
    known: [Known; LOOKAHEAD],
    next: usize,
    count: usize,
}

impl Default for Lookahead {
    fn default() -> Lookahead {
        let nothing = Known { at: 0, owner: Owner::Core(0), entry: EntryHint::default() };
        Lookahead { known: [nothing; LOOKAHEAD], next: 0, count: 0 }
    }
}

impl Lookahead {
    /// Whether all that was known has been taken.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.next == self.count
    }

    /// Forgets what it knows, since other requests follow.
    #[inline]
    pub(crate) fn forget(&mut self) {
        (self.next, self.count) = (0, 0);
    }

    /// Looks at the next keys, each with a number that tells its request from others.
    #[inline]
    pub(crate) fn look<'k>(
        &mut self,
        executor: &Executor,
        cores: &CoreMap,
        keys: impl Iterator<Item = (usize, &'k [u8])>,
    ) {
        self.next = 0;
        self.count = 0;
        let shard = &executor.shard;
        for ((at, key), known) in keys.zip(&mut self.known) {
            let owner = owner_of(executor, cores, key);
            if let Owner::Here(hash) = &owner {
                shard.prefetch_index(hash);
            }
            *known = Known { at, owner, entry: EntryHint::default() };
            self.count += 1;
        }
        let known = &mut self.known[..self.count];
        for known in &mut *known {
            if let Owner::Here(hash) = &known.owner {
                known.entry = shard.prefetch_entry(hash);
            }
        }
        for known in known.iter().take(LOOKAHEAD_VALUES) {
            shard.prefetch_value(known.entry);
        }
    }

    /// What is known of the request with this number. Requests that were not looked at may
    /// come in between, but none that was is left out.
    #[inline]
    pub(crate) fn take(&mut self, at: usize, shard: &Shard) -> Option<Owner> {
        let known = self.known[..self.count].get(self.next)?;
        if known.at != at {
            return None;
        }
        let owner = known.owner;
        if let Some(later) = self.known[..self.count].get(self.next + LOOKAHEAD_VALUES) {
            shard.prefetch_value(later.entry);
        }
        self.next += 1;
        Some(owner)
    }
}

/// Who executes requests for a key.
#[inline]
pub(crate) fn owner_of(executor: &Executor, cores: &CoreMap, key: &[u8]) -> Owner {
    let slot = slot_of(key);
    if !cores.owns_all() && !cores.owns(slot) {
        return Owner::Elsewhere(slot);
    }
    let core = cores.core_of(slot).0;
    if core == executor.config.core {
        Owner::Here(executor.key_in(slot, key).hash())
    } else {
        Owner::Core(core)
    }
}
