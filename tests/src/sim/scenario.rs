//! What varies from one simulated run to the next, all of it drawn from the seed.

use corelane_dialect::Dialects;
use corelane_engine::{DefaultTtl, EngineConfig, JitterMode};
use corelane_protocol::MonotonicUs;
use corelane_ring::slot_of;
use corelane_shard::{Policy, ShardConfig, TableHash};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::sim::model::Rules;

/// Kinds of runs. Each test runs many seeds of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Memory for everything, so that nothing may be missing.
    Ample,
    /// Little memory: entries are evicted, but values are never wrong.
    Evicting,
    /// Little memory and no eviction: writes are refused.
    Refusing,
    /// A token is needed, and some clients do not have it.
    Guarded,
    /// Output caps of a few KiB, and clients that read slowly.
    TinyOutput,
    /// Values of megabytes among small ones.
    Giant,
    /// The same in shards that hold few of them, so that many wait for others to arrive, push
    /// others out, or are pushed out while they are being sent.
    Crammed,
    /// Sixteen cores and large multi-gets.
    ManyCores,
    /// More connections with requests at another core than that core takes batches, and
    /// now and then all of them vanish.
    Crowd,
    /// The node is drained in the middle of the load.
    Draining,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 10] = [
        Family::Ample,
        Family::Evicting,
        Family::Refusing,
        Family::Guarded,
        Family::TinyOutput,
        Family::Giant,
        Family::Crammed,
        Family::ManyCores,
        Family::Crowd,
        Family::Draining,
    ];
}

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Only while nothing is under way, so that every expiry is known to the millisecond.
    BetweenRequests,
    /// Always.
    Running,
}

/// How long values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSizes {
    /// Mostly tens of bytes, some thousands.
    Small,
    /// Evenly up to 20,000 bytes.
    Medium,
    /// Mostly small, and some up to the node's limit.
    Giant,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The number of the run in its family.
    pub seed: u64,
    /// The kind of run.
    pub family: Family,
    /// Everything is drawn from it; follows from the two.
    pub lot: u64,
    /// Requests to send, keys of multi-gets counted singly.
    pub operations: u64,
    /// Cores of the node.
    pub cores: u16,
    /// Clients at a time.
    pub clients: usize,
    /// Keys of a client's own.
    pub keys: usize,
    /// The node's token.
    pub token: Option<Vec<u8>>,
    /// Bytes of a shard.
    pub budget_bytes: u64,
    /// What is evicted.
    pub policy: Policy,
    /// Longest value.
    pub value_bytes_max: usize,
    /// Lengths of values.
    pub value_sizes: ValueSizes,
    /// See [`EngineConfig::output_bytes_max`].
    pub output_bytes_max: usize,
    /// See [`EngineConfig::output_bytes_total_max`].
    pub output_bytes_total_max: usize,
    /// See [`EngineConfig::input_bytes_total_max`].
    pub input_bytes_total_max: usize,
    /// Expiry by default.
    pub default_ttl_ms: Option<u64>,
    /// Which expiries are spread.
    pub jitter: JitterMode,
    /// By how many percent.
    pub jitter_percent: u8,
    /// How time passes.
    pub clock: Clock,
    /// The node's clock at the start.
    pub start_us: u64,
    /// Longest piece that arrives at once.
    pub piece_bytes_max: usize,
    /// Requests of one client under way.
    pub window_max: usize,
    /// Requests that a client sends in one go.
    pub burst_max: usize,
    /// Keys of the largest multi-get.
    pub multi_get_keys_max: usize,
    /// Of 100,000 requests, how many are flushes.
    pub flushes_in_100k: u32,
    /// Chance of each turn that a client stops reading for a while.
    pub stall_chance: f64,
    /// Chance of each round that all clients vanish at once.
    pub collapse_chance: f64,
    /// Chance of each turn that a connection that is to be closed is.
    pub close_chance: f64,
    /// Parcels that a core takes from one lane in a turn.
    pub parcels_max: usize,
}

impl Scenario {
    /// The run of a seed.
    pub fn new(family: Family, seed: u64, operations: u64) -> Scenario {
        let lot = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((family as u64) << 56);
        let mut random = SmallRng::seed_from_u64(lot);
        let mut scenario = Scenario {
            seed,
            family,
            lot,
            operations,
            cores: random.random_range(1..=4),
            clients: random.random_range(1..=12),
            keys: random.random_range(8..=160),
            token: None,
            budget_bytes: 256 << 20,
            policy: Policy::default(),
            value_bytes_max: 64 << 10,
            value_sizes: ValueSizes::Small,
            output_bytes_max: 1 << random.random_range(14..=20),
            output_bytes_total_max: 64 << 20,
            input_bytes_total_max: 64 << 20,
            default_ttl_ms: random.random_bool(0.3).then(|| random.random_range(1..=30_000)),
            jitter: [JitterMode::Off, JitterMode::Asked, JitterMode::Always]
                [random.random_range(0..3)],
            jitter_percent: random.random_range(0..=50),
            clock: [Clock::BetweenRequests, Clock::Running][random.random_range(0..2)],
            start_us: random.random_range(0..10_000_000),
            piece_bytes_max: 1 << random.random_range(10..=17),
            window_max: 1 << random.random_range(0..=8),
            burst_max: 16,
            multi_get_keys_max: 40,
            flushes_in_100k: if random.random_bool(0.5) { 30 } else { 0 },
            stall_chance: 0.002,
            collapse_chance: 0.0,
            close_chance: [1.0, 0.3][random.random_range(0..2)],
            parcels_max: 1 << random.random_range(0..=4),
        };
        match family {
            Family::Ample | Family::Draining => {}
            Family::Evicting | Family::Refusing => {
                scenario.cores = random.random_range(1..=2);
                scenario.budget_bytes = random.random_range(4 << 20..=6 << 20);
                scenario.value_sizes = ValueSizes::Medium;
                scenario.keys = random.random_range(400..=1_000);
                scenario.clients = random.random_range(4..=12);
                if family == Family::Refusing {
                    scenario.policy = Policy::NoEviction;
                }
            }
            Family::Guarded => scenario.token = Some(b"an open secret".to_vec()),
            Family::TinyOutput => {
                scenario.output_bytes_max = 1 << random.random_range(6..=12);
                scenario.output_bytes_total_max = 1 << random.random_range(8..=16);
                scenario.stall_chance = 0.05;
                scenario.window_max = 256;
            }
            Family::Giant => {
                scenario.value_bytes_max = 4 << 20;
                scenario.value_sizes = ValueSizes::Giant;
                scenario.keys = 16;
                scenario.clients = random.random_range(1..=4);
                scenario.window_max = random.random_range(1..=16);
                scenario.piece_bytes_max = 1 << 20;
            }
            Family::Crammed => {
                scenario.cores = random.random_range(1..=2);
                scenario.budget_bytes = random.random_range(33 << 20..=48 << 20);
                scenario.value_bytes_max = 4 << 20;
                scenario.value_sizes = ValueSizes::Giant;
                scenario.keys = 64;
                scenario.clients = random.random_range(4..=12);
                scenario.window_max = random.random_range(1..=16);
                scenario.piece_bytes_max = 1 << random.random_range(13..=16);
                scenario.input_bytes_total_max = 32 << 20;
                scenario.stall_chance = 0.02;
            }
            Family::ManyCores => {
                scenario.cores = 16;
                scenario.clients = random.random_range(8..=24);
                scenario.multi_get_keys_max = 1_024;
            }
            Family::Crowd => {
                scenario.cores = random.random_range(2..=3);
                scenario.clients = random.random_range(200..=500);
                scenario.keys = 8;
                scenario.window_max = 8;
                scenario.burst_max = 2;
                scenario.multi_get_keys_max = 4;
                scenario.parcels_max = 1 << random.random_range(0..=8);
                scenario.stall_chance = 0.05;
                scenario.output_bytes_max = 1 << random.random_range(8..=14);
                scenario.collapse_chance = 0.04;
                scenario.close_chance = 0.05;
            }
        }
        scenario
    }

    /// What an engine of the node is told.
    pub fn engine(&self, core: u16) -> EngineConfig {
        let number = u64::from(core);
        EngineConfig {
            core,
            cores: self.cores,
            node_name: "simulated".to_owned(),
            cluster: None,
            shard: ShardConfig {
                hash: TableHash::Rapid { seed: self.lot ^ number },
                policy: self.policy,
                value_bytes_max: self.value_bytes_max as u64,
                version_seed: 1 + self.lot % 1_000,
                random_seed: self.lot.rotate_left(7) ^ number,
                ..ShardConfig::new(self.budget_bytes, |key| slot_of(key).number())
            },
            value_bytes_max: self.value_bytes_max,
            default_ttl: match self.default_ttl_ms {
                None => DefaultTtl::Never,
                Some(ms) => DefaultTtl::AfterMs(ms),
            },
            jitter: self.jitter,
            jitter_percent: self.jitter_percent,
            token: self.token.clone(),
            idle_ms_max: 60_000,
            drain_ms_max: 20_000,
            output_bytes_max: self.output_bytes_max,
            output_bytes_total_max: self.output_bytes_total_max,
            // Simulated clients do not know how to be closed for this; see the engine's own tests.
            backlog_bytes_total_max: 64 << 20,
            input_bytes_total_max: self.input_bytes_total_max,
            seed: self.lot.rotate_left(13) ^ number,
            now: MonotonicUs(self.start_us),
            unix_ms: 1_700_000_000_000,
            // Its clients speak nothing else, and garbage is garbage to it.
            dialects: Dialects { native: true, resp: false, memcached: false },
            about: Default::default(),
        }
    }

    /// What follows from that for the replies.
    pub(crate) fn rules(&self) -> Rules {
        let scarce = matches!(self.family, Family::Evicting | Family::Refusing | Family::Crammed);
        Rules {
            value_bytes_max: self.value_bytes_max,
            value_bytes_sure: if scarce { 1_024 } else { self.value_bytes_max },
            default_ttl_ms: self.default_ttl_ms,
            jitter: self.jitter,
            jitter_percent: self.jitter_percent,
            may_evict: matches!(self.family, Family::Evicting | Family::Crammed),
            may_refuse: scarce,
        }
    }
}
