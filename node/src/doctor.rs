//! `corelane doctor`: asks this host on behalf of the checks of `corelane-tuning`, and
//! prints what they found.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use corelane::config::values::format_size;
use corelane::config::{Config, Cores, Host, Io, Pin};
use corelane_tuning::{
    Interface, IoUringTrial, Outcome, Pinning, Plan, Probe, Report, examine, worst,
};
use corelane_uring::{Ring, Unavailable};
use serde::Serialize;

/// Most bytes that are read of a file; those of /proc and /sys that matter are far shorter.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The smallest ring that has everything the network loop uses.
const TRIAL_RING: corelane_uring::Config = corelane_uring::Config {
    queue_entries: 8,
    completion_entries: 16,
    slots: 8,
    buffers: 8,
    buffer_bytes: 4096,
};
/// Longest line of the table, without its first two columns.
const LINE_BYTES_MAX: usize = 78;

/// How the findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// Makes all checks for a node of this configuration. The exit code is 1 if one failed.
pub(crate) fn run(config: &Config, host: &Host, format: Format) -> ExitCode {
    let plan = plan(config, host);
    let reports = examine(&ThisHost { host }, &plan);
    match format {
        Format::Text => print!("{}", text(&plan, &reports)),
        Format::Json => println!("{}", json(&reports)),
    }
    match worst(&reports) {
        Outcome::Fail => ExitCode::FAILURE,
        Outcome::Pass | Outcome::Unknown | Outcome::Warn => ExitCode::SUCCESS,
    }
}

/// The host that this process runs on.
struct ThisHost<'a> {
    host: &'a Host,
}

impl Probe for ThisHost<'_> {
    fn file(&self, path: &str) -> Option<String> {
        let mut text = String::new();
        File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn io_uring(&self) -> IoUringTrial {
        match <Ring>::new(&TRIAL_RING) {
            Ok(_) => IoUringTrial::Works,
            Err(unavailable) => refused(&unavailable),
        }
    }

    fn usable_cpus(&self) -> usize {
        self.host.cpus
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.host.memory_bytes
    }
}

/// In words that leave room for the check's own, and the command for each reason.
fn refused(unavailable: &Unavailable) -> IoUringTrial {
    let (reason, remedy) = match unavailable {
        Unavailable::Kernel { release, missing } => (
            format!("Linux {release} lacks {missing}"),
            "install Linux 6.1 or later with CONFIG_IO_URING",
        ),
        Unavailable::Sysctl { value } => {
            (format!("kernel.io_uring_disabled is {value}"), "sysctl -w kernel.io_uring_disabled=0")
        }
        Unavailable::Seccomp => (
            "a seccomp filter refuses io_uring, as container runtimes do by default".to_owned(),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp \
             profile (docker run --security-opt seccomp=PROFILE.json)",
        ),
        Unavailable::Memlock { limit_bytes } => (
            format!("locking memory is limited to {limit_bytes} bytes"),
            "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)",
        ),
        Unavailable::Refused { errno } => (
            format!("the kernel refuses a ring: {}", io::Error::from_raw_os_error(*errno)),
            "look for a security module's refusal: dmesg | grep -i denied",
        ),
    };
    IoUringTrial::Refused { reason, remedy: remedy.to_owned() }
}

fn plan(config: &Config, host: &Host) -> Plan {
    Plan {
        interface: match config.io {
            Io::Auto | Io::Uring => Interface::IoUring,
            Io::Epoll => Interface::Epoll,
        },
        cores: config.cores.count(host.cpus),
        cpus: match &config.cores {
            Cores::List(cpus) => cpus.clone(),
            Cores::Auto | Cores::Count(_) => Vec::new(),
        },
        pinning: match config.pin {
            Pin::On => Pinning::Pinned,
            Pin::Off => Pinning::Unpinned,
        },
        descriptors: config.descriptors(host),
        memory_bytes: config.memory,
    }
}

/// A line a check, and under those that did not pass why it matters and what to type.
fn text(plan: &Plan, reports: &[Report]) -> String {
    let mut text = format!(
        "A node of {} cores, {} of memory and {} open files on this host:\n\n",
        plan.cores,
        format_size(plan.memory_bytes),
        plan.descriptors,
    );
    let width = reports.iter().map(|report| report.name.len()).max().unwrap_or_default();
    let mut row = |label: &str, name: &str, lines: &[String]| {
        for (index, line) in lines.iter().enumerate() {
            let (label, name) = if index == 0 { (label, name) } else { ("", "") };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{label:<8} {name:<width$}  {line}");
        }
    };
    for Report { name, why, finding } in reports {
        row(finding.outcome.word(), name, &wrapped("", &finding.found));
        if finding.outcome != Outcome::Pass {
            row("", "", &wrapped("why: ", why));
        }
        if let Some(remedy) = &finding.remedy {
            row("", "", &wrapped("do:  ", remedy));
        }
    }
    text
}

/// Text behind a label, broken between words and indented under itself.
fn wrapped(label: &str, text: &str) -> Vec<String> {
    let mut lines = vec![label.to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        let is_empty = line.len() == label.len();
        if is_empty || line.len() + 1 + word.len() <= LINE_BYTES_MAX {
            let space = if is_empty { "" } else { " " };
            *line += &format!("{space}{word}");
        } else {
            lines.push(format!("{:1$}{word}", "", label.len()));
        }
    }
    lines
}

#[derive(Serialize)]
struct ReportsAsJson<'a> {
    worst: &'a str,
    checks: Vec<ReportAsJson<'a>>,
}

#[derive(Serialize)]
struct ReportAsJson<'a> {
    name: &'a str,
    outcome: &'a str,
    found: &'a str,
    why: &'a str,
    remedy: Option<&'a str>,
}

impl<'a> From<&'a Report> for ReportAsJson<'a> {
    fn from(report: &'a Report) -> ReportAsJson<'a> {
        ReportAsJson {
            name: report.name,
            outcome: report.finding.outcome.word(),
            found: &report.finding.found,
            why: report.why,
            remedy: report.finding.remedy.as_deref(),
        }
    }
}

fn json(reports: &[Report]) -> String {
    let reports = ReportsAsJson {
        worst: worst(reports).word(),
        checks: reports.iter().map(ReportAsJson::from).collect(),
    };
    serde_json::to_string_pretty(&reports).expect("strings are always JSON")
}

#[cfg(test)]
mod tests {
    use corelane_tuning::Finding;

    use super::*;

    fn reports() -> Vec<Report> {
        let report = |name, outcome, remedy: Option<&str>| Report {
            name,
            why: "It matters.",
            finding: Finding {
                outcome,
                found: format!("{name} was \"read\""),
                remedy: remedy.map(str::to_owned),
            },
        };
        vec![
            report("kernel", Outcome::Pass, None),
            report("io_uring", Outcome::Fail, Some("sysctl -w kernel.io_uring_disabled=0")),
        ]
    }

    #[test]
    fn the_plan_follows_the_configuration() {
        let host = Host { cpus: 4, ..Host::read() };
        let mut config = Config { io: Io::Epoll, pin: Pin::Off, ..Config::for_host(&host) };
        config.cores = Cores::List(vec![1, 3]);
        let plan = plan(&config, &host);
        assert_eq!((plan.interface, plan.pinning), (Interface::Epoll, Pinning::Unpinned));
        assert_eq!((plan.cores, plan.cpus), (2, vec![1, 3]));
        assert_eq!(plan.memory_bytes, config.memory);
    }

    #[test]
    fn text_explains_what_did_not_pass() {
        let host = Host::read();
        let text = text(&plan(&Config::for_host(&host), &host), &reports());
        assert!(text.contains("PASS     kernel    kernel was \"read\"\n"), "{text}");
        assert!(text.contains("FAIL     io_uring  io_uring was \"read\"\n"), "{text}");
        assert_eq!(text.matches("why: It matters.").count(), 1, "{text}");
        assert!(text.contains("do:  sysctl -w kernel.io_uring_disabled=0\n"), "{text}");
    }

    #[test]
    fn long_texts_are_wrapped_under_themselves() {
        let lines = wrapped("do:  ", &"word ".repeat(20));
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX));
        assert!(lines[1].starts_with("     word"), "{lines:?}");
        assert_eq!(wrapped("", "short"), ["short"]);
    }

    #[test]
    fn json_holds_all_of_it() {
        let parsed: serde_json::Value = serde_json::from_str(&json(&reports())).unwrap();
        assert_eq!(parsed["worst"], "FAIL");
        assert_eq!(parsed["checks"][0]["remedy"], serde_json::Value::Null);
        assert_eq!(parsed["checks"][1]["name"], "io_uring");
        assert_eq!(parsed["checks"][1]["found"], "io_uring was \"read\"");
    }
}
