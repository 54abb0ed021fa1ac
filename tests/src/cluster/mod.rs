//! Several nodes in a fake world: topologies that change under traffic, lost connections, nodes
//! that die, bytes that take their time, and clocks that differ.
//!
//! ```text
//! client ─ requests by its table ─► connection ─ bytes, later ─► node: engines, mail, own clock
//!    ▲ └── redirects, epochs, topologies ◄──────────────────────┘  ▲
//!  known: what may be read                         topologies, at a different time each
//! ```
//!
//! Each key is written by one client, which knows what was acknowledged. A read whose nodes all
//! have the newest topology must not show anything older, nor anything after a delete; any
//! read must show a value that was written to its key. A write that nobody knows the outcome of
//! may take effect until its deadline, and not after it.

mod client;
mod node;
mod run;

pub use run::{Report, run};
