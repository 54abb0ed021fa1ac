//! Where a node listens: `host:port`, `[v6]:port` or `unix:PATH`.

use std::path::Path;
use std::sync::Arc;

use crate::error::{ConnectError, ConnectFailure};

/// A checked address, kept as it was given for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    given: Arc<str>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
}

/// An address, split by how to connect to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint<'a> {
    /// Host and port, to be resolved anew for each connection.
    Tcp(&'a str),
    /// A socket in the file system.
    Unix(&'a Path),
}

const UNIX_PREFIX: &str = "unix:";

impl Address {
    pub(crate) fn parse(given: &str) -> Result<Address, ConnectError> {
        let kind = match given.strip_prefix(UNIX_PREFIX) {
            Some("") => None,
            Some(_) => Some(Kind::Unix),
            None => given
                .rsplit_once(':')
                .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                .map(|_| Kind::Tcp),
        };
        match kind {
            Some(kind) => Ok(Address { given: given.into(), kind }),
            None => Err(ConnectError { address: given.into(), reason: ConnectFailure::Address }),
        }
    }

    /// An address that was checked as one of a node's.
    pub(crate) fn of(address: &corelane_ring::Address) -> Address {
        Address::parse(address.as_str()).expect("the ring's form of an address is stricter")
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.given
    }

    pub(crate) fn endpoint(&self) -> Endpoint<'_> {
        match self.kind {
            Kind::Tcp => Endpoint::Tcp(&self.given),
            Kind::Unix => Endpoint::Unix(Path::new(&self.given[UNIX_PREFIX.len()..])),
        }
    }

    /// The error for an attempt to connect here.
    pub(crate) fn error(&self, reason: ConnectFailure) -> ConnectError {
        ConnectError { address: Arc::clone(&self.given), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_opened() {
        for good in ["127.0.0.1:7400", "cache-1.example:7400", "[::1]:7400", "localhost:0"] {
            assert_eq!(Address::parse(good).unwrap().endpoint(), Endpoint::Tcp(good));
        }
        let unix = Address::parse("unix:/run/cache.sock").unwrap();
        assert_eq!(unix.endpoint(), Endpoint::Unix(Path::new("/run/cache.sock")));
        for bad in ["", "localhost", ":7400", "localhost:", "localhost:x", "host:70000", "unix:"] {
            let error = Address::parse(bad).unwrap_err();
            assert!(matches!(error.reason, ConnectFailure::Address), "{bad}: {error}");
        }
    }
}
