//! One connection as the engine sees it, and the table of them.

use corelane_dialect::{Addresses, Manner};
use corelane_protocol::{ReplyHead, Status};
use corelane_shard::Millis;

use crate::forward::Remote;
use crate::front::Dialect;
use crate::output::Closing;
use crate::packet::{Leases, Packet};
use crate::receive::Large;

/// Names one connection of one core. The generation tells a connection from an earlier
/// one at the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Place in the tables of the engine and the driver.
    pub index: u32,
    /// Counts how often the place was used.
    pub generation: u32,
}

/// A connection on its way to another core of the node: the bytes it has received, from
/// its hello on. Nothing was answered yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Handover {
    /// The core that its hello named.
    pub to: u16,
    /// Everything received.
    pub received: Vec<u8>,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// Nothing was taken from it yet: a hello may come, and must where a token is needed.
    Fresh,
    /// Requests are served.
    Open,
    /// Its hello named another core; it leaves once its reading has stopped.
    HandingOver {
        /// To this core.
        to: u16,
    },
    /// No more requests are taken; what was taken is still answered, then it closes.
    Finishing,
    /// The world was asked to close it, in this way.
    Closing(Closing),
}

/// A multi-get that stopped between two of its keys because the output was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The first key that was not handled.
    pub(crate) next_part: u16,
    /// The series that its parts belong to, where some went to other cores.
    pub(crate) series: Option<u16>,
}

/// What a request of a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// A frame of the native protocol.
    Frame,
    /// A command of a dialect, which may be a plain one.
    Command(Manner),
}

/// What a connection waits for in the middle of its input. Whoever lets it wait puts it where
/// it is found again; see `waiting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing.
    No,
    /// The shard makes room for its large value, or for whatever takes memory.
    ForRoom,
    /// Its large value wants so many bytes, and others have them.
    ForUploads(usize),
    /// It has had its share of this turn.
    ForTurn,
    /// Its half frame wants so many more bytes, and others have them.
    ForInput(usize),
}

/// Input of a connection that was not dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A half frame, which was promised room for so many bytes.
    Promised(usize),
    /// So many bytes of a half frame that was promised nothing.
    Half(usize),
    /// So many bytes of requests that wait for room for their replies, or for their turn.
    Backlog(usize),
}

impl Kept {
    /// Bytes that it was promised.
    pub(crate) fn promised(self) -> usize {
        match self {
            Kept::Promised(bytes) => bytes,
            Kept::Half(_) | Kept::Backlog(_) => 0,
        }
    }

    /// Bytes that it takes, or may.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Kept::Promised(bytes) | Kept::Half(bytes) | Kept::Backlog(bytes) => bytes,
        }
    }
}

/// Whether the world reads from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It does.
    On,
    /// It was asked not to, until there is room.
    Paused,
    /// It was asked to stop for good and give the connection up.
    Detaching,
}

/// What only sweeps and clients that ask look at: apart, so that connections stay small.
#[derive(Debug)]
pub(crate) struct Background {
    /// Unlike that of any other connection of the node, ever.
    pub(crate) number: u64,
    pub(crate) since: Millis,
    pub(crate) addresses: Addresses,
    /// What the world last said of what its peer has taken.
    pub(crate) taken_by_peer: u64,
}

/// State of one connection. Its buffers are empty, and own no memory, while nothing is
/// under way: ten thousand idle connections cost their entries in this table.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) session: Session,
    pub(crate) reading: Reading,
    /// No more input is taken: the peer has shut its side down, or the node's patience
    /// with it has ended.
    pub(crate) input_over: bool,
    /// It goes on in the next turn: its walk over the keys waits for the next step.
    pub(crate) walks: bool,
    /// It is in the engine's list of connections with something to hand out.
    pub(crate) listed: bool,
    /// Reply bytes given to the world and not yet sent. A send is under way iff not 0.
    pub(crate) sending: usize,
    /// Since when that send is under way; if none is, since when the connection is closing.
    pub(crate) sending_since: Millis,
    /// How much of [`Connection::pending`] is in the core's sum.
    pub(crate) accounted: usize,
    /// Bytes still to be dropped: the rest of a frame that was refused for its size.
    pub(crate) skip: usize,
    /// When a byte last arrived, or the connection came in.
    pub(crate) received_at: Millis,
    /// Since when the front of `input` has been there.
    pub(crate) input_since: Millis,
    /// It was want of room, or of its share of a turn, that left something in `input`.
    pub(crate) backlog: bool,
    /// Bytes received and not yet taken.
    pub(crate) input: Vec<u8>,
    /// Replies not yet given to the world.
    pub(crate) output: Vec<u8>,
    /// Large values that belong into `output`.
    leases: Option<Box<Leases>>,
    /// The large value in whose middle it is.
    pub(crate) large: Option<Box<Large>>,
    /// What it waits for before more is taken from it, besides room for output.
    pub(crate) wait: Wait,
    /// What its input is counted as in the core's sums.
    pub(crate) kept: Kept,
    /// The turn in which bytes of it were last dealt with, and how many were.
    pub(crate) turn: u32,
    pub(crate) turn_bytes: u32,
    pub(crate) resume: Option<Resume>,
    pub(crate) background: Box<Background>,
    /// What it speaks, where that is not the native protocol.
    pub(crate) dialect: Option<Box<Dialect>>,
    /// Requests at other cores; made when the first one is forwarded.
    pub(crate) remote: Option<Box<Remote>>,
}

impl Connection {
    fn new(generation: u32, background: Background) -> Connection {
        let now = background.since;
        Connection {
            generation,
            session: Session::Fresh,
            reading: Reading::On,
            input_over: false,
            walks: false,
            listed: false,
            sending: 0,
            sending_since: now,
            accounted: 0,
            skip: 0,
            received_at: now,
            input_since: now,
            backlog: false,
            input: Vec::new(),
            output: Vec::new(),
            leases: None,
            large: None,
            wait: Wait::No,
            kept: Kept::Half(0),
            turn: 0,
            turn_bytes: 0,
            resume: None,
            background: Box::new(background),
            dialect: None,
            remote: None,
        }
    }

    /// Reply bytes not yet accepted by the kernel.
    pub(crate) fn pending(&self) -> usize {
        self.waiting() + self.sending
    }

    /// Reply bytes not yet given to the world.
    pub(crate) fn waiting(&self) -> usize {
        self.output.len() + self.leases.as_ref().map_or(0, |leases| leases.bytes())
    }

    /// Takes over large values of replies that stand in `output` from `start` on.
    pub(crate) fn add_leases(&mut self, start: usize, leases: &mut Leases) {
        if leases.bytes() > 0 {
            self.leases.get_or_insert_default().append(start, leases);
        }
    }

    /// The next packet to send.
    pub(crate) fn packet(&mut self) -> Packet {
        let Some(leases) = &mut self.leases else {
            return Packet::from(std::mem::take(&mut self.output));
        };
        let packet = leases.packet(&mut self.output);
        if leases.bytes() == 0 {
            self.leases = None;
        }
        packet
    }

    /// Drops all replies that were not yet given to the world.
    pub(crate) fn drop_output(&mut self) {
        self.output = Vec::new();
        self.leases = None;
    }

    /// Whether requests of it are at other cores, or on their way there.
    pub(crate) fn has_remote(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.is_busy())
    }

    /// Whether everything taken was answered and sent.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pending() == 0
            && !self.has_remote()
            && self.dialect.as_ref().is_none_or(|dialect| dialect.is_quiet())
    }

    /// Whether requests may still be taken from it.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.session, Session::Fresh | Session::Open)
    }

    /// What arrives next begins with, where it is taken at once.
    #[inline]
    pub(crate) fn expected(&self) -> Option<Expected> {
        if self.session != Session::Open || self.is_mid_frame() || self.wait != Wait::No {
            return None;
        }
        match &self.dialect {
            None => Some(Expected::Frame),
            Some(dialect) => dialect.manner().map(Expected::Command),
        }
    }

    /// Whether the world was asked to close it.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.session, Session::Closing(_))
    }

    /// Whether bytes that were not taken are worth keeping.
    pub(crate) fn keeps_input(&self) -> bool {
        self.is_served() || matches!(self.session, Session::HandingOver { .. })
    }

    /// Whether there is anything to hand out.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.waiting() > 0 || self.remote.is_some()
    }

    /// Bytes to come of the large value in whose middle it is.
    pub(crate) fn large_left(&self) -> usize {
        self.large.as_ref().map_or(0, |large| large.left())
    }

    /// Whether a part of a frame has come and the rest has not, or was not taken.
    pub(crate) fn is_mid_frame(&self) -> bool {
        !self.input.is_empty() || self.skip > 0 || self.large.is_some()
    }

    /// Whether it holds anything that [`Connection::is_mid_frame`] tells of.
    pub(crate) fn holds_input(&self) -> bool {
        self.large.is_some() || self.kept.bytes() > 0
    }

    /// Ends the connection with a last reply that says why.
    pub(crate) fn refuse(&mut self, head: ReplyHead, status: Status, message: &str) {
        crate::execute::write_failure(&mut self.output, head, status, message);
        self.finish();
    }

    /// Ends the connection for a reason that only the native protocol can tell.
    pub(crate) fn end(&mut self, head: ReplyHead, status: Status, message: &str) {
        match self.dialect {
            None => self.refuse(head, status, message),
            Some(_) => self.finish(),
        }
    }

    /// Takes no more requests.
    pub(crate) fn finish(&mut self) {
        self.session = Session::Finishing;
        self.input = Vec::new();
        self.resume = None;
    }
}

/// The connections of a core by index.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
enum Slot {
    /// Taken.
    Open(Connection),
    /// Free; the generation that the next connection here gets.
    Free(u32),
}

impl Connections {
    /// Takes address space for so many at once, which is touched only as it is used: a table
    /// that grew would be copied in one turn, and leave what it had behind.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.slots.reserve_exact(count);
    }

    pub(crate) fn insert(&mut self, background: Background) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free(0));
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let Slot::Free(generation) = *slot else { unreachable!("a free index was taken") };
        *slot = Slot::Open(Connection::new(generation, background));
        ConnectionId { index, generation }
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get_mut(id)?;
        let slot = &mut self.slots[id.index as usize];
        let free = Slot::Free(id.generation.wrapping_add(1));
        let Slot::Open(connection) = std::mem::replace(slot, free) else { unreachable!() };
        self.free.push(id.index);
        Some(connection)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        match self.slots.get_mut(id.index as usize)? {
            Slot::Open(connection) if connection.generation == id.generation => Some(connection),
            _ => None,
        }
    }

    /// How many places there are, taken or free.
    pub(crate) fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The connection at an index, if there is one.
    pub(crate) fn at(&self, index: u32) -> Option<ConnectionId> {
        match self.slots.get(index as usize)? {
            Slot::Open(connection) => {
                Some(ConnectionId { index, generation: connection.generation })
            }
            Slot::Free(_) => None,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_index_has_a_new_generation() {
        let mut connections = Connections::default();
        let background = || Background {
            number: 1,
            since: Millis(0),
            addresses: Addresses::default(),
            taken_by_peer: 0,
        };
        let first = connections.insert(background());
        assert!(connections.remove(first).is_some());
        let second = connections.insert(background());
        assert_eq!(first.index, second.index);
        assert_ne!(first, second);
        assert!(connections.get_mut(first).is_none());
        assert!(connections.remove(first).is_none());
        assert_eq!((connections.count(), connections.places()), (1, 1));
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 200, "{}", size_of::<Connection>());
    }
}
