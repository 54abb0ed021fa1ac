//! Why io_uring is not to be had, and what to do about it.
//!
//! The kernel says only an error number; which of old kernel, sysctl, seccomp and memory
//! limit is behind it, the surroundings tell. [`diagnose`] is a pure function of both.

use std::fmt;
use std::io;

/// The oldest kernel that has everything used here: `DEFER_TASKRUN` came with 6.1.
pub const KERNEL_MIN: (u32, u32) = (6, 1);
/// The kernel that io_uring came with.
const KERNEL_FIRST: (u32, u32) = (5, 1);

/// What is known of the machine beside the error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Kernel release as `uname -r` prints it.
    pub release: String,
    /// `/proc/sys/kernel/io_uring_disabled`, where the kernel has it.
    pub disabled: Option<u32>,
    /// `Seccomp` of `/proc/self/status`: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// `RLIMIT_MEMLOCK` in bytes; none when it is unlimited.
    pub memlock_bytes: Option<u64>,
}

/// The reason, with an instruction in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The kernel lacks io_uring or an operation of it.
    Kernel {
        /// Its release.
        release: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// The administrator has turned io_uring off.
    Sysctl {
        /// 1: for all but members of a group and the privileged; 2: for everyone.
        value: u32,
    },
    /// A filter of system calls, usually the container runtime's, refuses it.
    Seccomp,
    /// Locked memory is limited.
    Memlock {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// The kernel refuses and the surroundings do not tell why.
    Refused {
        /// The error number.
        errno: i32,
    },
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = KERNEL_MIN;
        match self {
            Self::Kernel { release, missing } => write!(
                f,
                "io_uring is not available: kernel {release} lacks {missing}. \
                 Use Linux {major}.{minor} or newer with CONFIG_IO_URING"
            ),
            Self::Sysctl { value: 1 } => f.write_str(
                "io_uring is not available: the sysctl kernel.io_uring_disabled is 1. \
                 Set it to 0 (sysctl -w kernel.io_uring_disabled=0), or run as a member of \
                 the group named by kernel.io_uring_group, or with CAP_SYS_ADMIN",
            ),
            Self::Sysctl { value } => write!(
                f,
                "io_uring is not available: the sysctl kernel.io_uring_disabled is {value}. \
                 Set it to 0 (sysctl -w kernel.io_uring_disabled=0)"
            ),
            Self::Seccomp => f.write_str(
                "io_uring is not available: a seccomp filter refuses it, as the default \
                 profiles of container runtimes do. Allow io_uring_setup, io_uring_enter and \
                 io_uring_register in the profile (docker run --security-opt \
                 seccomp=PROFILE.json)",
            ),
            Self::Memlock { limit_bytes } => write!(
                f,
                "io_uring is not available: locking memory is limited to {limit_bytes} bytes. \
                 Raise RLIMIT_MEMLOCK (ulimit -l unlimited, or LimitMEMLOCK=infinity in the \
                 unit)"
            ),
            Self::Refused { errno } => write!(
                f,
                "io_uring is not available: {}. A security module may refuse it; its audit \
                 log tells",
                io::Error::from_raw_os_error(*errno)
            ),
        }?;
        f.write_str(", or run the readiness loop instead: --io epoll")
    }
}

impl std::error::Error for Unavailable {}

/// The reason for `errno`, which setting up or probing gave, in view of `facts`.
pub fn diagnose(errno: i32, facts: &Facts) -> Unavailable {
    let version = version(&facts.release);
    let older_than = |least| version.is_some_and(|version| version < least);
    let filtered = facts.seccomp.is_some_and(|mode| mode != 0);
    let kernel = |missing| Unavailable::Kernel { release: facts.release.clone(), missing };
    match errno {
        libc::ENOSYS if older_than(KERNEL_FIRST) => kernel("io_uring"),
        libc::ENOSYS if filtered => Unavailable::Seccomp,
        libc::ENOSYS => kernel("io_uring (it was built without)"),
        libc::EINVAL | libc::EOPNOTSUPP if older_than(KERNEL_MIN) => {
            kernel("operations that are needed")
        }
        libc::EPERM | libc::EACCES => match facts.disabled {
            Some(value) if value != 0 => Unavailable::Sysctl { value },
            _ if filtered => Unavailable::Seccomp,
            _ => Unavailable::Refused { errno },
        },
        libc::ENOMEM => match facts.memlock_bytes {
            Some(limit_bytes) => Unavailable::Memlock { limit_bytes },
            None => Unavailable::Refused { errno },
        },
        _ => Unavailable::Refused { errno },
    }
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Facts {
    /// Reads them from the running system. What cannot be read is left out.
    pub fn read() -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let seccomp = text("/proc/self/status")
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp:")?.trim().parse().ok());
        Self {
            release: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            disabled: text("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            seccomp,
            memlock_bytes: soft_limit("Max locked memory"),
        }
    }
}

/// The soft limit that `/proc/self/limits` gives under a name; none when it is unlimited or
/// cannot be read.
pub(crate) fn soft_limit(name: &str) -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(release: &str) -> Facts {
        Facts {
            release: release.to_owned(),
            disabled: Some(0),
            seccomp: Some(0),
            memlock_bytes: Some(8 << 20),
        }
    }

    /// Checks the reason, and that its text names the remedy and the way out.
    fn check(errno: i32, facts: Facts, expected: Unavailable, remedy: &str) {
        let reason = diagnose(errno, &facts);
        assert_eq!(reason, expected, "errno {errno} with {facts:?}");
        let text = reason.to_string();
        assert!(text.contains(remedy), "{text:?} does not name {remedy:?}");
        assert!(text.contains("--io epoll"), "{text:?} names no way out");
    }

    fn kernel(release: &str, missing: &'static str) -> Unavailable {
        Unavailable::Kernel { release: release.to_owned(), missing }
    }

    #[test]
    fn an_old_kernel_is_told_from_a_filter_and_from_a_missing_build_option() {
        let old = facts("4.19.0-26-amd64");
        check(libc::ENOSYS, old, kernel("4.19.0-26-amd64", "io_uring"), "Linux 6.1");
        let filtered = Facts { seccomp: Some(2), ..facts("6.8.0") };
        check(libc::ENOSYS, filtered, Unavailable::Seccomp, "seccomp=PROFILE");
        check(
            libc::ENOSYS,
            facts("6.8.0"),
            kernel("6.8.0", "io_uring (it was built without)"),
            "CONFIG_IO_URING",
        );
        check(
            libc::EINVAL,
            facts("5.15.0-100-generic"),
            kernel("5.15.0-100-generic", "operations that are needed"),
            "Linux 6.1",
        );
    }

    #[test]
    fn a_sysctl_goes_before_a_filter() {
        for value in [1, 2] {
            let facts = Facts { disabled: Some(value), seccomp: Some(2), ..facts("6.6.0") };
            check(libc::EPERM, facts, Unavailable::Sysctl { value }, "kernel.io_uring_disabled=0");
        }
        let filtered = Facts { seccomp: Some(2), ..facts("6.6.0") };
        check(libc::EPERM, filtered, Unavailable::Seccomp, "io_uring_setup");
        let no_sysctl = Facts { disabled: None, seccomp: Some(2), ..facts("6.2.0") };
        check(libc::EPERM, no_sysctl, Unavailable::Seccomp, "io_uring_setup");
    }

    #[test]
    fn limits_and_unknown_causes_have_their_own_text() {
        let limit_bytes = 8 << 20;
        check(libc::ENOMEM, facts("6.1.0"), Unavailable::Memlock { limit_bytes }, "RLIMIT_MEMLOCK");
        let unlimited = Facts { memlock_bytes: None, ..facts("6.1.0") };
        let errno = libc::ENOMEM;
        check(errno, unlimited, Unavailable::Refused { errno }, "memory");
        let errno = libc::EPERM;
        check(errno, facts("6.1.0"), Unavailable::Refused { errno }, "audit");
    }

    #[test]
    fn releases_are_read_as_they_come() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("6.1"), Some((6, 1)));
        assert_eq!(version("unknown"), None);
        assert_ne!(Facts::read().release, "");
    }
}
