//! What both drivers do with listening sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Pause after accepting failed for want of descriptors or memory. Long enough that
/// failing costs nothing, short enough that a client's connect does not time out.
const PAUSE: Duration = Duration::from_millis(100);

/// Sets what accepted connections inherit: replies are not held back by Nagle's algorithm.
pub(super) fn prepare(listener: &OwnedFd) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if !socket.local_addr()?.is_unix() {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(())
}

/// When to try to accept again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry(Instant);

impl Retry {
    pub(super) fn after_a_while() -> Self {
        Self(Instant::now() + PAUSE)
    }

    /// The time until then; none when it has come.
    pub(super) fn left(self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Whose failure a failed accept is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcceptFailure {
    /// That connection's, which is gone; the next may be fine (`accept(2)` reports pending
    /// network errors of the new socket).
    OfOneConnection,
    /// No descriptor or memory is to be had, or the listener is broken: the next accept
    /// would fail as well.
    OfTheProcess,
}

impl AcceptFailure {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(
                libc::ECONNABORTED
                | libc::EINTR
                | libc::EAGAIN
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
