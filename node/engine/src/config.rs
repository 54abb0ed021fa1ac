//! What an engine is told at start.

use std::sync::Arc;

use corelane_dialect::Dialects;
use corelane_protocol::{MonotonicUs, Ttl};
use corelane_shard::{Policy, ShardConfig};

use crate::cluster::ClusterView;
use crate::front::About;

/// When entries expire whose writer left it to the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultTtl {
    /// Never.
    #[default]
    Never,
    /// After this many milliseconds.
    AfterMs(u64),
}

/// Which expiries the node spreads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JitterMode {
    /// None.
    Off,
    /// Those whose writer asked for it.
    #[default]
    Asked,
    /// All but [`Ttl::Keep`] and [`Ttl::Never`].
    Always,
}

/// See the fields. Everything that varies between two runs (seeds, the clock's start) is
/// here, so that a run can be repeated.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// This core.
    pub core: u16,
    /// How many cores the node has.
    pub cores: u16,
    /// The node's name, as hello tells it.
    pub node_name: String,
    /// The cluster that the node is in, if it is in one: all slots are its own otherwise.
    pub cluster: Option<Arc<ClusterView>>,
    /// This core's share of the data.
    pub shard: ShardConfig,
    /// Longest value, in bytes.
    pub value_bytes_max: usize,
    /// Expiry where [`Ttl::Default`] asks for it.
    pub default_ttl: DefaultTtl,
    /// Which expiries are spread.
    pub jitter: JitterMode,
    /// By up to how many percent either way.
    pub jitter_percent: u8,
    /// The access token; none lets everybody in.
    pub token: Option<Vec<u8>>,
    /// Milliseconds that half a frame, or the first frame, may take to arrive.
    pub idle_ms_max: u64,
    /// Milliseconds from the start of draining to the end of every connection.
    pub drain_ms_max: u64,
    /// Reply bytes of one connection at which its requests wait.
    pub output_bytes_max: usize,
    /// Reply bytes of all connections of this core at which those that have any wait.
    pub output_bytes_total_max: usize,
    /// Bytes that requests behind replies which their clients do not take may come to, over all
    /// connections of this core. One beyond that, and beyond its even share of it, is closed. (On
    /// io_uring the kernel hands over up to half a megabyte of a connection before it can be told
    /// to stop: 32 receive buffers, `MULTISHOT_MAX_RETRY` of its `io_uring/net.c`.)
    pub backlog_bytes_total_max: usize,
    /// Bytes that half frames of all connections of this core may come to at which further
    /// ones wait, small ones excepted (see [`crate::limits::INPUT_BYTES_SMALL`]). The small
    /// ones together are held to the same; a connection beyond that is closed.
    pub input_bytes_total_max: usize,
    /// Seed of the engine's own randomness (expiry jitter).
    pub seed: u64,
    /// The clock when the engine starts.
    pub now: MonotonicUs,
    /// The wall clock at that moment, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What is spoken beside the native protocol.
    pub dialects: Dialects,
    /// What dialects may tell of the node.
    pub about: Arc<About>,
}

/// What may be changed while the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// What is evicted when the memory is used up.
    pub policy: Policy,
    /// What the shard may hold, in bytes; at most its configured `budget_bytes_max`.
    pub shard_bytes: u64,
    /// See [`EngineConfig::output_bytes_total_max`].
    pub output_bytes_total_max: usize,
    /// See [`EngineConfig::backlog_bytes_total_max`].
    pub backlog_bytes_total_max: usize,
    /// See [`EngineConfig::input_bytes_total_max`].
    pub input_bytes_total_max: usize,
}

impl EngineConfig {
    /// Whether the node moves the expiry `ttl` at random.
    pub(crate) fn spreads(&self, ttl: Ttl) -> bool {
        use corelane_protocol::Jitter;
        match (self.jitter, ttl) {
            (JitterMode::Off, _) | (_, Ttl::Keep | Ttl::Never) => false,
            (JitterMode::Always, _) => true,
            (JitterMode::Asked, Ttl::After { jitter: Jitter::Spread, .. }) => true,
            (JitterMode::Asked, _) => false,
        }
    }
}
