//! The Corelane node as a library: what the binary `corelane` runs, and what the load
//! generator embeds.
//!
//! ```text
//! config ─► node ─► one data_core a core ─► event_loop: driver ─ engine ─ lanes
//!                └► control: health, metrics, topology, signals
//! ```

#![deny(unsafe_code)]

pub mod config;
pub mod control;
pub mod driver;
pub mod node;
pub mod system;
pub mod topology;

mod affinity;
mod budget;
mod clerk;
mod clock;
mod data_core;
mod event_loop;
mod gate;
mod lanes;
mod listeners;
mod live_config;
mod prefault;
mod shares;
mod spinner;
mod start;
mod threads;

pub use listeners::ListenError;
pub use live_config::ChangeError;
pub use node::{CorePanicked, IoKind, Node, StartError};
