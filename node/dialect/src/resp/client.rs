//! `CLIENT LIST` and `CLIENT KILL`: which connections are meant, and how one is described.

use std::fmt::Display;
use std::io::Write;

use super::call::{Call, Outcome, Refusal, is, take};
use super::gather::GatherKind;
use super::parse::{Args, parse_integer};
use super::session::State;
use super::write::{self, Revision};
use crate::facts::ClientFacts;
use crate::step::{self, Control, Step};

/// Which connections a command means, as its arguments say it. They were checked, and are
/// read again for each connection.
#[derive(Clone, Debug)]
pub struct ClientFilter<'a> {
    form: FilterForm,
    args: Args<'a>,
    /// The connection that asks.
    own: u64,
}

/// How the arguments are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilterForm {
    /// `TYPE type` or `ID number…`.
    List,
    /// Pairs, all of which must hold.
    Kill,
    /// An address.
    KillAddress,
}

impl<'a> ClientFilter<'a> {
    /// Whether a connection is meant.
    pub fn matches(&self, client: &ClientFacts<'_>) -> bool {
        let mut args = self.args.clone();
        match self.form {
            FilterForm::KillAddress => {
                args.next().is_some_and(|address| is_address(address, client.addresses.remote()))
            }
            FilterForm::List => match args.next() {
                None => true,
                Some(kind) if is(kind, "type") => args.next().is_some_and(is_normal),
                Some(_) => args.any(|id| parse_integer(id) == i64::try_from(client.number).ok()),
            },
            FilterForm::Kill => {
                let mut skips_own = true;
                while let (Some(name), Some(value)) = (args.next(), args.next()) {
                    let holds = if is(name, "id") {
                        parse_integer(value) == i64::try_from(client.number).ok()
                    } else if is(name, "addr") {
                        is_address(value, client.addresses.remote())
                    } else if is(name, "laddr") {
                        is_address(value, client.addresses.local())
                    } else if is(name, "type") {
                        is_normal(value)
                    } else if is(name, "skipme") {
                        skips_own = is(value, "yes");
                        true
                    } else {
                        // There is but one user.
                        value == b"default"
                    };
                    if !holds {
                        return false;
                    }
                }
                !(skips_own && client.number == self.own)
            }
        }
    }

    /// Appends it in a form for another core of the node.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.form {
            FilterForm::List => 0,
            FilterForm::Kill => 1,
            FilterForm::KillAddress => 2,
        });
        out.extend_from_slice(&self.own.to_le_bytes());
        out.extend_from_slice(&(self.args.len() as u32).to_le_bytes());
        out.extend_from_slice(self.args.encoded());
    }

    /// What [`ClientFilter::encode`] wrote.
    pub fn decode(bytes: &'a [u8]) -> Option<ClientFilter<'a>> {
        let (&form, rest) = bytes.split_first()?;
        let (own, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let form = match form {
            0 => FilterForm::List,
            1 => FilterForm::Kill,
            _ => FilterForm::KillAddress,
        };
        let args = Args::from_encoded(rest, u32::from_le_bytes(*count) as usize);
        Some(ClientFilter { form, args, own: u64::from_le_bytes(*own) })
    }
}

fn is_address(text: &[u8], address: impl Display) -> bool {
    text == address.to_string().as_bytes()
}

/// All connections are of the type that Redis calls normal.
fn is_normal(kind: &[u8]) -> bool {
    is(kind, "normal")
}

fn check_type(kind: &[u8]) -> Result<(), Refusal> {
    if ["normal", "master", "replica", "slave", "pubsub"].iter().any(|known| is(kind, known)) {
        return Ok(());
    }
    Err(Refusal::Told([b"ERR Unknown client type '", kind, b"'"].concat()))
}

pub(crate) fn list<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let mut rest = args.clone();
    match rest.next() {
        None => {}
        Some(kind) if is(kind, "type") && rest.len() == 1 => check_type(take::<1>(&mut rest)[0])?,
        Some(by) if is(by, "id") && rest.len() > 0 => {
            let are_numbers = rest.all(|id| matches!(parse_integer(id), Some(1..)));
            are_numbers.then_some(()).ok_or(Refusal::Words("ERR Invalid client ID"))?;
        }
        Some(_) => return Err(Refusal::SYNTAX),
    }
    let own = call.facts.client().number;
    let filter = ClientFilter { form: FilterForm::List, args, own };
    let gather = step::Gather::Resp(call.gather(GatherKind::Text));
    Ok(Step::Control { control: Control::ListClients(filter), gather })
}

pub(crate) fn info<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let mut text = Vec::new();
    line(&call.facts.client(), "resp", Some(call.state), &mut text);
    write::verbatim(call.state.revision, &text, call.out);
    Ok(Step::Answered)
}

pub(crate) fn kill<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let own = call.facts.client().number;
    let (form, kind) = if args.len() == 1 {
        (FilterForm::KillAddress, GatherKind::Killed)
    } else {
        check_kill(args.clone())?;
        (FilterForm::Kill, GatherKind::Sum)
    };
    let filter = ClientFilter { form, args, own };
    let gather = step::Gather::Resp(call.gather(kind));
    Ok(Step::Control { control: Control::CloseClients(filter), gather })
}

fn check_kill(mut args: Args<'_>) -> Result<(), Refusal> {
    while let Some(name) = args.next() {
        let value = args.next().ok_or(Refusal::SYNTAX)?;
        if is(name, "id") {
            if !matches!(parse_integer(value), Some(1..)) {
                return Err(Refusal::Words("ERR client-id should be greater than 0"));
            }
        } else if is(name, "type") {
            check_type(value)?;
        } else if is(name, "user") {
            if value != b"default" {
                return Err(Refusal::Told([b"ERR No such user '", value, b"'"].concat()));
            }
        } else if is(name, "skipme") {
            if !is(value, "yes") && !is(value, "no") {
                return Err(Refusal::SYNTAX);
            }
        } else if !is(name, "addr") && !is(name, "laddr") {
            return Err(Refusal::SYNTAX);
        }
    }
    Ok(())
}

/// Appends the line of `CLIENT LIST` of a connection that does not speak RESP. `dialect` names
/// what it speaks; empty where it has said nothing yet.
pub fn describe_client(client: &ClientFacts<'_>, dialect: &str, out: &mut Vec<u8>) {
    line(client, dialect, None, out);
}

/// Appends a connection's line of `CLIENT LIST`: Redis's fields, and last what it speaks.
pub(crate) fn line(
    client: &ClientFacts<'_>,
    dialect: &str,
    state: Option<&State>,
    out: &mut Vec<u8>,
) {
    let ClientFacts { number, addresses, age_s, idle_s, input_bytes, output_bytes } = client;
    let (address, local_address) = (addresses.remote(), addresses.local());
    let name = state.map_or("".into(), |state| String::from_utf8_lossy(&state.name));
    let flags = match state {
        Some(state) if state.transaction.is_some() => "x",
        _ => "N",
    };
    let queued = state.and_then(|state| state.transaction.as_ref());
    let multi = queued.map_or(-1, |transaction| i64::from(transaction.commands()));
    let command = state.and_then(|state| state.latest).map_or("NULL", |command| command.name);
    let space = state.map_or(0, |state| state.space.number());
    let resp = if state.is_some_and(|it| it.revision == Revision::Three) { 3 } else { 2 };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let library_name = state.map_or(String::new(), |state| text(&state.library_name));
    let library_version = state.map_or(String::new(), |state| text(&state.library_version));
    writeln!(
        out,
        "id={number} addr={address} laddr={local_address} fd=-1 name={name} age={age_s} \
         idle={idle_s} flags={flags} db={space} sub=0 psub=0 ssub=0 multi={multi} \
         qbuf={input_bytes} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 \
         obl={output_bytes} oll=0 omem={output_bytes} tot-mem={} events=r cmd={command} \
         user=default redir=-1 resp={resp} lib-name={library_name} lib-ver={library_version} \
         dialect={dialect}",
        input_bytes + output_bytes,
    )
    .expect("writing to a vector cannot fail");
}
