//! RESP2 and RESP3, as Redis 7.0 speaks them.
//!
//! ```text
//! bytes ─ parse ─► arguments ─ session: command table, translate ─► Step
//! bytes ◄─ write ◄─ Shape::render ◄──────────────────────────── Reply
//! ```

mod gather;
#[allow(dead_code, reason = "the command table comes next")]
mod parse;
#[allow(dead_code, reason = "the command table comes next")]
mod parts;
mod session;
mod shape;
#[allow(dead_code, reason = "the command table comes next")]
mod write;

pub use gather::{Gather, GatherKind, Gathering};
pub use parse::Args;
pub use parts::Parts;
pub use session::Session;
pub use shape::{Clock, Form, Shape};
pub use write::Revision;
