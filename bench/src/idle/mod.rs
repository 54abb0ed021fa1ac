//! `idle`: what connections cost a node that have nothing to say. A node is started, so many
//! clients connect, ask it once and fall silent; the growth of its resident memory, by
//! connection, is the figure, and the CPU time of all its threads while nobody says anything. What
//! the kernel keeps for a socket is not in it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use corelane_protocol::{Request, RequestHead, wire};
use serde::Serialize;

use crate::cli::parse_duration;
use crate::measure::cpu::ServerThreads;
use crate::memory::server::{Program, Room, Server, ServerError};
use crate::memory::wire::Dialect;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the answer to a ping are fewer.
const ANSWER_BYTES_MAX: usize = 256;

/// Options of `idle`.
#[derive(Clone, Debug, Args)]
pub struct IdleOptions {
    /// Connections; as many as a node takes by default, at most.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Data cores of the node.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cores: u16,
    /// The node's binary; by default `corelane` beside this one.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Fail where a connection costs more bytes than this.
    #[arg(long, value_name = "BYTES", default_value_t = 1_024.0)]
    pub limit: f64,
    /// How long nobody says anything while CPU time is measured.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub silence: Duration,
    /// Fail where the node uses more of one CPU than this meanwhile, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub cpu_limit: f64,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum IdleError {
    /// The node.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A connection, or the report.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A connection was answered with something else than was asked for.
    #[error("connection {0} was not answered")]
    Unanswered(u32),
    /// The system does not tell what the node's threads use.
    #[error("the node's CPU time cannot be read")]
    NoCpuTime,
}

/// The report. Its fields are the JSON's; memory is in bytes.
#[derive(Debug, Serialize)]
struct Report {
    version: String,
    cores: u16,
    connections: u32,
    rss_before: u64,
    rss_after: u64,
    bytes_per_connection: f64,
    /// Without connections, and with all of them.
    cpu_percent: [f64; 2],
}

/// Measures, and says whether connections and silence cost no more than the limits.
///
/// # Errors
/// The node cannot be started or does not answer, or the report cannot be written.
pub fn run(options: &IdleOptions) -> Result<ExitCode, IdleError> {
    corelane::system::raise_open_files()?;
    let beside = std::env::current_exe()?.with_file_name("corelane");
    let path = options.binary.clone().unwrap_or(beside);
    let program = Program { name: "corelane".to_owned(), dialect: Dialect::Native, path };
    let room = Room { items: 0, payload_bytes: 0, cores: options.cores, memory: None };
    let mut server = Server::start(&program, room)?;
    let rss_before = server.settled_memory()?;
    let cpu_before = cpu_percent(&server, options.silence)?;
    let connect = |number| connected(&server, number);
    let connections: Vec<TcpStream> =
        (0..options.connections).map(connect).collect::<Result<_, _>>()?;
    let rss_after = server.settled_memory()?;
    let cpu_after = cpu_percent(&server, options.silence)?;
    drop(connections);
    let growth = rss_after.saturating_sub(rss_before) as f64;
    let report = Report {
        version: program.version(),
        cores: options.cores,
        connections: options.connections,
        rss_before,
        rss_after,
        bytes_per_connection: growth / f64::from(options.connections),
        cpu_percent: [cpu_before, cpu_after],
    };
    let json = serde_json::to_string_pretty(&report).expect("numbers and text");
    match options.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{json}"),
        Some(path) => fs::write(path, json)?,
        None => println!(
            "{} connections on {} cores: {} KiB resident before, {} KiB after; {:.0} bytes each; \
             {cpu_before:.2} % of a CPU before, {cpu_after:.2} % after",
            report.connections,
            report.cores,
            rss_before >> 10,
            rss_after >> 10,
            report.bytes_per_connection,
        ),
    }
    let kept = report.bytes_per_connection <= options.limit
        && report.cpu_percent.iter().all(|percent| *percent <= options.cpu_limit);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How much of one CPU all threads of the node use in a time in which nobody speaks, in percent.
fn cpu_percent(server: &Server, silence: Duration) -> Result<f64, IdleError> {
    let threads = ServerThreads::Process(server.process());
    let (before, began) = (threads.sample(), Instant::now());
    std::thread::sleep(silence);
    let used_ns = threads.sample().since(&before).ok_or(IdleError::NoCpuTime)?;
    Ok(100.0 * used_ns as f64 / began.elapsed().as_nanos() as f64)
}

/// A connection that was served once.
fn connected(server: &Server, number: u32) -> Result<TcpStream, IdleError> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut frame = Vec::new();
    wire::encode_request(&RequestHead::default(), &Request::Ping, &mut frame)
        .expect("a ping has no lengths");
    stream.write_all(&frame)?;
    match stream.read(&mut [0; ANSWER_BYTES_MAX])? {
        0 => Err(IdleError::Unanswered(number)),
        _ => Ok(stream),
    }
}
