//! A server as a process of its own: started on loopback, its memory read, ended with it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::wire::Dialect;

/// How long a server may take until it accepts connections.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often it is tried.
const START_STEP: Duration = Duration::from_millis(20);
/// How often resident memory is read while it settles.
const SETTLE_STEP: Duration = Duration::from_millis(100);
/// Readings that must agree.
const SETTLE_READINGS: usize = 10;
/// By how many bytes they may differ.
const SETTLE_BYTES: u64 = 64 << 10;
/// How long settling may take.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// A program that can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is called in the report.
    pub name: String,
    /// How it is spoken to and started.
    pub dialect: Dialect,
    /// Where it is.
    pub path: PathBuf,
}

/// What a server is given to hold.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Entries.
    pub items: u64,
    /// Bytes of key and value of each.
    pub payload_bytes: u64,
    /// Data cores of a Corelane node.
    pub cores: u16,
    /// Memory of a Corelane node, in bytes; its own default without.
    pub memory: Option<u64>,
}

/// A server that could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot be run.
    #[error("cannot run {}: {error}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It ended by itself.
    #[error("{} ended: {status}", path.display())]
    Ended {
        /// The program.
        path: PathBuf,
        /// How.
        status: ExitStatus,
    },
    /// It accepts no connections.
    #[error("{} accepts no connections after {START_LIMIT:?}", path.display())]
    Silent {
        /// The program.
        path: PathBuf,
    },
    /// Its memory cannot be read.
    #[error("cannot read the memory of process {pid}: {error}")]
    Memory {
        /// The process.
        pid: u32,
        /// Why.
        error: io::Error,
    },
}

impl Program {
    /// The version that it tells of itself; "unknown" where it does not.
    pub fn version(&self) -> String {
        let flag = if self.dialect == Dialect::Memcached { "-V" } else { "--version" };
        let output = Command::new(&self.path).arg(flag).stdin(Stdio::null()).output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        version_in(&String::from_utf8_lossy(&text))
    }

    /// The arguments with which it listens on a loopback port, keeps nothing on disk and has
    /// room for the entries.
    fn arguments(&self, port: u16, room: Room) -> Vec<String> {
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        match self.dialect {
            Dialect::Native => {
                let Room { cores, memory, .. } = room;
                let memory = memory.map_or_else(String::new, |bytes| format!("--memory {bytes}"));
                words(format!(
                    "serve --listen 127.0.0.1:{port} --admin none --http none --cores {cores} {memory}"
                ))
            }
            Dialect::Resp => {
                let mut arguments: Vec<String> = words(format!(
                    "--bind 127.0.0.1 --port {port} --daemonize no --appendonly no \
                     --loglevel warning --save"
                ));
                arguments.push(String::new());
                arguments
            }
            Dialect::Memcached => {
                // Twice what the lightest entry takes: room is not what is measured.
                let megabytes = ((room.items * (room.payload_bytes + 128)) >> 19) + 128;
                words(format!("-l 127.0.0.1 -p {port} -U 0 -t 1 -u root -m {megabytes}"))
            }
        }
    }
}

/// The first word that looks like a version.
fn version_in(text: &str) -> String {
    let words =
        text.split_whitespace().map(|word| word.trim_start_matches("v=").trim_start_matches('v'));
    let mut versions = words.filter(|word| {
        word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.')
    });
    versions.next().unwrap_or("unknown").to_owned()
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    path: PathBuf,
}

impl Server {
    /// Starts a program and waits until it accepts connections.
    ///
    /// # Errors
    /// It does not.
    pub fn start(program: &Program, room: Room) -> Result<Server, ServerError> {
        let path = || program.path.clone();
        let spawn = |error| ServerError::Spawn { path: path(), error };
        let port = free_port().map_err(spawn)?;
        let child = Command::new(&program.path)
            .args(program.arguments(port, room))
            .env("CORELANE_LOG", "error")
            // What is faulted in ahead of use is no entry's.
            .env("CORELANE_PREFAULT", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(spawn)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Server { child, address, path: path() };
        server.wait_for_connections()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes, once it moves no more.
    ///
    /// # Errors
    /// It ended, or its memory cannot be read.
    pub fn settled_memory(&mut self) -> Result<u64, ServerError> {
        let pid = self.child.id();
        let started = Instant::now();
        let mut readings: Vec<u64> = Vec::new();
        loop {
            self.check_running()?;
            readings.push(resident_bytes(pid).map_err(|error| ServerError::Memory { pid, error })?);
            let last = readings.iter().rev().take(SETTLE_READINGS);
            let span = last.clone().max().unwrap_or(&0) - last.min().unwrap_or(&0);
            let settled = readings.len() >= SETTLE_READINGS && span <= SETTLE_BYTES;
            if settled || started.elapsed() > SETTLE_LIMIT {
                return Ok(*readings.last().expect("it was read"));
            }
            std::thread::sleep(SETTLE_STEP);
        }
    }

    /// Finds out whether it still runs.
    ///
    /// # Errors
    /// It does not.
    pub fn check_running(&mut self) -> Result<(), ServerError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(ServerError::Ended { path: self.path.clone(), status }),
            Ok(None) => Ok(()),
            Err(error) => Err(ServerError::Spawn { path: self.path.clone(), error }),
        }
    }

    fn wait_for_connections(&mut self) -> Result<(), ServerError> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            self.check_running()?;
            if TcpStream::connect_timeout(&self.address, START_LIMIT).is_ok() {
                return Ok(());
            }
            std::thread::sleep(START_STEP);
        }
        Err(ServerError::Silent { path: self.path.clone() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A port that was free a moment ago. The servers measured here cannot tell which one they
/// were given by the system.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Resident memory of a process, in bytes.
fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    resident_in(&status).ok_or_else(|| io::Error::other("there is no VmRSS in its status"))
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Looks for a program as a shell would.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        let check = |text, expected| assert_eq!(version_in(text), expected);
        check("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "7.0.15");
        check("memcached 1.6.18\n", "1.6.18");
        check("corelane 0.1.0", "0.1.0");
        check("", "unknown");
    }

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    1234 kB\nRssAnon: 1 kB\n"), Some(1_263_616));
        assert_eq!(resident_in("Name:\tx\n"), None);
        assert!(resident_bytes(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn every_server_is_kept_on_loopback() {
        for dialect in [Dialect::Native, Dialect::Resp, Dialect::Memcached] {
            let program = Program { name: String::new(), dialect, path: PathBuf::new() };
            let room = Room { items: 1_000, payload_bytes: 80, cores: 1, memory: None };
            let arguments = program.arguments(7_000, room).join(" ");
            assert!(arguments.contains("127.0.0.1"), "{arguments}");
            assert!(arguments.contains("7000"), "{arguments}");
        }
    }

    #[test]
    fn a_program_that_ends_is_noticed() {
        let path = on_path("false").expect("every system has it");
        let program = Program { name: "false".to_owned(), dialect: Dialect::Resp, path };
        let room = Room { items: 1, payload_bytes: 1, cores: 1, memory: None };
        let error = Server::start(&program, room).unwrap_err();
        assert!(matches!(error, ServerError::Ended { .. }), "{error}");
    }
}
