//! What a run cost, and how runs are compared.

pub mod cpu;
pub mod jitter;
pub mod paired;
