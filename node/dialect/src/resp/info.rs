//! `INFO`: the node's counters under the names that Redis's dashboards read.

use std::fmt::Write;

use corelane_protocol::{Request, Space};

use super::call::{Call, Outcome, is};
use super::connection::REDIS_VERSION;
use super::gather::GatherKind;
use super::parse::Args;
use crate::facts::Facts;
use crate::step::Moment;

/// Which parts of `INFO` are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sections(u16);

/// The parts in their order.
const NAMES: [&str; 11] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "errorstats",
    "cluster",
    "keyspace",
    "corelane",
];

impl Sections {
    fn has(self, name: &str) -> bool {
        NAMES.iter().position(|it| *it == name).is_some_and(|at| self.0 >> at & 1 != 0)
    }
}

pub(crate) fn info<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let mut sections = Sections::default();
    let all = (1 << NAMES.len()) - 1;
    if args.len() == 0 {
        sections.0 = all;
    }
    for name in args {
        if ["default", "all", "everything"].iter().any(|known| is(name, known)) {
            sections.0 = all;
        } else if let Some(at) = NAMES.iter().position(|known| is(name, known)) {
            sections.0 |= 1 << at;
        }
    }
    call.everywhere(Request::Stats, GatherKind::Info { sections })
}

/// The counters of all cores, added up.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sums: Vec<(String, u64)>,
}

impl Tally {
    /// Adds the counters of one core: lines of a name and a number.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let text = std::str::from_utf8(text).unwrap_or("");
        // Every core has the same names in the same order.
        for (place, line) in text.lines().enumerate() {
            let Some((name, number)) = line.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match self.sums.get_mut(place) {
                Some((known, sum)) if known == name => *sum = sum.saturating_add(number),
                _ => self.sums.push((name.to_owned(), number)),
            }
        }
    }

    fn sum(&self, name: &str) -> u64 {
        self.sums.iter().filter(|(known, _)| known == name).map(|(_, sum)| sum).sum()
    }
}

/// The text of `INFO`.
pub(crate) fn text(sections: Sections, tally: &Tally, facts: &dyn Facts, moment: Moment) -> String {
    let mut text = Text { text: String::new(), sections, shown: false };
    let node = facts.node();
    let is_cluster = facts.cluster().is_some();
    if text.section("server", "Server") {
        text.line("redis_version", REDIS_VERSION);
        text.line("corelane_version", node.version);
        text.line("server_name", "corelane");
        text.line("redis_mode", if is_cluster { "cluster" } else { "standalone" });
        text.line("os", std::env::consts::OS);
        text.line("arch_bits", usize::BITS);
        text.line("process_id", node.process_id);
        text.line("run_id", node.run_id);
        text.line("tcp_port", node.port);
        text.line("server_time_usec", moment.unix_ms.saturating_mul(1_000));
        text.line("uptime_in_seconds", node.uptime_s);
        text.line("uptime_in_days", node.uptime_s / 86_400);
        text.line("io_threads_active", u8::from(node.cores > 1));
    }
    if text.section("clients", "Clients") {
        text.line("connected_clients", tally.sum("connections_open"));
        text.line("cluster_connections", 0);
        text.line("maxclients", node.connections_max);
        text.line("blocked_clients", 0);
        text.line("tracking_clients", 0);
    }
    if text.section("memory", "Memory") {
        let used = tally.sum("memory_used_bytes");
        let resident = node.memory_resident_bytes;
        text.bytes("used_memory", used);
        text.bytes("used_memory_rss", resident);
        text.bytes("used_memory_peak", used.max(resident));
        text.line("used_memory_dataset", used);
        text.bytes("total_system_memory", node.memory_system_bytes);
        text.bytes("maxmemory", node.memory_bytes_max);
        text.line("maxmemory_policy", node.policy);
        text.line("mem_fragmentation_ratio", format_args!("{:.2}", ratio(resident, used)));
        text.line("mem_allocator", "mimalloc");
    }
    if text.section("persistence", "Persistence") {
        for (name, value) in [
            ("loading", "0"),
            ("async_loading", "0"),
            ("rdb_changes_since_last_save", "0"),
            ("rdb_bgsave_in_progress", "0"),
            ("rdb_last_bgsave_status", "ok"),
            ("aof_enabled", "0"),
            ("aof_rewrite_in_progress", "0"),
            ("aof_last_bgrewrite_status", "ok"),
            ("aof_last_write_status", "ok"),
        ] {
            text.line(name, value);
        }
    }
    if text.section("stats", "Stats") {
        for (name, counter) in [
            ("total_connections_received", "connections_opened"),
            ("total_commands_processed", "requests"),
            ("total_net_input_bytes", "bytes_received"),
            ("total_net_output_bytes", "bytes_sent"),
            ("rejected_connections", "connections_refused"),
            ("expired_keys", "expirations"),
            ("evicted_keys", "evictions"),
            ("keyspace_hits", "hits"),
            ("keyspace_misses", "misses"),
            ("total_error_replies", "failures"),
        ] {
            text.line(name, tally.sum(counter));
        }
        text.line("pubsub_channels", 0);
        text.line("pubsub_patterns", 0);
        text.line("latest_fork_usec", 0);
    }
    if text.section("replication", "Replication") {
        text.line("role", "master");
        text.line("connected_slaves", 0);
        text.line("master_failover_state", "no-failover");
        text.line("master_replid", node.run_id);
        text.line("master_repl_offset", 0);
        text.line("repl_backlog_active", 0);
    }
    if text.section("cpu", "CPU") {
        text.line("cores", node.cores);
    }
    if text.section("errorstats", "Errorstats") {
        text.line("errorstat_ERR", format_args!("count={}", tally.sum("failures")));
    }
    if text.section("cluster", "Cluster") {
        text.line("cluster_enabled", u8::from(is_cluster));
    }
    if text.section("keyspace", "Keyspace") {
        for space in 0..Space::COUNT {
            let keys = tally.sum(&format!("items_in_space_{space}"));
            if keys > 0 {
                let name = format!("db{space}");
                text.line(&name, format_args!("keys={keys},expires=0,avg_ttl=0"));
            }
        }
    }
    if text.section("corelane", "Corelane") {
        text.line("node_name", node.name);
        for (name, sum) in &tally.sums {
            text.line(name, sum);
        }
    }
    text.text
}

fn ratio(resident: u64, used: u64) -> f64 {
    if used == 0 { 1.0 } else { resident as f64 / used as f64 }
}

struct Text {
    text: String,
    sections: Sections,
    /// Something is there already.
    shown: bool,
}

impl Text {
    /// Begins a section, if it is wanted.
    fn section(&mut self, name: &str, title: &str) -> bool {
        if !self.sections.has(name) {
            return false;
        }
        if self.shown {
            self.text.push_str("\r\n");
        }
        self.shown = true;
        self.text.push_str("# ");
        self.text.push_str(title);
        self.text.push_str("\r\n");
        true
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.text, "{name}:{value}\r\n").expect("writing to a string cannot fail");
    }

    /// A size, and the same for people.
    fn bytes(&mut self, name: &str, bytes: u64) {
        self.line(name, bytes);
        let name = format!("{name}_human");
        let units = [("G", 30), ("M", 20), ("K", 10)];
        match units.into_iter().find(|(_, bits)| bytes >> bits > 0) {
            Some((unit, bits)) => {
                let number = bytes as f64 / (1u64 << bits) as f64;
                self.line(&name, format_args!("{number:.2}{unit}"));
            }
            None => self.line(&name, format_args!("{bytes}B")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_cores_are_added_up() {
        let mut tally = Tally::default();
        tally.add(b"hits 3\nmisses 1\n");
        tally.add(b"hits 4\nmisses 0\n");
        assert_eq!((tally.sum("hits"), tally.sum("misses"), tally.sum("none")), (7, 1, 0));
    }

    #[test]
    fn sizes_are_told_to_people_too() {
        let mut text = Text { text: String::new(), sections: Sections(0), shown: false };
        text.bytes("a", 512);
        text.bytes("b", 3 << 29);
        assert_eq!(text.text, "a:512\r\na_human:512B\r\nb:1610612736\r\nb_human:1.50G\r\n");
    }
}
