//! The meta commands: one letter a wish, in any order, and most of them answered in that
//! order.
//!
//! Clients also use them to share out the work of refreshing an entry: a get creates what is
//! absent (`N`) or claims what soon expires (`R`), a set or a delete leaves a stale entry
//! behind (`I`), and answers tell who has the claim (`W`, `Z`) and what is stale (`X`). That
//! needs claims on entries, which the node does not have; [`is_of_claims`] is the one place
//! that knows those flags, and they are refused.

use corelane_protocol::{
    Absent, Answer, Arithmetic, Count, DeleteCondition, Description, Direction, OldValue,
    Remaining, Reply, Request, RequestHead, Set, SetCondition, Side, Status, Ttl, Version,
    WantVersion, WithValue,
};

use super::base64;
use super::limits::{KEY_BYTES_MAX, META_WORDS_MAX, OPAQUE_BYTES_MAX};
use super::line::{Arguments, Words, signed, unsigned};
use super::shape;
use super::time::{self, Zero};
use super::{BAD_FORMAT, Parsed, shaped};
use crate::number;
use crate::step::{Moment, Step, ValueHead};

/// Which meta command it is, as far as its answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `mg`.
    Get,
    /// `ms`.
    Set(SetKind),
    /// `md`.
    Delete,
    /// `ma`.
    Count,
    /// `me`.
    Describe,
}

/// What the answer to a set depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// A condition that does not hold is another version; nothing there is "not found".
    Compared,
    /// A condition that does not hold is that there is an entry, or none.
    Conditional,
    /// A condition that does not hold is another version; nothing there is "not stored".
    Extended,
}

/// Whether the answer that is to be expected is left out (`q`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Everything is answered.
    No,
    /// A miss of a get, and the success of others, is not answered.
    Yes,
}

/// How the reply to a meta command is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The command.
    pub command: Command,
    /// Whether it is quiet.
    pub quiet: Quiet,
}

/// Whether a flag asks for a claim on an entry, or for a stale one.
fn is_of_claims(command: Command, flag: u8) -> bool {
    match command {
        Command::Get => matches!(flag, b'N' | b'R'),
        Command::Set(_) | Command::Delete => flag == b'I',
        Command::Count | Command::Describe => false,
    }
}

const CLAIMS_REFUSED: &str = "CLIENT_ERROR flags N and R of mg, and I, are not supported";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";
const BAD_FLAGS: &str = "CLIENT_ERROR invalid or duplicate flag";
const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long";

/// What the flags of a command say.
#[derive(Clone, Copy, Debug)]
struct Flags {
    quiet: Quiet,
    binary: bool,
    value: bool,
    /// Something is asked for that only a description tells.
    described: bool,
    opaque_too_long: bool,
    want_version: WantVersion,
    ttl: Option<Ttl>,
    vivify: Option<Ttl>,
    user_flags: u32,
    compare: Option<Version>,
    mode: Option<u8>,
    delta: u64,
    initial: u64,
}

impl Flags {
    /// Reads flags. Of several that are wrong the last is told, but for one that is not
    /// known or comes twice, which ends the reading.
    fn parse(command: Command, words: &[&[u8]], moment: Moment) -> Result<Flags, &'static str> {
        let mut flags = Flags {
            quiet: Quiet::No,
            binary: false,
            value: false,
            described: false,
            opaque_too_long: false,
            want_version: WantVersion::No,
            ttl: None,
            vivify: None,
            user_flags: 0,
            compare: None,
            mode: None,
            delta: 1,
            initial: 0,
        };
        let mut seen = 0u128;
        let mut wrong = None;
        for word in words {
            let (&flag, argument) = word.split_first().expect("a word has a byte");
            let bit = 1u128.checked_shl(flag.into()).unwrap_or(u128::MAX);
            if seen & bit != 0 || flag >= 127 {
                return Err("CLIENT_ERROR duplicate flag");
            }
            seen |= bit;
            let read = match flag {
                _ if is_of_claims(command, flag) => Err(CLAIMS_REFUSED),
                // Not kept; clients that ask for it with every get do without (meta-memcache).
                b'l' => Ok(()),
                b'k' | b's' | b'f' | b'u' | b'P' | b'L' | b'I' | b'R' => Ok(()),
                // Neither is told by these commands.
                b'c' if command == Command::Delete => Ok(()),
                b'h' if command == Command::Count => Ok(()),
                b'b' => {
                    flags.binary = true;
                    Ok(())
                }
                b'q' => {
                    flags.quiet = Quiet::Yes;
                    Ok(())
                }
                b'v' => {
                    flags.value = true;
                    Ok(())
                }
                b't' | b'h' => {
                    flags.described = true;
                    Ok(())
                }
                b'c' => {
                    flags.want_version = WantVersion::Yes;
                    Ok(())
                }
                b'O' => {
                    flags.opaque_too_long = word.len() > OPAQUE_BYTES_MAX;
                    Ok(())
                }
                b'T' => seconds(argument, moment).map(|ttl| flags.ttl = Some(ttl)),
                b'N' => seconds(argument, moment).map(|ttl| flags.vivify = Some(ttl)),
                b'F' => unsigned(argument)
                    .and_then(|number| u32::try_from(number).ok())
                    .map(|number| flags.user_flags = number)
                    .ok_or(BAD_FORMAT),
                b'C' => unsigned(argument)
                    .map(|number| flags.compare = Some(Version(number)))
                    .ok_or(BAD_TOKEN),
                b'M' => match *argument {
                    [mode] => {
                        flags.mode = Some(mode);
                        Ok(())
                    }
                    _ => Err("CLIENT_ERROR incorrect length for M token"),
                },
                b'J' => unsigned(argument)
                    .map(|number| flags.initial = number)
                    .ok_or("CLIENT_ERROR invalid numeric initial value"),
                b'D' => unsigned(argument)
                    .map(|number| flags.delta = number)
                    .ok_or("CLIENT_ERROR invalid numeric delta value"),
                _ => return Err("CLIENT_ERROR invalid flag"),
            };
            wrong = read.err().or(wrong);
        }
        wrong.map_or(Ok(flags), Err)
    }

    fn head(&self) -> RequestHead {
        RequestHead {
            answer: Answer::Always,
            want_version: self.want_version,
            ..RequestHead::default()
        }
    }
}

fn seconds(argument: &[u8], moment: Moment) -> Result<Ttl, &'static str> {
    // What is said by a flag is meant: 0 is never, not the node's default.
    signed(argument).map(|seconds| time::ttl(seconds, Zero::Never, moment)).ok_or(BAD_TOKEN)
}

/// The key that a command names, decoded into `buffer` where it is in Base64.
fn key<'a>(
    word: &'a [u8],
    flags: &Flags,
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> Result<&'a [u8], &'static str> {
    if !flags.binary {
        return Ok(word);
    }
    base64::decode(word, buffer).ok_or("CLIENT_ERROR error decoding key")
}

/// Parses a meta command. `after` is what has arrived after its line.
pub(super) fn parse<'a>(
    line: &'a [u8],
    after: &'a [u8],
    value_bytes_max: usize,
    moment: Moment,
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> Parsed<'a> {
    let arguments = Arguments::<{ META_WORDS_MAX + 1 }>::of(Words::of(line));
    let words = arguments.as_slice();
    let [name, arguments @ ..] = words else { return Parsed::refused("ERROR") };
    if *name == b"mn" {
        return Parsed::Answered("MN");
    }
    let &[word, ref flags @ ..] = arguments else {
        let is_debug = *name == b"me";
        return Parsed::refused(if is_debug { BAD_FORMAT } else { "ERROR" });
    };
    if word.len() > KEY_BYTES_MAX {
        return Parsed::refused(BAD_FORMAT);
    }
    let too_many = words.len() > META_WORDS_MAX;
    let parsed = match *name {
        b"mg" if too_many => Err("CLIENT_ERROR options flags are too long"),
        b"mg" => get(word, flags, line, moment, buffer),
        b"ms" if flags.is_empty() => Err(BAD_FORMAT),
        b"md" | b"ma" | b"ms" if too_many => Err("CLIENT_ERROR options flags too long"),
        b"ms" => return set(word, flags, line, after, value_bytes_max, moment, buffer),
        b"md" => delete(word, flags, line, moment, buffer),
        b"ma" => count(word, flags, line, moment, buffer),
        b"me" => describe(word, flags, line, buffer),
        _ => Err("ERROR"),
    };
    parsed.map_or_else(Parsed::refused, |step| Parsed::Command { step, data: 0 })
}

fn get<'a>(
    word: &'a [u8],
    flags: &[&[u8]],
    line: &'a [u8],
    moment: Moment,
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> Result<Step<'a>, &'static str> {
    let flags = Flags::parse(Command::Get, flags, moment)?;
    let key = key(word, &flags, buffer)?;
    if flags.opaque_too_long {
        return Err(OPAQUE_TOO_LONG);
    }
    let request = match (flags.value, flags.described, flags.ttl) {
        (true, false, None) => Request::Get { key, least_version: None },
        (true, false, Some(ttl)) => Request::GetAndTouch { key, ttl },
        (value, _, touch) => {
            let value = if value { WithValue::Yes } else { WithValue::Counted };
            Request::Describe { key, value, touch }
        }
    };
    Ok(step(Command::Get, &flags, request, line))
}

fn set<'a>(
    word: &'a [u8],
    flags: &[&'a [u8]],
    line: &'a [u8],
    after: &'a [u8],
    value_bytes_max: usize,
    moment: Moment,
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> Parsed<'a> {
    let [length, flags @ ..] = flags else { return Parsed::refused(BAD_FORMAT) };
    let Some(length) = signed(length).and_then(|length| usize::try_from(length).ok()) else {
        return Parsed::refused(BAD_FORMAT);
    };
    let data = length + 2;
    let refused = |text| Parsed::Refused { text, data };
    // The answers of a set without a mode are those of a comparison.
    let flags = match Flags::parse(Command::Set(SetKind::Compared), flags, moment) {
        Ok(flags) => flags,
        Err(text) => return refused(text),
    };
    let key = match key(word, &flags, buffer) {
        Ok(key) => key,
        Err(text) => return refused(text),
    };
    let versioned = flags.compare.map_or(SetCondition::Always, SetCondition::VersionIs);
    let (kind, store) = match flags.mode {
        None | Some(b'S') => (SetKind::Compared, Store::Set(versioned)),
        Some(b'R') if flags.compare.is_some() => (SetKind::Compared, Store::Set(versioned)),
        Some(b'R') => (SetKind::Conditional, Store::Set(SetCondition::Present)),
        Some(b'E') => (SetKind::Conditional, Store::Set(SetCondition::Absent)),
        Some(b'A') => (SetKind::Extended, Store::Extend(Side::Append)),
        Some(b'P') => (SetKind::Extended, Store::Extend(Side::Prepend)),
        Some(_) => return refused("CLIENT_ERROR invalid mode for ms M token"),
    };
    if flags.opaque_too_long {
        return refused(OPAQUE_TOO_LONG);
    }
    if length > value_bytes_max {
        let step = shaped(
            flags.head(),
            Request::Delete { key, condition: DeleteCondition::Always },
            super::Shape::TooLarge,
            line,
        );
        return Parsed::Command { step, data };
    }
    let Some(block) = after.get(..data) else { return Parsed::Incomplete { data } };
    let Some(value) = block.strip_suffix(b"\r\n") else {
        return refused("CLIENT_ERROR bad data chunk");
    };
    let request = match store {
        Store::Set(condition) => Request::Set(Set {
            key,
            value,
            user_flags: flags.user_flags,
            ttl: flags.ttl.unwrap_or_default(),
            condition,
            old: OldValue::Omit,
        }),
        Store::Extend(side) => match flags.compare {
            None => Request::Extend { key, value, side, absent: Absent::Miss },
            Some(version) => Request::ExtendIf { key, value, side, version },
        },
    };
    Parsed::Command { step: step(Command::Set(kind), &flags, request, line), data }
}

/// What a set does with its value.
#[derive(Clone, Copy, Debug)]
enum Store {
    Set(SetCondition<'static>),
    Extend(Side),
}

fn delete<'a>(
    word: &'a [u8],
    flags: &[&[u8]],
    line: &'a [u8],
    moment: Moment,
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> Result<Step<'a>, &'static str> {
    let flags = Flags::parse(Command::Delete, flags, moment).map_err(unless_of_claims)?;
    let key = key(word, &flags, buffer).map_err(|_| BAD_FLAGS)?;
    if flags.opaque_too_long {
        return Err(OPAQUE_TOO_LONG);
    }
    let condition = flags.compare.map_or(DeleteCondition::Always, DeleteCondition::VersionIs);
    Ok(step(Command::Delete, &flags, Request::Delete { key, condition }, line))
}

fn count<'a>(
    word: &'a [u8],
    flags: &[&[u8]],
    line: &'a [u8],
    moment: Moment,
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> Result<Step<'a>, &'static str> {
    let flags = Flags::parse(Command::Count, flags, moment).map_err(unless_of_claims)?;
    let key = key(word, &flags, buffer).map_err(|_| BAD_FLAGS)?;
    let direction = match flags.mode {
        None | Some(b'I' | b'+') => Direction::Increment,
        Some(b'D' | b'-') => Direction::Decrement,
        Some(_) => return Err("CLIENT_ERROR invalid mode for ma M token"),
    };
    if flags.opaque_too_long {
        return Err(OPAQUE_TOO_LONG);
    }
    let count = Count {
        key,
        delta: flags.delta,
        direction,
        arithmetic: Arithmetic::Unsigned64,
        initial: flags.vivify.map(|_| flags.initial),
        ttl: flags.vivify.unwrap_or_default(),
    };
    let request = match (flags.described, flags.compare, flags.ttl) {
        (false, None, None) => Request::Count(count),
        (_, version, touch) => Request::CountAndDescribe { count, version, touch },
    };
    Ok(step(Command::Count, &flags, request, line))
}

/// Delete and count have one text for all that is wrong with their flags.
fn unless_of_claims(text: &'static str) -> &'static str {
    if text == CLAIMS_REFUSED { text } else { BAD_FLAGS }
}

fn describe<'a>(
    word: &'a [u8],
    flags: &[&[u8]],
    line: &'a [u8],
    buffer: &'a mut [u8; KEY_BYTES_MAX],
) -> Result<Step<'a>, &'static str> {
    let key = match flags {
        [first, ..] if *first == b"b" => base64::decode(word, buffer).ok_or(BAD_FORMAT)?,
        _ => word,
    };
    let request = Request::Describe { key, value: WithValue::No, touch: None };
    let head = RequestHead { want_version: WantVersion::Yes, ..RequestHead::default() };
    let shape = Shape { command: Command::Describe, quiet: Quiet::No };
    Ok(shaped(head, request, super::Shape::Meta(shape), line))
}

fn step<'a>(command: Command, flags: &Flags, request: Request<'a>, line: &'a [u8]) -> Step<'a> {
    let shape = Shape { command, quiet: flags.quiet };
    shaped(flags.head(), request, super::Shape::Meta(shape), line)
}

/// What an answer can tell of an entry; each flag that asks for what is not here is passed
/// over, as memcached does where a command does not answer it. So is `l`: the time of the last
/// access is not kept, and there are clients that always ask for it.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    bytes: Option<usize>,
    user_flags: Option<u32>,
    version: Option<u64>,
    remaining: Option<Remaining>,
    uses: Option<u8>,
}

impl Told {
    fn of(head: ValueHead) -> Told {
        Told {
            bytes: Some(head.bytes),
            user_flags: Some(head.user_flags),
            version: head.version.map(|version| version.0),
            remaining: head.description.map(|description| description.remaining),
            uses: head.description.map(|description| description.uses),
        }
    }
}

impl Shape {
    /// Appends the rendering of a reply. `line` is that of the command.
    pub(super) fn render(self, line: &[u8], reply: &Reply<'_>, moment: Moment, out: &mut Vec<u8>) {
        let is_quiet = self.quiet == Quiet::Yes;
        match (self.command, reply) {
            (_, Reply::Value(value)) => {
                self.value_header(line, ValueHead::of(value), moment, out);
                out.extend_from_slice(value.bytes);
                out.extend_from_slice(b"\r\n");
            }
            (Command::Count, Reply::Described { .. }) if is_quiet => {}
            (Command::Count, Reply::Described { description, value: Some(number) }) => {
                let told = Told {
                    version: description.version.map(|version| version.0),
                    remaining: Some(description.remaining),
                    ..Told::default()
                };
                let number = unsigned(number).expect("that is what was counted");
                self.number(line, number, told, moment, out);
            }
            (_, Reply::Described { description, value: Some(value) }) => {
                self.value_header(line, ValueHead::of_described(description), moment, out);
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
            (Command::Describe, Reply::Described { description, value: None }) => {
                debug_line(line, description, out);
            }
            (_, Reply::Described { description, value: None }) => {
                out.extend_from_slice(b"HD");
                let told = Told::of(ValueHead::of_described(description));
                self.flags(line, told, moment, out);
            }
            (_, Reply::Number { .. } | Reply::Done { .. }) if is_quiet => {}
            (Command::Count, Reply::Number { number, version }) => {
                let told = Told { version: version.map(|version| version.0), ..Told::default() };
                self.number(line, *number, told, moment, out);
            }
            (_, Reply::Number { version, .. } | Reply::Done { version }) => {
                self.status(b"HD", line, *version, moment, out);
            }
            (_, Reply::Failed { status, message }) => {
                self.failure(*status, message, line, moment, out);
            }
            (_, Reply::Busy { .. }) => out.extend_from_slice(shape::BUSY),
            (_, Reply::Redirect(redirect)) => shape::elsewhere(redirect, out),
            _ => unreachable!("{reply:?} does not answer a meta command"),
        }
    }

    /// Appends what comes before the bytes of a value.
    pub(super) fn value_header(
        self,
        line: &[u8],
        head: ValueHead,
        moment: Moment,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"VA ");
        number::unsigned(head.bytes as u64, out);
        self.flags(line, Told::of(head), moment, out);
    }

    fn number(self, line: &[u8], number: u64, told: Told, moment: Moment, out: &mut Vec<u8>) {
        if !self.words(line).any(|word| word == b"v") {
            out.extend_from_slice(b"HD");
            return self.flags(line, told, moment, out);
        }
        out.extend_from_slice(b"VA ");
        number::unsigned(number::digits(number) as u64, out);
        self.flags(line, told, moment, out);
        number::unsigned(number, out);
        out.extend_from_slice(b"\r\n");
    }

    fn failure(
        self,
        status: Status,
        message: &str,
        line: &[u8],
        moment: Moment,
        out: &mut Vec<u8>,
    ) {
        let code = match (self.command, status) {
            (Command::Get, Status::NotFound) if self.quiet == Quiet::Yes => return,
            (Command::Describe, Status::NotFound) => return out.extend_from_slice(b"EN\r\n"),
            (Command::Get, Status::NotFound) => b"EN",
            (Command::Set(SetKind::Conditional), Status::ConditionFailed) => b"NS",
            (Command::Set(SetKind::Conditional | SetKind::Extended), Status::NotFound) => b"NS",
            (_, Status::NotFound) => b"NF",
            (_, Status::ConditionFailed) => b"EX",
            (Command::Count, Status::OutOfMemory) => {
                return out.extend_from_slice(b"SERVER_ERROR out of memory\r\n");
            }
            _ => return shape::failed(status, message, out),
        };
        self.status(code, line, None, moment, out);
    }

    /// Appends a status and the flags that are answered with it.
    fn status(
        self,
        code: &[u8; 2],
        line: &[u8],
        version: Option<Version>,
        moment: Moment,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(code);
        // A set that failed answers no version by 0.
        let version = match self.command {
            Command::Set(_) => Some(version.map_or(0, |version| version.0)),
            _ => None,
        };
        self.flags(line, Told { version, ..Told::default() }, moment, out);
    }

    /// The words of the command that are flags.
    fn words(self, line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
        let before = if matches!(self.command, Command::Set(_)) { 3 } else { 2 };
        Words::of(line).skip(before)
    }

    /// Appends the answers to the flags in their order, and the end of the line.
    fn flags(self, line: &[u8], mut told: Told, moment: Moment, out: &mut Vec<u8>) {
        for word in self.words(line) {
            match word[0] {
                b'O' => {
                    out.push(b' ');
                    out.extend_from_slice(word);
                }
                b'k' => {
                    out.extend_from_slice(b" k");
                    out.extend_from_slice(Words::of(line).nth(1).expect("the key was parsed"));
                    if self.words(line).any(|word| word[0] == b'b') {
                        out.extend_from_slice(b" b");
                    }
                }
                b'T' => {
                    // What is asked for after it is answered as it has made it.
                    let ttl = seconds(&word[1..], moment);
                    told.remaining = told.remaining.and(ttl.ok()).and_then(time::remaining);
                }
                b's' => flag(b's', told.bytes.map(|bytes| bytes as u64), out),
                b'f' => flag(b'f', told.user_flags.map(u64::from), out),
                b'c' => flag(b'c', told.version, out),
                b'h' => flag(b'h', told.uses.map(|uses| u64::from(uses > 0)), out),
                b't' => match told.remaining {
                    Some(Remaining::Never) => out.extend_from_slice(b" t-1"),
                    Some(Remaining::Ms(ms)) => flag(b't', Some(ms.div_ceil(1_000)), out),
                    None => {}
                },
                _ => {}
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn flag(name: u8, number: Option<u64>, out: &mut Vec<u8>) {
    if let Some(number) = number {
        out.extend_from_slice(&[b' ', name]);
        number::unsigned(number, out);
    }
}

/// The answer to `me`, as far as it is known here.
fn debug_line(line: &[u8], description: &Description, out: &mut Vec<u8>) {
    out.extend_from_slice(b"ME ");
    out.extend_from_slice(Words::of(line).nth(1).expect("the key was parsed"));
    out.extend_from_slice(b" exp=");
    match description.remaining {
        Remaining::Never => out.extend_from_slice(b"-1"),
        Remaining::Ms(ms) => number::unsigned(ms.div_ceil(1_000), out),
    }
    out.extend_from_slice(b" cas=");
    number::unsigned(description.version.map_or(0, |version| version.0), out);
    let fetched: &[u8] = if description.uses > 0 { b" fetch=yes" } else { b" fetch=no" };
    out.extend_from_slice(fetched);
    out.extend_from_slice(b" cls=1 size=");
    number::unsigned(description.memory_bytes, out);
    out.extend_from_slice(b"\r\n");
}
