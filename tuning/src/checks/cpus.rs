//! Cores against CPUs: whether there are enough, whether those asked for may be used, and whether
//! the kernel lowers their clock.

use crate::{Check, Finding, Pinning, Plan, Probe};

pub(super) const CHECK: Check = Check {
    name: "cpus",
    why: "A data core expects a CPU of its own: two on one CPU wait for each other, and a governor \
          that saves power adds tens of microseconds to a wake-up.",
    run,
};

fn run(probe: &dyn Probe, plan: &Plan) -> Finding {
    let usable = probe.usable_cpus();
    let allowed = allowed_cpus(probe);
    if let (Some(allowed), Pinning::Pinned) = (&allowed, plan.pinning) {
        let missing = plan.cpus.iter().find(|cpu| !allowed.contains(cpu));
        if let Some(cpu) = missing {
            return Finding::fail(
                format!("--cores names CPU {cpu}, which this process may not use"),
                "choose among those that `taskset -pc $$` lists",
            );
        }
    }
    if plan.cores > usable {
        return Finding::warn(
            format!("{} data cores, but only {usable} CPUs may be used", plan.cores),
            format!("--cores {usable}, or allow more CPUs (taskset, cpuset, docker --cpuset-cpus)"),
        );
    }
    let slow = slow_governor(probe, plan, allowed.as_deref().unwrap_or_default());
    if let Some((cpu, governor)) = slow {
        return Finding::warn(
            format!("the frequency governor of CPU {cpu} is {governor}"),
            "cpupower frequency-set -g performance",
        );
    }
    let spare = usable - plan.cores;
    let summary = format!("{} data cores on {usable} usable CPUs", plan.cores);
    match (plan.pinning, spare) {
        (Pinning::Unpinned, _) => Finding::warn(
            format!("{summary}, unpinned"),
            "--pin on, unless several nodes share this host",
        ),
        (Pinning::Pinned, 0) if usable >= 8 => Finding::warn(
            format!("{summary}: none is left for the control thread, interrupts and the system"),
            format!("--cores {}", usable - 1),
        ),
        (Pinning::Pinned, _) => Finding::pass(summary),
    }
}

/// The first CPU of the plan whose governor is not `performance`; none where the kernel
/// tells no governor, as in most virtual machines.
fn slow_governor(probe: &dyn Probe, plan: &Plan, allowed: &[usize]) -> Option<(usize, String)> {
    let cpus = if plan.cpus.is_empty() { allowed } else { &plan.cpus };
    cpus.iter().find_map(|cpu| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let governor = probe.file(&path)?.trim().to_owned();
        (governor != "performance").then_some((*cpu, governor))
    })
}

/// The CPUs that this process may use (see proc_pid_status(5)).
fn allowed_cpus(probe: &dyn Probe) -> Option<Vec<usize>> {
    let status = probe.file("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    cpu_list(line.trim())
}

/// The CPUs of a kernel list such as `0-3,8`.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::fake::{FakeHost, plan};

    fn outcome(host: &FakeHost, plan: &Plan) -> (Outcome, String) {
        let finding = run(host, plan);
        (finding.outcome, finding.found)
    }

    #[test]
    fn more_cores_than_cpus_is_warned_of() {
        let plan = Plan { cores: 16, ..plan() };
        let (outcome, found) = outcome(&FakeHost::good(), &plan);
        assert_eq!(outcome, Outcome::Warn);
        assert_eq!(found, "16 data cores, but only 8 CPUs may be used");
    }

    #[test]
    fn a_cpu_that_is_not_there_fails() {
        let plan = Plan { cores: 2, cpus: vec![3, 8], ..plan() };
        let (outcome, found) = outcome(&FakeHost::good(), &plan);
        assert_eq!(
            (outcome, found.as_str()),
            (Outcome::Fail, "--cores names CPU 8, which this process may not use")
        );
    }

    #[test]
    fn a_governor_counts_only_on_the_cpus_in_use() {
        let mut host = FakeHost::good();
        host.set("/sys/devices/system/cpu/cpu5/cpufreq/scaling_governor", "powersave\n");
        assert_eq!(outcome(&host, &plan()).0, Outcome::Warn);
        let elsewhere = Plan { cores: 2, cpus: vec![0, 1], ..plan() };
        assert_eq!(outcome(&host, &elsewhere).0, Outcome::Pass);
    }

    #[test]
    fn a_large_host_without_a_spare_cpu_is_warned_of() {
        assert_eq!(outcome(&FakeHost::good(), &Plan { cores: 8, ..plan() }).0, Outcome::Warn);
        let unpinned = Plan { pinning: Pinning::Unpinned, ..plan() };
        assert_eq!(outcome(&FakeHost::good(), &unpinned).0, Outcome::Warn);
    }

    #[test]
    fn kernel_lists_are_read() {
        assert_eq!(cpu_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list("0"), Some(vec![0]));
        assert_eq!(cpu_list("x"), None);
    }
}
