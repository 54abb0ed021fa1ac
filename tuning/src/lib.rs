//! Checks of a Linux host that is to run a Corelane node, as `corelane doctor` makes them.
//!
//! What a node is going to need comes in as a [`Plan`]; what the host is like is asked
//! through a [`Probe`], which the binary implements over /proc, /sys and a trial of
//! io_uring, and the tests over a map. [`examine`] makes every check of [`CHECKS`] and
//! gives a [`Report`] each: what was read, why it matters, and what to type to change it.
//! Nothing here changes the host. GUIDE.md tells the whole story.
#![forbid(unsafe_code)]

mod checks;
#[cfg(test)]
mod fake;

pub use checks::CHECKS;

/// What the node that is to run will need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The kernel interface it will use.
    pub interface: Interface,
    /// Its data cores.
    pub cores: usize,
    /// The CPUs they are to be on, where the operator chose.
    pub cpus: Vec<usize>,
    /// Whether they stay on their CPUs.
    pub pinning: Pinning,
    /// File descriptors it may have open at once.
    pub descriptors: u64,
    /// Memory of the process, in bytes.
    pub memory_bytes: u64,
}

/// The kernel interface of the data cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// io_uring.
    IoUring,
    /// A readiness loop.
    Epoll,
}

/// Whether data cores stay on their CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// Yes.
    Pinned,
    /// No.
    Unpinned,
}

/// What a trial of io_uring showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoUringTrial {
    /// A ring was made with all that the node uses.
    Works,
    /// It was not.
    Refused {
        /// Why, as the ring's own diagnosis has it.
        reason: String,
        /// What to type or to change.
        remedy: String,
    },
}

/// How a host is asked. No call changes anything.
pub trait Probe {
    /// The text of a file by its absolute path; `None` where it cannot be read.
    fn file(&self, path: &str) -> Option<String>;
    /// Tries to make a ring.
    fn io_uring(&self) -> IoUringTrial;
    /// How many CPUs this process may use.
    fn usable_cpus(&self) -> usize;
    /// Least of physical memory and the control group's limits, in bytes.
    fn memory_bytes(&self) -> Option<u64>;
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Could not be read.
    Unknown,
    /// Works, at a price.
    Warn,
    /// The node will not start, or not as planned.
    Fail,
}

impl Outcome {
    /// In capitals, as the table has it.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "PASS",
            Outcome::Unknown => "UNKNOWN",
            Outcome::Warn => "WARN",
            Outcome::Fail => "FAIL",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it ended.
    pub outcome: Outcome,
    /// What was read, and what is wrong with it, if anything.
    pub found: String,
    /// The command that changes it, where one does.
    pub remedy: Option<String>,
}

impl Finding {
    fn pass(found: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Pass, found: found.into(), remedy: None }
    }

    fn unknown(found: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Unknown, found: found.into(), remedy: None }
    }

    fn warn(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let remedy = Some(remedy.into());
        Finding { outcome: Outcome::Warn, found: found.into(), remedy }
    }

    fn fail(found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let remedy = Some(remedy.into());
        Finding { outcome: Outcome::Fail, found: found.into(), remedy }
    }
}

/// One thing that is looked at.
pub struct Check {
    /// A short name, for tables and JSON.
    pub name: &'static str,
    /// Why it matters, in a sentence or two.
    pub why: &'static str,
    /// Looks.
    pub run: fn(&dyn Probe, &Plan) -> Finding,
}

/// A check and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// [`Check::name`].
    pub name: &'static str,
    /// [`Check::why`].
    pub why: &'static str,
    /// What was found.
    pub finding: Finding,
}

/// Makes all checks, in their order.
pub fn examine(probe: &dyn Probe, plan: &Plan) -> Vec<Report> {
    let report = |check: &Check| Report {
        name: check.name,
        why: check.why,
        finding: (check.run)(probe, plan),
    };
    CHECKS.iter().map(report).collect()
}

/// The worst outcome of several; [`Outcome::Pass`] of none.
pub fn worst(reports: &[Report]) -> Outcome {
    reports.iter().map(|report| report.finding.outcome).max().unwrap_or(Outcome::Pass)
}

/// A size as people say it: `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeHost, plan};

    #[test]
    fn a_good_host_passes_everything() {
        let reports = examine(&FakeHost::good(), &plan());
        for report in &reports {
            assert_eq!(report.finding.outcome, Outcome::Pass, "{report:?}");
            assert_eq!(report.finding.remedy, None, "{report:?}");
        }
        assert_eq!(worst(&reports), Outcome::Pass);
    }

    #[test]
    fn a_host_that_tells_nothing_is_unknown_and_not_failed() {
        let reports = examine(&FakeHost::silent(), &plan());
        let unknown = reports.iter().filter(|r| r.finding.outcome == Outcome::Unknown).count();
        assert_eq!(unknown, reports.len() - 2, "{reports:?}");
        assert_eq!(worst(&reports), Outcome::Unknown);
    }

    #[test]
    fn what_is_not_right_says_what_to_do() {
        let mut host = FakeHost::good();
        host.set("/proc/sys/kernel/osrelease", "5.4.0\n");
        host.set("/proc/sys/vm/overcommit_memory", "2\n");
        let reports = examine(&host, &plan());
        assert_eq!(worst(&reports), Outcome::Fail);
        for report in reports {
            let wrong = report.finding.outcome > Outcome::Unknown;
            assert_eq!(report.finding.remedy.is_some(), wrong, "{report:?}");
        }
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(100), "100 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
    }
}
