//! What clients of a dialect ask of the node rather than of its data, and what they may know
//! of it that changes; and what is looked after now and then. A thread of its own: a core neither
//! waits for an answer nor reads files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corelane_dialect::Setting;
use corelane_engine::{About, Wish};
use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::control::{NodeControl, resident_bytes};

/// How often what changes is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Wishes of one node that wait. A client that asks for more at once asks in vain.
pub(crate) const WISHES_MAX: usize = 64;

/// Serves until every core has ended.
pub(crate) fn run(wishes: &Receiver<Wish>, node: &dyn NodeControl, about: &Arc<About>) {
    loop {
        if let Some(bytes) = resident_bytes() {
            about.memory_resident_bytes.store(bytes, Ordering::Relaxed);
        }
        node.divide_memory();
        match wishes.recv_timeout(LOOK_INTERVAL) {
            Ok(Wish::Shutdown) => {
                tracing::info!("a client asked for the end: draining");
                node.drain();
            }
            Ok(Wish::Configure(Setting::MemoryBytes(bytes))) => {
                let change = [("memory".to_owned(), bytes.to_string())];
                if let Err(error) = node.change(&change) {
                    tracing::warn!("a client asked for {bytes} bytes of memory in vain: {error}");
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
