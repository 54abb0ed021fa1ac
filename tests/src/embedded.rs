//! A node in the process of a test, for clients that speak over sockets.

use std::net::{Ipv4Addr, SocketAddr};

use corelane::config::{Config, Cores, Io, ListenAddress};
use corelane::node::Node;

/// A Corelane node of two cores, so that half of the keys are at the other core, with so much
/// memory, and where it listens.
pub fn start_node(memory_bytes: u64) -> (Node, SocketAddr) {
    let config = Config {
        listen: vec![ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
        admin: None,
        http: None,
        cores: Cores::Count(2),
        memory: memory_bytes,
        io: Io::Epoll,
        ..Config::default()
    };
    let node = Node::start(config).expect("the node starts");
    let [ListenAddress::Tcp(address)] = *node.addresses() else {
        unreachable!("it was told one TCP address")
    };
    (node, address)
}
