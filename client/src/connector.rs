//! How byte streams to nodes are opened: over TCP and UNIX sockets, or as a program says.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes to a node and back.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An attempt to open one.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens streams to nodes, where the client's own TCP and UNIX sockets are not what is wanted:
/// through a tunnel, encrypted, or to nodes that only a test knows. See
/// [`crate::ClientBuilder::connector`].
pub trait Connector: Debug + Send + Sync {
    /// Opens a stream to the node at this address, in the form in which the list of nodes or the
    /// cluster's topology has it. The client limits the time and drops the future when it is up.
    fn connect(&self, address: &str) -> Connecting;
}
