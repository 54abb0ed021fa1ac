//! A node: its engines, the mail between them, its connections, and a clock of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use corelane_engine::{
    Agenda, Closing, ClusterView, ConnectionId, DefaultTtl, Engine, EngineConfig, JitterMode, Mail,
    Output, Packet, ReceiveEnd, SendEnd,
};
use corelane_protocol::MonotonicUs;
use corelane_ring::{Core, NodeName, Topology, slot_of};
use corelane_shard::ShardConfig;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::cluster::net::{MS, State};

/// Least memory of a shard that works.
const SHARD_BYTES: u64 = 33 << 20;
/// By how much later than its neighbours a core hears of something, in milliseconds.
const LAG_MS: std::ops::Range<u64> = 0..4;

#[derive(Debug)]
enum Effect {
    Send(ConnectionId, Packet),
    Reading(ConnectionId, bool),
    Close(ConnectionId),
    Detach(ConnectionId),
    Mail(Core, Mail),
}

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
        self.0.push(Effect::Reading(connection, false));
    }

    fn resume(&mut self, connection: ConnectionId) {
        self.0.push(Effect::Reading(connection, true));
    }

    fn close(&mut self, connection: ConnectionId, _: Closing) {
        self.0.push(Effect::Close(connection));
    }

    fn detach(&mut self, connection: ConnectionId) {
        self.0.push(Effect::Detach(connection));
    }

    fn mail(&mut self, to: Core, mail: Mail) {
        self.0.push(Effect::Mail(to, mail));
    }
}

/// What one core gets from within the node.
enum Input {
    Mail(Core, Mail),
    View(Arc<ClusterView>),
}

struct CoreState {
    engine: Engine,
    effects: Effects,
    /// With the time at which it is looked at; nothing overtakes.
    inbox: VecDeque<(u64, Input)>,
    sent: Vec<(ConnectionId, Packet)>,
    /// When the engine wants a turn.
    due_us: u64,
}

/// Who says which node has which slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The nodes, by topologies that they are told.
    Topologies,
    /// The clients, by the list of nodes; these take whatever comes.
    List,
}

/// Whether the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    /// It is stopped until then; its system takes connections and bytes.
    StoppedUntil(u64),
    /// It starts again then, without entries.
    DeadUntil(u64),
}

/// See the module.
pub(super) struct Node {
    pub(super) name: NodeName,
    cores: Vec<CoreState>,
    /// Its clock is the world's, run at another speed from another start.
    clock: (u64, u64),
    life: Life,
    /// The last topology that it was told, which it keeps when it dies.
    view: Arc<ClusterView>,
    order: Order,
    warm_up_ms: u64,
    /// Later ones, and when they arrive.
    coming: VecDeque<(u64, Arc<Topology>)>,
}

impl Node {
    pub(super) fn new(
        name: NodeName,
        cores: u16,
        topology: &Topology,
        (order, warm_up_ms): (Order, u64),
        random: &mut SmallRng,
    ) -> Node {
        let clock = (random.random_range(0..1 << 40), random.random_range(9_990..10_010));
        let view = ClusterView::first(cores, topology.clone(), &name);
        let view = Arc::new(view.expect("a small topology"));
        let (cores, coming, life) = (Vec::new(), VecDeque::new(), Life::Runs);
        let mut node = Node { name, cores, clock, life, view, order, warm_up_ms, coming };
        node.start(0, random);
        node
    }

    fn clock(&self, now_us: u64) -> MonotonicUs {
        let (start, speed) = self.clock;
        MonotonicUs(start + now_us * speed / 10_000)
    }

    /// The first whole millisecond of the world at which the node's clock shows a moment.
    fn world_us(&self, moment: MonotonicUs) -> u64 {
        let (start, speed) = self.clock;
        ((moment.0.saturating_sub(start) * 10_000).div_ceil(speed)).next_multiple_of(MS)
    }

    /// Starts without data, in the topology that it was told last.
    fn start(&mut self, now_us: u64, random: &mut SmallRng) {
        let cores = self.view.cores().cores();
        let view = ClusterView::first(cores, self.view.topology().clone(), &self.name);
        let view = Arc::new(view.expect("a small topology"));
        self.view = Arc::clone(&view);
        let seed = random.random();
        let now = self.clock(now_us);
        let engine = |core| EngineConfig {
            core,
            cores,
            node_name: self.name.to_string(),
            cluster: (self.order == Order::Topologies).then(|| Arc::clone(&view)),
            shard: ShardConfig::new(SHARD_BYTES, |key| slot_of(key).number()),
            value_bytes_max: 1 << 20,
            default_ttl: DefaultTtl::Never,
            jitter: JitterMode::Off,
            jitter_percent: 0,
            token: None,
            idle_ms_max: 60_000,
            drain_ms_max: 1_000,
            output_bytes_max: 1 << 20,
            output_bytes_total_max: 8 << 20,
            backlog_bytes_total_max: 8 << 20,
            input_bytes_total_max: 8 << 20,
            seed,
            now,
            unix_ms: 1_700_000_000_000,
            dialects: Default::default(),
            about: Default::default(),
        };
        let state = |core| CoreState {
            engine: Engine::new(engine(core)).expect("the memory is enough"),
            effects: Effects::default(),
            inbox: VecDeque::new(),
            sent: Vec::new(),
            due_us: now_us,
        };
        self.cores = (0..cores).map(state).collect();
    }

    /// The process dies, and with it entries and connections; it starts again later.
    pub(super) fn kill(&mut self, net: &mut State, until_us: u64) {
        self.life = Life::DeadUntil(until_us);
        self.cores.clear();
        net.links_of(&self.name).into_iter().for_each(|link| net.lose(link));
    }

    /// The process does nothing for a while.
    pub(super) fn stop(&mut self, until_us: u64) {
        if self.life == Life::Runs {
            self.life = Life::StoppedUntil(until_us);
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.life == Life::Runs
    }

    pub(super) fn tell(&mut self, topology: &Arc<Topology>, at_us: u64) {
        let at_us = self.coming.back().map_or(at_us, |(before, _)| at_us.max(*before));
        self.coming.push_back((at_us, Arc::clone(topology)));
    }

    /// Whether all its cores have this topology. A node that is dead comes back with what it was
    /// told.
    pub(super) fn has(&self, topology: &Topology) -> bool {
        let is_view = |(_, input): &(u64, Input)| matches!(input, Input::View(_));
        self.coming.is_empty()
            && self.view.topology().epoch() == topology.epoch()
            && !self.cores.iter().any(|core| core.inbox.iter().any(is_view))
    }

    /// The connection breaks, with all that is on its way.
    pub(super) fn lose(&mut self, link: u64, net: &mut State, now_us: u64) {
        if let Some((core, id)) = net.links.get(&link).and_then(|link| link.place) {
            let now = self.clock(now_us);
            let core = &mut self.cores[core];
            core.engine.receive_ended(id, ReceiveEnd::Broken, now, &mut core.effects);
            core.engine.closed(id);
        }
        net.lose(link);
    }

    /// Does all that is due, and says when more is, bytes that arrive later aside.
    pub(super) fn turn(&mut self, net: &mut State, now_us: u64, random: &mut SmallRng) -> u64 {
        match self.life {
            Life::DeadUntil(until_us) if until_us <= now_us => {
                self.life = Life::Runs;
                self.start(now_us, random);
            }
            Life::StoppedUntil(until_us) if until_us <= now_us => self.life = Life::Runs,
            Life::Runs | Life::StoppedUntil(_) | Life::DeadUntil(_) => {}
        }
        for link in net.knocking(&self.name, now_us) {
            net.answer(link, !matches!(self.life, Life::DeadUntil(_)));
        }
        if let Life::StoppedUntil(until_us) | Life::DeadUntil(until_us) = self.life {
            return until_us;
        }
        self.hear(now_us, random);
        self.accept(net, now_us, random);
        let links: Vec<u64> = net.links_of(&self.name);
        let mut next_us = self.coming.front().map_or(u64::MAX, |(at_us, _)| *at_us);
        loop {
            let mut is_done = true;
            for core in 0..self.cores.len() {
                is_done &= !self.turn_of(core, &links, net, now_us, random);
            }
            if is_done {
                break;
            }
        }
        for core in &self.cores {
            next_us = next_us.min(core.due_us);
            next_us = core.inbox.front().map_or(next_us, |(at_us, _)| next_us.min(*at_us));
        }
        next_us
    }

    /// Takes a topology that has arrived, which its cores hear of one after the other.
    fn hear(&mut self, now_us: u64, random: &mut SmallRng) {
        while self.coming.front().is_some_and(|(at_us, _)| *at_us <= now_us) {
            let (_, topology) = self.coming.pop_front().expect("it was just seen");
            let topology = (*topology).clone();
            let view = ClusterView::following(&self.view, topology, &self.name, self.warm_up_ms);
            let view = Arc::new(view.expect("a small topology"));
            self.view = Arc::clone(&view);
            for core in &mut self.cores {
                let at_us = now_us + random.random_range(LAG_MS) * MS;
                core.put(Input::View(Arc::clone(&view)), at_us);
            }
        }
    }

    fn accept(&mut self, net: &mut State, now_us: u64, random: &mut SmallRng) {
        let now = self.clock(now_us);
        for link in net.accepted_of(&self.name) {
            let core = random.random_range(0..self.cores.len());
            link.place = Some((core, self.cores[core].engine.opened(now)));
            link.was_accepted = true;
            link.reads = true;
        }
    }

    /// One turn of a core, if there is anything to do for it.
    fn turn_of(
        &mut self,
        number: usize,
        links: &[u64],
        net: &mut State,
        now_us: u64,
        random: &mut SmallRng,
    ) -> bool {
        let now = self.clock(now_us);
        let state = &mut self.cores[number];
        let mut has_input = !state.sent.is_empty() || state.due_us <= now_us;
        state.engine.begin_turn(now, now);
        for (id, packet) in state.sent.drain(..) {
            state.engine.sent(id, packet, SendEnd::Whole, now, &mut state.effects);
        }
        for link in links {
            while let Some((core, id)) = net.links.get(link).and_then(|link| link.place)
                && core == number
                && let Some(bytes) = net.take_at_node(*link, now_us)
            {
                has_input = true;
                if bytes.is_empty() {
                    let end = ReceiveEnd::PeerFinished;
                    state.engine.receive_ended(id, end, now, &mut state.effects);
                } else {
                    state.engine.received(id, &bytes, now, &mut state.effects);
                }
            }
        }
        while state.inbox.front().is_some_and(|(at_us, _)| *at_us <= now_us) {
            has_input = true;
            match state.inbox.pop_front().expect("it was just seen").1 {
                Input::Mail(from, mail) => state.engine.mail(from, mail, now, &mut state.effects),
                Input::View(view) => state.engine.set_cluster(view, now),
            }
        }
        if !has_input {
            return false;
        }
        let agenda = state.engine.tick(now, &mut state.effects);
        state.engine.flush_output(now, &mut state.effects);
        let effects = std::mem::take(&mut state.effects.0);
        self.cores[number].due_us = match agenda {
            // Work that takes several turns takes time.
            Agenda::Now => now_us + MS,
            Agenda::At(at) => self.world_us(at).max(now_us + MS),
        };
        for effect in effects {
            self.carry_out(number, effect, links, net, now_us, random);
        }
        true
    }

    fn carry_out(
        &mut self,
        core: usize,
        effect: Effect,
        links: &[u64],
        net: &mut State,
        now_us: u64,
        random: &mut SmallRng,
    ) {
        let number_of = |net: &State, id| {
            let is_it = |link: &&u64| {
                net.links.get(link).is_some_and(|link| link.place == Some((core, id)))
            };
            links.iter().find(is_it).copied()
        };
        match effect {
            Effect::Send(id, packet) => {
                if let Some(link) = number_of(net, id) {
                    net.put_to_client(link, packet.pieces().flatten().copied().collect());
                }
                self.cores[core].sent.push((id, packet));
            }
            Effect::Reading(id, reads) => {
                let link = number_of(net, id).and_then(|link| net.links.get_mut(&link));
                link.into_iter().for_each(|link| link.reads = reads);
            }
            Effect::Close(id) => {
                self.cores[core].engine.closed(id);
                if let Some(link) = number_of(net, id) {
                    net.end_at_node(link);
                }
            }
            Effect::Detach(id) => {
                let now = self.clock(now_us);
                let Some(handover) = self.cores[core].engine.detached(id) else { return };
                let Some(link) = number_of(net, id).and_then(|link| net.links.get_mut(&link))
                else {
                    return;
                };
                let to = &mut self.cores[usize::from(handover.to)];
                let id = to.engine.opened(now);
                link.place = Some((usize::from(handover.to), id));
                to.engine.received(id, &handover.received, now, &mut to.effects);
                to.due_us = now_us;
            }
            Effect::Mail(to, mail) => {
                let at_us = now_us + random.random_range(LAG_MS) / 3 * MS;
                self.cores[to.index()].put(Input::Mail(Core(core as u16), mail), at_us);
            }
        }
    }

    pub(super) fn check(&self) {
        self.cores.iter().for_each(|core| core.engine.invariants());
    }

    /// Entries copied since its last start, from where their slots were before.
    pub(super) fn warmed(&mut self) -> u64 {
        self.cores.iter_mut().map(|core| core.engine.counters().warmed).sum()
    }

    /// Requests executed since its last start in place of the owners of their slots.
    pub(super) fn stood_in(&mut self) -> u64 {
        self.cores.iter_mut().map(|core| core.engine.counters().stood_in).sum()
    }
}

impl CoreState {
    fn put(&mut self, input: Input, at_us: u64) {
        let at_us = self.inbox.back().map_or(at_us, |(before, _)| at_us.max(*before));
        self.inbox.push_back((at_us, input));
    }
}
