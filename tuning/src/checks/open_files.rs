//! The limit of open files, one of which every connection is.

use crate::{Check, Finding, Plan, Probe};

pub(super) const CHECK: Check = Check {
    name: "open-files",
    why: "Every connection is an open file. The node raises its soft limit to the hard one by \
          itself; the hard one must be raised before it starts.",
    run,
};

fn run(probe: &dyn Probe, plan: &Plan) -> Finding {
    let path = "/proc/self/limits";
    let Some(hard) = probe.file(path).as_deref().and_then(hard_limit) else {
        return Finding::unknown(format!("{path} cannot be read"));
    };
    let needed = plan.descriptors;
    let hard_text = if hard == u64::MAX { "unlimited".to_owned() } else { format!("{hard}") };
    if hard >= needed {
        return Finding::pass(format!("hard limit {hard_text}, {needed} needed"));
    }
    Finding::fail(
        format!("hard limit {hard_text}, but --connections-max makes {needed} necessary"),
        format!(
            "systemd: LimitNOFILE={needed}; docker: --ulimit nofile={needed}; shell, as root: \
             ulimit -Hn {needed}; or lower --connections-max"
        ),
    )
}

fn hard_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::fake::{FakeHost, plan};

    #[test]
    fn the_hard_limit_decides() {
        let check = |hard: &str, expected: Outcome| {
            let mut host = FakeHost::good();
            let limits =
                format!("Max open files            1024                 {hard}     files\n");
            host.set("/proc/self/limits", &limits);
            let finding = run(&host, &Plan { descriptors: 10_096, ..plan() });
            assert_eq!(finding.outcome, expected, "{finding:?}");
        };
        check("10096", Outcome::Pass);
        check("unlimited", Outcome::Pass);
        check("10095", Outcome::Fail);
        check("much", Outcome::Unknown);
    }
}
