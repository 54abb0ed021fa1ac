//! The client against a node that a test scripts: what it sends, in which order it takes
//! answers, and what it makes of a node that fails. Nothing here is the real node; that is
//! tested where the whole system is.

mod dropped;
mod failures;
mod fake_node;
mod fleet;
mod operations;
