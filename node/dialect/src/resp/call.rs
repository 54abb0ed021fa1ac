//! What the translation of one command has at hand, and how it refuses one.

use corelane_protocol::limits::KEY_BYTES_MAX;
use corelane_protocol::{Request, RequestHead, Ttl};

use super::gather::{Gather, GatherKind};
use super::parse::{Args, parse_integer};
use super::session::State;
use super::shape::{self, Form, Shape};
use super::table::Command;
use super::write;
use crate::facts::Facts;
use crate::step::{self, Moment, Part, Step};

/// A command's step, or why it has none.
pub(crate) type Outcome<'a> = Result<Step<'a>, Refusal>;

/// A command under way.
pub(crate) struct Call<'c, 'a> {
    pub(crate) state: &'c mut State,
    pub(crate) facts: &'c dyn Facts,
    pub(crate) moment: Moment,
    pub(crate) out: &'c mut Vec<u8>,
    /// Room for what a request borrows though it did not arrive that way.
    pub(crate) scratch: Option<&'a mut Vec<u8>>,
    pub(crate) command: &'static Command,
}

/// Why a command is not carried out, in Redis's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// These, prefix included.
    Words(&'static str),
    /// These, with something of the client's in them.
    Told(Vec<u8>),
    /// An expiry that is no moment from now on.
    Expire,
    /// Too few or too many arguments.
    Arity,
}

impl Refusal {
    pub(crate) const SYNTAX: Refusal = Refusal::Words("ERR syntax error");
    pub(crate) const NOT_AN_INTEGER: Refusal =
        Refusal::Words("ERR value is not an integer or out of range");
    pub(crate) const KEY_TOO_LONG: Refusal = Refusal::Words(shape::KEY_TOO_LONG);
    pub(crate) const SPACE: Refusal = Refusal::Words("ERR DB index is out of range");
    pub(crate) const NO_CLUSTER: Refusal =
        Refusal::Words("ERR This instance has cluster support disabled");

    /// Appends it as the answer to a command.
    pub(crate) fn write(&self, command: &Command, out: &mut Vec<u8>) {
        match self {
            Refusal::Words(words) => write::error(words.as_bytes(), out),
            Refusal::Told(text) => write::error(text, out),
            Refusal::Expire => {
                let text = format!("ERR invalid expire time in '{}' command", command.name);
                write::error(text.as_bytes(), out);
            }
            Refusal::Arity => {
                let name = command.name;
                let text = format!("ERR wrong number of arguments for '{name}' command");
                write::error(text.as_bytes(), out);
            }
        }
    }
}

impl<'a> Call<'_, 'a> {
    /// The head of every request of this connection.
    pub(crate) fn head(&self) -> RequestHead {
        RequestHead { space: self.state.space, ..RequestHead::default() }
    }

    pub(crate) fn shape(&self, form: Form) -> Shape {
        let form = if self.state.is_silent() { Form::Silent } else { form };
        Shape { form, revision: self.state.revision }
    }

    /// One request.
    pub(crate) fn one(&self, request: Request<'a>, form: Form) -> Outcome<'a> {
        let second = match request {
            Request::Rename { to, .. } | Request::Copy { to, .. } => to,
            _ => b"",
        };
        let is_long = |key: &[u8]| key.len() > KEY_BYTES_MAX;
        if request.key().is_some_and(is_long) || is_long(second) {
            return Err(Refusal::KEY_TOO_LONG);
        }
        let shape = step::Shape::Resp(self.shape(form));
        Ok(Step::One(Part { head: self.head(), request, shape, echo: b"" }))
    }

    /// One request to every core.
    pub(crate) fn everywhere(&self, request: Request<'a>, kind: GatherKind) -> Outcome<'a> {
        let gather = step::Gather::Resp(self.gather(kind));
        Ok(Step::Everywhere { head: self.head(), request, gather })
    }

    pub(crate) fn gather(&self, kind: GatherKind) -> Gather {
        let is_silent = self.state.is_silent() && kind != GatherKind::Watch;
        let kind = if is_silent { GatherKind::Silent } else { kind };
        Gather { kind, revision: self.state.revision }
    }

    /// `OK`, at once.
    pub(crate) fn ok(&mut self) -> Outcome<'a> {
        write::simple("OK", self.out);
        Ok(Step::Answered)
    }

    pub(crate) fn integer(&mut self, number: i64) -> Outcome<'a> {
        write::integer(number, self.out);
        Ok(Step::Answered)
    }

    /// The time to live that an option gives, as [`Unit`] has it. Redis takes no expiry that
    /// is not positive, or that its clock cannot tell.
    pub(crate) fn ttl(&self, unit: Unit, number: i64) -> Result<Ttl, Refusal> {
        if number <= 0 {
            return Err(Refusal::Expire);
        }
        self.moment_of(unit, number).map(|unix_ms| self.ttl_until(unix_ms))
    }

    /// The moment that a number means, in milliseconds since 1970; it may have passed.
    pub(crate) fn moment_of(&self, unit: Unit, number: i64) -> Result<i64, Refusal> {
        let factor = if unit.is_seconds() { 1_000 } else { 1 };
        let ms = number.checked_mul(factor).ok_or(Refusal::Expire)?;
        if unit.is_absolute() {
            return Ok(ms);
        }
        let now = i64::try_from(self.moment.unix_ms).unwrap_or(i64::MAX);
        ms.checked_add(now).ok_or(Refusal::Expire)
    }

    /// The time to live that ends at a moment.
    pub(crate) fn ttl_until(&self, unix_ms: i64) -> Ttl {
        let ms = u64::try_from(unix_ms).unwrap_or(0).saturating_sub(self.moment.unix_ms);
        Ttl::After { ms, jitter: corelane_protocol::Jitter::Exact }
    }
}

/// What the number of an expiry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl Unit {
    fn is_seconds(self) -> bool {
        matches!(self, Unit::Seconds | Unit::UnixSeconds)
    }

    fn is_absolute(self) -> bool {
        matches!(self, Unit::UnixSeconds | Unit::UnixMilliseconds)
    }

    /// The option that is written so in `SET` and `GETEX`.
    pub(crate) fn option(word: &[u8]) -> Option<Unit> {
        match word.to_ascii_lowercase().as_slice() {
            b"ex" => Some(Unit::Seconds),
            b"px" => Some(Unit::Milliseconds),
            b"exat" => Some(Unit::UnixSeconds),
            b"pxat" => Some(Unit::UnixMilliseconds),
            _ => None,
        }
    }
}

/// Arguments whose number was checked with the command's arity.
pub(crate) fn take<'a, const N: usize>(args: &mut Args<'a>) -> [&'a [u8]; N] {
    std::array::from_fn(|_| args.next().expect("the arity was checked"))
}

/// A number, or the refusal for what is none.
pub(crate) fn integer(text: &[u8]) -> Result<i64, Refusal> {
    parse_integer(text).ok_or(Refusal::NOT_AN_INTEGER)
}

/// Whether two words are the same but for case.
pub(crate) fn is(word: &[u8], lower: &str) -> bool {
    word.eq_ignore_ascii_case(lower.as_bytes())
}
