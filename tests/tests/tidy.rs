//! The repository is tidy. Each test prints all that it found, not just the first.

use std::fs;

use corelane_tests::source::{
    SourceFile, code_of, files, has_word, is_test_path, lines_of_tests, root, rust_files,
    without_tests,
};

/// Longest file without its tests, in lines.
const LINES_MAX: usize = 1_000;

/// Files of the crates that face the network in which `unwrap` may stand, and why. There is
/// none: `expect` says why it cannot fail.
const UNWRAP_ALLOWED: [(&str, &str); 0] = [];

/// Asserts that nothing was found.
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// Everything written by hand that is text.
fn texts() -> Vec<SourceFile> {
    files(|path| {
        [".rs", ".md", ".toml", ".sh", ".yml", ".py"].iter().any(|end| path.ends_with(end))
            || path.starts_with(".ci/")
    })
}

/// The lines in which `is_bad` finds something.
fn bad_lines(files: &[SourceFile], is_bad: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = files.iter().flat_map(|file| {
        file.text.lines().zip(1..).map(move |(line, number)| (&file.path, number, line))
    });
    lines
        .filter(|(_, _, line)| is_bad(line))
        .map(|(path, number, line)| format!("{path}:{number}: {}", line.trim()))
        .collect()
}

#[test]
fn nothing_is_left_to_be_done() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|halves| halves.concat());
    let is_mark = |line: &str| marks.iter().any(|mark| has_word(line, mark));
    assert_none("marks of unfinished work", &bad_lines(&texts(), is_mark));
    let macros = ["dbg!", "todo!", "unimplemented!"];
    let code: Vec<SourceFile> = rust_files()
        .into_iter()
        .map(|file| SourceFile { text: code_of(&file.text), path: file.path })
        .collect();
    let is_macro = |line: &str| macros.iter().any(|name| line.contains(name));
    assert_none("macros of unfinished work", &bad_lines(&code, is_macro));
}

#[test]
fn files_are_not_too_long() {
    let long: Vec<_> = rust_files()
        .iter()
        .filter(|file| !is_test_path(&file.path))
        .map(|file| {
            let tests = lines_of_tests(&code_of(&file.text));
            (&file.path, file.text.lines().count() - tests)
        })
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path} has {lines} lines without its tests"))
        .collect();
    assert_none("files over 1,000 lines", &long);
}

#[test]
fn no_paths_of_one_machine() {
    let homes = ["work", "root", "home", "tmp/brief"].map(|name| format!("/{name}"));
    let is_home = |line: &str| {
        homes.iter().any(|home| {
            line.match_indices(home.as_str()).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + home.len()..].chars().next();
                let begins =
                    before.is_none_or(|c| !c.is_alphanumeric() && !"/._-}>*$)".contains(c));
                begins && after.is_none_or(|c| !c.is_alphanumeric() && !"_-".contains(c))
            })
        })
    };
    assert_none("paths of a machine", &bad_lines(&texts(), is_home));
}

#[test]
fn every_rust_file_says_what_it_is() {
    let silent: Vec<_> = rust_files()
        .into_iter()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| file.path)
        .collect();
    assert_none("files without module documentation on top", &silent);
}

#[test]
fn no_tabs_and_no_spaces_at_the_end_of_a_line() {
    let is_bad = |line: &str| line.contains('\t') || line.ends_with([' ', '\r']);
    assert_none("tabs or trailing spaces", &bad_lines(&texts(), is_bad));
    let endings: Vec<_> = texts()
        .into_iter()
        .filter(|file| !file.text.is_empty())
        .filter(|file| !file.text.ends_with('\n') || file.text.ends_with("\n\n"))
        .map(|file| file.path)
        .collect();
    assert_none("files that do not end with one line break", &endings);
}

#[test]
fn what_faces_the_network_does_not_unwrap() {
    let faces_the_network = |path: &str| {
        ["protocol/src/", "node/dialect/src/", "node/engine/src/", "node/src/", "client/src/"]
            .iter()
            .any(|directory| path.starts_with(directory))
    };
    let found: Vec<_> = rust_files()
        .iter()
        .filter(|file| faces_the_network(&file.path) && !is_test_path(&file.path))
        .filter(|file| UNWRAP_ALLOWED.iter().all(|(path, _)| *path != file.path))
        .flat_map(|file| {
            let text = without_tests(&code_of(&file.text));
            bad_lines(&[SourceFile { path: file.path.clone(), text }], |line| {
                line.contains(".unwrap()") || line.contains(".unwrap_err()")
            })
        })
        .collect();
    assert_none("unwrap where the network could reach it", &found);
}

#[test]
fn every_outside_dependency_has_a_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the root manifest");
    let (_, section) =
        manifest.split_once("[workspace.dependencies]").expect("the workspace's dependencies");
    let section = section.split("\n[").next().expect("split gives at least one");
    let bare: Vec<_> = section
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.contains("path ="))
        .filter(|line| line.split_once(" # ").is_none_or(|(_, reason)| reason.trim().len() < 10))
        .map(str::to_owned)
        .collect();
    assert_none("dependencies without a reason beside them", &bare);
}

#[test]
fn links_between_documents_hold() {
    let mut broken = Vec::new();
    for file in files(|path| path.ends_with(".md")) {
        let directory = root().join(&file.path).parent().expect("a file is somewhere").to_owned();
        for (_, rest) in file.text.match_indices("](").map(|(at, _)| file.text.split_at(at + 2)) {
            let target = rest.split([')', ' ']).next().expect("split gives at least one");
            let is_outside = target.contains("://") || target.starts_with("mailto:");
            let path = target.split('#').next().expect("split gives at least one");
            if !is_outside && !path.is_empty() && !directory.join(path).exists() {
                broken.push(format!("{}: {target}", file.path));
            }
        }
    }
    assert_none("links to files that do not exist", &broken);
}
