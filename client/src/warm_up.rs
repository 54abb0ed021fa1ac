//! Growth without a cold start: while a slot is new on its node, what the node does not have yet
//! is read from the owner before and copied ("cold cluster warmup", Nishtala and others, "Scaling
//! Memcache at Facebook", 2013).
//!
//! A copy must not bring back what somebody deletes or overwrites meanwhile. Writers remove the
//! key at the owner before, and only then write at the new one. Who copies adds the entry only
//! where there is none, then looks whether the owner before still has it, and takes the copy away
//! if not. Whatever the order, one of the two sees the other.

use std::sync::Arc;

use corelane_protocol::{
    DeleteCondition, Jitter, OldValue, Remaining, Request, Set, SetCondition, Ttl, Version,
    WantVersion,
};
use corelane_ring::Slot;

use crate::clock::LocalTime;
use crate::error::Error;
use crate::fleet::Table;
use crate::fleet::member::Member;
use crate::pending::Expected;
use crate::reply::{OwnedReply, Value};
use crate::request::{Asked, Effect, Requester};
use crate::router::{Router, is_miss};

impl Router {
    /// Removes the key of a write at the owner before, where its slot is new on its node.
    ///
    /// # Errors
    /// It could not be removed there, so the write must not be made.
    pub(crate) async fn clear_previous(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        asked: &Asked<'_>,
        deadline: LocalTime,
    ) -> Result<(), Error> {
        let (Effect::Write, Some(key), Some(previous)) =
            (asked.effect, asked.request.key(), table.previous_owner(slot))
        else {
            return Ok(());
        };
        if !replaces(&asked.request) {
            // What it changes has to be there.
            let owner = self.requester(table, table.owner(slot), deadline);
            let source = self.requester(table, previous, deadline);
            if let Some((value, remaining)) = read(&source, key).await {
                copy(&source, &owner, key, &value, remaining).await;
            }
        }
        let delete = Asked::write(Request::Delete { key, condition: DeleteCondition::Always });
        let result = self.requester(table, previous, deadline).one(delete).await;
        self.judge(table, previous, Some(key), result.as_ref());
        match result {
            // Also that it belongs elsewhere: then nobody reads it there.
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The reply to a get that missed, or what the owner before has.
    pub(crate) async fn or_previous(
        &self,
        table: &Arc<Table>,
        slot: Slot,
        asked: Asked<'_>,
        result: Result<OwnedReply, Error>,
        deadline: LocalTime,
    ) -> Result<OwnedReply, Error> {
        let Request::Get { key, least_version: None } = asked.request else { return result };
        if !is_miss(&result) || asked.want_version == WantVersion::Yes {
            return result;
        }
        let Some(previous) = table.previous_owner(slot) else { return result };
        let previous = self.requester(table, previous, deadline);
        let Some((value, remaining)) = read(&previous, key).await else { return result };
        let owner: &Arc<Member> = table.owner(slot);
        copy(&previous, &self.requester(table, owner, deadline), key, &value, remaining).await;
        Ok(OwnedReply::Value(value))
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

/// An entry and how long it lives.
async fn read(previous: &Requester, key: &[u8]) -> Option<(Value, Remaining)> {
    let get = Asked::read(Request::Get { key, least_version: None }, Expected::Value);
    let OwnedReply::Value(value) = previous.one(get).await.ok()? else { return None };
    let ttl = Asked::read(Request::TtlOf { key }, Expected::Remaining);
    let OwnedReply::Remaining(remaining) = previous.one(ttl).await.ok()? else { return None };
    Some((value, remaining))
}

/// Copies an entry to its new owner. What fails leaves it where it was.
async fn copy(
    previous: &Requester,
    owner: &Requester,
    key: &[u8],
    value: &Value,
    remaining: Remaining,
) {
    let ttl = match remaining {
        Remaining::Never => Ttl::Never,
        Remaining::Ms(ms) => Ttl::After { ms, jitter: Jitter::Exact },
    };
    let set = Set {
        key,
        value: &value.bytes,
        user_flags: value.user_flags,
        ttl,
        condition: SetCondition::Absent,
        old: OldValue::Omit,
    };
    let add = Asked { want_version: WantVersion::Yes, ..Asked::write(Request::Set(set)) };
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
