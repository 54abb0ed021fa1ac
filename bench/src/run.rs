//! `run`: fill, load, report.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corelane::node::{CorePanicked, StartError};

use crate::cli::{Protocol, RunOptions};
use crate::codec::Codec;
use crate::codec::memcached::Memcached;
use crate::codec::native::Native;
use crate::codec::resp::Resp;
use crate::embed::{EmbedOptions, Embedded, Traffic};
use crate::generator::pacer::Rate;
use crate::generator::{Address, Drive, DriveError, Outcome, Plan, Task};
use crate::measure::cpu::ServerThreads;
use crate::options::SubjectOptions;
use crate::progress::{Extent, Progress};
use crate::report::Report;
use crate::workload::{Steer, Workload};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node in this process did not start.
    #[error("the node did not start: {0}")]
    Start(#[from] StartError),
    /// The node in this process broke.
    #[error("the node failed: {0}")]
    Node(#[from] CorePanicked),
    /// The load could not start.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// The keys could not all be written.
    #[error("filling failed: {reason}")]
    Fill {
        /// Why.
        reason: String,
    },
    /// There are not enough connections.
    #[error("{connections} connections cannot be shared out to {threads} threads")]
    Connections {
        /// As many as were asked for.
        connections: usize,
        /// As many as were asked for.
        threads: usize,
    },
    /// The token cannot be read.
    #[error("cannot read the token from {}: {error}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
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

/// Does it, and says whether all went right.
///
/// # Errors
/// There is nothing to report.
pub fn run(options: &RunOptions) -> Result<ExitCode, RunError> {
    let report = measure(options)?;
    match &options.json {
        Some(path) if path == Path::new("-") => println!("{}", report.json()),
        other => {
            print!("{}", report.text());
            if let Some(path) = other {
                fs::write(path, report.json() + "\n")
                    .map_err(|error| RunError::Json { path: path.clone(), error })?;
            }
        }
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fills and loads the server, or a node in this process, and reports.
///
/// # Errors
/// There is nothing to report.
pub fn measure(options: &RunOptions) -> Result<Report<RunOptions>, RunError> {
    let subject = Subject::open(options)?;
    let (outcome, before) = match options.subject.protocol {
        Protocol::Native => drive(options, &subject, || Native)?,
        Protocol::Resp => drive(options, &subject, || Resp)?,
        Protocol::Memcached => drive(options, &subject, || Memcached)?,
    };
    let mut report = Report::new(options.clone(), subject.name.clone(), &outcome);
    if let (Some(before), Some(after)) = (before, subject.traffic()) {
        let (hops, wakes) = after.per_op_since(&before);
        (report.hops_per_op, report.wakes_per_op) = (Some(hops), Some(wakes));
    }
    subject.close()?;
    Ok(report)
}

/// What is measured: the server that was named, or else a node in this process.
pub(crate) struct Subject {
    embedded: Option<Embedded>,
    threads: ServerThreads,
    name: String,
    plan: Plan,
}

impl Subject {
    /// Finds the server or starts the node, and plans the load.
    pub(crate) fn open(options: &RunOptions) -> Result<Subject, RunError> {
        if options.subject.threads > options.subject.connections {
            let SubjectOptions { connections, threads, .. } = options.subject;
            return Err(RunError::Connections { connections, threads });
        }
        let (embedded, address, threads, cpus) = match &options.subject.target {
            Some(address) => {
                let process = options.subject.server_pid.map(ServerThreads::Process);
                (None, address.clone(), process.unwrap_or(ServerThreads::Unknown), Vec::new())
            }
            None => {
                let node = Embedded::start(&embed_options(options))?;
                let (address, threads, cpus) = (node.address(), node.threads(), node.free_cpus());
                (Some(node), address, threads, cpus)
            }
        };
        let name = match &embedded {
            Some(_) => format!("embedded ({address})"),
            None => address.to_string(),
        };
        Ok(Subject { embedded, threads, name, plan: plan(options, address, cpus)? })
    }

    /// What it is called in reports.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its threads.
    pub(crate) fn threads(&self) -> &ServerThreads {
        &self.threads
    }

    /// What the cores of the node in this process have done so far.
    fn traffic(&self) -> Option<Traffic> {
        self.embedded.as_ref().map(Embedded::traffic)
    }

    /// The load.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Ends the node, where there is one in this process.
    pub(crate) fn close(self) -> Result<(), RunError> {
        Ok(self.embedded.map_or(Ok(()), Embedded::stop)?)
    }
}

fn embed_options(options: &RunOptions) -> EmbedOptions {
    EmbedOptions {
        cores: options.subject.cores.clone(),
        memory: options.subject.memory,
        io: options.subject.io,
        connections: options.subject.connections,
        value_bytes: options.workload.value_size,
        spin_us: 0,
    }
}

fn plan(options: &RunOptions, address: Address, free_cpus: Vec<usize>) -> Result<Plan, RunError> {
    Ok(Plan {
        address,
        token: match &options.subject.token_file {
            Some(path) => {
                read_token(path).map_err(|error| RunError::Token { path: path.clone(), error })?
            }
            None => Vec::new(),
        },
        connections: options.subject.connections,
        threads: options.subject.threads,
        cpus: options.subject.cpu.as_ref().map_or(free_cpus, |list| list.0.clone()),
        steer: match (options.subject.protocol, options.steer) {
            // These have no way to say which core owns a key.
            (Protocol::Resp | Protocol::Memcached, Steer::Owner | Steer::Thread) => Steer::Any,
            (_, steer) => steer,
        },
        workload: Workload {
            keys: options.workload.keys,
            key_bytes: options.workload.key_size,
            value_bytes: options.workload.value_size,
            get_share: options.workload.get,
            distribution: options.workload.distribution,
            seed: options.workload.seed,
        },
        stall_limit: options.stall_limit,
    })
}

/// The first line of a file.
fn read_token(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}

/// Loads the server; what its cores had done before, where they are in this process.
fn drive<C: Codec, F: Fn() -> C>(
    options: &RunOptions,
    subject: &Subject,
    make_codec: F,
) -> Result<(Outcome, Option<Traffic>), RunError> {
    let drive = Drive::new(&subject.plan, &subject.threads, make_codec)?;
    if !options.workload.no_fill {
        fill(&drive, options.workload.keys)?;
    }
    let RunOptions { pipeline, warmup, duration, .. } = *options;
    let rate = options.rate.and_then(Rate::new);
    let progress = Progress::new("measuring", Extent::Time(warmup + duration));
    let before = subject.traffic();
    Ok((drive.run(Task::Timed { pipeline, warmup, duration, rate }, &progress)?, before))
}

/// Writes every key.
pub(crate) fn fill<C: Codec, F: Fn() -> C>(
    drive: &Drive<'_, C, F>,
    keys: u64,
) -> Result<(), RunError> {
    let filled = drive.run(Task::Fill, &Progress::new("filling", Extent::Replies(keys)))?;
    let complaint = filled.tally.complaints.first().cloned();
    let failure = filled.failures.first().map(ToString::to_string);
    match failure.or(complaint) {
        Some(reason) => Err(RunError::Fill { reason }),
        None => Ok(()),
    }
}
