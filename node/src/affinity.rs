//! Which CPUs data cores stay on, and what the system calls their threads.

use crate::config::{Cores, Pin};

/// The CPU of every data core; none where cores are not pinned.
///
/// With more cores than CPUs, none is pinned: two on one CPU would wait for each other.
pub(crate) fn cpus(cores: &Cores, count: usize, pin: Pin) -> Vec<Option<usize>> {
    let usable: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let chosen = match cores {
        Cores::List(cpus) => cpus.clone(),
        Cores::Auto | Cores::Count(_) => usable,
    };
    if pin == Pin::Off || count > chosen.len() {
        return vec![None; count];
    }
    chosen.into_iter().take(count).map(Some).collect()
}

/// The memory (NUMA) node of a CPU; none where the host has one node or does not tell.
pub(crate) fn memory_node(cpu: usize) -> Option<u16> {
    let online = std::fs::read_to_string("/sys/devices/system/node/online").ok()?;
    if online.trim() == "0" {
        return None;
    }
    let links = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
    node_of(links.flatten().filter_map(|link| link.file_name().into_string().ok()))
}

/// Which node a CPU's directory names.
fn node_of(names: impl Iterator<Item = String>) -> Option<u16> {
    names.into_iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
}

/// The id of the calling thread, as `/proc` and `top -H` show it; 0 where `/proc` is not
/// there to ask.
pub(crate) fn thread_id() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").ok();
    let name = link.as_ref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_and_too_many_cores_are_not_pinned() {
        assert_eq!(cpus(&Cores::List(vec![1, 0]), 2, Pin::On), [Some(1), Some(0)]);
        assert_eq!(cpus(&Cores::List(vec![1]), 1, Pin::Off), [None]);
        assert_eq!(cpus(&Cores::Count(10_000), 10_000, Pin::On), vec![None; 10_000]);
    }

    #[test]
    fn a_cpu_is_asked_for_its_memory_node() {
        let names = |names: &[&str]| node_of(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(names(&["cache", "node12", "power"]), Some(12));
        assert_eq!(names(&["cache", "nodes", "power"]), None);
        assert_eq!(memory_node(usize::MAX), None);
    }

    #[test]
    fn threads_have_different_ids() {
        let other = std::thread::spawn(thread_id).join().unwrap();
        assert!(other > 0 && other != thread_id());
    }
}
