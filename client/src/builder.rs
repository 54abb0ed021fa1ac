//! How a client is configured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::limits::TOKEN_BYTES_MAX;
use corelane_ring::TopologyError;

use crate::address::Address;
use crate::chance::Chance;
use crate::client::Client;
use crate::connection::Room;
use crate::connector::Connector;
use crate::error::{ConnectError, ConnectFailure};
use crate::fleet::spec::{self, IntoNodes, NodesError};
use crate::fleet::watch::{self, Source};
use crate::fleet::{Fleet, WhenNodeDown};
use crate::limits::{
    BYTES_QUEUED_DEFAULT, CONNECT_TIMEOUT_DEFAULT, OVERDUE_DEFAULT, REQUESTS_IN_FLIGHT_DEFAULT,
    TIMEOUT_DEFAULT, WATCH_INTERVAL_DEFAULT,
};
use crate::node::{Settings, WhenDown};

/// Settings of a [`Client`] to be.
///
/// ```no_run
/// # async fn example() -> Result<(), corelane_client::ConnectError> {
/// use std::time::Duration;
/// let client = corelane_client::Client::builder()
///     .address("cache-1.example:7400")
///     .token(*b"open sesame")
///     .timeout(Duration::from_millis(50))
///     .connect()
///     .await?;
/// # let _ = client; Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is opened before `connect`"]
pub struct ClientBuilder {
    nodes: Nodes,
    when_node_down: WhenNodeDown,
    watch_interval: Duration,
    warm_up: Duration,
    token: Vec<u8>,
    timeout: Duration,
    connect_timeout: Duration,
    overdue: Duration,
    connections_per_core: u16,
    room: Room,
    when_down: WhenDown,
    connector: Option<Arc<dyn Connector>>,
    seed: Option<u64>,
}

impl ClientBuilder {
    pub(crate) fn new() -> ClientBuilder {
        ClientBuilder {
            nodes: Nodes::Given(vec!["127.0.0.1:7400".to_owned()]),
            when_node_down: WhenNodeDown::default(),
            watch_interval: WATCH_INTERVAL_DEFAULT,
            warm_up: Duration::ZERO,
            token: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            overdue: OVERDUE_DEFAULT,
            connections_per_core: 1,
            room: Room { requests: REQUESTS_IN_FLIGHT_DEFAULT, bytes: BYTES_QUEUED_DEFAULT },
            when_down: WhenDown::default(),
            connector: None,
            seed: None,
        }
    }

    /// Where the node listens: `host:port`, `[v6]:port` or `unix:PATH`. By default
    /// 127.0.0.1:7400.
    pub fn address(self, address: impl AsRef<str>) -> ClientBuilder {
        self.nodes(address.as_ref())
    }

    /// The nodes, each as `[NAME=]ADDRESS[,weight=N][,zone=ZONE]`. A name decides which keys
    /// its node gets, and is the address where none is given; a node of weight 2 gets twice
    /// the keys of one of weight 1, which is the default.
    pub fn nodes(mut self, nodes: impl IntoNodes) -> ClientBuilder {
        self.nodes = Nodes::Given(nodes.into_nodes());
        self
    }

    /// A file that lists the nodes as for [`ClientBuilder::nodes`], one a line, empty lines and
    /// what follows a `#` aside. It is read again every two seconds, or as
    /// [`ClientBuilder::watch_interval`] says.
    pub fn nodes_file(mut self, path: impl Into<PathBuf>) -> ClientBuilder {
        self.nodes = Nodes::Followed(Source::File(path.into()));
        self
    }

    /// A `host:port` of which each address is a node, named by it. The host is resolved again
    /// every two seconds, or as [`ClientBuilder::watch_interval`] says.
    pub fn nodes_dns(mut self, name: impl Into<String>) -> ClientBuilder {
        self.nodes = Nodes::Followed(Source::Name(name.into()));
        self
    }

    /// How often a file or name of nodes is looked at.
    pub fn watch_interval(mut self, interval: Duration) -> ClientBuilder {
        self.watch_interval = interval;
        self
    }

    /// For how long after the nodes changed a key that its new owner does not have is looked for
    /// at the owner before, and copied from there; by default not at all. Set it where nodes are
    /// added, or taken out while they still run, without a phase of misses.
    ///
    /// Where the nodes have a topology, they must be told the same time (`--warm-up`), and epochs
    /// must follow each other without a gap. Nothing that was overwritten or deleted is copied then.
    ///
    /// Where there is only a list of nodes, a write of a key that moved is preceded by its removal
    /// at the owner before. A copy that was already under way when its key was deleted may be read
    /// until the client that made it looks back, one round trip later, and takes it away; and while
    /// the owner before cannot be reached by the writer, what others copy from it may be stale.
    pub fn warm_up(mut self, warm_up: Duration) -> ClientBuilder {
        self.warm_up = warm_up;
        self
    }

    /// What requests get while the node of their key, one of several, is down.
    pub fn when_node_down(mut self, when: WhenNodeDown) -> ClientBuilder {
        self.when_node_down = when;
        self
    }

    /// The access token, at most 1,024 bytes, for a node that wants one.
    pub fn token(mut self, token: impl AsRef<[u8]>) -> ClientBuilder {
        self.token = token.as_ref().into();
        self
    }

    /// How long a request may take, waiting for a connection and for room included; by
    /// default 1 s. [`Client::with_timeout`] changes it for single requests.
    pub fn timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.timeout = timeout;
        self
    }

    /// How long opening a connection may take; by default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.connect_timeout = timeout;
        self
    }

    /// How much later than its deadline a reply may come before its connection is given up;
    /// by default 5 s.
    pub fn overdue(mut self, overdue: Duration) -> ClientBuilder {
        self.overdue = overdue;
        self
    }

    /// Connections to each core of the node, at least 1, which is the default. More help only
    /// where one connection's task is what limits throughput.
    pub fn connections_per_core(mut self, connections: u16) -> ClientBuilder {
        self.connections_per_core = connections.max(1);
        self
    }

    /// Requests of one connection that may wait for their reply; further ones wait for room.
    /// At least 1, by default 2,048.
    pub fn requests_in_flight_max(mut self, requests: u32) -> ClientBuilder {
        self.room.requests = requests.clamp(1, crate::limits::PLACES_MAX / 2);
        self
    }

    /// Bytes of requests that may wait for the kernel to take them, for each connection;
    /// further requests wait for room. One request that is larger waits until it is alone. At
    /// least 1, by default 4 MiB.
    pub fn bytes_queued_max(mut self, bytes: u32) -> ClientBuilder {
        self.room.bytes = bytes.clamp(1, 1 << 28);
        self
    }

    /// What requests do between attempts to connect to a node that is down.
    pub fn when_down(mut self, when_down: WhenDown) -> ClientBuilder {
        self.when_down = when_down;
        self
    }

    /// Opens streams to nodes by this instead of by TCP and UNIX sockets.
    pub fn connector(mut self, connector: Arc<dyn Connector>) -> ClientBuilder {
        self.connector = Some(connector);
        self
    }

    /// Seeds the random choices: by how much waits are jittered, and which requests are kept
    /// from an overloaded node. By default the system's randomness does.
    pub fn seed(mut self, seed: u64) -> ClientBuilder {
        self.seed = Some(seed);
        self
    }

    /// Connects to the nodes and to each of their cores.
    ///
    /// # Errors
    /// An address or token that cannot be; or no node could be connected to: what was wrong with
    /// the first. (Where there are several, those that are down are used once they are up.)
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled, and I/O too unless there is a connector.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let places = match &self.nodes {
            Nodes::Given(nodes) => nodes.iter().map(|node| spec::parse(node)).collect(),
            Nodes::Followed(source) => source.read().await,
        };
        let named = self.nodes.to_string();
        let failed = |reason| ConnectError { address: named.as_str().into(), reason };
        let places = places.map_err(|error| match error {
            NodesError::Address { .. } => failed(ConnectFailure::Address),
            error => failed(error.into()),
        })?;
        let Some(first) = places.first() else {
            return Err(failed(ConnectFailure::Nodes(NodesError::Ring(
                TopologyError::NodeCount { count: 0 },
            ))));
        };
        let address = Address::of(&first.addresses[0]);
        if self.token.len() > TOKEN_BYTES_MAX {
            return Err(address.error(ConnectFailure::TokenTooLong));
        }
        let settings = Settings {
            address,
            token: self.token.into(),
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            overdue: self.overdue,
            connections_per_core: self.connections_per_core,
            room: self.room,
            when_down: self.when_down,
            connector: self.connector,
            chance: self.seed.map_or_else(Chance::of_system, Chance::from_seed),
        };
        let (when_node_down, warm_up) = (self.when_node_down, self.warm_up);
        let fleet = Fleet::connect(settings, places.clone(), when_node_down, warm_up).await?;
        if let Nodes::Followed(source) = self.nodes {
            let fleet = Arc::downgrade(&fleet);
            tokio::spawn(watch::follow(source, fleet, places, self.watch_interval));
        }
        Ok(Client::new(fleet, self.timeout))
    }
}

/// Where the list of nodes comes from.
#[derive(Clone, Debug)]
enum Nodes {
    Given(Vec<String>),
    Followed(Source),
}

impl std::fmt::Display for Nodes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Nodes::Given(nodes) => formatter.write_str(&nodes.join(" ")),
            Nodes::Followed(Source::File(path)) => path.display().fmt(formatter),
            Nodes::Followed(Source::Name(name)) => name.fmt(formatter),
        }
    }
}

/// Shows everything but the token.
impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClientBuilder")
            .field("nodes", &self.nodes)
            .field("when_node_down", &self.when_node_down)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("overdue", &self.overdue)
            .field("connections_per_core", &self.connections_per_core)
            .field("room", &self.room)
            .field("when_down", &self.when_down)
            .finish_non_exhaustive()
    }
}
