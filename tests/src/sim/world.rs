//! The fake world around the engines of one node: time, lanes and sockets.
//!
//! A core's turn does what a real event loop does in one: some bytes arrive, some sends
//! end, some mail is taken, housekeeping runs, the output is flushed. What happens and how
//! much of it is drawn by lot. The world also checks what engines promise to it.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use corelane_engine::limits::{MAIL_CREDITS, MAIL_LANE_SLOTS};
use corelane_engine::{
    Agenda, Closing, ConnectionId, Engine, Mail, Output, Packet, ReceiveEnd, SendEnd,
};
use corelane_protocol::MonotonicUs;
use corelane_ring::Core;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::sim::keys::Moment;
use crate::sim::link::{ClientEnd, Link, Place, Reading, Sending};
use crate::sim::scenario::Scenario;

/// Connections on their way on one lane: what the credits leave of its slots.
const CONNECTIONS_ON_LANE_MAX: usize = MAIL_LANE_SLOTS - 2 * MAIL_CREDITS;

/// How much happens in a core's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Anything from nothing to much.
    Random,
    /// All that can.
    Eager,
}

/// What travels on a lane.
#[derive(Debug)]
enum Parcel {
    Mail(Mail),
    Connection { link: usize, received: Vec<u8> },
}

/// What an engine asked for.
#[derive(Debug)]
enum Effect {
    Send(ConnectionId, Packet),
    Pause(ConnectionId),
    Resume(ConnectionId),
    Close(ConnectionId, Closing),
    Detach(ConnectionId),
    Mail(Core, Mail),
}

/// Collects effects, which are put into practice at the end of the turn.
#[derive(Debug, Default)]
struct Effects(Vec<Effect>);

impl Output for Effects {
    fn send(&mut self, connection: ConnectionId, packet: Packet) {
        self.0.push(Effect::Send(connection, packet));
    }

    fn taken_by_peer(&mut self, _: ConnectionId) -> Option<u64> {
        None
    }

    fn pause(&mut self, connection: ConnectionId) {
        self.0.push(Effect::Pause(connection));
    }

    fn resume(&mut self, connection: ConnectionId) {
        self.0.push(Effect::Resume(connection));
    }

    fn close(&mut self, connection: ConnectionId, how: Closing) {
        self.0.push(Effect::Close(connection, how));
    }

    fn detach(&mut self, connection: ConnectionId) {
        self.0.push(Effect::Detach(connection));
    }

    fn mail(&mut self, to: Core, mail: Mail) {
        self.0.push(Effect::Mail(to, mail));
    }
}

struct CoreState {
    engine: Engine,
    effects: Effects,
    /// Links at this core, in the order in which they came.
    here: Vec<usize>,
    names: HashMap<ConnectionId, usize>,
    agenda: Agenda,
    ticked_us: u64,
}

/// The world. See the module.
pub(crate) struct World {
    random: SmallRng,
    now_us: u64,
    turn: u64,
    cores: Vec<CoreState>,
    /// From core to core, at `from * cores + to`.
    lanes: Vec<VecDeque<Parcel>>,
    /// All links that ever were.
    pub(crate) links: Vec<Link>,
    /// The most mail that one lane held at a time.
    pub(crate) mails_most: usize,
    /// Grows whenever a byte, a parcel or a closing moves.
    pub(crate) progress: u64,
    piece_bytes_max: usize,
    parcels_max: usize,
    close_chance: f64,
}

impl World {
    /// The node of a scenario, freshly started.
    pub(crate) fn new(scenario: &Scenario) -> World {
        let now_us = scenario.start_us;
        let cores = (0..scenario.cores)
            .map(|core| CoreState {
                engine: Engine::new(scenario.engine(core)).expect("the scenario is possible"),
                effects: Effects::default(),
                here: Vec::new(),
                names: HashMap::new(),
                agenda: Agenda::At(MonotonicUs(now_us)),
                ticked_us: now_us,
            })
            .collect();
        let lanes = usize::from(scenario.cores).pow(2);
        World {
            random: SmallRng::seed_from_u64(scenario.lot ^ 0x57_4f_52_4c_44),
            now_us,
            turn: 0,
            cores,
            lanes: (0..lanes).map(|_| VecDeque::new()).collect(),
            links: Vec::new(),
            mails_most: 0,
            progress: 0,
            piece_bytes_max: scenario.piece_bytes_max,
            parcels_max: scenario.parcels_max,
            close_chance: scenario.close_chance,
        }
    }

    /// Microseconds on the node's clock.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    /// A moment after all others.
    pub(crate) fn moment(&mut self) -> Moment {
        self.turn += 1;
        Moment { turn: self.turn, us: self.now_us }
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, us: u64) {
        self.now_us += us;
    }

    /// How many cores the node has.
    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }

    /// An engine, to look at.
    pub(crate) fn engine(&mut self, core: usize) -> &mut Engine {
        &mut self.cores[core].engine
    }

    /// See [`Engine::mail_under_way`].
    pub(crate) fn mail_under_way(&self, core: usize) -> usize {
        self.cores[core].engine.mail_under_way()
    }

    /// The time up to which every core has done its housekeeping.
    pub(crate) fn ticked_us(&self) -> u64 {
        self.cores.iter().map(|core| core.ticked_us).min().unwrap_or(0)
    }

    /// A client connects, and lands at a core.
    pub(crate) fn connect(&mut self, core: usize) -> usize {
        let id = self.cores[core].engine.opened(MonotonicUs(self.now_us));
        let link = self.links.len();
        self.links.push(Link::new(Place::At { core, id }));
        self.cores[core].here.push(link);
        assert!(self.cores[core].names.insert(id, link).is_none(), "a name given twice");
        link
    }

    /// Tells every core to shut down.
    pub(crate) fn drain(&mut self) {
        for link in &mut self.links {
            link.delivered_at_drain = Some(link.delivered);
        }
        for core in &mut self.cores {
            core.engine.drain(MonotonicUs(self.now_us));
        }
    }

    /// Whether no connection and no mail is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.cores.iter().all(|core| core.engine.is_empty() && core.here.is_empty())
            && self.lanes_are_empty()
    }

    /// Whether nothing travels between cores.
    pub(crate) fn lanes_are_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// One turn of a core.
    pub(crate) fn turn_of(&mut self, core: usize, pace: Pace) {
        let now = MonotonicUs(self.now_us);
        self.cores[core].engine.begin_turn(now, now);
        let here = self.cores[core].here.clone();
        let first = if here.is_empty() { 0 } else { self.random.random_range(0..here.len()) };
        let mut links = Vec::new();
        for at in 0..here.len() {
            if self.lot(pace, 0.6) {
                links.push(here[(first + at) % here.len()]);
            }
        }
        self.step_links(core, &links, pace);
        self.take_mail(core, pace);
        self.tick(core, pace);
        let now = MonotonicUs(self.now_us);
        let state = &mut self.cores[core];
        state.engine.flush_output(now, &mut state.effects);
        self.apply_effects(core);
    }

    fn tick(&mut self, core: usize, pace: Pace) {
        let now = MonotonicUs(self.now_us);
        let state = &mut self.cores[core];
        let is_due = match state.agenda {
            Agenda::Now => true,
            Agenda::At(at) => at <= now,
        };
        let wanted = match pace {
            Pace::Eager => is_due,
            Pace::Random => self.random.random_bool(if is_due { 0.5 } else { 0.01 }),
        };
        if wanted {
            state.agenda = state.engine.tick(now, &mut state.effects);
        }
        // A core that has nothing to do is as good as one that looked.
        if wanted || !is_due {
            state.ticked_us = self.now_us;
        }
    }

    fn take_mail(&mut self, core: usize, pace: Pace) {
        let cores = self.cores.len();
        for from in 0..cores {
            let lane = from * cores + core;
            let most = match pace {
                Pace::Eager => self.lanes[lane].len(),
                Pace::Random => self.random.random_range(0..=self.parcels_max),
            };
            for taken in 0..most {
                if self.lot(pace, 0.8) {
                    let mails = self.lanes[lane].iter().take(most - taken);
                    self.cores[core].engine.foresee_mails(mails.filter_map(
                        |parcel| match parcel {
                            Parcel::Mail(mail) => Some(mail),
                            Parcel::Connection { .. } => None,
                        },
                    ));
                }
                let Some(parcel) = self.lanes[lane].pop_front() else { break };
                self.progress += 1;
                let now = MonotonicUs(self.now_us);
                let state = &mut self.cores[core];
                match parcel {
                    Parcel::Mail(mail) => {
                        state.agenda = Agenda::Now;
                        state.engine.mail(Core(from as u16), mail, now, &mut state.effects);
                    }
                    Parcel::Connection { link, received } => {
                        let id = state.engine.opened(now);
                        self.links[link].place = Place::At { core, id };
                        self.links[link].reading = Reading::On;
                        state.here.push(link);
                        assert!(state.names.insert(id, link).is_none(), "a name given twice");
                        state.agenda = Agenda::Now;
                        state.engine.received(id, &received, now, &mut state.effects);
                    }
                }
            }
        }
    }

    /// What may happen on some links of a core in one turn.
    fn step_links(&mut self, core: usize, links: &[usize], pace: Pace) {
        let place = |it: &Self, link: usize| match it.links[link].place {
            Place::At { id, .. } => Some((link, id)),
            _ => None,
        };
        let links: Vec<_> = links.iter().filter_map(|link| place(self, *link)).collect();
        for &(link, id) in &links {
            self.progress_send(core, link, id, pace);
        }
        let mut arrivals = Vec::new();
        for &(link, id) in &links {
            arrivals.extend(self.arrival(link, pace).map(|range| (link, id, range)));
        }
        self.deliver(core, &arrivals, pace);
        for &(link, id) in &links {
            self.progress_end(core, link, id, pace);
        }
    }

    fn lot(&mut self, pace: Pace, chance: f64) -> bool {
        pace == Pace::Eager || self.random.random_bool(chance)
    }

    fn progress_send(&mut self, core: usize, at: usize, id: ConnectionId, pace: Pace) {
        let now = MonotonicUs(self.now_us);
        if self.links[at].sending.is_none() || !self.lot(pace, 0.8) {
            return;
        }
        let piece_bytes = self.piece_bytes(pace);
        let (link, state) = (&mut self.links[at], &mut self.cores[core]);
        let sending = link.sending.as_mut().expect("looked at above");
        let broken = link.client_end == ClientEnd::Broken || link.closing == Some(Closing::Now);
        if !broken {
            if !link.client_reads {
                return;
            }
            let is_whole = sending.progress(piece_bytes, &mut link.to_client);
            self.progress += 1;
            if !is_whole {
                return;
            }
        }
        let packet = link.sending.take().expect("looked at above").into_packet();
        let end = if broken { SendEnd::Failed } else { SendEnd::Whole };
        self.progress += 1;
        state.agenda = Agenda::Now;
        state.engine.sent(id, packet, end, now, &mut state.effects);
    }

    /// What arrives on a link, if anything does.
    fn arrival(&mut self, at: usize, pace: Pace) -> Option<Range<usize>> {
        let piece_bytes = self.piece_bytes(pace);
        if self.links[at].closing.is_some() {
            // Drained or broken: read and dropped.
            self.links[at].take(usize::MAX);
            return None;
        }
        if !self.links[at].is_read() || self.links[at].unread() == 0 || !self.lot(pace, 0.8) {
            return None;
        }
        let link = &mut self.links[at];
        if let Reading::Stopping(pieces) | Reading::Detaching(pieces) = &mut link.reading {
            *pieces -= 1;
        }
        let range = link.take(piece_bytes);
        link.delivered += range.len() as u64;
        self.progress += 1;
        Some(range)
    }

    /// Gives a core what has arrived on its links, foreseen as a real driver does it, or not.
    fn deliver(
        &mut self,
        core: usize,
        arrivals: &[(usize, ConnectionId, Range<usize>)],
        pace: Pace,
    ) {
        let now = MonotonicUs(self.now_us);
        for number in 0..arrivals.len() {
            let foresees = self.lot(pace, 0.8);
            let (links, state) = (&self.links, &mut self.cores[core]);
            if foresees {
                let pieces = arrivals[number..].iter();
                let pieces = pieces.map(|(at, id, range)| (*id, links[*at].bytes(range.clone())));
                state.engine.foresee(pieces, now);
            }
            let (at, id, range) = &arrivals[number];
            state.agenda = Agenda::Now;
            let bytes = links[*at].bytes(range.clone());
            state.engine.received(*id, bytes, now, &mut state.effects);
        }
    }

    fn progress_end(&mut self, core: usize, at: usize, id: ConnectionId, pace: Pace) {
        let now = MonotonicUs(self.now_us);
        if !self.lot(pace, 0.6) {
            return;
        }
        let (link, state) = (&mut self.links[at], &mut self.cores[core]);
        let nothing_unread = link.unread() == 0 || link.client_end == ClientEnd::Broken;
        if let Some(how) = link.closing {
            let over = how == Closing::Now || link.client_end != ClientEnd::Open;
            link.server_finished |= link.sending.is_none();
            let over = over && link.sending.is_none();
            if over && (pace == Pace::Eager || self.random.random_bool(self.close_chance)) {
                state.agenda = Agenda::Now;
                state.engine.closed(id);
                self.leave(core, at, id, Place::Gone);
            }
            return;
        }
        if matches!(link.reading, Reading::Detaching(_)) {
            // The engines' mail may take most of a lane; connections wait for what is left.
            let on_their_way = |lane: &VecDeque<Parcel>| {
                lane.iter().filter(|parcel| matches!(parcel, Parcel::Connection { .. })).count()
            };
            if self.lanes.iter().any(|lane| on_their_way(lane) >= CONNECTIONS_ON_LANE_MAX) {
                return;
            }
            let handover = state.engine.detached(id).expect("it asked for it");
            self.leave(core, at, id, Place::Moving);
            assert_ne!(usize::from(handover.to), core, "a connection handed to where it is");
            let lane = core * self.cores.len() + usize::from(handover.to);
            let received = handover.received;
            self.lanes[lane].push_back(Parcel::Connection { link: at, received });
            self.links[at].end_reported = false;
            return;
        }
        if link.client_end != ClientEnd::Open
            && nothing_unread
            && link.reading == Reading::On
            && !link.end_reported
        {
            link.end_reported = true;
            let end = match link.client_end {
                ClientEnd::Broken => ReceiveEnd::Broken,
                _ => ReceiveEnd::PeerFinished,
            };
            self.progress += 1;
            state.agenda = Agenda::Now;
            state.engine.receive_ended(id, end, now, &mut state.effects);
        }
    }

    /// Takes a link away from a core.
    fn leave(&mut self, core: usize, at: usize, id: ConnectionId, to: Place) {
        let state = &mut self.cores[core];
        state.here.retain(|link| *link != at);
        state.names.remove(&id);
        self.links[at].place = to;
        self.progress += 1;
        if to == Place::Gone {
            self.links[at].server_finished = true;
        }
    }

    fn piece_bytes(&mut self, pace: Pace) -> usize {
        match (pace, self.random.random_range(0..10)) {
            (Pace::Eager, _) => usize::MAX / 2,
            (Pace::Random, 0) => self.random.random_range(1..=24),
            (Pace::Random, 1..5) => self.random.random_range(1..=1_500),
            (Pace::Random, _) => self.random.random_range(1..=self.piece_bytes_max),
        }
    }

    fn apply_effects(&mut self, core: usize) {
        let mut effects = std::mem::take(&mut self.cores[core].effects.0);
        for effect in effects.drain(..) {
            match effect {
                Effect::Mail(to, mail) => self.post(core, to.index(), mail),
                Effect::Send(id, packet) => {
                    assert!(!packet.is_empty(), "an empty send");
                    let link = self.named(core, id);
                    assert!(link.sending.is_none(), "two sends under way");
                    assert!(link.closing.is_none(), "a send after closing");
                    link.sending = Some(Sending::new(packet));
                }
                Effect::Pause(id) => {
                    let pieces = self.random.random_range(0..=2);
                    let link = self.named(core, id);
                    assert_eq!(link.reading, Reading::On, "paused twice");
                    link.reading = Reading::Stopping(pieces);
                }
                Effect::Resume(id) => {
                    let link = self.named(core, id);
                    assert!(
                        matches!(link.reading, Reading::Stopping(_)),
                        "resumed, but not paused"
                    );
                    link.reading = Reading::On;
                }
                Effect::Close(id, how) => {
                    let link = self.named(core, id);
                    let given_up = matches!(link.reading, Reading::Detaching(_));
                    assert!(!given_up, "closed while it is given up");
                    assert!(
                        how == Closing::Now || link.sending.is_none(),
                        "replies must be sent before the write side is shut down"
                    );
                    if link.closing != Some(Closing::Now) {
                        link.closing = Some(how);
                    }
                }
                Effect::Detach(id) => {
                    let pieces = self.random.random_range(0..=1);
                    let link = self.named(core, id);
                    assert!(link.sending.is_none(), "detached while a send is under way");
                    link.reading = Reading::Detaching(pieces);
                }
            }
        }
        self.cores[core].effects.0 = effects;
    }

    fn post(&mut self, from: usize, to: usize, mail: Mail) {
        assert_ne!(from, to, "mail to itself");
        let lane = &mut self.lanes[from * self.cores.len() + to];
        lane.push_back(Parcel::Mail(mail));
        let mails = lane.iter().filter(|parcel| matches!(parcel, Parcel::Mail(_))).count();
        self.mails_most = self.mails_most.max(mails);
        assert!(mails <= 2 * MAIL_CREDITS, "{mails} mails on one lane: credits do not hold");
        assert!(lane.len() <= MAIL_LANE_SLOTS, "the lane would overflow");
    }

    fn named(&mut self, core: usize, id: ConnectionId) -> &mut Link {
        let link = self.cores[core].names[&id];
        &mut self.links[link]
    }
}
