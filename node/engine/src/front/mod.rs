//! Connections that speak a dialect: their bytes to requests, their replies in order.
//!
//! ```text
//! bytes ─ detect ─► native: dispatch
//!               └─► Dialect: session ─► Step ─► route ─► this core: execute ─► render ─► output
//!                                                    └─► another: frames ─► mail ─► replies ─► order
//! ```
//!
//! A dialect is known here and nowhere below: what it asks is executed as any other request,
//! and the reply is rendered by the shape that came with the request. Plain gets and sets of
//! this core are rendered straight from the shard ([`plain`]); every other reply is written as
//! a frame, as those of other cores are, and rendered from that.

mod steps;

mod plain;
mod route;

mod collected;

mod order;
mod replies;

mod everywhere;
mod transaction;
mod walk;

mod clients;
mod facts;

pub use facts::About;
pub(crate) use plain::commands_ahead;

use corelane_dialect::{ClientFacts, Detected, Manner, Moment, Settings, detect, memcached, resp};
use corelane_protocol::{ClientErrand, MonotonicUs, RequestHead};

use self::facts::View;
use self::order::Commands;
use crate::connection::{Connection, ConnectionId, Session};
use crate::dispatch::Dispatcher;

/// What one connection has agreed on in its dialect.
#[derive(Debug)]
enum Speech {
    Resp(resp::Session),
    Memcached(memcached::Session),
}

impl Speech {
    /// Whether the command at the front of the input takes no memory, as far as can be told.
    fn only_reads(&self, input: &[u8]) -> bool {
        match self {
            Speech::Resp(_) => resp::only_reads(input),
            Speech::Memcached(_) => memcached::only_reads(input),
        }
    }

    /// How plain commands are taken, while they are no more than what they say.
    fn manner(&self) -> Option<Manner> {
        match self {
            Speech::Resp(session) => session.manner(),
            Speech::Memcached(session) => session.manner(),
        }
    }
}

/// A connection that speaks a dialect.
#[derive(Debug)]
pub(crate) struct Dialect {
    speech: Speech,
    commands: Commands,
}

impl Dialect {
    /// Whether another command may be taken, as far as replies that are outstanding go.
    pub(crate) fn has_room(&self, held_bytes_max: usize) -> bool {
        self.commands.has_room() && self.commands.held_bytes() < held_bytes_max
    }

    /// Whether every command was answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.commands.is_empty()
    }

    /// How its next command is taken if it is a plain one and may be answered at once.
    #[inline]
    pub(crate) fn manner(&self) -> Option<Manner> {
        if self.commands.is_empty() { self.speech.manner() } else { None }
    }

    /// Appends the connection's line of `CLIENT LIST`.
    pub(crate) fn describe(&self, client: &ClientFacts<'_>, out: &mut Vec<u8>) {
        match &self.speech {
            Speech::Resp(session) => session.describe(client, out),
            Speech::Memcached(_) => resp::describe_client(client, "memcached", out),
        }
    }
}

/// What a client asks of the node beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To change settings.
    Configure {
        /// Which.
        settings: Settings,
        /// Who waits for [`Engine::granted`](crate::Engine::granted).
        asker: Asker,
    },
    /// To end, as SIGTERM asks for it.
    Shutdown,
}

/// A command that waits for what was asked of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// On this core.
    pub core: u16,
    /// Of this connection.
    pub connection: ConnectionId,
    pub(crate) serial: u32,
}

/// What all dialect connections of a core share.
#[derive(Debug)]
pub(crate) struct Desk {
    /// For what a command says at once.
    said: Vec<u8>,
    /// For reply frames that are rendered at once.
    frames: Vec<u8>,
    /// Requests of the connection under way on connections of this core, as frames.
    pub(crate) errands: Vec<u8>,
    /// The settings that the command under way wants changed, and the serial of the answer.
    pub(crate) settings: Option<(Settings, u32)>,
    /// What clients asked of the node.
    pub(crate) wishes: Vec<Wish>,
    pub(crate) wall_clock: WallClock,
}

impl Desk {
    pub(crate) fn new(wall_clock: WallClock) -> Desk {
        Desk {
            said: Vec::new(),
            frames: Vec::new(),
            errands: Vec::new(),
            settings: None,
            wishes: Vec::new(),
            wall_clock,
        }
    }
}

/// The wall clock, as it was told last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    at: MonotonicUs,
    unix_ms: u64,
}

impl WallClock {
    pub(crate) fn new(at: MonotonicUs, unix_ms: u64) -> WallClock {
        WallClock { at, unix_ms }
    }

    /// Milliseconds since 1970.
    fn at(self, now: MonotonicUs) -> u64 {
        self.unix_ms + now.0.saturating_sub(self.at.0) / 1_000
    }
}

/// Whoever keeps the connections of a core.
pub(crate) trait Clients {
    /// Carries out what is asked about them and appends the reply.
    fn run(
        &mut self,
        head: &RequestHead,
        errand: ClientErrand,
        filter: &[u8],
        now: MonotonicUs,
        out: &mut Vec<u8>,
    );
}

/// What a new connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// A native client, or one that is not known yet.
    Native,
    /// One that speaks a dialect, or is refused: it was taken care of.
    Dialect,
    /// More bytes must arrive to tell.
    More,
}

impl Dispatcher {
    /// Finds out what a connection speaks that has sent these bytes and nothing before.
    pub(crate) fn greet(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        now: MonotonicUs,
    ) -> Greeting {
        let dialects = self.executor.config.dialects;
        if !dialects.resp && !dialects.memcached {
            return Greeting::Native;
        }
        let speech = match detect(bytes, dialects) {
            Detected::Native => return Greeting::Native,
            Detected::More => return Greeting::More,
            Detected::Refuse(answer) => {
                self.executor.counters.garbled += 1;
                connection.output.extend_from_slice(answer);
                connection.finish();
                return Greeting::Dialect;
            }
            Detected::Resp => {
                let (facts, most) = (self.view(None, now), self.executor.config.value_bytes_max);
                Speech::Resp(resp::Session::new(most, &facts))
            }
            Detected::Memcached => {
                let (facts, most) = (self.view(None, now), self.executor.config.value_bytes_max);
                Speech::Memcached(memcached::Session::new(most, &facts))
            }
        };
        connection.dialect = Some(Box::new(Dialect { speech, commands: Commands::default() }));
        connection.session = Session::Open;
        Greeting::Dialect
    }

    /// One moment on both clocks.
    pub(crate) fn moment(&self, now: MonotonicUs) -> Moment {
        Moment { now, unix_ms: self.desk.wall_clock.at(now) }
    }

    /// What this node is like, and a connection of it.
    pub(super) fn view<'v>(
        &'v self,
        connection: Option<&'v Connection>,
        now: MonotonicUs,
    ) -> View<'v> {
        View {
            config: &self.executor.config,
            connection,
            now,
            cluster: self.slots.cluster(),
            policy: self.executor.shard.policy(),
        }
    }
}
