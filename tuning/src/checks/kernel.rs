//! The kernel's version. 6.1 is the first long-term kernel with all that the network loop
//! uses: multishot receive (6.0) and `DEFER_TASKRUN` (6.1). See io_uring_setup(2) and
//! io_uring_enter(2).

use crate::{Check, Finding, Interface, Plan, Probe};

/// Oldest kernel on which the io_uring loop runs.
const NEEDED: (u32, u32) = (6, 1);
/// Oldest kernel that is recommended.
const RECOMMENDED: (u32, u32) = (6, 6);

pub(super) const CHECK: Check = Check {
    name: "kernel",
    why: "The network loop uses io_uring features of Linux 6.1; 6.6 is the long-term kernel in \
          which they have settled.",
    run,
};

fn run(probe: &dyn Probe, plan: &Plan) -> Finding {
    let path = "/proc/sys/kernel/osrelease";
    let Some(release) = probe.file(path) else {
        return Finding::unknown(format!("{path} cannot be read"));
    };
    let release = release.trim();
    let Some(version) = version(release) else {
        return Finding::unknown(format!("Linux {release:?} is not understood"));
    };
    let upgrade = "install a newer kernel (Debian 12: apt install -t bookworm-backports \
                   linux-image-amd64), or run with --io epoll";
    match plan.interface {
        Interface::Epoll => Finding::pass(format!("Linux {release} (any will do for --io epoll)")),
        Interface::IoUring if version < NEEDED => {
            Finding::fail(format!("Linux {release} is older than 6.1"), upgrade)
        }
        Interface::IoUring if version < RECOMMENDED => {
            Finding::warn(format!("Linux {release} works; 6.6 or later is better"), upgrade)
        }
        Interface::IoUring => Finding::pass(format!("Linux {release}")),
    }
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::fake::{FakeHost, plan};

    #[test]
    fn versions_have_an_outcome_each() {
        let check = |release: &str, interface: Interface, expected: Outcome| {
            let mut host = FakeHost::good();
            host.set("/proc/sys/kernel/osrelease", release);
            let finding = run(&host, &Plan { interface, ..plan() });
            assert_eq!(finding.outcome, expected, "{release} {finding:?}");
        };
        check("5.15.0-100-generic\n", Interface::IoUring, Outcome::Fail);
        check("6.0.19\n", Interface::IoUring, Outcome::Fail);
        check("6.1.0-18-amd64\n", Interface::IoUring, Outcome::Warn);
        check("6.6.1\n", Interface::IoUring, Outcome::Pass);
        check("6.18-rc1\n", Interface::IoUring, Outcome::Pass);
        check("7.0.0\n", Interface::IoUring, Outcome::Pass);
        check("5.4.0\n", Interface::Epoll, Outcome::Pass);
        check("unknown\n", Interface::IoUring, Outcome::Unknown);
    }
}
