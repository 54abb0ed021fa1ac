//! The node's configuration: one plain struct of values that cannot be wrong by themselves.
//!
//! [`resolve`] makes it from flags, environment, file and the machine's
//! defaults, in this order of precedence; each setting is declared once, in [`settings`].
//! Programs that embed a node start from [`Config::default`] and change fields. What is
//! wrong only in combination is found by [`Config::check`], which the node calls as well.

pub mod host;
pub mod settings;
pub mod sources;
pub mod token;
pub mod values;

use corelane_dialect::Dialects;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use host::Host;
pub use sources::{Origin, Resolved, Sources, resolve};
pub use token::Token;
pub use values::{
    Cores, EvictionOrder, EvictionScope, HugePages, Insecure, Io, JitterMode, ListenAddress,
    MemoryNodes, NodeName, Pin, Policy, Prefault, TableHash, ValueError,
};

/// Least memory that each data core must get, in bytes.
pub const MEMORY_PER_CORE_MIN: u64 = 32 << 20;
/// Largest `memory`, in bytes.
pub const MEMORY_MAX: u64 = 64 << 40;
/// Memory where the machine does not tell how much it has, in bytes.
const MEMORY_UNKNOWN: u64 = 1 << 30;
/// Largest `value_bytes_max`.
pub const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Largest `connections_max`.
pub const CONNECTIONS_MAX: u64 = 1_000_000;
/// `connections_max` where the limit of open files allows it.
pub const CONNECTIONS_DEFAULT: usize = 10_000;
/// Largest `ttl_jitter_percent`: more would let an entry live under half its time.
pub const TTL_JITTER_PERCENT_MAX: u8 = 50;
/// Largest `spin_us`.
pub const SPIN_US_MAX: u64 = 1_000;
/// Smallest and largest `output_bytes_max`.
pub const OUTPUT_BYTES_RANGE: (u64, u64) = (64 << 10, 1 << 30);

/// Everything a node is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the node calls itself.
    pub node_name: NodeName,
    /// Where clients connect; at least one.
    pub listen: Vec<ListenAddress>,
    /// What is spoken there.
    pub dialects: Dialects,
    /// Where health and metrics are served, if they are.
    pub admin: Option<SocketAddr>,
    /// The file with the topology of the cluster that the node is in, if it is in one.
    pub topology: Option<PathBuf>,
    /// For how long slots that leave are kept, and slots that come are warmed, in milliseconds; if
    /// they are.
    pub warm_up_ms: Option<u64>,
    /// Where the cache is served over HTTP, if it is.
    pub http: Option<SocketAddr>,
    /// The data cores.
    pub cores: Cores,
    /// Whether they stay on their CPUs.
    pub pin: Pin,
    /// The kernel interface they use.
    pub io: Io,
    /// How long a core looks for work before it sleeps, in microseconds.
    pub spin_us: u64,
    /// Memory of the whole process, in bytes.
    pub memory: u64,
    /// How far it may be raised while running, in bytes; `memory` where nothing is said.
    pub memory_max: Option<u64>,
    /// How much of it is faulted in before it is needed.
    pub prefault: Prefault,
    /// Whether it is backed by huge pages.
    pub huge_pages: HugePages,
    /// Which memory node it comes from.
    pub memory_nodes: MemoryNodes,
    /// What happens when it is full.
    pub policy: Policy,
    /// The hash of the table.
    pub hash: TableHash,
    /// Longest value, in bytes.
    pub value_bytes_max: usize,
    /// Time to live of entries that are written without one, in milliseconds.
    pub default_ttl_ms: Option<u64>,
    /// Which times to live are spread at random.
    pub ttl_jitter: JitterMode,
    /// By how much either way, in percent.
    pub ttl_jitter_percent: u8,
    /// Most client connections of the whole node at a time.
    pub connections_max: usize,
    /// Bytes of replies waiting for one connection from which on it is not read any more.
    pub output_bytes_max: usize,
    /// How long half a frame may stay half, and a hello or a token be missing, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long a shutdown waits for clients to read their replies, in milliseconds.
    pub drain_timeout_ms: u64,
    /// What clients must prove before anything else.
    pub auth_token: Option<Token>,
    /// Whether the node may be reached from other machines without a token.
    pub insecure: Insecure,
}

impl Default for Config {
    /// The defaults on this machine: reads its memory, limits and name.
    fn default() -> Config {
        Config::for_host(&Host::read())
    }
}

impl Config {
    /// The defaults on a machine.
    pub fn for_host(host: &Host) -> Config {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let name = host.name.as_deref().and_then(|name| name.parse().ok());
        let mut config = Config {
            node_name: name.unwrap_or_else(|| "corelane".parse().expect("a valid name")),
            listen: vec![ListenAddress::Tcp(loopback(7400))],
            dialects: Dialects::ALL,
            admin: Some(loopback(7401)),
            topology: None,
            warm_up_ms: None,
            http: Some(loopback(7402)),
            cores: Cores::Auto,
            pin: Pin::On,
            io: Io::Auto,
            spin_us: 0,
            memory: host.memory_bytes.map_or(MEMORY_UNKNOWN, three_quarters),
            memory_max: None,
            prefault: Prefault::Ahead,
            huge_pages: HugePages::Ahead,
            memory_nodes: MemoryNodes::Local,
            policy: Policy::Evict { order: EvictionOrder::S3, scope: EvictionScope::AllKeys },
            hash: TableHash::Rapid,
            value_bytes_max: 1 << 20,
            default_ttl_ms: None,
            ttl_jitter: JitterMode::Asked,
            ttl_jitter_percent: 10,
            connections_max: CONNECTIONS_DEFAULT,
            output_bytes_max: 1 << 20,
            idle_timeout_ms: 30_000,
            drain_timeout_ms: 10_000,
            auth_token: None,
            insecure: Insecure::Off,
        };
        config.lower_connections(host);
        config
    }

    /// Lowers `connections_max` to what the limit of open files allows.
    fn lower_connections(&mut self, host: &Host) {
        let possible = host.open_files.hard.saturating_sub(self.descriptors_besides(host));
        let possible = usize::try_from(possible).unwrap_or(usize::MAX);
        self.connections_max = self.connections_max.min(possible).max(1);
    }

    /// How many file descriptors the node may have open at once.
    pub fn descriptors(&self, host: &Host) -> u64 {
        self.descriptors_besides(host) + self.connections_max as u64
    }

    /// How many of them are not connections. Every core has a listener for every address.
    fn descriptors_besides(&self, host: &Host) -> u64 {
        let per_core = host::DESCRIPTORS_PER_CORE + self.listen.len() as u64;
        host::DESCRIPTORS_RESERVED + per_core * self.cores.count(host.cpus) as u64
    }

    /// Finds what is wrong in combination.
    ///
    /// # Errors
    /// The first of: no or doubled addresses, reachable from other machines without a
    /// token, too little memory for the cores, more connections than open files allow.
    pub fn check(&self, host: &Host) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoListener);
        }
        for (index, address) in self.listen.iter().enumerate() {
            let any_port = matches!(address, ListenAddress::Tcp(address) if address.port() == 0);
            let other = matches!(address, ListenAddress::Tcp(address)
                if [self.admin, self.http].contains(&Some(*address)));
            if !any_port && (other || self.listen[..index].contains(address)) {
                return Err(ConfigError::SameAddress { address: address.to_string() });
            }
        }
        if let Some(address) = self.http.filter(|address| address.port() != 0)
            && self.admin == self.http
        {
            return Err(ConfigError::SameAddress { address: address.to_string() });
        }
        self.check_exposure()?;
        let cores = self.cores.count(host.cpus);
        let memory_min = MEMORY_PER_CORE_MIN * cores as u64;
        if self.memory < memory_min {
            return Err(ConfigError::MemoryTooSmall { memory: self.memory, cores, memory_min });
        }
        if let Some(most) = self.memory_max.filter(|most| *most < self.memory) {
            return Err(ConfigError::MemoryOverMost { memory: self.memory, most });
        }
        let (needed, hard) = (self.descriptors(host), host.open_files.hard);
        if needed > hard {
            return Err(ConfigError::OpenFiles {
                connections_max: self.connections_max,
                needed,
                hard,
                possible: hard.saturating_sub(self.descriptors_besides(host)),
            });
        }
        Ok(())
    }

    fn check_exposure(&self) -> Result<(), ConfigError> {
        if self.auth_token.is_some() || self.insecure == Insecure::On {
            return Ok(());
        }
        let exposed = |setting, address: String| Err(ConfigError::Exposed { setting, address });
        if let Some(address) = self.listen.iter().find(|address| !address.is_local()) {
            return exposed("listen", address.to_string());
        }
        for (setting, address) in [("admin", &self.admin), ("http", &self.http)] {
            if let Some(address) = address.filter(|address| !values::is_loopback(address)) {
                return exposed(setting, address.to_string());
            }
        }
        Ok(())
    }

    /// What works, but probably not as meant.
    pub fn warnings(&self, host: &Host) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let Some(machine) = host.memory_bytes.filter(|machine| self.memory > *machine) {
            warnings.push(Warning::MemoryOverMachine { memory: self.memory, machine });
        }
        let cores = self.cores.count(host.cpus);
        if cores > host.cpus {
            warnings.push(Warning::MoreCoresThanCpus { cores, cpus: host.cpus });
        }
        if self.insecure == Insecure::On
            && self.auth_token.is_none()
            && let Some(address) = self.listen.iter().find(|address| !address.is_local())
        {
            warnings.push(Warning::Unprotected { address: address.to_string() });
        }
        warnings
    }
}

/// 75 %, in whole mebibytes so that it prints well.
fn three_quarters(bytes: u64) -> u64 {
    (bytes / 4 * 3) >> 20 << 20
}

/// Why there is no configuration. The message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that its setting cannot have.
    #[error("{place}: {value:?} {reason}")]
    Value {
        /// Where it was given.
        place: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: ValueError,
    },
    /// A key of the file that no setting has.
    #[error("{place}: unknown key {key:?}; {hint}")]
    UnknownKey {
        /// File, line and column.
        place: String,
        /// The key.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A value of the file that is of no use for its key.
    #[error("{place}: {key} takes {expected}, not {found}")]
    Shape {
        /// File, line and column.
        place: String,
        /// The key.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The file is not TOML.
    #[error("{place}: {reason}")]
    Syntax {
        /// File, line and column.
        place: String,
        /// What the parser says.
        reason: String,
    },
    /// The file cannot be read.
    #[error("the configuration file {path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// An environment variable that is not text.
    #[error("the environment variable {variable} is not valid UTF-8")]
    NotText {
        /// Which.
        variable: String,
    },
    /// Nowhere to listen.
    #[error("no address to listen on: give at least one --listen")]
    NoListener,
    /// One address for two things.
    #[error(
        "{address} is given twice: every --listen, --admin and --http needs an address of its own"
    )]
    SameAddress {
        /// Which.
        address: String,
    },
    /// Open to other machines without a token.
    #[error(
        "--{setting} {address} can be reached from other machines, and there is no token: give \
         --auth-token-file FILE, or use a loopback address, or say --insecure if the network \
         itself keeps strangers out"
    )]
    Exposed {
        /// The setting.
        setting: &'static str,
        /// Its address.
        address: String,
    },
    /// Too little memory.
    #[error(
        "--memory {} is too little for {cores} cores: give at least {}, or fewer --cores",
        values::format_size(*memory), values::format_size(*memory_min)
    )]
    MemoryTooSmall {
        /// What was given, in bytes.
        memory: u64,
        /// How many cores share it.
        cores: usize,
        /// What they need, in bytes.
        memory_min: u64,
    },
    /// `memory` is over `memory-max`.
    #[error(
        "--memory {} is more than --memory-max {} (what --memory was at start, where it is not \
         given)",
        values::format_size(*memory), values::format_size(*most)
    )]
    MemoryOverMost {
        /// What was given, in bytes.
        memory: u64,
        /// The most that it may be, in bytes.
        most: u64,
    },
    /// The limit of open files is too low.
    #[error(
        "--connections-max {connections_max} needs {needed} open files, but the hard limit of this \
         process is {hard}: raise it (systemd: LimitNOFILE={needed}; shell: ulimit -Hn {needed}; \
         docker: --ulimit nofile={needed}), or give --connections-max {possible}"
    )]
    OpenFiles {
        /// What was given.
        connections_max: usize,
        /// The descriptors that it takes.
        needed: u64,
        /// The hard limit.
        hard: u64,
        /// How many connections are possible under it.
        possible: u64,
    },
}

/// Something that works, but probably not as meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// An environment variable that looks like a setting and is none.
    #[error("the environment variable {variable} is no setting of this version; {hint}")]
    UnknownVariable {
        /// Which.
        variable: String,
        /// What may have been meant.
        hint: String,
    },
    /// Others than its owner may read the token.
    #[error(
        "the token file {path} can be read by others (mode {mode:03o}): chmod 600 {path}",
        path = path.display()
    )]
    TokenReadable {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More memory than there is.
    #[error(
        "--memory {} is more than the {} that machine and control group allow",
        values::format_size(*memory), values::format_size(*machine)
    )]
    MemoryOverMachine {
        /// What was given, in bytes.
        memory: u64,
        /// What there is, in bytes.
        machine: u64,
    },
    /// More cores than CPUs.
    #[error("{cores} cores on {cpus} CPUs: they run unpinned and share them")]
    MoreCoresThanCpus {
        /// Data cores.
        cores: usize,
        /// CPUs that the process may use.
        cpus: usize,
    },
    /// The default number of connections does not fit the limit of open files.
    #[error(
        "the hard limit of open files is {hard}, so the node takes {connections_max} connections \
         instead of {CONNECTIONS_DEFAULT}; raise it with LimitNOFILE= (systemd) or ulimit -Hn"
    )]
    FewerConnections {
        /// The hard limit.
        hard: u64,
        /// What remains.
        connections_max: usize,
    },
    /// Open to other machines without a token, as was asked for.
    #[error("{address} can be reached from other machines without a token (--insecure)")]
    Unprotected {
        /// Which address.
        address: String,
    },
}
