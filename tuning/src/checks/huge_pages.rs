//! Transparent huge pages. The first touch of a 2 MiB page zeroes all of it at once (5.5 ms
//! were seen on a small virtual machine), and a partly used one still counts whole.

use crate::{Check, Finding, Plan, Probe};

pub(super) const CHECK: Check = Check {
    name: "huge-pages",
    why: "With transparent huge pages always on, the first touch of a page zeroes 2 MiB on a data \
          core, and memory that is freed in small pieces stays resident.",
    run,
};

fn run(probe: &dyn Probe, _: &Plan) -> Finding {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = probe.file(path) else {
        return Finding::unknown(format!("{path} cannot be read"));
    };
    // The mode in force stands in brackets: "always [madvise] never".
    let mode = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    match mode.map(|(mode, _)| mode) {
        Some(mode @ ("madvise" | "never")) => {
            Finding::pass(format!("transparent huge pages: {mode}"))
        }
        Some("always") => {
            Finding::warn("transparent huge pages: always", format!("echo madvise > {path}"))
        }
        _ => Finding::unknown(format!("{path} holds {:?}", text.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::fake::{FakeHost, plan};

    #[test]
    fn the_mode_in_brackets_decides() {
        let check = |text: &str, expected: Outcome| {
            let mut host = FakeHost::good();
            host.set("/sys/kernel/mm/transparent_hugepage/enabled", text);
            assert_eq!(run(&host, &plan()).outcome, expected, "{text}");
        };
        check("always [madvise] never\n", Outcome::Pass);
        check("always madvise [never]\n", Outcome::Pass);
        check("[always] madvise never\n", Outcome::Warn);
        check("always madvise never\n", Outcome::Unknown);
    }
}
