//! The commands of one connection whose replies are not all there. Dialects answer in the
//! order of the commands; requests at other cores end in any order. What is ready waits here
//! for what is not.
//!
//! ```text
//! command ─► one serial a request ─► frames to other cores, with the serial as their id
//! reply (serial) ─► rendered into its command ─► once that is whole and the first: output
//! ```
//!
//! While nothing waits, a connection has no use for this, and answers go straight out.

use std::collections::VecDeque;

use corelane_dialect::{Facts, Gather, Moment, Shape, memcached, resp};
use corelane_protocol::{KeyPage, Reply, ReplyHead, Request, RequestHead, WalkCursor, wire};

use super::transaction::Plan;
use super::walk::Walk;
use crate::limits::PENDING_COMMANDS_MAX;

/// Serials are request ids with this bit clear, so that they never are the reserved one.
const SERIAL_MASK: u32 = u32::MAX >> 1;

/// What rendering needs to know beside the reply.
#[derive(Clone, Copy)]
pub(crate) struct World<'w> {
    pub(crate) facts: &'w dyn Facts,
    pub(crate) moment: Moment,
}

/// Replies that become one answer.
#[derive(Debug)]
pub(crate) enum Gathering {
    Resp(resp::Gathering),
    Memcached(memcached::Gathering),
}

impl Gathering {
    /// Nothing for answers that are given one by one.
    pub(crate) fn new(gather: Gather) -> Option<Gathering> {
        match gather {
            Gather::InOrder { .. } => None,
            Gather::Resp(gather) => Some(Gathering::Resp(resp::Gathering::new(gather))),
            Gather::Memcached(gather) => {
                Some(Gathering::Memcached(memcached::Gathering::new(gather)))
            }
        }
    }

    pub(crate) fn add(&mut self, reply: &Reply<'_>, moment: Moment) {
        match self {
            Gathering::Resp(gathering) => gathering.add(reply, moment),
            Gathering::Memcached(gathering) => gathering.add(reply),
        }
    }

    /// What walks on where a key was wanted that was not met, and what the walk depends on.
    fn unmet(&self) -> Option<(Gathering, u64)> {
        let Gathering::Resp(gathering) = self else { return None };
        let gather = gathering.unmet()?;
        let resp::GatherKind::AnyKey { seed } = gather.kind else { return None };
        Some((Gathering::Resp(resp::Gathering::new(gather)), seed))
    }

    /// Bytes that it holds.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Gathering::Resp(gathering) => gathering.held_bytes(),
            Gathering::Memcached(_) => 0,
        }
    }

    pub(crate) fn finish(self, world: World<'_>, out: &mut Vec<u8>) {
        match self {
            Gathering::Resp(gathering) => gathering.finish(world.facts, world.moment, out),
            Gathering::Memcached(gathering) => {
                gathering.finish(world.facts, world.moment, out);
            }
        }
    }
}

/// One request of several that are answered one by one.
#[derive(Debug)]
enum Slot {
    Waiting {
        shape: Shape,
        echo: Box<[u8]>,
    },
    /// Where its answer lies among those of the command.
    Answered {
        start: usize,
        end: usize,
    },
}

#[derive(Debug)]
enum Kind {
    /// Answers that wait for those before them.
    Text(Vec<u8>),
    One {
        shape: Shape,
        echo: Box<[u8]>,
        answer: Vec<u8>,
    },
    InOrder {
        slots: Vec<Slot>,
        answers: Vec<u8>,
        end: &'static [u8],
    },
    Gathered(Box<Gathering>),
    /// The keys that the cores have met. Where there are some and none was, it becomes a walk.
    AnyKey {
        head: RequestHead,
        cores: u16,
        gathering: Box<Gathering>,
    },
    /// A `WATCH`: its replies are given to the session as well, as frames by their place.
    Watch {
        gathering: Box<Gathering>,
        replies: Vec<(usize, Vec<u8>)>,
    },
    Transaction(Box<Plan>),
    Walk(Box<Walk>),
    /// The connection is closed when everything before is answered.
    Close,
}

#[derive(Debug)]
struct Command {
    /// The serial of its first request; the others follow.
    first: u32,
    /// Requests that are not answered.
    left: u32,
    kind: Kind,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    queue: VecDeque<Command>,
    next_serial: u32,
    /// Bytes of answers that wait.
    held_bytes: usize,
    /// Nothing may be taken from the connection before the last command is whole.
    barrier: bool,
}

/// What became of the commands at the front.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// Replies to a `WATCH` by their place, as frames.
    pub(crate) watched: Vec<(usize, Vec<u8>)>,
    /// What a connection had agreed on before a transaction that did not take effect.
    pub(crate) agreed: Option<resp::Agreed>,
    /// A walk has begun.
    pub(crate) walks: bool,
    /// The connection is to be closed.
    pub(crate) closes: bool,
}

impl Commands {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes of answers that wait.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether nothing may be taken before the last command is answered.
    pub(crate) fn is_barred(&self) -> bool {
        self.barrier
    }

    /// Whether another command may be taken.
    pub(crate) fn has_room(&self) -> bool {
        !self.barrier && self.queue.len() < PENDING_COMMANDS_MAX
    }

    /// Where a command that is answered at once writes, when others wait before it. The
    /// length of what is added must be told to [`Commands::held`].
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        if !matches!(self.queue.back(), Some(Command { kind: Kind::Text(_), .. })) {
            self.push(Kind::Text(Vec::new()), 0);
        }
        match self.queue.back_mut() {
            Some(Command { kind: Kind::Text(text), .. }) => text,
            _ => unreachable!("it was just pushed"),
        }
    }

    /// More bytes wait.
    pub(crate) fn held(&mut self, bytes: usize) {
        self.held_bytes += bytes;
    }

    fn push(&mut self, kind: Kind, requests: u32) -> u32 {
        let first = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(requests) & SERIAL_MASK;
        self.queue.push_back(Command { first, left: requests, kind });
        first
    }

    /// A command with one request; its serial.
    pub(crate) fn one(&mut self, shape: Shape, echo: &[u8]) -> u32 {
        self.push(Kind::One { shape, echo: echo.into(), answer: Vec::new() }, 1)
    }

    /// A command with these requests, answered one by one; the serial of the first.
    pub(crate) fn in_order<'p>(
        &mut self,
        parts: impl ExactSizeIterator<Item = (Shape, &'p [u8])>,
        end: &'static [u8],
    ) -> u32 {
        let count = parts.len() as u32;
        let slots = parts.map(|(shape, echo)| Slot::Waiting { shape, echo: echo.into() }).collect();
        self.push(Kind::InOrder { slots, answers: Vec::new(), end }, count)
    }

    /// A command with so many requests, answered together; the serial of the first.
    pub(crate) fn gathered(&mut self, gathering: Gathering, requests: u32) -> u32 {
        self.push(Kind::Gathered(Box::new(gathering)), requests)
    }

    /// A command that wants some key of any core; the serial of the first request.
    pub(crate) fn any_key(&mut self, head: RequestHead, cores: u16, gathering: Gathering) -> u32 {
        self.barrier = true;
        let gathering = Box::new(gathering);
        self.push(Kind::AnyKey { head, cores, gathering }, u32::from(cores))
    }

    /// A command that is answered once the node has done something; its serial.
    pub(crate) fn awaited(&mut self, gathering: Gathering) -> u32 {
        self.barrier = true;
        self.gathered(gathering, 1)
    }

    /// A `WATCH` of so many keys; the serial of the first.
    pub(crate) fn watch(&mut self, gathering: Gathering, requests: u32) -> u32 {
        self.barrier = true;
        let gathering = Box::new(gathering);
        self.push(Kind::Watch { gathering, replies: Vec::new() }, requests)
    }

    /// A transaction; its serial.
    pub(crate) fn transaction(&mut self, plan: Plan) -> u32 {
        self.barrier = true;
        self.push(Kind::Transaction(Box::new(plan)), 1)
    }

    /// A walk, whose every step has the same serial.
    pub(crate) fn walk(&mut self, walk: Walk) -> u32 {
        self.barrier = true;
        self.push(Kind::Walk(Box::new(walk)), 1)
    }

    /// The connection's end.
    pub(crate) fn close(&mut self) {
        self.barrier = true;
        self.push(Kind::Close, 0);
    }

    /// The serial of the next request.
    pub(crate) fn next_serial(&self) -> u32 {
        self.next_serial
    }

    /// The walk that wants to take its next step, with its serial.
    pub(crate) fn walk_mut(&mut self) -> Option<(u32, &mut Walk)> {
        match self.queue.back_mut()? {
            Command { first, left: 1, kind: Kind::Walk(walk) } if walk.wants_step() => {
                Some((*first, walk))
            }
            _ => None,
        }
    }

    /// Takes the reply to a request. One that can go out at once is written to `out`.
    pub(crate) fn reply(
        &mut self,
        serial: u32,
        head: &ReplyHead,
        reply: &Reply<'_>,
        world: World<'_>,
        out: &mut Vec<u8>,
    ) {
        let front = self.queue.front().expect("a reply has a command that waits for it").first;
        let distance = |serial: u32| serial.wrapping_sub(front) & SERIAL_MASK;
        let at = self.queue.partition_point(|c| distance(c.first) <= distance(serial)) - 1;
        // Commands without requests have the serial of the next one.
        let at = (0..=at).rev().find(|at| self.queue[*at].left > 0).expect("it waits");
        let command = &mut self.queue[at];
        let place = (serial.wrapping_sub(command.first) & SERIAL_MASK) as usize;
        let held = &mut self.held_bytes;
        match &mut command.kind {
            Kind::One { shape, echo, answer } => {
                command.left = 0;
                if at == 0 {
                    shape.render(echo, reply, world.moment, out);
                } else {
                    shape.render(echo, reply, world.moment, answer);
                    *held += answer.len();
                }
            }
            Kind::InOrder { slots, answers, .. } => {
                let start = answers.len();
                let Slot::Waiting { shape, echo } = &slots[place] else {
                    unreachable!("a request is answered once");
                };
                shape.render(echo, reply, world.moment, answers);
                slots[place] = Slot::Answered { start, end: answers.len() };
                *held += answers.len() - start;
                command.left -= 1;
            }
            Kind::Gathered(gathering) | Kind::AnyKey { gathering, .. } => {
                let before = gathering.held_bytes();
                gathering.add(reply, world.moment);
                *held += gathering.held_bytes().saturating_sub(before);
                command.left -= 1;
            }
            Kind::Watch { gathering, replies } => {
                gathering.add(reply, world.moment);
                let mut frame = Vec::new();
                wire::encode_reply(&ReplyHead::default(), reply, &mut frame);
                replies.push((place, frame));
                command.left -= 1;
            }
            Kind::Transaction(plan) => {
                let before = plan.held_bytes();
                if plan.take(head, reply, world) {
                    command.left = 0;
                }
                *held += plan.held_bytes() - before;
            }
            Kind::Walk(walk) => {
                let before = walk.held_bytes();
                if walk.take(reply, world.moment) {
                    command.left = 0;
                }
                *held += walk.held_bytes().saturating_sub(before);
            }
            Kind::Text(_) | Kind::Close => unreachable!("it has no requests"),
        }
    }

    /// Appends the answers of the commands at the front that are whole.
    pub(crate) fn drain(&mut self, world: World<'_>, out: &mut Vec<u8>) -> Drained {
        let mut drained = Drained::default();
        while self.queue.front().is_some_and(|command| command.left == 0) {
            let Command { first, kind, .. } = self.queue.pop_front().expect("there is one");
            match kind {
                Kind::AnyKey { head, cores, gathering } => match gathering.unmet() {
                    None => gathering.finish(world, out),
                    Some((gathering, seed)) => {
                        let walk = Walk::to_some_key(head, cores, seed, gathering);
                        let kind = Kind::Walk(Box::new(walk));
                        self.queue.push_front(Command { first, left: 1, kind });
                        drained.walks = true;
                    }
                },
                Kind::Text(text) => out.extend_from_slice(&text),
                Kind::One { answer, .. } => out.extend_from_slice(&answer),
                Kind::InOrder { slots, answers, end } => {
                    for slot in slots {
                        let Slot::Answered { start, end } = slot else {
                            unreachable!("the command is whole");
                        };
                        out.extend_from_slice(&answers[start..end]);
                    }
                    out.extend_from_slice(end);
                }
                Kind::Gathered(gathering) => gathering.finish(world, out),
                Kind::Watch { gathering, replies } => {
                    gathering.finish(world, out);
                    drained.watched = replies;
                }
                Kind::Transaction(plan) => drained.agreed = plan.finish(out),
                Kind::Walk(walk) => walk.finish(world, out),
                Kind::Close => drained.closes = true,
            }
        }
        if self.queue.is_empty() {
            // Memory of a long pipeline goes back with the last answer.
            *self = Commands::default();
        }
        drained
    }
}

/// The reply that ends a walk which cannot begin.
pub(crate) fn empty_page() -> Reply<'static> {
    Reply::Keys(KeyPage { next: WalkCursor::default(), keys: Default::default() })
}

/// Whether a request is a step of a walk over all cores.
pub(crate) fn is_walk(request: &Request<'_>) -> bool {
    matches!(request, Request::Scan { .. } | Request::FlushSpace { .. })
}
