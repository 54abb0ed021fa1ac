//! What a dialect asks about the node it speaks for.

use std::fmt;
use std::net::SocketAddr;

/// What a node can tell of itself. Only commands that ask for it look here, never a get or
/// a set.
pub trait Facts {
    /// Whether a token must be proved before anything else.
    fn needs_token(&self) -> bool;

    /// Whether this is the node's token; takes the same time whatever it is. False where
    /// the node has none.
    fn is_token(&self, password: &[u8]) -> bool;

    /// The connection that asks.
    fn client(&self) -> ClientFacts<'_>;

    /// The node.
    fn node(&self) -> NodeFacts<'_>;

    /// The nodes that it shares the slots with; none where it has all slots to itself.
    fn cluster(&self) -> Option<ClusterFacts<'_>>;

    /// The slot of a key.
    fn slot_of(&self, key: &[u8]) -> u16;
}

/// Where a connection comes from, and where it came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Nobody has told.
    #[default]
    Unknown,
    /// Over IP.
    Inet {
        /// Where it comes from.
        remote: SocketAddr,
        /// Where it came in.
        local: SocketAddr,
    },
    /// Over a UNIX socket of this path. Clients of one have no address of their own.
    Unix(Box<str>),
}

impl Addresses {
    /// Where it comes from, as Redis writes it: `IP:PORT`, `[IPv6]:PORT` or `PATH:0`.
    pub fn remote(&self) -> impl fmt::Display {
        Address { of: self, is_remote: true }
    }

    /// Where it came in, in the same form.
    pub fn local(&self) -> impl fmt::Display {
        Address { of: self, is_remote: false }
    }
}

/// One of the two.
struct Address<'a> {
    of: &'a Addresses,
    is_remote: bool,
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            Addresses::Unknown => Ok(()),
            Addresses::Inet { remote, .. } if self.is_remote => remote.fmt(out),
            Addresses::Inet { local, .. } => local.fmt(out),
            Addresses::Unix(path) => write!(out, "{path}:0"),
        }
    }
}

/// One connection, as clients may see it.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts<'f> {
    /// Unlike that of any other connection of the node, ever.
    pub number: u64,
    /// Where it comes from and came in.
    pub addresses: &'f Addresses,
    /// Seconds since it came in.
    pub age_s: u64,
    /// Seconds since it last sent anything.
    pub idle_s: u64,
    /// Bytes that it sent and that wait.
    pub input_bytes: u64,
    /// Bytes of replies that wait.
    pub output_bytes: u64,
}

/// One node.
#[derive(Clone, Copy, Debug)]
pub struct NodeFacts<'f> {
    /// Corelane's version.
    pub version: &'f str,
    /// What the node calls itself.
    pub name: &'f str,
    /// 40 hexadecimal digits, others with each start.
    pub run_id: &'f str,
    /// Its process.
    pub process_id: u32,
    /// The port that clients connect to.
    pub port: u16,
    /// Data cores.
    pub cores: u16,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Most connections.
    pub connections_max: u64,
    /// Longest value, in bytes.
    pub value_bytes_max: u64,
    /// What the process may take, in bytes.
    pub memory_bytes_max: u64,
    /// What the process takes, in bytes.
    pub memory_resident_bytes: u64,
    /// What the machine has, in bytes.
    pub memory_system_bytes: u64,
    /// How room is made, in Redis's way of naming policies.
    pub policy: &'f str,
}

impl NodeFacts<'_> {
    /// Whether the policy remembers how often entries were read.
    pub fn counts_uses(&self) -> bool {
        self.policy.ends_with("lfu")
    }
}

/// The nodes that share the slots.
#[derive(Clone, Copy, Debug)]
pub struct ClusterFacts<'f> {
    /// The topology's epoch.
    pub epoch: u64,
    /// All nodes.
    pub nodes: &'f [ClusterNode],
    /// Which of them this is.
    pub own: usize,
}

/// One of the nodes that share the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// 40 hexadecimal digits.
    pub id: String,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: u16,
    /// First and last slot of each of its ranges, in slot order.
    pub slots: Vec<(u16, u16)>,
}
