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
//! their connections and their state.

pub(crate) mod breaker;
pub(crate) mod deletes;
pub(crate) mod member;
pub(crate) mod spec;
pub(crate) mod throttle;
pub(crate) mod watch;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use corelane_ring::{Epoch, Node as Place, Slot, Topology, place};

use crate::address::Address;
use crate::clock::{Clock, LocalTime};
use crate::error::{ConnectError, Error};
use crate::fleet::member::{Admission, Member};
use crate::fleet::spec::NodesError;
use crate::join::join_all;
use crate::limits::STAND_INS;
use crate::node::{Node, Settings};
use crate::reply::OwnedReply;
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
    /// A client that still reaches the node reads its entries meanwhile, and entries of the
    /// stand-in may be read again when the node fails a second time: both for no longer than
    /// this.
    Gutter {
        /// How long entries live on a node that stands in, at the most.
        ttl: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// How each node is spoken to; the address is the node's own.
    settings: Settings,
    pub(crate) when_node_down: WhenNodeDown,
    pub(crate) clock: Clock,
    pub(crate) retries: Arc<RetryBudget>,
    table: RwLock<Arc<Table>>,
}

/// The nodes at one time.
#[derive(Debug)]
pub(crate) struct Table {
    topology: Topology,
    /// By the topology's index.
    members: Vec<Arc<Member>>,
}

impl Table {
    /// The node that owns a slot.
    pub(crate) fn owner(&self, slot: Slot) -> &Arc<Member> {
        &self.members[self.topology.owner(slot).index()]
    }

    /// The node that stands in for a slot's owner: the next of the ring that is up.
    pub(crate) fn stand_in(&self, slot: Slot) -> Option<&Arc<Member>> {
        let others = &self.topology.owners(slot)[1..];
        others.iter().map(|index| &self.members[index.index()]).find(|member| !member.is_down())
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
        member: &Arc<Member>,
        deletes: Option<&[u8]>,
        result: Result<&OwnedReply, &Error>,
    ) {
        if !self.is_single() {
            member.judge(deletes, result);
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
    ) -> Result<Arc<Fleet>, ConnectError> {
        let clock = Clock::start();
        let retries = Arc::new(RetryBudget::new());
        let of = |error: NodesError| settings.address.error(error.into());
        let table = table(places, &settings, clock, &retries, None).map_err(of)?;
        let meetings = table.members.iter().map(|member| member.node.meet()).collect();
        let met: Vec<Result<(), ConnectError>> = join_all(meetings).await;
        if met.iter().all(Result::is_err) {
            return met.into_iter().next().expect("a topology has a node").map(|()| {
                unreachable!("nobody was met");
            });
        }
        for (member, met) in table.members.iter().zip(&met) {
            if met.is_err() {
                member.begin_down();
            }
        }
        let table = RwLock::new(Arc::new(table));
        Ok(Arc::new(Fleet { settings, when_node_down, clock, retries, table }))
    }

    /// Replaces the list of nodes. Requests under way end where they were sent.
    ///
    /// # Errors
    /// What is wrong with the list; the nodes stay as they were.
    pub(crate) fn set_nodes(&self, places: Vec<Place>) -> Result<(), NodesError> {
        let mut current = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let next = table(places, &self.settings, self.clock, &self.retries, Some(&current))?;
        let before = std::mem::replace(&mut *current, Arc::new(next));
        drop(current);
        // Nodes that left close their connections; not under the lock.
        drop(before);
        Ok(())
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Places the nodes. One that `before` has with the same name and address is kept.
fn table(
    places: Vec<Place>,
    settings: &Settings,
    clock: Clock,
    retries: &Arc<RetryBudget>,
    before: Option<&Table>,
) -> Result<Table, NodesError> {
    let epoch = Epoch(before.map_or(0, |table| table.topology.epoch().0) + 1);
    let topology = place(epoch, places, STAND_INS)?;
    let kept = before.map_or(&[][..], Table::members);
    let member = |place: &Place| {
        let same = |member: &&Arc<Member>| {
            member.place.name == place.name && member.place.addresses == place.addresses
        };
        if let Some(member) = kept.iter().find(same) {
            return Arc::clone(member);
        }
        let address = Address::of(&place.addresses[0]);
        let settings = Settings { address, ..settings.clone() };
        Member::new(place.clone(), Node::unmet(settings, clock, Arc::clone(retries)))
    };
    let members = topology.nodes().iter().map(member).collect();
    Ok(Table { topology, members })
}
