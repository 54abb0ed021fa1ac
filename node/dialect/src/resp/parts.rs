//! Commands that take many keys, as one request a key.

use corelane_protocol::{DeleteCondition, OldValue, Request, RequestHead, Set, SetCondition, Ttl};

use super::parse::Args;
use super::shape::Shape;
use crate::step::{Part, Shape as AnyShape};

/// What is asked for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    Get,
    Delete,
    Exists,
    /// Keys and values in turn.
    Set,
}

/// One request for each of a command's keys.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    args: Args<'a>,
    kind: PartKind,
    head: RequestHead,
    shape: Shape,
}

impl<'a> Parts<'a> {
    /// `args` are keys, or keys and values in turn, as `kind` has it.
    pub(crate) fn new(
        args: Args<'a>,
        kind: PartKind,
        head: RequestHead,
        shape: Shape,
    ) -> Parts<'a> {
        Parts { args, kind, head, shape }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let key = self.args.next()?;
        let request = match self.kind {
            PartKind::Get => Request::Get { key, least_version: None },
            PartKind::Delete => Request::Delete { key, condition: DeleteCondition::Always },
            PartKind::Exists => Request::Exists { key },
            PartKind::Set => Request::Set(Set {
                key,
                value: self.args.next()?,
                user_flags: 0,
                ttl: Ttl::Default,
                condition: SetCondition::Always,
                old: OldValue::Omit,
            }),
        };
        Some(Part { head: self.head, request, shape: AnyShape::Resp(self.shape), echo: b"" })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let args = self.args.len();
        let parts = if self.kind == PartKind::Set { args / 2 } else { args };
        (parts, Some(parts))
    }
}

impl ExactSizeIterator for Parts<'_> {}
