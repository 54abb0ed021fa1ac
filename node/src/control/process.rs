//! What the kernel says of this process.

use std::fs;

/// Resident memory in bytes, where /proc tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Open file descriptors, where /proc tells. Counts all of them, so it takes time in
/// proportion to the connections; Linux 6.2 and later tell the number at once.
pub(super) fn open_files() -> Option<u64> {
    match fs::metadata("/proc/self/fd") {
        Ok(metadata) if metadata.len() > 0 => Some(metadata.len()),
        _ => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_files() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(open_files().unwrap() >= 3);
    }
}
