//! A walk over the keys of all cores, in steps that hold up none of them: `KEYS` and `FLUSHDB`, and
//! `RANDOMKEY` where a space has few keys. One step is under way at a time; its reply says where
//! the next one begins.

use corelane_dialect::Moment;
use corelane_protocol::{Reply, Request, RequestHead, Status, WalkCursor};

use super::order::{Gathering, World};
use crate::limits::{WALK_ANSWER_BYTES_MAX, WALK_ENTRIES_MAX};

/// What a walk does at each step.
#[derive(Debug)]
enum Errand {
    List {
        count: u32,
        pattern: Option<Box<[u8]>>,
    },
    Flush,
    /// To find one key. The walk begins somewhere, and from the start when it has come to the end.
    Find {
        random: u64,
        began_anew: bool,
    },
}

/// A walk that is under way.
#[derive(Debug)]
pub(crate) struct Walk {
    head: RequestHead,
    errand: Errand,
    next: WalkCursor,
    /// A step is under way, perhaps at another core.
    is_stepping: bool,
    gathering: Gathering,
}

impl Walk {
    /// The walk that begins with a request. Nothing for a request that is no step of one.
    pub(crate) fn new(
        head: RequestHead,
        request: &Request<'_>,
        gathering: Gathering,
    ) -> Option<Walk> {
        let (errand, next) = match *request {
            Request::Scan { cursor, count, pattern } => {
                (Errand::List { count, pattern: pattern.map(Into::into) }, cursor)
            }
            Request::FlushSpace { cursor } => (Errand::Flush, cursor),
            _ => return None,
        };
        Some(Walk { head, errand, next, is_stepping: false, gathering })
    }

    /// The walk to some key of a space that has any.
    pub(crate) fn to_some_key(
        head: RequestHead,
        cores: u16,
        seed: u64,
        gathering: Gathering,
    ) -> Walk {
        // Steps of this constant, 2^64 by the golden ratio, are far from each other (Knuth).
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let core = (random % u64::from(cores)) as u16;
        let place = random >> (64 - WalkCursor::PLACE_BITS);
        let errand = Errand::Find { random, began_anew: false };
        Walk { head, errand, next: WalkCursor::at(core, place), is_stepping: false, gathering }
    }

    /// Whether the next step may be taken.
    pub(crate) fn wants_step(&self) -> bool {
        !self.is_stepping
    }

    /// The next step, which is under way from now on.
    pub(crate) fn step(&mut self) -> (RequestHead, Request<'_>) {
        debug_assert!(self.wants_step());
        self.is_stepping = true;
        let cursor = self.next;
        let request = match &self.errand {
            Errand::List { count, pattern } => {
                Request::Scan { cursor, count: *count, pattern: pattern.as_deref() }
            }
            Errand::Flush => Request::FlushSpace { cursor },
            Errand::Find { .. } => Request::Scan { cursor, count: WALK_ENTRIES_MAX, pattern: None },
        };
        (self.head, request)
    }

    /// Bytes held for the answer.
    pub(crate) fn held_bytes(&self) -> usize {
        self.gathering.held_bytes()
    }

    /// Takes the reply to a step; whether it was the last.
    pub(crate) fn take(&mut self, reply: &Reply<'_>, moment: Moment) -> bool {
        self.is_stepping = false;
        if let (Errand::Find { random, began_anew }, Reply::Keys(page)) = (&mut self.errand, reply)
        {
            let met = page.keys.iter().count();
            if let Some(key) = page.keys.iter().nth(*random as usize % met.max(1)) {
                self.gathering.add(&Reply::Key { key, among: 1 }, moment);
                return true;
            }
            self.next = page.next;
            let is_over = page.next == WalkCursor::default();
            return is_over && std::mem::replace(began_anew, true);
        }
        self.gathering.add(reply, moment);
        match reply {
            Reply::Keys(page) if page.next != WalkCursor::default() => {
                self.next = page.next;
                if self.gathering.held_bytes() <= WALK_ANSWER_BYTES_MAX {
                    return false;
                }
                let message = "the answer is too long; SCAN gives it in pieces";
                let failed = Reply::Failed { status: Status::ValueTooLarge, message };
                self.gathering.add(&failed, moment);
                true
            }
            _ => true,
        }
    }

    /// Appends the answer.
    pub(crate) fn finish(self, world: World<'_>, out: &mut Vec<u8>) {
        self.gathering.finish(world, out);
    }
}
