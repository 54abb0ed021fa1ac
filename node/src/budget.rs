//! What `memory` is divided into. The setting is the whole process's; the shards get what
//! is left after everything else that can grow.
//!
//! ```text
//!   memory
//! - program, control thread, allocator slack   PROCESS_BYTES
//! - receive buffers                            cores × RECEIVE_BUFFERS × RECEIVE_BUFFER_BYTES
//! - lanes                                      cores² × 256 × 64 B
//! - connection tables                          connections_max × CONNECTION_BYTES
//! - HTTP under way                             with `--http`: a few MiB, or one value
//! - replies waiting to be sent                 1/32 of memory, over all cores
//! - requests waiting behind them               2 × 1/64 of memory, over all cores
//! - frames that have arrived in part           2 × 1/32 of memory, over all cores
//! = shards, in proportion to the slots of each core (see `shares`)
//! ```

use corelane_shard::BUDGET_BYTES_MAX;

use crate::config::Config;
use crate::control::cache::limits::bytes_under_way;
use crate::shares::TIMES_EVEN_MAX;

/// The program itself, the control thread and what the allocator keeps back.
const PROCESS_BYTES: u64 = 24 << 20;
/// Receive buffers a core.
pub(crate) const RECEIVE_BUFFERS: u16 = 256;
/// Bytes of one receive buffer. Larger ones gained nothing that could be measured.
pub(crate) const RECEIVE_BUFFER_BYTES: u32 = 16 << 10;
/// What a connection costs while nothing is under way, in the engine and the driver.
const CONNECTION_BYTES: u64 = 512;
/// Which part of the memory replies may take that wait to be sent.
const OUTPUT_SHARE: u64 = 32;
/// Which part of the memory requests may take that have arrived and wait behind replies; and
/// even shares of it as much again.
const BACKLOG_SHARE: u64 = 64;

/// Which part of the memory long frames may take that have arrived in part; and short ones as
/// much again. Large values are not among them: they are in the shards from the first byte on.
const INPUT_SHARE: u64 = 32;

/// The parts of the memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// One core's shard, where all cores have as many slots.
    pub(crate) shard_bytes: u64,
    /// One core's replies waiting to be sent.
    pub(crate) output_bytes: usize,
    /// One core's requests behind replies that nobody takes.
    pub(crate) backlog_bytes: usize,
    /// One core's frames that have arrived in part, long or short.
    pub(crate) input_bytes: usize,
}

/// Divides the memory among so many cores.
pub(crate) fn divide(config: &Config, cores: u16) -> Budget {
    let cores = u64::from(cores);
    let lanes = cores * cores * (corelane_mesh::LANE_SLOTS * corelane_mesh::MAIL_BYTES_MAX) as u64;
    let buffers = cores * u64::from(RECEIVE_BUFFERS) * u64::from(RECEIVE_BUFFER_BYTES);
    let connections = config.connections_max as u64 * CONNECTION_BYTES;
    let output = config.memory / OUTPUT_SHARE;
    let http = config.http.map_or(0, |_| bytes_under_way(config.value_bytes_max) as u64);
    let backlog = config.memory / BACKLOG_SHARE;
    let input = config.memory / INPUT_SHARE;
    let others =
        PROCESS_BYTES + lanes + buffers + connections + http + output + 2 * backlog + 2 * input;
    // Where the rest is too small to serve from, the shard says so when it is made.
    let shards = config.memory.saturating_sub(others);
    Budget {
        shard_bytes: shards / cores,
        output_bytes: (output / cores) as usize,
        backlog_bytes: (backlog / cores) as usize,
        input_bytes: (input / cores) as usize,
    }
}

/// The most that one core's shard may be given while the node runs, in bytes.
pub(crate) fn shard_bytes_max(config: &Config, cores: u16) -> u64 {
    let memory = config.memory_max.unwrap_or(config.memory);
    let even = divide(&Config { memory, ..config.clone() }, cores).shard_bytes;
    // Beyond what a shard can have at all there is no more to be given to it.
    (even * TIMES_EVEN_MAX.min(u64::from(cores))).min(BUDGET_BYTES_MAX.max(even))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_do_not_exceed_the_whole() {
        for (memory, cores) in [(64 << 20, 1), (1 << 30, 2), (256 << 30, 64)] {
            let config = Config { memory, ..Config::default() };
            let budget = divide(&config, cores);
            let waiting =
                (budget.output_bytes + 2 * (budget.backlog_bytes + budget.input_bytes)) as u64;
            let parts = budget.shard_bytes + waiting;
            let parts = parts * u64::from(cores);
            assert!(parts < memory, "{memory} {cores}");
            // In the smallest, what does not grow with it has its largest share.
            assert!(budget.shard_bytes * u64::from(cores) > memory / 4, "{memory} {cores}");
        }
    }
}
