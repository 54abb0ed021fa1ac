//! What a dialect may know of the node and of a connection.

use std::sync::atomic::{AtomicU64, Ordering};

use corelane_dialect::{Addresses, ClientFacts, ClusterFacts, Facts, NodeFacts};
use corelane_protocol::MonotonicUs;
use corelane_ring::slot_of;
use corelane_shard::{Algorithm, Among, Millis, Policy};
use subtle::ConstantTimeEq;

use crate::cluster::ClusterView;
use crate::config::EngineConfig;
use crate::connection::{Background, Connection};

/// What does not change of a node while it runs, and what somebody else keeps up to date,
/// for clients that ask.
#[derive(Debug, Default)]
pub struct About {
    /// 40 hexadecimal digits, others with each start.
    pub run_id: String,
    /// Its process.
    pub process_id: u32,
    /// The port that clients connect to.
    pub port: u16,
    /// Most connections.
    pub connections_max: u64,
    /// What the process may take, in bytes. Written by whoever changes it.
    pub memory_bytes_max: AtomicU64,
    /// What the machine has, in bytes.
    pub memory_system_bytes: u64,
    /// What the process takes, in bytes. Written by whoever looks at the system, at times.
    pub memory_resident_bytes: AtomicU64,
}

/// What is told of a connection, to itself and others.
pub(crate) fn client_facts(connection: &Connection, now: MonotonicUs) -> ClientFacts<'_> {
    let Background { number, since, addresses, .. } = &*connection.background;
    let seconds = |from: Millis| (now.0 / 1_000).saturating_sub(from.0) / 1_000;
    ClientFacts {
        number: *number,
        addresses,
        age_s: seconds(*since),
        idle_s: seconds(connection.received_at),
        input_bytes: connection.input.len() as u64,
        output_bytes: connection.pending() as u64,
    }
}

/// Where nobody will ask.
const NOBODY: ClientFacts<'static> = ClientFacts {
    number: 0,
    addresses: &Addresses::Unknown,
    age_s: 0,
    idle_s: 0,
    input_bytes: 0,
    output_bytes: 0,
};

/// Redis's name for what is nearest to a policy.
fn policy_name(policy: Policy) -> &'static str {
    let Policy::Evict { algorithm, among } = policy else { return "noeviction" };
    match (algorithm, among) {
        (Algorithm::Ttl, _) => "volatile-ttl",
        (Algorithm::Lfu, Among::All) => "allkeys-lfu",
        (Algorithm::Lfu, Among::WithExpiry) => "volatile-lfu",
        (Algorithm::Random, Among::All) => "allkeys-random",
        (Algorithm::Random, Among::WithExpiry) => "volatile-random",
        (Algorithm::S3 | Algorithm::Clock | Algorithm::Fifo, Among::All) => "allkeys-lru",
        (Algorithm::S3 | Algorithm::Clock | Algorithm::Fifo, Among::WithExpiry) => "volatile-lru",
    }
}

/// What one connection may know at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'f> {
    pub(crate) config: &'f EngineConfig,
    /// The connection that asks.
    pub(crate) connection: Option<&'f Connection>,
    pub(crate) now: MonotonicUs,
    pub(crate) cluster: Option<&'f ClusterView>,
    pub(crate) policy: Policy,
}

impl Facts for View<'_> {
    fn needs_token(&self) -> bool {
        self.config.token.is_some()
    }

    fn is_token(&self, password: &[u8]) -> bool {
        self.config.token.as_ref().is_some_and(|token| bool::from(token.ct_eq(password)))
    }

    fn client(&self) -> ClientFacts<'_> {
        self.connection.map_or(NOBODY, |connection| client_facts(connection, self.now))
    }

    fn node(&self) -> NodeFacts<'_> {
        let about = &self.config.about;
        NodeFacts {
            version: env!("CARGO_PKG_VERSION"),
            name: &self.config.node_name,
            run_id: &about.run_id,
            process_id: about.process_id,
            port: about.port,
            cores: self.config.cores,
            uptime_s: self.now.0.saturating_sub(self.config.now.0) / 1_000_000,
            connections_max: about.connections_max,
            value_bytes_max: self.config.value_bytes_max as u64,
            memory_bytes_max: about.memory_bytes_max.load(Ordering::Relaxed),
            memory_resident_bytes: about.memory_resident_bytes.load(Ordering::Relaxed),
            memory_system_bytes: about.memory_system_bytes,
            policy: policy_name(self.policy),
        }
    }

    fn cluster(&self) -> Option<ClusterFacts<'_>> {
        self.cluster.and_then(ClusterView::facts)
    }

    fn slot_of(&self, key: &[u8]) -> u16 {
        slot_of(key).number()
    }
}
