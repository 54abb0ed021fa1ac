//! `compare` as a program: what it says where it cannot compare, and that it leaves no
//! server behind. The servers here are scripts.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a test looks for what it waits for, and for how long.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compare-{test}"));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// An executable that calls itself a Corelane, and does this when it shall serve.
    fn corelane(&self, serve: &str) -> PathBuf {
        self.script(&format!("[ \"$1\" = --version ] && echo corelane 0.0.1 && exit\n{serve}"))
    }

    fn script(&self, body: &str) -> PathBuf {
        let path = self.0.join("corelane");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn compare(binary: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-bench"));
    command.args(["compare", "--keys", "1000", "--binary"]).arg(binary).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Compares in vain, and says why.
fn refused(binary: &Path, more: &[&str]) -> String {
    let Output { status, stderr, .. } = compare(binary, more).output().unwrap();
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).unwrap()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(LOOK_INTERVAL);
    }
}

#[test]
fn what_is_missing_is_named() {
    let directory = Directory::new("missing");
    let nowhere = directory.0.join("nowhere");
    let error = refused(&nowhere, &[]);
    assert!(error.contains("nowhere: build it"), "{error}");
    let corelane = directory.corelane("exit 3");
    let error = refused(&corelane, &["--peers", "a=/nowhere/redis-server"]);
    assert!(error.contains("a: /nowhere/redis-server --version: No such file"), "{error}");
    let error = refused(&directory.script("echo something else"), &[]);
    assert!(error.contains("it calls itself \"something else\""), "{error}");
}

#[test]
fn a_server_that_ends_at_once_is_told_with_its_last_words() {
    let directory = Directory::new("ended");
    let corelane = directory.corelane("echo no memory >&2; exit 3");
    let error = refused(&corelane, &[]);
    assert!(error.contains("corelane did not start"), "{error}");
    assert!(error.contains("exit status: 3") && error.contains("no memory"), "{error}");
}

#[test]
fn a_signal_ends_the_servers_too() {
    let directory = Directory::new("signal");
    let note = directory.0.join("server");
    let (shown, part) = (note.display(), directory.0.join("part"));
    let serve =
        format!("echo $$ $PWD > {part}; mv {part} {shown}; exec sleep 1000", part = part.display());
    let mut bench: Child = compare(&directory.corelane(&serve), &[]).spawn().unwrap();
    let server = until("the server starts", || fs::read_to_string(&note).ok());
    let (id, own) = server.trim_end().split_once(' ').unwrap();
    let process = Path::new("/proc").join(id);
    assert!(process.exists() && Path::new(own).exists());

    let kill = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", bench.id())).status();
    assert!(kill.unwrap().success());
    let status = until("the program ends", || bench.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    assert!(!process.exists(), "the server is still there");
    assert!(!Path::new(own).exists(), "its directory is still there");
}
