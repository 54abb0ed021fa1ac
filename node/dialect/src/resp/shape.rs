//! How replies are rendered in RESP, with Redis's words for what goes wrong.

use corelane_protocol::{Description, KeyPage, Redirect, Redirection, Remaining, Reply, Status};

use super::write::{self, Revision};
use crate::step::Moment;

/// How the reply to one request is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What kind of answer it is.
    pub form: Form,
    /// The protocol that the connection spoke when it asked.
    pub revision: Revision,
}

/// What kind of answer a command gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing, whatever happened: the connection asked not to be answered.
    Silent,
    /// `OK`; null where a condition did not hold.
    Done,
    /// `OK`; an error where there is no such key.
    Renamed,
    /// The value or null.
    Value,
    /// The value or an empty string.
    Range,
    /// The number; 0 where there is no such key.
    Number,
    /// 1 where something was done, 0 where not.
    Flag,
    /// The same, but an error where there is no such key.
    FlagOfKey,
    /// A floating-point number as text.
    Float,
    /// Time to live, or -2 and -1.
    Ttl(Clock),
    /// The command was wrong, but null is answered first where there is no such key.
    Refused(Refused),
    /// `string` or `none`.
    Type,
    /// How Redis would hold the value, told by its length.
    Encoding,
    /// How often an entry was read, where the policy remembers that.
    Frequency {
        /// Whether it does.
        tracked: bool,
    },
    /// Redis's own answer where the policy does not remember it: here none does.
    IdleTime,
    /// 1, as no value is shared.
    References,
    /// Bytes that an entry takes.
    MemoryUsage,
    /// A cursor and keys.
    Page,
    /// Keys.
    Keys,
    /// What comes before the answers to the commands of a transaction; null where a key
    /// was not as it was when it was watched.
    Transaction {
        /// How many commands there are.
        commands: u32,
    },
}

/// What was wrong with a command whose key is looked up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An expiry is no number.
    NotAnInteger,
    /// The expiry of `GETEX` is no moment from now on.
    ExpireOfGetEx,
}

/// Longest value that Redis keeps in one piece with its object, in bytes.
const EMBEDDED_BYTES_MAX: u64 = 44;

/// Words that more than one place says.
pub(crate) const KEY_TOO_LONG: &str = "ERR key is longer than 16384 bytes";
const NOT_FINITE: &str = "ERR increment would produce NaN or Infinity";
pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not \
    tracked. Please note that when switching between policies at runtime LRU and LFU data \
    will take some time to adjust.";
const NO_IDLE_TIME: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. \
    Please note that when switching between policies at runtime LRU and LFU data will take \
    some time to adjust.";

/// In which way a time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Seconds left.
    Seconds,
    /// Milliseconds left.
    Milliseconds,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMilliseconds,
}

impl Shape {
    /// Appends the rendering of a reply.
    pub fn render(self, reply: &Reply<'_>, moment: Moment, out: &mut Vec<u8>) {
        if self.form == Form::Silent {
            return;
        }
        match *reply {
            Reply::Done { .. } => self.done(out),
            Reply::Value(value) => write::bulk(value.bytes, out),
            Reply::Number { number, .. } => write::integer(number as i64, out),
            Reply::Remaining(remaining) => self.remaining(remaining, moment, out),
            Reply::Described { ref description, .. } => self.described(description, out),
            Reply::Keys(page) => self.page(&page, out),
            Reply::Key { key, .. } => write::bulk(key, out),
            Reply::Failed { status: Status::NotFound, .. } => self.absent(out),
            Reply::Failed { status: Status::ConditionFailed, .. } => match self.form {
                Form::Flag | Form::FlagOfKey => write::integer(0, out),
                Form::Transaction { .. } => write::null_array(self.revision, out),
                _ => write::null(self.revision, out),
            },
            Reply::Failed { status, message } => self.failure(status, message, out),
            Reply::Busy { .. } => write::error(b"BUSY Corelane is overloaded, try again", out),
            Reply::Redirect(Redirect { redirection, slot, address, .. }) => {
                let word = match redirection {
                    Redirection::Moved => "MOVED",
                    Redirection::Ask => "ASK",
                };
                write::error(format!("{word} {slot} {address}").as_bytes(), out);
            }
            Reply::Stats { text, .. } => write::verbatim(self.revision, text, out),
            Reply::Pong { .. } | Reply::Topology { .. } | Reply::Welcome(_) | Reply::End => {
                unreachable!("no RESP command asks for what {reply:?} answers")
            }
        }
    }

    /// Appends what comes before the bytes of a value of this length.
    pub fn value_header(self, value_bytes: usize, out: &mut Vec<u8>) {
        if self.form != Form::Silent {
            write::bulk_header(value_bytes, out);
        }
    }

    /// Appends what comes after the bytes of a value.
    pub fn value_trailer(self, out: &mut Vec<u8>) {
        if self.form != Form::Silent {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// It was done, or is there.
    fn done(self, out: &mut Vec<u8>) {
        match self.form {
            Form::Flag | Form::FlagOfKey => write::integer(1, out),
            Form::Type => write::simple("string", out),
            Form::Transaction { commands } => write::array(commands as usize, out),
            Form::Refused(Refused::NotAnInteger) => write::error(NOT_AN_INTEGER.as_bytes(), out),
            Form::Refused(Refused::ExpireOfGetEx) => {
                write::error(b"ERR invalid expire time in 'getex' command", out);
            }
            _ => write::simple("OK", out),
        }
    }

    fn described(self, description: &Description, out: &mut Vec<u8>) {
        match self.form {
            Form::Frequency { tracked: true } => write::integer(description.uses.into(), out),
            Form::Frequency { tracked: false } => write::error(NO_FREQUENCY.as_bytes(), out),
            Form::Encoding if description.is_integer => write::bulk(b"int", out),
            Form::Encoding if description.value_bytes <= EMBEDDED_BYTES_MAX => {
                write::bulk(b"embstr", out);
            }
            Form::Encoding => write::bulk(b"raw", out),
            Form::IdleTime => write::error(NO_IDLE_TIME.as_bytes(), out),
            Form::References => write::integer(1, out),
            _ => write::integer(description.memory_bytes as i64, out),
        }
    }

    fn page(self, page: &KeyPage<'_>, out: &mut Vec<u8>) {
        if self.form == Form::Page {
            write::array(2, out);
            let mut cursor = Vec::with_capacity(20);
            write::unsigned(page.next.0, &mut cursor);
            write::bulk(&cursor, out);
        }
        write::array(page.keys.iter().count(), out);
        page.keys.iter().for_each(|key| write::bulk(key, out));
    }

    /// There is no such key.
    fn absent(self, out: &mut Vec<u8>) {
        match self.form {
            Form::Silent => {}
            Form::Type => write::simple("none", out),
            Form::Keys | Form::Page | Form::Transaction { .. } => write::array(0, out),
            Form::Done
            | Form::Value
            | Form::Float
            | Form::Refused(_)
            | Form::Encoding
            | Form::Frequency { .. }
            | Form::IdleTime
            | Form::References
            | Form::MemoryUsage => write::null(self.revision, out),
            Form::Range => write::bulk(b"", out),
            Form::Number | Form::Flag => write::integer(0, out),
            Form::Renamed | Form::FlagOfKey => write::error(b"ERR no such key", out),
            Form::Ttl(_) => write::integer(-2, out),
        }
    }

    fn remaining(self, remaining: Remaining, moment: Moment, out: &mut Vec<u8>) {
        let number = match (remaining, self.form) {
            (Remaining::Never, _) => -1,
            (Remaining::Ms(ms), Form::Ttl(clock)) => {
                let unix_ms = moment.unix_ms.saturating_add(ms);
                let number = match clock {
                    // To the nearest second, as Redis has it.
                    Clock::Seconds => ms.saturating_add(500) / 1_000,
                    Clock::Milliseconds => ms,
                    Clock::UnixSeconds => unix_ms.saturating_add(500) / 1_000,
                    Clock::UnixMilliseconds => unix_ms,
                };
                i64::try_from(number).unwrap_or(i64::MAX)
            }
            (Remaining::Ms(ms), _) => i64::try_from(ms).unwrap_or(i64::MAX),
        };
        write::integer(number, out);
    }

    fn failure(self, status: Status, message: &str, out: &mut Vec<u8>) {
        let text: &[u8] = match status {
            Status::WrongType => {
                b"WRONGTYPE Operation against a key holding the wrong kind of value"
            }
            Status::OutOfMemory => b"OOM command not allowed when used memory > 'maxmemory'.",
            Status::ValueTooLarge => {
                b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"
            }
            Status::NotANumber if self.form == Form::Float => b"ERR value is not a valid float",
            Status::NotANumber => NOT_AN_INTEGER.as_bytes(),
            Status::OutOfRange if self.form == Form::Float => NOT_FINITE.as_bytes(),
            Status::OutOfRange => b"ERR increment or decrement would overflow",
            Status::CrossSlot => b"CROSSSLOT Keys in request don't hash to the same slot",
            Status::Loading => b"LOADING Redis is loading the dataset in memory",
            Status::KeyTooLong => KEY_TOO_LONG.as_bytes(),
            _ => return write::error(&[b"ERR ", message.as_bytes()].concat(), out),
        };
        write::error(text, out);
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{MonotonicUs, Value};

    use super::*;

    const MOMENT: Moment = Moment { now: MonotonicUs(0), unix_ms: 1_000_000 };

    fn check(form: Form, reply: Reply<'_>, expected: &str) {
        let shape = Shape { form, revision: Revision::Two };
        let mut out = Vec::new();
        shape.render(&reply, MOMENT, &mut out);
        assert_eq!(out.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    }

    fn failed(status: Status) -> Reply<'static> {
        Reply::Failed { status, message: "" }
    }

    #[test]
    fn each_form_has_its_answer_for_what_is_not_there() {
        for (form, expected) in [
            (Form::Silent, ""),
            (Form::Done, "$-1\r\n"),
            (Form::Renamed, "-ERR no such key\r\n"),
            (Form::Value, "$-1\r\n"),
            (Form::Range, "$0\r\n\r\n"),
            (Form::Number, ":0\r\n"),
            (Form::Flag, ":0\r\n"),
            (Form::FlagOfKey, "-ERR no such key\r\n"),
            (Form::Ttl(Clock::Seconds), ":-2\r\n"),
        ] {
            check(form, failed(Status::NotFound), expected);
        }
    }

    #[test]
    fn a_value_in_pieces_is_the_value_as_a_whole() {
        let shape = Shape { form: Form::Value, revision: Revision::Three };
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let value = Value { bytes: b"value", user_flags: 7, version: None };
        shape.render(&Reply::Value(value), MOMENT, &mut whole);
        shape.value_header(5, &mut pieces);
        pieces.extend_from_slice(b"value");
        shape.value_trailer(&mut pieces);
        assert_eq!(whole, pieces);
        assert_eq!(whole, b"$5\r\nvalue\r\n");
    }

    #[test]
    fn times_are_told_in_four_ways() {
        let ms = Reply::Remaining(Remaining::Ms(1_500));
        check(Form::Ttl(Clock::Seconds), ms, ":2\r\n");
        check(Form::Ttl(Clock::Milliseconds), ms, ":1500\r\n");
        check(Form::Ttl(Clock::UnixSeconds), ms, ":1002\r\n");
        check(Form::Ttl(Clock::UnixMilliseconds), ms, ":1001500\r\n");
        check(Form::Ttl(Clock::Seconds), Reply::Remaining(Remaining::Never), ":-1\r\n");
    }

    #[test]
    fn failures_have_the_words_of_redis() {
        check(
            Form::Number,
            failed(Status::NotANumber),
            "-ERR value is not an integer or out of range\r\n",
        );
        check(Form::Float, failed(Status::NotANumber), "-ERR value is not a valid float\r\n");
        let redirect = Redirect {
            redirection: Redirection::Moved,
            slot: 3_999,
            epoch: 1,
            address: "127.0.0.1:6381",
        };
        check(Form::Value, Reply::Redirect(redirect), "-MOVED 3999 127.0.0.1:6381\r\n");
    }
}
