//! The data of one core: entries, index, eviction and expiry. No I/O and no clock: time and
//! random seeds are arguments, so the same calls give the same shard.
//!
//! Modules in reading order: what callers say and are told, the memory, what lies in it, how
//! it is found, when it goes, and the shard, which puts these together.

mod config;
mod stats;
mod types;

mod class;
mod heap;
mod reserve;

mod entry;
mod hash;
mod index;
mod large;

mod policy;
mod wheel;

mod shard;

pub use config::{Algorithm, Among, HugePages, Policy, ShardConfig, TableHash, UnknownPolicy};
pub use large::{Lease, LeasedPiece};
pub use reserve::Prefaulter;
pub use shard::{BUDGET_BYTES_MAX, BUDGET_BYTES_MIN, EntryHint, Held, Part, Shard, Upload};
pub use stats::ShardStats;
pub use types::{
    Cause, Change, Changes, Cursor, Details, End, Entry, EntryKey, EntryVersion, Expiry,
    KEY_BYTES_MAX, Key, KeyHash, Millis, SLOTS, SPACES, ShardError, TickOutcome, Value, Write,
    WriteError,
};
