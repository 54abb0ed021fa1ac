//! Signals: the first drains, the second ends the node at once.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{Ending, Shared, Signals};

/// How long the cores may take to end after the second signal. Then the process ends with
/// them: a wedged core must not make `kill -9` necessary.
const FORCED_END_MAX: Duration = Duration::from_secs(1);

/// Where signals come from, once the process no longer dies of them.
pub(super) enum Source<'a> {
    Process { terminate: Signal, interrupt: Signal },
    Channel(&'a mut watch::Receiver<()>),
    None,
}

impl<'a> Source<'a> {
    /// # Errors
    /// The system refuses to report signals.
    pub(super) fn of(signals: &'a mut Signals) -> io::Result<Source<'a>> {
        Ok(match signals {
            Signals::Process => Source::Process {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            Signals::Channel(receiver) => Source::Channel(receiver),
            Signals::Ignored => Source::None,
        })
    }

    /// Handles signals until the thread ends.
    pub(super) async fn handle(self, shared: &Shared) {
        match self {
            Source::None => {}
            Source::Process { mut terminate, mut interrupt } => loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                signalled(shared, name);
                if shared.ending() == Ending::Forced {
                    tokio::time::sleep(FORCED_END_MAX).await;
                    tracing::error!("the cores do not end: ending without them");
                    std::process::exit(1);
                }
            },
            Source::Channel(receiver) => {
                while receiver.changed().await.is_ok() {
                    signalled(shared, "a signal");
                }
            }
        }
        std::future::pending().await
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
            shared.forced.store(true, Ordering::Release);
            node.stop_now();
        }
    }
}
