//! Which node a request goes to, and what becomes of it when that node is down: the one place
//! that knows both the fleet and the requests.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::{Request, StandIn, Status};
use corelane_ring::{Slot, slot_of};

use crate::clock::LocalTime;
use crate::connection::Ticket;
use crate::error::Error;
use crate::fleet::member::Member;
use crate::fleet::{Fleet, Moving, Table, WhenNodeDown};
use crate::join::join_all;
use crate::limits::WARMED_AT_ONCE;
use crate::pending::{Expected, Outcome};
use crate::reply::OwnedReply;
use crate::request::{Asked, Effect, Requester, Route};

/// Sends requests to the nodes of a fleet, with a time limit for each.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) timeout: Duration,
}

/// A request to one node that was sent, or why not.
type Sent = Result<Ticket, Error>;

impl Router {
    /// Sends a request for one key.
    pub(crate) async fn one(&self, asked: Asked<'_>) -> Result<OwnedReply, Error> {
        self.one_by(asked, self.deadline()).await
    }

    async fn one_by(&self, asked: Asked<'_>, deadline: LocalTime) -> Result<OwnedReply, Error> {
        let mut table = self.fleet.table();
        let slot = slot_of(asked.request.key().expect("requests without a key go everywhere"));
        let mut result = self.at_owner(&table, slot, asked, deadline).await;
        if is_moved(&result)
            && let Some(newer) = self.fleet.newer_than(&table, table.owner(slot), deadline).await
        {
            table = newer;
            result = self.at_owner(&table, slot, asked, deadline).await;
        }
        self.or_stand_in(&table, slot, asked, result, deadline).await
    }

    /// Sends a request to the node that owns the slot, if that is up.
    async fn at_owner(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        asked: Asked<'_>,
        deadline: LocalTime,
    ) -> Result<OwnedReply, Error> {
        let owner = table.owner(slot);
        table.admit(owner, self.owed(&asked), self.fleet.clock.now())?;
        self.prepare(table, slot, &asked, deadline).await?;
        let asked = self.asking(table, slot, asked);
        let result = self.requester(table, owner, deadline).one(asked).await;
        self.judge(table, owner, self.owed(&asked), result.as_ref());
        self.or_previous(table, slot, asked, result, deadline).await
    }

    /// Takes in what a reply tells of its node.
    pub(crate) fn judge(
        &self,
        table: &Arc<Table>,
        member: &Arc<Member>,
        deletes: Option<&[u8]>,
        result: Result<&OwnedReply, &Error>,
    ) {
        table.judge(&self.fleet, member, deletes, result);
        self.fleet.notice(table, member);
    }

    /// Sends requests for one key each, all at once; the results are in their order.
    pub(crate) async fn each(&self, all: &[Asked<'_>]) -> Vec<Result<OwnedReply, Error>> {
        let deadline = self.deadline();
        let table = self.fleet.table();
        let mut tickets = Vec::with_capacity(all.len());
        for asked in all {
            tickets.push(self.start(&table, *asked, deadline).await);
        }
        let mut results = Vec::with_capacity(all.len());
        for (asked, (slot, sent)) in all.iter().zip(tickets) {
            let result = match sent {
                Ok(ticket) => match ticket.await {
                    Outcome::One(result) => {
                        self.judge(&table, table.owner(slot), self.owed(asked), result.as_ref());
                        result
                    }
                    Outcome::Series { .. } => unreachable!("{:?} is no series", asked.expected),
                },
                Err(error) => Err(error),
            };
            results.push(match is_moved(&result) {
                true => self.one_by(*asked, deadline).await,
                false => self.or_stand_in(&table, slot, *asked, result, deadline).await,
            });
        }
        results
    }

    async fn start(
        &self,
        table: &Arc<Table>,
        asked: Asked<'_>,
        deadline: LocalTime,
    ) -> (Slot, Sent) {
        let key = asked.request.key().expect("requests without a key go everywhere");
        let slot = slot_of(key);
        let owner = table.owner(slot);
        let sending = async {
            table.admit(owner, self.owed(&asked), self.fleet.clock.now())?;
            self.prepare(table, slot, &asked, deadline).await?;
            let sent = self.requester(table, owner, deadline).start(asked).await;
            if let Err(error) = &sent {
                table.judge(&self.fleet, owner, self.owed(&asked), Err(error));
            }
            sent
        };
        (slot, sending.await)
    }

    /// Sends a request that is not answered.
    pub(crate) async fn unanswered(&self, asked: Asked<'_>) -> Result<(), Error> {
        let deadline = self.deadline();
        let table = self.fleet.table();
        let slot = slot_of(asked.request.key().expect("requests without a key go everywhere"));
        let owner = table.owner(slot);
        let sending = async {
            table.admit(owner, self.owed(&asked), self.fleet.clock.now())?;
            self.prepare(&table, slot, &asked, deadline).await?;
            self.requester(&table, owner, deadline).unanswered(asked).await
        };
        let Err(error) = sending.await else { return Ok(()) };
        match (self.fleet.when_node_down, table.stand_in(slot)) {
            (WhenNodeDown::Gutter { ttl }, Some(member)) if is_down(&error) => {
                let asked = shortened(asked, ttl);
                self.in_place(&table, member, deadline).unanswered(asked).await
            }
            _ => Err(error),
        }
    }

    /// The replies to gets of many keys, in the order of the keys.
    pub(crate) async fn many(&self, keys: &[&[u8]]) -> Vec<Result<OwnedReply, Error>> {
        let deadline = self.deadline();
        let mut table = self.fleet.table();
        let mut results: Vec<Option<Result<OwnedReply, Error>>> = vec![None; keys.len()];
        let everything: Vec<usize> = (0..keys.len()).collect();
        let parts = parts(&table, keys, &everything, |slot| Some(table.owner(slot)));
        self.gather(&table, &parts, keys, StandIn::No, deadline, &mut results).await;

        let moved: Vec<usize> = (0..keys.len())
            .filter(|index| results[*index].as_ref().is_some_and(is_moved))
            .collect();
        if let Some(first) = moved.first()
            && let teller = table.owner(slot_of(keys[*first]))
            && let Some(newer) = self.fleet.newer_than(&table, teller, deadline).await
        {
            table = newer;
            let parts = self::parts(&table, keys, &moved, |slot| Some(table.owner(slot)));
            self.gather(&table, &parts, keys, StandIn::No, deadline, &mut results).await;
        }

        let cold: Vec<usize> = (0..keys.len())
            .filter(|index| results[*index].as_ref().is_some_and(is_miss))
            .filter(|index| table.moving(slot_of(keys[*index])) != Moving::No)
            .collect();
        for some in cold.chunks(WARMED_AT_ONCE) {
            let asking = some.iter().map(|index| {
                let (key, least_version) = (keys[*index], None);
                let get = Asked::read(Request::Get { key, least_version }, Expected::Value);
                self.one_by(get, deadline)
            });
            for (index, result) in some.iter().zip(join_all(asking.collect()).await) {
                results[*index] = Some(result);
            }
        }

        let failed: Vec<usize> = (0..keys.len())
            .filter(|index| match &results[*index] {
                Some(Err(error)) => self.may_stand_in(&table, Effect::Read, error),
                _ => false,
            })
            .collect();
        match self.fleet.when_node_down {
            WhenNodeDown::Fail => {}
            WhenNodeDown::Miss => failed.iter().for_each(|index| results[*index] = Some(miss())),
            WhenNodeDown::Gutter { .. } => {
                let parts = self::parts(&table, keys, &failed, |slot| table.stand_in(slot));
                failed.iter().for_each(|index| results[*index] = Some(miss()));
                self.gather(&table, &parts, keys, StandIn::Yes, deadline, &mut results).await;
                for index in failed {
                    if results[index].as_ref().is_some_and(is_declined) {
                        results[index] = Some(miss());
                    }
                }
            }
        }
        results.into_iter().map(|result| result.expect("every key is in a part")).collect()
    }

    /// Sends each node its part of a multi-get, all at once.
    async fn gather(
        &self,
        table: &Arc<Table>,
        parts: &[(Arc<Member>, Vec<usize>)],
        keys: &[&[u8]],
        stand_in: StandIn,
        deadline: LocalTime,
        results: &mut [Option<Result<OwnedReply, Error>>],
    ) {
        let asking = parts.iter().map(|(member, part)| async {
            let keys: Vec<&[u8]> = part.iter().map(|index| keys[*index]).collect();
            if let Err(error) = table.admit(member, None, self.fleet.clock.now()) {
                return vec![Err(error); keys.len()];
            }
            let node = Requester { stand_in, ..self.requester(table, member, deadline) };
            let answers = node.many(&keys).await;
            let told = answers.iter().find(|answer| answer.is_ok()).or(answers.first());
            self.judge(table, member, None, told.expect("a part has a key").as_ref());
            answers
        });
        for ((_, part), answers) in parts.iter().zip(join_all(asking.collect()).await) {
            for (index, answer) in part.iter().zip(answers) {
                results[*index] = Some(answer);
            }
        }
    }

    /// Asks every node, and gives what each answers.
    pub(crate) async fn everywhere<T, F: Future<Output = T>>(
        &self,
        ask: impl Fn(Requester) -> F,
    ) -> Vec<T> {
        let deadline = self.deadline();
        let table = self.fleet.table();
        let asking =
            table.members().iter().map(|member| ask(self.requester(&table, member, deadline)));
        join_all(asking.collect()).await
    }

    /// The key that a request's node must not have as it was, should it not get the request: one that
    /// is deleted, under whatever condition, or that a stand-in is given a new value of.
    fn owed<'a>(&self, asked: &Asked<'a>) -> Option<&'a [u8]> {
        match (asked.request, self.fleet.when_node_down) {
            (Request::Delete { key, .. }, _) => Some(key),
            (request, WhenNodeDown::Gutter { .. }) if asked.effect == Effect::Write => {
                request.key()
            }
            _ => None,
        }
    }

    /// Whether another node, or a miss, may take a failed request's place.
    fn may_stand_in(&self, table: &Table, effect: Effect, error: &Error) -> bool {
        if table.is_single() {
            return false;
        }
        if is_down(error) {
            return true;
        }
        let gutter = matches!(self.fleet.when_node_down, WhenNodeDown::Gutter { .. });
        let lost = matches!(
            error,
            Error::Timeout { .. } | Error::Disconnected { .. } | Error::Unreachable(_)
        );
        // A write that a stand-in took would not be seen: reads still go to the node.
        gutter && lost && effect == Effect::Read && self.fleet.retries.take()
    }

    /// The result of a request, or what takes its place where its node is down.
    async fn or_stand_in(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        asked: Asked<'_>,
        result: Result<OwnedReply, Error>,
        deadline: LocalTime,
    ) -> Result<OwnedReply, Error> {
        let Err(error) = result else { return result };
        if !self.may_stand_in(table, asked.effect, &error) {
            return Err(error);
        }
        let stand_in = match self.fleet.when_node_down {
            WhenNodeDown::Fail => return Err(error),
            WhenNodeDown::Miss => None,
            WhenNodeDown::Gutter { ttl } => table.stand_in(slot).map(|member| (member, ttl)),
        };
        match (stand_in, asked.effect) {
            (Some((member, ttl)), effect) => {
                let asked = shortened(asked, ttl);
                let result = self.in_place(table, member, deadline).one(asked).await;
                self.judge(table, member, None, result.as_ref());
                match effect {
                    _ if !is_declined(&result) => result,
                    Effect::Read => miss(),
                    Effect::Write => Err(error),
                }
            }
            (None, Effect::Read) => miss(),
            (None, Effect::Write) => Err(error),
        }
    }

    pub(crate) fn requester(
        &self,
        table: &Table,
        member: &Member,
        deadline: LocalTime,
    ) -> Requester {
        let (node, epoch) = (Arc::clone(&member.node), table.epoch());
        let timeout = deadline.since(self.fleet.clock.now());
        Requester { node, timeout, epoch, stand_in: StandIn::No }
    }

    /// Sends requests to a node that is to stand in for the owner of their keys.
    fn in_place(&self, table: &Table, member: &Member, deadline: LocalTime) -> Requester {
        Requester { stand_in: StandIn::Yes, ..self.requester(table, member, deadline) }
    }

    fn deadline(&self) -> LocalTime {
        self.fleet.clock.now().plus(self.timeout)
    }
}

/// The counters of every core of every node, or a sign of life: where requests without a key go.
pub(crate) const FIRST_LANE: Route<'static> = Route::Lane(0);

fn is_down(error: &Error) -> bool {
    matches!(error, Error::NodeDown { .. })
}

fn is_moved(result: &Result<OwnedReply, Error>) -> bool {
    matches!(result, Ok(OwnedReply::Failed { status: Status::Moved, .. }))
}

/// Whether a node does not stand in: it has another topology, or something left of the slot.
fn is_declined(result: &Result<OwnedReply, Error>) -> bool {
    matches!(result, Ok(OwnedReply::Failed { status: Status::Moved | Status::Loading, .. }))
}

pub(crate) fn is_miss(result: &Result<OwnedReply, Error>) -> bool {
    matches!(result, Ok(OwnedReply::Failed { status: Status::NotFound, .. }))
}

pub(crate) fn miss() -> Result<OwnedReply, Error> {
    Ok(OwnedReply::Failed { status: Status::NotFound, message: "".into() })
}

/// Splits some of the keys by node.
fn parts<'t>(
    table: &Table,
    keys: &[&[u8]],
    some: &[usize],
    node_of: impl Fn(Slot) -> Option<&'t Arc<Member>>,
) -> Vec<(Arc<Member>, Vec<usize>)> {
    let mut parts: Vec<(Arc<Member>, Vec<usize>)> =
        table.members().iter().map(|member| (Arc::clone(member), Vec::new())).collect();
    for index in some {
        if let Some(node) = node_of(slot_of(keys[*index])) {
            let part = parts.iter_mut().find(|(member, _)| Arc::ptr_eq(member, node));
            part.expect("the node is of this table").1.push(*index);
        }
    }
    parts.retain(|(_, part)| !part.is_empty());
    parts
}

/// The same request, for a node that stands in: what it writes lives for at most so long.
fn shortened(asked: Asked<'_>, ttl_max: Duration) -> Asked<'_> {
    let ms_max = u64::try_from(ttl_max.as_millis()).unwrap_or(u64::MAX);
    Asked { request: asked.request.living_at_most(ms_max), ..asked }
}
