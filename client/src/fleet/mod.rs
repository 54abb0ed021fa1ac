//! Several nodes that a client sees as one cache: which node a key belongs to, and what is
//! done while that node is down.
//!
//! ```text
//! key ─ slot ─ topology ─► owner ─ admitted? ─► its connections
//!                            │        └ overloaded: refused here (throttle)
//!                            └ down (breaker): a miss, an error, or the next node (gutter)
//! ```
//!
//! The table of nodes is a value, replaced whole when the list changes; nodes that stay keep
//! their connections and their state. It is placed here from the list, until a node tells of a
//! topology: then that one holds, and the list only served to find it. Requests say by which
//! epoch they were routed, replies which one the node knows, so a client that is behind learns of
//! it with the next reply, and fetches the table once.

pub(crate) mod breaker;
pub(crate) mod deletes;
pub(crate) mod member;
pub(crate) mod spec;
pub(crate) mod throttle;
pub(crate) mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use corelane_protocol::{Request, ShortEpoch, StandIn};
use corelane_ring::{Epoch, Node as Place, Slot, Topology, place, successors};

use crate::address::Address;
use crate::clock::{Clock, LocalTime};
use crate::error::{ConnectError, Error};
use crate::fleet::deletes::Owed;
use crate::fleet::member::{Admission, Member, NotYet};
use crate::fleet::spec::NodesError;
use crate::join::join_all;
use crate::limits::{STAND_INS, TOPOLOGY_FETCH_INTERVAL};
use crate::node::{Node, Settings};
use crate::pending::Expected;
use crate::reply::OwnedReply;
use crate::request::{Asked, Requester};
use crate::retries::RetryBudget;

/// What requests for the keys of a node get while the node is taken to be down. (With a single
/// node there is nothing to decide: its requests are sent, and fail.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenNodeDown {
    /// Everything fails at once, with [`crate::Error::NodeDown`].
    Fail,
    /// Reads are misses, writes fail at once.
    #[default]
    Miss,
    /// The next node of the ring stands in, with entries that live for a short time
    /// ("gutter", Nishtala and others, "Scaling Memcache at Facebook", 2013). Where none is up,
    /// as [`WhenNodeDown::Miss`].
    ///
    /// A client that still reaches the node reads its entries meanwhile, until those that were
    /// written are removed when this client reaches it again; and entries of the stand-in may be read
    /// again when the node fails a second time, for no longer than this.
    ///
    /// Nodes that were told a topology stand in for who goes by the same one, and not while they still
    /// remove what they had of a slot, or keep it for warming up: until then it is as
    /// [`WhenNodeDown::Miss`].
    Gutter {
        /// How long entries live on a node that stands in, at the most. Nodes that were told a
        /// topology keep none for longer than five minutes.
        ttl: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// How each node is spoken to; the address is the node's own.
    settings: Settings,
    pub(crate) when_node_down: WhenNodeDown,
    /// How long the table before is remembered.
    warm_up: Duration,
    pub(crate) clock: Clock,
    pub(crate) retries: Arc<RetryBudget>,
    table: RwLock<Arc<Table>>,
    /// Held by who fetches a topology. The others that need it wait for what comes of it.
    fetching: tokio::sync::Mutex<()>,
    /// When a topology may be fetched again for no more than an epoch that differs.
    fetch_after: AtomicU64,
}

/// Whether a slot is new on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moving {
    /// It has been there for long.
    No,
    /// It came with a topology that the nodes have.
    KnownToNodes,
    /// It came with another list of nodes, of which these do not know.
    KnownToClients,
}

/// The nodes at one time.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    topology: Topology,
    /// The epoch of the topology where it came from a node; 0 where it was placed here.
    held: Epoch,
    /// By the topology's index.
    members: Vec<Arc<Member>>,
    /// Who owned the slots before, for as long as that is remembered.
    before: Option<Box<Table>>,
}

impl Table {
    /// What requests are said to be routed by.
    pub(crate) fn epoch(&self) -> ShortEpoch {
        ShortEpoch(self.held.short())
    }

    /// The node that owns a slot.
    pub(crate) fn owner(&self, slot: Slot) -> &Arc<Member> {
        &self.members[self.topology.owner(slot).index()]
    }

    /// The node that stands in for a slot's owner: the next of the ring that is up.
    pub(crate) fn stand_in(&self, slot: Slot) -> Option<&Arc<Member>> {
        let next = successors(&self.topology, slot).into_iter().take(STAND_INS);
        next.map(|index| &self.members[index.index()]).find(|member| !member.is_down())
    }

    /// Whether a slot is new on its node, as far as that is remembered.
    pub(crate) fn moving(&self, slot: Slot) -> Moving {
        let Some(before) = &self.before else { return Moving::No };
        if before.owner(slot).place.name == self.owner(slot).place.name {
            return Moving::No;
        }
        match (before.held, self.held) {
            (_, Epoch(0)) => Moving::KnownToClients,
            // With a gap others may know another table before.
            (Epoch(before), Epoch(now)) if before + 1 == now => Moving::KnownToNodes,
            _ => Moving::No,
        }
    }

    /// The node that owned a slot before this table, where that was another one and is up.
    pub(crate) fn previous_owner(&self, slot: Slot) -> Option<&Arc<Member>> {
        let previous = self.before.as_ref()?.owner(slot);
        (previous.place.name != self.owner(slot).place.name && !previous.is_down())
            .then_some(previous)
    }

    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Whether there is only one node: nobody could stand in for it, and its requests are
    /// sent, whatever became of others.
    pub(crate) fn is_single(&self) -> bool {
        self.members.len() == 1
    }

    /// Whether a request may be sent to a node; `deletes` is the key that it deletes.
    pub(crate) fn admit(
        &self,
        member: &Member,
        deletes: Option<&[u8]>,
        now: LocalTime,
    ) -> Result<(), Error> {
        if self.is_single() {
            return Ok(());
        }
        match member.admit(deletes, now) {
            Admission::Send => Ok(()),
            Admission::Busy(retry_after) => Err(Error::Busy { retry_after }),
            Admission::Down => Err(Error::NodeDown { node: member.place.name.as_str().into() }),
        }
    }

    /// Takes in what a request that was sent to a node came to.
    pub(crate) fn judge(
        &self,
        fleet: &Arc<Fleet>,
        member: &Arc<Member>,
        deletes: Option<&[u8]>,
        result: Result<&OwnedReply, &Error>,
    ) {
        if !self.is_single() {
            member.judge(fleet, deletes, result);
        }
    }
}

impl Fleet {
    /// Connects to the nodes.
    ///
    /// # Errors
    /// The list is wrong, or no node can be reached; what was wrong with the first.
    pub(crate) async fn connect(
        settings: Settings,
        places: Vec<Place>,
        when_node_down: WhenNodeDown,
        warm_up: Duration,
    ) -> Result<Arc<Fleet>, ConnectError> {
        let clock = Clock::start();
        let retries = Arc::new(RetryBudget::new());
        let of = |error: NodesError| settings.address.error(error.into());
        let topology = place(Epoch(1), places, 1 + STAND_INS).map_err(|error| of(error.into()))?;
        let nodes = Nodes { settings: &settings, clock, retries: &retries, before: None };
        let table = nodes.table(topology, Epoch(0));
        let meetings = table.members.iter().map(|member| member.node.meet()).collect();
        let met: Vec<Result<(), ConnectError>> = join_all(meetings).await;
        if met.iter().all(Result::is_err) {
            return met.into_iter().next().expect("a topology has a node").map(|()| {
                unreachable!("nobody was met");
            });
        }
        let told =
            table.members.iter().find(|member| member.node.told_epoch() != ShortEpoch::default());
        let told = told.cloned();
        let fleet = Arc::new(Fleet {
            settings,
            when_node_down,
            warm_up,
            clock,
            retries,
            table: RwLock::new(Arc::new(table)),
            fetching: tokio::sync::Mutex::default(),
            fetch_after: AtomicU64::new(0),
        });
        for (member, met) in fleet.table().members.iter().zip(&met) {
            if met.is_err() {
                member.begin_down(&fleet);
            }
        }
        if let Some(member) = told {
            // Where that fails, the replies will say again that there is a topology.
            fleet.newer_than(&fleet.table(), &member, fleet.fetch_deadline()).await;
        }
        Ok(fleet)
    }

    /// Replaces the list of nodes. Requests under way end where they were sent.
    ///
    /// # Errors
    /// What is wrong with the list; the nodes stay as they were.
    pub(crate) fn set_nodes(self: &Arc<Fleet>, places: Vec<Place>) -> Result<(), NodesError> {
        self.replace(place(Epoch(1), places, 1 + STAND_INS)?, Epoch(0));
        Ok(())
    }

    /// A newer table than the one that a request was routed by: the one in force, where that
    /// has changed meanwhile, or what the node knows that gave the request back. Nothing where that
    /// cannot be had by the deadline.
    pub(crate) async fn newer_than(
        self: &Arc<Fleet>,
        by: &Arc<Table>,
        teller: &Member,
        deadline: LocalTime,
    ) -> Option<Arc<Table>> {
        let until = self.clock.instant(deadline);
        // Whoever fetches may be allowed more time.
        let _fetching = tokio::time::timeout_at(until, self.fetching.lock()).await.ok()?;
        let current = self.table();
        if !Arc::ptr_eq(&current, by) {
            return Some(current);
        }
        let node = Arc::clone(&teller.node);
        let (timeout, epoch) = (deadline.since(self.clock.now()), current.epoch());
        let asked =
            Asked::read(Request::Topology { held_epoch: current.held.0 }, Expected::Topology);
        let stand_in = StandIn::No;
        let told = Requester { node, timeout, epoch, stand_in }.one(asked).await;
        let Ok(OwnedReply::Topology { table }) = told else { return None };
        let topology = Topology::decode(&table).ok()?;
        let held = topology.epoch();
        (held > current.held).then(|| self.replace(topology, held))
    }

    /// Has the owner of a slot be owed what a node was that is not, as it says.
    ///
    /// # Errors
    /// It is the owner as far as can be found out: it may not have heard of that yet.
    pub(crate) async fn pass_on(
        self: &Arc<Fleet>,
        member: &Arc<Member>,
        owed: &Owed,
    ) -> Result<(), NotYet> {
        let is_other = |table: &Arc<Table>| !Arc::ptr_eq(table.owner(owed.slot()), member);
        let mut table = self.table();
        if !is_other(&table) {
            let newer = self.newer_than(&table, member, self.fetch_deadline()).await;
            table = newer.filter(is_other).ok_or(NotYet)?;
        }
        table.owner(owed.slot()).owe(self, owed);
        Ok(())
    }

    /// By when a topology is to be had that no request waits for.
    fn fetch_deadline(&self) -> LocalTime {
        self.clock.now().plus(self.settings.timeout)
    }

    /// Takes in the epoch that a node told with a reply. One that differs from the table's
    /// has the topology fetched, beside the traffic and not too often: the node may be the
    /// one that is behind.
    pub(crate) fn notice(self: &Arc<Fleet>, by: &Arc<Table>, teller: &Arc<Member>) {
        let told = teller.node.told_epoch();
        if told == ShortEpoch::default() || told == by.epoch() {
            return;
        }
        let now = self.clock.now();
        let due = self.fetch_after.load(Ordering::Relaxed);
        if now.0 < due {
            // It stays due then, however many notice it meanwhile.
            return;
        }
        let next = now.plus(TOPOLOGY_FETCH_INTERVAL).0;
        let turn =
            self.fetch_after.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if turn.is_ok() {
            let (fleet, by, teller) = (Arc::clone(self), Arc::clone(by), Arc::clone(teller));
            teller.node.runtime.clone().spawn(async move {
                fleet.newer_than(&by, &teller, fleet.fetch_deadline()).await;
            });
        }
    }

    /// Puts a topology in force.
    fn replace(self: &Arc<Fleet>, topology: Topology, held: Epoch) -> Arc<Table> {
        let mut current = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let (settings, clock) = (&self.settings, self.clock);
        let nodes = Nodes { settings, clock, retries: &self.retries, before: Some(&current) };
        let mut next = nodes.table(topology, held);
        if self.warm_up > Duration::ZERO {
            // One table back is enough: nodes are not added while others still warm up.
            next.before = Some(Box::new(Table { before: None, ..(**current).clone() }));
        }
        let next = Arc::new(next);
        let before = std::mem::replace(&mut *current, Arc::clone(&next));
        drop(current);
        for member in &before.members {
            // New owners may be given copies of what should be gone: see to it there as well.
            for owed in member.owed() {
                let owner = next.owner(owed.slot());
                if owner.place.name != member.place.name {
                    owner.owe(self, &owed);
                }
            }
        }
        if next.before.is_some() {
            tokio::spawn(end_warm_up(Arc::downgrade(self), Arc::downgrade(&next), self.warm_up));
        }
        // Nodes that left close their connections; not under the lock.
        drop(before);
        next
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Forgets the table before this one after a while, if this one is still in force.
async fn end_warm_up(fleet: Weak<Fleet>, table: Weak<Table>, after: Duration) {
    tokio::time::sleep(after).await;
    let (Some(fleet), Some(table)) = (fleet.upgrade(), table.upgrade()) else { return };
    let mut current = fleet.table.write().unwrap_or_else(PoisonError::into_inner);
    if Arc::ptr_eq(&current, &table) {
        *current = Arc::new(Table { before: None, ..(*table).clone() });
    }
}

/// What a table's nodes are made of.
struct Nodes<'a> {
    settings: &'a Settings,
    clock: Clock,
    retries: &'a Arc<RetryBudget>,
    before: Option<&'a Table>,
}

impl Nodes<'_> {
    fn table(&self, topology: Topology, held: Epoch) -> Table {
        let members = topology.nodes().iter().map(|place| self.member(place)).collect();
        Table { topology, held, members, before: None }
    }

    /// The node of the table before, where that has one of the same name and address. Where
    /// only the name is new, its connections are kept.
    fn member(&self, place: &Place) -> Arc<Member> {
        let kept = self.before.map_or(&[][..], Table::members);
        let there = kept.iter().find(|member| member.place.addresses == place.addresses);
        match there {
            Some(member) if member.place.name == place.name => Arc::clone(member),
            Some(member) => Member::new(place.clone(), Arc::clone(&member.node)),
            None => {
                let address = Address::of(&place.addresses[0]);
                let settings = Settings { address, ..self.settings.clone() };
                let node = Node::unmet(settings, self.clock, Arc::clone(self.retries));
                Member::new(place.clone(), node)
            }
        }
    }
}
