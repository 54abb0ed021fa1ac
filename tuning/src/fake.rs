//! A made-up host for the tests of the checks.

use std::collections::HashMap;

use crate::{Interface, IoUringTrial, Pinning, Plan, Probe};

pub(crate) struct FakeHost {
    files: HashMap<String, String>,
    pub(crate) io_uring: IoUringTrial,
    memory_bytes: Option<u64>,
}

impl FakeHost {
    /// Eight CPUs, 16 GiB, all as GUIDE.md wants it.
    pub(crate) fn good() -> FakeHost {
        let mut host = FakeHost { memory_bytes: Some(16 << 30), ..FakeHost::silent() };
        host.set("/proc/sys/kernel/osrelease", "6.12.5\n");
        host.set("/proc/sys/kernel/io_uring_disabled", "0\n");
        host.set("/proc/self/limits", "Max open files  1024  1048576  files\n");
        host.set("/proc/self/status", "Name:\tcorelane\nCpus_allowed_list:\t0-7\n");
        for cpu in 0..8 {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            host.set(&path, "performance\n");
        }
        host.set("/proc/meminfo", "MemTotal: 16777216 kB\nSwapTotal: 0 kB\n");
        host.set("/proc/sys/vm/overcommit_memory", "0\n");
        host.set("/proc/sys/vm/swappiness", "60\n");
        host.set("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        host
    }

    /// Nothing can be read; a ring can be made and eight CPUs be used.
    pub(crate) fn silent() -> FakeHost {
        FakeHost { files: HashMap::new(), io_uring: IoUringTrial::Works, memory_bytes: None }
    }

    pub(crate) fn set(&mut self, path: &str, text: &str) {
        self.files.insert(path.to_owned(), text.to_owned());
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.files.remove(path);
    }
}

impl Probe for FakeHost {
    fn file(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn io_uring(&self) -> IoUringTrial {
        self.io_uring.clone()
    }

    fn usable_cpus(&self) -> usize {
        8
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }
}

/// A node of seven cores that fits [`FakeHost::good`].
pub(crate) fn plan() -> Plan {
    Plan {
        interface: Interface::IoUring,
        cores: 7,
        cpus: Vec::new(),
        pinning: Pinning::Pinned,
        descriptors: 10_120,
        memory_bytes: 12 << 30,
    }
}
