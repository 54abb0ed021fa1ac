//! The operations of the cache, each one request to the core that owns its key.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::{
    Absent, Count, DeleteCondition, Direction, ExpireCondition, OldValue, Remaining, Request, Set,
    Side, Status, Ttl, WantVersion,
};

use corelane_ring::Topology;

use crate::builder::ClientBuilder;
use crate::error::{ConnectError, Error};
use crate::node::Node;
use crate::options::{
    CoreStats, CountOptions, Counted, DeleteOutcome, ExtendOutcome, GetOptions, SetOptions,
    SetOutcome, TouchOutcome,
};
use crate::pending::Expected;
use crate::reply::{OwnedReply, Value};
use crate::request::{Asked, Effect, Requester, Route};

/// A client of one node. Cloning is cheap; clones share the connections.
///
/// A request is sent when its future is first polled, and to the core that owns its key.
/// Futures may be dropped at any time: what was sent stays sent, and the reply is thrown away.
///
/// Reads that were certainly not executed because a connection broke are sent once more
/// within their deadline. Writes never are; [`Error::executed`] says what is known.
#[derive(Clone, Debug)]
pub struct Client {
    requester: Requester,
}

impl Client {
    /// Connects to the node at `host:port`, `[v6]:port` or `unix:PATH`, with default settings.
    ///
    /// # Errors
    /// See [`ClientBuilder::connect`].
    pub async fn connect(address: impl AsRef<str>) -> Result<Client, ConnectError> {
        Client::builder().address(address).connect().await
    }

    /// Settings to connect with.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    pub(crate) fn new(node: Arc<Node>, timeout: Duration) -> Client {
        Client { requester: Requester { node, timeout } }
    }

    /// The same client with another time limit:
    /// `client.with_timeout(Duration::from_millis(5)).get("key")`.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { requester: Requester { timeout, ..self.requester.clone() } }
    }

    /// The name that the node gave itself when it was last connected to.
    pub fn node_name(&self) -> String {
        self.requester.node.layout().facts.node_name.to_string()
    }

    /// How many cores the node had when it was last connected to.
    pub fn cores(&self) -> u16 {
        self.requester.node.layout().facts.cores
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>, Error> {
        self.get_with(key, &GetOptions::new()).await
    }

    /// The value of a key, if it has one that the options accept.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_with(
        &self,
        key: impl AsRef<[u8]>,
        options: &GetOptions,
    ) -> Result<Option<Value>, Error> {
        let GetOptions { least_version, want_version } = *options;
        let request = Request::Get { key: key.as_ref(), least_version };
        let asked =
            Asked { request, expected: Expected::Value, want_version, effect: Effect::Read };
        value_of(self.requester.one(asked).await?)
    }

    /// The values of several keys: sent to all their cores at once, in the order of the keys.
    /// Each key fails or succeeds by itself; a key may occur more than once.
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Option<Value>, Error>> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        self.requester.many(&keys).await.into_iter().map(|reply| value_of(reply?)).collect()
    }

    /// Stores a value, to expire as the node is configured.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        match self.set_with(key, value, &SetOptions::new()).await? {
            SetOutcome::Stored { .. } => Ok(()),
            // No condition was set, so the node's answer is as good as a refusal.
            SetOutcome::ConditionFailed => Err(refused(Status::ConditionFailed)),
            SetOutcome::NotFound => Err(refused(Status::NotFound)),
        }
    }

    /// Stores a value under a condition, with an expiry, flags, or to learn its version.
    ///
    /// # Errors
    /// See [`Error`]. A condition that does not hold is an outcome, no error.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Result<SetOutcome, Error> {
        let asked = set(key.as_ref(), value.as_ref(), options);
        match self.requester.one(asked).await? {
            OwnedReply::Done { version } => Ok(SetOutcome::Stored { version }),
            OwnedReply::Failed { status: Status::ConditionFailed, .. } => {
                Ok(SetOutcome::ConditionFailed)
            }
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(SetOutcome::NotFound),
            other => Err(other.into_error()),
        }
    }

    /// Sends a value to be stored, and does not learn what came of it.
    ///
    /// # Errors
    /// It was not sent. Success says no more than that it was queued.
    pub async fn set_no_reply(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &SetOptions,
    ) -> Result<(), Error> {
        self.requester.unanswered(set(key.as_ref(), value.as_ref(), options)).await
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<DeleteOutcome, Error> {
        self.delete_if(key, DeleteCondition::Always).await
    }

    /// Removes an entry under a condition.
    ///
    /// # Errors
    /// See [`Error`]. A condition that does not hold is an outcome, no error.
    pub async fn delete_if(
        &self,
        key: impl AsRef<[u8]>,
        condition: DeleteCondition<'_>,
    ) -> Result<DeleteOutcome, Error> {
        let request = Request::Delete { key: key.as_ref(), condition };
        match self.requester.one(write(request, Expected::Done)).await? {
            OwnedReply::Done { .. } => Ok(DeleteOutcome::Deleted),
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(DeleteOutcome::NotFound),
            OwnedReply::Failed { status: Status::ConditionFailed, .. } => {
                Ok(DeleteOutcome::ConditionFailed)
            }
            other => Err(other.into_error()),
        }
    }

    /// Sends a delete, and does not learn what came of it.
    ///
    /// # Errors
    /// It was not sent. Success says no more than that it was queued.
    pub async fn delete_no_reply(&self, key: impl AsRef<[u8]>) -> Result<(), Error> {
        let key = key.as_ref();
        let request = Request::Delete { key, condition: DeleteCondition::Always };
        self.requester.unanswered(write(request, Expected::Done)).await
    }

    /// Gives an entry a new expiry.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Ttl) -> Result<TouchOutcome, Error> {
        let request = Request::Touch { key: key.as_ref(), ttl, condition: ExpireCondition::Always };
        match self.requester.one(write(request, Expected::Done)).await? {
            OwnedReply::Done { .. } => Ok(TouchOutcome::Touched),
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(TouchOutcome::NotFound),
            other => Err(other.into_error()),
        }
    }

    /// Sends a new expiry, and does not learn what came of it.
    ///
    /// # Errors
    /// It was not sent. Success says no more than that it was queued.
    pub async fn touch_no_reply(&self, key: impl AsRef<[u8]>, ttl: Ttl) -> Result<(), Error> {
        let request = Request::Touch { key: key.as_ref(), ttl, condition: ExpireCondition::Always };
        self.requester.unanswered(write(request, Expected::Done)).await
    }

    /// The value of a key, if it has one, and a new expiry for it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_and_touch(
        &self,
        key: impl AsRef<[u8]>,
        ttl: Ttl,
    ) -> Result<Option<Value>, Error> {
        let request = Request::GetAndTouch { key: key.as_ref(), ttl };
        value_of(self.requester.one(write(request, Expected::Value)).await?)
    }

    /// Adds to a number. None: there is no entry, and the options name no initial number.
    ///
    /// # Errors
    /// See [`Error`]; [`Status::NotANumber`] and [`Status::OutOfRange`] among the refusals.
    pub async fn increment(
        &self,
        key: impl AsRef<[u8]>,
        by: u64,
        options: &CountOptions,
    ) -> Result<Option<Counted>, Error> {
        self.count(key.as_ref(), by, Direction::Increment, options).await
    }

    /// Subtracts from a number. None: there is no entry, and the options name no initial number.
    ///
    /// # Errors
    /// See [`Error`]; [`Status::NotANumber`] and [`Status::OutOfRange`] among the refusals.
    pub async fn decrement(
        &self,
        key: impl AsRef<[u8]>,
        by: u64,
        options: &CountOptions,
    ) -> Result<Option<Counted>, Error> {
        self.count(key.as_ref(), by, Direction::Decrement, options).await
    }

    async fn count(
        &self,
        key: &[u8],
        delta: u64,
        direction: Direction,
        options: &CountOptions,
    ) -> Result<Option<Counted>, Error> {
        let CountOptions { arithmetic, initial, ttl, want_version } = *options;
        let request = Request::Count(Count { key, delta, direction, arithmetic, initial, ttl });
        let asked = Asked { want_version, ..write(request, Expected::Number) };
        match self.requester.one(asked).await? {
            OwnedReply::Number { number, version } => Ok(Some(Counted::new(number, version))),
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(None),
            other => Err(other.into_error()),
        }
    }

    /// Adds bytes after the last one of a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<ExtendOutcome, Error> {
        self.extend(key.as_ref(), value.as_ref(), Side::Append).await
    }

    /// Adds bytes before the first one of a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prepend(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<ExtendOutcome, Error> {
        self.extend(key.as_ref(), value.as_ref(), Side::Prepend).await
    }

    async fn extend(&self, key: &[u8], value: &[u8], side: Side) -> Result<ExtendOutcome, Error> {
        let request = Request::Extend { key, value, side, absent: Absent::Miss };
        match self.requester.one(write(request, Expected::Done)).await? {
            OwnedReply::Done { .. } => Ok(ExtendOutcome::Extended),
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(ExtendOutcome::NotFound),
            other => Err(other.into_error()),
        }
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let request = Request::Exists { key: key.as_ref() };
        match self.requester.one(read(request, Expected::Done)).await? {
            OwnedReply::Done { .. } => Ok(true),
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(false),
            other => Err(other.into_error()),
        }
    }

    /// When an entry expires. None: there is no entry.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Option<Remaining>, Error> {
        let request = Request::TtlOf { key: key.as_ref() };
        match self.requester.one(read(request, Expected::Remaining)).await? {
            OwnedReply::Remaining(remaining) => Ok(Some(remaining)),
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(None),
            other => Err(other.into_error()),
        }
    }

    /// Removes everything from the node after a delay, of up to 49 days, in whole milliseconds.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn flush(&self, delay: Duration) -> Result<(), Error> {
        let delay_ms = u32::try_from(delay.as_millis()).map_err(|_| Error::TimeOutOfRange)?;
        let request = Request::Flush { delay_ms };
        match self.requester.one(write(request, Expected::Done)).await? {
            OwnedReply::Done { .. } => Ok(()),
            other => Err(other.into_error()),
        }
    }

    /// The counters of each of the node's cores.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stats(&self) -> Result<Vec<CoreStats>, Error> {
        let asked = read(Request::Stats, Expected::Stats);
        let replies = self.requester.series(asked, Route::Lane(0)).await?;
        let stats = replies.into_iter().map(|reply| match reply {
            OwnedReply::Stats { core, text } => {
                Ok(CoreStats { core, text: String::from_utf8_lossy(&text).into_owned() })
            }
            other => Err(other.into_error()),
        });
        stats.collect()
    }

    /// The table of the cluster that the node is in, if it knows one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn topology(&self) -> Result<Option<Topology>, Error> {
        let asked = read(Request::Topology { held_epoch: 0 }, Expected::Topology);
        match self.requester.one(asked).await? {
            OwnedReply::Topology { table } => Ok(Some(Topology::decode(&table)?)),
            OwnedReply::Done { .. } => Ok(None),
            other => Err(other.into_error()),
        }
    }

    /// Asks every core for a sign of life, and says how long the slowest took.
    ///
    /// # Errors
    /// See [`Error`]; that of the first core that has one.
    pub async fn ping(&self) -> Result<Duration, Error> {
        self.requester.ping().await
    }
}

fn set<'a>(key: &'a [u8], value: &'a [u8], options: &SetOptions) -> Asked<'a> {
    let SetOptions { ttl, condition, user_flags, want_version } = *options;
    let request = Request::Set(Set { key, value, user_flags, ttl, condition, old: OldValue::Omit });
    Asked { want_version, ..write(request, Expected::Done) }
}

fn read(request: Request<'_>, expected: Expected) -> Asked<'_> {
    Asked { request, expected, want_version: WantVersion::No, effect: Effect::Read }
}

fn write(request: Request<'_>, expected: Expected) -> Asked<'_> {
    Asked { request, expected, want_version: WantVersion::No, effect: Effect::Write }
}

fn value_of(reply: OwnedReply) -> Result<Option<Value>, Error> {
    match reply {
        OwnedReply::Value(value) => Ok(Some(value)),
        OwnedReply::Failed { status: Status::NotFound, .. } => Ok(None),
        other => Err(other.into_error()),
    }
}

fn refused(status: Status) -> Error {
    Error::Refused { status, message: "".into() }
}
