//! Servers that none of us wrote, started for a test on a socket in a directory of its own.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const START_MAX: Duration = Duration::from_secs(30);

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    socket: PathBuf,
    directory: tempfile::TempDir,
}

impl Peer {
    /// Debian's redis-server, without anything on disk.
    pub fn redis() -> Peer {
        Peer::start("redis-server", |directory, socket| {
            let mut command = Command::new("redis-server");
            command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
            command.arg("--unixsocket").arg(socket).arg("--dir").arg(directory);
            command
        })
    }

    /// Debian's memcached, with more memory than a test fills.
    pub fn memcached() -> Peer {
        Peer::start("memcached", |_, socket| {
            let mut command = Command::new("memcached");
            // It does not run as root unless it is told whom to be instead.
            command.args(["-u", "root", "-m", "1024", "-t", "1", "-s"]).arg(socket);
            command
        })
    }

    fn start(package: &str, command: impl Fn(&Path, &Path) -> Command) -> Peer {
        let directory = tempfile::tempdir().expect("a directory for a socket");
        let socket = directory.path().join("socket");
        let child = command(directory.path(), &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{package} does not start ({error}): install it"));
        let peer = Peer { child, socket, directory };
        let start = Instant::now();
        while UnixStream::connect(&peer.socket).is_err() {
            assert!(start.elapsed() < START_MAX, "{package} does not listen");
            std::thread::yield_now();
        }
        peer
    }

    /// A connection to it.
    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).expect("it listened before")
    }

    /// A directory that goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A child that has ended by itself was noticed by the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
