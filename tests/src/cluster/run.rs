//! One run of the world, from one seed.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use corelane_ring::{Address, Change, Epoch, Node as Place, NodeName, Topology, place, rebalance};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::client::{Client, Counts, Known, What, Wish};
use crate::cluster::node::Node;

/// Steps of one run, of 20 microseconds on average.
const STEPS: u64 = 6_000;
const CLIENTS: usize = 4;
const KEYS: usize = 4;
/// Longest time that a topology takes to a node, in microseconds.
const NEWS_US_MAX: u64 = 4_000;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the clients counted together.
    pub counts: Counts,
    /// Topologies that were put in force.
    pub changes: u64,
    /// Nodes that died.
    pub deaths: u64,
    /// Connections that broke.
    pub losses: u64,
}

struct World {
    random: SmallRng,
    now_us: u64,
    nodes: BTreeMap<NodeName, Node>,
    clients: Vec<Client>,
    /// Connections by client and node.
    links: BTreeMap<(usize, NodeName), u64>,
    next_link: u64,
    topology: Topology,
    /// Since when every node has it; not yet, where there is none.
    settled_since: Option<u64>,
    asked_at: [u64; CLIENTS],
    report: Report,
}

/// Plays one seed, and panics where something is wrong.
pub fn run(seed: u64) -> Report {
    let mut random = SmallRng::seed_from_u64(seed);
    let count = random.random_range(2..=4);
    let places: Vec<Place> = (0..count).map(|number| place_of(number, 100)).collect();
    let topology = place(Epoch(random.random_range(1..1 << 20)), places, 1).expect("a few nodes");
    let mut nodes = BTreeMap::new();
    for node in topology.nodes() {
        let cores = random.random_range(1..=3);
        let made = Node::new(node.name.clone(), cores, topology.clone(), &mut random);
        nodes.insert(node.name.clone(), made);
    }
    let client = |number| {
        let keys = (0..KEYS).map(|key| Known::new(format!("{number}:{key}"))).collect();
        Client::new(topology.clone(), keys)
    };
    let mut world = World {
        clients: (0..CLIENTS).map(client).collect(),
        random,
        now_us: 0,
        nodes,
        links: BTreeMap::new(),
        next_link: 0,
        topology,
        settled_since: Some(0),
        asked_at: [0; CLIENTS],
        report: Report::default(),
    };
    for _ in 0..STEPS {
        world.step();
    }
    world.nodes.values().for_each(Node::check);
    for client in &world.clients {
        let Counts { requests, hits, redirects, topologies, timeouts } = client.counts;
        let sum = &mut world.report.counts;
        sum.requests += requests;
        sum.hits += hits;
        sum.redirects += redirects;
        sum.topologies += topologies;
        sum.timeouts += timeouts;
    }
    world.report
}

fn place_of(number: usize, weight: u32) -> Place {
    Place {
        name: NodeName::new(&format!("n{number}")).expect("a short name"),
        addresses: vec![Address::new(&format!("n{number}:7400")).expect("an address")],
        weight: NonZeroU32::new(weight).expect("not 0"),
        zone: String::new(),
    }
}

impl World {
    fn step(&mut self) {
        self.now_us += self.random.random_range(1..40);
        match self.random.random_range(0..2_000) {
            0..=3 => self.change_topology(),
            4 => self.kill(),
            5..=8 => self.lose_connection(),
            _ => {}
        }
        for node in self.nodes.values_mut() {
            node.turn(self.now_us, &mut self.random);
        }
        let settled = self.nodes.values().all(|node| node.has(&self.topology));
        self.settled_since = settled.then(|| self.settled_since.unwrap_or(self.now_us));
        for client in 0..self.clients.len() {
            self.turn_of(client);
        }
    }

    /// Weights change, and now and then the newest node has no slots left to it, or gets some.
    fn change_topology(&mut self) {
        self.report.changes += 1;
        let names = self.topology.nodes().len();
        let at = self.random.random_range(0..names);
        let node = self.topology.nodes()[at].clone();
        let absent: Vec<NodeName> =
            self.nodes.keys().filter(|name| self.topology.find(name).is_none()).cloned().collect();
        let change = match (absent.first(), self.random.random_range(0..3)) {
            (Some(name), 0 | 1) => {
                let number = name.as_str()[1..].parse().expect("a number");
                Change::Join(place_of(number, 100))
            }
            (_, 0) if names > 1 => Change::Leave(node.name),
            _ => {
                let weight = NonZeroU32::new(self.random.random_range(30..300)).expect("not 0");
                Change::Update(Place { weight, ..node })
            }
        };
        self.topology = rebalance(&self.topology, change, 1).expect("a possible change");
        for node in self.nodes.values_mut() {
            let at_us = self.now_us + self.random.random_range(0..NEWS_US_MAX);
            node.tell(self.topology.clone(), at_us);
        }
    }

    fn some_node(&mut self) -> NodeName {
        let at = self.random.random_range(0..self.nodes.len());
        self.nodes.keys().nth(at).expect("within their number").clone()
    }

    fn kill(&mut self) {
        let name = self.some_node();
        self.report.deaths += 1;
        let node = self.nodes.get_mut(&name).expect("it has a name");
        node.restart(self.now_us, &mut self.random);
        for client in 0..self.clients.len() {
            if self.links.remove(&(client, name.clone())).is_some() {
                self.clients[client].give_up(Some(&name), self.now_us);
            }
        }
    }

    fn lose_connection(&mut self) {
        let name = self.some_node();
        let client = self.random.random_range(0..self.clients.len());
        let Some(link) = self.links.remove(&(client, name.clone())) else { return };
        self.report.losses += 1;
        self.nodes.get_mut(&name).expect("it has a name").lose(link, self.now_us);
        self.clients[client].give_up(Some(&name), self.now_us);
    }

    fn turn_of(&mut self, number: usize) {
        let settled = self.settled_since.is_some_and(|since| since <= self.asked_at[number]);
        let mut arrived = Vec::new();
        for ((client, name), link) in &self.links {
            let node = self.nodes.get_mut(name).expect("it has a name");
            if *client == number
                && let Some(link) = node.links.get_mut(link)
            {
                while let Some(bytes) = link.to_client.take(self.now_us) {
                    arrived.push((name.clone(), bytes));
                }
            }
        }
        for (name, bytes) in arrived {
            let client = &mut self.clients[number];
            if let Some(wish) = client.received(&name, &bytes, settled, self.now_us) {
                self.grant(number, wish);
            }
        }
        self.clients[number].give_up(None, self.now_us);
        if self.clients[number].is_idle() && self.random.random_bool(0.5) {
            let what = match self.random.random_range(0..10) {
                0..=4 => What::Get,
                5..=7 => What::Set,
                _ => What::Delete,
            };
            let key = self.random.random_range(0..KEYS);
            self.asked_at[number] = self.now_us;
            let settled = self.settled_since.is_some();
            let wish = self.clients[number].ask(what, key, settled, self.now_us);
            self.grant(number, wish);
        }
    }

    fn grant(&mut self, client: usize, wish: Wish) {
        let Wish::Send(name, bytes) = wish else { return };
        let node = self.nodes.get_mut(&name).expect("topologies name nodes that there are");
        let link = self.links.entry((client, name)).or_insert_with(|| {
            self.next_link += 1;
            node.connect(self.next_link, self.now_us, &mut self.random);
            self.next_link
        });
        // A node that died meanwhile has no such connection; the client will find out.
        if let Some(link) = node.links.get_mut(link) {
            link.to_node.put(bytes, self.now_us, &mut self.random);
        }
    }
}
