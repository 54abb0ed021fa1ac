//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use corelane::config::values::parse_size;
use serde::Serialize;

use crate::compare::options::CompareOptions;
use crate::fleet::FleetOptions;
use crate::fleet::node::NodeOptions;
use crate::generator::session::PIPELINE_MAX;
use crate::idle::IdleOptions;
use crate::memory::MemoryOptions;
use crate::options::{SubjectOptions, WorkloadOptions};
use crate::replay::ReplayOptions;
use crate::ring::RingOptions;
use crate::stalls::StallOptions;
use crate::sweep::options::SweepOptions;
use crate::ways::{CoresOptions, SpinOptions};
use crate::workload::Steer;

/// Measures Corelane, and shows what it costs.
///
/// Without a subcommand it does `run`.
#[derive(Debug, Parser)]
#[command(name = "corelane-bench", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, which needs no name.
    #[command(flatten)]
    pub run: RunOptions,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a server, or a node in this process, and report throughput, latency and CPU time.
    Run(RunOptions),
    /// Show what I/O runtimes cost a server that does next to nothing: io_uring, epoll, and
    /// glommio where it was built in.
    Floors(FloorsOptions),
    /// Compare Corelane with other servers side by side, and with what the kernel alone costs.
    Compare(CompareOptions),
    /// Raise the rate until latency passes a limit, and draw latency against throughput.
    Sweep(SweepOptions),
    /// Replay traces through the shard, and show how often it misses beside plain caches.
    Replay(ReplayOptions),
    /// Show what an entry costs beside its key and value, in a node and in other servers.
    Memory(MemoryOptions),
    /// Show what connections cost a node that have nothing to say.
    Idle(IdleOptions),
    /// Show what a second core costs, with clients at the core of their keys, at any, and at the
    /// wrong one.
    Cores(CoresOptions),
    /// Show what looking for work before a sleep does for the latency of few connections.
    Spin(SpinOptions),
    /// Show the most work that a shard does at once where stores are known to stall.
    Stalls(StallOptions),
    /// Show how balanced placement on nodes is, and how much a join moves, beside raw rings.
    Ring(RingOptions),
    /// Show several nodes as one cache: one is killed, one is added, and clients read on.
    Fleet(FleetOptions),
    /// A node of `fleet`, in a process of its own.
    #[command(hide = true)]
    FleetNode(NodeOptions),
}

/// A protocol that the generator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Corelane's own.
    Native,
    /// RESP2, as Redis and Valkey speak it.
    Resp,
    /// memcached's text protocol.
    Memcached,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Protocol::Native => "native",
            Protocol::Resp => "resp",
            Protocol::Memcached => "memcached",
        })
    }
}

/// Options of `run`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct RunOptions {
    /// What is loaded, and by whom.
    #[command(flatten)]
    #[serde(flatten)]
    pub subject: SubjectOptions,
    /// Requests under way on each connection.
    #[arg(long, default_value_t = 1, value_parser = count(1..=PIPELINE_MAX), help_heading = "Load")]
    pub pipeline: usize,
    /// Open loop: requests per second of all connections together, sent when they are due
    /// whatever the server does; latency is counted from when they were.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate, help_heading = "Load")]
    pub rate: Option<f64>,
    /// Which core connections talk to: that of the keys they ask for, any, or wrong ones.
    /// Only Corelane's own protocol knows cores; with another, owner is the same as any.
    #[arg(long, value_enum, default_value = "owner", help_heading = "Load")]
    pub steer: Steer,

    /// What is asked for.
    #[command(flatten)]
    #[serde(flatten)]
    pub workload: WorkloadOptions,

    /// Time measured, such as 10s or 500ms.
    #[arg(long, default_value = "10s", value_parser = parse_duration, help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub duration: Duration,
    /// Time under load before it.
    #[arg(long, default_value = "2s", value_parser = parse_duration, help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub warmup: Duration,
    /// Time without any reply after which the server counts as stalled, and the run ends.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub stall_limit: Duration,
    /// Write the report as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-", help_heading = "Measuring")]
    pub json: Option<PathBuf>,
}

/// Options of `floors`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct FloorsOptions {
    /// Requests under way on each connection, one comparison each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    #[arg(value_parser = count(1..=PIPELINE_MAX))]
    pub pipelines: Vec<usize>,
    /// Turns that every server takes at each pipeline.
    #[arg(long, default_value_t = 5, value_parser = count(1..=1_000))]
    pub reps: usize,
    /// Time measured in each turn.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    #[serde(serialize_with = "serialize_seconds")]
    pub slice: Duration,
    /// Connections.
    #[arg(long, default_value_t = 50, value_parser = count(1..=10_000))]
    pub connections: usize,
    /// Number of keys in the small cache.
    #[arg(long, default_value_t = 1_000_000, value_parser = parse_keys)]
    pub keys: u64,
    /// Bytes of each value.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = parse_value_size)]
    pub value_size: usize,
    /// CPU of the servers' threads; they are not pinned on a machine with one CPU.
    #[arg(long, value_name = "CPU")]
    pub server_cpu: Option<usize>,
    /// CPU of the generator's thread.
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<usize>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A list of CPUs, such as 0,2-3; not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl std::str::FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<CpuList, String> {
        let error = || format!("a list of CPUs is numbers and ranges such as 0,2-3, not {text:?}");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.parse().map_err(|_| error())?;
            let last: usize = last.parse().map_err(|_| error())?;
            if first > last || last >= 4_096 {
                return Err(error());
            }
            cpus.extend(first..=last);
        }
        Ok(CpuList(cpus))
    }
}

impl std::fmt::Display for CpuList {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        formatter.write_str(&numbers.join(","))
    }
}

/// A parser for a number in a range.
pub(crate) fn count(
    range: std::ops::RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
    }
}

pub(crate) fn parse_value_size(text: &str) -> Result<usize, String> {
    match parse_size(text) {
        Ok(bytes) if bytes <= corelane_protocol::limits::VALUE_BYTES_MAX as u64 => {
            Ok(bytes as usize)
        }
        Ok(_) => Err("values have at most 64MiB".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A number with an optional K, M or G for thousands, millions, milliards.
pub(crate) fn parse_keys(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_000),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let number = digits.replace('_', "").parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .filter(|keys| (1..=1 << 40).contains(keys))
        .ok_or_else(|| "a number from 1, such as 1000000 or 1M".to_owned())
}

pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share from 0 to 1".to_owned())
}

pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| (0.1..=1e9).contains(rate))
        .ok_or_else(|| "requests per second, from 0.1".to_owned())
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let error = || "a time such as 10s, 500ms or 2m, up to a day".to_owned();
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| error())?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        _ => return Err(error()),
    };
    if seconds <= 86_400.0 { Ok(Duration::from_secs_f64(seconds)) } else { Err(error()) }
}

pub(crate) fn serialize_display<S: serde::Serializer, T: ToString>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(T::to_string).serialize(serializer)
}

pub(crate) fn serialize_text<S: serde::Serializer, T: ToString>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

pub(crate) fn serialize_seconds<S: serde::Serializer>(
    value: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run_options(arguments: &[&str]) -> Result<RunOptions, clap::Error> {
        let cli = Cli::try_parse_from([&["corelane-bench"], arguments].concat())?;
        match cli.command.unwrap_or(Command::Run(cli.run)) {
            Command::Run(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_needs_no_name() {
        let unnamed = run_options(&["--pipeline", "16", "--get", "0.5"]).unwrap();
        let named = run_options(&["run", "--pipeline", "16", "--get", "0.5"]).unwrap();
        assert_eq!(format!("{unnamed:?}"), format!("{named:?}"));
        assert_eq!(
            (unnamed.pipeline, unnamed.subject.connections, unnamed.workload.get),
            (16, 50, 0.5)
        );
        assert_eq!(unnamed.duration, Duration::from_secs(10));
    }

    #[test]
    fn values_with_units_are_read() {
        let options = run_options(&[
            "--keys",
            "2M",
            "--value-size",
            "1KiB",
            "--duration",
            "500ms",
            "--warmup",
            "1.5s",
            "--distribution",
            "zipf:0.99",
            "--cpu",
            "1,3-5",
            "--rate",
            "5e4",
            "--steer",
            "any",
        ])
        .unwrap();
        assert_eq!((options.workload.keys, options.workload.value_size), (2_000_000, 1_024));
        assert_eq!(options.duration, Duration::from_millis(500));
        assert_eq!(options.warmup, Duration::from_millis(1_500));
        assert_eq!(options.subject.cpu, Some(CpuList(vec![1, 3, 4, 5])));
        assert_eq!((options.rate, options.steer), (Some(50_000.0), Steer::Any));
    }

    #[test]
    fn impossible_values_are_refused() {
        let check = |arguments: &[&str]| {
            assert!(run_options(arguments).is_err(), "{arguments:?}");
        };
        check(&["--connections", "0"]);
        check(&["--pipeline", "40000"]);
        check(&["--keys", "0"]);
        check(&["--key-size", "20000"]);
        check(&["--value-size", "65MiB"]);
        check(&["--get", "1.1"]);
        check(&["--rate", "0"]);
        check(&["--duration", "soon"]);
        check(&["--cpu", "3-1"]);
        check(&["--distribution", "normal"]);
        check(&["--target", "nowhere"]);
        check(&["--server-pid", "1"]);
        check(&["--cores", "2", "--target", "127.0.0.1:7400"]);
    }

    #[test]
    fn the_configuration_is_told_in_json() {
        let options = run_options(&["--target", "unix:/run/c", "--cpu", "0-1"]).unwrap();
        let json = serde_json::to_value(&options).unwrap();
        assert_eq!(json["target"], "unix:/run/c");
        assert_eq!(json["cpu"], "0,1");
        assert_eq!(json["duration"], 10.0);
        assert_eq!(json["steer"], "owner");
        assert_eq!(json["distribution"], "uniform");
        assert_eq!(json["rate"], serde_json::Value::Null);
    }
}
