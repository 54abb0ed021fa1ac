//! The command line of `sweep`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use corelane::config::values::parse_size;
use corelane::config::{Cores, Io};
use serde::{Serialize, Serializer};

use crate::cli::{
    CpuList, Protocol, RunOptions, count, parse_duration, parse_keys, parse_rate, parse_share,
    parse_value_size, serialize_display, serialize_seconds, serialize_text,
};
use crate::generator::Address;
use crate::generator::pacer::Rate;
use crate::generator::session::PIPELINE_MAX;
use crate::workload::{Distribution, Steer};

/// Options of `sweep`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct SweepOptions {
    /// Server to measure: HOST:PORT or unix:PATH. Without one, a node is started in this
    /// process, on loopback.
    #[arg(long, help_heading = "Server")]
    #[serde(serialize_with = "serialize_display")]
    pub target: Option<Address>,
    /// Data cores of the node in this process: how many, or a list of CPUs such as 0,2-3.
    #[arg(long, value_name = "N|LIST", default_value = "1", conflicts_with = "target")]
    #[arg(help_heading = "Server")]
    #[serde(serialize_with = "serialize_text")]
    pub cores: Cores,
    /// Memory of the node in this process; its own default without.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "target")]
    #[arg(help_heading = "Server")]
    pub memory: Option<u64>,
    /// Kernel interface of the node in this process: auto, uring or epoll.
    #[arg(long, default_value = "auto", conflicts_with = "target", help_heading = "Server")]
    #[serde(serialize_with = "serialize_text")]
    pub io: Io,
    /// Process id of the server, to report its CPU time.
    #[arg(long, value_name = "PID", requires = "target", help_heading = "Server")]
    pub server_pid: Option<u32>,
    /// File whose first line is the access token.
    #[arg(long, value_name = "FILE", requires = "target", help_heading = "Server")]
    pub token_file: Option<PathBuf>,

    /// Protocol to speak.
    #[arg(long, value_enum, default_value = "native", help_heading = "Load")]
    pub protocol: Protocol,
    /// Connections, of all threads together.
    #[arg(long, default_value_t = 50, value_parser = count(1..=100_000), help_heading = "Load")]
    pub connections: usize,
    /// Most requests under way on each connection; those that are due and find no room wait,
    /// and their time runs.
    #[arg(long, default_value_t = 256, value_parser = count(1..=PIPELINE_MAX))]
    #[arg(help_heading = "Load")]
    pub pipeline: usize,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_parser = count(1..=1024), help_heading = "Load")]
    pub threads: usize,
    /// CPUs to pin the generator's threads to, such as 1 or 2,4-7; by default those that the
    /// node in this process leaves free, and none where there is a target.
    #[arg(long, value_name = "LIST", help_heading = "Load")]
    #[serde(serialize_with = "serialize_display")]
    pub cpu: Option<CpuList>,

    /// Number of keys.
    #[arg(long, default_value_t = 1_000_000, value_parser = parse_keys, help_heading = "Workload")]
    pub keys: u64,
    /// Bytes of each key.
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = count(1..=16_384))]
    #[arg(help_heading = "Workload")]
    pub key_size: usize,
    /// Bytes of each value.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = parse_value_size)]
    #[arg(help_heading = "Workload")]
    pub value_size: usize,
    /// Share of reads among the requests, 0 to 1; the others write.
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = parse_share)]
    #[arg(help_heading = "Workload")]
    pub get: f64,
    /// How keys are drawn: uniform, or zipf:EXPONENT.
    #[arg(long, default_value = "uniform", help_heading = "Workload")]
    pub distribution: Distribution,
    /// Where the random draws start from; the same seed asks the same.
    #[arg(long, default_value_t = 1, help_heading = "Workload")]
    pub seed: u64,
    /// Do not write all keys before measuring.
    #[arg(long, help_heading = "Workload")]
    pub no_fill: bool,

    /// What the 99th percentile of latency may be.
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub p99_max: Duration,
    /// The lowest rate, in requests a second of all connections together.
    #[arg(long, value_name = "PER_SECOND", default_value = "1000")]
    #[arg(value_parser = parse_pace, help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_rate")]
    pub rate_min: Rate,
    /// The highest.
    #[arg(long, value_name = "PER_SECOND", default_value = "10000000")]
    #[arg(value_parser = parse_pace, help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_rate")]
    pub rate_max: Rate,
    /// How often each rate is measured; medians count.
    #[arg(long, default_value_t = 3, value_parser = count(1..=1_000), help_heading = "Measuring")]
    pub reps: usize,
    /// Time measured each time.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub slice: Duration,
    /// Time under load before it.
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub warmup: Duration,
    /// Draw latency against throughput into a file.
    #[arg(long, value_name = "FILE", help_heading = "Measuring")]
    pub svg: Option<PathBuf>,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    #[arg(help_heading = "Measuring")]
    pub json: Option<PathBuf>,
}

impl SweepOptions {
    /// What the 99th percentile may be, in µs.
    pub(super) fn limit_us(&self) -> f64 {
        self.p99_max.as_secs_f64() * 1e6
    }

    /// The run that has the same server and workload.
    pub(super) fn as_run(&self) -> RunOptions {
        /// No reply for so long is no latency any more.
        const STALL_LIMIT: Duration = Duration::from_secs(5);
        let own = self.clone();
        RunOptions {
            target: own.target,
            cores: own.cores,
            memory: own.memory,
            io: own.io,
            server_pid: own.server_pid,
            token_file: own.token_file,
            protocol: own.protocol,
            connections: own.connections,
            pipeline: own.pipeline,
            threads: own.threads,
            cpu: own.cpu,
            rate: Some(own.rate_min.per_second()),
            steer: Steer::Owner,
            keys: own.keys,
            key_size: own.key_size,
            value_size: own.value_size,
            get: own.get,
            distribution: own.distribution,
            seed: own.seed,
            no_fill: own.no_fill,
            duration: own.slice,
            warmup: own.warmup,
            stall_limit: STALL_LIMIT,
            json: own.json,
        }
    }
}

fn parse_pace(text: &str) -> Result<Rate, String> {
    let rate = parse_rate(text)?;
    Rate::new(rate).ok_or_else(|| "requests a second".to_owned())
}

fn serialize_rate<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rate.per_second())
}
