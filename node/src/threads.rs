//! The threads of the data cores, waited for in the order in which they end: of one that panics
//! the others have to be told at once, since they would wait for its mail for ever.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

/// See the module.
pub(crate) struct CoreThreads {
    /// By core; none once it is joined.
    threads: Vec<Option<JoinHandle<()>>>,
    end: Sender<usize>,
    ended: Receiver<usize>,
}

/// Tells that a thread is over, however it ends.
struct Ending {
    core: usize,
    tell: Sender<usize>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Nobody listens where the start of a later thread failed.
        let _ = self.tell.send(self.core);
    }
}

impl CoreThreads {
    pub(crate) fn new() -> CoreThreads {
        let (end, ended) = unbounded();
        CoreThreads { threads: Vec::new(), end, ended }
    }

    /// Starts the thread of the next core.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn spawn(&mut self, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let core = self.threads.len();
        let ending = Ending { core, tell: self.end.clone() };
        let thread = thread::Builder::new().name(format!("core-{core}")).spawn(move || {
            let _ending = ending;
            body();
        })?;
        self.threads.push(Some(thread));
        Ok(())
    }

    /// Whether all were joined.
    pub(crate) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Waits for all, and calls `stop` when the first of them panics; which that was.
    pub(crate) fn join(&mut self, stop: impl Fn()) -> Option<usize> {
        let mut panicked = None;
        for _ in 0..self.threads.len() {
            let core = self.ended.recv().expect("this end has a sender as well");
            let thread = self.threads[core].take().expect("a thread ends once");
            if thread.join().is_err() && panicked.is_none() {
                panicked = Some(core);
                stop();
            }
        }
        self.threads.clear();
        panicked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_panics_ends_those_before_and_after_it() {
        let (stop, stopped) = unbounded::<()>();
        let stop = std::sync::Mutex::new(Some(stop));
        let mut threads = CoreThreads::new();
        for core in 0..3 {
            let stopped = stopped.clone();
            threads
                .spawn(move || match core {
                    1 => panic!("as this test wants it"),
                    _ => drop(stopped.recv()),
                })
                .unwrap();
        }
        assert_eq!(threads.join(|| drop(stop.lock().unwrap().take())), Some(1));
        assert!(threads.is_empty());
        assert_eq!(threads.join(|| unreachable!()), None);
    }
}
