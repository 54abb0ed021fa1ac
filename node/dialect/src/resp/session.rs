//! One connection that speaks RESP: what it has agreed on, and its commands as steps.

use corelane_protocol::{Reply, Space, Watches};

use super::call::{Call, Refusal};
use super::parse::{Args, Bounds, Parsed, Parser};
use super::shape::{Form, Shape};
use super::table::{self, Command, Flags};
use super::transaction::{self, Queue, Transaction, Watched};
use super::write::{self, Revision};
use crate::ahead::Manner;
use crate::facts::{ClientFacts, Facts};
use crate::limits::COMMAND_BYTES_SPARE;
use crate::step::{self, Moment, Step, Taken};

/// Which commands are answered (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// All but the next.
    SkipNext,
    /// All but the one under way.
    Skip,
}

/// What a connection has agreed on.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) space: Space,
    pub(crate) unauthorized: bool,
    pub(crate) replies: Replies,
    pub(crate) name: Vec<u8>,
    pub(crate) library_name: Vec<u8>,
    pub(crate) library_version: Vec<u8>,
    pub(crate) transaction: Option<Box<Transaction>>,
    pub(crate) watched: Vec<Watched>,
    /// Where in `watched` the keys of the latest `WATCH` begin.
    pub(crate) watching: usize,
    /// The latest command, for `CLIENT LIST`.
    pub(crate) latest: Option<&'static Command>,
}

impl State {
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.replies, Replies::Off | Replies::Skip)
    }

    /// A command was refused: a transaction that is being put together must not take effect.
    fn doom(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.doomed = true;
        }
    }
}

/// A connection that speaks RESP.
///
/// [`Session::step`] takes one command at a time. A step is carried out before the next one
/// is asked for, but its replies may still be under way; they are written in the order of
/// the commands. Two steps are exceptions: before the command after a `WATCH` is looked at,
/// each of its replies is given to [`Session::watched`]; and [`Step::Transaction`] is
/// followed by [`Session::next_queued`] until that gives nothing more.
#[derive(Debug)]
pub struct Session {
    parser: Parser,
    bounds: Bounds,
    scratch: Vec<u8>,
    /// Commands of the transaction that is being carried out.
    queue: Queue,
    pub(crate) state: State,
}

/// What a transaction may change of a connection though it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Agreed {
    space: Space,
    revision: Revision,
    unauthorized: bool,
}

impl Session {
    /// A connection that has sent nothing yet, of a node that takes values up to this
    /// length, in bytes.
    pub fn new(value_bytes_max: usize, facts: &dyn Facts) -> Session {
        let unauthorized = facts.needs_token();
        let bounds = Bounds {
            string_bytes_max: value_bytes_max,
            command_bytes_max: 2 * value_bytes_max + COMMAND_BYTES_SPARE,
            unauthorized,
        };
        let state = State { unauthorized, ..State::default() };
        Session {
            parser: Parser::default(),
            bounds,
            scratch: Vec::new(),
            queue: Queue::default(),
            state,
        }
    }

    /// How plain commands are taken, while nothing about the connection makes them more than
    /// what they say.
    #[inline]
    pub fn manner(&self) -> Option<Manner> {
        let state = &self.state;
        if self.parser.is_midway()
            || state.unauthorized
            || state.transaction.is_some()
            || state.replies != Replies::On
        {
            return None;
        }
        let shape = |form| step::Shape::Resp(Shape { form, revision: state.revision });
        Some(Manner {
            space: state.space,
            get: shape(Form::Value),
            set: shape(Form::Done),
            value_bytes_max: self.bounds.string_bytes_max,
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
        self.bounds.unauthorized = self.state.unauthorized;
        match self.parser.parse(input, &self.bounds) {
            Parsed::Incomplete { needed } => Taken::Incomplete { needed },
            Parsed::Broken(broken) => {
                broken.message(out);
                Taken::Whole { consumed: input.len(), step: Step::Close }
            }
            Parsed::Command { args, consumed } => {
                let world = World { facts, moment, out, scratch: &mut self.scratch };
                let step = command(&mut self.state, args, world);
                if matches!(step, Step::Transaction { .. }) {
                    let transaction = self.state.transaction.take();
                    self.queue = transaction.map(|it| it.queue).unwrap_or_default();
                }
                Taken::Whole { consumed, step }
            }
        }
    }

    /// The next command of the transaction that [`Step::Transaction`] began, as a step.
    pub fn next_queued<'a>(
        &'a mut self,
        facts: &dyn Facts,
        moment: Moment,
        out: &mut Vec<u8>,
    ) -> Option<Step<'a>> {
        let args = self.queue.next()?;
        let world = World { facts, moment, out, scratch: &mut self.scratch };
        Some(command(&mut self.state, args, world))
    }

    /// Gives the transaction up that [`Step::Transaction`] began, before any of it was
    /// carried out: the connection is again as it was before `EXEC`.
    pub fn abandon_transaction(&mut self, was: Agreed) {
        self.queue = Queue::default();
        self.state.space = was.space;
        self.state.revision = was.revision;
        self.state.unauthorized = was.unauthorized;
    }

    /// What the commands of a transaction may change, for [`Session::abandon_transaction`].
    pub fn agreed(&self) -> Agreed {
        let State { space, revision, unauthorized, .. } = self.state;
        Agreed { space, revision, unauthorized }
    }

    /// Keeps by what the watched keys are told from what they may become. `place` counts the requests of the step.
    pub fn watched(&mut self, place: usize, reply: &Reply<'_>) {
        transaction::keep_watched(&mut self.state, place, reply);
    }

    /// Appends the watched keys as [`corelane_protocol::Watches`] has them, and watches them
    /// no more.
    pub fn take_watches(&mut self, list: &mut Vec<u8>) {
        for watched in self.state.watched.drain(..) {
            Watches::push(list, &watched.as_watch());
        }
    }

    /// Appends the connection's line of `CLIENT LIST`.
    pub fn describe(&self, client: &ClientFacts<'_>, out: &mut Vec<u8>) {
        super::client::line(client, "resp", Some(&self.state), out);
    }

    /// Gives back memory that only unusual commands need.
    pub fn shrink(&mut self) {
        self.parser.shrink();
        if self.scratch.capacity() > 256 {
            self.scratch = Vec::new();
        }
    }
}

/// What a command acts on beside the connection's state.
struct World<'c, 'a> {
    facts: &'c dyn Facts,
    moment: Moment,
    out: &'c mut Vec<u8>,
    scratch: &'a mut Vec<u8>,
}

/// Carries a command out as far as the connection's state goes.
fn command<'a>(state: &mut State, args: Args<'a>, world: World<'_, 'a>) -> Step<'a> {
    state.replies = match state.replies {
        Replies::SkipNext => Replies::Skip,
        Replies::Skip => Replies::On,
        replies => replies,
    };
    let World { facts, moment, out, scratch } = world;
    let start = out.len();
    let world = World { facts, moment, out: &mut *out, scratch };
    let step = find_and_run(state, args, world);
    if state.is_silent() {
        out.truncate(start);
    }
    step
}

fn find_and_run<'a>(state: &mut State, mut args: Args<'a>, world: World<'_, 'a>) -> Step<'a> {
    let whole = args.clone();
    let Some(name) = args.next() else { return Step::Answered };
    let found = match table::find(name, &mut args) {
        Ok(found) => found,
        Err(table::Unknown::Web) => return Step::Close,
        Err(unknown) => {
            state.doom();
            write::error(&unknown.message(name, args), world.out);
            return Step::Answered;
        }
    };
    let refusal = if !found.takes(whole.len()) {
        Some(Refusal::Arity)
    } else if state.unauthorized && !found.flags.has(Flags::NO_AUTH) {
        Some(Refusal::Words("NOAUTH Authentication required."))
    } else if state.transaction.is_some() && found.flags.has(Flags::NO_MULTI) {
        Some(Refusal::Words("ERR Command not allowed inside a transaction"))
    } else {
        None
    };
    if let Some(refusal) = refusal {
        if found.name == "exec" {
            return transaction::abort(state, &refusal, found, world.out);
        }
        state.doom();
        refusal.write(found, world.out);
        return Step::Answered;
    }
    if let Some(transaction) = &mut state.transaction
        && !found.flags.has(Flags::IN_MULTI)
    {
        match transaction.push(&whole) {
            Ok(()) => write::simple("QUEUED", world.out),
            Err(refusal) => refusal.write(found, world.out),
        }
        return Step::Answered;
    }
    state.latest = Some(found);
    let World { facts, moment, out, scratch } = world;
    let mut call =
        Call { state, facts, moment, out: &mut *out, scratch: Some(scratch), command: found };
    match (found.run)(&mut call, args) {
        Ok(step) => step,
        Err(refusal) => {
            refusal.write(found, out);
            Step::Answered
        }
    }
}
