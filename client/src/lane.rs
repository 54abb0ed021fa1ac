//! A lane leads to one core of a node: at most one connection at a time, made when somebody
//! needs it, and made again when it broke.
//!
//! ```text
//! down ─ somebody asks, backoff is over ─► connecting ─ welcome ─► up
//!  ▲                                           │                   │
//!  └────────────── failed ─────────────────────┴── broke, drains ──┘
//! ```
//!
//! Connecting is a task of its own: the future of whoever asked first may be dropped without
//! harm to the others who wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corelane_ring::Core;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use crate::backoff;
use crate::clock::LocalTime;
use crate::connection::Connection;
use crate::error::{ConnectError, ConnectFailure, Error, Executed};
use crate::limits::LIFETIME_MIN;
use crate::node::{Node, Settings, WhenDown};

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    core: Core,
    state: Mutex<State>,
    /// Told whenever an attempt to connect has ended.
    settled: Notify,
}

#[derive(Debug)]
enum State {
    Down { failures: u32, backoff: Option<Backoff> },
    Connecting { failures: u32 },
    Up { connection: Arc<Connection>, since: LocalTime, failures: u32 },
}

/// No attempt before this moment, for what happened at the last one.
#[derive(Clone, Debug)]
struct Backoff {
    until: LocalTime,
    error: ConnectError,
}

impl Backoff {
    fn after(failures: u32, error: ConnectError, now: LocalTime, random: u64) -> Backoff {
        Backoff { until: now.plus(backoff::delay(failures, random)), error }
    }
}

/// What somebody who needs a connection has to do.
enum Need {
    Use(Arc<Connection>),
    Wait,
    BackOff(Backoff),
    Connect,
}

impl Lane {
    /// A lane to a core, with no connection yet.
    pub(crate) fn down(core: Core) -> Lane {
        let state = State::Down { failures: 0, backoff: None };
        Lane { core, state: Mutex::new(state), settled: Notify::new() }
    }

    /// The connection, made first if there is none.
    ///
    /// # Errors
    /// [`Error::Timeout`], or what [`Error::from`] makes of the last attempt's failure.
    /// Nothing was sent in either case.
    pub(crate) async fn ready(
        self: &Arc<Lane>,
        node: &Arc<Node>,
        deadline: LocalTime,
        when_down: WhenDown,
    ) -> Result<Arc<Connection>, Error> {
        if let State::Up { connection, .. } = &*self.lock() {
            return Ok(Arc::clone(connection));
        }
        let until = node.clock.instant(deadline);
        match timeout_at(until, self.settle(node, deadline, when_down)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Error::Timeout { executed: Executed::No }),
        }
    }

    async fn settle(
        self: &Arc<Lane>,
        node: &Arc<Node>,
        deadline: LocalTime,
        when_down: WhenDown,
    ) -> Result<Arc<Connection>, Error> {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            // Whatever settles after the state was looked at must be heard of.
            settled.as_mut().enable();
            match self.need(node.clock.now()) {
                Need::Use(connection) => return Ok(connection),
                Need::Wait => settled.await,
                Need::BackOff(Backoff { until, error }) => match when_down {
                    WhenDown::Wait if until < deadline => {
                        tokio::time::sleep_until(node.clock.instant(until)).await;
                    }
                    WhenDown::Wait | WhenDown::FailFast => return Err(error.into()),
                },
                Need::Connect => {
                    let attempt = Attempt {
                        lane: Arc::clone(self),
                        node: Arc::clone(node),
                        result: Err(node.settings.address.error(ConnectFailure::Stopped)),
                    };
                    node.runtime.spawn(attempt.run());
                }
            }
        }
    }

    fn need(&self, now: LocalTime) -> Need {
        let mut state = self.lock();
        match &*state {
            State::Up { connection, .. } => Need::Use(Arc::clone(connection)),
            State::Connecting { .. } => Need::Wait,
            State::Down { backoff: Some(backoff), .. } if now < backoff.until => {
                Need::BackOff(backoff.clone())
            }
            State::Down { failures, .. } => {
                *state = State::Connecting { failures: *failures };
                Need::Connect
            }
        }
    }

    /// This connection takes no requests any more. One that broke soon after it was made
    /// counts as a failed attempt, or a node that welcomes and then fails would be stormed.
    pub(crate) fn lost(&self, lost: &Arc<Connection>, settings: &Settings, now: LocalTime) {
        let mut state = self.lock();
        if let State::Up { connection, since, failures } = &*state
            && Arc::ptr_eq(connection, lost)
        {
            *state = if now.since(*since) < LIFETIME_MIN {
                let failures = failures.saturating_add(1);
                let error = settings.address.error(ConnectFailure::ShortLived);
                let backoff = Backoff::after(failures, error, now, settings.chance.next());
                State::Down { failures, backoff: Some(backoff) }
            } else {
                State::Down { failures: 0, backoff: None }
            };
        }
    }

    /// Ends an attempt to connect.
    fn settled_as(
        &self,
        result: Result<Arc<Connection>, ConnectError>,
        now: LocalTime,
        random: u64,
    ) {
        let mut state = self.lock();
        let State::Connecting { failures } = *state else {
            unreachable!("one attempt is made at a time, and only it settles the lane")
        };
        *state = match result {
            Ok(connection) => State::Up { connection, since: now, failures },
            Err(error) => {
                let failures = failures.saturating_add(1);
                State::Down {
                    failures,
                    backoff: Some(Backoff::after(failures, error, now, random)),
                }
            }
        };
        drop(state);
        self.settled.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let State::Up { connection, .. } = &*self.lock() {
            connection.close();
        }
    }
}

/// One attempt to connect. However it ends, also when the runtime drops it, the lane is
/// settled.
struct Attempt {
    lane: Arc<Lane>,
    node: Arc<Node>,
    result: Result<Arc<Connection>, ConnectError>,
}

impl Attempt {
    async fn run(mut self) {
        self.result = self.node.open(self.lane.core).await;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let (now, random) = (self.node.clock.now(), self.node.settings.chance.next());
        self.lane.settled_as(self.result.clone(), now, random);
    }
}
