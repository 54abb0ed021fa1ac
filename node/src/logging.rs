//! The log: text lines on standard error, so that standard output is free for what commands
//! print.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// The variable that sets the level; `RUST_LOG` serves where it is not set.
const VARIABLES: [&str; 2] = ["CORELANE_LOG", "RUST_LOG"];
/// What is logged where neither is set.
const DEFAULT_LEVEL: &str = "info";

/// Starts logging. A level that cannot be read is replaced by the default, and said so in
/// the log itself: a typing error there must not keep a node from starting.
pub(crate) fn start() {
    let wanted = VARIABLES.iter().find_map(|variable| {
        let level = std::env::var(variable).ok().filter(|level| !level.is_empty())?;
        Some((*variable, level))
    });
    let (filter, refused) = match wanted {
        None => (EnvFilter::new(DEFAULT_LEVEL), None),
        Some((variable, level)) => match EnvFilter::try_new(&level) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(DEFAULT_LEVEL), Some((variable, level, error))),
        },
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    if let Some((variable, level, error)) = refused {
        tracing::warn!("{variable}={level:?} is not a log level ({error}); using {DEFAULT_LEVEL}");
    }
}
