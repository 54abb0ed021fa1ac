//! Memory: whether the budget fits, whether the kernel grants reservations, and whether it
//! would swap a cache out.

use crate::{Check, Finding, Plan, Probe, size};

pub(super) const CHECK: Check = Check {
    name: "memory",
    why: "A shard reserves its address space at once and fills it over time: strict overcommit \
          refuses that, swapped-out entries turn microseconds into milliseconds, and a budget over \
          the limit ends with the OOM killer.",
    run,
};

/// Part of the memory that should stay free of the budget, in percent: page tables, socket
/// buffers and everything else on the host.
const HEADROOM_PERCENT: u64 = 10;

fn run(probe: &dyn Probe, plan: &Plan) -> Finding {
    let wanted = plan.memory_bytes;
    let Some(limit) = probe.memory_bytes() else {
        return Finding::unknown("neither /proc/meminfo nor a control group tells the memory");
    };
    let summary = format!("--memory {} of {}", size(wanted), size(limit));
    let fitting = limit / 100 * (100 - HEADROOM_PERCENT);
    if wanted > limit {
        return Finding::fail(
            format!("{summary}: more than there is"),
            format!("--memory {}m", fitting >> 20),
        );
    }
    // 2 is "no overcommit": see proc_sys_vm(5).
    let overcommit = probe.file("/proc/sys/vm/overcommit_memory");
    if overcommit.as_deref().map(str::trim) == Some("2") {
        return Finding::fail(
            format!("{summary}, but vm.overcommit_memory is 2: reservations may be refused"),
            "sysctl -w vm.overcommit_memory=0",
        );
    }
    if wanted > fitting {
        return Finding::warn(
            format!(
                "{summary}: less than {HEADROOM_PERCENT} % is left for the kernel's socket \
                     buffers and everything else"
            ),
            format!("--memory {}m", fitting >> 20),
        );
    }
    match (swap_bytes(probe), swappiness(probe)) {
        (Some(swap), Some(swappiness)) if swap > 0 && swappiness > 1 => Finding::warn(
            format!("{summary}, with {} of swap and vm.swappiness {swappiness}", size(swap)),
            "swapoff -a, or sysctl -w vm.swappiness=1 (systemd: MemorySwapMax=0)",
        ),
        _ => Finding::pass(summary),
    }
}

fn swap_bytes(probe: &dyn Probe) -> Option<u64> {
    let meminfo = probe.file("/proc/meminfo")?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn swappiness(probe: &dyn Probe) -> Option<u64> {
    probe.file("/proc/sys/vm/swappiness")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::fake::{FakeHost, plan};

    #[test]
    fn the_budget_must_fit() {
        let check = |wanted: u64, expected: Outcome| {
            let finding = run(&FakeHost::good(), &Plan { memory_bytes: wanted, ..plan() });
            assert_eq!(finding.outcome, expected, "{finding:?}");
        };
        check(12 << 30, Outcome::Pass);
        check(15 << 30, Outcome::Warn);
        check(17 << 30, Outcome::Fail);
    }

    #[test]
    fn strict_overcommit_fails() {
        let mut host = FakeHost::good();
        host.set("/proc/sys/vm/overcommit_memory", "2\n");
        let finding = run(&host, &plan());
        assert_eq!(finding.outcome, Outcome::Fail);
        assert_eq!(finding.remedy.as_deref(), Some("sysctl -w vm.overcommit_memory=0"));
    }

    #[test]
    fn swap_counts_only_where_it_is_used() {
        let check = |swap: &str, swappiness: &str, expected: Outcome| {
            let mut host = FakeHost::good();
            host.set("/proc/meminfo", &format!("MemTotal: 1 kB\nSwapTotal: {swap} kB\n"));
            host.set("/proc/sys/vm/swappiness", swappiness);
            assert_eq!(run(&host, &plan()).outcome, expected);
        };
        check("0", "60\n", Outcome::Pass);
        check("2097152", "1\n", Outcome::Pass);
        check("2097152", "60\n", Outcome::Warn);
    }
}
