//! The command line of `compare`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::{
    Protocol, count, parse_duration, parse_keys, parse_share, parse_value_size, serialize_seconds,
};
use crate::generator::session::PIPELINE_MAX;

use super::peer::{PeerSpec, PeerVariable};

/// Options of `compare`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct CompareOptions {
    /// Servers to compare with. redis, valkey and memcached are looked for on PATH (as
    /// redis-server, valkey-server, memcached) and left out where they are not there;
    /// NAME=PATH names any of them, or another Corelane, by its executable; none is none.
    #[arg(long, value_name = "NAME[=PATH]", value_delimiter = ',')]
    #[arg(default_value = "redis,valkey,memcached", help_heading = "Servers")]
    pub peers: Vec<PeerSpec>,
    /// Environment variable of one peer, such as valkey9:LD_PRELOAD=/lib/libjemalloc.so.2.
    #[arg(long, value_name = "NAME:VARIABLE=VALUE", help_heading = "Servers")]
    pub peer_env: Vec<PeerVariable>,
    /// Corelane's executable [default: corelane beside this one].
    #[arg(long, value_name = "PATH", help_heading = "Servers")]
    pub binary: Option<PathBuf>,
    /// Argument for Corelane beside its own, such as --node-arg=--spin-us=100.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true, help_heading = "Servers")]
    pub node_arg: Vec<String>,
    /// Compare with a small cache in this process as well, which copies every value into one
    /// buffer and sends that: what lending large values to the kernel saves.
    #[arg(long, help_heading = "Servers")]
    pub copying: bool,
    /// CPU of the servers; they are not pinned on a machine with one CPU [default: the first].
    #[arg(long, value_name = "CPU", help_heading = "Servers")]
    pub server_cpu: Option<usize>,

    /// Protocols to speak, each with the servers that speak it.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "native,resp,memcached")]
    #[arg(help_heading = "Load")]
    pub protocols: Vec<Protocol>,
    /// Requests under way on each connection, one comparison each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64", help_heading = "Load")]
    #[arg(value_parser = count(1..=PIPELINE_MAX))]
    pub pipelines: Vec<usize>,
    /// Bytes of each value, one comparison each.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "64,1024")]
    #[arg(value_parser = parse_value_size, help_heading = "Load")]
    pub value_sizes: Vec<usize>,
    /// Connections.
    #[arg(long, default_value_t = 50, value_parser = count(1..=10_000), help_heading = "Load")]
    pub connections: usize,
    /// Number of keys, of 16 bytes, uniformly drawn.
    #[arg(long, default_value_t = 1_000_000, value_parser = parse_keys, help_heading = "Load")]
    pub keys: u64,
    /// Share of the requests that read.
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = parse_share)]
    #[arg(help_heading = "Load")]
    pub get: f64,
    /// CPU of the generator [default: the second].
    #[arg(long, value_name = "CPU", help_heading = "Load")]
    pub cpu: Option<usize>,

    /// Turns that every server takes at each pipeline and size of values.
    #[arg(long, default_value_t = 9, value_parser = count(1..=1_000), help_heading = "Measuring")]
    pub reps: usize,
    /// Time measured in each turn.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub slice: Duration,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    #[arg(help_heading = "Measuring")]
    pub json: Option<PathBuf>,
}

impl CompareOptions {
    /// With servers and generator on the first two CPUs that are theirs to use, where nobody
    /// chose and there are two.
    #[must_use]
    pub(super) fn with_cpus(&self) -> CompareOptions {
        let mut options = self.clone();
        if options.server_cpu.is_none() && options.cpu.is_none() {
            let cpus = core_affinity::get_core_ids().unwrap_or_default();
            if let [first, second, ..] = cpus[..] {
                options.server_cpu = Some(first.id);
                options.cpu = Some(second.id);
            }
        }
        options
    }
}
