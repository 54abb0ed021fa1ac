//! One request from route to answer: finds the lane, waits for a connection and for room,
//! sends, waits for the answer, and sends reads once more where that cannot do harm.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::limits::{MULTI_GET_BYTES_MAX, MULTI_GET_KEYS_MAX};
use corelane_protocol::{
    Answer, DeleteCondition, Keys, Request, Set, ShortEpoch, StandIn, Status, WantVersion,
};
use corelane_ring::slot_of;

use crate::clock::LocalTime;
use crate::connection::{SubmitError, Ticket};
use crate::error::{Error, Executed};
use crate::join::join_all;
use crate::limits::REQUEST_OVERHEAD_BYTES;
use crate::machine::Call;
use crate::node::{Layout, Node};
use crate::pending::{Expected, Outcome};
use crate::reply::OwnedReply;

/// Sends requests to one node, with a time limit for each.
#[derive(Clone, Debug)]
pub(crate) struct Requester {
    pub(crate) node: Arc<Node>,
    pub(crate) timeout: Duration,
    /// The topology that requests are routed by.
    pub(crate) epoch: ShortEpoch,
    /// Whether the node stands in for the owner of the keys.
    pub(crate) stand_in: StandIn,
}

/// A request and what it may be answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) expected: Expected,
    pub(crate) want_version: WantVersion,
    pub(crate) effect: Effect,
}

impl<'a> Asked<'a> {
    /// A read.
    pub(crate) fn read(request: Request<'a>, expected: Expected) -> Asked<'a> {
        Asked { request, expected, want_version: WantVersion::No, effect: Effect::Read }
    }

    /// A write that is answered by little more than that it is done.
    pub(crate) fn write(request: Request<'a>) -> Asked<'a> {
        let (expected, want_version) = (Expected::Done, WantVersion::No);
        Asked { request, expected, want_version, effect: Effect::Write }
    }
}

/// Whether executing a request twice, or later than others, can do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Write,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// To the core that owns this key.
    Key(&'a [u8]),
    /// To the core at the end of this lane; the first if there are no longer so many.
    Lane(usize),
}

impl Requester {
    /// Sends a request that has one reply.
    pub(crate) async fn one(&self, asked: Asked<'_>) -> Result<OwnedReply, Error> {
        let route = asked.request.key().map_or(Route::Lane(0), Route::Key);
        match self.outcome(asked, route, self.deadline()).await? {
            Outcome::One(result) => result,
            Outcome::Series { .. } => unreachable!("{:?} is no series", asked.expected),
        }
    }

    /// Sends a request that has several replies, of which none may be missing.
    pub(crate) async fn series(
        &self,
        asked: Asked<'_>,
        route: Route<'_>,
    ) -> Result<Vec<OwnedReply>, Error> {
        match self.outcome(asked, route, self.deadline()).await? {
            Outcome::Series { parts, end } => {
                end?;
                Ok(parts.into_iter().flatten().collect())
            }
            Outcome::One(_) => unreachable!("{:?} is a series", asked.expected),
        }
    }

    /// Sends a request that has one reply, and gives what to wait for.
    pub(crate) async fn start(&self, asked: Asked<'_>) -> Result<Ticket, Error> {
        let route = asked.request.key().map_or(Route::Lane(0), Route::Key);
        self.node.retries.pay_in();
        let ticket = self.send(asked, Answer::Always, route, self.deadline()).await?;
        Ok(ticket.expect("an answer was asked for"))
    }

    /// Sends a request that is not answered.
    pub(crate) async fn unanswered(&self, asked: Asked<'_>) -> Result<(), Error> {
        let route = asked.request.key().map_or(Route::Lane(0), Route::Key);
        let ticket = self.send(asked, Answer::Never, route, self.deadline()).await?;
        debug_assert!(ticket.is_none(), "no answer was asked for");
        Ok(())
    }

    /// The replies to gets of many keys, in the order of the keys.
    pub(crate) async fn many(&self, keys: &[&[u8]]) -> Vec<Result<OwnedReply, Error>> {
        let deadline = self.deadline();
        let layout = self.node.layout();
        let mut results: Vec<Option<Result<OwnedReply, Error>>> =
            keys.iter().map(|key| check_key(key, &layout).err().map(Err)).collect();
        let batches = batches(keys, &layout, |index| results[index].is_none());
        let answers = batches.iter().map(|batch| self.batch(batch, keys, deadline)).collect();
        for (batch, answers) in batches.iter().zip(join_all(answers).await) {
            for (index, answer) in batch.iter().zip(answers) {
                results[*index] = Some(answer);
            }
        }
        results.into_iter().map(|result| result.expect("every key is in a batch")).collect()
    }

    /// One multi-get: the replies to these keys, in their order.
    async fn batch(
        &self,
        batch: &[usize],
        keys: &[&[u8]],
        deadline: LocalTime,
    ) -> Vec<Result<OwnedReply, Error>> {
        let mut buffer = Vec::new();
        let encoded = Keys::encode(batch.iter().map(|index| keys[*index]), &mut buffer)
            .expect("a batch keeps the limits of a multi-get");
        let asked = Asked {
            request: Request::MultiGet(encoded),
            expected: Expected::Values { keys: encoded.count() },
            want_version: WantVersion::No,
            effect: Effect::Read,
        };
        let route = Route::Key(keys[batch[0]]);
        let (parts, end) = match self.outcome(asked, route, deadline).await {
            Ok(Outcome::Series { parts, end }) => (parts, end),
            Ok(Outcome::One(_)) => unreachable!("a multi-get is a series"),
            Err(error) => (Vec::new(), Err(error)),
        };
        let mut parts = parts.into_iter();
        let answer = |_| match (parts.next().flatten(), &end) {
            (Some(reply), _) => Ok(reply),
            (None, Err(error)) => Err(error.clone()),
            (None, Ok(())) => unreachable!("a series that ended well is complete"),
        };
        batch.iter().map(answer).collect()
    }

    /// Pings the first core.
    pub(crate) async fn ping_one(&self) -> Result<(), Error> {
        self.ping_lane(0, self.deadline()).await.map(drop)
    }

    /// Pings every core.
    pub(crate) async fn ping(&self) -> Result<Duration, Error> {
        let deadline = self.deadline();
        let lanes = 0..self.node.layout().lanes();
        let pings = lanes.map(|lane| self.ping_lane(lane, deadline));
        let mut slowest = Duration::ZERO;
        for took in join_all(pings.collect()).await {
            slowest = slowest.max(took?);
        }
        Ok(slowest)
    }

    async fn ping_lane(&self, lane: usize, deadline: LocalTime) -> Result<Duration, Error> {
        let asked = Asked {
            request: Request::Ping,
            expected: Expected::Pong,
            want_version: WantVersion::No,
            effect: Effect::Read,
        };
        let sent = self.node.clock.now();
        match self.outcome(asked, Route::Lane(lane), deadline).await? {
            Outcome::One(Ok(OwnedReply::Pong { .. })) => Ok(self.node.clock.now().since(sent)),
            Outcome::One(Ok(other)) => Err(other.into_error()),
            Outcome::One(Err(error)) => Err(error),
            Outcome::Series { .. } => unreachable!("a ping is no series"),
        }
    }

    /// Sends a request and waits for its answer. A read that certainly was not executed
    /// because its connection broke is sent once more.
    async fn outcome(
        &self,
        asked: Asked<'_>,
        route: Route<'_>,
        deadline: LocalTime,
    ) -> Result<Outcome, Error> {
        self.node.retries.pay_in();
        let outcome = self.once(asked, route, deadline).await?;
        let again = asked.effect == Effect::Read
            && is_worth_repeating(&outcome)
            && self.node.retries.take();
        if again { self.once(asked, route, deadline).await } else { Ok(outcome) }
    }

    async fn once(
        &self,
        asked: Asked<'_>,
        route: Route<'_>,
        deadline: LocalTime,
    ) -> Result<Outcome, Error> {
        let ticket = self.send(asked, Answer::Always, route, deadline).await?;
        Ok(ticket.expect("an answer was asked for").await)
    }

    /// Sends a request on the first connection that takes it.
    async fn send(
        &self,
        asked: Asked<'_>,
        answer: Answer,
        route: Route<'_>,
        deadline: LocalTime,
    ) -> Result<Option<Ticket>, Error> {
        loop {
            let layout = self.node.layout();
            let weight = checked_weight(&asked.request, &layout)?;
            let call = Call {
                request: asked.request,
                expected: asked.expected,
                answer,
                want_version: asked.want_version,
                epoch: self.epoch,
                stand_in: self.stand_in,
                deadline,
                weight,
            };
            let index = match route {
                Route::Key(key) => layout.lane_of(slot_of(key)),
                Route::Lane(lane) => lane,
            };
            let lane = layout.lane(index).or(layout.lane(0)).expect("a node has a core");
            let connection = lane.ready(&self.node, deadline, self.node.settings.when_down).await?;
            match connection.submit(&call).await {
                Ok(ticket) => return Ok(ticket),
                Err(SubmitError::Failed(error)) => return Err(error),
                // Nothing of it was sent, so another connection may have it, write or not.
                Err(SubmitError::NotOpen) => {
                    let now = self.node.clock.now();
                    lane.lost(&connection, &self.node.settings, now);
                }
            }
        }
    }

    fn deadline(&self) -> LocalTime {
        self.node.clock.now().plus(self.timeout)
    }
}

fn is_worth_repeating(outcome: &Outcome) -> bool {
    let error = match outcome {
        Outcome::One(Err(error)) => error,
        Outcome::One(Ok(OwnedReply::Failed { status: Status::GoingAway, .. })) => return true,
        Outcome::Series { parts, end: Err(error) } if parts.iter().all(Option::is_none) => error,
        Outcome::One(Ok(_)) | Outcome::Series { .. } => return false,
    };
    matches!(error, Error::Disconnected { executed: Executed::No, .. })
}

fn check_key(key: &[u8], layout: &Layout) -> Result<(), Error> {
    match layout.key_bytes_max() {
        limit if key.len() > limit => Err(Error::KeyTooLong { bytes: key.len(), limit }),
        _ => Ok(()),
    }
}

/// What a request counts with against the bytes that may be queued, once its key and value
/// are known to be within the node's limits.
fn checked_weight(request: &Request<'_>, layout: &Layout) -> Result<u32, Error> {
    let key = request.key().unwrap_or_default();
    check_key(key, layout)?;
    let value = match request {
        Request::Set(Set { value, .. }) | Request::Extend { value, .. } => value.len(),
        Request::Delete { condition: DeleteCondition::ValueIs(value), .. } => value.len(),
        _ => 0,
    };
    let limit = layout.value_bytes_max();
    if value > limit {
        return Err(Error::ValueTooLarge { bytes: value, limit });
    }
    let body = match request {
        Request::MultiGet(keys) => keys.encoded().len(),
        _ => key.len() + value,
    };
    // The limits of the protocol are far below 4 GiB.
    Ok((REQUEST_OVERHEAD_BYTES + body) as u32)
}

/// Splits keys by lane, each as many as one multi-get takes; keeps the order within a batch.
fn batches(keys: &[&[u8]], layout: &Layout, wanted: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let mut full = Vec::new();
    let mut open: Vec<(Vec<usize>, usize)> = vec![(Vec::new(), 0); layout.lanes()];
    for (index, key) in keys.iter().enumerate().filter(|(index, _)| wanted(*index)) {
        let (batch, bytes) = &mut open[layout.lane_of(slot_of(key))];
        let key_bytes = 2 + key.len();
        if batch.len() == MULTI_GET_KEYS_MAX || *bytes + key_bytes > MULTI_GET_BYTES_MAX {
            full.push(std::mem::take(batch));
            *bytes = 0;
        }
        batch.push(index);
        *bytes += key_bytes;
    }
    full.extend(open.into_iter().map(|(batch, _)| batch).filter(|batch| !batch.is_empty()));
    full
}
