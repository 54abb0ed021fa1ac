//! Commands on keys, whatever their values.

use corelane_protocol::{
    DeleteCondition, ExpireCondition, Replace, Request, Space, Ttl, WalkCursor, WithValue,
};

use super::call::{Call, Outcome, Refusal, Unit, integer, is, take};
use super::gather::GatherKind;
use super::parse::Args;
use super::parts::{PartKind, Parts};
use super::shape::{Clock, Form};
use super::write;
use crate::limits::{SCAN_COUNT_DEFAULT, SCAN_COUNT_MAX};
use crate::step::{self, Step};

/// One request a key, answered by how many found something.
fn sum<'a>(call: &mut Call<'_, 'a>, args: Args<'a>, kind: PartKind) -> Outcome<'a> {
    let parts = Parts::new(args, kind, call.head(), call.shape(Form::Flag))?;
    let gather = step::Gather::Resp(call.gather(GatherKind::Sum));
    Ok(Step::Several { parts: step::Parts::Resp(parts), gather })
}

pub(crate) fn del<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    if let Some(key) = args.only() {
        let condition = DeleteCondition::Always;
        return call.one(Request::Delete { key, condition }, Form::Flag);
    }
    sum(call, args, PartKind::Delete)
}

pub(crate) fn exists<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    if let Some(key) = args.only() {
        return call.one(Request::Exists { key }, Form::Flag);
    }
    sum(call, args, PartKind::Exists)
}

pub(crate) fn touch<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    sum(call, args, PartKind::Touch)
}

pub(crate) fn expire<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    expire_by(call, args, Unit::Seconds)
}

pub(crate) fn pexpire<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    expire_by(call, args, Unit::Milliseconds)
}

pub(crate) fn expireat<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    expire_by(call, args, Unit::UnixSeconds)
}

pub(crate) fn pexpireat<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    expire_by(call, args, Unit::UnixMilliseconds)
}

fn expire_by<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>, unit: Unit) -> Outcome<'a> {
    let [key, number] = take(&mut args);
    let [mut nx, mut xx, mut gt, mut lt] = [false; 4];
    for option in args {
        match option.to_ascii_lowercase().as_slice() {
            b"nx" => nx = true,
            b"xx" => xx = true,
            b"gt" => gt = true,
            b"lt" => lt = true,
            _ => {
                let option = option.split(|&byte| byte == 0).next().unwrap_or(b"");
                return Err(Refusal::Told([b"ERR Unsupported option ", option].concat()));
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Refusal::Words(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if gt && lt {
        return Err(Refusal::Words("ERR GT and LT options at the same time are not compatible"));
    }
    let condition = match (nx, xx, gt, lt) {
        (true, ..) => ExpireCondition::IfNone,
        // What never expires is later than any expiry, so it has one in any case.
        (_, _, true, _) => ExpireCondition::IfLater,
        (_, true, _, true) => ExpireCondition::IfSomeAndEarlier,
        (_, _, _, true) => ExpireCondition::IfEarlier,
        (_, true, ..) => ExpireCondition::IfSome,
        _ => ExpireCondition::Always,
    };
    let unix_ms = call.moment_of(unit, integer(number)?)?;
    let ttl = call.ttl_until(unix_ms);
    call.one(Request::Touch { key, ttl, condition }, Form::Flag)
}

pub(crate) fn persist<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    let condition = ExpireCondition::IfSome;
    call.one(Request::Touch { key, ttl: Ttl::Never, condition }, Form::Flag)
}

fn ttl_of<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>, clock: Clock) -> Outcome<'a> {
    let [key] = take(&mut args);
    call.one(Request::TtlOf { key }, Form::Ttl(clock))
}

pub(crate) fn ttl<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    ttl_of(call, args, Clock::Seconds)
}

pub(crate) fn pttl<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    ttl_of(call, args, Clock::Milliseconds)
}

pub(crate) fn expiretime<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    ttl_of(call, args, Clock::UnixSeconds)
}

pub(crate) fn pexpiretime<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    ttl_of(call, args, Clock::UnixMilliseconds)
}

pub(crate) fn rename<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [from, to] = take(&mut args);
    call.one(Request::Rename { from, to, replace: Replace::Yes }, Form::Renamed)
}

pub(crate) fn renamenx<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [from, to] = take(&mut args);
    call.one(Request::Rename { from, to, replace: Replace::No }, Form::FlagOfKey)
}

pub(crate) fn copy<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [from, to] = take(&mut args);
    let mut replace = Replace::No;
    let mut to_space = call.state.space;
    while let Some(option) = args.next() {
        if is(option, "replace") {
            replace = Replace::Yes;
        } else if is(option, "db") {
            to_space = space(args.next().ok_or(Refusal::SYNTAX)?)?;
        } else {
            return Err(Refusal::SYNTAX);
        }
    }
    if from == to && to_space == call.state.space {
        return Err(Refusal::Words("ERR source and destination objects are the same"));
    }
    call.one(Request::Copy { from, to, to_space, replace }, Form::Flag)
}

/// The space with a number given as text.
pub(crate) fn space(text: &[u8]) -> Result<Space, Refusal> {
    let number = integer(text)?;
    // A number that no C int holds is no number to Redis.
    i32::try_from(number).map_err(|_| {
        Refusal::Words("ERR value is out of range, value must between -2147483648 and 2147483647")
    })?;
    u8::try_from(number).ok().and_then(Space::new).ok_or(Refusal::SPACE)
}

pub(crate) fn kind<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    call.one(Request::Exists { key }, Form::Type)
}

fn describe<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>, form: Form) -> Outcome<'a> {
    let [key] = take(&mut args);
    call.one(Request::Describe { key, value: WithValue::No, touch: None }, form)
}

pub(crate) fn object_encoding<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    describe(call, args, Form::Encoding)
}

pub(crate) fn object_freq<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    describe(call, args, Form::Frequency { tracked: call.facts.node().counts_uses() })
}

pub(crate) fn object_idletime<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    describe(call, args, Form::IdleTime)
}

pub(crate) fn object_refcount<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    describe(call, args, Form::References)
}

pub(crate) fn memory_usage<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [key] = take(&mut args);
    while let Some(option) = args.next() {
        let number = args.next().filter(|_| is(option, "samples")).ok_or(Refusal::SYNTAX)?;
        if integer(number)? < 0 {
            return Err(Refusal::SYNTAX);
        }
    }
    let request = Request::Describe { key, value: WithValue::No, touch: None };
    call.one(request, Form::MemoryUsage)
}

pub(crate) fn keys<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [pattern] = take(&mut args);
    let request = Request::Scan {
        cursor: WalkCursor(0),
        count: SCAN_COUNT_MAX,
        pattern: (pattern != b"*").then_some(pattern),
    };
    call.everywhere(request, GatherKind::Keys)
}

pub(crate) fn scan<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [cursor] = take(&mut args);
    let cursor = parse_cursor(cursor).ok_or(Refusal::Words("ERR invalid cursor"))?;
    let mut count = SCAN_COUNT_DEFAULT;
    let mut pattern = None;
    let mut only_strings = true;
    while let Some(option) = args.next() {
        let Some(value) = args.next() else { return Err(Refusal::SYNTAX) };
        if is(option, "count") {
            let number = integer(value)?;
            if number < 1 {
                return Err(Refusal::SYNTAX);
            }
            count = u32::try_from(number).unwrap_or(u32::MAX).min(SCAN_COUNT_MAX);
        } else if is(option, "match") {
            pattern = Some(value).filter(|pattern| *pattern != b"*");
        } else if is(option, "type") {
            only_strings = is(value, "string");
        } else {
            return Err(Refusal::SYNTAX);
        }
    }
    if !only_strings {
        // Of another type there is none: the walk is over before it begins.
        write::array(2, call.out);
        write::bulk(b"0", call.out);
        write::array(0, call.out);
        return Ok(Step::Answered);
    }
    call.one(Request::Scan { cursor: WalkCursor(cursor), count, pattern }, Form::Page)
}

/// A cursor as C's `strtoul` reads it: a sign, or nothing at all, is taken.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let mut number = 0u64;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    Some(if negative { number.wrapping_neg() } else { number })
}

pub(crate) fn randomkey<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let seed = call.moment.now.0;
    call.everywhere(Request::RandomKey, GatherKind::AnyKey { seed })
}

pub(crate) fn dbsize<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    call.everywhere(Request::CountKeys { slot: None }, GatherKind::Sum)
}

/// `SYNC` and `ASYNC` are the same here: no command waits for memory to be given back.
fn check_flush(args: Args<'_>) -> Result<(), Refusal> {
    match args.only() {
        Some(how) if is(how, "sync") || is(how, "async") => Ok(()),
        None if args.len() == 0 => Ok(()),
        _ => Err(Refusal::SYNTAX),
    }
}

pub(crate) fn flushdb<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    check_flush(args)?;
    call.everywhere(Request::FlushSpace { cursor: WalkCursor(0) }, GatherKind::Done)
}

pub(crate) fn flushall<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    check_flush(args)?;
    call.everywhere(Request::Flush { delay_ms: 0 }, GatherKind::Done)
}
