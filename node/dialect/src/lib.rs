//! RESP and memcached, without I/O: bytes to requests of the one model, and replies to bytes.
//!
//! A dialect only translates. It knows neither the shard nor which core owns a key; whoever
//! drives it executes the requests, wherever they belong, and hands the replies back in the
//! order of the requests.
//!
//! ```text
//! first bytes ─ detect ─► Detected
//! bytes ─ Session::step ─► Step { Part { head, request, shape } } ─► execute, here or elsewhere
//! bytes ◄─ render ◄─────── (Shape, Reply) ◄──────────────────────────────┘
//! ```
//!
//! [`Shape`] is all that has to be remembered of a request until its reply is there. Replies
//! of one step that become one answer together are gathered as its [`Gather`] says.

#![forbid(unsafe_code)]

mod ahead;
mod detect;
mod facts;
pub mod fuzz;
pub mod glob;
pub mod limits;
pub mod memcached;
mod number;
pub mod resp;
mod step;

pub use ahead::{Ahead, Asks, Manner, Span};
pub use detect::{Detected, Dialects, detect};
pub use facts::{Addresses, ClientFacts, ClusterFacts, ClusterNode, Facts, NodeFacts};
pub use step::{Control, Gather, Moment, Part, Parts, Settings, Shape, Step, Taken, ValueHead};
