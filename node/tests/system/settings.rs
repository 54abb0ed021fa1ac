//! Settings from the command line to the running node.

use std::collections::BTreeSet;
use std::fs;

use corelane::config::settings::SETTINGS;

use crate::process::{Io, Node, corelane, run, serve};

#[test]
fn help_mentions_every_flag() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["doctor", "--help"]] {
        let help = run(corelane(arguments));
        assert_eq!(help.code(), Some(0), "{arguments:?}");
        let words: BTreeSet<&str> =
            help.stdout.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
        let missing: Vec<&str> = SETTINGS
            .iter()
            .map(|setting| setting.name)
            .chain(["config", "help"])
            .filter(|name| !words.iter().any(|word| is_flag(word, name)))
            .collect();
        assert!(missing.is_empty(), "{arguments:?} without {missing:?}:\n{}", help.stdout);
        let longest = help.stdout.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{arguments:?} has a line of {longest:?}");
    }
}

/// Whether a word of the help is this flag, perhaps with its value behind it.
fn is_flag(word: &str, name: &str) -> bool {
    word.strip_prefix("--")
        .and_then(|word| word.strip_prefix(name))
        .is_some_and(|rest| !rest.starts_with(|next: char| next == '-' || next.is_alphanumeric()))
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "cores = 3\nmemory = \"96MiB\"\nnode-name = \"from-file\"\nadmin = \"none\"\n\
                listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\npin = \"off\"\nio = \"epoll\"\n";
    fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let check = |arguments: &[&str], environment: &[(&str, &str)], expected: [&str; 3]| {
        let mut command = corelane(arguments);
        command.envs(environment.iter().copied());
        let node = Node::started_by(command);
        let ready = ["cores", "memory", "io"].map(|name| node.ready[name].as_str());
        assert_eq!(ready, expected, "{arguments:?} {environment:?}");
        assert_eq!((node.addresses.len(), node.admin.as_str()), (2, "none"));
        node.assert_serves();
    };
    check(&["--config", path], &[], ["3", "96MiB", "epoll"]);
    let environment = [("CORELANE_CORES", "2"), ("CORELANE_CONFIG", path)];
    check(&["serve"], &environment, ["2", "96MiB", "epoll"]);
    check(&["serve", "--cores", "1"], &environment, ["1", "96MiB", "epoll"]);
    let environment = [("CORELANE_MEMORY", "64MiB")];
    let arguments = ["--config", path, "--memory", "80m", "--cores", "1"];
    check(&arguments, &environment, ["1", "80MiB", "epoll"]);
}

#[test]
fn mistakes_are_refused_with_their_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let check = |text: &str, more: &[&str], environment: &[(&str, &str)], expected: &str| {
        fs::write(file.path(), text).unwrap();
        let mut command = serve(Io::Epoll, &[&["--config", &path][..], more].concat());
        command.envs(environment.iter().copied());
        let ended = run(command);
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(2), ""), "{text:?} {ended:?}");
        let expected = expected.replace("FILE", &path);
        assert!(ended.stderr.contains(&expected), "{expected:?} not in {ended:?}");
    };
    check("cores = 1\nmemroy = \"1g\"\n", &[], &[], "FILE:2:1: unknown key \"memroy\"");
    check("cores = 1\nmemroy = \"1g\"\n", &[], &[], "memory");
    check("[network]\nlisten = []\n", &[], &[], "FILE:1:2: unknown key \"network\"");
    // A wrong value is refused even where a flag hides it.
    check("\nmemory = \"lots\"\n", &["--memory", "64m"], &[], "FILE:2:10: memory: \"lots\"");
    check("cores = [\n", &[], &[], "FILE:");
    check("cores = 1.5\n", &[], &[], "FILE:1:9: cores takes");
    check("", &[], &[("CORELANE_IO", "kqueue")], "CORELANE_IO: \"kqueue\" must be");
    check("", &["--idle-timeout", "5"], &[], "--idle-timeout: \"5\"");
    check("", &["--cores", "4", "--memory", "32m"], &[], "--memory 32MiB is too little for 4");
    let missing = run(serve(Io::Epoll, &["--config", "/nowhere/corelane.toml"]));
    assert_eq!(missing.code(), Some(2));
    assert!(missing.stderr.contains("/nowhere/corelane.toml: "), "{missing:?}");
}

#[test]
fn a_variable_that_is_no_setting_is_warned_of() {
    let mut command = serve(Io::Epoll, &[]);
    command.env("CORELANE_MEMROY", "1g");
    let node = Node::started_by(command);
    assert!(node.log().contains("CORELANE_MEMROY is no setting"), "{}", node.log());
    node.assert_serves();
}

#[test]
fn the_doctor_ends_with_a_defined_code() {
    for io in ["epoll", "auto"] {
        let common = ["doctor", "--io", io, "--memory", "64m", "--cores", "1"];
        let text = run(corelane(&common));
        let json = run(corelane(&[&common[..], &["--json"]].concat()));
        let parsed: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let code = if parsed["worst"] == "FAIL" { 1 } else { 0 };
        assert_eq!((text.code(), json.code()), (Some(code), Some(code)), "{}", text.stdout);
        let checks = parsed["checks"].as_array().expect("a list");
        assert!(checks.len() >= 5, "{}", json.stdout);
        for check in checks {
            let name = check["name"].as_str().expect("a name");
            assert!(text.stdout.contains(name), "{name} not in {}", text.stdout);
        }
    }
}
