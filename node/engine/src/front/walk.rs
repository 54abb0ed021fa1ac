//! A walk over the keys of all cores, in steps that hold up none of them: `KEYS` and `FLUSHDB`.
//! One step is under way at a time; its reply says where the next one begins.

use corelane_dialect::Moment;
use corelane_protocol::{Reply, Request, RequestHead, Status, WalkCursor};

use super::order::{Gathering, World};
use crate::limits::WALK_ANSWER_BYTES_MAX;

/// What a walk does at each step.
#[derive(Debug)]
enum Errand {
    List { count: u32, pattern: Option<Box<[u8]>> },
    Flush,
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
