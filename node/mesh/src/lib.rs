//! First line of the crate.
