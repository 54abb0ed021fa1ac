//! What has arrived on a connection, in order: the rest of a large value, whole frames, and the
//! front of the next large value.

use corelane_protocol::{MonotonicUs, Request};

use crate::ahead::Owner;
use crate::connection::{Connection, Kept, Session, Wait};
use crate::dispatch::{Dispatcher, Progress};
use crate::intake::{Begun, Intake, front_of, is_large, worth_waiting_for};
use crate::limits::{INPUT_BYTES_SMALL, TURN_BYTES, TURN_BYTES_OVERLOADED, UPLOAD_BYTES_A_TURN};
use crate::packet::Leases;

/// A large value in the middle of which a connection is.
#[derive(Debug)]
pub(crate) struct Large {
    way: Way,
    /// Bytes of the command that follow the value, and say nothing that is not known yet.
    after: usize,
}

/// Where a large value goes.
#[derive(Debug)]
enum Way {
    /// For this core.
    Own(Intake),
    /// For another core: what comes is appended to the connection's route to it.
    Forwarded {
        /// To this core.
        to: u16,
        /// Bytes that were not appended yet.
        left: usize,
        /// Bytes of the frame that were.
        appended: usize,
    },
}

impl Way {
    fn left(&self) -> usize {
        match self {
            Way::Own(intake) => intake.left(),
            Way::Forwarded { left, .. } => *left,
        }
    }
}

impl Large {
    /// A value for this core, and so many bytes after it.
    pub(crate) fn own(intake: Intake, after: usize) -> Box<Large> {
        Box::new(Large { way: Way::Own(intake), after })
    }

    /// A value of so many bytes for another core, whose front was appended.
    pub(crate) fn forwarded(to: u16, left: usize, appended: usize, after: usize) -> Box<Large> {
        Box::new(Large { way: Way::Forwarded { to, left, appended }, after })
    }

    /// Bytes that were not taken yet.
    pub(crate) fn left(&self) -> usize {
        self.way.left() + self.after
    }
}

impl Dispatcher {
    /// Whether the world should read from a connection. As long as there are requests that came
    /// before, more would only pile up.
    pub(crate) fn wants_input(&self, connection: &Connection) -> bool {
        connection.wait == Wait::No && !connection.backlog && self.has_room(connection)
    }

    /// Takes from the front of `bytes` for as long as there is room for the effects, and as much
    /// as is one connection's share of a turn.
    pub(crate) fn take(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        now: MonotonicUs,
    ) -> Progress {
        if connection.turn != self.turn {
            connection.turn = self.turn;
            connection.turn_bytes = 0;
        }
        let share = if self.load.is_overloaded() { TURN_BYTES_OVERLOADED } else { TURN_BYTES };
        let left = share.saturating_sub(connection.turn_bytes as usize);
        if bytes.len() <= left {
            let progress = self.take_all(connection, bytes, now);
            connection.turn_bytes += progress.consumed as u32;
            return progress;
        }
        let mut end = left;
        let mut progress = self.take_all(connection, &bytes[..end], now);
        // One request may be longer than a share, and has a turn of its own.
        while progress.consumed == 0
            && connection.turn_bytes == 0
            && end < bytes.len()
            && connection.wait == Wait::No
            && self.has_room(connection)
        {
            end = progress.incomplete.unwrap_or(0).max(2 * end).min(bytes.len());
            progress = self.take_all(connection, &bytes[..end], now);
        }
        connection.turn_bytes += progress.consumed as u32;
        // A refused frame may go on beyond the cut.
        let skipped = connection.skip.min(bytes.len() - progress.consumed);
        connection.skip -= skipped;
        progress.consumed += skipped;
        let rest = bytes.len() - progress.consumed;
        let is_cut = progress.incomplete.is_none_or(|needed| needed <= rest);
        if is_cut && rest > 0 && connection.wait == Wait::No && self.has_room(connection) {
            connection.wait = Wait::ForTurn;
            progress.incomplete = None;
        }
        progress
    }

    /// Takes from the front of `bytes` for as long as there is room for the effects.
    fn take_all(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        now: MonotonicUs,
    ) -> Progress {
        let mut consumed = 0;
        loop {
            if connection.large.is_some() {
                consumed += self.take_large(connection, &bytes[consumed..], now);
                if connection.large.is_some() {
                    return Progress { consumed, incomplete: None };
                }
            }
            let rest = &bytes[consumed..];
            let progress = self.dispatch(connection, rest, now);
            consumed += progress.consumed;
            if connection.large.is_some() {
                continue;
            }
            let rest = &bytes[consumed..];
            match progress.incomplete {
                Some(needed) if is_large(needed) && connection.skip == 0 => {
                    match self.begin_large(connection, rest, needed, now) {
                        Some(front_bytes) => consumed += front_bytes,
                        None => {
                            let incomplete = Some(worth_waiting_for(rest, needed));
                            return Progress { consumed, incomplete };
                        }
                    }
                }
                incomplete => return Progress { consumed, incomplete },
            }
        }
    }

    /// Takes bytes of the large value in whose middle the connection is; how many.
    fn take_large(&mut self, connection: &mut Connection, bytes: &[u8], now: MonotonicUs) -> usize {
        let mut large = connection.large.take().expect("the caller looked");
        let mut taken = match &mut large.way {
            Way::Own(intake) => {
                let there = bytes.len().min(intake.left());
                let taken = if connection.dialect.is_some() {
                    let mut replies = Vec::new();
                    let taken = self.feed(intake, bytes, now, &mut replies);
                    if !replies.is_empty() {
                        self.landed(connection, replies, &mut Leases::default(), now);
                    }
                    taken
                } else {
                    self.feed(intake, bytes, now, &mut connection.output)
                };
                if taken < there {
                    connection.wait = Wait::ForRoom;
                }
                taken
            }
            Way::Forwarded { to, left, appended } => {
                let remote = connection.remote.get_or_insert_default();
                let there = bytes.len().min(*left);
                let taken = if remote.is_full() { 0 } else { there.min(UPLOAD_BYTES_A_TURN) };
                if (1..there).contains(&taken) {
                    connection.wait = Wait::ForTurn;
                }
                *left -= taken;
                remote.queue_large(*to, *left).extend_from_slice(&bytes[..taken]);
                *appended += taken;
                taken
            }
        };
        if large.way.left() == 0 {
            let after = large.after.min(bytes.len() - taken);
            large.after -= after;
            taken += after;
        }
        if large.left() > 0 {
            connection.large = Some(large);
        }
        taken
    }

    /// Begins with a large value, if `bytes` begin with the front of a set that is in order;
    /// how many bytes of it are dealt with.
    fn begin_large(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        needed: usize,
        now: MonotonicUs,
    ) -> Option<usize> {
        let config = &self.executor.config;
        if !self.has_room(connection)
            || (connection.session == Session::Fresh && config.token.is_some())
        {
            return None;
        }
        let front = match front_of(bytes, &self.limits)? {
            Ok(front) => front,
            Err((head, refusal)) => {
                self.reject(connection, &head, refusal);
                let here = needed.min(bytes.len());
                connection.skip = needed - here;
                return Some(here);
            }
        };
        connection.session = Session::Open;
        let mut head = front.head;
        self.slots.put_epoch(&mut head);
        let owner = self.owner_of(front.set.key);
        if let Owner::Core(owner) = self.or_in_place(&head, &Request::Set(front.set), owner) {
            self.executor.counters.forwarded_out += 1;
            let remote = connection.remote.get_or_insert_default();
            let queue = remote.queue_large(owner, front.value_bytes);
            queue.extend_from_slice(&bytes[..front.front_bytes]);
            connection.large =
                Some(Large::forwarded(owner, front.value_bytes, front.front_bytes, 0));
            return Some(front.front_bytes);
        }
        match self.begin_intake(&front, now, &mut connection.output) {
            Begun::Yes(intake) => {
                connection.large = Some(Large::own(intake, 0));
                Some(front.front_bytes)
            }
            Begun::NotAdmitted(bytes) => {
                connection.wait = Wait::ForUploads(bytes);
                None
            }
        }
    }

    /// Counts what a connection's input may grow to with the half frame at its end, of which
    /// so many bytes are worth waiting for. Where that is not to be had, the connection waits.
    pub(crate) fn account_input(&mut self, connection: &mut Connection, needed: Option<usize>) {
        if connection.input.is_empty() && connection.kept == Kept::Half(0) {
            return;
        }
        let before = connection.kept.promised();
        let wanted = match connection.wait {
            Wait::No => needed.filter(|needed| *needed > INPUT_BYTES_SMALL).unwrap_or(0),
            _ => 0,
        };
        if wanted > before && !self.inputs.may_admit(wanted - before) {
            connection.wait = Wait::ForInput(wanted - before);
        }
        let is_half =
            needed.is_some() || matches!(connection.wait, Wait::ForInput(_) | Wait::ForUploads(_));
        let length = connection.input.len();
        self.keep(
            connection,
            match connection.wait {
                Wait::No if wanted > 0 => Kept::Promised(wanted),
                _ if is_half => Kept::Half(length),
                _ => Kept::Backlog(length),
            },
        );
    }

    /// Brings the sums in line with what a connection keeps from now on.
    fn keep(&mut self, connection: &mut Connection, kept: Kept) {
        let before = std::mem::replace(&mut connection.kept, kept);
        self.inputs.change(before.promised(), kept.promised());
        match before {
            Kept::Promised(_) => {}
            Kept::Half(bytes) => self.half_bytes -= bytes,
            Kept::Backlog(bytes) => self.backlog_bytes -= bytes,
        }
        match kept {
            Kept::Promised(_) => {}
            Kept::Half(bytes) => self.half_bytes += bytes,
            Kept::Backlog(bytes) => self.backlog_bytes += bytes,
        }
    }

    /// Whether a connection may keep what it has sent and was not dealt with. A part of a frame
    /// it may if it was promised as much, or as long as all such parts are little together.
    /// Requests behind replies that its client does not take, it may as long as all that wait are,
    /// and its even share always.
    pub(crate) fn may_hold_on(&self, connection: &Connection) -> bool {
        let config = &self.executor.config;
        match connection.kept {
            Kept::Promised(_) | Kept::Half(0) => true,
            Kept::Half(_) => self.half_bytes <= config.input_bytes_total_max,
            Kept::Backlog(bytes) => {
                let bytes_max = config.backlog_bytes_total_max;
                let open = self.executor.counters.connections_open.max(1) as usize;
                let is_stuck = connection.wait == Wait::No
                    && connection.output.len() >= self.output_room(connection);
                !is_stuck || bytes <= bytes_max / open || self.backlog_bytes <= bytes_max
            }
        }
    }

    /// Gives back what a connection holds in the middle of receiving; the core that must be
    /// told to do so too.
    pub(crate) fn drop_input(&mut self, connection: &mut Connection) -> Option<u16> {
        self.keep(connection, Kept::Half(0));
        connection.input = Vec::new();
        match connection.large.take()?.way {
            Way::Own(intake) => {
                self.executor.abandon(intake);
                None
            }
            Way::Forwarded { to, appended, .. } => {
                let remote = connection.remote.as_mut().expect("it was appended there");
                remote.abandon(to, appended).then_some(to)
            }
        }
    }
}
