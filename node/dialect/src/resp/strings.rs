//! Commands on values.

use corelane_protocol::limits::KEY_BYTES_MAX;
use corelane_protocol::{
    Absent, Arithmetic, Count, DeleteCondition, Direction, OldValue, Pairs, Replace, Request, Set,
    SetCondition, SetMany, Side, Ttl,
};

use super::call::{Call, Outcome, Refusal, Unit, integer, is, take};
use super::gather::GatherKind;
use super::parse::Args;
use super::parts::{PartKind, Parts};
use super::shape::{Form, Refused};
use super::write;
use crate::step::{self, Step};

/// What a set is when no option says otherwise.
pub(crate) const PLAIN_SET: Set<'static> = Set {
    key: b"",
    value: b"",
    user_flags: 0,
    ttl: Ttl::Default,
    condition: SetCondition::Always,
    old: OldValue::Omit,
};

pub(crate) fn get<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    call.one(Request::Get { key, least_version: None }, Form::Value)
}

pub(crate) fn mget<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let count = args.len();
    let parts = Parts::new(args, PartKind::Get, call.head(), call.shape(Form::Value))?;
    write::array(count, call.out);
    let gather = step::Gather::InOrder { end: b"" };
    Ok(Step::Several { parts: step::Parts::Resp(parts), gather })
}

pub(crate) fn getdel<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    call.one(Request::GetAndDelete { key }, Form::Value)
}

pub(crate) fn getset<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, value] = take(&mut args);
    let set = Set { key, value, old: OldValue::Return, ..PLAIN_SET };
    call.one(Request::Set(set), Form::Value)
}

/// A number after an option that sets an expiry.
fn expiry<'a>(args: &mut Args<'a>) -> Result<&'a [u8], Refusal> {
    args.next().ok_or(Refusal::SYNTAX)
}

/// Redis takes an expiry again if it is in the same unit.
fn may_follow(unit: Unit, given: Option<(Unit, &[u8])>) -> bool {
    given.is_none_or(|(earlier, _)| earlier == unit)
}

pub(crate) fn getex<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    let mut given: Option<(Unit, &[u8])> = None;
    let mut persists = false;
    while let Some(option) = args.next() {
        match Unit::option(option) {
            Some(unit) if may_follow(unit, given) && !persists => {
                given = Some((unit, expiry(&mut args)?));
            }
            None if is(option, "persist") && given.is_none() => persists = true,
            _ => return Err(Refusal::SYNTAX),
        }
    }
    let ttl = match given {
        None if persists => Ttl::Never,
        None => return call.one(Request::Get { key, least_version: None }, Form::Value),
        Some((unit, number)) => {
            let ttl = integer(number)
                .map_err(|_| Refused::NotAnInteger)
                .and_then(|number| call.ttl(unit, number).map_err(|_| Refused::ExpireOfGetEx));
            match ttl {
                Ok(ttl) => ttl,
                // Where there is no such key, Redis answers that before it looks further.
                Err(refused) => return call.one(Request::Exists { key }, Form::Refused(refused)),
            }
        }
    };
    call.one(Request::GetAndTouch { key, ttl }, Form::Value)
}

pub(crate) fn set<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, value] = take(&mut args);
    let mut set = Set { key, value, ..PLAIN_SET };
    let mut given: Option<(Unit, &[u8])> = None;
    let mut keeps = false;
    while let Some(option) = args.next() {
        let condition = match set.condition {
            SetCondition::Always => None,
            condition => Some(condition),
        };
        if let Some(unit) = Unit::option(option) {
            if keeps || !may_follow(unit, given) {
                return Err(Refusal::SYNTAX);
            }
            given = Some((unit, expiry(&mut args)?));
        } else if is(option, "keepttl") && given.is_none() {
            keeps = true;
        } else if is(option, "get") {
            set.old = OldValue::Return;
        } else if is(option, "nx") && condition.is_none_or(|it| it == SetCondition::Absent) {
            set.condition = SetCondition::Absent;
        } else if is(option, "xx") && condition.is_none_or(|it| it == SetCondition::Present) {
            set.condition = SetCondition::Present;
        } else if is(option, "ifeq") && condition.is_none() {
            set.condition = SetCondition::ValueIs(args.next().ok_or(Refusal::SYNTAX)?);
        } else {
            return Err(Refusal::SYNTAX);
        }
    }
    if let Some((unit, number)) = given {
        set.ttl = call.ttl(unit, integer(number)?)?;
    } else if keeps {
        set.ttl = Ttl::Keep;
    }
    let form = if set.old == OldValue::Return { Form::Value } else { Form::Done };
    call.one(Request::Set(set), form)
}

fn set_with<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>, unit: Unit) -> Outcome<'a> {
    let [key, number, value] = take(&mut args);
    let ttl = call.ttl(unit, integer(number)?)?;
    call.one(Request::Set(Set { key, value, ttl, ..PLAIN_SET }), Form::Done)
}

pub(crate) fn setex<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    set_with(call, args, Unit::Seconds)
}

pub(crate) fn psetex<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    set_with(call, args, Unit::Milliseconds)
}

pub(crate) fn setnx<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, value] = take(&mut args);
    let set = Set { key, value, condition: SetCondition::Absent, ..PLAIN_SET };
    call.one(Request::Set(set), Form::Flag)
}

pub(crate) fn mset<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    if !args.len().is_multiple_of(2) {
        return Err(Refusal::Arity);
    }
    let parts = Parts::new(args, PartKind::Set, call.head(), call.shape(Form::Done))?;
    let gather = step::Gather::Resp(call.gather(GatherKind::Done));
    Ok(Step::Several { parts: step::Parts::Resp(parts), gather })
}

pub(crate) fn msetnx<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    if !args.len().is_multiple_of(2) {
        return Err(Refusal::Arity);
    }
    let list = call.scratch.take().expect("a command takes it once");
    list.clear();
    while let (Some(key), Some(value)) = (args.next(), args.next()) {
        if key.len() > KEY_BYTES_MAX {
            return Err(Refusal::KEY_TOO_LONG);
        }
        Pairs::push(list, key, value);
    }
    let pairs = Pairs::from_encoded(list);
    let many = SetMany { pairs, ttl: Ttl::Default, replace: Replace::No };
    call.one(Request::SetMany(many), Form::Flag)
}

pub(crate) fn delifeq<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, value] = take(&mut args);
    let condition = DeleteCondition::ValueIs(value);
    call.one(Request::Delete { key, condition }, Form::Flag)
}

pub(crate) fn append<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, value] = take(&mut args);
    let absent = Absent::Create { ttl: Ttl::Default };
    call.one(Request::Extend { key, value, side: Side::Append, absent }, Form::Number)
}

pub(crate) fn strlen<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    call.one(Request::Length { key }, Form::Number)
}

pub(crate) fn getrange<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, start, end] = take(&mut args);
    let (start, end) = (integer(start)?, integer(end)?);
    // Redis looks at this before it counts from the end, where both could be the first byte.
    let is_backward = start < 0 && end < 0 && start > end;
    let (start, end) = if is_backward { (1, 0) } else { (start, end) };
    call.one(Request::GetRange { key, start, end }, Form::Range)
}

pub(crate) fn setrange<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, offset, value] = take(&mut args);
    let Ok(offset) = u64::try_from(integer(offset)?) else {
        return Err(Refusal::Words("ERR offset is out of range"));
    };
    call.one(Request::SetRange { key, offset, value }, Form::Number)
}

fn count<'a>(
    call: &mut Call<'_, 'a>,
    key: &'a [u8],
    delta: u64,
    direction: Direction,
) -> Outcome<'a> {
    let initial = match direction {
        Direction::Increment => delta,
        Direction::Decrement => delta.wrapping_neg(),
    };
    let count = Count {
        key,
        delta,
        direction,
        arithmetic: Arithmetic::Signed,
        initial: Some(initial),
        ttl: Ttl::Default,
    };
    call.one(Request::Count(count), Form::Number)
}

pub(crate) fn incr<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    count(call, key, 1, Direction::Increment)
}

pub(crate) fn decr<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    count(call, key, 1, Direction::Decrement)
}

pub(crate) fn incrby<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, delta] = take(&mut args);
    let delta = integer(delta)?;
    let direction = if delta < 0 { Direction::Decrement } else { Direction::Increment };
    count(call, key, delta.unsigned_abs(), direction)
}

pub(crate) fn decrby<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, delta] = take(&mut args);
    let delta = integer(delta)?;
    if delta == i64::MIN {
        return Err(Refusal::Words("ERR decrement would overflow"));
    }
    let direction = if delta < 0 { Direction::Increment } else { Direction::Decrement };
    count(call, key, delta.unsigned_abs(), direction)
}

pub(crate) fn incrbyfloat<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key, delta] = take(&mut args);
    call.one(Request::CountFloat { key, delta }, Form::Float)
}
