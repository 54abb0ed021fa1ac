//! Commands that concern the connection they come on.

use super::call::{Call, Outcome, Refusal, integer, is, take};
use super::keys;
use super::parse::{Args, parse_integer};
use super::session::{Replies, State};
use super::write::{self, Revision};
use crate::facts::Facts;
use crate::limits::NAME_BYTES_MAX;
use crate::step::Step;

/// The version of Redis whose commands and words these are. Clients decide by it what they
/// may ask for.
pub(crate) const REDIS_VERSION: &str = "7.0.15";

const WRONG_PASSWORD: Refusal =
    Refusal::Words("WRONGPASS invalid username-password pair or user is disabled.");

pub(crate) fn ping<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    match (args.only(), args.len()) {
        (Some(text), _) => write::bulk(text, call.out),
        (None, 0) => write::simple("PONG", call.out),
        (None, _) => return Err(Refusal::Arity),
    }
    Ok(Step::Answered)
}

pub(crate) fn echo<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [text] = take(&mut args);
    write::bulk(text, call.out);
    Ok(Step::Answered)
}

pub(crate) fn quit<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    write::simple("OK", call.out);
    Ok(Step::Close)
}

pub(crate) fn select<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [number] = take(&mut args);
    call.state.space = keys::space(number)?;
    call.ok()
}

pub(crate) fn reset<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let unauthorized = call.facts.needs_token();
    *call.state = State { unauthorized, latest: call.state.latest, ..State::default() };
    write::simple("RESET", call.out);
    Ok(Step::Answered)
}

/// Proves who a client is. There is one user, whose name is Redis's; where the node has no
/// token, that user has no password, and any will do.
fn prove(state: &mut State, facts: &dyn Facts, user: &[u8], password: &[u8]) -> Outcome<'static> {
    let known = user == b"default" && (!facts.needs_token() || facts.is_token(password));
    if !known {
        return Err(WRONG_PASSWORD);
    }
    state.unauthorized = false;
    Ok(Step::Answered)
}

pub(crate) fn auth<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let (user, password) = match args.len() {
        1 if !call.facts.needs_token() => {
            return Err(Refusal::Words(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        1 => (&b"default"[..], take::<1>(&mut args)[0]),
        2 => {
            let [user, password] = take(&mut args);
            (user, password)
        }
        _ => return Err(Refusal::SYNTAX),
    };
    prove(call.state, call.facts, user, password)?;
    call.ok()
}

pub(crate) fn hello<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let revision = match args.next() {
        None => call.state.revision,
        Some(version) => match parse_integer(version) {
            Some(2) => Revision::Two,
            Some(3) => Revision::Three,
            Some(_) => return Err(Refusal::Words("NOPROTO unsupported protocol version")),
            None => {
                return Err(Refusal::Words(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        },
    };
    let mut name = None;
    while let Some(option) = args.next() {
        if is(option, "auth") && args.len() >= 2 {
            let [user, password] = take(&mut args);
            prove(call.state, call.facts, user, password)?;
        } else if is(option, "setname") && args.len() >= 1 {
            let [given] = take(&mut args);
            name = Some(checked_name(given)?);
        } else {
            let option = option.split(|&byte| byte == 0).next().unwrap_or(b"");
            let text = [b"ERR Syntax error in HELLO option '", option, b"'"].concat();
            return Err(Refusal::Told(text));
        }
    }
    if call.state.unauthorized {
        return Err(Refusal::Words(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client \
             and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call.state.name = name.to_vec();
    }
    call.state.revision = revision;
    let mode = if call.facts.cluster().is_some() { "cluster" } else { "standalone" };
    let out = &mut *call.out;
    write::map(revision, 7, out);
    let mut text = |name: &str, value: &str| {
        write::bulk(name.as_bytes(), out);
        write::bulk(value.as_bytes(), out);
    };
    text("server", "redis");
    text("version", REDIS_VERSION);
    write::bulk(b"proto", out);
    write::integer(if revision == Revision::Two { 2 } else { 3 }, out);
    write::bulk(b"id", out);
    write::integer(call.facts.client().number as i64, out);
    for (name, value) in [("mode", mode), ("role", "master")] {
        write::bulk(name.as_bytes(), out);
        write::bulk(value.as_bytes(), out);
    }
    write::bulk(b"modules", out);
    write::array(0, out);
    Ok(Step::Answered)
}

/// What may stand in `CLIENT LIST` without confusing whoever reads it.
fn is_plain(text: &[u8]) -> bool {
    text.len() <= NAME_BYTES_MAX && text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn checked_name(name: &[u8]) -> Result<&[u8], Refusal> {
    if is_plain(name) {
        return Ok(name);
    }
    Err(Refusal::Words("ERR Client names cannot contain spaces, newlines or special characters."))
}

pub(crate) fn client_id<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let number = call.facts.client().number;
    call.integer(number as i64)
}

pub(crate) fn client_setname<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [name] = take(&mut args);
    call.state.name = checked_name(name)?.to_vec();
    call.ok()
}

pub(crate) fn client_getname<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    match call.state.name.as_slice() {
        [] => write::null(call.state.revision, call.out),
        name => write::bulk(name, call.out),
    }
    Ok(Step::Answered)
}

pub(crate) fn client_setinfo<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [attribute, value] = take(&mut args);
    let (place, name) = if is(attribute, "lib-name") {
        (&mut call.state.library_name, "lib-name")
    } else if is(attribute, "lib-ver") {
        (&mut call.state.library_version, "lib-ver")
    } else {
        let text = [b"ERR Unrecognized option '", attribute, b"'"].concat();
        return Err(Refusal::Told(text));
    };
    if !is_plain(value) {
        let text = format!("ERR {name} cannot contain spaces, newlines or special characters.");
        return Err(Refusal::Told(text.into_bytes()));
    }
    *place = value.to_vec();
    call.ok()
}

/// Every connection of Corelane is as Redis's with the option off: none is ever evicted, and
/// none is kept from counting as a reader.
pub(crate) fn client_no_evict<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [how] = take(&mut args);
    if !is(how, "on") && !is(how, "off") {
        return Err(Refusal::SYNTAX);
    }
    call.ok()
}

pub(crate) fn client_reply<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [how] = take(&mut args);
    let is_off = call.state.replies == Replies::Off;
    if is(how, "on") {
        call.state.replies = Replies::On;
        return call.ok();
    }
    if is(how, "off") {
        call.state.replies = Replies::Off;
    } else if is(how, "skip") {
        if !is_off {
            call.state.replies = Replies::SkipNext;
        }
    } else {
        return Err(Refusal::SYNTAX);
    }
    Ok(Step::Answered)
}

pub(crate) fn wait<'a>(call: &mut Call<'_, 'a>, mut args: Args<'a>) -> Outcome<'a> {
    let [replicas, timeout] = take(&mut args);
    integer(replicas)?;
    match parse_integer(timeout) {
        None => Err(Refusal::Words("ERR timeout is not an integer or out of range")),
        Some(..0) => Err(Refusal::Words("ERR timeout is negative")),
        // There are no replicas, so none has what was written.
        Some(_) => call.integer(0),
    }
}

pub(crate) fn time<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let ms = call.moment.unix_ms;
    write::array(2, call.out);
    for number in [ms / 1_000, ms % 1_000 * 1_000] {
        let mut text = Vec::with_capacity(20);
        write::unsigned(number, &mut text);
        write::bulk(&text, call.out);
    }
    Ok(Step::Answered)
}
