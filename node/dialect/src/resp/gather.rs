//! Replies of several requests that become one answer.

use corelane_protocol::{Reply, Status};

use super::info::{self, Sections, Tally};
use super::shape::{Form, Shape};
use super::write::{self, Revision};
use crate::facts::Facts;
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
    /// `OK` once settings are changed; else why they are not.
    Configured,
    /// How many found something, or the sum of the numbers they gave.
    Sum,
    /// All keys of all pages.
    Keys,
    /// One of the keys, every one of all cores as likely as the others.
    AnyKey {
        /// What the choice depends on.
        seed: u64,
    },
    /// The node's counters in Redis's names.
    Info {
        /// Which parts.
        sections: Sections,
    },
    /// `OK` if there was one at least.
    Killed,
    /// One text after the other.
    Text,
    /// `OK`; each reply is also given to [`super::Session::watched`], before the connection's
    /// next command is looked at.
    Watch,
}

/// Replies that are being gathered.
#[derive(Debug)]
pub struct Gathering {
    gather: Gather,
    /// What was counted: replies, keys, or what was added up.
    sum: u64,
    /// What was kept for the answer.
    text: Vec<u8>,
    tally: Option<Box<Tally>>,
    failure: Option<Vec<u8>>,
}

impl Gathering {
    /// Nothing gathered yet.
    pub fn new(gather: Gather) -> Gathering {
        Gathering { gather, sum: 0, text: Vec::new(), tally: None, failure: None }
    }

    /// Bytes that are held for the answer.
    pub fn held_bytes(&self) -> usize {
        self.text.len()
    }

    /// Adds one reply.
    pub fn add(&mut self, reply: &Reply<'_>, moment: Moment) {
        match *reply {
            Reply::Done { .. } | Reply::Value(_) => self.sum += 1,
            Reply::Number { number, .. } => self.sum = self.sum.saturating_add(number),
            Reply::Keys(page) => {
                for key in page.keys {
                    write::bulk(key, &mut self.text);
                    self.sum += 1;
                }
            }
            Reply::Key { key, among } => self.choose(key, among),
            Reply::Stats { text, .. } => match self.gather.kind {
                GatherKind::Info { .. } => self.tally.get_or_insert_default().add(text),
                _ => self.text.extend_from_slice(text),
            },
            Reply::Failed { status: Status::NotFound | Status::ConditionFailed, .. } => {}
            Reply::Failed { message, .. } if self.gather.kind == GatherKind::Configured => {
                let mut text = Vec::new();
                write::error(format!("ERR CONFIG SET failed - {message}").as_bytes(), &mut text);
                self.failure = Some(text);
            }
            Reply::Failed { .. } | Reply::Busy { .. } | Reply::Redirect(_)
                if self.failure.is_none() =>
            {
                let mut text = Vec::new();
                let shape = Shape { form: Form::Done, revision: self.gather.revision };
                shape.render(reply, moment, &mut text);
                self.failure = Some(text);
            }
            _ => {}
        }
    }

    /// Keeps a key in place of those before with the probability that makes all equal.
    fn choose(&mut self, key: &[u8], among: u64) {
        let GatherKind::AnyKey { seed } = self.gather.kind else { return };
        self.sum = self.sum.saturating_add(among);
        // Multiplication by an odd constant spreads the seed over the upper bits (Knuth).
        let random = (seed ^ self.sum).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let below = (u128::from(random) * u128::from(self.sum.max(1))) >> 64;
        if below < u128::from(among) {
            self.text.clear();
            write::bulk(key, &mut self.text);
        }
    }

    /// How it began, where a key was wanted and, though there are some, none was met: the keys
    /// must be walked over until one is.
    pub fn unmet(&self) -> Option<Gather> {
        let wants_one = matches!(self.gather.kind, GatherKind::AnyKey { .. });
        let met_none = self.text.is_empty() && self.failure.is_none();
        (wants_one && met_none && self.sum > 0).then_some(self.gather)
    }

    /// Appends the answer, once everything has been added.
    pub fn finish(self, facts: &dyn Facts, moment: Moment, out: &mut Vec<u8>) {
        let revision = self.gather.revision;
        match (self.gather.kind, self.failure) {
            (GatherKind::Silent, _) => {}
            (_, Some(failure)) => out.extend_from_slice(&failure),
            (GatherKind::Done | GatherKind::Configured | GatherKind::Watch, None) => {
                write::simple("OK", out)
            }
            (GatherKind::Sum, None) => {
                write::integer(i64::try_from(self.sum).unwrap_or(i64::MAX), out);
            }
            (GatherKind::Killed, None) if self.sum == 0 => {
                write::error(b"ERR No such client", out);
            }
            (GatherKind::Killed, None) => write::simple("OK", out),
            (GatherKind::Keys, None) => {
                write::array(self.sum as usize, out);
                out.extend_from_slice(&self.text);
            }
            (GatherKind::AnyKey { .. }, None) if self.text.is_empty() => {
                write::null(revision, out);
            }
            (GatherKind::AnyKey { .. }, None) => out.extend_from_slice(&self.text),
            (GatherKind::Text, None) => write::verbatim(revision, &self.text, out),
            (GatherKind::Info { sections }, None) => {
                let text = info::text(sections, &self.tally.unwrap_or_default(), facts, moment);
                write::verbatim(revision, text.as_bytes(), out);
            }
        }
    }
}
