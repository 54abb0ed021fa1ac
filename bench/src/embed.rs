//! A node in this process, for measuring without starting one: on loopback, on a port that
//! the system chooses, its data cores pinned and the generator kept off their CPUs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use corelane::config::{Config, Cores, Io, ListenAddress};
use corelane::node::{CorePanicked, Node, StartError};

use crate::generator::Address;
use crate::measure::cpu::ServerThreads;

/// Connections beside those of the load: the one that asks for cores and limits.
const SPARE_CONNECTIONS: usize = 8;

/// What the node is like.
#[derive(Clone, Debug)]
pub struct EmbedOptions {
    /// Its data cores.
    pub cores: Cores,
    /// Its memory, in bytes; the node's own default without.
    pub memory: Option<u64>,
    /// The kernel interface it uses.
    pub io: Io,
    /// Connections that the load will open.
    pub connections: usize,
    /// Longest value of the load, in bytes.
    pub value_bytes: usize,
    /// Longest spin of a core before it sleeps, in microseconds.
    pub spin_us: u64,
}

/// What a node's cores have done so far, all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Requests executed.
    pub requests: u64,
    /// Of these, those for connections of other cores.
    pub hops: u64,
    /// Times that one core woke another.
    pub wakes: u64,
}

impl Traffic {
    /// Hops and wakes for each request since an earlier moment.
    #[must_use]
    pub fn per_op_since(&self, earlier: &Traffic) -> (f64, f64) {
        let requests = (self.requests - earlier.requests).max(1) as f64;
        let (hops, wakes) = (self.hops - earlier.hops, self.wakes - earlier.wakes);
        (hops as f64 / requests, wakes as f64 / requests)
    }
}

/// How often cores publish what they count, twice.
const PUBLISHED: Duration = Duration::from_millis(250);

/// A running node; see the module. Dropping it ends it.
pub struct Embedded {
    node: Node,
    address: SocketAddr,
    cpus: Vec<usize>,
}

impl Embedded {
    /// Starts a node.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(options: &EmbedOptions) -> Result<Embedded, StartError> {
        let defaults = Config::default();
        let config = Config {
            listen: vec![ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
            admin: None,
            cores: options.cores.clone(),
            memory: options.memory.unwrap_or(defaults.memory),
            io: options.io,
            spin_us: options.spin_us,
            connections_max: defaults.connections_max.max(options.connections + SPARE_CONNECTIONS),
            value_bytes_max: defaults.value_bytes_max.max(options.value_bytes),
            ..defaults
        };
        let node = Node::start(config)?;
        let address = match node.addresses() {
            [ListenAddress::Tcp(address)] => *address,
            other => unreachable!("the node was told one TCP address and has {other:?}"),
        };
        let usable = core_affinity::get_core_ids().unwrap_or_default();
        let usable: Vec<usize> = usable.into_iter().map(|cpu| cpu.id).collect();
        let cpus = free_cpus(&options.cores, &usable);
        Ok(Embedded { node, address, cpus })
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Tcp(self.address.to_string())
    }

    /// The threads of its data cores.
    pub fn threads(&self) -> ServerThreads {
        ServerThreads::Here(self.node.core_threads().to_vec())
    }

    /// The CPUs that it leaves to the generator; none where it uses all.
    pub fn free_cpus(&self) -> Vec<usize> {
        self.cpus.clone()
    }

    /// What its cores have done so far. Nothing may be under way: it waits until all have told.
    pub fn traffic(&self) -> Traffic {
        std::thread::sleep(PUBLISHED);
        let control = self.node.control();
        let sum = |name| control.snapshots().sum(name).expect("a number that cores publish");
        Traffic { requests: sum("requests"), hops: sum("forwarded_in"), wakes: sum("wakes_sent") }
    }

    /// Ends it.
    ///
    /// # Errors
    /// A core had panicked.
    pub fn stop(self) -> Result<(), CorePanicked> {
        self.node.stop()
    }
}

/// The usable CPUs that data cores are not pinned to.
fn free_cpus(cores: &Cores, usable: &[usize]) -> Vec<usize> {
    let taken: &[usize] = match cores {
        Cores::List(list) => list,
        Cores::Auto => usable,
        Cores::Count(count) => &usable[..usize::from(*count).min(usable.len())],
    };
    usable.iter().copied().filter(|cpu| !taken.contains(cpu)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gets_the_cpus_that_are_left() {
        let check = |cores: Cores, expected: &[usize]| {
            assert_eq!(free_cpus(&cores, &[0, 1, 4, 5]), expected);
        };
        check(Cores::Count(1), &[1, 4, 5]);
        check(Cores::Count(3), &[5]);
        check(Cores::Count(9), &[]);
        check(Cores::Auto, &[]);
        check(Cores::List(vec![1, 4]), &[0, 5]);
    }
}
