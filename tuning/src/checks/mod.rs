//! The checks, one short file each.

mod cpus;
mod huge_pages;
mod io_uring;
mod kernel;
mod memory;
mod open_files;

use crate::Check;

/// All checks, in the order in which a node would stumble.
pub static CHECKS: &[Check] = &[
    kernel::CHECK,
    io_uring::CHECK,
    open_files::CHECK,
    cpus::CHECK,
    memory::CHECK,
    huge_pages::CHECK,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (index, check) in CHECKS.iter().enumerate() {
            assert!(CHECKS[..index].iter().all(|other| other.name != check.name));
            assert!(check.why.ends_with('.'), "{}", check.name);
        }
    }
}
