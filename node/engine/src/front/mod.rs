//! Connections that speak a dialect: their bytes to requests, their replies in order.
//!
//! ```text
//! bytes ─ detect ─► native: dispatch
//!               └─► Dialect: session ─► Step ─► route ─► this core: execute ─► render ─► output
//!                                                    └─► another: frames ─► mail ─► replies ─► order
//! ```
//!
//! A dialect is known here and nowhere below: what it asks is executed as any other request,
//! and the reply is rendered by the shape that came with the request. Plain gets and sets of
//! this core are rendered straight from the shard ([`plain`]); every other reply is written as
//! a frame, as those of other cores are, and rendered from that.

mod clients;
mod facts;
mod order;
mod plain;
mod route;
mod transaction;
mod walk;

pub use facts::About;
pub(crate) use plain::commands_ahead;

use corelane_dialect::{
    ClientFacts, Control, Detected, Gather, Manner, Moment, Part, Setting, Step, Taken, detect,
    memcached, resp,
};
use corelane_protocol::wire::{ReplyDecoded, between_cores, encode_reply};
use corelane_protocol::{
    Answer, ClientErrand, MonotonicUs, Reply, Request, RequestHead, RequestId, Watches,
};
use corelane_ring::Slot;

use self::facts::{Client, View};
use self::order::{Commands, Drained, Gathering, World};
use self::plain::Run;
use self::route::{Place, place_of};
use self::transaction::{Builder, refusal};
use self::walk::Walk;
use crate::connection::{Connection, Session};
use crate::dispatch::{Dispatcher, Progress};
use crate::execute::reply_head;
use crate::packet::Leases;

/// What one connection has agreed on in its dialect.
#[derive(Debug)]
enum Speech {
    Resp(resp::Session),
    Memcached(memcached::Session),
}

impl Speech {
    /// How plain commands are taken, while they are no more than what they say.
    fn manner(&self) -> Option<Manner> {
        match self {
            Speech::Resp(session) => session.manner(),
            Speech::Memcached(session) => session.manner(),
        }
    }
}

/// A connection that speaks a dialect.
#[derive(Debug)]
pub(crate) struct Dialect {
    speech: Speech,
    /// Unlike that of any other connection of the node.
    number: u64,
    since: MonotonicUs,
    commands: Commands,
}

impl Dialect {
    /// Whether another command may be taken, as far as replies that are outstanding go.
    pub(crate) fn has_room(&self, held_bytes_max: usize) -> bool {
        self.commands.has_room() && self.commands.held_bytes() < held_bytes_max
    }

    /// Whether every command was answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.commands.is_empty()
    }

    /// How its next command is taken if it is a plain one and may be answered at once.
    #[inline]
    pub(crate) fn manner(&self) -> Option<Manner> {
        if self.commands.is_empty() { self.speech.manner() } else { None }
    }

    /// The connection as clients see it.
    pub(crate) fn client(&self, connection: &Connection) -> Client {
        Client {
            number: self.number,
            since: self.since,
            heard_at: MonotonicUs(connection.received_at.0 * 1_000),
            input_bytes: connection.input.len(),
            output_bytes: connection.pending(),
        }
    }

    /// Appends the connection's line of `CLIENT LIST`.
    pub(crate) fn describe(&self, client: &ClientFacts<'_>, out: &mut Vec<u8>) {
        match &self.speech {
            Speech::Resp(session) => session.describe(client, out),
            Speech::Memcached(_) => resp::describe_client(client, out),
        }
    }
}

/// What a client asks of the node beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To change a setting.
    Configure(Setting),
    /// To end, as SIGTERM asks for it.
    Shutdown,
}

/// What all dialect connections of a core share.
#[derive(Debug)]
pub(crate) struct Desk {
    /// How many there were.
    greeted: u64,
    /// For what a command says at once.
    said: Vec<u8>,
    /// For reply frames that are rendered at once.
    frames: Vec<u8>,
    /// Requests of the connection under way on connections of this core, as frames.
    pub(crate) errands: Vec<u8>,
    /// What clients asked of the node.
    pub(crate) wishes: Vec<Wish>,
    pub(crate) wall_clock: WallClock,
}

impl Desk {
    pub(crate) fn new(wall_clock: WallClock) -> Desk {
        Desk {
            greeted: 0,
            said: Vec::new(),
            frames: Vec::new(),
            errands: Vec::new(),
            wishes: Vec::new(),
            wall_clock,
        }
    }
}

/// The wall clock, as it was told last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WallClock {
    at: MonotonicUs,
    unix_ms: u64,
}

impl WallClock {
    pub(crate) fn new(at: MonotonicUs, unix_ms: u64) -> WallClock {
        WallClock { at, unix_ms }
    }

    /// Milliseconds since 1970.
    fn at(self, now: MonotonicUs) -> u64 {
        self.unix_ms + now.0.saturating_sub(self.at.0) / 1_000
    }
}

/// Whoever keeps the connections of a core.
pub(crate) trait Clients {
    /// Carries out what is asked about them and appends the reply.
    fn run(
        &mut self,
        head: &RequestHead,
        errand: ClientErrand,
        filter: &[u8],
        now: MonotonicUs,
        out: &mut Vec<u8>,
    );
}

/// Who executes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// This core.
    Here,
    /// Another one.
    Core(u16),
    /// Another node, or nobody yet.
    Elsewhere(Slot),
    /// There is no such core or slot.
    Nowhere,
}

/// What a new connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// A native client, or one that is not known yet.
    Native,
    /// One that speaks a dialect, or is refused: it was taken care of.
    Dialect,
    /// More bytes must arrive to tell.
    More,
}

impl Dispatcher {
    /// Finds out what a connection speaks that has sent these bytes and nothing before.
    pub(crate) fn greet(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
        now: MonotonicUs,
    ) -> Greeting {
        let dialects = self.executor.config.dialects;
        if !dialects.resp && !dialects.memcached {
            return Greeting::Native;
        }
        let speech = match detect(bytes, dialects) {
            Detected::Native => return Greeting::Native,
            Detected::More => return Greeting::More,
            Detected::Refuse(answer) => {
                self.executor.counters.garbled += 1;
                connection.output.extend_from_slice(answer);
                connection.finish();
                return Greeting::Dialect;
            }
            Detected::Resp => {
                let (facts, most) = (self.view(None, now), self.executor.config.value_bytes_max);
                Speech::Resp(resp::Session::new(most, &facts))
            }
            Detected::Memcached => {
                let (facts, most) = (self.view(None, now), self.executor.config.value_bytes_max);
                Speech::Memcached(memcached::Session::new(most, &facts))
            }
        };
        let config = &self.executor.config;
        self.desk.greeted += 1;
        let number = self.desk.greeted * u64::from(config.cores) + u64::from(config.core);
        let commands = Commands::default();
        connection.dialect = Some(Box::new(Dialect { speech, number, since: now, commands }));
        connection.session = Session::Open;
        Greeting::Dialect
    }

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
        let first = self.first.take().filter(|known| {
            let space = plain.as_ref().map(|plain| plain.manner.space);
            space == Some(known.space) && known.bytes <= bytes.len()
        });
        self.ahead.restart(first);
        let held_bytes_max = self.executor.config.output_bytes_max;
        while dialect.has_room(held_bytes_max) && self.has_room_within(connection, room) {
            let from = progress.consumed;
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
                    self.ahead.pass(progress.consumed, &self.executor.shard);
                    let manner = plain.map(|plain| plain.manner);
                    plain = run(&dialect.speech);
                    if plain.as_ref().map(|plain| plain.manner) != manner {
                        self.ahead.restart(None);
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
        let facts = self.view(Some(dialect.client(connection)), moment.now);
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
            Step::One(part) => self.one(connection, commands, &part, moment),
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
            Step::Transaction { .. } => unreachable!("taken care of by the caller"),
            Step::Close => commands.close(),
        }
    }

    /// Carries out a command of one request.
    fn one(
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

    fn forward(
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
    fn target_of(&self, request: &Request<'_>) -> Target {
        self.target_at(place_of(request))
    }

    fn target_at(&self, place: Place) -> Target {
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

    /// Sends one request to every core, or from core to core where it is a walk.
    fn everywhere_in(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        head: &RequestHead,
        request: &Request<'_>,
        gathering: Gathering,
        moment: Moment,
    ) {
        if order::is_walk(request) {
            let walk = Walk::new(*head, request, gathering).expect("it is a walk");
            commands.walk(walk);
            // Each step is a turn's work, the first included.
            connection.walks = true;
            return;
        }
        let cores = self.executor.config.cores;
        let here = self.executor.config.core;
        let first = commands.gathered(gathering, u32::from(cores));
        for core in 0..cores {
            let serial = first.wrapping_add(u32::from(core)) & (u32::MAX >> 1);
            let head = RequestHead { id: RequestId(serial), answer: Answer::Always, ..*head };
            if core == here {
                let mut frames = std::mem::take(&mut self.desk.frames);
                self.execute_here(&head, request, moment.now, &mut frames);
                self.take_replies(commands, &frames, &mut connection.output, moment);
                frames.clear();
                self.desk.frames = frames;
            } else {
                self.forward(connection, core, &head, request);
            }
        }
    }

    /// Takes the next step of the walk that a connection is on.
    pub(crate) fn walk_on(&mut self, connection: &mut Connection, now: MonotonicUs) {
        connection.walks = false;
        let Some(mut dialect) = connection.dialect.take() else { return };
        let moment = self.moment(now);
        if let Some((serial, walk)) = dialect.commands.walk_mut() {
            let (head, request) = walk.step();
            let mut step = Vec::new();
            let head = RequestHead { id: RequestId(serial), answer: Answer::Always, ..head };
            between_cores::encode_request(&head, &request, &mut step)
                .expect("what a dialect asks can be encoded");
            match self.target_of(&request) {
                Target::Core(core) => {
                    self.executor.counters.forwarded_out += 1;
                    let remote = connection.remote.get_or_insert_default();
                    remote.queue(core, &mut self.spare).extend_from_slice(&step);
                }
                _ => {
                    let mut frames = std::mem::take(&mut self.desk.frames);
                    self.executor.execute(&head, &request, now, &mut frames);
                    self.take_replies(
                        &mut dialect.commands,
                        &frames,
                        &mut connection.output,
                        moment,
                    );
                    frames.clear();
                    self.desk.frames = frames;
                    connection.walks = dialect.commands.walk_mut().is_some();
                }
            }
        }
        connection.dialect = Some(dialect);
        self.answer_whole(connection, moment);
    }

    /// Takes reply frames of another core for a connection.
    pub(crate) fn landed(
        &mut self,
        connection: &mut Connection,
        mut replies: Vec<u8>,
        leases: &mut Leases,
        now: MonotonicUs,
    ) -> Vec<u8> {
        let mut dialect = connection.dialect.take().expect("it speaks one");
        let moment = self.moment(now);
        let mut replies = whole(&mut replies, leases);
        let commands = &mut dialect.commands;
        self.take_replies(commands, &replies, &mut connection.output, moment);
        connection.walks |= commands.walk_mut().is_some();
        connection.dialect = Some(dialect);
        self.answer_whole(connection, moment);
        replies.clear();
        replies
    }

    /// Gives replies to the commands that wait for them.
    fn take_replies(
        &mut self,
        commands: &mut Commands,
        frames: &[u8],
        output: &mut Vec<u8>,
        moment: Moment,
    ) {
        let facts = self.view(None, moment.now);
        let world = World { facts: &facts, moment };
        let mut rest = frames;
        while !rest.is_empty() {
            let ReplyDecoded::Complete { frame, consumed } = between_cores::decode_reply(rest)
            else {
                unreachable!("cores send each other whole replies");
            };
            commands.reply(frame.head.id.0, &frame.head, &frame.reply, world, output);
            rest = &rest[consumed..];
        }
    }

    /// Moves the answers that are ready to the connection's output.
    fn answer_whole(&mut self, connection: &mut Connection, moment: Moment) {
        let Some(mut dialect) = connection.dialect.take() else { return };
        if !dialect.commands.is_empty() {
            let mut said = std::mem::take(&mut connection.output);
            let facts = self.view(Some(dialect.client(connection)), moment.now);
            let world = World { facts: &facts, moment };
            let Drained { watched, agreed, closes } = dialect.commands.drain(world, &mut said);
            connection.output = said;
            if let Speech::Resp(session) = &mut dialect.speech {
                for (place, frame) in watched {
                    if let ReplyDecoded::Complete { frame, .. } =
                        between_cores::decode_reply(&frame)
                    {
                        session.watched(place, &frame.reply);
                    }
                }
                if let Some(agreed) = agreed {
                    session.abandon_transaction(agreed);
                }
            }
            if closes {
                connection.finish();
            }
        }
        connection.dialect = Some(dialect);
    }

    /// Carries the queued commands of a connection out together.
    fn transaction(
        &mut self,
        connection: &mut Connection,
        session: &mut resp::Session,
        commands: &mut Commands,
        shape: corelane_dialect::Shape,
        moment: Moment,
    ) {
        let cores = self.executor.config.cores;
        let agreed = session.agreed();
        let mut builder = Builder::new(shape, agreed);
        let mut watches = Vec::new();
        session.take_watches(&mut watches);
        builder.depend_on(Watches::from_encoded(&watches));
        let facts = self.view(None, moment.now);
        let mut text = Vec::new();
        while let Some(step) = session.next_queued(&facts, moment, &mut text) {
            builder.push(step, &text, cores);
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

    /// What concerns the node or its connections.
    fn control(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        control: Control<'_>,
        gather: Gather,
        moment: Moment,
    ) {
        let gathering =
            Gathering::new(gather).unwrap_or_else(|| unreachable!("cores are answered together"));
        let (errand, filter) = match control {
            Control::ListClients(filter) => (ClientErrand::List, filter),
            Control::CloseClients(filter) => (ClientErrand::Close, filter),
            Control::Configure(setting) => {
                self.desk.wishes.push(Wish::Configure(setting));
                return self.granted(connection, commands, gathering, moment);
            }
            Control::Shutdown => {
                self.desk.wishes.push(Wish::Shutdown);
                return self.granted(connection, commands, gathering, moment);
            }
        };
        let mut encoded = Vec::new();
        filter.encode(&mut encoded);
        let request = Request::Clients { errand, filter: &encoded };
        let cores = self.executor.config.cores;
        let first = commands.gathered(gathering, u32::from(cores));
        for core in 0..cores {
            let serial = first.wrapping_add(u32::from(core)) & (u32::MAX >> 1);
            let head = RequestHead { id: RequestId(serial), ..RequestHead::default() };
            if core == self.executor.config.core {
                // Whoever keeps the connections carries it out.
                between_cores::encode_request(&head, &request, &mut self.desk.errands)
                    .expect("what a dialect asks can be encoded");
            } else {
                self.forward(connection, core, &head, &request);
            }
        }
    }

    /// Answers that something is being done.
    fn granted(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        mut gathering: Gathering,
        moment: Moment,
    ) {
        gathering.add(&Reply::Done { version: None }, moment);
        let mut said = Vec::new();
        gathering.finish(World { facts: &self.view(None, moment.now), moment }, &mut said);
        say(connection, commands, &said);
    }

    /// One moment on both clocks.
    pub(crate) fn moment(&self, now: MonotonicUs) -> Moment {
        Moment { now, unix_ms: self.desk.wall_clock.at(now) }
    }

    /// What this node is like, and a connection of it.
    fn view(&self, client: Option<Client>, now: MonotonicUs) -> View<'_> {
        let client = client.unwrap_or(Client::unknown(now));
        View { config: &self.executor.config, client, now, cluster: self.slots.cluster() }
    }
}

/// Whether the replies are also for the session.
fn is_watch(gather: Gather) -> bool {
    matches!(gather, Gather::Resp(gather) if gather.kind == resp::GatherKind::Watch)
}

/// Adds what a command said at once, after whatever waits before it.
fn say(connection: &mut Connection, commands: &mut Commands, said: &[u8]) {
    if commands.is_empty() {
        connection.output.extend_from_slice(said);
    } else {
        commands.text().extend_from_slice(said);
        commands.held(said.len());
    }
}

/// Replies in one run, with the large values that were leased copied into their places.
fn whole(frames: &mut Vec<u8>, leases: &mut Leases) -> Vec<u8> {
    if leases.bytes() == 0 {
        return std::mem::take(frames);
    }
    let mut run = Vec::with_capacity(frames.len() + leases.bytes());
    while leases.bytes() > 0 || !frames.is_empty() {
        leases.packet(frames).pieces().for_each(|piece| run.extend_from_slice(piece));
    }
    run
}
