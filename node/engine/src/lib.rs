//! Everything one core does, as a deterministic state machine without I/O.
//!
//! The binary binds the engine to sockets and lanes, the simulator binds it to a fake
//! world. It opens no socket, reads no clock and starts no thread: time, seeds and bytes
//! are arguments, effects go to an [`Output`].
//!
//! ```text
//! Engine::received ─► dispatch ─► owner?
//!                                  ├─ this core ──► execute on the shard ─► reply
//!                                  ├─ another ────► forward ─► Mail::Execute
//!                                  ├─ another node ► a redirect
//!                                  └─ every core ─► fanout (multi-get, flush, stats)
//! Engine::mail ─► Execute: execute, answer with Mail::Executed
//!              └► Executed: replies go to the connection that asked
//! Engine::flush_output ─► one Output::send a connection
//! ```
//!
//! # Calling contract
//! - [`Engine::opened`] names a connection; [`Engine::closed`] or [`Engine::detached`] ends
//!   it, after the engine asked for it and no send is under way.
//! - Before a batch of inputs, call [`Engine::begin_turn`].
//! - After any batch of inputs, call [`Engine::tick`] and then [`Engine::flush_output`] once.
//!   The first does bounded work that was left, and says when it wants to be called next if
//!   nothing else happens; the second hands the replies out.

#![forbid(unsafe_code)]

pub mod counters;
pub mod limits;

mod ahead;
mod changes;
mod cluster;
mod config;
mod connection;
mod dispatch;
mod engine;
mod execute;
mod fanout;
mod forward;
mod front;
mod inbound;
mod intake;
mod load;
mod mail;
mod new_slots;
mod output;
mod packet;
mod plain;
mod receive;
mod slots;
mod spare;
mod stats;
mod timers;
mod waiting;

pub use cluster::{ClusterView, TopologyTooLong};
pub use config::{DefaultTtl, EngineConfig, JitterMode, Tuning};
pub use connection::{ConnectionId, Handover};
pub use engine::{Agenda, Answered, Engine, ReceiveEnd, SendEnd};
pub use front::{About, Asker, Wish};
pub use mail::Mail;
pub use output::{Closing, Output};
pub use packet::{MailedLeases, Packet};
