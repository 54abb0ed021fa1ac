//! The crates use each other, and `unsafe`, only as ARCHITECTURE.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};
use corelane_tests::source::{code_of, has_word, root, rust_files};

/// The heading over the table.
const HEADING: &str = "## Crates and what they may use";

/// Where a crate may have `unsafe`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unsafe {
    Allowed,
    Forbidden,
    In(Vec<String>),
}

/// One row of the table.
#[derive(Clone, Debug)]
struct Row {
    /// None: everything.
    may_use: Option<BTreeSet<String>>,
    unsafety: Unsafe,
}

fn table() -> BTreeMap<String, Row> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (_, section) = text.split_once(HEADING).expect("the section of the table");
    let section = section.split("\n## ").next().expect("split gives at least one");
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, may_use, unsafety] = cells[..] else { panic!("three cells: {line}") };
        let names = |cell: &str| -> Vec<String> {
            cell.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
        };
        let row = Row {
            may_use: match may_use {
                "everything" => None,
                "nothing" => Some(BTreeSet::new()),
                _ => Some(names(may_use).into_iter().collect()),
            },
            unsafety: match unsafety {
                "allowed" => Unsafe::Allowed,
                "forbidden" => Unsafe::Forbidden,
                files => Unsafe::In(names(files)),
            },
        };
        (name.trim_matches('`').to_owned(), row)
    })
    .collect()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata")
}

/// The directory of a package, from the root.
fn directory_of(package: &Package) -> String {
    let manifest = package.manifest_path.as_std_path();
    let directory = manifest.parent().expect("a manifest is in a directory");
    let relative = directory.strip_prefix(root().canonicalize().expect("the root")).expect("below");
    relative.to_str().expect("paths are text").to_owned()
}

#[test]
fn the_table_has_every_crate_and_no_other() {
    let crates: BTreeSet<_> =
        metadata().packages.iter().map(|package| package.name.to_string()).collect();
    let rows: BTreeSet<_> = table().into_keys().collect();
    assert_eq!(crates, rows);
}

#[test]
fn crates_use_what_the_table_allows_and_all_of_it() {
    let table = table();
    let metadata = metadata();
    let members: BTreeSet<_> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    for package in &metadata.packages {
        let uses_tests = package.dependencies.iter().any(|d| d.name == "corelane-tests");
        assert!(!uses_tests, "{} depends on the tests", package.name);
        let used: BTreeSet<String> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| dependency.name.clone())
            .filter(|name| members.contains(name) && *name != *package.name)
            .collect();
        if let Some(may_use) = &table[package.name.as_str()].may_use {
            // The table is not a wish list: what is no longer used leaves it.
            assert_eq!(&used, may_use, "{}", package.name);
        }
    }
}

#[test]
fn outside_dependencies_are_named_once() {
    for package in &metadata().packages {
        let manifest = fs::read_to_string(&package.manifest_path).expect("a manifest");
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
                let inherits = line.contains("workspace = true");
                assert!(inherits, "{}: {line}", package.manifest_path);
            }
        }
    }
}

#[test]
fn unsafe_stays_where_the_table_allows_it() {
    let table = table();
    let metadata = metadata();
    let directories: Vec<(String, &Row)> = metadata
        .packages
        .iter()
        .map(|package| (directory_of(package), &table[package.name.as_str()]))
        .collect();
    for file in rust_files() {
        let owner = directories
            .iter()
            .filter(|(directory, _)| file.path.starts_with(&format!("{directory}/")))
            .max_by_key(|(directory, _)| directory.len());
        // What no crate owns may not have it either.
        let unsafety = owner.map_or(&Unsafe::Forbidden, |(_, row)| &row.unsafety);
        let allowed = match unsafety {
            Unsafe::Allowed => true,
            Unsafe::Forbidden => false,
            Unsafe::In(files) => files.contains(&file.path),
        };
        assert!(allowed || !has_word(&code_of(&file.text), "unsafe"), "unsafe in {}", file.path);
    }
}

#[test]
fn the_compiler_is_told_where_unsafe_is_forbidden() {
    let table = table();
    for package in &metadata().packages {
        let attribute = match table[package.name.as_str()].unsafety {
            Unsafe::Allowed => continue,
            Unsafe::Forbidden => "#![forbid(unsafe_code)]",
            Unsafe::In(_) => "#![deny(unsafe_code)]",
        };
        for target in &package.targets {
            let is_root =
                target.kind.iter().any(|kind| matches!(kind, TargetKind::Lib | TargetKind::Bin));
            let text = fs::read_to_string(&target.src_path).expect("a crate root");
            let stricter = "#![forbid(unsafe_code)]";
            let told = text.contains(attribute) || text.contains(stricter);
            assert!(!is_root || told, "{} lacks {attribute}", target.src_path);
        }
    }
}
