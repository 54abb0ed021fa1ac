//! A node as a list names it: `[NAME=]ADDRESS[,weight=N][,zone=ZONE]`.
//!
//! The address is `host:port`, `[IPv6]:port` or `unix:PATH`. Without a name the address is the
//! name. A node's name decides which keys it gets: one that moves to another address under its
//! old name keeps them.

use std::num::NonZeroU32;

use corelane_ring::{Address, AddressError, Node, NodeName, NodeNameError, TopologyError};
use thiserror::Error;

/// Why a list of nodes cannot be used. The nodes in use stay.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum NodesError {
    /// A name is empty, too long or has characters that names do not have.
    #[error("{text:?}: {error}")]
    Name {
        /// The node, as it was given.
        text: String,
        /// What is wrong with its name.
        error: NodeNameError,
    },
    /// An address is none.
    #[error("{text:?}: {error}")]
    Address {
        /// The node, as it was given.
        text: String,
        /// What is wrong with its address.
        error: AddressError,
    },
    /// A weight is not a number from 1.
    #[error("{text:?}: a weight is a number from 1, not {weight:?}")]
    Weight {
        /// The node, as it was given.
        text: String,
        /// Its weight.
        weight: String,
    },
    /// Something that follows the address is neither a weight nor a zone.
    #[error("{text:?}: {option:?} is neither weight=N nor zone=NAME")]
    Option {
        /// The node, as it was given.
        text: String,
        /// What was not understood.
        option: String,
    },
    /// The nodes do not make a ring: none, too many, a name or an address twice.
    #[error(transparent)]
    Ring(#[from] TopologyError),
    /// The list could not be had.
    #[error("the list of nodes cannot be read: {reason}")]
    Source {
        /// Why.
        reason: String,
    },
}

/// Reads one node.
pub(crate) fn parse(text: &str) -> Result<Node, NodesError> {
    let own = || text.to_owned();
    let mut parts = text.split(',').map(str::trim);
    let node = parts.next().unwrap_or_default();
    // A path may have an equals sign, a name may not: the first one ends the name.
    let (name, address) = match node.split_once('=') {
        Some((name, address)) if !name.starts_with("unix:") => (name, address),
        _ => (node, node),
    };
    let address =
        Address::new(address).map_err(|error| NodesError::Address { text: own(), error })?;
    let name = NodeName::new(name).map_err(|error| NodesError::Name { text: own(), error })?;
    let mut parsed =
        Node { name, addresses: vec![address], weight: NonZeroU32::MIN, zone: String::new() };
    for option in parts {
        match option.split_once('=') {
            Some(("weight", weight)) => {
                let wrong = |_| NodesError::Weight { text: own(), weight: weight.to_owned() };
                parsed.weight = weight.parse().map_err(wrong)?;
            }
            Some(("zone", zone)) => zone.clone_into(&mut parsed.zone),
            _ => return Err(NodesError::Option { text: own(), option: option.to_owned() }),
        }
    }
    Ok(parsed)
}

/// Reads a list of nodes, one a line; empty lines and what follows a `#` do not count.
pub(crate) fn parse_lines(text: &str) -> Result<Vec<Node>, NodesError> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(parse)
        .collect()
}

/// What names the nodes of a fleet: one text, or several.
pub trait IntoNodes {
    /// The nodes, each as `[NAME=]ADDRESS[,weight=N][,zone=ZONE]`.
    fn into_nodes(self) -> Vec<String>;
}

impl IntoNodes for &str {
    fn into_nodes(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl IntoNodes for String {
    fn into_nodes(self) -> Vec<String> {
        vec![self]
    }
}

impl IntoNodes for &String {
    fn into_nodes(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl<S: AsRef<str>, const N: usize> IntoNodes for [S; N] {
    fn into_nodes(self) -> Vec<String> {
        self.iter().map(|node| node.as_ref().to_owned()).collect()
    }
}

impl<S: AsRef<str>> IntoNodes for Vec<S> {
    fn into_nodes(self) -> Vec<String> {
        self.iter().map(|node| node.as_ref().to_owned()).collect()
    }
}

impl<S: AsRef<str>> IntoNodes for &[S] {
    fn into_nodes(self) -> Vec<String> {
        self.iter().map(|node| node.as_ref().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, address: &str, weight: u32, zone: &str) {
        let node = parse(text).unwrap();
        assert_eq!((node.name.as_str(), node.weight.get()), (name, weight), "{text}");
        assert_eq!((node.addresses[0].as_str(), &*node.zone), (address, zone), "{text}");
    }

    #[test]
    fn nodes_have_names_weights_and_zones() {
        check("10.0.0.1:7400", "10.0.0.1:7400", "10.0.0.1:7400", 1, "");
        check("a=10.0.0.1:7400", "a", "10.0.0.1:7400", 1, "");
        check("a=[::1]:7400, weight=3, zone=x", "a", "[::1]:7400", 3, "x");
        check("a=cache.example:7400,zone=eu=1", "a", "cache.example:7400", 1, "eu=1");
        check("unix:/run/a=b", "unix:/run/a=b", "unix:/run/a=b", 1, "");
        check("a=unix:/run/a=b", "a", "unix:/run/a=b", 1, "");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, culprit: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(culprit), "{text}: {error}");
        };
        check("", "no address");
        check("a=nowhere", "\"nowhere\" is no address");
        check("=1.2.3.4:5", "empty");
        check("a b=1.2.3.4:5", "' '");
        check("a=1.2.3.4:5,weight=0", "\"0\"");
        check("a=1.2.3.4:5,weight=2x", "\"2x\"");
        check("a=1.2.3.4:5,color=red", "\"color=red\"");
    }

    #[test]
    fn a_list_has_a_node_a_line() {
        let nodes = parse_lines("# ours\na=h:1\n\n  b=h:2,weight=2  # the big one\n").unwrap();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(parse_lines("a=h:1\nb").is_err());
    }
}
