//! A whole node in a fake world, checked reply by reply.
//!
//! ```text
//! workload ─ requests ─► client ─ bytes ─► link ─ pieces ─► engine ◄─ mail ─► engine ...
//!    ▲                     │  ▲                                │
//!  ledger ◄── model ◄──────┘  └───────── pieces ◄── sends ─────┘
//! ```
//!
//! The `world` runs the engines of one node: it delivers bytes in pieces, delays sends,
//! loses clients, carries mail and lets time pass, all by lot from one seed, so that a run
//! can be repeated. `client`s pipeline requests drawn by the `workload` and have every
//! reply judged: those on keys of their own against a reference `model`, those on
//! `shared` keys by what the order of sending and answering allows. A `scenario` is all
//! that varies from run to run.

pub mod scenario;

mod client;
mod keys;
mod ledger;
mod link;
mod model;
mod run;
mod shared;
mod workload;
mod world;

pub use run::{Report, run};
pub use scenario::{Family, Scenario};
