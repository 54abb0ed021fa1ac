//! Replies of several requests that become one answer.

use corelane_protocol::{Reply, Status};

use super::shape::{Form, Shape};
use super::write::{self, Revision};
use crate::step::Moment;

/// How replies become one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// In which way.
    pub kind: GatherKind,
    /// The protocol that the connection spoke when it asked.
    pub revision: Revision,
}

/// In which way replies become one answer. The first failure is the whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatherKind {
    /// Nothing is answered.
    Silent,
    /// `OK` once all is done.
    Done,
    /// How many found something, or the sum of the numbers they gave.
    Sum,
}

/// Replies that are being gathered.
#[derive(Debug)]
pub struct Gathering {
    gather: Gather,
    sum: u64,
    failure: Option<Vec<u8>>,
}

impl Gathering {
    /// Nothing gathered yet.
    pub fn new(gather: Gather) -> Gathering {
        Gathering { gather, sum: 0, failure: None }
    }

    /// Adds the reply to one part.
    pub fn add(&mut self, reply: &Reply<'_>, moment: Moment) {
        match *reply {
            Reply::Done { .. } => self.sum += 1,
            Reply::Number { number, .. } => self.sum = self.sum.saturating_add(number),
            Reply::Failed { status: Status::NotFound | Status::ConditionFailed, .. } => {}
            Reply::Failed { .. } | Reply::Busy { .. } if self.failure.is_none() => {
                let mut text = Vec::new();
                let shape = Shape { form: Form::Done, revision: self.gather.revision };
                shape.render(reply, moment, &mut text);
                self.failure = Some(text);
            }
            _ => {}
        }
    }

    /// Appends the answer, once every part has replied.
    pub fn finish(self, out: &mut Vec<u8>) {
        match (self.gather.kind, self.failure) {
            (GatherKind::Silent, _) => {}
            (_, Some(failure)) => out.extend_from_slice(&failure),
            (GatherKind::Done, None) => write::simple("OK", out),
            (GatherKind::Sum, None) => {
                write::integer(i64::try_from(self.sum).unwrap_or(i64::MAX), out);
            }
        }
    }
}
