//! Commands that take many keys, as one request a key.

use corelane_protocol::limits::KEY_BYTES_MAX;
use corelane_protocol::{DeleteCondition, Request, RequestHead, Set};

use super::call::Refusal;
use super::parse::Args;
use super::shape::Shape;
use super::strings::PLAIN_SET;
use crate::step::{Part, Shape as AnyShape};

/// What is asked for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    Get,
    Delete,
    Exists,
    /// A read that answers next to nothing.
    Touch,
    /// To watch it.
    Watch,
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
    ) -> Result<Parts<'a>, Refusal> {
        let stride = if kind == PartKind::Set { 2 } else { 1 };
        if args.clone().step_by(stride).any(|key| key.len() > KEY_BYTES_MAX) {
            return Err(Refusal::KEY_TOO_LONG);
        }
        Ok(Parts { args, kind, head, shape })
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
            PartKind::Touch => Request::GetRange { key, start: 0, end: 0 },
            PartKind::Watch => Request::Watch { key },
            PartKind::Set => Request::Set(Set { key, value: self.args.next()?, ..PLAIN_SET }),
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
