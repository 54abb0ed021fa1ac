//! `memory`: what an entry costs beside its key and value, measured from outside: a server is
//! started, filled over the wire, and asked how many entries it has; its resident memory
//! before and after tells the rest. The same is done with other servers where they are
//! installed.
//!
//! ```text
//! server (a process) ◄─ wire ─ fill ─ workload's keys and values
//!    └ /proc/PID/status: resident memory, empty and full ─► a row
//! ```

pub mod fill;
pub mod server;
pub mod wire;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::config::values::parse_size;
use serde::Serialize;

use crate::cli::{parse_duration, parse_keys};
use fill::{Expiring, FillError, Filler, Filling};
use server::{Program, Room, Server, ServerError, on_path};
use wire::Dialect;

/// Options of `memory`.
#[derive(Clone, Debug, Args)]
pub struct MemoryOptions {
    /// Entries to write; several numbers are measured one after the other, each with servers
    /// of its own.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "2M")]
    #[arg(value_parser = parse_keys)]
    pub items: Vec<u64>,
    /// Bytes of each key.
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=250))]
    pub key_size: u16,
    /// Bytes of each value.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub value_size: u32,
    /// Let the entries expire, in one to two hours.
    #[arg(long)]
    pub ttl: bool,
    /// Servers to measure beside Corelane: redis, valkey and memcached from PATH, or
    /// NAME=FILE with a name that begins with one of these; or none. Those that are not
    /// there are left out.
    #[arg(long, value_name = "NAME[=FILE]", value_delimiter = ',')]
    #[arg(default_value = "redis,valkey,memcached")]
    pub peers: Vec<Peer>,
    /// The node's binary; by default `corelane` beside this one.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Data cores of the node.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cores: u16,
    /// Memory of the node; its own default without.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Time that filling one server may take.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    pub time_limit: Duration,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// A server beside which Corelane is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// None.
    None,
    /// This one, if it is there.
    Server {
        /// What it is called.
        name: String,
        /// How it is spoken to.
        dialect: Dialect,
        /// Its file; else it is looked for.
        path: Option<PathBuf>,
    },
}

/// A peer that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a peer is redis, valkey, memcached, NAME=FILE with a name that begins so, or none; not `{0}`"
)]
pub struct PeerError(String);

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Peer, PeerError> {
        if text == "none" {
            return Ok(Peer::None);
        }
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name, Some(PathBuf::from(path))),
            None => (text, None),
        };
        let dialect = match name {
            name if name.starts_with("redis") || name.starts_with("valkey") => Dialect::Resp,
            name if name.starts_with("memcached") => Dialect::Memcached,
            _ => return Err(PeerError(text.to_owned())),
        };
        Ok(Peer::Server { name: name.to_owned(), dialect, path })
    }
}

impl Peer {
    /// The program, if it is there.
    fn find(&self) -> Result<Option<Program>, String> {
        let Peer::Server { name, dialect, path } = self else { return Ok(None) };
        let found = match (path, dialect) {
            (Some(path), _) => path.is_file().then(|| path.clone()),
            (None, Dialect::Memcached) => on_path(name),
            (None, _) => on_path(&format!("{name}-server")),
        };
        let (name, dialect) = (name.clone(), *dialect);
        match found {
            Some(path) => Ok(Some(Program { name, dialect, path })),
            None => Err(name),
        }
    }
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// There is no node to start.
    #[error(
        "there is no node at {}: build it (cargo build --release --bin corelane), or say where \
         it is with --binary",
        path.display()
    )]
    NoBinary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The report cannot be written.
    #[error("cannot write the report to {}: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// One server filled with so many entries. Memory is in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub server: String,
    /// Its version.
    pub version: String,
    /// Entries written.
    pub items: u64,
    /// Entries that it says it has.
    pub items_held: u64,
    /// Whether they expire.
    pub ttl: bool,
    /// Bytes of each key.
    pub key_bytes: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Resident memory before, with a connection open.
    pub rss_empty: u64,
    /// Resident memory after.
    pub rss_full: u64,
    /// Keys and values together.
    pub payload: u64,
    /// The growth of resident memory less the payload, by entry; nothing where entries are
    /// missing, since what was evicted costs nothing.
    pub overhead_bytes_per_item: Option<f64>,
    /// Seconds that the writing took.
    pub fill_seconds: f64,
}

impl Row {
    fn overhead(&mut self) {
        let growth = self.rss_full as f64 - self.rss_empty as f64;
        let overhead = (growth - self.payload as f64) / self.items as f64;
        self.overhead_bytes_per_item = (self.items == self.items_held).then_some(overhead);
    }
}

/// The whole report. Its fields are the JSON's.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    rows: Vec<Row>,
    /// Peers that are not installed.
    absent: Vec<String>,
    /// Servers that could not be measured, and why.
    failures: Vec<String>,
}

/// Why one server was not measured.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Fill(#[from] FillError),
}

/// Measures every server, and says whether all held what they were given.
///
/// # Errors
/// There is no node, or the report cannot be written.
pub fn run(options: &MemoryOptions) -> Result<ExitCode, MemoryError> {
    let mut programs = vec![node(options)?];
    let mut absent = Vec::new();
    for peer in &options.peers {
        match peer.find() {
            Ok(program) => programs.extend(program),
            Err(name) => absent.push(name),
        }
    }
    let silent = options.json.as_deref() == Some(Path::new("-"));
    for name in &absent {
        eprintln!("corelane-bench: {name} is not installed, so it is left out");
    }
    if !silent {
        print!("{}", head_text());
    }
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        rows: Vec::new(),
        absent,
        failures: Vec::new(),
    };
    for items in &options.items {
        for program in &programs {
            match measure(program, *items, options) {
                Ok(row) => {
                    if !silent {
                        print!("{}", row_text(&row));
                    }
                    if row.overhead_bytes_per_item.is_none() {
                        let Row { server, items_held, .. } = &row;
                        let failure = format!("{server} has {items_held} entries of {items}");
                        report.failures.push(failure);
                    }
                    report.rows.push(row);
                }
                Err(error) => report.failures.push(format!("{}: {error}", program.name)),
            }
        }
    }
    for failure in &report.failures {
        eprintln!("corelane-bench: {failure}");
    }
    let clean = report.failures.is_empty();
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report).expect("a report is JSON");
        if silent {
            println!("{json}");
        } else {
            fs::write(path, json + "\n")
                .map_err(|error| MemoryError::Json { path: path.clone(), error })?;
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn node(options: &MemoryOptions) -> Result<Program, MemoryError> {
    let beside = || {
        let own = std::env::current_exe().unwrap_or_default();
        own.with_file_name("corelane")
    };
    let path = options.binary.clone().unwrap_or_else(beside);
    if path.is_file() {
        Ok(Program { name: "corelane".to_owned(), dialect: Dialect::Native, path })
    } else {
        Err(MemoryError::NoBinary { path })
    }
}

fn measure(program: &Program, items: u64, options: &MemoryOptions) -> Result<Row, RowError> {
    let filling = Filling {
        items,
        key_bytes: usize::from(options.key_size),
        value_bytes: options.value_size as usize,
        expiring: if options.ttl { Expiring::Later } else { Expiring::Never },
    };
    let payload_bytes = (filling.key_bytes + filling.value_bytes) as u64;
    let MemoryOptions { cores, memory, time_limit, .. } = *options;
    let mut server = Server::start(program, Room { items, payload_bytes, cores, memory })?;
    let mut filler = Filler::connect(server.address(), program.dialect)?;
    // What the first request of a connection allocates is no entry's.
    filler.items()?;
    let rss_empty = server.settled_memory()?;
    let started = Instant::now();
    filler.fill(&filling, started + time_limit)?;
    let fill_seconds = started.elapsed().as_secs_f64();
    let rss_full = server.settled_memory()?;
    let mut row = Row {
        server: program.name.clone(),
        version: program.version(),
        items,
        items_held: filler.items()?,
        ttl: options.ttl,
        key_bytes: filling.key_bytes,
        value_bytes: filling.value_bytes,
        rss_empty,
        rss_full,
        payload: items * payload_bytes,
        overhead_bytes_per_item: None,
        fill_seconds,
    };
    row.overhead();
    Ok(row)
}

fn head_text() -> String {
    format!(
        "{:<12}{:>10}{:>14}{:>14}{:>14}{:>14}{:>10}\n",
        "server", "version", "items", "empty, MiB", "full, MiB", "bytes an item", "fill, s"
    )
}

fn row_text(row: &Row) -> String {
    let Row { server, version, items, items_held, rss_empty, rss_full, fill_seconds, .. } = row;
    let mebibytes = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let mut text = format!(
        "{server:<12}{version:>10}{items:>14}{:>14.1}{:>14.1}",
        mebibytes(*rss_empty),
        mebibytes(*rss_full)
    );
    match row.overhead_bytes_per_item {
        Some(overhead) => write!(text, "{overhead:>14.1}").unwrap(),
        None => write!(text, "{:>14}", format!("only {items_held}")).unwrap(),
    }
    writeln!(text, "{fill_seconds:>10.1}").unwrap();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: MemoryOptions,
    }

    fn parse(arguments: &[&str]) -> Result<MemoryOptions, clap::Error> {
        Line::try_parse_from([&["memory"], arguments].concat()).map(|line| line.options)
    }

    #[test]
    fn options_are_read() {
        let options = parse(&[]).unwrap();
        assert_eq!(
            (options.items, options.key_size, options.value_size),
            (vec![2_000_000], 16, 64)
        );
        assert_eq!(options.peers.len(), 3);
        let options = parse(&["--items", "1500K,1750K", "--ttl", "--json", "-"]).unwrap();
        assert_eq!((options.items, options.ttl), (vec![1_500_000, 1_750_000], true));
        assert!(parse(&["--key-size", "251"]).is_err());
        assert!(parse(&["--peers", "mongo"]).is_err());
    }

    #[test]
    fn peers_are_named_with_or_without_a_file() {
        let check = |text: &str, name: &str, dialect, path: Option<&str>| {
            let (name, path) = (name.to_owned(), path.map(PathBuf::from));
            assert_eq!(text.parse(), Ok(Peer::Server { name, dialect, path }));
        };
        check("redis", "redis", Dialect::Resp, None);
        check("redis-8=/opt/redis-server", "redis-8", Dialect::Resp, Some("/opt/redis-server"));
        check("valkey=./v=1", "valkey", Dialect::Resp, Some("./v=1"));
        check("memcached", "memcached", Dialect::Memcached, None);
        assert_eq!("none".parse(), Ok(Peer::None));
        assert!("other=/bin/true".parse::<Peer>().is_err());
    }

    fn row(items_held: u64) -> Row {
        let mut row = Row {
            server: "corelane".to_owned(),
            version: "1.0".to_owned(),
            items: 1_000,
            items_held,
            ttl: false,
            key_bytes: 16,
            value_bytes: 64,
            rss_empty: 5_000_000,
            rss_full: 5_106_000,
            payload: 80_000,
            overhead_bytes_per_item: None,
            fill_seconds: 1.0,
        };
        row.overhead();
        row
    }

    #[test]
    fn the_overhead_is_what_is_neither_key_nor_value() {
        assert_eq!(row(1_000).overhead_bytes_per_item, Some(26.0));
        assert!(row_text(&row(1_000)).contains("26.0"));
        assert_eq!(head_text().len(), row_text(&row(1_000)).len());
    }

    #[test]
    fn evictions_are_not_taken_for_thrift() {
        assert_eq!(row(900).overhead_bytes_per_item, None);
        assert!(row_text(&row(900)).contains("only 900"));
    }

    #[test]
    fn a_missing_node_is_told() {
        let options = parse(&["--binary", "/nonexistent/corelane"]).unwrap();
        assert!(matches!(run(&options), Err(MemoryError::NoBinary { .. })));
    }
}
