//! What the machine and its limits say, read from /proc and /sys: the defaults of memory,
//! name and connections come from here. The root of these file trees is an argument, so
//! that tests bring their own.

use std::fs;
use std::path::{Path, PathBuf};

/// Descriptors that are not client connections: rings, event descriptors, listeners, log, and
/// the connections of the admin and HTTP ports.
pub const DESCRIPTORS_RESERVED: u64 = 128;
/// Descriptors that each data core needs besides its connections and listeners: ring or
/// readiness queue, wake-up, some in passing, and connections that are being refused.
pub const DESCRIPTORS_PER_CORE: u64 = 6 + crate::event_loop::REFUSED_MAX as u64;

/// Facts about the machine that settings depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The host's name, where it is known.
    pub name: Option<String>,
    /// The smaller of physical memory and the control group's limit, in bytes.
    pub memory_bytes: Option<u64>,
    /// Limits of open file descriptors.
    pub open_files: OpenFiles,
    /// CPUs that this process may use.
    pub cpus: usize,
}

/// `RLIMIT_NOFILE` (see getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// What is in force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

impl Host {
    /// Reads this machine.
    pub fn read() -> Host {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Host::read_under(Path::new("/"), cpus)
    }

    /// Reads the file trees `proc` and `sys` under `root`.
    pub fn read_under(root: &Path, cpus: usize) -> Host {
        let name = fs::read_to_string(root.join("proc/sys/kernel/hostname"))
            .ok()
            .map(|name| name.trim().to_owned());
        Host { name, memory_bytes: memory_limit(root), open_files: open_files(root), cpus }
    }
}

fn memory_limit(root: &Path) -> Option<u64> {
    physical_memory(root).into_iter().chain(cgroup_limits(root)).min()
}

fn physical_memory(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Every limit that applies to this process: its control group's and those of all groups
/// above, in version 2 (`memory.max`, and `memory.high`, from which on the kernel slows the
/// process down) and version 1. Without a limit version 2 says `max`, and version 1 a number
/// near 2^63, which loses against physical memory.
///
/// The paths in /proc/self/cgroup are as the host sees them; in a container the group may be
/// mounted at the root of the tree, so that the walk ends there in any case.
fn cgroup_limits(root: &Path) -> Vec<u64> {
    let Ok(groups) = fs::read_to_string(root.join("proc/self/cgroup")) else {
        return Vec::new();
    };
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (trees, files): (&[&str], &[&str]) = if controllers.is_empty() {
            (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], &["memory.max", "memory.high"])
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (&["sys/fs/cgroup/memory"], &["memory.limit_in_bytes"])
        } else {
            continue;
        };
        for tree in trees {
            let tree = root.join(tree);
            // A group outside the namespace reads as "/../..": only the root is known then.
            let inside = if path.contains("..") { "" } else { path.trim_start_matches('/') };
            let mut group: PathBuf = tree.join(inside);
            loop {
                for file in files {
                    if let Ok(text) = fs::read_to_string(group.join(file)) {
                        limits.extend(text.trim().parse::<u64>());
                    }
                }
                if group == tree || !group.pop() {
                    break;
                }
            }
        }
    }
    limits
}

/// Reads /proc/self/limits. Where it is missing, the values that POSIX guarantees least
/// would be useless, so Linux's usual defaults stand in.
fn open_files(root: &Path) -> OpenFiles {
    let read = || {
        let text = fs::read_to_string(root.join("proc/self/limits")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let mut fields = line.split_whitespace().map(|field| match field {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        Some(OpenFiles { soft: fields.next()??, hard: fields.next()?? })
    };
    read().unwrap_or(OpenFiles { soft: 1024, hard: 4096 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> Host {
        let root = tempfile::tempdir().unwrap();
        for (path, contents) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        Host::read_under(root.path(), 4)
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1048576 kB\nMemFree: 5 kB\n");

    #[test]
    fn physical_memory_alone() {
        assert_eq!(host(&[MEMINFO]).memory_bytes, Some(1 << 30));
        assert_eq!(host(&[]).memory_bytes, None);
    }

    #[test]
    fn cgroup_version_2_takes_the_least_on_the_way_up() {
        let host = host(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/system.slice/corelane.service\n"),
            ("sys/fs/cgroup/system.slice/corelane.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/corelane.service/memory.high", "500000000\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "400000000\n"),
        ]);
        assert_eq!(host.memory_bytes, Some(400_000_000));
    }

    #[test]
    fn a_container_sees_its_group_at_the_root() {
        let host = host(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/docker/abc\n"),
            ("sys/fs/cgroup/memory.max", "300000000\n"),
        ]);
        assert_eq!(host.memory_bytes, Some(300_000_000));
    }

    #[test]
    fn cgroup_version_1_is_read_and_its_no_limit_loses() {
        let group = ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n");
        let limit = "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes";
        assert_eq!(host(&[MEMINFO, group, (limit, "200000000\n")]).memory_bytes, Some(200_000_000));
        assert_eq!(
            host(&[MEMINFO, group, (limit, "9223372036854771712\n")]).memory_bytes,
            Some(1 << 30)
        );
    }

    #[test]
    fn limits_and_name() {
        let host = host(&[
            (
                "proc/self/limits",
                "Limit          Soft Limit  Hard Limit  Units\n\
                 Max open files            1024                 unlimited            files\n",
            ),
            ("proc/sys/kernel/hostname", "cache-7\n"),
        ]);
        assert_eq!(host.open_files, OpenFiles { soft: 1024, hard: u64::MAX });
        assert_eq!(host.name.as_deref(), Some("cache-7"));
    }

    #[test]
    fn this_machine_is_readable() {
        let host = Host::read();
        assert!(host.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(host.open_files.hard >= host.open_files.soft);
        assert!(host.cpus >= 1);
    }
}
