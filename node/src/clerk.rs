//! What clients of a dialect ask of the node rather than of its data, and what they may know
//! of it that changes; and what is looked after now and then. A thread of its own: a core neither
//! waits for an answer nor reads files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corelane_dialect::Settings;
use corelane_engine::{About, Wish};
use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::control::{NodeControl, resident_bytes};

/// How often what changes is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Wishes of one node that wait. A client that asks for more at once asks in vain.
pub(crate) const WISHES_MAX: usize = 64;

/// Serves until every core has ended.
pub(crate) fn run(wishes: &Receiver<Wish>, node: &dyn NodeControl, about: &Arc<About>) {
    let mut look_at = Instant::now();
    loop {
        // However often clients ask for something meanwhile.
        if Instant::now() >= look_at {
            look_at = Instant::now() + LOOK_INTERVAL;
            if let Some(bytes) = resident_bytes() {
                about.memory_resident_bytes.store(bytes, Ordering::Relaxed);
            }
            node.divide_memory();
        }
        match wishes.recv_deadline(look_at) {
            Ok(Wish::Shutdown) => {
                tracing::info!("a client asked for the end: draining");
                node.drain();
            }
            Ok(Wish::Configure { settings, asker }) => {
                let outcome = node.change(&by_name(settings)).map_err(|error| error.to_string());
                match &outcome {
                    Ok(()) => tracing::info!("a client changed settings: {settings:?}"),
                    Err(why) => tracing::warn!("a client wants other settings in vain: {why}"),
                }
                node.grant(asker, outcome);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The settings by the names that the configuration has for them.
fn by_name(settings: Settings) -> Vec<(String, String)> {
    let Settings { memory_bytes, policy } = settings;
    let memory = memory_bytes.map(|bytes| ("memory".to_owned(), bytes.to_string()));
    let policy = policy.map(|name| ("policy".to_owned(), name.to_owned()));
    memory.into_iter().chain(policy).collect()
}
