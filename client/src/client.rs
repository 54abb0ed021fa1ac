//! The operations of the cache, each one request to the core that owns its key.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::{
    Absent, Count, DeleteCondition, Direction, ExpireCondition, OldValue, Remaining, Request, Set,
    Side, Status, Ttl, WantVersion,
};
use corelane_ring::slot_of;

use corelane_ring::Topology;

use crate::builder::ClientBuilder;
use crate::error::{ConnectError, DeletesOwed, Error};
use crate::fleet::Fleet;
use crate::fleet::member::NodeHealth;
use crate::fleet::spec::{self, IntoNodes, NodesError};
use crate::join::join_all;
use crate::node::Layout;
use crate::options::{
    CoreStats, CountOptions, Counted, DeleteOutcome, ExtendOutcome, GetOptions, SetOptions,
    SetOutcome, TouchOutcome,
};
use crate::pending::Expected;
use crate::reply::{OwnedReply, Value};
use crate::request::{Asked, Effect, Requester};
use crate::router::{FIRST_LANE, Router};

/// A client of a node, or of several that it sees as one cache. Cloning is cheap; clones share
/// the connections.
///
/// A request is sent when its future is first polled, straight to the core that owns its key on
/// the node that owns its slot. Futures may be dropped at any time: what was sent stays sent, and
/// the reply is thrown away.
///
/// Reads that were certainly not executed because a connection broke are sent once more
/// within their deadline, as long as such retries stay a tenth of the traffic. Writes never are;
/// [`Error::executed`] says what is known.
///
/// A delete that fails, of several nodes, is remembered by this client and made again before its
/// node is used again (see [`Client::nodes`]): up to 8,192 one by one for each node; of more, the
/// whole slots are emptied. [`Client::close`] waits for that.
///
/// What was acknowledged is what is read, by every client, with these exceptions:
///
/// - A write or delete that failed may have taken effect or not. What it was to replace may be read
///   until its node is reached again by the client that remembers it, and by others for as long as
///   the entry lives at the most.
/// - Where [`crate::WhenNodeDown::Gutter`] lets nodes stand in, for up to its time; and on the node
///   that was down, by other clients, until the one that was answered by the stand-in has made up
///   for it, or for as long as the entry lives if that one ended before.
/// - While a topology or list of nodes spreads, from the first that has it to the last: those that
///   differ do not see each other's writes to the slots that move. With a list alone also what
///   [`crate::ClientBuilder::warm_up`] says.
#[derive(Clone, Debug)]
pub struct Client {
    router: Router,
}

impl Client {
    /// Connects with default settings: to one node at `host:port`, `[v6]:port` or `unix:PATH`, or
    /// to several, each `[NAME=]ADDRESS[,weight=N][,zone=ZONE]`.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), corelane_client::ConnectError> {
    /// use corelane_client::Client;
    /// let fleet = ["a=10.0.0.1:7400,zone=x", "b=10.0.0.2:7400,weight=2,zone=y"];
    /// let client = Client::connect(fleet).await?;
    /// # let _ = client; Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`ClientBuilder::connect`].
    pub async fn connect(nodes: impl IntoNodes) -> Result<Client, ConnectError> {
        Client::builder().nodes(nodes).connect().await
    }

    /// Settings to connect with.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    pub(crate) fn new(fleet: Arc<Fleet>, timeout: Duration) -> Client {
        Client { router: Router { fleet, timeout } }
    }

    /// The same client with another time limit:
    /// `client.with_timeout(Duration::from_millis(5)).get("key")`.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { router: Router { timeout, ..self.router.clone() } }
    }

    /// Replaces the nodes by another list, for all clones. Nodes that keep name and address
    /// keep their connections; requests under way end where they were sent.
    ///
    /// # Errors
    /// The list makes no sense; the nodes stay as they were.
    pub fn set_nodes(&self, nodes: impl IntoNodes) -> Result<(), NodesError> {
        let places: Result<Vec<_>, _> =
            nodes.into_nodes().iter().map(|node| spec::parse(node)).collect();
        self.router.fleet.set_nodes(places?)
    }

    /// Ends this client once the deletes that its nodes are owed are made, or the time is over. What
    /// is owed is known to the client alone: with its last clone it goes, and nodes that come
    /// back later may show what was deleted. Clones may be used meanwhile and after that; what they come
    /// to owe then is not waited for.
    ///
    /// # Errors
    /// The nodes that are owed something still.
    pub async fn close(self, within: Duration) -> Result<(), DeletesOwed> {
        let fleet = &self.router.fleet;
        let table = fleet.table();
        let settling = table.members().iter().map(|member| member.settle(fleet)).collect();
        // What came of it is told by the nodes.
        let _ = tokio::time::timeout(within, join_all(settling)).await;
        let health = table.members().iter().map(|member| member.health());
        let nodes: Vec<NodeHealth> = health.filter(|node| node.deletes_owed > 0).collect();
        if nodes.is_empty() { Ok(()) } else { Err(DeletesOwed { nodes }) }
    }

    /// How the nodes are, in the order of the list.
    pub fn nodes(&self) -> Vec<NodeHealth> {
        self.router.fleet.table().members().iter().map(|member| member.health()).collect()
    }

    /// The node that owns a key, by its name in the list.
    pub fn node_of(&self, key: impl AsRef<[u8]>) -> String {
        let table = self.router.fleet.table();
        table.owner(slot_of(key.as_ref())).place.name.as_str().to_owned()
    }

    /// The name that the first node gave itself when it was last connected to; empty before.
    pub fn node_name(&self) -> String {
        self.layout().facts.node_name.to_string()
    }

    /// How many cores the first node had when it was last connected to.
    pub fn cores(&self) -> u16 {
        self.layout().facts.cores
    }

    fn layout(&self) -> Arc<Layout> {
        let table = self.router.fleet.table();
        table.members().first().expect("a fleet has a node").node.layout()
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
        value_of(self.router.one(asked).await?)
    }

    /// The values of several keys: sent to all their cores at once, in the order of the keys.
    /// Each key fails or succeeds by itself; a key may occur more than once.
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Option<Value>, Error>> {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        self.router.many(&keys).await.into_iter().map(|reply| value_of(reply?)).collect()
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
        set_outcome(self.router.one(asked).await)
    }

    /// Stores several values under the same options: sent to all their nodes and cores at once.
    /// Each key fails or succeeds by itself; the results are in the order of the entries.
    pub async fn set_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: &[(K, V)],
        options: &SetOptions,
    ) -> Vec<Result<SetOutcome, Error>> {
        let all: Vec<Asked<'_>> =
            entries.iter().map(|(key, value)| set(key.as_ref(), value.as_ref(), options)).collect();
        self.router.each(&all).await.into_iter().map(set_outcome).collect()
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
        self.router.unanswered(set(key.as_ref(), value.as_ref(), options)).await
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
        match self.router.one(write(request, Expected::Done)).await? {
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
        self.router.unanswered(write(request, Expected::Done)).await
    }

    /// Gives an entry a new expiry.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn touch(&self, key: impl AsRef<[u8]>, ttl: Ttl) -> Result<TouchOutcome, Error> {
        let request = Request::Touch { key: key.as_ref(), ttl, condition: ExpireCondition::Always };
        match self.router.one(write(request, Expected::Done)).await? {
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
        self.router.unanswered(write(request, Expected::Done)).await
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
        value_of(self.router.one(write(request, Expected::Value)).await?)
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
        match self.router.one(asked).await? {
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
        match self.router.one(write(request, Expected::Done)).await? {
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
        match self.router.one(Asked::read(request, Expected::Done)).await? {
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
        match self.router.one(Asked::read(request, Expected::Remaining)).await? {
            OwnedReply::Remaining(remaining) => Ok(Some(remaining)),
            OwnedReply::Failed { status: Status::NotFound, .. } => Ok(None),
            other => Err(other.into_error()),
        }
    }

    /// Removes everything from every node after a delay, of up to 49 days, in whole
    /// milliseconds.
    ///
    /// # Errors
    /// See [`Error`]; that of the first node that has one.
    pub async fn flush(&self, delay: Duration) -> Result<(), Error> {
        let delay_ms = u32::try_from(delay.as_millis()).map_err(|_| Error::TimeOutOfRange)?;
        let asked = Asked::write(Request::Flush { delay_ms });
        let replies = self.router.everywhere(|node| async move { node.one(asked).await }).await;
        replies.into_iter().try_for_each(|reply| match reply? {
            OwnedReply::Done { .. } => Ok(()),
            other => Err(other.into_error()),
        })
    }

    /// The counters of each core, node by node.
    ///
    /// # Errors
    /// See [`Error`]; that of the first node that has one.
    pub async fn stats(&self) -> Result<Vec<CoreStats>, Error> {
        let asked = Asked::read(Request::Stats, Expected::Stats);
        let asking = |node: Requester| async move { node.series(asked, FIRST_LANE).await };
        let mut stats = Vec::new();
        for replies in self.router.everywhere(asking).await {
            for reply in replies? {
                match reply {
                    OwnedReply::Stats { core, text } => {
                        let text = String::from_utf8_lossy(&text).into_owned();
                        stats.push(CoreStats { core, text });
                    }
                    other => return Err(other.into_error()),
                }
            }
        }
        Ok(stats)
    }

    /// The newest table of the cluster that a node knows, if one does.
    ///
    /// # Errors
    /// See [`Error`]; that of the first node, where none answers.
    pub async fn topology(&self) -> Result<Option<Topology>, Error> {
        let asked = Asked::read(Request::Topology { held_epoch: 0 }, Expected::Topology);
        let replies = self.router.everywhere(|node| async move { node.one(asked).await }).await;
        let told = replies.into_iter().map(|reply| match reply? {
            OwnedReply::Topology { table } => Ok(Some(Topology::decode(&table)?)),
            OwnedReply::Done { .. } => Ok(None),
            other => Err(other.into_error()),
        });
        let (told, failed): (Vec<_>, Vec<_>) = told.partition(Result::is_ok);
        match (told.is_empty(), failed.into_iter().next()) {
            (true, Some(error)) => error,
            _ => Ok(told.into_iter().flatten().flatten().max_by_key(Topology::epoch)),
        }
    }

    /// Asks every core of every node for a sign of life, and says how long the slowest took.
    ///
    /// # Errors
    /// See [`Error`]; that of the first core that has one.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let took = self.router.everywhere(|node| async move { node.ping().await }).await;
        took.into_iter().try_fold(Duration::ZERO, |slowest, took| Ok(slowest.max(took?)))
    }
}

fn set<'a>(key: &'a [u8], value: &'a [u8], options: &SetOptions) -> Asked<'a> {
    let SetOptions { ttl, condition, user_flags, want_version } = *options;
    let request = Request::Set(Set { key, value, user_flags, ttl, condition, old: OldValue::Omit });
    Asked { want_version, ..write(request, Expected::Done) }
}

fn set_outcome(reply: Result<OwnedReply, Error>) -> Result<SetOutcome, Error> {
    match reply? {
        OwnedReply::Done { version } => Ok(SetOutcome::Stored { version }),
        OwnedReply::Failed { status: Status::ConditionFailed, .. } => {
            Ok(SetOutcome::ConditionFailed)
        }
        OwnedReply::Failed { status: Status::NotFound, .. } => Ok(SetOutcome::NotFound),
        other => Err(other.into_error()),
    }
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
