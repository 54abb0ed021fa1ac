//! One connection that speaks memcached, and its commands as steps.

use corelane_protocol::Space;

use super::Parsed;
use super::classic;
use super::limits::{AUTHENTICATION_BYTES_MAX, GET_LINE_BYTES_MAX, KEY_BYTES_MAX, LINE_BYTES_MAX};
use super::line::{Arguments, Words, find, unsigned, without_return};
use super::meta;
use super::shape::{Place, Shape, Unique};
use crate::ahead::Manner;
use crate::facts::Facts;
use crate::step::{self, Moment, Step, Taken};

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    value_bytes_max: usize,
    access: Access,
    /// Bytes still to be dropped: the rest of a value that was refused.
    skip: usize,
    /// How much of the input is known to have no line's end.
    searched: usize,
    /// A key that came in Base64.
    key: [u8; KEY_BYTES_MAX],
}

/// Whether the node's token was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Open,
    Barred,
}

/// The front of the input.
enum Front<'a> {
    /// A line, and its length with what ends it.
    Line(&'a [u8], usize),
    /// A part of one.
    Incomplete,
    /// Longer than any line may be.
    TooLong,
}

impl Session {
    /// A connection that has sent nothing yet, of a node that takes values up to this
    /// length, in bytes.
    pub fn new(value_bytes_max: usize, facts: &dyn Facts) -> Session {
        let access = if facts.needs_token() { Access::Barred } else { Access::Open };
        Session { value_bytes_max, access, skip: 0, searched: 0, key: [0; KEY_BYTES_MAX] }
    }

    /// How plain commands are taken, while nothing about the connection makes them more than
    /// what they say.
    #[inline]
    pub fn manner(&self) -> Option<Manner> {
        (self.skip == 0 && self.searched == 0 && self.access == Access::Open).then_some(Manner {
            space: Space::default(),
            get: step::Shape::Memcached(Shape::Value {
                unique: Unique::Untold,
                place: Place::Only,
            }),
            set: step::Shape::Memcached(Shape::Stored),
            value_bytes_max: self.value_bytes_max,
        })
    }

    /// Takes one command from the front of the input. What it says of itself is appended to
    /// `out`. Between two calls for an incomplete command, bytes may only be added.
    pub fn step<'a>(
        &'a mut self,
        input: &'a [u8],
        facts: &dyn Facts,
        moment: Moment,
        out: &mut Vec<u8>,
    ) -> Taken<'a> {
        if self.skip > 0 {
            return self.drop_front(input);
        }
        let (line, length) = match self.front(input) {
            Front::Line(line, length) => (line, length),
            Front::Incomplete => return Taken::Incomplete { needed: input.len() + 1 },
            Front::TooLong => {
                out.extend_from_slice(b"CLIENT_ERROR line too long\r\n");
                return Taken::Whole { consumed: input.len(), step: Step::Close };
            }
        };
        let after = &input[length..];
        if self.access == Access::Barred {
            return self.authenticate(line, length, after, facts, out);
        }
        let parsed = match line {
            // What most lines are, without looking for more words than there are.
            [b'g', b'e', b't', b' ', key @ ..]
                if !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.contains(&b' ') =>
            {
                let part = classic::get(key, Unique::Untold, Place::Only, None);
                Parsed::Command { step: Step::One(part), data: 0 }
            }
            [b'm', _] | [b'm', _, b' ', ..] => {
                meta::parse(line, after, self.value_bytes_max, moment, &mut self.key)
            }
            _ => classic::parse(line, after, self.value_bytes_max, moment),
        };
        let (step, data) = match parsed {
            Parsed::Command { step, data } => (step, data),
            Parsed::Answered(text) => (told(text, out), 0),
            Parsed::Refused { text, data } => (told(text, out), data),
            Parsed::Incomplete { data } => {
                // The line is there: it is found again at once.
                self.searched = 0;
                return Taken::Incomplete { needed: length + data };
            }
        };
        let here = data.min(after.len());
        self.skip = data - here;
        self.searched = 0;
        Taken::Whole { consumed: length + here, step }
    }

    /// Drops what belongs to a value that was refused.
    fn drop_front<'a>(&mut self, input: &[u8]) -> Taken<'a> {
        if input.is_empty() {
            return Taken::Incomplete { needed: 1 };
        }
        let here = self.skip.min(input.len());
        self.skip -= here;
        Taken::Whole { consumed: here, step: Step::Answered }
    }

    /// Looks for the end of the first line where it was not looked for yet.
    fn front<'a>(&mut self, input: &'a [u8]) -> Front<'a> {
        let start = self.searched.min(input.len());
        let end = find(b'\n', &input[start..]).map(|end| start + end);
        let line = &input[..end.unwrap_or(input.len())];
        let is_get = line.starts_with(b"get ") || line.starts_with(b"gets ");
        let is_get = is_get || line.starts_with(b"gat ") || line.starts_with(b"gats ");
        let longest = match (self.access, is_get) {
            (Access::Open, true) => GET_LINE_BYTES_MAX,
            (Access::Open, false) | (Access::Barred, _) => LINE_BYTES_MAX,
        };
        match end {
            Some(end) if without_return(line).len() <= longest => {
                Front::Line(without_return(line), end + 1)
            }
            // What is there may yet turn out to end in a return.
            None if line.len() <= longest + 1 => {
                self.searched = input.len();
                Front::Incomplete
            }
            _ => Front::TooLong,
        }
    }

    /// Until the token was proved the one command is a set of any key, whose value is a name
    /// and the token, as memcached has it; the token alone will do.
    fn authenticate<'a>(
        &mut self,
        line: &[u8],
        length: usize,
        after: &[u8],
        facts: &dyn Facts,
        out: &mut Vec<u8>,
    ) -> Taken<'a> {
        self.searched = 0;
        let words = Arguments::<6>::of(Words::of(line));
        let data = match words.as_slice() {
            [b"set", _, _, _, length, ..] => unsigned(length)
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| *length <= AUTHENTICATION_BYTES_MAX),
            _ => None,
        };
        let Some(data) = data else {
            let step = told("CLIENT_ERROR unauthenticated", out);
            return Taken::Whole { consumed: length, step };
        };
        let Some(block) = after.get(..data + 2) else {
            return Taken::Incomplete { needed: length + data + 2 };
        };
        let text = match block.strip_suffix(b"\r\n") {
            None => "CLIENT_ERROR bad command line termination",
            Some(secret) if is_token(secret, facts) => {
                self.access = Access::Open;
                "STORED"
            }
            Some(_) => "CLIENT_ERROR authentication failure",
        };
        Taken::Whole { consumed: length + block.len(), step: told(text, out) }
    }
}

fn is_token(secret: &[u8], facts: &dyn Facts) -> bool {
    let password = find(b' ', secret).map_or(secret, |space| &secret[space + 1..]);
    facts.is_token(secret) || facts.is_token(password)
}

fn told<'a>(text: &str, out: &mut Vec<u8>) -> Step<'a> {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
    Step::Answered
}
