//! Options that several commands share: what is loaded, by whom, and with which requests.

use std::path::PathBuf;

use clap::Args;
use corelane::config::values::parse_size;
use corelane::config::{Cores, Io};
use serde::Serialize;

use crate::cli::{
    CpuList, Protocol, count, parse_keys, parse_share, parse_value_size, serialize_display,
    serialize_text,
};
use crate::generator::Address;
use crate::workload::Distribution;

/// The server, and the generator's threads and connections.
#[derive(Clone, Debug, Args, Serialize)]
pub struct SubjectOptions {
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
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_parser = count(1..=1024), help_heading = "Load")]
    pub threads: usize,
    /// CPUs to pin the generator's threads to, such as 1 or 2,4-7; by default those that the
    /// node in this process leaves free, and none where there is a target.
    #[arg(long, value_name = "LIST", help_heading = "Load")]
    #[serde(serialize_with = "serialize_display")]
    pub cpu: Option<CpuList>,
}

/// Keys and values, and how they are asked for.
#[derive(Clone, Debug, Args, Serialize)]
pub struct WorkloadOptions {
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
}
