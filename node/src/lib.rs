//! The Corelane node as a library: what the binary `corelane` runs, and what the load
//! generator embeds.

pub mod config;
pub mod control;
pub mod driver;
