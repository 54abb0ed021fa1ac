//! Nodes as child processes.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use corelane_client::Client;
use corelane_uring::{Config, Ring};
use rustix::process::{Pid, Signal};

use crate::admin;
use crate::wire::Wire;

/// How long anything may take that has to happen. Far more than it takes, since machines that
/// run tests are busy.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks at something that gives no notice of its changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What every node is started with, unless a test says otherwise.
const DEFAULTS: [(&str, &str); 6] = [
    ("--listen", "127.0.0.1:0"),
    ("--admin", "127.0.0.1:0"),
    ("--http", "127.0.0.1:0"),
    ("--cores", "1"),
    ("--memory", "64MiB"),
    ("--pin", "off"),
];

/// The kernel interface of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    Uring,
    Epoll,
}

impl Io {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Io::Uring => "uring",
            Io::Epoll => "epoll",
        }
    }

    /// Whether this host has it; says why not.
    pub(crate) fn is_here(self) -> bool {
        let trial = Config {
            queue_entries: 8,
            completion_entries: 16,
            slots: 8,
            buffers: 8,
            buffer_bytes: 4096,
        };
        match self {
            Io::Epoll => true,
            Io::Uring => match <Ring>::new(&trial) {
                Ok(_) => true,
                Err(reason) => {
                    eprintln!("not run: {reason}");
                    false
                }
            },
        }
    }
}

/// The binary with these arguments and no settings from the environment.
pub(crate) fn corelane(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments).stdin(Stdio::null());
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("CORELANE_") {
            command.env_remove(variable);
        }
    }
    command
}

/// `corelane serve` with `more`, and the defaults for what that leaves open.
pub(crate) fn serve(io: Io, more: &[&str]) -> Command {
    let mut arguments = vec!["serve", "--io", io.name()];
    for (flag, value) in DEFAULTS {
        if !more.contains(&flag) {
            arguments.extend([flag, value]);
        }
    }
    arguments.extend(more);
    corelane(&arguments)
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Ended {
    Process::spawn(command).ended()
}

/// How a process ended, and what it had printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// A child whose output is collected; killed when a test ends before it does.
struct Process {
    child: Child,
    /// Lines of its standard output. Closed once the process has ended.
    stdout: mpsc::Receiver<String>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<thread::JoinHandle<()>>,
}

impl Process {
    fn spawn(mut command: Command) -> Process {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (lines, stdout) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            for line in output.lines() {
                // A test that is over reads no more.
                let _ = lines.send(line.expect("text"));
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&stderr);
        let mut errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let reader = thread::spawn(move || {
            let mut line = String::new();
            while errors.read_line(&mut line).is_ok_and(|length| length > 0) {
                collected.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Process { child, stdout, stderr, stderr_reader: Some(reader) }
    }

    fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    fn ended(mut self) -> Ended {
        let deadline = Instant::now() + WAIT_MAX;
        let mut stdout = String::new();
        loop {
            match self.stdout.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => stdout = stdout + &line + "\n",
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the process does not end"),
            }
        }
        // Its output is closed, so it has ended or is about to.
        let status = self.child.wait().expect("a child");
        self.stderr_reader.take().expect("still there").join().expect("the reader ends");
        Ended { status, stdout, stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already where the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.stderr();
        if thread::panicking() {
            eprintln!("the process said:\n{said}");
        } else {
            assert!(!said.contains("panicked"), "{said}");
        }
    }
}

/// A node that serves.
pub(crate) struct Node {
    process: Process,
    /// Where clients connect, in the order of `--listen`.
    pub(crate) addresses: Vec<String>,
    /// Where the admin port is.
    pub(crate) admin: String,
    /// Its line, cut into the words `name=value`.
    pub(crate) ready: BTreeMap<String, String>,
    /// The header line that its metrics need, or nothing.
    credentials: String,
}

impl Node {
    /// Starts a small node of one core, unless `more` says otherwise, and waits until it serves.
    pub(crate) fn start(io: Io, more: &[&str]) -> Node {
        Node::started_by(serve(io, more))
    }

    /// Waits until the node that a command starts serves.
    pub(crate) fn started_by(command: Command) -> Node {
        let process = Process::spawn(command);
        let line = match process.stdout.recv_timeout(WAIT_MAX) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the node does not get ready"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                panic!("the node did not start: {:?}", process.ended())
            }
        };
        let rest = line.strip_prefix("corelane 0.1.0 ready: ").expect("the line of a node");
        let ready: BTreeMap<String, String> = rest
            .split(' ')
            .map(|word| word.split_once('=').expect("name=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let addresses = ready["listen"].split(',').map(str::to_owned).collect();
        let admin = ready["admin"].clone();
        Node { process, addresses, admin, ready, credentials: String::new() }
    }

    /// Its first address.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// A connection on which nothing was said.
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.address())
    }

    /// A client with a time limit that is there for hanging nodes only.
    pub(crate) async fn client(&self) -> Client {
        Client::builder()
            .address(self.address())
            .timeout(WAIT_MAX)
            .connect_timeout(WAIT_MAX)
            .connect()
            .await
            .expect("the node serves")
    }

    /// Panics unless the node serves a new connection.
    pub(crate) fn assert_serves(&self) {
        self.connect().assert_served();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the process is ours");
    }

    /// Whether a signal is handled and not fatal (`SigCgt`).
    pub(crate) fn catches(&self, signal: Signal) -> bool {
        let mask = u64::from_str_radix(&self.status("SigCgt:"), 16).expect("a mask");
        mask & (1 << (signal.as_raw() - 1)) != 0
    }

    /// Waits for its end.
    pub(crate) fn ended(self) -> Ended {
        self.process.ended()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    /// How many descriptors it has.
    pub(crate) fn open_files(&self) -> u64 {
        fs::read_dir(self.proc("fd")).expect("it runs").count() as u64
    }

    /// What it has in memory, in bytes (`VmRSS`).
    pub(crate) fn resident_bytes(&self) -> u64 {
        let text = self.status("VmRSS:");
        let kibibytes: u64 = text.trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024
    }

    /// The CPUs that each data core may run on, as the kernel lists them, by core.
    pub(crate) fn cpus_of_cores(&self) -> BTreeMap<u16, String> {
        let mut cpus = BTreeMap::new();
        for task in fs::read_dir(self.proc("task")).expect("it runs") {
            let task = task.expect("a thread").path();
            let name = fs::read_to_string(task.join("comm")).expect("it runs");
            let Some(core) = name.trim().strip_prefix("core-") else { continue };
            let status = fs::read_to_string(task.join("status")).expect("it runs");
            let allowed =
                status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
            cpus.insert(core.parse().expect("a core"), allowed.trim().to_owned());
        }
        cpus
    }

    /// A line of its status, without its name.
    fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(self.proc("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().to_owned()
    }

    /// The sum of one of its numbers over the cores.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.counter(name).iter().sum()
    }

    fn proc(&self, entry: &str) -> String {
        format!("/proc/{}/{entry}", self.process.child.id())
    }

    /// Lets the metrics be read where they need this token.
    pub(crate) fn with_token(self, token: &str) -> Node {
        Node { credentials: format!("Authorization: Bearer {token}\r\n"), ..self }
    }

    /// One of its numbers, by core, at the time of the last publication.
    pub(crate) fn counter(&self, name: &str) -> Vec<u64> {
        let metrics = admin::get_with(&self.admin, "/metrics", &self.credentials).body;
        let start = |suffix: &str| format!("corelane_{name}{suffix}{{core=\"");
        let values: Vec<u64> = metrics
            .lines()
            .filter_map(|line| {
                let rest = line
                    .strip_prefix(&start("_total"))
                    .or_else(|| line.strip_prefix(&start("")))?;
                rest.split_once("\"} ")?.1.parse().ok()
            })
            .collect();
        assert!(!values.is_empty(), "no counter {name} in {metrics}");
        values
    }

    /// Waits until one of its numbers, summed over the cores, is as wanted.
    pub(crate) fn until_counter(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        eventually(name, || wanted(self.counter(name).iter().sum()));
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "never so: {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Runs the asynchronous part of a test.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Reads to the end of a stream that may be reset.
pub(crate) fn read_to_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before an error counts.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}
