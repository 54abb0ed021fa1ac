//! Whether a ring can be made. A trial decides; where it fails, the sysctl is named first,
//! and for the rest (seccomp filters, memory limits) the trial brings its own diagnosis.

use crate::{Check, Finding, Interface, IoUringTrial, Plan, Probe};

pub(super) const CHECK: Check = Check {
    name: "io_uring",
    why: "Data cores do all their network I/O through io_uring. Distributions and container \
          runtimes may forbid it, by a sysctl or by seccomp.",
    run,
};

/// Described in the kernel's Documentation/admin-guide/sysctl/kernel.rst.
const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

fn run(probe: &dyn Probe, plan: &Plan) -> Finding {
    if plan.interface == Interface::Epoll {
        return Finding::pass("not used (--io epoll)");
    }
    // Before Linux 6.6 there is no such file, and nothing to forbid io_uring by.
    let disabled = probe.file(SYSCTL).map(|text| text.trim().to_owned());
    let trial = probe.io_uring();
    let enable = "sysctl -w kernel.io_uring_disabled=0 (to keep it: echo \
                  kernel.io_uring_disabled=0 > /etc/sysctl.d/90-corelane.conf)";
    match (disabled.as_deref(), trial) {
        (_, IoUringTrial::Works) => Finding::pass("a ring with all features in use was made"),
        (Some("2"), _) => {
            Finding::fail("kernel.io_uring_disabled is 2: forbidden for everybody", enable)
        }
        (Some("1"), _) => Finding::fail(
            "kernel.io_uring_disabled is 1: only for members of kernel.io_uring_group and \
             CAP_SYS_ADMIN",
            enable,
        ),
        (_, IoUringTrial::Refused { reason, remedy }) => {
            Finding::fail(reason, format!("{remedy}; or run with --io epoll"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::fake::{FakeHost, plan};

    fn host(disabled: Option<&str>, trial: IoUringTrial) -> FakeHost {
        let mut host = FakeHost::good();
        host.io_uring = trial;
        match disabled {
            Some(text) => host.set(SYSCTL, text),
            None => host.remove(SYSCTL),
        }
        host
    }

    fn refused() -> IoUringTrial {
        IoUringTrial::Refused {
            reason: "operation not permitted".to_owned(),
            remedy: "allow it in the seccomp profile".to_owned(),
        }
    }

    #[test]
    fn a_trial_that_works_passes_whatever_the_sysctl_says() {
        for disabled in [None, Some("0\n"), Some("1\n")] {
            let finding = run(&host(disabled, IoUringTrial::Works), &plan());
            assert_eq!(finding.outcome, Outcome::Pass);
        }
    }

    #[test]
    fn a_refusal_names_the_sysctl_or_seccomp() {
        let check = |disabled, found: &str, remedy: &str| {
            let finding = run(&host(disabled, refused()), &plan());
            assert_eq!(finding.outcome, Outcome::Fail);
            assert!(finding.found.contains(found), "{finding:?}");
            assert!(finding.remedy.as_deref().unwrap().contains(remedy), "{finding:?}");
        };
        check(Some("2\n"), "for everybody", "sysctl -w kernel.io_uring_disabled=0");
        check(Some("1\n"), "io_uring_group", "sysctl -w kernel.io_uring_disabled=0");
        check(Some("0\n"), "operation not permitted", "seccomp");
        check(None, "operation not permitted", "seccomp");
    }

    #[test]
    fn epoll_does_not_need_it() {
        let plan = Plan { interface: Interface::Epoll, ..plan() };
        assert_eq!(run(&host(Some("2"), refused()), &plan).outcome, Outcome::Pass);
    }
}
