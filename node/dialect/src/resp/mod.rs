//! RESP2 and RESP3, as Redis 7.0 speaks them.
//!
//! ```text
//! bytes ─ parse ─► arguments ─ session ─ table ─► a command's function ─► Step
//! bytes ◄─ write ◄─ Shape::render, Gathering ◄───────────────────── Reply
//! ```
//!
//! [`Session`] is a connection's state and finds the command in the one table; the function
//! that stands there makes requests of the command's arguments (`strings`, `keys`,
//! `transaction`) or answers from what the connection and the node know of themselves
//! (`connection`, `client`, `commands`, `config`, `info`, `cluster`, `server`).

mod ahead;
mod parse;
mod session;
mod table;

mod call;

mod client;
mod cluster;
mod commands;
mod compatibility;
mod config;
mod connection;
mod info;
mod keys;
mod server;
mod strings;
mod transaction;

mod gather;
mod parts;
mod shape;
mod write;

pub(crate) use ahead::ahead;
pub use ahead::only_reads;
pub use client::{ClientFilter, describe_client};
pub use compatibility::compatibility;
pub use gather::{Gather, GatherKind, Gathering};
pub use info::Sections;
pub use parts::Parts;
pub use session::{Agreed, Session};
pub use shape::{Clock, Form, Refused, Shape};
pub use write::Revision;
