//! What a node starts on, and why it does not start.

use std::io;

use corelane_shard::ShardError;

use crate::config::ConfigError;
use crate::driver;
use crate::listeners::ListenError;
use crate::topology::keeper::LoadError;

/// The kernel interface that a node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// io_uring.
    Uring,
    /// A readiness loop.
    Epoll,
}

impl IoKind {
    /// As it is called in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            IoKind::Uring => "uring",
            IoKind::Epoll => "epoll",
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is impossible on this host.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The topology file is of no use.
    #[error(transparent)]
    Topology(#[from] LoadError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Address(#[from] ListenError),
    /// The kernel interface is not to be had; the text says what to change.
    #[error(transparent)]
    Driver(#[from] driver::StartError),
    /// The kernel interface refuses a listener.
    #[error("cannot accept connections: {0}")]
    Listen(io::Error),
    /// The memory is too small for a shard, or cannot be reserved.
    #[error("cannot make the shard of a core: {0}")]
    Shard(#[from] ShardError),
    /// The system refuses a thread.
    #[error("cannot start the thread of a core: {0}")]
    Thread(io::Error),
    /// A core ended while it was being made.
    #[error("a core ended while it was being made")]
    CoreLost,
}
