//! The real binary from the outside: what it prints and with which code it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

/// The binary with no settings but those given.
fn corelane(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("CORELANE_") {
            command.env_remove(variable);
        }
    }
    command.env("CORELANE_LOG", "error");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    ended(corelane(arguments).output().unwrap())
}

fn ended(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("Usage: corelane [OPTIONS]"), "{help}");
    assert!(help.contains("Memory and eviction:"), "{help}");
    let (code, version, _) = run(&["--version"]);
    assert_eq!((code, version.as_str()), (Some(0), "corelane 0.1.0\n"));
}

#[test]
fn a_wrong_configuration_ends_with_2_and_the_reason() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "cores = 1\nmemory = \"lots\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    let in_file = format!("corelane: {path}:2:10: memory: \"lots\" must be a size");
    for (arguments, expected) in [
        (&["--cores", "0"][..], "corelane: --cores: \"0\" must be auto"),
        (&["--listen", "0.0.0.0:0"], "corelane: --listen 0.0.0.0:0 can be reached from"),
        (&["--config", path], in_file.as_str()),
        (&["--coers", "2"], "error: unexpected argument '--coers' found"),
        (&["config", "--memory", "1"], "corelane: --memory: \"1\" must be between 32MiB and"),
        (&["doctor", "--io", "kqueue"], "corelane: --io: \"kqueue\" must be auto, uring or epoll"),
    ] {
        let (code, output, error) = run(arguments);
        assert_eq!((code, output.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(error.starts_with(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn the_printed_configuration_can_be_given_back() {
    let first = corelane(&["config", "--cores", "1"]).env("CORELANE_MEMORY", "1g").output();
    let (code, printed, _) = ended(first.unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.contains("memory = \"1GiB\""), "{printed}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &printed).unwrap();
    let (code, again, _) = run(&["config", "--config", file.path().to_str().unwrap()]);
    assert_eq!(code, Some(0));
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" # ").next().unwrap().trim().to_owned()).collect()
    };
    assert_eq!(values(&again), values(&printed));
}

#[test]
fn the_doctor_fails_where_a_node_would() {
    let (code, text, _) = run(&["doctor", "--io", "epoll", "--memory", "60t"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAIL     memory"), "{text}");
    let (code, text, _) = run(&["doctor", "--json", "--io", "epoll", "--memory", "60t"]);
    assert_eq!(code, Some(1), "{text}");
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["worst"], "FAIL");
}

#[test]
fn a_taken_address_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (setting, port) in [("--admin", "admin"), ("--http", "HTTP")] {
        let others =
            ["--listen", "--admin", "--http"].into_iter().filter(|other| *other != setting);
        let others = others.flat_map(|other| [other, "127.0.0.1:0"]);
        let arguments: Vec<&str> = [setting, &address].into_iter().chain(others).collect();
        let (code, _, error) = run(&arguments);
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains(&format!("cannot serve the {port} port on {address}")), "{error}");
    }
    let common =
        ["--admin", "none", "--http", "none", "--cores", "1", "--memory", "64m", "--pin", "off"];
    let (code, _, error) = run(&[&common[..], &["--listen", &address]].concat());
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(&address) && error.contains("in use"), "{error}");
}

/// A running node; killed where a test ends early.
struct Running {
    child: Child,
    listen: String,
    admin: String,
}

impl Running {
    /// Starts a small node and waits for its line.
    fn start(more: &[&str]) -> Running {
        let common = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "1"];
        let small = ["--http", "127.0.0.1:0", "--memory", "64m", "--pin", "off"];
        let mut child =
            corelane(&[&common[..], &small, more].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("corelane 0.1.0 ready: listen=127.0.0.1:"), "{line:?}");
        let value = |name: &str| {
            line.split(name).nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
        };
        Running { listen: value("listen="), admin: value("admin="), child }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let understood = ["200", "503"].map(|status| format!("HTTP/1.1 {status} "));
        assert!(understood.iter().any(|it| answer.starts_with(it)), "{answer}");
        answer
    }

    /// Asks until the answer holds a text.
    fn wait_for(&self, path: &str, expected: &str) {
        while !self.get(path).contains(expected) {
            std::thread::yield_now();
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_serves_until_it_is_told_to_end() {
    for (io, signal) in [("auto", "TERM"), ("epoll", "INT")] {
        let node = Running::start(&["--io", io]);
        assert!(node.get("/readyz").ends_with("ready\n"));
        assert!(node.get("/healthz").ends_with("alive\n"));
        let metrics = node.get("/metrics");
        assert!(metrics.contains("\ncorelane_items{core=\"0\"} 0\n"), "{metrics}");
        node.signal(signal);
        assert_eq!(node.code(), Some(0), "{io}");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_clients() {
    let node = Running::start(&["--io", "epoll", "--drain-timeout", "1d"]);
    // A client that never closes keeps a drain from ending.
    let client = TcpStream::connect(&node.listen).unwrap();
    node.wait_for("/metrics", "\ncorelane_connections_open{core=\"0\"} 1\n");
    node.signal("TERM");
    node.wait_for("/readyz", "draining");
    node.signal("TERM");
    assert_eq!(node.code(), Some(1));
    drop(client);
}
