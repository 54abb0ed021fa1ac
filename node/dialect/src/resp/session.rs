//! One connection that speaks RESP: what it has agreed on, and its commands as steps.

use corelane_protocol::{Answer, Request, RequestHead};

use super::parse::{Args, Bounds, Parsed, Parser};
use super::parts::{PartKind, Parts};
use super::shape::{Form, Shape};
use super::write::{self, Revision};
use crate::facts::Facts;
use crate::limits::COMMAND_BYTES_SPARE;
use crate::step::{Gather, Moment, Part, Shape as AnyShape, Step, Taken};

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    parser: Parser,
    bounds: Bounds,
    revision: Revision,
}

impl Session {
    /// A connection that has sent nothing yet, of a node that takes values up to this
    /// length, in bytes.
    pub fn new(value_bytes_max: usize, facts: &dyn Facts) -> Session {
        let bounds = Bounds {
            string_bytes_max: value_bytes_max,
            command_bytes_max: 2 * value_bytes_max + COMMAND_BYTES_SPARE,
            unauthorized: facts.needs_token(),
        };
        Session { parser: Parser::default(), bounds, revision: Revision::default() }
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
        let _ = (facts, moment);
        let revision = self.revision;
        match self.parser.parse(input, &self.bounds) {
            Parsed::Incomplete { needed } => Taken::Incomplete { needed },
            Parsed::Broken(broken) => {
                broken.message(out);
                Taken::Whole { consumed: input.len(), step: Step::Close }
            }
            Parsed::Command { mut args, consumed } => {
                let step = match args.next() {
                    None => Step::Answered,
                    Some(name) => command(name, args, revision, out),
                };
                Taken::Whole { consumed, step }
            }
        }
    }
}

fn command<'a>(name: &[u8], mut args: Args<'a>, revision: Revision, out: &mut Vec<u8>) -> Step<'a> {
    let head = RequestHead { answer: Answer::Always, ..RequestHead::default() };
    let shape = Shape { form: Form::Value, revision };
    match args.len() {
        1 if name.eq_ignore_ascii_case(b"get") => {
            let key = args.next().expect("one argument was counted");
            let request = Request::Get { key, least_version: None };
            Step::One(Part { head, request, shape: AnyShape::Resp(shape), echo: b"" })
        }
        1.. if name.eq_ignore_ascii_case(b"mget") => {
            write::array(args.len(), out);
            let parts = Parts::new(args, PartKind::Get, head, shape);
            Step::Several { parts: crate::Parts::Resp(parts), gather: Gather::InOrder { end: b"" } }
        }
        _ => {
            write::error(b"ERR unknown command", out);
            Step::Answered
        }
    }
}
