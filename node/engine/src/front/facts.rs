//! What a dialect may know of the node and of a connection.

use std::sync::atomic::{AtomicU64, Ordering};

use corelane_dialect::{ClientFacts, ClusterFacts, Facts, NodeFacts};
use corelane_protocol::MonotonicUs;
use corelane_ring::slot_of;
use subtle::ConstantTimeEq;

use crate::cluster::ClusterView;
use crate::config::EngineConfig;

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
    /// What the process may take, in bytes.
    pub memory_bytes_max: u64,
    /// What the machine has, in bytes.
    pub memory_system_bytes: u64,
    /// How room is made, in Redis's way of naming policies.
    pub policy: String,
    /// What the process takes, in bytes. Written by whoever looks at the system, at times.
    pub memory_resident_bytes: AtomicU64,
}

/// A connection as it is told to itself and others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) since: MonotonicUs,
    pub(crate) heard_at: MonotonicUs,
    pub(crate) input_bytes: usize,
    pub(crate) output_bytes: usize,
}

impl Client {
    /// Where nobody will ask.
    pub(crate) fn unknown(now: MonotonicUs) -> Client {
        Client { number: 0, since: now, heard_at: now, input_bytes: 0, output_bytes: 0 }
    }

    pub(crate) fn facts(&self, now: MonotonicUs) -> ClientFacts<'static> {
        let seconds = |from: MonotonicUs| now.0.saturating_sub(from.0) / 1_000_000;
        ClientFacts {
            number: self.number,
            // The engine knows connections, not where they come from.
            address: "",
            local_address: "",
            age_s: seconds(self.since),
            idle_s: seconds(self.heard_at),
            input_bytes: self.input_bytes as u64,
            output_bytes: self.output_bytes as u64,
        }
    }
}

/// What one connection may know at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'f> {
    pub(crate) config: &'f EngineConfig,
    pub(crate) client: Client,
    pub(crate) now: MonotonicUs,
    pub(crate) cluster: Option<&'f ClusterView>,
}

impl Facts for View<'_> {
    fn needs_token(&self) -> bool {
        self.config.token.is_some()
    }

    fn is_token(&self, password: &[u8]) -> bool {
        self.config.token.as_ref().is_some_and(|token| bool::from(token.ct_eq(password)))
    }

    fn client(&self) -> ClientFacts<'_> {
        self.client.facts(self.now)
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
            memory_bytes_max: about.memory_bytes_max,
            memory_resident_bytes: about.memory_resident_bytes.load(Ordering::Relaxed),
            memory_system_bytes: about.memory_system_bytes,
            policy: &about.policy,
        }
    }

    fn cluster(&self) -> Option<ClusterFacts<'_>> {
        self.cluster.and_then(ClusterView::facts)
    }

    fn slot_of(&self, key: &[u8]) -> u16 {
        slot_of(key).number()
    }
}
