//! Commands of a dialect's client, and where their requests are executed.

use corelane_dialect::{Gather, Moment, Part, Step, Taken, resp};
use corelane_protocol::wire::{between_cores, encode_reply};
use corelane_protocol::{Answer, MonotonicUs, Request, RequestHead, RequestId};
use corelane_ring::Slot;

use super::order::{self, Commands, Gathering};
use super::plain::Run;
use super::replies::{say, whole};
use super::route::{Place, place_of};
use super::{Dialect, Speech};
use crate::connection::{Connection, Wait};
use crate::dispatch::{Dispatcher, Progress};
use crate::execute::reply_head;
use crate::packet::Leases;

/// Who executes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// This core.
    Here,
    /// Another one.
    Core(u16),
    /// Another node, or nobody yet.
    Elsewhere(Slot),
    /// There is no such core or slot.
    Nowhere,
}

impl Dispatcher {
    /// Takes whole commands from the front of `bytes` for as long as there is room for their
    /// effects.
    pub(crate) fn dispatch_dialect(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        now: MonotonicUs,
    ) -> Progress {
        let mut dialect = connection.dialect.take().expect("it speaks one");
        let moment = self.moment(now);
        let mut progress = Progress { consumed: 0, incomplete: None };
        let room = self.output_room(connection);
        let run = |speech: &Speech| Some(Run { bytes, manner: speech.manner()?, room, moment });
        let mut plain = run(&dialect.speech);
        match &plain {
            Some(plain) => self.ahead.enter(bytes, plain.manner.space),
            None => self.ahead.forget(),
        }
        let held_bytes_max = self.executor.config.output_bytes_max;
        while connection.large.is_none()
            && dialect.has_room(held_bytes_max)
            && self.has_room_within(connection, room)
        {
            let from = progress.consumed;
            if self.executor.shard.is_short() && !dialect.speech.only_reads(&bytes[from..]) {
                connection.wait = Wait::ForRoom;
                break;
            }
            if let Some(plain) = &plain {
                progress.consumed = self.take_plain(connection, &mut dialect.commands, plain, from);
                if progress.consumed > from {
                    continue;
                }
            }
            if from == bytes.len() {
                break;
            }
            match self.command(connection, &mut dialect, &bytes[from..], moment) {
                Ok(consumed) => {
                    progress.consumed += consumed;
                    self.ahead.pass(&bytes[progress.consumed..], &self.executor.shard);
                    let manner = plain.map(|plain| plain.manner);
                    plain = run(&dialect.speech);
                    if plain.as_ref().map(|plain| plain.manner) != manner {
                        self.ahead.forget();
                    }
                    if dialect.commands.is_barred() {
                        // Nothing comes after it before its answer, which may be there.
                        connection.dialect = Some(dialect);
                        self.answer_whole(connection, moment);
                        dialect = connection.dialect.take().expect("it was just put back");
                    }
                }
                Err(needed) => {
                    progress.incomplete = Some(needed);
                    break;
                }
            }
        }
        self.ahead.leave();
        connection.dialect = Some(dialect);
        self.answer_whole(connection, moment);
        progress
    }

    /// Takes one command; its length, or how many bytes it needs at least.
    fn command(
        &mut self,
        connection: &mut Connection,
        dialect: &mut Dialect,
        input: &[u8],
        moment: Moment,
    ) -> Result<usize, usize> {
        let mut said = std::mem::take(&mut self.desk.said);
        let facts = self.view(Some(connection), moment.now);
        let taken = match &mut dialect.speech {
            Speech::Resp(session) => session.step(input, &facts, moment, &mut said),
            Speech::Memcached(session) => session.step(input, &facts, moment, &mut said),
        };
        let result = match taken {
            Taken::Incomplete { needed } => Err(needed),
            Taken::Whole { consumed, step } => {
                let commands = &mut dialect.commands;
                if !said.is_empty() {
                    say(connection, commands, &said);
                    said.clear();
                }
                match step {
                    Step::Transaction { shape } => {
                        let Speech::Resp(session) = &mut dialect.speech else {
                            unreachable!("only RESP has transactions");
                        };
                        self.transaction(connection, session, commands, shape, moment);
                    }
                    Step::One(part) => {
                        let text = &input[..consumed];
                        if let Some(front) =
                            self.begin_collected(connection, commands, &part, text, moment)
                        {
                            self.desk.said = said;
                            return Ok(front);
                        }
                        self.one(connection, commands, &part, moment);
                    }
                    step => self.carry_out(connection, commands, step, moment),
                }
                Ok(consumed)
            }
        };
        self.desk.said = said;
        result
    }

    fn carry_out(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        step: Step<'_>,
        moment: Moment,
    ) {
        match step {
            Step::Answered => {}
            Step::Several { parts, gather } => {
                let count = parts.len() as u32;
                let first = match Gathering::new(gather) {
                    None => {
                        let Gather::InOrder { end } = gather else { unreachable!() };
                        commands.in_order(parts.clone().map(|part| (part.shape, part.echo)), end)
                    }
                    Some(gathering) if is_watch(gather) => commands.watch(gathering, count),
                    Some(gathering) => commands.gathered(gathering, count),
                };
                for (serial, part) in (first..).zip(parts) {
                    self.send(connection, commands, serial, &part.head, &part.request, moment);
                }
            }
            Step::Everywhere { head, request, gather } => {
                let gathering = Gathering::new(gather)
                    .unwrap_or_else(|| unreachable!("cores are answered together"));
                self.everywhere_in(connection, commands, &head, &request, gathering, moment);
            }
            Step::Control { control, gather } => {
                self.control(connection, commands, control, gather, moment);
            }
            Step::One(_) | Step::Transaction { .. } => {
                unreachable!("taken care of by the caller")
            }
            Step::Close => commands.close(),
        }
    }

    /// Carries out a command of one request.
    pub(super) fn one(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        part: &Part<'_>,
        moment: Moment,
    ) {
        let Part { head, request, shape, echo } = part;
        if commands.is_empty() && self.plain(part, &mut connection.output, moment) {
            // What comes next may lease values for replies of another place.
            connection.add_leases(0, &mut self.executor.leases);
            return;
        }
        if head.answer == Answer::Never {
            // Whatever happens is not told.
            match self.target_of(request) {
                Target::Here => {
                    let mut frames = std::mem::take(&mut self.desk.frames);
                    self.execute_here(head, request, moment.now, &mut frames);
                    self.executor.leases = Leases::default();
                    frames.clear();
                    self.desk.frames = frames;
                }
                Target::Core(core) => self.forward(connection, core, head, request),
                Target::Elsewhere(_) | Target::Nowhere => {}
            }
            return;
        }
        let serial = commands.one(*shape, echo);
        self.send(connection, commands, serial, head, request, moment);
    }

    /// Sees to the execution of a request whose reply some command waits for.
    fn send(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        serial: u32,
        head: &RequestHead,
        request: &Request<'_>,
        moment: Moment,
    ) {
        let id = RequestId(serial & (u32::MAX >> 1));
        let head = RequestHead { id, answer: Answer::Always, ..*head };
        match self.target_of(request) {
            Target::Core(core) => self.forward(connection, core, &head, request),
            target => {
                let mut frames = std::mem::take(&mut self.desk.frames);
                match target {
                    Target::Elsewhere(slot) => self.turn_away(&head, slot, &mut frames),
                    Target::Nowhere => {
                        encode_reply(&reply_head(&head), &order::empty_page(), &mut frames);
                    }
                    _ => self.execute_here(&head, request, moment.now, &mut frames),
                }
                let mut leases = std::mem::take(&mut self.executor.leases);
                let replies = whole(&mut frames, &mut leases);
                self.take_replies(commands, &replies, &mut connection.output, moment);
                self.desk.frames = replies;
                self.desk.frames.clear();
            }
        }
    }

    pub(super) fn forward(
        &mut self,
        connection: &mut Connection,
        core: u16,
        head: &RequestHead,
        request: &Request<'_>,
    ) {
        self.executor.counters.forwarded_out += 1;
        let queue = connection.remote.get_or_insert_default().queue(core, &mut self.spare);
        between_cores::encode_request(head, request, queue)
            .expect("what a dialect asks can be encoded");
    }

    /// Who executes a request.
    pub(super) fn target_of(&self, request: &Request<'_>) -> Target {
        self.target_at(place_of(request))
    }

    pub(super) fn target_at(&self, place: Place) -> Target {
        let core = match place {
            Place::Slot(number) => match Slot::new(number) {
                Some(slot) if self.slots.cores.owns(slot) => self.slots.cores.core_of(slot).0,
                Some(slot) => return Target::Elsewhere(slot),
                None => return Target::Nowhere,
            },
            Place::Core(core) => core,
            Place::Anywhere | Place::Everywhere => return Target::Here,
        };
        match core {
            core if core == self.executor.config.core => Target::Here,
            core if core < self.executor.config.cores => Target::Core(core),
            _ => Target::Nowhere,
        }
    }
}

/// Whether the replies are also for the session.
fn is_watch(gather: Gather) -> bool {
    matches!(gather, Gather::Resp(gather) if gather.kind == resp::GatherKind::Watch)
}
