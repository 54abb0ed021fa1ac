//! The bar that shows how far a run is, on standard error and only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::Nanos;

/// How far a run can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many replies.
    Replies(u64),
    /// So long.
    Time(Duration),
}

/// See the module. Cleared when dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    extent: Extent,
}

impl Progress {
    /// A bar with a word for what is being done.
    pub fn new(what: &'static str, extent: Extent) -> Progress {
        let length = match extent {
            Extent::Replies(replies) => replies,
            Extent::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        };
        let style = ProgressStyle::with_template("{prefix:>9} {wide_bar:.cyan/dim} {msg}")
            .expect("the template is a constant");
        let bar = ProgressBar::new(length).with_style(style).with_prefix(what);
        Progress { bar, extent }
    }

    /// No bar.
    pub fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), extent: Extent::Replies(0) }
    }

    /// Shows the state at a moment of the run.
    pub fn show(&self, now: Nanos, replies: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let seconds = (now.0 as f64 / 1e9).max(1e-3);
        let position = match self.extent {
            Extent::Replies(_) => replies,
            Extent::Time(_) => now.0 / 1_000_000,
        };
        self.bar.set_position(position);
        self.bar.set_message(format!("{:.0} K ops/s", replies as f64 / seconds / 1e3));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
