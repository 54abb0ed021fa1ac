//! `MULTI` and what belongs to it. Commands are kept as they came and run by `EXEC`, all at
//! once at the core that owns their slot.

use corelane_protocol::{Reply, Space, Version, Watch};

use super::call::{Call, Outcome, Refusal};
use super::gather::GatherKind;
use super::parse::Args;
use super::parts::{PartKind, Parts};
use super::session::State;
use super::shape::Form;
use super::table::Command;
use super::write;
use crate::limits::{QUEUED_BYTES_MAX, QUEUED_COMMANDS_MAX, WATCHES_MAX};
use crate::step::{self, Step};

/// Commands that wait: each the number of its arguments and their length in bytes (both
/// 32-bit, native order), and the arguments as they arrived.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// Where the next command begins.
    next: usize,
}

impl Queue {
    const HEAD_BYTES: usize = 8;

    fn push(&mut self, args: &Args<'_>) {
        let encoded = args.encoded();
        self.bytes.extend_from_slice(&(args.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&(encoded.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(encoded);
    }

    /// The next command; after the last, the memory is given back.
    pub(crate) fn next(&mut self) -> Option<Args<'_>> {
        let Queue { bytes, next } = self;
        if *next == bytes.len() {
            *bytes = Vec::new();
            *next = 0;
            return None;
        }
        let (head, rest) = bytes[*next..].split_at(Queue::HEAD_BYTES);
        let number = |at: usize| {
            let bytes = head[at..at + 4].try_into().expect("four bytes");
            u32::from_ne_bytes(bytes) as usize
        };
        let (count, length) = (number(0), number(4));
        *next += Queue::HEAD_BYTES + length;
        Some(Args::from_encoded(&rest[..length], count))
    }
}

/// A transaction that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) queue: Queue,
    commands: u32,
    /// A command was refused: `EXEC` will be, too.
    pub(crate) doomed: bool,
}

impl Transaction {
    /// How many commands wait.
    pub(crate) fn commands(&self) -> u32 {
        self.commands
    }

    /// Keeps a command for `EXEC`.
    pub(crate) fn push(&mut self, args: &Args<'_>) -> Result<(), Refusal> {
        let bytes = self.queue.bytes.len() + args.encoded().len();
        if bytes > QUEUED_BYTES_MAX || self.commands as usize >= QUEUED_COMMANDS_MAX {
            self.doomed = true;
            return Err(Refusal::Words("ERR transaction is longer than this node takes"));
        }
        self.queue.push(args);
        self.commands += 1;
        Ok(())
    }
}

/// A watched key.
#[derive(Debug)]
pub(crate) struct Watched {
    space: Space,
    key: Box<[u8]>,
    version: Option<Version>,
}

impl Watched {
    pub(crate) fn as_watch(&self) -> Watch<'_> {
        Watch { space: self.space, key: &self.key, version: self.version }
    }
}

pub(crate) fn multi<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    if call.state.transaction.is_some() {
        return Err(Refusal::Words("ERR MULTI calls can not be nested"));
    }
    call.state.transaction = Some(Box::default());
    call.ok()
}

pub(crate) fn discard<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    if call.state.transaction.take().is_none() {
        return Err(Refusal::Words("ERR DISCARD without MULTI"));
    }
    call.state.watched = Vec::new();
    call.ok()
}

pub(crate) fn exec<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    let Some(transaction) = &call.state.transaction else {
        return Err(Refusal::Words("ERR EXEC without MULTI"));
    };
    if transaction.doomed {
        call.state.transaction = None;
        call.state.watched = Vec::new();
        return Err(Refusal::Words("EXECABORT Transaction discarded because of previous errors."));
    }
    let form = Form::Transaction { commands: transaction.commands };
    Ok(Step::Transaction { shape: step::Shape::Resp(call.shape(form)) })
}

/// `EXEC` itself was refused: that ends the transaction, if there is one.
pub(crate) fn abort<'a>(
    state: &mut State,
    refusal: &Refusal,
    command: &Command,
    out: &mut Vec<u8>,
) -> Step<'a> {
    state.transaction = None;
    state.watched = Vec::new();
    let mut why = Vec::new();
    refusal.write(command, &mut why);
    let why = why.trim_ascii().strip_prefix(b"-ERR ").unwrap_or(&why);
    let text = [b"EXECABORT Transaction discarded because of: ", why].concat();
    write::error(&text, out);
    Step::Answered
}

pub(crate) fn watch<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    if call.state.transaction.is_some() {
        return Err(Refusal::Words("ERR WATCH inside MULTI is not allowed"));
    }
    if call.state.watched.len() + args.len() > WATCHES_MAX {
        return Err(Refusal::Words("ERR connection watches more keys than this node allows"));
    }
    let parts = Parts::new(args.clone(), PartKind::Watch, call.head(), call.shape(Form::Silent))?;
    let space = call.state.space;
    call.state.watching = call.state.watched.len();
    let watched = args.map(|key| Watched { space, key: key.into(), version: None });
    call.state.watched.extend(watched);
    let gather = step::Gather::Resp(call.gather(GatherKind::Watch));
    Ok(Step::Several { parts: step::Parts::Resp(parts), gather })
}

/// Keeps the reply to the request that a key be watched.
pub(crate) fn keep_watched(state: &mut State, place: usize, reply: &Reply<'_>) {
    if let Reply::Done { version } = reply
        && let Some(watched) = state.watched.get_mut(state.watching + place)
    {
        watched.version = *version;
    }
}

pub(crate) fn unwatch<'a>(call: &mut Call<'_, 'a>, _: Args<'a>) -> Outcome<'a> {
    call.state.watched = Vec::new();
    call.ok()
}
