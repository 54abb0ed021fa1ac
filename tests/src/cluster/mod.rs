//! Several nodes and the client crate itself in a fake world: topologies that change under
//! traffic, bytes that are late, connections that break or hang, nodes that stop or die, clocks
//! that differ.
//!
//! ```text
//! worker ─ Client ─► net ─ bytes, later ─► node: engines, mail, own clock
//!    ▲        ▲ virtual time ◄────────────── ▲ topologies, at a different time each
//!    └ record: what may be read of each key  └ accidents
//! ```
//!
//! The clients are those that programs use, with everything that decides in them: connections,
//! routing, breakers, throttles, retries, remembered deletes, warm-up. They run on tokio's own
//! executor with its clock paused, which goes on to the next timer when nobody has anything to
//! do; their streams are opened by [`net`], their random choices are seeded, and one thread runs
//! everything, so a seed is a run.
//!
//! Each key is written by one worker and read by all. What is read must have been written to the
//! key, and must not be older than what was acknowledged before the read began, nor stand where a
//! delete was acknowledged: while topologies differ from node to node, and where a stand-in
//! serves, there are exceptions ([`record`]). Every request ends by its deadline.

mod net;
mod node;
mod record;
mod run;
mod topologies;
mod worker;

pub use run::{Report, run};
