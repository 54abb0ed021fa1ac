//! A transaction: the commands that a connection queued become one request to the core of
//! their slot, and its replies the answer that the client expects.

use corelane_dialect::{Gather, Moment, Shape, Step, resp};
use corelane_protocol::wire::between_cores;
use corelane_protocol::{
    Answer, Atomic, Reply, ReplyHead, Request, RequestHead, RequestId, Status, Watches,
};

use super::order::{Commands, Gathering, World};
use super::replies::{say, whole};
use super::route::{Place, place_of};
use super::steps::Target;
use crate::connection::Connection;
use crate::dispatch::Dispatcher;

/// What a command of a transaction is answered with.
#[derive(Debug)]
enum Item {
    /// Bytes that were known before.
    Text(Box<[u8]>),
    /// The reply to the next request.
    One { shape: Shape, echo: Box<[u8]> },
    /// The replies to so many requests, one by one.
    InOrder { parts: Box<[(Shape, Box<[u8]>)]>, end: &'static [u8] },
    /// The replies to so many requests together.
    Gathered { gather: Gather, requests: usize },
}

/// How the replies to a transaction are answered.
#[derive(Debug)]
pub(crate) struct Plan {
    shape: Shape,
    /// What the connection had agreed on before, until it takes effect.
    agreed: Option<resp::Agreed>,
    items: std::vec::IntoIter<Item>,
    /// The item under way, and how many of its replies were taken.
    current: Option<(Item, usize)>,
    gathering: Option<Gathering>,
    answer: Vec<u8>,
}

/// A transaction that is put together.
#[derive(Debug)]
pub(crate) struct Builder {
    shape: Shape,
    agreed: resp::Agreed,
    items: Vec<Item>,
    frames: Vec<u8>,
    requests: u32,
    slot: Option<u16>,
    trouble: Option<Trouble>,
}

/// Why a transaction cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its keys are of several slots.
    CrossSlot,
}

impl Builder {
    /// `shape` is that of the whole; `agreed` what the connection agreed on before it.
    pub(crate) fn new(shape: Shape, agreed: resp::Agreed) -> Builder {
        let (items, frames) = (Vec::new(), Vec::new());
        Builder { shape, agreed, items, frames, requests: 0, slot: None, trouble: None }
    }

    /// Takes the next command. `text` is what it said at once, which comes first.
    pub(crate) fn push(&mut self, step: Step<'_>, text: &[u8]) {
        if !text.is_empty() {
            self.items.push(Item::Text(text.into()));
        }
        match step {
            Step::One(part) => {
                self.request(&part.head, &part.request);
                self.items.push(Item::One { shape: part.shape, echo: part.echo.into() });
            }
            Step::Several { parts, gather } => {
                parts.clone().for_each(|part| self.request(&part.head, &part.request));
                self.items.push(match gather {
                    Gather::InOrder { end } => {
                        let parts = parts.map(|part| (part.shape, part.echo.into())).collect();
                        Item::InOrder { parts, end }
                    }
                    gather => Item::Gathered { gather, requests: parts.len() },
                });
            }
            // Commands of this kind answer at once, or are refused while they are queued.
            Step::Answered
            | Step::Everywhere { .. }
            | Step::Transaction { .. }
            | Step::Control { .. }
            | Step::Close => {}
        }
    }

    fn request(&mut self, head: &RequestHead, request: &Request<'_>) {
        let slot = match place_of(request) {
            Place::Slot(slot) => Some(slot),
            Place::Anywhere => None,
            Place::Everywhere | Place::Core(_) => {
                unreachable!("what concerns more than a slot is refused while it is queued")
            }
        };
        self.watch(slot);
        self.requests += 1;
        let head = RequestHead { answer: Answer::Always, deadline: None, part: None, ..*head };
        between_cores::encode_request(&head, request, &mut self.frames)
            .expect("what a dialect asks can be encoded");
    }

    fn watch(&mut self, slot: Option<u16>) {
        match (self.slot, slot) {
            (Some(one), Some(other)) if one != other => self.trouble = Some(Trouble::CrossSlot),
            (None, Some(_)) => self.slot = slot,
            _ => {}
        }
    }

    /// Takes the keys that it depends on into account.
    pub(crate) fn depend_on(&mut self, watches: Watches<'_>) {
        for watch in watches {
            self.watch(Some(corelane_ring::slot_of(watch.key).number()));
        }
    }

    /// Why it cannot be carried out, if it cannot.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    /// The slot of its keys; any core will do where it has none.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.slot
    }

    /// The request that it becomes.
    pub(crate) fn request_with<'r>(&'r self, watches: Watches<'r>) -> Request<'r> {
        let slot = self.slot.unwrap_or_default();
        Request::Atomic(Atomic { slot, watches, frames: &self.frames })
    }

    /// How its replies are answered.
    pub(crate) fn plan(self) -> Plan {
        Plan {
            shape: self.shape,
            agreed: Some(self.agreed),
            items: self.items.into_iter(),
            current: None,
            gathering: None,
            answer: Vec::new(),
        }
    }
}

impl Plan {
    /// Bytes held for the answer.
    pub(crate) fn held_bytes(&self) -> usize {
        self.answer.len()
    }

    /// Takes one of the replies; whether it was the last.
    pub(crate) fn take(&mut self, head: &ReplyHead, reply: &Reply<'_>, world: World<'_>) -> bool {
        if self.agreed.is_some() && (head.part.is_some() || *reply == Reply::End) {
            self.agreed = None;
            self.shape.render(b"", &Reply::Done { version: None }, world.moment, &mut self.answer);
            self.advance(world);
        }
        if head.part.is_none() {
            if *reply != Reply::End {
                // Nothing took effect.
                self.shape.render(b"", reply, world.moment, &mut self.answer);
            }
            return true;
        }
        let (item, taken) = self.current.as_mut().expect("a reply for each request");
        let place = *taken;
        *taken += 1;
        let whole = match item {
            Item::Text(_) => unreachable!("it waits for no reply"),
            Item::One { shape, echo } => {
                shape.render(echo, reply, world.moment, &mut self.answer);
                true
            }
            Item::InOrder { parts, end } => {
                let (shape, echo) = &parts[place];
                shape.render(echo, reply, world.moment, &mut self.answer);
                let whole = place + 1 == parts.len();
                if whole {
                    self.answer.extend_from_slice(end);
                }
                whole
            }
            Item::Gathered { requests, .. } => {
                let gathering = self.gathering.as_mut().expect("begun with the item");
                gathering.add(reply, world.moment);
                place + 1 == *requests
            }
        };
        if whole {
            if let Some(gathering) = self.gathering.take() {
                gathering.finish(world, &mut self.answer);
            }
            self.advance(world);
        }
        false
    }

    /// Goes on to the next command that waits for a reply.
    fn advance(&mut self, world: World<'_>) {
        self.current = None;
        for item in self.items.by_ref() {
            match item {
                Item::Text(text) => self.answer.extend_from_slice(&text),
                Item::Gathered { gather, requests } => {
                    self.gathering = Gathering::new(gather);
                    if requests > 0 {
                        self.current = Some((item, 0));
                        return;
                    }
                    if let Some(gathering) = self.gathering.take() {
                        gathering.finish(world, &mut self.answer);
                    }
                }
                Item::InOrder { ref parts, end } if parts.is_empty() => {
                    self.answer.extend_from_slice(end);
                }
                item => {
                    self.current = Some((item, 0));
                    return;
                }
            }
        }
    }

    /// Appends the answer. What the connection agrees on again, if nothing took effect.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Option<resp::Agreed> {
        out.extend_from_slice(&self.answer);
        self.agreed
    }
}

/// The reply to a transaction that cannot be carried out.
pub(crate) fn refusal(trouble: Trouble) -> Reply<'static> {
    match trouble {
        Trouble::CrossSlot => Reply::Failed { status: Status::CrossSlot, message: "" },
    }
}

impl Dispatcher {
    /// Carries the queued commands of a connection out together.
    pub(super) fn transaction(
        &mut self,
        connection: &mut Connection,
        session: &mut resp::Session,
        commands: &mut Commands,
        shape: Shape,
        moment: Moment,
    ) {
        let agreed = session.agreed();
        let mut builder = Builder::new(shape, agreed);
        let mut watches = Vec::new();
        session.take_watches(&mut watches);
        builder.depend_on(Watches::from_encoded(&watches));
        let facts = self.view(None, moment.now);
        let mut text = Vec::new();
        while let Some(step) = session.next_queued(&facts, moment, &mut text) {
            builder.push(step, &text);
            text.clear();
        }
        if let Some(trouble) = builder.trouble() {
            session.abandon_transaction(agreed);
            shape.render(b"", &refusal(trouble), moment, &mut text);
            say(connection, commands, &text);
            return;
        }
        let mut frame = Vec::new();
        let place = builder.slot().map_or(Place::Anywhere, Place::Slot);
        let serial = commands.next_serial();
        let head = RequestHead { id: RequestId(serial), ..RequestHead::default() };
        let request = builder.request_with(Watches::from_encoded(&watches));
        match self.target_at(place) {
            Target::Core(core) => self.forward(connection, core, &head, &request),
            Target::Elsewhere(slot) => self.turn_away(&head, slot, &mut frame),
            _ => self.execute_here(&head, &request, moment.now, &mut frame),
        }
        let waits = commands.transaction(builder.plan());
        debug_assert_eq!(waits, serial);
        let mut leases = std::mem::take(&mut self.executor.leases);
        let replies = whole(&mut frame, &mut leases);
        self.take_replies(commands, &replies, &mut connection.output, moment);
    }
}
