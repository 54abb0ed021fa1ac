//! Growth without a cold start: while a slot is new on its node, what the node does not have yet
//! is read from the owner before and copied ("cold cluster warmup", Nishtala and others, "Scaling
//! Memcache at Facebook", 2013). A copy must not bring back what somebody deletes or overwrites
//! meanwhile.
//!
//! Where the nodes have a topology, they see to that. The owner notes which keys of a slot that
//! came are written or deleted; it sends who asks for another to the owner before, and takes a copy
//! only of those. The owner before answers once it takes no writes of the slot any more.
//!
//! ```text
//! get or ask ─► owner ─ value, or a miss: the key was written or deleted since
//!                 └ ask ─► get left ─► owner before ─ value ─► set only if untouched ─► owner
//! ```
//!
//! Where there is but a list of nodes, these know of no change, and clients see to it. Writers
//! remove the key at the owner before, and only then write at the new one. Who copies adds the
//! entry only where there is none, then looks whether the owner before still has it, and takes the
//! copy away if not. Whatever the order, one of the two sees the other.

use std::sync::Arc;

use corelane_protocol::limits::LEFT_HEAD_BYTES;
use corelane_protocol::{
    DeleteCondition, Jitter, OldValue, Remaining, Request, Set, SetCondition, Status, Ttl, Version,
    WantVersion,
};
use corelane_ring::Slot;

use crate::clock::LocalTime;
use crate::error::Error;
use crate::fleet::{Moving, Table};
use crate::pending::Expected;
use crate::reply::{OwnedReply, Value};
use crate::request::{Asked, Effect, Requester};
use crate::router::{Router, is_miss, miss};

/// An entry of the owner before.
struct Found {
    value: Value,
    remaining: Remaining,
}

impl Router {
    /// What is to be done before a request is sent to the owner of its key, whose slot may be new
    /// there.
    ///
    /// # Errors
    /// It could not be done, so a write must not be made.
    pub(crate) async fn prepare(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        asked: &Asked<'_>,
        deadline: LocalTime,
    ) -> Result<(), Error> {
        let (Effect::Write, Some(key)) = (asked.effect, asked.request.key()) else { return Ok(()) };
        match table.moving(slot) {
            Moving::No => Ok(()),
            Moving::KnownToNodes => {
                if !replaces(&asked.request) {
                    // What it changes has to be there. Where that fails, it changes what is.
                    let get = Asked::read(Request::GetOrAsk { key }, Expected::Value);
                    let owner = self.requester(table, table.owner(slot), deadline);
                    let result = owner.one(get).await;
                    self.or_left(table, slot, key, result, deadline).await.ok();
                }
                Ok(())
            }
            Moving::KnownToClients => self.clear_previous(table, slot, asked, key, deadline).await,
        }
    }

    /// The form in which a request is sent to the owner of its key.
    pub(crate) fn asking<'a>(&self, table: &Table, slot: Slot, asked: Asked<'a>) -> Asked<'a> {
        match asked.request {
            Request::Get { key, least_version: None }
                if asked.want_version == WantVersion::No
                    && table.moving(slot) == Moving::KnownToNodes =>
            {
                Asked { request: Request::GetOrAsk { key }, ..asked }
            }
            _ => asked,
        }
    }

    /// The reply to a request, or where it is a get that missed, what the owner before has.
    pub(crate) async fn or_previous(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        asked: Asked<'_>,
        result: Result<OwnedReply, Error>,
        deadline: LocalTime,
    ) -> Result<OwnedReply, Error> {
        match asked.request {
            Request::GetOrAsk { key } => self.or_left(table, slot, key, result, deadline).await,
            Request::Get { key, least_version: None }
                if asked.want_version == WantVersion::No
                    && is_miss(&result)
                    && table.moving(slot) == Moving::KnownToClients =>
            {
                let Some(previous) = table.previous_owner(slot) else { return result };
                let previous = self.requester(table, previous, deadline);
                let Some(found) = read(&previous, key).await else { return result };
                let owner = self.requester(table, table.owner(slot), deadline);
                copy_and_look_back(&previous, &owner, key, &found).await;
                Ok(OwnedReply::Value(found.value))
            }
            _ => result,
        }
    }

    /// The answer to a get or ask: that of the owner before, where that is to be asked.
    async fn or_left(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        key: &[u8],
        result: Result<OwnedReply, Error>,
        deadline: LocalTime,
    ) -> Result<OwnedReply, Error> {
        let Ok(OwnedReply::Failed { status: Status::Ask, message: address }) = &result else {
            return result;
        };
        // Nodes and clients agree on where a slot was; where they do not, it is a miss.
        let named = table.previous_owner(slot).filter(|previous| {
            previous.place.addresses.iter().any(|its| *its.as_str() == **address)
        });
        let Some(previous) = named else { return miss() };
        let get = Asked::read(Request::GetLeft { key }, Expected::Value);
        let left = self.requester(table, previous, deadline).one(get).await;
        self.judge(table, previous, None, left.as_ref());
        let Some(found) = left.ok().and_then(found_in) else { return miss() };
        let set = set(key, &found, SetCondition::Untouched);
        // Where it is not taken, or fails, the owner has what is newer, or asks again.
        let _ = self.requester(table, table.owner(slot), deadline).one(Asked::write(set)).await;
        Ok(OwnedReply::Value(found.value))
    }

    /// Removes the key of a write at the owner before.
    async fn clear_previous(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        asked: &Asked<'_>,
        key: &[u8],
        deadline: LocalTime,
    ) -> Result<(), Error> {
        let Some(previous) = table.previous_owner(slot) else { return Ok(()) };
        let source = self.requester(table, previous, deadline);
        if !replaces(&asked.request) {
            // What it changes has to be there.
            let owner = self.requester(table, table.owner(slot), deadline);
            if let Some(found) = read(&source, key).await {
                copy_and_look_back(&source, &owner, key, &found).await;
            }
        }
        let delete = Asked::write(Request::Delete { key, condition: DeleteCondition::Always });
        let result = source.one(delete).await;
        self.judge(table, previous, Some(key), result.as_ref());
        match result? {
            // Where it belongs elsewhere nobody reads it there.
            OwnedReply::Done { .. }
            | OwnedReply::Failed { status: Status::NotFound | Status::Moved, .. } => Ok(()),
            other => Err(other.into_error()),
        }
    }
}

/// Whether a write takes effect whatever entry there was.
fn replaces(request: &Request<'_>) -> bool {
    match request {
        Request::Set(set) => {
            set.condition == SetCondition::Always
                && set.ttl != Ttl::Keep
                && set.old == OldValue::Omit
        }
        Request::Delete { condition, .. } => *condition == DeleteCondition::Always,
        _ => false,
    }
}

/// What the answer to [`Request::GetLeft`] says.
fn found_in(reply: OwnedReply) -> Option<Found> {
    let OwnedReply::Value(mut value) = reply else { return None };
    let head = value.bytes.get(..LEFT_HEAD_BYTES)?.try_into().ok()?;
    value.bytes = value.bytes.slice(LEFT_HEAD_BYTES..);
    let remaining = match u64::from_le_bytes(head) {
        u64::MAX => Remaining::Never,
        ms => Remaining::Ms(ms),
    };
    Some(Found { value, remaining })
}

/// An entry and how long it lives, of a node that serves it.
async fn read(previous: &Requester, key: &[u8]) -> Option<Found> {
    let get = Asked::read(Request::Get { key, least_version: None }, Expected::Value);
    let OwnedReply::Value(value) = previous.one(get).await.ok()? else { return None };
    let ttl = Asked::read(Request::TtlOf { key }, Expected::Remaining);
    let OwnedReply::Remaining(remaining) = previous.one(ttl).await.ok()? else { return None };
    Some(Found { value, remaining })
}

fn set<'a>(key: &'a [u8], found: &'a Found, condition: SetCondition<'a>) -> Request<'a> {
    let ttl = match found.remaining {
        Remaining::Never => Ttl::Never,
        Remaining::Ms(ms) => Ttl::After { ms, jitter: Jitter::Exact },
    };
    let Value { bytes, user_flags, .. } = &found.value;
    let (value, old) = (&bytes[..], OldValue::Omit);
    Request::Set(Set { key, value, user_flags: *user_flags, ttl, condition, old })
}

/// Copies an entry to its new owner. What fails leaves it where it was.
async fn copy_and_look_back(previous: &Requester, owner: &Requester, key: &[u8], found: &Found) {
    let set = set(key, found, SetCondition::Absent);
    let add = Asked { want_version: WantVersion::Yes, ..Asked::write(set) };
    let Ok(OwnedReply::Done { version: Some(version) }) = owner.one(add).await else { return };
    let exists = Asked::read(Request::Exists { key }, Expected::Done);
    if is_miss(&previous.one(exists).await) {
        take_away(owner, key, version).await;
    }
}

/// Removes a copy, unless something else has taken its place.
async fn take_away(owner: &Requester, key: &[u8], version: Version) {
    let condition = DeleteCondition::VersionIs(version);
    // Where it fails the copy stays as stale as any entry of a node that cannot be reached.
    let _ = owner.one(Asked::write(Request::Delete { key, condition })).await;
}
