//! How a client is configured.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::limits::TOKEN_BYTES_MAX;

use crate::address::Address;
use crate::client::Client;
use crate::connection::Room;
use crate::error::{ConnectError, ConnectFailure};
use crate::limits::{
    BYTES_QUEUED_DEFAULT, CONNECT_TIMEOUT_DEFAULT, OVERDUE_DEFAULT, REQUESTS_IN_FLIGHT_DEFAULT,
    TIMEOUT_DEFAULT,
};
use crate::node::{Node, Settings, WhenDown};

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
    address: Arc<str>,
    token: Vec<u8>,
    timeout: Duration,
    connect_timeout: Duration,
    overdue: Duration,
    connections_per_core: u16,
    room: Room,
    when_down: WhenDown,
}

impl ClientBuilder {
    pub(crate) fn new() -> ClientBuilder {
        ClientBuilder {
            address: "127.0.0.1:7400".into(),
            token: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            overdue: OVERDUE_DEFAULT,
            connections_per_core: 1,
            room: Room { requests: REQUESTS_IN_FLIGHT_DEFAULT, bytes: BYTES_QUEUED_DEFAULT },
            when_down: WhenDown::default(),
        }
    }

    /// Where the node listens: `host:port`, `[v6]:port` or `unix:PATH`. By default
    /// 127.0.0.1:7400.
    pub fn address(mut self, address: impl AsRef<str>) -> ClientBuilder {
        self.address = address.as_ref().into();
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

    /// Connects to the node and to each of its cores.
    ///
    /// # Errors
    /// An address or token that cannot be, or the first connection that could not be opened.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let address = Address::parse(&self.address)?;
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
        };
        Ok(Client::new(Node::connect(settings).await?, self.timeout))
    }
}

/// Shows everything but the token.
impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClientBuilder")
            .field("address", &self.address)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("overdue", &self.overdue)
            .field("connections_per_core", &self.connections_per_core)
            .field("room", &self.room)
            .field("when_down", &self.when_down)
            .finish_non_exhaustive()
    }
}
