//! Listening sockets, as both drivers have them. The kernel tells that a connection waits; the
//! connections themselves are accepted by calls of our own, a few a turn, so that a flood of
//! new ones cannot starve those that are there.
//!
//! ```text
//! Waiting ──the kernel tells──► Possible ──no descriptors──► Paused
//!    ▲                           │  ▲                          │
//!    └──── nobody waits ─────────┘  └───── after a while ──────┘
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Event, Wait};

/// Connections that a driver accepts in one turn, over all listeners. With what the engine
/// does for each, sixteen cost a turn about a fifth of a millisecond.
pub(super) const ACCEPTS_A_TURN: usize = 16;

/// Most connections that are accepted when listening ends: as many as a listener's queue may
/// hold, see `BACKLOG` in `listeners.rs`.
const ACCEPTS_AT_THE_END: usize = 4_096;

/// Pause after accepting failed for want of descriptors or memory. Long enough that
/// failing costs nothing, short enough that a client's connect does not time out.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Default)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// Those that may have a connection, in the order of their turns.
    possible: VecDeque<usize>,
}

struct Listener {
    /// None once it is closed.
    socket: Option<OwnedFd>,
    accepting: Accepting,
    /// Whether the last attempt failed.
    failing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    /// The kernel will tell of connections.
    Waiting,
    /// There may be more connections: it is in line.
    Possible,
    Paused(Retry),
}

impl Listeners {
    /// Adds a socket that is looked at in the next turn; its number.
    pub(super) fn add(&mut self, socket: OwnedFd) -> io::Result<usize> {
        let options = SockRef::from(&socket);
        // Accepted connections inherit this: replies are not held back by Nagle's algorithm.
        if !options.local_addr()?.is_unix() {
            options.set_tcp_nodelay(true)?;
        }
        options.set_nonblocking(true)?;
        let index = self.all.len();
        let accepting = Accepting::Possible;
        self.all.push(Listener { socket: Some(socket), accepting, failing: false });
        self.possible.push_back(index);
        Ok(index)
    }

    /// How many there are, closed ones too.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether one is not closed.
    pub(super) fn is_open(&self) -> bool {
        self.all.iter().any(|listener| listener.socket.is_some())
    }

    /// The socket of one, unless it is closed.
    pub(super) fn socket(&self, index: usize) -> Option<BorrowedFd<'_>> {
        Some(self.all.get(index)?.socket.as_ref()?.as_fd())
    }

    /// The kernel tells that one has a connection.
    pub(super) fn notice(&mut self, index: usize) {
        let listener = &mut self.all[index];
        if listener.socket.is_some() && listener.accepting == Accepting::Waiting {
            listener.accepting = Accepting::Possible;
            self.possible.push_back(index);
        }
    }

    /// Accepts what a turn may; `idle` is told of each listener that has no more connections,
    /// so that the kernel can be asked to tell of the next.
    pub(super) fn accept(&mut self, events: &mut Vec<Event>, mut idle: impl FnMut(usize)) {
        for (index, listener) in self.all.iter_mut().enumerate() {
            if let Accepting::Paused(retry) = listener.accepting
                && retry.left().is_none()
            {
                listener.accepting = Accepting::Possible;
                self.possible.push_back(index);
            }
        }
        let mut budget = ACCEPTS_A_TURN;
        while budget > 0
            && let Some(index) = self.possible.pop_front()
        {
            budget -= 1;
            match self.all[index].accept(index, events) {
                Accepting::Possible => self.possible.push_back(index),
                Accepting::Waiting => idle(index),
                Accepting::Paused(_) => {}
            }
        }
    }

    /// How long a turn may wait.
    pub(super) fn patience(&self, wait: Wait) -> Wait {
        if !self.possible.is_empty() {
            return Wait::No;
        }
        self.all.iter().fold(wait, |wait, listener| match listener.accepting {
            Accepting::Paused(retry) => match retry.left() {
                Some(left) => wait.at_most(left),
                None => Wait::No,
            },
            Accepting::Waiting | Accepting::Possible => wait,
        })
    }

    /// Closes one, after accepting the connections that clients have made already: the kernel
    /// would reset them.
    pub(super) fn close(&mut self, index: usize, events: &mut Vec<Event>) {
        let listener = &mut self.all[index];
        if listener.socket.is_some() {
            listener.accepting = Accepting::Possible;
            for _ in 0..ACCEPTS_AT_THE_END {
                if listener.accept(index, events) != Accepting::Possible {
                    break;
                }
            }
        }
        listener.socket = None;
        listener.accepting = Accepting::Waiting;
        self.possible.retain(|it| *it != index);
    }
}

impl Listener {
    /// Makes one attempt.
    fn accept(&mut self, index: usize, events: &mut Vec<Event>) -> Accepting {
        let Some(listener) = &self.socket else { return Accepting::Waiting };
        match accept_one(listener) {
            Ok(socket) => {
                if std::mem::take(&mut self.failing) {
                    events.push(Event::AcceptResumed);
                }
                events.push(Event::Accepted { socket, listener: index });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.accepting = Accepting::Waiting;
            }
            Err(error) => {
                if AcceptFailure::of(&error) == AcceptFailure::OfTheProcess {
                    self.accepting = Accepting::Paused(Retry::after_a_while());
                    if !std::mem::replace(&mut self.failing, true) {
                        events.push(Event::AcceptPaused { error });
                    }
                }
            }
        }
        self.accepting
    }
}

fn accept_one(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let (socket, _) = SockRef::from(listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// When to try to accept again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Retry(Instant);

impl Retry {
    fn after_a_while() -> Self {
        Self(Instant::now() + PAUSE)
    }

    /// The time until then; none when it has come.
    fn left(self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Whose failure a failed accept is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptFailure {
    /// That connection's, which is gone; the next may be fine (`accept(2)` reports pending
    /// network errors of the new socket).
    OfOneConnection,
    /// No descriptor or memory is to be had, or the listener is broken: the next accept
    /// would fail as well.
    OfTheProcess,
}

impl AcceptFailure {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(
                libc::ECONNABORTED
                | libc::EINTR
                | libc::ECANCELED
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EPERM,
            ) => Self::OfOneConnection,
            _ => Self::OfTheProcess,
        }
    }
}
