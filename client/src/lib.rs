//! Async client of a Corelane node, on tokio.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use corelane_client::Client;
//!
//! let client = Client::connect("127.0.0.1:7400").await?;
//! client.set("greeting", "hello").await?;
//! if let Some(value) = client.get("greeting").await? {
//!     println!("{}", String::from_utf8_lossy(&value.bytes));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The client keeps one connection to each core of the node, and sends each request on the
//! one whose core owns the key, so that the node forwards nothing. Requests are pipelined:
//! whatever is asked for while a write is under way goes out with the next one, and replies
//! are matched by id, in whatever order they come.
//!
//! - Every request has a deadline, 1 s unless told otherwise, which the node is told too, in
//!   terms of its own clock. Nothing waits longer, for a connection or for room either.
//! - Errors say whether a request may have been executed ([`Error::executed`]).
//! - Requests in flight and bytes queued are bounded; who comes when they are used up waits.
//! - A connection that breaks is made again when it is needed, with a growing, jittered wait
//!   between attempts that fail.
//!
//! ```text
//! Client ─ Requester ─ slot of the key ─► Node ─ lane of the core ─► Connection ─► Machine
//!                                                                       driver task ─┴► socket
//! ```

#![forbid(unsafe_code)]

mod builder;
mod client;
mod error;
mod options;

mod fleet;
mod router;

mod address;
mod backoff;
mod chance;
mod connector;
mod hello;
mod join;
mod lane;
mod node;
mod request;
mod retries;
mod warm_up;

mod clock;
mod codec;
mod connection;
mod driver;
mod epoch;
mod limits;
mod machine;
mod pending;
mod reply;

pub use builder::ClientBuilder;
pub use client::Client;
pub use connector::{Connecting, Connector, Stream};
pub use error::{
    ConnectError, ConnectFailure, DeletesOwed, Disconnect, Error, Executed, ProtocolError,
};
pub use fleet::WhenNodeDown;
pub use fleet::member::NodeHealth;
pub use fleet::spec::{IntoNodes, NodesError};
pub use node::WhenDown;
pub use options::{
    CoreStats, CountOptions, Counted, DeleteOutcome, ExtendOutcome, GetOptions, SetOptions,
    SetOutcome, TouchOutcome,
};
pub use reply::Value;

pub use corelane_protocol::wire::ReplyError;
pub use corelane_protocol::{
    Arithmetic, DeleteCondition, Jitter, Remaining, SetCondition, Status, Ttl, Version, WantVersion,
};
pub use corelane_ring::{CoreMapError, TableError, Topology};
