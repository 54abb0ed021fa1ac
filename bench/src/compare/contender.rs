//! A server and one protocol that it speaks: what takes turns.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Protocol;
use crate::codec::fixed::Fixed;
use crate::codec::memcached::Memcached;
use crate::codec::native::Native;
use crate::codec::resp::Resp;
use crate::codec::{Answer, Codec};
use crate::floors::Server as FloorServer;
use crate::generator::{Address, Drive, DriveError, Outcome, Plan, Task};
use crate::measure::cpu::ServerThreads;
use crate::progress::Progress;

use super::peer::{Kind, Peer, Role};
use super::process::ServerProcess;

/// How long a server may take to answer a request in a protocol that it may not speak.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// A key that nobody has written.
const PROBE_KEY: &[u8] = b"corelane-bench-probe";

/// A protocol on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Corelane's own.
    Native,
    /// RESP2.
    Resp,
    /// memcached's text protocol.
    Memcached,
    /// The floor's, whose frames are as long as Corelane's.
    Fixed,
}

impl From<Protocol> for Wire {
    fn from(protocol: Protocol) -> Wire {
        match protocol {
            Protocol::Native => Wire::Native,
            Protocol::Resp => Wire::Resp,
            Protocol::Memcached => Wire::Memcached,
        }
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Wire::Native => "native",
            Wire::Resp => "resp",
            Wire::Memcached => "memcached",
            Wire::Fixed => "fixed",
        })
    }
}

impl Wire {
    /// Runs one task of a plan in this protocol.
    ///
    /// # Errors
    /// It could not start.
    pub(super) fn drive(
        self,
        plan: &Plan,
        server: &ServerThreads,
        task: Task,
    ) -> Result<Outcome, DriveError> {
        let progress = Progress::hidden();
        let value_bytes = plan.workload.value_bytes;
        match self {
            Wire::Native => Drive::new(plan, server, || Native)?.run(task, &progress),
            Wire::Resp => Drive::new(plan, server, || Resp)?.run(task, &progress),
            Wire::Memcached => Drive::new(plan, server, || Memcached)?.run(task, &progress),
            Wire::Fixed => Drive::new(plan, server, || Fixed { value_bytes })?.run(task, &progress),
        }
    }
}

/// Whether a server speaks a protocol. Of the peers that is known; Corelane is asked, since
/// its dialects depend on how it was built.
pub(super) fn speaks(kind: Kind, wire: Wire, address: &Address) -> bool {
    match (kind, wire) {
        (Kind::Corelane, Wire::Native)
        | (Kind::Redis | Kind::Valkey, Wire::Resp)
        | (Kind::Memcached, Wire::Memcached) => true,
        (Kind::Corelane, Wire::Resp) => answers(Resp, address),
        (Kind::Corelane, Wire::Memcached) => answers(Memcached, address),
        _ => false,
    }
}

/// Whether a server answers a read of a key that is not there as the protocol has it.
fn answers<C: Codec>(mut codec: C, address: &Address) -> bool {
    let Address::Tcp(address) = address else { return false };
    let mut request = Vec::new();
    codec.get(0, PROBE_KEY, &mut request);
    let mut exchange = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PROBE_PATIENCE))?;
        stream.write_all(&request)?;
        let mut replies = Vec::new();
        let mut piece = [0; 256];
        // A server that speaks something else may send anything before it closes.
        while replies.len() < 64 * piece.len() {
            let length = stream.read(&mut piece)?;
            replies.extend_from_slice(&piece[..length]);
            match codec.reply(&replies) {
                Ok(Some(reply)) => return std::io::Result::Ok(reply.answer == Answer::Missing),
                Ok(None) if length > 0 => {}
                Ok(None) | Err(_) => return Ok(false),
            }
        }
        Ok(false)
    };
    exchange().unwrap_or(false)
}

/// Who a contender is. Its fields are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// The server's name.
    pub server: String,
    /// What it is compared as.
    pub role: Role,
    /// Its version.
    pub version: String,
    /// How it was started.
    pub command: String,
    /// What is spoken with it.
    pub protocol: Wire,
}

/// A running server, whatever it is.
#[derive(Debug)]
pub struct Host {
    name: String,
    role: Role,
    version: String,
    command: String,
    address: Address,
    threads: ServerThreads,
    /// Ends the server when it is dropped.
    _server: Server,
}

#[derive(Debug)]
enum Server {
    Process { _process: ServerProcess },
    Floor { _thread: FloorServer },
}

impl Host {
    pub(super) fn process(peer: &Peer, process: ServerProcess) -> Rc<Host> {
        Rc::new(Host {
            name: peer.name.clone(),
            role: peer.role,
            version: peer.version.clone(),
            command: process.command().to_string(),
            address: process.address(),
            threads: ServerThreads::Process(process.id()),
            _server: Server::Process { _process: process },
        })
    }

    pub(super) fn floor(thread: FloorServer) -> Rc<Host> {
        Host::thread("floor", Role::Floor, "fixed replies on io_uring", thread)
    }

    /// The small cache that copies.
    pub(super) fn copying(thread: FloorServer) -> Rc<Host> {
        Host::thread("copying", Role::Variant, "a small cache on io_uring", thread)
    }

    fn thread(name: &str, role: Role, what: &str, thread: FloorServer) -> Rc<Host> {
        Rc::new(Host {
            name: name.to_owned(),
            role,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: format!("a thread of corelane-bench: {what}"),
            address: thread.address(),
            threads: thread.threads().clone(),
            _server: Server::Floor { _thread: thread },
        })
    }

    /// Its name in the result.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its threads.
    pub fn threads(&self) -> &ServerThreads {
        &self.threads
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Contender {
    /// The server.
    pub host: Rc<Host>,
    /// What is spoken with it.
    pub wire: Wire,
}

impl Contender {
    pub(super) fn new(host: Rc<Host>, wire: Wire) -> Contender {
        Contender { host, wire }
    }

    pub(super) fn identity(&self) -> Identity {
        let Host { name, role, version, command, .. } = &*self.host;
        Identity {
            server: name.clone(),
            role: *role,
            version: version.clone(),
            command: command.clone(),
            protocol: self.wire,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What the probe makes of a server that answers its first request by these bytes.
    fn check(reply: &'static [u8], expected: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(reply).unwrap();
        });
        assert_eq!(answers(Resp, &address), expected, "{reply:?}");
        server.join().unwrap();
    }

    #[test]
    fn a_server_is_asked_what_it_speaks() {
        check(b"$-1\r\n", true);
        check(b"-ERR unknown command\r\n", false);
        check(b"$3\r\n", false);
        check(b"ERROR\r\n", false);
        check(b"", false);
    }

    #[test]
    fn peers_speak_their_own() {
        let nowhere = Address::Unix("/nowhere".into());
        for (kind, wire, expected) in [
            (Kind::Corelane, Wire::Native, true),
            (Kind::Redis, Wire::Resp, true),
            (Kind::Valkey, Wire::Native, false),
            (Kind::Memcached, Wire::Memcached, true),
            (Kind::Memcached, Wire::Resp, false),
            (Kind::Corelane, Wire::Resp, false),
        ] {
            assert_eq!(speaks(kind, wire, &nowhere), expected, "{kind:?} {wire:?}");
        }
    }
}
