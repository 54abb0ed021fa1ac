//! One node of a fleet: its connections, what is known of its health, and what it is owed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use corelane_protocol::{DeleteCondition, Request, ShortEpoch, StandIn, Status};
use corelane_ring::Node as Place;

use crate::backoff;
use crate::chance::Chance;
use crate::clock::LocalTime;
use crate::error::{Disconnect, Error};
use crate::fleet::Fleet;
use crate::fleet::breaker::{Breaker, Change, Sign};
use crate::fleet::deletes::{Deletes, Owed, key_of};
use crate::fleet::throttle::Throttle;
use crate::join::join_all;
use crate::limits::DELETES_AT_ONCE;
use crate::node::Node;
use crate::reply::OwnedReply;
use crate::request::{Asked, Requester};

/// See the module.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name, weight and zone.
    pub(crate) place: Place,
    pub(crate) node: Arc<Node>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    throttle: Throttle,
    deletes: Deletes,
    /// A task probes the node, or pays what it is owed.
    recovering: bool,
}

/// Whether a request may be sent to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Send,
    /// It would be refused; after this time it may not.
    Busy(Duration),
    /// The node is down.
    Down,
}

/// How a node of a fleet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHealth {
    /// Its name.
    pub name: String,
    /// The address that is connected to.
    pub address: String,
    /// It is taken to be down: requests for its keys do not go there.
    pub is_down: bool,
    /// Deletes that failed and will be made again before it is trusted.
    pub deletes_owed: usize,
}

impl Member {
    pub(crate) fn new(place: Place, node: Arc<Node>) -> Arc<Member> {
        let throttle = Throttle::new(node.clock.now());
        let deletes = Deletes::default();
        let state = State { breaker: Breaker::CLOSED, throttle, deletes, recovering: false };
        Arc::new(Member { place, node, state: Mutex::new(state) })
    }

    pub(crate) fn health(&self) -> NodeHealth {
        let state = self.lock();
        NodeHealth {
            name: self.place.name.as_str().to_owned(),
            address: self.place.addresses[0].as_str().to_owned(),
            is_down: state.breaker.is_open(),
            deletes_owed: state.deletes.len(),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.lock().breaker.is_open()
    }

    /// Whether a request may be sent; `deletes` is the key that it deletes. One that deletes a key of a node that is down is
    /// remembered under the same lock, or the node might be trusted in between.
    pub(crate) fn admit(&self, deletes: Option<&[u8]>, now: LocalTime) -> Admission {
        let mut state = self.lock();
        if state.breaker.is_open() {
            if let Some(key) = deletes {
                state.deletes.remember(key);
            }
            return Admission::Down;
        }
        match state.throttle.admit(now, self.node.settings.chance.next()) {
            Ok(()) => Admission::Send,
            Err(retry_after) => Admission::Busy(retry_after),
        }
    }

    /// Takes in what a request that was sent came to.
    pub(crate) fn judge(
        self: &Arc<Member>,
        fleet: &Arc<Fleet>,
        deletes: Option<&[u8]>,
        result: Result<&OwnedReply, &Error>,
    ) {
        let Some(sign) = sign(result) else { return };
        let mut state = self.lock();
        match result {
            Ok(OwnedReply::Busy { retry_after }) => state.throttle.refused(*retry_after),
            // That it is down is the breaker's business.
            Ok(_) | Err(_) => state.throttle.accepted(),
        }
        let opened = state.breaker.record(sign) == Change::Opened;
        let owed = match sign {
            Sign::Failure => deletes,
            Sign::Answer => None,
        };
        if let Some(key) = owed {
            state.deletes.remember(key);
        }
        if opened || owed.is_some() {
            self.recover(fleet, state);
        }
    }

    /// The node could not be reached when the fleet was made.
    pub(crate) fn begin_down(self: &Arc<Member>, fleet: &Arc<Fleet>) {
        let mut state = self.lock();
        state.breaker = Breaker::Open { attempts: 1 };
        self.recover(fleet, state);
    }

    /// The node is owed this from now on.
    pub(crate) fn owe(self: &Arc<Member>, fleet: &Arc<Fleet>, owed: &Owed) {
        let mut state = self.lock();
        state.deletes.take_over(owed);
        self.recover(fleet, state);
    }

    /// All that the node is owed.
    pub(crate) fn owed(&self) -> Vec<Owed> {
        self.lock().deletes.some(usize::MAX)
    }

    /// Starts the task that makes the node trusted again, unless it runs.
    fn recover(self: &Arc<Member>, fleet: &Arc<Fleet>, mut state: MutexGuard<'_, State>) {
        if !std::mem::replace(&mut state.recovering, true) {
            let chance = self.node.settings.chance.clone();
            let (member, fleet) = (Arc::downgrade(self), Arc::downgrade(fleet));
            self.node.runtime.spawn(recover(member, fleet, chance));
        }
    }

    /// Asks one core for a sign of life.
    async fn probe(&self) -> Result<(), NotYet> {
        self.requester().ping_one().await.map_err(|_| NotYet)
    }

    /// Makes the deletes that the node is owed. Where it says that a slot is another's, that one is
    /// owed them.
    async fn pay(self: &Arc<Member>, fleet: &Weak<Fleet>) -> Result<(), NotYet> {
        loop {
            let owed = self.lock().deletes.some(DELETES_AT_ONCE);
            if owed.is_empty() {
                return Ok(());
            }
            let requester = &self.requester();
            let paying = owed.iter().map(|owed| async move {
                let any;
                let request = match owed {
                    Owed::Key(key) => Request::Delete { key, condition: DeleteCondition::Always },
                    Owed::Slot(slot) => {
                        any = key_of(*slot);
                        Request::FlushSlot { key: &any }
                    }
                };
                match requester.one(Asked::write(request)).await {
                    Ok(
                        OwnedReply::Done { .. }
                        | OwnedReply::Failed { status: Status::NotFound, .. },
                    ) => Ok((owed, Payment::Made)),
                    Ok(OwnedReply::Failed { status: Status::Moved, .. }) => {
                        Ok((owed, Payment::OthersDebt))
                    }
                    Ok(_) | Err(_) => Err(NotYet),
                }
            });
            for paid in join_all(paying.collect()).await {
                let (owed, payment) = paid?;
                if payment == Payment::OthersDebt
                    && let Some(fleet) = fleet.upgrade()
                {
                    fleet.pass_on(self, owed).await?;
                }
                self.lock().deletes.paid(owed);
            }
        }
    }

    /// Makes the deletes that the node is owed, and tries again until that is done.
    pub(crate) async fn settle(self: &Arc<Member>, fleet: &Arc<Fleet>) {
        let (fleet, mut failures) = (Arc::downgrade(fleet), 0);
        while !self.lock().deletes.is_empty() {
            if self.probe().await.is_err() || self.pay(&fleet).await.is_err() {
                failures += 1;
                let random = self.node.settings.chance.next();
                tokio::time::sleep(backoff::delay(failures, random)).await;
            }
        }
    }

    /// Ends the recovery, unless more came to be owed.
    fn trust(&self) -> Trust {
        let mut state = self.lock();
        if !state.deletes.is_empty() {
            return Trust::OwesMore;
        }
        state.breaker.probe_answered();
        state.recovering = false;
        Trust::Regained
    }

    fn requester(&self) -> Requester {
        let (node, timeout) = (Arc::clone(&self.node), self.node.settings.timeout);
        // Not routed by any topology: it is this node that is owed.
        Requester { node, timeout, epoch: ShortEpoch::default(), stand_in: StandIn::No }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Trust {
    Regained,
    OwesMore,
}

/// What became of something that a node is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payment {
    Made,
    /// It is another's slot.
    OthersDebt,
}

/// The node was not reached, or does not take what it is owed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotYet;

/// Probes a node that is down, with growing and jittered waits, and pays what it is owed
/// before anything else is sent to it. Ends when that is done, or the fleet has dropped the node.
async fn recover(member: Weak<Member>, fleet: Weak<Fleet>, chance: Chance) {
    let mut failures = 0;
    loop {
        tokio::time::sleep(backoff::delay(failures + 1, chance.next())).await;
        let Some(member) = member.upgrade() else { return };
        let done = async {
            if member.is_down() {
                member.probe().await?;
            }
            member.pay(&fleet).await
        };
        match done.await {
            Ok(()) => {
                if let Trust::Regained = member.trust() {
                    return;
                }
                failures = 0;
            }
            Err(NotYet) => {
                member.lock().breaker.probe_failed();
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// What a result says of the node; nothing where the request never left.
fn sign(result: Result<&OwnedReply, &Error>) -> Option<Sign> {
    match result {
        Ok(OwnedReply::Failed { status: Status::GoingAway, .. }) => Some(Sign::Failure),
        Ok(_) => Some(Sign::Answer),
        Err(Error::Disconnected { reason: Disconnect::Stopped, .. }) => None,
        Err(Error::Timeout { .. } | Error::Disconnected { .. } | Error::Unreachable(_)) => {
            Some(Sign::Failure)
        }
        Err(_) => None,
    }
}
