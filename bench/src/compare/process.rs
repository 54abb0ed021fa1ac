//! Servers as processes of their own: pinned, on a free port of loopback, in a directory of
//! their own, and gone when whoever started them is.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::generator::Address;

use super::peer::{CommandLine, Launch, Peer};

/// How long a server may take until it accepts connections.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is tried.
const START_LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often another port is taken, since somebody else may be faster.
const PORTS_TRIED: usize = 3;
/// How much of what a server wrote last is shown when it does not start.
const LOG_SHOWN_BYTES: u64 = 2_000;
/// The exit code of a program that a signal ended, as shells reckon it.
const EXIT_SIGNAL: i32 = 130;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process, or what it needs.
    #[error("{0}")]
    System(#[from] io::Error),
    /// It ended at once.
    #[error("{command} ended ({status}):\n{log}")]
    Ended {
        /// How it was started.
        command: Box<CommandLine>,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote last.
        log: String,
    },
    /// It accepts no connections.
    #[error("{command} accepts no connections after {} s:\n{log}", START_PATIENCE.as_secs())]
    Silent {
        /// How it was started.
        command: Box<CommandLine>,
        /// What it wrote last.
        log: String,
    },
}

/// A process, and the directory that it has for itself.
#[derive(Debug)]
struct Running {
    child: Child,
    directory: PathBuf,
}

impl Running {
    /// Ends it. Its data is worth nothing, so that there is no reason to be gentle.
    fn end(mut self) {
        // A process that has ended already is what is wanted, and a directory that cannot be
        // removed no reason to leave the other processes running.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// All servers that run, so that a signal can end them too. Copies are the same fleet.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    running: Arc<Mutex<Vec<Running>>>,
}

impl Fleet {
    /// A list of processes is right whatever its last user did.
    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: u32) {
        let mut running = self.lock();
        if let Some(index) = running.iter().position(|process| process.child.id() == id) {
            running.swap_remove(index).end();
        }
    }

    /// Ends all servers.
    pub fn end_all(&self) {
        self.lock().drain(..).for_each(Running::end);
    }
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct ServerProcess {
    fleet: Fleet,
    id: u32,
    address: SocketAddr,
    command: CommandLine,
}

impl ServerProcess {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Tcp(self.address.to_string())
    }

    /// How it was started.
    pub fn command(&self) -> &CommandLine {
        &self.command
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.fleet.end(self.id);
    }
}

/// Starts a server, and waits until it accepts connections.
///
/// # Errors
/// It does not.
pub fn start(fleet: &Fleet, peer: &Peer, launch: &Launch) -> Result<ServerProcess, StartError> {
    let mut tried = 1;
    loop {
        match start_once(fleet, peer, launch) {
            Err(StartError::Ended { .. }) if tried < PORTS_TRIED => tried += 1,
            other => return other,
        }
    }
}

fn start_once(fleet: &Fleet, peer: &Peer, launch: &Launch) -> Result<ServerProcess, StartError> {
    let directory = make_directory()?;
    let address = free_address()?;
    let command = peer.command(launch, address.port(), &directory);
    let log_path = directory.join("log");
    let log = File::create(&log_path)?;
    let mut process = command.command();
    process.current_dir(&directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = spawn_on(launch.cpu, process)?;
    let id = child.id();
    fleet.lock().push(Running { child, directory });
    let server = ServerProcess { fleet: fleet.clone(), id, address, command };
    wait_for(&server, &log_path)?;
    Ok(server)
}

/// Starts a process whose threads stay on one CPU: they inherit that from the thread that
/// starts it.
fn spawn_on(cpu: Option<usize>, mut process: std::process::Command) -> io::Result<Child> {
    let pinned = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(id) = cpu {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            process.spawn()
        });
        thread.join()
    });
    pinned.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn wait_for(server: &ServerProcess, log: &Path) -> Result<(), StartError> {
    let command = || Box::new(server.command.clone());
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let ended = {
            let mut running = server.fleet.lock();
            let process = running.iter_mut().find(|process| process.child.id() == server.id);
            // Only a signal takes processes away, and then this one ends too.
            process.map_or(Ok(None), |process| process.child.try_wait())?
        };
        if let Some(status) = ended {
            return Err(StartError::Ended { command: command(), status, log: tail(log) });
        }
        if TcpStream::connect_timeout(&server.address, START_PATIENCE).is_ok() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(StartError::Silent { command: command(), log: tail(log) });
        }
        std::thread::sleep(START_LOOK_EVERY);
    }
}

/// The end of a file, as far as it can be read.
fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_SHOWN_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
}

/// A port that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A new directory that is this user's alone.
fn make_directory() -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("corelane-bench-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

/// Ends the fleet and then this process when it is told to end, by SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// The system refuses it.
pub fn end_on_signal(fleet: Fleet) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]
    };
    let wait = move || {
        runtime.block_on(std::future::poll_fn(|context| {
            let any = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
        fleet.end_all();
        std::process::exit(EXIT_SIGNAL);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn is_running(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn a_fleet_ends_its_processes_and_removes_their_directories() {
        let fleet = Fleet::default();
        let mut ids = Vec::new();
        let mut directories = Vec::new();
        for _ in 0..2 {
            let directory = make_directory().unwrap();
            let mut command = Command::new("sleep");
            command.arg("1000").current_dir(&directory);
            let child = spawn_on(None, command).unwrap();
            ids.push(child.id());
            directories.push(directory.clone());
            fleet.lock().push(Running { child, directory });
        }
        assert!(ids.iter().all(|id| is_running(*id)));
        fleet.end(ids[0]);
        assert!(!is_running(ids[0]) && is_running(ids[1]));
        fleet.end_all();
        assert!(!is_running(ids[1]));
        assert!(directories.iter().all(|directory| !directory.exists()));
        fleet.end(ids[0]);
    }

    #[test]
    fn processes_inherit_the_cpu() {
        let cpu = core_affinity::get_core_ids().unwrap().last().unwrap().id;
        let mut command = Command::new("cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        let output = spawn_on(Some(cpu), command).unwrap().wait_with_output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        assert!(status.contains(&format!("Cpus_allowed_list:\t{cpu}\n")), "{status}");
    }

    #[test]
    fn the_end_of_a_log_is_shown() {
        let directory = make_directory().unwrap();
        let path = directory.join("log");
        let long = "x".repeat(LOG_SHOWN_BYTES as usize) + "last words\n";
        fs::write(&path, &long).unwrap();
        assert!(tail(&path).ends_with("xlast words"));
        assert!(tail(&path).len() < long.len());
        fs::remove_dir_all(&directory).unwrap();
        assert!(tail(&path).starts_with("(its log cannot be read"));
    }
}
