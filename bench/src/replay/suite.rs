//! The workloads by which policies are judged: five public traces of object ids, and keys by
//! Zipf's law with and without a scan.

use std::path::{Path, PathBuf};

use super::synthetic::Synthetic;

/// The traces' files. The first two are cache2k's, carried by the Caffeine simulator; then
/// one of CloudPhysics', carried by libCacheSim; the last two are those of the LIRS paper.
pub const FILES: [&str; 5] = [
    "c2k_web12.u32.gz",
    "c2k_orm-busy.u32.gz",
    "cp_libcs.u32.gz",
    "lirs_multi2.u32.gz",
    "lirs_sprite.u32.gz",
];

/// The workloads that are drawn.
pub const DRAWN: [&str; 6] = [
    "zipf:0.8:100K:5M",
    "zipf:0.8:100K:5M:scan=20%",
    "zipf:0.99:100K:5M",
    "zipf:0.99:100K:5M:scan=20%",
    "zipf:1.2:100K:5M",
    "zipf:1.2:100K:5M:scan=20%",
];

/// The files of the suite in a directory: those that are there, and those that are not.
pub fn files(directory: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    FILES.iter().map(|name| directory.join(name)).partition(|path| path.is_file())
}

/// The workloads that are drawn.
pub fn drawn() -> Vec<Synthetic> {
    let parse = |text: &&str| text.parse().expect("the suite's workloads are well formed");
    DRAWN.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::*;

    #[test]
    fn the_suite_is_well_formed() {
        assert_eq!(drawn().len(), DRAWN.len());
        assert!(FILES.iter().all(|name| Format::of_name(name) == Some(Format::U32)));
    }

    #[test]
    fn what_is_absent_is_told() {
        let (present, absent) = files(Path::new("/nonexistent"));
        assert_eq!((present.len(), absent.len()), (0, FILES.len()));
        assert!(absent[0].ends_with("c2k_web12.u32.gz"));
    }
}
