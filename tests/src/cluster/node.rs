//! A node: its engines, the mail between them, its connections, and a clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use corelane_engine::{
    Agenda, Closing, ClusterView, ConnectionId, DefaultTtl, Engine, EngineConfig, JitterMode, Mail,
    Output, Packet, ReceiveEnd, SendEnd,
};
use corelane_protocol::MonotonicUs;
use corelane_ring::{Core, CoreMap, NodeName, Topology, slot_of};
use corelane_shard::ShardConfig;
use rand::RngExt;
use rand::rngs::SmallRng;

/// Least memory of a shard that works.
const SHARD_BYTES: u64 = 33 << 20;
/// The slowest byte, in microseconds, and the fastest.
const DELAY_US: std::ops::Range<u64> = 10..1_500;

/// Bytes on their way, with the time at which they arrive.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pieces: VecDeque<(u64, Vec<u8>)>,
    last_at: u64,
}

impl Pipe {
    pub(super) fn put(&mut self, bytes: Vec<u8>, now_us: u64, random: &mut SmallRng) {
        // Nothing overtakes.
        self.last_at = self.last_at.max(now_us + random.random_range(DELAY_US));
        self.pieces.push_back((self.last_at, bytes));
    }

    pub(super) fn take(&mut self, now_us: u64) -> Option<Vec<u8>> {
        let (at, _) = self.pieces.front()?;
        (*at <= now_us).then(|| self.pieces.pop_front().expect("it was just seen").1)
    }
}

/// A client's connection, at the node's end.
#[derive(Debug)]
pub(super) struct Link {
    core: usize,
    id: ConnectionId,
    pub(super) to_node: Pipe,
    pub(super) to_client: Pipe,
}

#[derive(Debug)]
enum Effect {
    Send(ConnectionId, Packet),
    Close(ConnectionId),
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

    fn pause(&mut self, _: ConnectionId) {}

    fn resume(&mut self, _: ConnectionId) {}

    fn close(&mut self, connection: ConnectionId, _: Closing) {
        self.0.push(Effect::Close(connection));
    }

    fn detach(&mut self, _: ConnectionId) {
        unreachable!("no client says hello");
    }

    fn mail(&mut self, to: Core, mail: Mail) {
        self.0.push(Effect::Mail(to, mail));
    }
}

struct CoreState {
    engine: Engine,
    effects: Effects,
    inbox: VecDeque<(Core, Mail)>,
    sent: Vec<(ConnectionId, Packet)>,
    /// Views that it has yet to hear of.
    views: VecDeque<Arc<ClusterView>>,
}

/// See the module.
pub(super) struct Node {
    pub(super) name: NodeName,
    cores: Vec<CoreState>,
    /// Its clock is the world's, run at another speed from another start.
    clock: (u64, u64),
    map: CoreMap,
    /// The last topology that it was told, which it keeps when it dies.
    told: Topology,
    /// Later ones, and when they arrive.
    coming: VecDeque<(u64, Topology)>,
    pub(super) links: BTreeMap<u64, Link>,
}

impl Node {
    pub(super) fn new(name: NodeName, cores: u16, told: Topology, random: &mut SmallRng) -> Node {
        let clock = (random.random_range(0..1 << 40), random.random_range(9_990..10_010));
        let map = CoreMap::even(cores).expect("a few cores");
        let (cores_made, coming, links) = (Vec::new(), VecDeque::new(), BTreeMap::new());
        let mut node = Node { name, cores: cores_made, clock, map, told, coming, links };
        node.start(0, random);
        node
    }

    pub(super) fn clock(&self, now_us: u64) -> MonotonicUs {
        let (start, speed) = self.clock;
        MonotonicUs(start + now_us * speed / 10_000)
    }

    /// Starts without data, in the topology that it was told last.
    fn start(&mut self, now_us: u64, random: &mut SmallRng) {
        let cores = self.map.cores();
        let view = ClusterView::first(cores, self.told.clone(), &self.name);
        let view = Arc::new(view.expect("a small topology"));
        self.map = view.cores().clone();
        let seed = random.random();
        let now = self.clock(now_us);
        let engine = |core| EngineConfig {
            core,
            cores,
            node_name: self.name.to_string(),
            cluster: Some(Arc::clone(&view)),
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
            views: VecDeque::new(),
        };
        self.cores = (0..cores).map(state).collect();
    }

    /// Dies and starts again: entries and connections are gone.
    pub(super) fn restart(&mut self, now_us: u64, random: &mut SmallRng) {
        self.links.clear();
        self.start(now_us, random);
    }

    pub(super) fn tell(&mut self, topology: Topology, at_us: u64) {
        let at_us = self.coming.back().map_or(at_us, |(before, _)| at_us.max(*before));
        self.coming.push_back((at_us, topology));
    }

    /// Whether all its cores have the topology of this epoch.
    pub(super) fn has(&self, topology: &Topology) -> bool {
        self.coming.is_empty()
            && self.told.epoch() == topology.epoch()
            && self.cores.iter().all(|core| core.views.is_empty())
    }

    pub(super) fn connect(&mut self, link: u64, now_us: u64, random: &mut SmallRng) {
        let core = random.random_range(0..self.cores.len());
        let now = self.clock(now_us);
        let id = self.cores[core].engine.opened(now);
        let (to_node, to_client) = Default::default();
        self.links.insert(link, Link { core, id, to_node, to_client });
    }

    /// The connection breaks, with all that is on its way.
    pub(super) fn lose(&mut self, link: u64, now_us: u64) {
        let Some(Link { core, id, .. }) = self.links.remove(&link) else { return };
        let now = self.clock(now_us);
        let core = &mut self.cores[core];
        core.engine.receive_ended(id, ReceiveEnd::Broken, now, &mut core.effects);
        core.engine.closed(id);
    }

    /// Lets each core do something, or nothing.
    pub(super) fn turn(&mut self, now_us: u64, random: &mut SmallRng) {
        if self.coming.front().is_some_and(|(at, _)| *at <= now_us) {
            let (_, topology) = self.coming.pop_front().expect("it was just seen");
            let view = ClusterView::after(&self.map, topology.clone(), &self.name);
            let view = Arc::new(view.expect("a small topology"));
            self.map = view.cores().clone();
            self.told = topology;
            self.cores.iter_mut().for_each(|core| core.views.push_back(Arc::clone(&view)));
        }
        for core in 0..self.cores.len() {
            if random.random_bool(0.6) {
                self.turn_of(core, now_us, random);
            }
        }
    }

    fn turn_of(&mut self, number: usize, now_us: u64, random: &mut SmallRng) {
        let now = self.clock(now_us);
        let state = &mut self.cores[number];
        for (id, packet) in state.sent.drain(..) {
            state.engine.sent(id, packet, SendEnd::Whole, now, &mut state.effects);
        }
        for link in self.links.values_mut().filter(|link| link.core == number) {
            while let Some(bytes) = link.to_node.take(now_us) {
                state.engine.received(link.id, &bytes, now, &mut state.effects);
            }
        }
        for _ in 0..random.random_range(0..4) {
            let Some((from, mail)) = state.inbox.pop_front() else { break };
            state.engine.mail(from, mail, now, &mut state.effects);
        }
        if random.random_bool(0.3)
            && let Some(view) = state.views.pop_front()
        {
            state.engine.set_cluster(view);
        }
        // One slice; a core with more to do has a turn again.
        let _: Agenda = state.engine.tick(now, &mut state.effects);
        state.engine.flush_output(now, &mut state.effects);
        for effect in std::mem::take(&mut state.effects.0) {
            self.carry_out(number, effect, now_us, random);
        }
    }

    fn carry_out(&mut self, core: usize, effect: Effect, now_us: u64, random: &mut SmallRng) {
        match effect {
            Effect::Send(id, packet) => {
                let at = |link: &&mut Link| link.core == core && link.id == id;
                if let Some(link) = self.links.values_mut().find(at) {
                    let bytes = packet.pieces().flatten().copied().collect();
                    link.to_client.put(bytes, now_us, random);
                }
                self.cores[core].sent.push((id, packet));
            }
            Effect::Close(id) => {
                self.links.retain(|_, link| !(link.core == core && link.id == id));
            }
            Effect::Mail(to, mail) => {
                self.cores[to.index()].inbox.push_back((Core(core as u16), mail));
            }
        }
    }

    pub(super) fn check(&self) {
        self.cores.iter().for_each(|core| core.engine.invariants());
    }
}
