//! The loop of one data core: a fixed order, bounded work a turn, one call that may block.
//!
//! ```text
//! events of the last turn ─► engine      (accepts, bytes, sends that ended)
//! mail of other cores     ─► engine      (a bounded number)
//! commands                ─► engine      (drain, stop)
//! engine.tick                            (expiry, eviction, timers: bounded slices)
//! engine.flush_output     ─► one send a connection, mail to other cores
//! spin                                   (look for work a little longer, where that pays)
//! driver.turn                            (everything queued to the kernel; wait; new events)
//! ```
//!
//! An error of one connection is an input of the engine, never an end of the loop.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use corelane_engine::limits::QUEUE_TARGET_US;
use corelane_engine::{
    Agenda, Asker, Closing, ClusterView, ConnectionId, Engine, Mail, Output, Packet, ReceiveEnd,
    SendEnd, Tuning, Wish,
};
use corelane_mesh::{Drained, Sleep};
use corelane_protocol::MonotonicUs;
use corelane_ring::Core;
use crossbeam_channel::{Receiver, Sender};

use crate::clock::Clock;
use crate::control::{Ask, CoreSnapshot};
use crate::driver::{Driver, Event, Wait};
use crate::gate::Gate;
use crate::lanes::{Adoption, CoreMail, Lanes};
use crate::listeners;
use crate::spinner::Spinner;
use crate::system;

/// Longest wait of a turn: how often an idle core publishes its numbers.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Microseconds between two publications of the core's numbers.
const PUBLISH_INTERVAL_US: u64 = 100_000;
/// Microseconds below which a turn's end is not asked whether it was a sleep. What was taken for
/// work then makes a queue look longer by as much: a fiftieth of what a request may queue for
/// ([`QUEUE_TARGET_US`]). Asking costs 0.3 µs, and so at most 0.3 % of the time.
const QUEUE_OVERLOOKED_US: u64 = QUEUE_TARGET_US / 50;

/// Wait while mail is held back by a full lane.
const WAIT_FOR_LANE: Duration = Duration::from_micros(100);

/// Connections beyond those that the node may have, that a core keeps for as long as telling
/// them so takes. More of them are closed without a word.
pub(crate) const REFUSED_MAX: usize = 16;

/// Commands obeyed in one turn.
const COMMANDS_A_TURN: usize = 16;

/// What the control side tells a core.
#[derive(Debug)]
pub(crate) enum Command {
    /// Execute requests.
    Ask(Ask),
    /// Take no new connections, answer what has arrived, end when all are closed.
    Drain,
    /// End at once.
    Stop,
    /// Serve the slots of a later topology.
    Cluster(Arc<ClusterView>),
    /// Go on with other settings.
    Retune(Tuning),
    /// Answer a client that asked for a change.
    Grant {
        /// Who.
        asker: Asker,
        /// Whether it was made, or why not.
        outcome: Result<(), String>,
    },
}

/// Whether the core has its CPU to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpu {
    /// It is pinned to one.
    Own,
    /// Others may want it while this core spins.
    Shared,
}

/// How looking for work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spin {
    FoundWork { queue: Queue },
    FoundNothing { queue: Queue },
}

/// What is known of the requests that came in the course of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// There were none when it ended: those of the next turn have not waited.
    WasEmpty,
    /// They may have waited since it began.
    MayBeOld,
}

/// When a turn begins, and since when its inputs may have waited.
#[derive(Clone, Copy, Debug)]
struct Turn {
    now: MonotonicUs,
    queued_since: MonotonicUs,
}

/// Whether the core goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Serving,
    Draining,
    Over,
}

/// Everything of one data core.
pub(crate) struct EventLoop<D> {
    pub(crate) driver: D,
    pub(crate) engine: Engine,
    pub(crate) lanes: Lanes,
    pub(crate) commands: Receiver<Command>,
    pub(crate) wishes: Sender<Wish>,
    pub(crate) snapshot: Arc<CoreSnapshot>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Clock,
    pub(crate) spinner: Spinner,
    pub(crate) cpu: Cpu,
    /// How often the thread had slept when that was last asked.
    pub(crate) sleeps: u64,
    /// Connections that are open only to learn that they are refused.
    pub(crate) refused: Vec<ConnectionId>,
    /// Mail taken from the lanes; empty between turns.
    pub(crate) mails: Vec<(u16, CoreMail)>,
}

impl<D: Driver> EventLoop<D> {
    /// Serves until told to stop, or drained.
    ///
    /// # Errors
    /// The kernel refuses the loop itself.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        let mut life = Life::Serving;
        let mut publish_at = MonotonicUs(0);
        let start = self.clock.now();
        let mut turn = Turn { now: start, queued_since: start };
        loop {
            let Turn { now, queued_since } = turn;
            self.engine.begin_turn(now, queued_since);
            let idle = events.is_empty();
            let mut left = events.drain(..);
            loop {
                self.engine.foresee(left.as_slice().iter().filter_map(Event::arrival), now);
                let Some(event) = left.next() else { break };
                self.handle(event, now);
            }
            drop(left);
            let mail = self.receive_mail(now);
            life = self.obey(life, now);
            let mut obeyed = 1;
            while obeyed < COMMANDS_A_TURN && !self.commands.is_empty() {
                life = self.obey(life, now);
                obeyed += 1;
            }
            self.pass_on_wishes(now);
            let agenda = self.engine.tick(now, &mut World::of(&mut self.driver, &mut self.lanes));
            self.engine.flush_output(now, &mut World::of(&mut self.driver, &mut self.lanes));
            let delivered = self.lanes.flush();

            let counters = self.engine.counters_mut();
            counters.turns += 1;
            counters.turns_idle += u64::from(idle);
            if now >= publish_at || life == Life::Over {
                publish_at = MonotonicUs(now.0 + PUBLISH_INTERVAL_US);
                self.engine.set_wall_clock(now, crate::clock::unix_ms());
                self.publish();
            }
            if life == Life::Over {
                return Ok(());
            }

            let wait = match (agenda, mail) {
                (Agenda::Now, _) | (_, Drained::More) => Wait::No,
                _ if self.engine.awaits_sends() => Wait::No,
                _ if !self.commands.is_empty() => Wait::No,
                (Agenda::At(at), Drained::Empty) => {
                    let until = Duration::from_micros(at.0.saturating_sub(now.0));
                    Wait::AtMost(until.min(if delivered { WAIT_MAX } else { WAIT_FOR_LANE }))
                }
            };
            turn = self.rest(now, wait, &mut events)?;
        }
    }

    /// Ends a turn: hands everything to the kernel, and takes from it what there is to do, after a
    /// sleep where that is nothing.
    fn rest(
        &mut self,
        turn_began: MonotonicUs,
        mut wait: Wait,
        events: &mut Vec<Event>,
    ) -> io::Result<Turn> {
        let next = |now, queue| match queue {
            Queue::WasEmpty => Turn { now, queued_since: now },
            Queue::MayBeOld => Turn { now, queued_since: turn_began },
        };
        let worked_until = self.clock.now();
        let mut queue = Queue::MayBeOld;
        if wait != Wait::No {
            match self.spin(worked_until, events)? {
                Spin::FoundWork { queue } => return Ok(next(self.clock.now(), queue)),
                Spin::FoundNothing { queue: spun } => queue = spun,
            }
            if self.lanes.prepare_sleep() == Sleep::MailWaiting {
                wait = Wait::No;
            }
        }
        self.driver.turn(wait, events)?;
        self.lanes.awake();
        let now = self.clock.now();
        if wait != Wait::No && now.0 - worked_until.0 >= QUEUE_OVERLOOKED_US && self.has_slept() {
            queue = Queue::WasEmpty;
        }
        Ok(next(now, queue))
    }

    /// Whether the thread has slept since the last call. A sleep is the kernel's word for it that
    /// there was nothing to do; that a turn took long is none, since the kernel works as well, and
    /// others may have had the CPU.
    fn has_slept(&mut self) -> bool {
        let sleeps = system::sleeps_of_this_thread();
        std::mem::replace(&mut self.sleeps, sleeps) != sleeps
    }

    /// Looks for events and mail without sleeping, for as long as that tends to pay.
    fn spin(&mut self, now: MonotonicUs, events: &mut Vec<Event>) -> io::Result<Spin> {
        let mut queue = Queue::MayBeOld;
        let limit_us = self.spinner.before_sleep_us();
        if limit_us == 0 {
            return Ok(Spin::FoundNothing { queue });
        }
        let until = MonotonicUs(now.0 + limit_us);
        loop {
            self.driver.turn(Wait::No, events)?;
            // Sends that ended are no work that waiting for paid with.
            let arrived = events.iter().any(|event| !matches!(event, Event::Sent { .. }));
            if arrived || self.lanes.has_mail() || !self.commands.is_empty() {
                self.spinner.paid();
                return Ok(Spin::FoundWork { queue });
            }
            queue = Queue::WasEmpty;
            if self.clock.now() >= until {
                self.spinner.was_futile();
                return Ok(Spin::FoundNothing { queue });
            }
            if self.cpu == Cpu::Shared {
                std::thread::yield_now();
            }
        }
    }

    fn handle(&mut self, event: Event, now: MonotonicUs) {
        let mut world = World::of(&mut self.driver, &mut self.lanes);
        match event {
            Event::Accepted { socket, listener: _ } => {
                if self.gate.enter() {
                    self.take_over(socket, &[], now);
                } else {
                    self.refuse(socket, now);
                }
            }
            Event::AcceptPaused { error } => {
                self.engine.counters_mut().accept_pauses += 1;
                tracing::warn!("accepting connections pauses: {error}");
            }
            Event::AcceptResumed => tracing::info!("accepting connections goes on"),
            Event::ListeningEnded => self.gate.shut(),
            Event::Received { connection, piece } => {
                self.engine.received(connection, piece.bytes(), now, &mut world);
                self.driver.recycle(piece);
            }
            Event::ReceiveEnded { connection, result } => {
                let end = match result {
                    Ok(()) => ReceiveEnd::PeerFinished,
                    Err(_) => ReceiveEnd::Broken,
                };
                self.engine.receive_ended(connection, end, now, &mut world);
            }
            Event::Sent { connection, packet, result } => {
                let end = if result.is_ok() { SendEnd::Whole } else { SendEnd::Failed };
                self.engine.sent(connection, packet, end, now, &mut world);
            }
            Event::Closed { connection } => {
                self.engine.closed(connection);
                match self.refused.iter().position(|refused| *refused == connection) {
                    Some(place) => drop(self.refused.swap_remove(place)),
                    None => self.gate.leave(),
                }
            }
            Event::Detached { connection, socket } => {
                if let Some(handover) = self.engine.detached(connection) {
                    let adoption = Adoption { socket, received: handover.received };
                    self.lanes.send(handover.to, CoreMail::Adopt(Box::new(adoption)));
                }
            }
            Event::Woken => {}
        }
    }

    /// Begins to serve a connection that has sent `received` so far.
    fn take_over(&mut self, socket: OwnedFd, received: &[u8], now: MonotonicUs) {
        let id = self.engine.opened(now);
        self.engine.set_addresses(id, listeners::addresses_of(&socket));
        if let Err(error) = self.driver.adopt(id, socket) {
            tracing::warn!("a connection is dropped: {error}");
            self.engine.closed(id);
            self.gate.leave();
            return;
        }
        if !received.is_empty() {
            let mut world = World::of(&mut self.driver, &mut self.lanes);
            self.engine.received(id, received, now, &mut world);
        }
    }

    /// Tells a client that the node has as many connections as it may. It is a connection until
    /// it has heard that, since closing it with its hello unread would destroy the notice.
    fn refuse(&mut self, socket: OwnedFd, now: MonotonicUs) {
        if self.refused.len() >= REFUSED_MAX {
            self.engine.counters_mut().connections_refused += 1;
            return;
        }
        let id = self.engine.refused(now);
        match self.driver.adopt(id, socket) {
            Ok(()) => self.refused.push(id),
            Err(_) => self.engine.closed(id),
        }
    }

    fn receive_mail(&mut self, now: MonotonicUs) -> Drained {
        let mut mails = std::mem::take(&mut self.mails);
        let drained = self.lanes.receive(|from, mail| mails.push((from, mail)));
        let mut left = mails.drain(..);
        loop {
            let next = left.as_slice().iter();
            self.engine.foresee_mails(next.filter_map(|(_, mail)| match mail {
                CoreMail::Engine(mail) => Some(mail),
                CoreMail::Adopt(_) => None,
            }));
            let Some((from, mail)) = left.next() else { break };
            match mail {
                CoreMail::Engine(mail) => {
                    let mut world = World::of(&mut self.driver, &mut self.lanes);
                    self.engine.mail(Core(from), mail, now, &mut world);
                }
                CoreMail::Adopt(adoption) => {
                    let Adoption { socket, received } = *adoption;
                    self.take_over(socket, &received, now);
                }
            }
        }
        drop(left);
        self.mails = mails;
        drained
    }

    fn obey(&mut self, life: Life, now: MonotonicUs) -> Life {
        match self.commands.try_recv() {
            Ok(Command::Ask(Ask { frames, answer })) => {
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(self.engine.ask(frames, now));
                life
            }
            Ok(Command::Drain) if life == Life::Serving => {
                self.driver.stop_listening();
                self.engine.drain(now);
                Life::Draining
            }
            Ok(Command::Stop) => Life::Over,
            Ok(Command::Cluster(view)) => {
                self.engine.set_cluster(view, now);
                life
            }
            Ok(Command::Retune(tuning)) => {
                self.engine.retune(tuning);
                life
            }
            Ok(Command::Grant { asker, outcome }) => {
                self.grant(asker, outcome, now);
                life
            }
            // Another core's connections may still need this one: all end together.
            _ if life == Life::Draining && self.gate.is_deserted() => Life::Over,
            _ => life,
        }
    }

    fn grant(&mut self, asker: Asker, outcome: Result<(), String>, now: MonotonicUs) {
        let outcome = match &outcome {
            Ok(()) => Ok(()),
            Err(why) => Err(why.as_str()),
        };
        let mut world = World::of(&mut self.driver, &mut self.lanes);
        self.engine.granted(asker, outcome, now, &mut world);
    }

    /// What clients asked of the node goes to whoever sees to it.
    fn pass_on_wishes(&mut self, now: MonotonicUs) {
        for wish in self.engine.wishes() {
            if self.wishes.try_send(wish).is_err() {
                tracing::warn!("too much is asked of the node at once: {wish:?} is dropped");
                if let Wish::Configure { asker, .. } = wish {
                    self.grant(asker, Err("too much is asked of the node at once".to_owned()), now);
                }
            }
        }
    }

    fn publish(&mut self) {
        let (wakes_sent, driver) = (self.lanes.wakes_sent, self.driver.counters());
        let counters = self.engine.counters_mut();
        counters.wakes_sent = wakes_sent;
        counters.receive_buffers_exhausted = driver.buffers_exhausted;
        counters.submissions_delayed = driver.submissions_delayed;
        counters.completions_withheld = driver.completions_withheld;
        counters.sends_short = driver.sends_short;
        counters.system_calls = driver.system_calls;
        self.snapshot.publish(&self.engine.counters().values());
    }
}

/// The engine's effects on the driver and the lanes of its core.
struct World<'a, D> {
    driver: &'a mut D,
    lanes: &'a mut Lanes,
}

impl<'a, D> World<'a, D> {
    fn of(driver: &'a mut D, lanes: &'a mut Lanes) -> World<'a, D> {
        World { driver, lanes }
    }
}

impl<D: Driver> Output for World<'_, D> {
    fn send(&mut self, connection: ConnectionId, packet: Packet) {
        self.driver.send(connection, packet);
    }

    fn taken_by_peer(&mut self, connection: ConnectionId) -> Option<u64> {
        self.driver.taken_by_peer(connection)
    }

    fn pause(&mut self, connection: ConnectionId) {
        self.driver.pause(connection);
    }

    fn resume(&mut self, connection: ConnectionId) {
        self.driver.resume(connection);
    }

    fn close(&mut self, connection: ConnectionId, how: Closing) {
        self.driver.close(connection, how);
    }

    fn detach(&mut self, connection: ConnectionId) {
        self.driver.detach(connection);
    }

    fn mail(&mut self, to: Core, mail: Mail) {
        self.lanes.send(to.0, CoreMail::Engine(mail));
    }
}
