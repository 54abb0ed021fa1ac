//! The native binary protocol of Corelane, without I/O.
//!
//! [`model`] is the one vocabulary of requests and replies that every front end
//! translates to and from; [`wire`] turns it into frames and back. `SPEC.md`
//! beside this crate has the byte tables, `vectors/v1.json` the golden vectors.
//!
//! ```text
//! bytes ─ wire::decode_request ─► RequestFrame { head, request } ─► execute
//! bytes ◄─ wire::encode_reply ◄── ReplyFrame { head, reply } ◄─────────┘
//! ```

#![forbid(unsafe_code)]

pub mod fuzz;
pub mod limits;
pub mod model;
pub mod wire;

pub use model::*;
