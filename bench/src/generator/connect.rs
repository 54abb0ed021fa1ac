//! Opening connections, before the clock runs: blocking, with a time limit.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::codec::{Codec, CodecError, Greeting, Opening};

use super::transport::Stream;

/// How long connecting and each step of the greeting may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of a greeting.
const GREETING_BYTES_MAX: usize = 128 << 10;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host, by name or address, and a port.
    Tcp(String),
    /// A UNIX socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => formatter.write_str(address),
            Address::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("unix: needs a path".to_owned())
            } else {
                Ok(Address::Unix(PathBuf::from(path)))
            };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Address::Tcp(text.to_owned()))
            }
            _ => Err("a target is HOST:PORT or unix:PATH".to_owned()),
        }
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there, or it cannot be reached.
    #[error("cannot connect to {address}: {error}")]
    Unreachable {
        /// Where.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// The greeting broke off.
    #[error("{address} did not complete the greeting: {error}")]
    Greeting {
        /// Where.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// The server refuses, or speaks something else.
    #[error("{address}: {error}")]
    Refused {
        /// Where.
        address: Address,
        /// Why.
        error: CodecError,
    },
    /// The server put the connection on another core than was asked for.
    #[error("{address} put a connection that asked for core {wanted} on core {given}")]
    OtherCore {
        /// Where.
        address: Address,
        /// The core asked for.
        wanted: u16,
        /// The core it is on.
        given: u16,
    },
}

/// A connection that is open and greeted.
#[derive(Debug)]
pub struct Connected<C> {
    /// Its socket, non-blocking.
    pub stream: Stream,
    /// Its codec.
    pub codec: C,
    /// What the server said.
    pub greeting: Greeting,
}

/// A socket that still blocks.
enum Blocking {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Blocking {
    fn connect(address: &Address) -> io::Result<Blocking> {
        match address {
            Address::Tcp(text) => {
                let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
                for candidate in text.to_socket_addrs()? {
                    match connect_tcp(&candidate) {
                        Ok(stream) => return Ok(Blocking::Tcp(stream)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Blocking::Unix(stream))
            }
        }
    }

    fn exchange<C: Codec>(
        &mut self,
        codec: &mut C,
        opening: Opening<'_>,
    ) -> io::Result<Result<Greeting, CodecError>> {
        let mut bytes = Vec::new();
        codec.open(opening, &mut bytes);
        if bytes.is_empty() {
            return Ok(Ok(Greeting::default()));
        }
        let stream: &mut dyn ReadWrite = match self {
            Blocking::Tcp(stream) => stream,
            Blocking::Unix(stream) => stream,
        };
        stream.write_all(&bytes)?;
        bytes.clear();
        let mut piece = [0; 4096];
        loop {
            let length = stream.read(&mut piece)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&piece[..length]);
            match codec.opened(&bytes) {
                Ok(Some((greeting, used))) if used == bytes.len() => return Ok(Ok(greeting)),
                Ok(Some(_)) => {
                    return Err(io::Error::other("bytes that nobody asked for follow it"));
                }
                Ok(None) if bytes.len() < GREETING_BYTES_MAX => {}
                Ok(None) => return Err(io::Error::other("it is too long")),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    fn into_stream(self) -> io::Result<Stream> {
        Ok(match self {
            Blocking::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                Stream::Tcp(mio::net::TcpStream::from_std(stream))
            }
            Blocking::Unix(stream) => {
                stream.set_nonblocking(true)?;
                Stream::Unix(mio::net::UnixStream::from_std(stream))
            }
        })
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn connect_tcp(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Opens a connection and greets the server.
///
/// # Errors
/// See [`ConnectError`].
pub fn connect<C: Codec>(
    address: &Address,
    mut codec: C,
    opening: Opening<'_>,
) -> Result<Connected<C>, ConnectError> {
    let address = || address.clone();
    let mut stream = Blocking::connect(&address())
        .map_err(|error| ConnectError::Unreachable { address: address(), error })?;
    let greeting = stream
        .exchange(&mut codec, opening)
        .map_err(|error| ConnectError::Greeting { address: address(), error })?
        .map_err(|error| ConnectError::Refused { address: address(), error })?;
    if let Some(wanted) = opening.core
        && greeting.core != wanted
    {
        return Err(ConnectError::OtherCore { address: address(), wanted, given: greeting.core });
    }
    let stream = stream
        .into_stream()
        .map_err(|error| ConnectError::Greeting { address: address(), error })?;
    Ok(Connected { stream, codec, greeting })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_hosts_with_ports_or_paths() {
        for right in ["127.0.0.1:7400", "[::1]:7400", "cache.example:1"] {
            assert_eq!(right.parse(), Ok(Address::Tcp(right.to_owned())));
        }
        assert_eq!("unix:/run/corelane".parse(), Ok(Address::Unix("/run/corelane".into())));
        for wrong in ["", "127.0.0.1", ":7400", "host:port", "host:70000", "unix:"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
