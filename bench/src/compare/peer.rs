//! What a server is, where it is, and how it is started with one thread.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use super::options::CompareOptions;

/// How long a server may take to tell its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const VERSION_LOOK_EVERY: Duration = Duration::from_millis(5);
/// Connections beside those of the load that memcached is told to expect.
const SPARE_CONNECTIONS: usize = 16;
/// As many as it expects where nobody says.
const CONNECTIONS_MIN: usize = 1_024;

/// A server to compare with, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec {
    /// What it is called in the result.
    pub name: String,
    /// Its executable; to be found on PATH without.
    pub path: Option<PathBuf>,
}

/// A variable of one server's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerVariable {
    /// The server's name.
    pub peer: String,
    /// The variable's.
    pub variable: String,
    /// What it is set to.
    pub value: String,
}

/// Why a server is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is not installed.
    #[error("{name}: there is no {executable} on PATH")]
    NotOnPath {
        /// Its name.
        name: String,
        /// What was looked for.
        executable: &'static str,
    },
    /// Nobody knows what it is.
    #[error("{name} needs a path, as {name}=PATH: only redis, valkey and memcached are looked for")]
    NoPath {
        /// Its name.
        name: String,
    },
    /// It does not tell its version.
    #[error("{name}: {} --version: {error}", path.display())]
    Version {
        /// Its name.
        name: String,
        /// Its executable.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is something else.
    #[error("{name}: {} is no Redis, Valkey, memcached or Corelane: it calls itself {words:?}", path.display())]
    Unknown {
        /// Its name.
        name: String,
        /// Its executable.
        path: PathBuf,
        /// What it said.
        words: String,
    },
    /// There is no Corelane.
    #[error("there is no {}: build it beside this program, or name it by --binary", path.display())]
    NoCorelane {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Two servers of one name.
    #[error("two servers are called {name}")]
    Twice {
        /// The name.
        name: String,
    },
    /// A variable is for nobody.
    #[error("there is no peer {name} to set {variable} for")]
    Nobody {
        /// The name.
        name: String,
        /// The variable.
        variable: String,
    },
}

/// What a server is, which tells how it is started and what it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Corelane.
    Corelane,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// memcached.
    Memcached,
}

/// What a row is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The Corelane that all others are compared with.
    Corelane,
    /// Another server.
    Peer,
    /// Another Corelane, or the cache that copies: compared like a peer, and never the best of
    /// them.
    Variant,
    /// The kernel's floor.
    Floor,
}

/// A server that can be started.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it is called in the result.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it is compared as.
    pub role: Role,
    /// Its version.
    pub version: String,
    /// Its executable.
    path: PathBuf,
    /// Variables of its environment.
    environment: Vec<(String, String)>,
    /// Arguments beside those of every server of its kind.
    arguments: Vec<String>,
}

/// How a server shall run.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// The CPU of its threads.
    pub cpu: Option<usize>,
    /// Connections that the load will open.
    pub connections: usize,
    /// Its memory, in bytes.
    pub memory: u64,
}

/// How a process is started. Printed as a shell would take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Variables of its environment beside those of this process.
    pub environment: Vec<(String, String)>,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl PeerSpec {
    /// What is looked for on PATH where only a name was given.
    fn executable(&self) -> Option<&'static str> {
        match &self.name[..] {
            "redis" => Some("redis-server"),
            "valkey" => Some("valkey-server"),
            "memcached" => Some("memcached"),
            _ => None,
        }
    }

    /// Whether it stands for no server at all.
    pub(super) fn is_none(&self) -> bool {
        self.name == "none" && self.path.is_none()
    }
}

impl FromStr for PeerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<PeerSpec, String> {
        let (name, path) = match text.split_once('=') {
            Some((_, "")) => return Err("NAME=PATH needs a path".to_owned()),
            Some((name, path)) => (name, Some(PathBuf::from(path))),
            None => (text, None),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err("a name has letters, digits, dots, dashes and underscores".to_owned());
        }
        if ["corelane", "floor"].contains(&name) {
            return Err(format!("{name} is in every comparison: choose another name"));
        }
        Ok(PeerSpec { name: name.to_owned(), path })
    }
}

impl fmt::Display for PeerSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(formatter, "{}={}", self.name, path.display()),
            None => formatter.write_str(&self.name),
        }
    }
}

impl FromStr for PeerVariable {
    type Err = String;

    fn from_str(text: &str) -> Result<PeerVariable, String> {
        let parts = text.split_once(':').and_then(|(peer, setting)| {
            let (variable, value) = setting.split_once('=')?;
            (!peer.is_empty() && !variable.is_empty()).then_some((peer, variable, value))
        });
        let (peer, variable, value) = parts.ok_or("NAME:VARIABLE=VALUE is expected")?;
        Ok(PeerVariable {
            peer: peer.to_owned(),
            variable: variable.to_owned(),
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for PeerVariable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}={}", self.peer, self.variable, self.value)
    }
}

impl Serialize for PeerSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for PeerVariable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Checks that every server has a name of its own, and every variable a server.
///
/// # Errors
/// One has not.
pub(super) fn check_names(options: &CompareOptions) -> Result<(), PeerError> {
    for (index, peer) in options.peers.iter().enumerate() {
        if options.peers[..index].iter().any(|other| other.name == peer.name) {
            return Err(PeerError::Twice { name: peer.name.clone() });
        }
    }
    let named = |name: &str| options.peers.iter().any(|peer| peer.name == name);
    match options.peer_env.iter().find(|variable| !named(&variable.peer)) {
        Some(PeerVariable { peer, variable, .. }) => {
            Err(PeerError::Nobody { name: peer.clone(), variable: variable.clone() })
        }
        None => Ok(()),
    }
}

impl Peer {
    /// The Corelane that is compared.
    ///
    /// # Errors
    /// It is not there.
    pub fn corelane(options: &CompareOptions) -> Result<Peer, PeerError> {
        let path = options.binary.clone().unwrap_or_else(|| {
            std::env::current_exe().unwrap_or_default().with_file_name("corelane")
        });
        if !is_executable(&path) {
            return Err(PeerError::NoCorelane { path });
        }
        let mut peer = Peer::identify("corelane", path, Vec::new())?;
        if peer.kind != Kind::Corelane {
            let words = peer.version;
            return Err(PeerError::Unknown { name: peer.name, path: peer.path, words });
        }
        peer.role = Role::Corelane;
        peer.arguments = options.node_arg.clone();
        Ok(peer)
    }

    /// A server that was asked for.
    ///
    /// # Errors
    /// It is not there, or not what can be compared.
    pub fn find(spec: &PeerSpec, options: &CompareOptions) -> Result<Peer, PeerError> {
        let name = || spec.name.clone();
        let path = match (&spec.path, spec.executable()) {
            (Some(path), _) => path.clone(),
            (None, Some(executable)) => on_path(executable)
                .ok_or_else(|| PeerError::NotOnPath { name: name(), executable })?,
            (None, None) => return Err(PeerError::NoPath { name: name() }),
        };
        let environment = options.peer_env.iter().filter(|variable| variable.peer == spec.name);
        let environment =
            environment.map(|variable| (variable.variable.clone(), variable.value.clone()));
        Peer::identify(&spec.name, path, environment.collect())
    }

    /// Asks an executable what it is.
    fn identify(
        name: &str,
        path: PathBuf,
        environment: Vec<(String, String)>,
    ) -> Result<Peer, PeerError> {
        let name = name.to_owned();
        let words = match ask_version(&path, &environment) {
            Ok(words) => words,
            Err(error) => return Err(PeerError::Version { name, path, error }),
        };
        let Some((kind, version)) = parse_version(&words) else {
            return Err(PeerError::Unknown { name, path, words });
        };
        let role = if kind == Kind::Corelane { Role::Variant } else { Role::Peer };
        Ok(Peer { name, kind, role, version, path, environment, arguments: Vec::new() })
    }

    /// How it is started on a port of loopback, with what it writes in a directory.
    pub(super) fn command(&self, launch: &Launch, port: u16, directory: &Path) -> CommandLine {
        let memory_mib = (launch.memory >> 20).to_string();
        let line = match self.kind {
            Kind::Corelane => format!(
                "serve --listen 127.0.0.1:{port} --admin none --http none --cores 1 --memory {memory_mib}MiB"
            ),
            Kind::Redis | Kind::Valkey => format!(
                "--bind 127.0.0.1 --port {port} --io-threads 1 --appendonly no --daemonize no"
            ),
            Kind::Memcached => format!(
                "-l 127.0.0.1 -p {port} -U 0 -t 1 -m {memory_mib} -c {}",
                (launch.connections + SPARE_CONNECTIONS).max(CONNECTIONS_MIN)
            ),
        };
        let mut arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match self.kind {
            Kind::Corelane => {}
            Kind::Redis | Kind::Valkey => {
                let directory = directory.display().to_string();
                arguments.extend(["--save", "", "--dir", &directory].map(str::to_owned));
            }
            Kind::Memcached if runs_as_root() => {
                // It refuses to run as root unless it is told to.
                arguments.extend(["-u", "root"].map(str::to_owned));
            }
            Kind::Memcached => {}
        }
        arguments.extend(self.arguments.iter().cloned());
        CommandLine { environment: self.environment.clone(), program: self.path.clone(), arguments }
    }
}

impl CommandLine {
    /// The command, ready to be given its streams.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        command
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (variable, value) in &self.environment {
            write!(formatter, "{variable}={} ", quoted(value))?;
        }
        formatter.write_str(&quoted(&self.program.display().to_string()))?;
        self.arguments.iter().try_for_each(|argument| write!(formatter, " {}", quoted(argument)))
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:=,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn runs_as_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn on_path(executable: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join(executable))
        .find(|path| is_executable(path))
}

/// The first line of what a program says when it is asked for its version.
fn ask_version(path: &Path, environment: &[(String, String)]) -> io::Result<String> {
    let mut child = Command::new(path)
        .arg("--version")
        .envs(environment.iter().map(|(variable, value)| (variable, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + VERSION_PATIENCE;
    // What versions say fits a pipe, so that no program waits for its reader here.
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(VERSION_LOOK_EVERY);
    }
    let mut words = String::new();
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut words)?;
    }
    Ok(words.lines().next().unwrap_or_default().trim().to_owned())
}

/// What a program is, from what it says of itself.
fn parse_version(words: &str) -> Option<(Kind, String)> {
    let (kind, rest) = if let Some(rest) = words.strip_prefix("Redis server v=") {
        (Kind::Redis, rest)
    } else if let Some(rest) = words.strip_prefix("Valkey server v=") {
        (Kind::Valkey, rest)
    } else if let Some(rest) = words.strip_prefix("memcached ") {
        (Kind::Memcached, rest)
    } else {
        (Kind::Corelane, words.strip_prefix("corelane ")?)
    };
    Some((kind, rest.split_whitespace().next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command as CliCommand};
    use clap::Parser;

    fn options(arguments: &[&str]) -> Result<CompareOptions, clap::Error> {
        let cli = Cli::try_parse_from([&["corelane-bench", "compare"], arguments].concat())?;
        match cli.command {
            Some(CliCommand::Compare(options)) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn peers_are_names_with_or_without_paths() {
        let peers = options(&["--peers", "redis,valkey9=/opt/v/valkey-server"]).unwrap().peers;
        let path = Some(PathBuf::from("/opt/v/valkey-server"));
        let expected = [
            PeerSpec { name: "redis".to_owned(), path: None },
            PeerSpec { name: "valkey9".to_owned(), path },
        ];
        assert_eq!(peers, expected);
        assert_eq!(peers[1].to_string(), "valkey9=/opt/v/valkey-server");
        let defaults: Vec<String> =
            options(&[]).unwrap().peers.iter().map(ToString::to_string).collect();
        assert_eq!(defaults, ["redis", "valkey", "memcached"]);
        for wrong in ["", "=path", "a=", "corelane", "floor=/bin/true", "two words", "a:b"] {
            assert!(wrong.parse::<PeerSpec>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn variables_belong_to_a_peer() {
        let line = ["--peers", "v=/bin/v", "--peer-env", "v:LD_PRELOAD=/lib/a=b.so"];
        let options_of = options(&line).unwrap();
        check_names(&options_of).unwrap();
        let expected = PeerVariable {
            peer: "v".to_owned(),
            variable: "LD_PRELOAD".to_owned(),
            value: "/lib/a=b.so".to_owned(),
        };
        assert_eq!(options_of.peer_env, [expected]);
        for wrong in ["v", "v:A", ":A=b", "v:=b"] {
            assert!(wrong.parse::<PeerVariable>().is_err(), "{wrong:?}");
        }
        let nobody = options(&["--peers", "v=/bin/v", "--peer-env", "w:A=b"]).unwrap();
        assert!(matches!(check_names(&nobody), Err(PeerError::Nobody { .. })));
        let twice = options(&["--peers", "redis,redis=/bin/r"]).unwrap();
        assert!(matches!(check_names(&twice), Err(PeerError::Twice { .. })));
    }

    #[test]
    fn servers_say_what_they_are() {
        let check = |words: &str, kind, version: &str| {
            assert_eq!(parse_version(words), Some((kind, version.to_owned())));
        };
        check("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", Kind::Redis, "7.0.15");
        check("Valkey server v=9.1.2 sha=0:1 malloc=libc", Kind::Valkey, "9.1.2");
        check("memcached 1.6.18", Kind::Memcached, "1.6.18");
        check("corelane 0.1.0", Kind::Corelane, "0.1.0");
        assert_eq!(parse_version("nginx version: 1"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn every_server_has_one_thread_on_loopback() {
        let launch = Launch { cpu: Some(0), connections: 50, memory: 300 << 20 };
        let line = |kind| {
            let peer = Peer {
                name: "it".to_owned(),
                kind,
                role: Role::Peer,
                version: String::new(),
                path: PathBuf::from("/opt/it's/server"),
                environment: vec![("LD_PRELOAD".to_owned(), "/lib/a b.so".to_owned())],
                arguments: vec!["--more".to_owned()],
            };
            peer.command(&launch, 4_000, Path::new("/tmp/d")).to_string()
        };
        let check = |kind, parts: &[&str]| {
            let line = line(kind);
            for part in parts {
                assert!(line.contains(part), "{part} in {line}");
            }
        };
        let start = r"LD_PRELOAD='/lib/a b.so' '/opt/it'\''s/server' ";
        check(
            Kind::Corelane,
            &[start, "--listen 127.0.0.1:4000", "--cores 1", "--memory 300MiB", " --more"],
        );
        check(Kind::Redis, &["--bind 127.0.0.1", "--io-threads 1", "--save '' --dir /tmp/d"]);
        check(Kind::Valkey, &["--port 4000", "--appendonly no"]);
        check(Kind::Memcached, &["-l 127.0.0.1 -p 4000", "-t 1", "-m 300"]);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let options = options(&["--binary", "/nowhere/corelane"]).unwrap();
        assert!(matches!(Peer::corelane(&options), Err(PeerError::NoCorelane { .. })));
        let find = |text: &str| Peer::find(&text.parse().unwrap(), &options).map(|peer| peer.name);
        assert!(matches!(find("pogocache"), Err(PeerError::NoPath { .. })));
        assert!(matches!(find("a=/nowhere/redis-server"), Err(PeerError::Version { .. })));
        assert!(matches!(find("a=/bin/true"), Err(PeerError::Unknown { .. })));
    }
}
