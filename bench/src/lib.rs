//! The load generator of Corelane, as a library that its binary and the benchmarks share.
//!
//! ```text
//! cli ─► run ─► embed (a node in this process) ─┐
//!                                               ├─► generator ─► outcome ─► report
//! workload ─ keys, values ─► codec ─ requests ──┘      ▲
//!                                        measure: CPU time by thread, latencies
//! ```
//!
//! [`workload`] says what is asked and which value every key has, [`codec`] how a protocol
//! writes it, [`generator`] sends it and checks every reply, [`measure`] counts what it cost.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod codec;
pub mod compare;
pub mod embed;
pub mod fleet;
pub mod floors;
pub mod generator;
pub mod idle;
pub mod measure;
pub mod memory;
pub mod options;
pub mod progress;
pub mod replay;
pub mod report;
pub mod ring;
pub mod run;
pub mod stalls;
pub mod sweep;
pub mod ways;
pub mod workload;
