//! Looking ahead at the requests that have arrived. One by one, each lookup waits for memory
//! three times, and often a fourth time for what is known of its slot; asked for together, those
//! waits overlap (see the steps of [`corelane_shard::Shard::prefetch_index`]). What was found out
//! about a key on the way is kept until its request's turn, so that nothing is hashed twice.
//!
//! It is the pieces of all connections that are looked at, as far as they have arrived in the same
//! turn: where each connection sends one request and waits for its reply, there is nothing to look
//! ahead at in what one of them has sent.
//!
//! Looking ahead changes nothing: requests are decoded and executed one after the other as if
//! it had not been.

use corelane_dialect::Ahead;
use corelane_protocol::{Space, wire::PlainGet};
use corelane_ring::{CoreMap, Slot, slot_of};
use corelane_shard::{EntryHint, KeyHash, Shard};

use crate::execute::Executor;
use crate::limits::{
    LOOKAHEAD, LOOKAHEAD_ENTRIES, LOOKAHEAD_INDEX, LOOKAHEAD_SECOND_LINES, LOOKAHEAD_VALUES,
};

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
    /// Where it begins.
    pub(crate) at: Place,
    /// Its length, where it stands by itself.
    pub(crate) bytes: usize,
    pub(crate) space: Space,
    pub(crate) key: &'k [u8],
    pub(crate) plain: Plain,
}

/// Where in memory something begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(usize);

impl Place {
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Place {
        Place(bytes.as_ptr().addr())
    }
}

/// What is known of a request before its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    at: Place,
    /// The piece that it came in.
    piece: usize,
    /// Its length, where it stands by itself.
    pub(crate) bytes: usize,
    pub(crate) space: Space,
    pub(crate) plain: Plain,
    pub(crate) owner: Owner,
}

const _: () = assert!(LOOKAHEAD.is_power_of_two());

/// The next requests, in the order in which they will be executed. The pieces in which they
/// arrive are counted; a request is known by its piece and by where it lies, so that nothing
/// that is dealt with in between, or otherwise, is taken for it.
///
/// Each request takes its steps at distances from the one that is executed, so that a few misses
/// are under way at any time, while the core works:
///
/// ```text
/// executed ─ next ── LOOKAHEAD_VALUES ── _SECOND_LINES ── _ENTRIES ── _INDEX ── seen
/// ```
#[derive(Debug)]
pub(crate) struct Lookahead {
    known: [Known; LOOKAHEAD],
    /// Requests before this one were executed. It and the numbers that follow count requests.
    next: usize,
    /// Requests before this one were asked the rest of their entry for; and so on.
    values: usize,
    second_lines: usize,
    entries: usize,
    index: usize,
    /// Requests before this one are known.
    seen: usize,
    /// The piece that is dealt with, or else the next one.
    piece: usize,
    /// The piece up to which requests are known.
    walked: usize,
    /// Where in this piece the last of them ends.
    walked_to: Place,
    /// Whether what follows there is no request with a key, or not all there.
    stuck: bool,
}

impl Default for Lookahead {
    fn default() -> Lookahead {
        let nothing = Known {
            at: Place::default(),
            piece: 0,
            bytes: 0,
            space: Space::default(),
            plain: Plain::No,
            owner: Owner::Core(0),
        };
        Lookahead {
            known: [nothing; LOOKAHEAD],
            next: 0,
            values: 0,
            second_lines: 0,
            entries: 0,
            index: 0,
            seen: 0,
            piece: 0,
            walked: 0,
            walked_to: Place::default(),
            stuck: false,
        }
    }
}

impl Lookahead {
    /// Forgets what it knows.
    pub(crate) fn forget(&mut self) {
        self.next = self.seen;
        self.values = self.seen;
        self.second_lines = self.seen;
        self.entries = self.seen;
        self.index = self.seen;
        self.walk_from(self.piece);
    }

    /// The piece that was dealt with is over.
    #[inline]
    pub(crate) fn end_piece(&mut self) {
        self.piece += 1;
        if self.walked < self.piece {
            self.walk_from(self.piece);
        }
    }

    #[inline]
    fn walk_from(&mut self, piece: usize) {
        self.walked = piece;
        self.walked_to = Place::default();
        self.stuck = false;
    }

    /// Whether more requests are to be looked at, before those that are known run out.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.seen - self.next <= LOOKAHEAD / 2
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.seen - self.next == LOOKAHEAD
    }

    /// Whether all that was known was executed.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.seen == self.next
    }

    /// Goes on to look at the pieces to come, the next one first, until nothing more has room.
    #[inline]
    pub(crate) fn look_at_pieces<P>(
        &mut self,
        pieces: impl Iterator<Item = P>,
        mut look: impl FnMut(&mut Lookahead, P),
    ) {
        for piece in pieces.skip(self.walked - self.piece) {
            look(self, piece);
            if self.is_full() {
                break;
            }
            self.walk_from(self.walked + 1);
        }
    }

    /// Begins to deal with the bytes of the next piece, or with others.
    #[inline]
    pub(crate) fn enter(&mut self, bytes: &[u8], space: Space) {
        if self.next(bytes).is_none_or(|known| known.space != space) {
            self.forget();
        }
    }

    /// Ends what [`Lookahead::enter`] began; requests that are left come later, among others.
    #[inline]
    pub(crate) fn leave(&mut self) {
        if !self.is_used_up() && self.known[self.next % LOOKAHEAD].piece == self.piece {
            self.forget();
        }
    }

    /// Where to look on in the piece that is dealt with, of which `rest` is left, if it is time.
    #[inline]
    pub(crate) fn wants_more<'k>(&self, rest: &'k [u8]) -> Option<&'k [u8]> {
        let looks =
            self.walked == self.piece && (self.is_used_up() || (self.is_short() && !self.stuck));
        looks.then(|| self.unwalked(rest))
    }

    /// What was not walked over of a piece.
    #[inline]
    pub(crate) fn unwalked<'k>(&self, bytes: &'k [u8]) -> &'k [u8] {
        let walked = self.walked_to.0.wrapping_sub(Place::of(bytes).0);
        bytes.get(walked..).unwrap_or(bytes)
    }

    /// Looks at the next requests of a piece, as many as there is room for.
    #[inline]
    pub(crate) fn look<'k>(
        &mut self,
        executor: &Executor,
        cores: &CoreMap,
        mut requests: impl Iterator<Item = Coming<'k>>,
    ) {
        let Executor { shard, config, .. } = executor;
        // In this order, or one request too many would be looked for.
        while !self.is_full() {
            let Some(request) = requests.next() else {
                self.stuck = true;
                break;
            };
            let Coming { at, bytes, space, key, plain } = request;
            let slot = slot_of(key);
            shard.prefetch_slot(slot.number());
            let owner = match core_of(cores, slot) {
                Owner::Core(core) if core == config.core => {
                    let hash = shard.key(slot.number(), space.number(), key).hash();
                    Owner::Here(KnownKey { hash, entry: EntryHint::default() })
                }
                other => other,
            };
            self.known[self.seen % LOOKAHEAD] =
                Known { at, piece: self.walked, bytes, space, plain, owner };
            self.walked_to = Place(at.0 + bytes);
            self.seen += 1;
        }
        self.step(shard);
    }

    /// Lets each request take the steps that are due at its distance.
    #[inline]
    fn step(&mut self, shard: &Shard) {
        let (next, seen) = (self.next, self.seen);
        let until = |distance: usize| (next + distance).min(seen);
        for at in self.index..until(LOOKAHEAD_INDEX) {
            self.known[at % LOOKAHEAD].find_line(shard);
            self.index = at + 1;
        }
        for at in self.entries..until(LOOKAHEAD_ENTRIES) {
            self.known[at % LOOKAHEAD].find_entry(shard);
            self.entries = at + 1;
        }
        for at in self.second_lines..until(LOOKAHEAD_SECOND_LINES) {
            self.known[at % LOOKAHEAD].find_entry_still(shard);
            self.second_lines = at + 1;
        }
        for at in self.values..until(LOOKAHEAD_VALUES) {
            self.known[at % LOOKAHEAD].find_value(shard);
            self.values = at + 1;
        }
    }

    /// What is known of the request with which these bytes begin, if it is the next.
    #[inline]
    pub(crate) fn next(&self, rest: &[u8]) -> Option<&Known> {
        let known = &self.known[self.next % LOOKAHEAD];
        let is_it = self.next != self.seen
            && known.at == Place::of(rest)
            && known.piece == self.piece
            && known.bytes <= rest.len();
        is_it.then_some(known)
    }

    /// Goes on to the request after the next.
    #[inline]
    pub(crate) fn advance(&mut self, shard: &Shard) {
        self.next += 1;
        if self.seen - self.next < LOOKAHEAD_INDEX {
            return self.step(shard);
        }
        // Each step is as far as it should be: for all of them it is one more request's turn.
        let next = self.next;
        let at = |distance: usize| (next + distance - 1) % LOOKAHEAD;
        self.known[at(LOOKAHEAD_INDEX)].find_line(shard);
        self.known[at(LOOKAHEAD_ENTRIES)].find_entry(shard);
        self.known[at(LOOKAHEAD_SECOND_LINES)].find_entry_still(shard);
        self.known[at(LOOKAHEAD_VALUES)].find_value(shard);
        self.index += 1;
        self.entries += 1;
        self.second_lines += 1;
        self.values += 1;
    }

    /// Goes on past what was known of requests before `rest`, which were taken otherwise.
    #[inline]
    pub(crate) fn pass(&mut self, rest: &[u8], shard: &Shard) {
        while !self.is_used_up()
            && let known = &self.known[self.next % LOOKAHEAD]
            && known.piece == self.piece
            && known.at < Place::of(rest)
        {
            self.advance(shard);
        }
    }

    /// [`Lookahead::next`], and on.
    #[inline]
    pub(crate) fn take(&mut self, rest: &[u8], shard: &Shard) -> Option<Owner> {
        let owner = self.next(rest)?.owner;
        self.advance(shard);
        Some(owner)
    }
}

impl Known {
    #[inline]
    fn find_line(&mut self, shard: &Shard) {
        if let Owner::Here(key) = &mut self.owner {
            key.entry = shard.prefetch_index(&key.hash);
        }
    }

    #[inline]
    fn find_entry(&mut self, shard: &Shard) {
        if let Owner::Here(key) = &mut self.owner {
            key.entry = shard.prefetch_entry(key.entry);
        }
    }

    /// The same for one that was not in the line of the index that was asked for.
    #[inline]
    fn find_entry_still(&mut self, shard: &Shard) {
        if let Owner::Here(key) = &mut self.owner
            && key.entry.is_on_its_way()
        {
            key.entry = shard.prefetch_entry(key.entry);
        }
    }

    #[inline]
    fn find_value(&mut self, shard: &Shard) {
        self.find_entry_still(shard);
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
