//! How many connections the node has, over all cores, and may have.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts connections from accept to close; a connection that moves between cores is
/// counted once throughout.
#[derive(Debug)]
pub(crate) struct Gate {
    open: AtomicUsize,
    limit: usize,
    /// Cores that may still accept connections.
    listening: AtomicUsize,
}

impl Gate {
    pub(crate) fn new(limit: usize, cores: usize) -> Gate {
        Gate { open: AtomicUsize::new(0), limit, listening: AtomicUsize::new(cores) }
    }

    /// Counts one in, unless there are as many as may be.
    pub(crate) fn enter(&self) -> bool {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        if open >= self.limit {
            self.leave();
        }
        open < self.limit
    }

    pub(crate) fn leave(&self) {
        let open = self.open.fetch_sub(1, Ordering::Relaxed);
        assert!(open > 0, "no connection leaves that did not enter");
    }

    /// A core will accept no more.
    pub(crate) fn shut(&self) {
        // Whoever sees it shut sees what had entered before.
        self.listening.fetch_sub(1, Ordering::Release);
    }

    /// Whether no connection is left and none can come.
    pub(crate) fn is_deserted(&self) -> bool {
        self.listening.load(Ordering::Acquire) == 0 && self.open.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_in_up_to_the_limit() {
        let gate = Gate::new(2, 1);
        assert!(gate.enter() && gate.enter());
        assert!(!gate.enter());
        gate.leave();
        assert!(gate.enter());
    }

    #[test]
    fn is_deserted_when_all_are_shut_and_the_last_has_left() {
        let gate = Gate::new(1, 2);
        assert!(!gate.is_deserted());
        gate.shut();
        assert!(gate.enter());
        gate.shut();
        assert!(!gate.is_deserted());
        gate.leave();
        assert!(gate.is_deserted());
    }
}
