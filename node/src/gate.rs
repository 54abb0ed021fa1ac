//! How many connections the node has, over all cores, and may have.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts connections from accept to close; a connection that moves between cores is
/// counted once throughout.
#[derive(Debug)]
pub(crate) struct Gate {
    open: AtomicUsize,
    limit: usize,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Gate {
        Gate { open: AtomicUsize::new(0), limit }
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

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_in_up_to_the_limit() {
        let gate = Gate::new(2);
        assert!(gate.enter() && gate.enter());
        assert!(!gate.enter());
        assert_eq!(gate.open(), 2);
        gate.leave();
        assert!(gate.enter());
    }
}
