//! CPU time of single threads, so that an embedded node is told from the generator that
//! shares its process.
//!
//! Linux counts a thread's time on a CPU in nanoseconds in `/proc/PID/task/TID/schedstat`
//! (first field; `Documentation/scheduler/sched-stats`). Where the kernel keeps no such
//! count, user and system time from `stat` serve, in steps of 10 ms.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Nanoseconds of one clock tick of `stat`: USER_HZ is 100 on every Linux that Rust runs on.
const TICK_NS: u64 = 10_000_000;

/// Which threads are the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerThreads {
    /// Nobody said.
    Unknown,
    /// These threads of this process.
    Here(Vec<i32>),
    /// All threads of another process.
    Process(u32),
}

/// CPU times of some threads at one moment, in nanoseconds by thread id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    threads: BTreeMap<i32, u64>,
}

impl CpuTimes {
    /// What the threads used since an earlier moment, in nanoseconds; nothing where no
    /// thread could be read. Threads that began since count whole.
    pub fn since(&self, earlier: &CpuTimes) -> Option<u64> {
        if self.threads.is_empty() {
            return None;
        }
        let used = self.threads.iter().map(|(thread, now)| {
            now.saturating_sub(earlier.threads.get(thread).copied().unwrap_or(0))
        });
        Some(used.sum())
    }
}

impl ServerThreads {
    /// Their CPU times now.
    pub fn sample(&self) -> CpuTimes {
        let (process, threads) = match self {
            ServerThreads::Unknown => return CpuTimes::default(),
            ServerThreads::Here(threads) => ("self".to_owned(), threads.clone()),
            ServerThreads::Process(process) => (process.to_string(), threads_of(*process)),
        };
        let times = threads.into_iter().filter_map(|thread| {
            let path = PathBuf::from(format!("/proc/{process}/task/{thread}"));
            Some((thread, of_thread(&path)?))
        });
        CpuTimes { threads: times.collect() }
    }
}

/// The threads of a process, as far as they can be seen.
fn threads_of(process: u32) -> Vec<i32> {
    let Ok(directory) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The calling thread's id.
pub fn this_thread() -> Option<i32> {
    fs::read_link("/proc/thread-self").ok()?.file_name()?.to_str()?.parse().ok()
}

/// CPU time of the calling thread, in nanoseconds.
pub fn of_this_thread() -> Option<u64> {
    of_thread(Path::new("/proc/thread-self"))
}

fn of_thread(directory: &Path) -> Option<u64> {
    let precise = fs::read_to_string(directory.join("schedstat")).ok();
    precise
        .and_then(|text| parse_schedstat(&text))
        .or_else(|| parse_stat(&fs::read_to_string(directory.join("stat")).ok()?))
}

/// The first of three numbers; all are 0 where the kernel keeps no count.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok().filter(|time| *time > 0)
}

/// Fields 14 and 15, user and system time in ticks. The second field is a name in
/// parentheses that may hold anything.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_understood() {
        assert_eq!(parse_schedstat("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(parse_schedstat("0 0 0\n"), None);
        assert_eq!(parse_schedstat(""), None);
        let stat = "17 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 5 6 7\n";
        assert_eq!(parse_stat(stat), Some(300 * TICK_NS));
        assert_eq!(parse_stat("17 nonsense"), None);
    }

    #[test]
    fn this_thread_is_seen_by_both_ways() {
        let mut sum = 0u64;
        let start = of_this_thread().unwrap();
        while of_this_thread().unwrap() == start {
            sum = std::hint::black_box(sum + 1);
        }
        let thread = this_thread().unwrap();
        let here = ServerThreads::Here(vec![thread]).sample();
        assert!(here.since(&CpuTimes::default()).unwrap() >= start);
        let process = ServerThreads::Process(std::process::id()).sample();
        assert!(process.threads.contains_key(&thread));
    }

    #[test]
    fn times_are_subtracted_thread_by_thread() {
        let times = |pairs: &[(i32, u64)]| CpuTimes { threads: pairs.iter().copied().collect() };
        let before = times(&[(1, 100), (2, 50), (3, 7)]);
        assert_eq!(times(&[(1, 150), (2, 50), (4, 9)]).since(&before), Some(59));
        assert_eq!(times(&[]).since(&before), None);
        assert_eq!(ServerThreads::Unknown.sample().since(&before), None);
    }
}
