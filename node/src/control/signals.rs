//! Signals: the first drains, the second ends the node at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use super::{Shared, Signals};

/// Handles signals until the thread ends.
pub(super) async fn handle(signals: &mut Signals, shared: &Shared) -> io::Result<()> {
    match signals {
        Signals::Ignored => std::future::pending().await,
        Signals::Process => {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                signalled(shared, name);
            }
        }
        Signals::Channel(receiver) => {
            while receiver.changed().await.is_ok() {
                signalled(shared, "a signal");
            }
            std::future::pending().await
        }
    }
}

/// Acts by the phase, so that nothing is to be remembered over a restart of the thread.
fn signalled(shared: &Shared, name: &str) {
    use super::Phase::{Draining, Ready, Starting, Stopped};
    let Some(node) = shared.node.get() else {
        // Nothing was accepted yet, so nobody waits for a reply.
        tracing::info!("{name} while starting: ending");
        std::process::exit(0);
    };
    match node.phase() {
        Starting | Ready => {
            tracing::info!("{name}: draining; a second signal ends at once");
            node.drain();
        }
        Draining | Stopped => {
            tracing::warn!("{name} while draining: ending at once");
            node.stop_now();
        }
    }
}
