//! Listening sockets. Every core has its own for each TCP address (`SO_REUSEPORT`: the
//! kernel spreads connections over them); the cores share one for each UNIX address.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use corelane_dialect::Addresses;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::config::ListenAddress;
use crate::control::bind_hint;

/// Connections that the kernel completes ahead of being accepted.
const BACKLOG: i32 = 4_096;

/// How long an address that is in use is tried again. A process that is gone may hold it a
/// little longer, since the kernel ends its rings, and with them the last references to its
/// listeners, by and by: a node that was killed and started again at once found its address
/// taken in 9 of 60 cases, for 13 ms at most.
const RELEASE_MAX: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const RELEASE_PAUSE: Duration = Duration::from_millis(5);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}", hint = bind_hint(source))]
pub struct ListenError {
    /// Which.
    pub address: ListenAddress,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The sockets of a node: for each core one of every address.
pub(crate) struct Listeners {
    /// By core.
    pub(crate) sockets: Vec<Vec<OwnedFd>>,
    /// The addresses, with the ports that were chosen where 0 was asked for.
    pub(crate) addresses: Vec<ListenAddress>,
}

/// Opens every address for every core.
pub(crate) fn open(addresses: &[ListenAddress], cores: u16) -> Result<Listeners, ListenError> {
    let mut listeners =
        Listeners { sockets: (0..cores).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for address in addresses {
        let failed = |source| ListenError { address: address.clone(), source };
        let actual = match address {
            ListenAddress::Tcp(tcp) => {
                open_tcp(*tcp, &mut listeners.sockets).map(ListenAddress::Tcp)
            }
            ListenAddress::Unix(path) => {
                open_unix(path, &mut listeners.sockets).map(|()| address.clone())
            }
        };
        listeners.addresses.push(actual.map_err(failed)?);
    }
    Ok(listeners)
}

/// Where an accepted connection comes from and came in, for clients that ask.
pub(crate) fn addresses_of(socket: &OwnedFd) -> Addresses {
    let socket = SockRef::from(socket);
    let (Ok(remote), Ok(local)) = (socket.peer_addr(), socket.local_addr()) else {
        // It was closed already.
        return Addresses::Unknown;
    };
    match (remote.as_socket(), local.as_socket()) {
        (Some(remote), Some(local)) => Addresses::Inet { remote, local },
        _ => {
            let path = local.as_pathname().unwrap_or(Path::new("")).to_string_lossy();
            Addresses::Unix(path.into())
        }
    }
}

fn open_tcp(
    address: std::net::SocketAddr,
    sockets: &mut [Vec<OwnedFd>],
) -> io::Result<std::net::SocketAddr> {
    // Sockets that share a port join one that another process has, if it shares too. A
    // first socket that does not share finds out.
    let address = when_released(|| {
        let probe = tcp_socket(address)?;
        probe.bind(&address.into())?;
        Ok(probe.local_addr()?.as_socket().expect("a TCP socket has a TCP address"))
    })?;
    for core in sockets {
        let socket = tcp_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        core.push(socket.into());
    }
    Ok(address)
}

fn tcp_socket(address: std::net::SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that linger do not hold the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn open_unix(path: &Path, sockets: &mut [Vec<OwnedFd>]) -> io::Result<()> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    when_released(|| match socket.bind(&address) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() =>
        {
            // A socket file that nobody listens on is left over from a process that has ended.
            std::fs::remove_file(path)?;
            socket.bind(&address)
        }
        result => result,
    })?;
    socket.listen(BACKLOG)?;
    let socket = OwnedFd::from(socket);
    for core in sockets {
        core.push(socket.as_fd().try_clone_to_owned()?);
    }
    Ok(())
}

/// Tries again for a while where an address is in use.
fn when_released<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let give_up = Instant::now() + RELEASE_MAX;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                std::thread::sleep(RELEASE_PAUSE);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_told_even_from_a_sharing_process() {
        let any: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let first = open(&[any], 2).unwrap();
        let error = open(&first.addresses, 1).err().expect("the port is taken");
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another process listens there"), "{error}");
    }

    #[test]
    fn an_address_is_waited_for() {
        let mut attempts = 0;
        let result = when_released(|| {
            attempts += 1;
            if attempts < 3 { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(attempts) }
        });
        assert_eq!(result.unwrap(), 3);
        let mut attempts = 0;
        let denied = when_released(|| -> io::Result<()> {
            attempts += 1;
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert_eq!((denied.unwrap_err().kind(), attempts), (io::ErrorKind::PermissionDenied, 1));
    }

    #[test]
    fn a_dead_unix_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let address = ListenAddress::Unix(directory.path().join("corelane.sock"));
        let first = open(std::slice::from_ref(&address), 1).unwrap();
        assert!(open(std::slice::from_ref(&address), 1).is_err());
        drop(first);
        assert!(open(&[address], 1).is_ok());
    }
}
