//! The load: threads with connections, each connection a [`session::Session`] that writes
//! requests and checks replies, and sockets under them.
//!
//! ```text
//! pacer (open loop) ─┐
//! source ─ keys ─────┴─► session ─ bytes ─► transport ─► server
//!            tally ◄─ check ◄─ session ◄─ bytes ◄─ transport ◄─┘
//! ```
//!
//! **Closed loop**: a connection sends its whole pipeline, waits for the last reply, and
//! sends the next; a request's time runs from the moment its batch was handed to the kernel.
//! **Open loop**: requests are due at fixed distances, whatever the server does; a request's
//! time runs from when it was due, so that a stall is charged to all that it delayed.

pub mod connect;
pub mod drive;
pub mod pacer;
pub mod session;
pub mod source;
pub mod tally;
pub mod transport;
pub mod worker;

pub use connect::{Address, ConnectError};
pub use drive::{Drive, DriveError, Outcome, Plan, Task};
pub use tally::Tally;
