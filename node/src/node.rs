//! A node: its data cores, from start to end.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use corelane_engine::{About, Answered, Asker, ClusterView, DefaultTtl, EngineConfig, Tuning};
use corelane_mesh::Mesh;
use corelane_protocol::MonotonicUs;
use corelane_ring::{CoreMap, NodeName as RingName, Topology, slot_of};
use corelane_shard::{Algorithm, Among, Prefaulter, ShardConfig};
use crossbeam_channel::{Sender, bounded, unbounded};
use tokio::sync::oneshot;

use crate::affinity;
use crate::budget::{self, Budget};
use crate::clerk;
use crate::clock::Clock;
use crate::config::{self, Config, EvictionOrder, EvictionScope, Host, Io, ListenAddress};
use crate::control::{Ask, CoreSnapshots, NodeControl, Phase};
use crate::data_core::{self, CoreParts, Made};
use crate::driver::Waker;
use crate::event_loop::Command;
use crate::gate::Gate;
use crate::lanes::CoreMail;
use crate::listeners;
use crate::live_config::{ChangeError, LiveConfig};
use crate::prefault::PrefaultThread;
use crate::shares;
pub use crate::start::{IoKind, StartError};
use crate::threads::CoreThreads;
use crate::topology::keeper::{Keeper, RefusedTopology, Taken};

/// A running node. Dropping it stops the cores at once and waits for them.
pub struct Node {
    control: Arc<Handle>,
    addresses: Vec<ListenAddress>,
    core_threads: Vec<i32>,
    io: IoKind,
    threads: CoreThreads,
    prefault: Option<PrefaultThread>,
}

/// What others hold of a node: enough to watch it and to end it.
struct Handle {
    commands: Vec<Sender<Command>>,
    wakers: Arc<[Waker]>,
    draining: AtomicBool,
    /// Cores that have ended.
    over: AtomicBool,
    snapshots: CoreSnapshots,
    topology: Keeper,
    live: LiveConfig,
    about: Arc<About>,
    /// Which core has which slots while there is no topology.
    cores: CoreMap,
}

impl Handle {
    fn command(&self, command: impl Fn() -> Command) {
        for (commands, waker) in self.commands.iter().zip(self.wakers.iter()) {
            // A core that has ended needs no command.
            let _ = commands.send(command());
            waker.wake();
        }
    }

    fn retune(&self, tunings: Vec<Tuning>) {
        let cores = self.commands.iter().zip(self.wakers.iter());
        for ((commands, waker), tuning) in cores.zip(tunings) {
            // A core that has ended needs no command.
            let _ = commands.send(Command::Retune(tuning));
            waker.wake();
        }
    }
}

impl NodeControl for Handle {
    fn phase(&self) -> Phase {
        if self.over.load(Ordering::Acquire) {
            Phase::Stopped
        } else if self.draining.load(Ordering::Acquire) {
            Phase::Draining
        } else {
            Phase::Ready
        }
    }

    fn drain(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            self.command(|| Command::Drain);
        }
    }

    fn stop_now(&self) {
        self.draining.store(true, Ordering::Release);
        self.command(|| Command::Stop);
    }

    fn snapshots(&self) -> &CoreSnapshots {
        &self.snapshots
    }

    fn topology(&self) -> Option<Arc<ClusterView>> {
        self.topology.in_force()
    }

    fn offer_topology(&self, topology: Topology) -> Result<Taken, RefusedTopology> {
        self.topology.offer(topology, |view| self.command(|| Command::Cluster(view.clone())))
    }

    fn core_of(&self, key: &[u8]) -> u16 {
        let slot = slot_of(key);
        match self.topology.in_force() {
            // A core that does not have the slot, or not any more, says where it is.
            Some(view) => view.cores().core_of(slot).0,
            None => self.cores.core_of(slot).0,
        }
    }

    fn ask(&self, core: u16, frames: Vec<u8>) -> oneshot::Receiver<Answered> {
        let (answer, answered) = oneshot::channel();
        let core = usize::from(core);
        // Where the core has ended, the receiver sees its sender dropped.
        let _ = self.commands[core].send(Command::Ask(Ask { frames, answer }));
        self.wakers[core].wake();
        answered
    }

    fn config(&self) -> Config {
        self.live.get()
    }

    fn change(&self, settings: &[(String, String)]) -> Result<(), ChangeError> {
        self.live.change(settings, |tunings| self.retune(tunings))?;
        self.about.memory_bytes_max.store(self.live.get().memory, Ordering::Relaxed);
        Ok(())
    }

    fn divide_memory(&self) {
        let Some(view) = self.topology.in_force() else { return };
        let held = self.snapshots.each("memory_used_bytes");
        self.live.follow_slots(&view.cores().loads(), &held, |tunings| self.retune(tunings));
    }

    fn grant(&self, asker: Asker, outcome: Result<(), String>) {
        let core = usize::from(asker.core);
        // A core that has ended answers nobody.
        let _ = self.commands[core].send(Command::Grant { asker, outcome });
        self.wakers[core].wake();
    }
}

impl Node {
    /// Starts every core and returns once they serve.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(config: Config) -> Result<Node, StartError> {
        let host = Host::read();
        config.check(&host)?;
        let count = config.cores.count(host.cpus);
        let cores = u16::try_from(count).expect("the configuration bounds the cores");
        let io = choose_io(config.io);
        let name = RingName::new(config.node_name.as_str())
            .expect("what a configuration allows as a name is allowed everywhere");
        let topology =
            Keeper::open(name, cores, config.warm_up_ms.unwrap_or(0), config.topology.clone())?;
        let cluster = topology.in_force();
        if cluster.as_ref().is_some_and(|view| view.own().is_none()) {
            tracing::warn!("the topology has no node {}: this one owns nothing", config.node_name);
        }
        let opened = listeners::open(&config.listen, cores)?;
        let budget = budget::divide(&config, cores);
        let about = Arc::new(about(&config, &host, &opened.addresses));
        let shares = match &cluster {
            Some(view) => shares::by_slots(budget.shard_bytes, &view.cores().loads()),
            None => vec![budget.shard_bytes; count],
        };
        let engines = engine_configs(&config, &shares, budget, cluster.as_ref(), &about);
        let (wish, wishes) = bounded(clerk::WISHES_MAX);
        let snapshots = CoreSnapshots::new(count);
        let gate = Arc::new(Gate::new(config.connections_max, count));
        let clock = Clock::start();
        let (made, cores_made) = bounded(count);

        let mut threads = CoreThreads::new();
        let mut starts = Vec::new();
        let mut commands = Vec::new();
        let cpus = affinity::cpus(&config.cores, count, config.pin);
        let ends = Mesh::<CoreMail>::ends(count);
        let per_core = engines.into_iter().zip(opened.sockets).zip(ends).zip(cpus);
        for (core, (((engine, listeners), end), cpu)) in per_core.enumerate() {
            let (start, started) = bounded(1);
            let (command, commanded) = unbounded();
            starts.push(start);
            commands.push(command);
            let parts = CoreParts {
                engine,
                cpu,
                memory_nodes: config.memory_nodes,
                io,
                spin_us: config.spin_us,
                connections_max: config.connections_max as u32,
                listeners,
                end,
                commands: commanded,
                snapshot: Arc::clone(&snapshots.cores()[core]),
                gate: Arc::clone(&gate),
                clock,
                wishes: wish.clone(),
                made: made.clone(),
                start: started,
            };
            threads.spawn(|| data_core::run(parts)).map_err(StartError::Thread)?;
        }
        drop((made, wish));

        let mut all: Vec<Made> = Vec::new();
        for _ in 0..count {
            all.push(cores_made.recv().map_err(|_| StartError::CoreLost)??);
        }
        all.sort_by_key(|made| made.core);
        let core_threads = all.iter().map(|made| made.thread).collect();
        let (wakers, prefaulters): (Vec<Waker>, Vec<Prefaulter>) =
            all.into_iter().map(|made| (made.waker, made.prefaulter)).unzip();
        let wakers: Arc<[Waker]> = wakers.into();
        for start in starts {
            // A core that ended in between is noticed when the node is joined.
            let _ = start.send(Arc::clone(&wakers));
        }
        let prefault = PrefaultThread::start(config.prefault, budget.shard_bytes, prefaulters)
            .map_err(StartError::Thread)?;
        let (draining, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let live = LiveConfig::new(config, host, shares);
        let control = Arc::new(Handle {
            commands,
            wakers,
            draining,
            over,
            snapshots,
            topology,
            live,
            about: Arc::clone(&about),
            cores: CoreMap::even(cores).expect("the configuration bounds the cores"),
        });
        let node = Arc::clone(&control);
        let clerk = std::thread::Builder::new().name("clerk".to_owned());
        // It ends with the last core.
        clerk.spawn(move || clerk::run(&wishes, &*node, &about)).map_err(StartError::Thread)?;
        Ok(Node { control, addresses: opened.addresses, core_threads, io, threads, prefault })
    }

    /// Where the node listens, with the ports that were chosen where 0 was asked for.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The threads of the data cores by core, as the system numbers them.
    pub fn core_threads(&self) -> &[i32] {
        &self.core_threads
    }

    /// The kernel interface in use.
    pub fn io(&self) -> IoKind {
        self.io
    }

    /// What the control thread, or a program that embeds the node, holds of it.
    pub fn control(&self) -> Arc<dyn NodeControl> {
        Arc::clone(&self.control) as Arc<dyn NodeControl>
    }

    /// Waits until all cores have ended.
    ///
    /// # Errors
    /// The name of a core that panicked.
    pub fn wait(mut self) -> Result<(), CorePanicked> {
        self.join()
    }

    /// Ends all cores without waiting for clients.
    ///
    /// # Errors
    /// The name of a core that panicked.
    pub fn stop(mut self) -> Result<(), CorePanicked> {
        self.control.stop_now();
        self.join()
    }

    fn join(&mut self) -> Result<(), CorePanicked> {
        let panicked = self.threads.join(|| self.control.stop_now());
        self.prefault = None;
        self.control.over.store(true, Ordering::Release);
        panicked.map_or(Ok(()), |core| Err(CorePanicked { core }))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.control.stop_now();
            // Whether one panicked was for `wait` to tell.
            let _ = self.join();
        }
    }
}

/// A core ended by a panic, which it has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core {core} panicked")]
pub struct CorePanicked {
    /// Which.
    pub core: usize,
}

/// Where io_uring is not to be had, the node says why and ends: a slower node than expected
/// would be found out much later. The readiness loop has to be asked for.
fn choose_io(io: Io) -> IoKind {
    match io {
        Io::Epoll => IoKind::Epoll,
        Io::Uring | Io::Auto => IoKind::Uring,
    }
}

/// What clients of a dialect may know of the node.
fn about(config: &Config, host: &Host, addresses: &[ListenAddress]) -> About {
    let random = || RandomState::new().hash_one(addresses.len());
    let run_id = format!("{:016x}{:016x}{:08x}", random(), random(), random() as u32);
    let port = addresses.iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => Some(address.port()),
        _ => None,
    });
    About {
        run_id,
        process_id: std::process::id(),
        port: port.unwrap_or_default(),
        connections_max: config.connections_max as u64,
        memory_bytes_max: config.memory.into(),
        memory_system_bytes: host.memory_bytes.unwrap_or_default(),
        memory_resident_bytes: AtomicU64::default(),
    }
}

fn engine_configs(
    config: &Config,
    shares: &[u64],
    budget: Budget,
    cluster: Option<&Arc<ClusterView>>,
    about: &Arc<About>,
) -> Vec<EngineConfig> {
    let cores = shares.len() as u16;
    // Random by the system's own source; the standard library keys its hash maps with it.
    let random = || RandomState::new().hash_one(cores);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hash = match config.hash {
        config::TableHash::Rapid => corelane_shard::TableHash::Rapid { seed: random() },
        config::TableHash::SipHash => {
            let halves = [random(), random()];
            let mut key = [0; 16];
            for (bytes, half) in key.chunks_exact_mut(8).zip(halves) {
                bytes.copy_from_slice(&half.to_le_bytes());
            }
            corelane_shard::TableHash::SipHash13 { key }
        }
    };
    let shard = ShardConfig {
        hash,
        policy: shard_policy(config.policy),
        value_bytes_max: config.value_bytes_max as u64,
        version_seed: since_epoch.as_micros() as u64,
        budget_bytes_max: budget::shard_bytes_max(config, cores),
        huge_pages: match config.huge_pages {
            config::HugePages::Never => corelane_shard::HugePages::Never,
            config::HugePages::Ahead => corelane_shard::HugePages::Ahead,
            config::HugePages::Advise => corelane_shard::HugePages::Advise,
        },
        ..ShardConfig::new(budget.shard_bytes, |key| slot_of(key).number())
    };
    let one = |core| EngineConfig {
        core,
        cores,
        node_name: config.node_name.as_str().to_owned(),
        cluster: cluster.cloned(),
        shard: ShardConfig {
            budget_bytes: shares[usize::from(core)],
            random_seed: random(),
            ..shard.clone()
        },
        value_bytes_max: config.value_bytes_max,
        default_ttl: config.default_ttl_ms.map_or(DefaultTtl::Never, DefaultTtl::AfterMs),
        jitter: match config.ttl_jitter {
            config::JitterMode::Off => corelane_engine::JitterMode::Off,
            config::JitterMode::Asked => corelane_engine::JitterMode::Asked,
            config::JitterMode::Always => corelane_engine::JitterMode::Always,
        },
        jitter_percent: config.ttl_jitter_percent,
        token: config.auth_token.as_ref().map(|token| token.as_bytes().to_vec()),
        idle_ms_max: config.idle_timeout_ms,
        drain_ms_max: config.drain_timeout_ms,
        output_bytes_max: config.output_bytes_max,
        output_bytes_total_max: budget.output_bytes,
        backlog_bytes_total_max: budget.backlog_bytes,
        input_bytes_total_max: budget.input_bytes,
        seed: random(),
        now: MonotonicUs(0),
        unix_ms: 0,
        dialects: config.dialects,
        about: Arc::clone(about),
    };
    (0..cores).map(one).collect()
}

pub(crate) fn shard_policy(policy: config::Policy) -> corelane_shard::Policy {
    let config::Policy::Evict { order, scope } = policy else {
        return corelane_shard::Policy::NoEviction;
    };
    corelane_shard::Policy::Evict {
        algorithm: match order {
            EvictionOrder::S3 => Algorithm::S3,
            EvictionOrder::Clock => Algorithm::Clock,
            EvictionOrder::Lfu => Algorithm::Lfu,
            EvictionOrder::Fifo => Algorithm::Fifo,
            EvictionOrder::Random => Algorithm::Random,
            EvictionOrder::Ttl => Algorithm::Ttl,
        },
        among: match scope {
            EvictionScope::AllKeys => Among::All,
            EvictionScope::TtlOnly => Among::WithExpiry,
        },
    }
}
