//! The data of one core: entries, index, eviction and expiry. No I/O and no clock: time and
//! random seeds are arguments, so the same calls give the same shard.

mod config;
mod hash;
mod large;
mod shard;
mod stats;
mod types;

pub use config::{Algorithm, Among, HugePages, Policy, ShardConfig, TableHash, UnknownPolicy};
pub use shard::Shard;
pub use stats::ShardStats;
pub use types::{
    Cause, Change, Changes, Cursor, End, Entry, EntryKey, EntryVersion, Expiry, KEY_BYTES_MAX, Key,
    Millis, SLOTS, SPACES, ShardError, TickOutcome, Value, Write, WriteError,
};
