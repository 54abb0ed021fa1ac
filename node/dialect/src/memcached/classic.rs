//! The text commands that memcached has had from the beginning.

use corelane_protocol::{
    Absent, Answer, Arithmetic, Count, DeleteCondition, Direction, ExpireCondition, OldValue,
    Request, RequestHead, Set, SetCondition, Side, Version, WantVersion,
};

use super::gather::{Gather, Page};
use super::limits::KEY_BYTES_MAX;
use super::line::{Arguments, Words, signed, unsigned};
use super::shape::{END, Place, Shape, Unique};
use super::time::{self, Zero};
use super::{BAD_FORMAT, Parsed, Parts, VERSION, shaped};
use crate::step::{Gather as AnyGather, Moment, Parts as AnyParts, Step};

/// Most words after the name of a command that is not a get, and one more.
const WORDS: usize = 8;

const ERROR: &str = "ERROR";
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";

/// What stores a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Swap,
}

/// Parses a command. `after` is what has arrived after its line.
pub(super) fn parse<'a>(
    line: &'a [u8],
    after: &'a [u8],
    value_bytes_max: usize,
    moment: Moment,
) -> Parsed<'a> {
    let mut words = Words::of(line);
    let Some(name) = words.next() else { return Parsed::refused(ERROR) };
    match name {
        b"get" => return gets(words, Unique::Untold),
        b"gets" => return gets(words, Unique::Told),
        b"gat" => return gets_and_touches(words, Unique::Untold, moment),
        b"gats" => return gets_and_touches(words, Unique::Told, moment),
        _ => {}
    }
    let arguments = Arguments::<WORDS>::of(words);
    let arguments = arguments.as_slice();
    let store = |kind| store(kind, arguments, after, value_bytes_max, moment);
    match name {
        b"set" => store(Store::Set),
        b"add" => store(Store::Add),
        b"replace" => store(Store::Replace),
        b"append" => store(Store::Append),
        b"prepend" => store(Store::Prepend),
        b"cas" => store(Store::Swap),
        b"incr" => count(arguments, Direction::Increment),
        b"decr" => count(arguments, Direction::Decrement),
        b"touch" => touch(arguments, moment),
        b"delete" => delete(arguments),
        b"flush_all" => flush(arguments, moment),
        b"stats" => stats(arguments),
        b"verbosity" => verbosity(arguments),
        b"version" => Parsed::Answered(VERSION),
        b"quit" => Parsed::Command { step: Step::Close, data: 0 },
        b"shutdown" => Parsed::refused("ERROR: shutdown not enabled"),
        _ => Parsed::refused(ERROR),
    }
}

/// Whether a command asks not to be answered, by its last word.
fn answer(arguments: &[&[u8]]) -> Answer {
    match arguments.last() {
        Some(&b"noreply") => Answer::Never,
        _ => Answer::Always,
    }
}

fn head(answer: Answer) -> RequestHead {
    RequestHead { answer, ..RequestHead::default() }
}

/// A refusal that is not told to who asked not to be answered.
fn refused<'a>(answer: Answer, text: &'static str) -> Parsed<'a> {
    match answer {
        Answer::Always => Parsed::refused(text),
        Answer::Never => Parsed::Command { step: Step::Answered, data: 0 },
    }
}

fn gets<'a>(words: Words<'a>, unique: Unique) -> Parsed<'a> {
    if words.clone().next().is_none() { Parsed::refused(ERROR) } else { keys(words, unique, None) }
}

fn gets_and_touches<'a>(mut words: Words<'a>, unique: Unique, moment: Moment) -> Parsed<'a> {
    let Some(seconds) = words.next() else { return Parsed::refused(ERROR) };
    let Some(seconds) = signed(seconds) else { return Parsed::refused(BAD_EXPTIME) };
    keys(words, unique, Some(time::ttl(seconds, Zero::Default, moment)))
}

/// The values of the keys among the words that are left.
fn keys<'a>(words: Words<'a>, unique: Unique, touch: Option<corelane_protocol::Ttl>) -> Parsed<'a> {
    let mut count = 0;
    for key in words {
        if key.len() > KEY_BYTES_MAX {
            return Parsed::refused(BAD_FORMAT);
        }
        count += 1;
    }
    let place = if count == 1 { Place::Only } else { Place::OneOfSeveral };
    let mut parts = Parts::new(words, count, unique, place, touch);
    let step = match count {
        0 => return Parsed::Answered("END"),
        1 => Step::One(parts.next().expect("one key was counted")),
        _ => Step::Several {
            parts: AnyParts::Memcached(parts),
            gather: AnyGather::InOrder { end: END },
        },
    };
    Parsed::Command { step, data: 0 }
}

fn store<'a>(
    kind: Store,
    arguments: &[&'a [u8]],
    after: &'a [u8],
    value_bytes_max: usize,
    moment: Moment,
) -> Parsed<'a> {
    let numbers = if kind == Store::Swap { 5 } else { 4 };
    if arguments.len() != numbers && arguments.len() != numbers + 1 {
        return Parsed::refused(ERROR);
    }
    let answer = answer(arguments);
    let key = arguments[0];
    let read = || {
        let user_flags = u32::try_from(unsigned(arguments[1])?).ok()?;
        let seconds = signed(arguments[2])?;
        let length = usize::try_from(signed(arguments[3])?).ok()?;
        let version = if kind == Store::Swap { unsigned(arguments[4])? } else { 0 };
        Some((user_flags, seconds, length, Version(version)))
    };
    let Some((user_flags, seconds, length, version)) = read() else {
        return refused(answer, BAD_FORMAT);
    };
    if key.len() > KEY_BYTES_MAX {
        return refused(answer, BAD_FORMAT);
    }
    let data = length + 2;
    let head = head(answer);
    if length > value_bytes_max {
        // What was there must not outlive the set that was to replace it.
        let step = match kind {
            Store::Set => {
                let condition = DeleteCondition::Always;
                shaped(head, Request::Delete { key, condition }, Shape::TooLarge, b"")
            }
            _ => {
                let text = "SERVER_ERROR object too large for cache";
                return match answer {
                    Answer::Always => Parsed::Refused { text, data },
                    Answer::Never => Parsed::Command { step: Step::Answered, data },
                };
            }
        };
        return Parsed::Command { step, data };
    }
    let Some(block) = after.get(..data) else { return Parsed::Incomplete { data } };
    let Some(value) = block.strip_suffix(b"\r\n") else {
        return match answer {
            Answer::Always => Parsed::Refused { text: "CLIENT_ERROR bad data chunk", data },
            Answer::Never => Parsed::Command { step: Step::Answered, data },
        };
    };
    let (condition, shape) = match kind {
        Store::Set => (SetCondition::Always, Shape::Stored),
        Store::Add => (SetCondition::Absent, Shape::Stored),
        Store::Replace => (SetCondition::Present, Shape::Stored),
        Store::Swap => (SetCondition::VersionIs(version), Shape::Swapped),
        Store::Append | Store::Prepend => {
            let side = if kind == Store::Append { Side::Append } else { Side::Prepend };
            let request = Request::Extend { key, value, side, absent: Absent::Miss };
            return Parsed::Command { step: shaped(head, request, Shape::Stored, b""), data };
        }
    };
    let ttl = time::ttl(seconds, Zero::Default, moment);
    let set = Set { key, value, user_flags, ttl, condition, old: OldValue::Omit };
    Parsed::Command { step: shaped(head, Request::Set(set), shape, b""), data }
}

fn count<'a>(arguments: &[&'a [u8]], direction: Direction) -> Parsed<'a> {
    let &[key, delta, ref rest @ ..] = arguments else { return Parsed::refused(ERROR) };
    if rest.len() > 1 {
        return Parsed::refused(ERROR);
    }
    let answer = answer(arguments);
    if key.len() > KEY_BYTES_MAX {
        return refused(answer, BAD_FORMAT);
    }
    let Some(delta) = unsigned(delta) else {
        return refused(answer, "CLIENT_ERROR invalid numeric delta argument");
    };
    let request = Request::Count(Count {
        key,
        delta,
        direction,
        arithmetic: Arithmetic::Unsigned64,
        initial: None,
        ttl: corelane_protocol::Ttl::Default,
    });
    Parsed::Command { step: shaped(head(answer), request, Shape::Counted, b""), data: 0 }
}

fn touch<'a>(arguments: &[&'a [u8]], moment: Moment) -> Parsed<'a> {
    let &[key, seconds, ref rest @ ..] = arguments else { return Parsed::refused(ERROR) };
    if rest.len() > 1 {
        return Parsed::refused(ERROR);
    }
    let answer = answer(arguments);
    if key.len() > KEY_BYTES_MAX {
        return refused(answer, BAD_FORMAT);
    }
    let Some(seconds) = signed(seconds) else { return refused(answer, BAD_EXPTIME) };
    let ttl = time::ttl(seconds, Zero::Default, moment);
    let request = Request::Touch { key, ttl, condition: ExpireCondition::Always };
    Parsed::Command { step: shaped(head(answer), request, Shape::Touched, b""), data: 0 }
}

/// An old form had a time after the key; 0 is still taken for it.
fn delete<'a>(arguments: &[&'a [u8]]) -> Parsed<'a> {
    let (key, answer) = match *arguments {
        [] | [_, _, _, _, ..] => return Parsed::refused(ERROR),
        [key] | [key, b"0"] => (key, Answer::Always),
        [key, b"noreply"] | [key, b"0", b"noreply"] => (key, Answer::Never),
        _ => {
            let usage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
            return refused(answer(arguments), usage);
        }
    };
    if key.len() > KEY_BYTES_MAX {
        return refused(answer, BAD_FORMAT);
    }
    let request = Request::Delete { key, condition: DeleteCondition::Always };
    Parsed::Command { step: shaped(head(answer), request, Shape::Deleted, b""), data: 0 }
}

fn flush<'a>(arguments: &[&'a [u8]], moment: Moment) -> Parsed<'a> {
    if arguments.len() > 2 {
        return Parsed::refused(ERROR);
    }
    let answer = answer(arguments);
    let seconds = match (arguments, answer) {
        ([], _) | ([_], Answer::Never) => 0,
        ([seconds, ..], _) => match signed(seconds) {
            Some(seconds) => seconds,
            None => return refused(answer, BAD_EXPTIME),
        },
    };
    let delay_ms = u32::try_from(time::delay_ms(seconds, moment)).unwrap_or(u32::MAX);
    let step = Step::Everywhere {
        head: head(answer),
        request: Request::Flush { delay_ms },
        gather: AnyGather::Memcached(Gather::Flushed(answer)),
    };
    Parsed::Command { step, data: 0 }
}

fn stats<'a>(arguments: &[&'a [u8]]) -> Parsed<'a> {
    let page = match arguments.first() {
        None => Page::General,
        Some(&b"items") => Page::Items,
        Some(&b"slabs") => Page::Slabs,
        Some(&b"settings") => Page::Settings,
        // The counters are read by their growth, by others too: they are never set back.
        Some(&b"reset") => return Parsed::Answered("RESET"),
        Some(_) => return Parsed::refused(ERROR),
    };
    let step = Step::Everywhere {
        head: RequestHead::default(),
        request: Request::Stats,
        gather: AnyGather::Memcached(Gather::Stats(page)),
    };
    Parsed::Command { step, data: 0 }
}

fn verbosity<'a>(arguments: &[&'a [u8]]) -> Parsed<'a> {
    let (1 | 2) = arguments.len() else { return Parsed::refused(ERROR) };
    let answer = answer(arguments);
    let is_number = unsigned(arguments[0]).is_some_and(|level| u32::try_from(level).is_ok());
    match (is_number, answer) {
        (_, Answer::Never) => Parsed::Command { step: Step::Answered, data: 0 },
        // The node's log is not changed by clients.
        (true, Answer::Always) => Parsed::Answered("OK"),
        (false, Answer::Always) => Parsed::refused(BAD_FORMAT),
    }
}

/// One get for each of a line's keys.
#[derive(Clone, Debug)]
pub struct KeyParts<'a> {
    words: Words<'a>,
    count: usize,
    unique: Unique,
    place: Place,
    touch: Option<corelane_protocol::Ttl>,
}

impl<'a> KeyParts<'a> {
    fn new(
        words: Words<'a>,
        count: usize,
        unique: Unique,
        place: Place,
        touch: Option<corelane_protocol::Ttl>,
    ) -> KeyParts<'a> {
        KeyParts { words, count, unique, place, touch }
    }
}

impl<'a> Iterator for KeyParts<'a> {
    type Item = crate::step::Part<'a>;

    fn next(&mut self) -> Option<crate::step::Part<'a>> {
        let key = self.words.next()?;
        self.count -= 1;
        Some(get(key, self.unique, self.place, self.touch))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for KeyParts<'_> {}

/// The get of one key.
pub(super) fn get<'a>(
    key: &'a [u8],
    unique: Unique,
    place: Place,
    touch: Option<corelane_protocol::Ttl>,
) -> crate::step::Part<'a> {
    let want_version = match unique {
        Unique::Untold => WantVersion::No,
        Unique::Told => WantVersion::Yes,
    };
    let request = match touch {
        None => Request::Get { key, least_version: None },
        Some(ttl) => Request::GetAndTouch { key, ttl },
    };
    let head = RequestHead { want_version, ..RequestHead::default() };
    super::part(head, request, Shape::Value { unique, place }, key)
}
