//! One run of the world, from one seed.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use corelane_client::{Client, WhenNodeDown};
use corelane_ring::{NodeName, Topology};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::task::JoinHandle;

use crate::cluster::net::{MS, Net};
use crate::cluster::node::{Node, Order};
use crate::cluster::record::SharedRecord;
use crate::cluster::topologies::{NODES_MAX, Topologies, name};
use crate::cluster::worker::{Counts, KEYS, TIMEOUT_MS, Worker, stood_in};

const CLIENTS: usize = 2;
/// Workers of each client, which make requests at the same time.
const WORKERS: usize = 3;
/// Requests of each worker.
const REQUESTS: u64 = 30;
/// Between two accidents or changes, in milliseconds.
const QUIET_MS: std::ops::Range<u64> = 5..160;
/// Longest time that a topology takes to a node, in milliseconds.
const NEWS_MS: std::ops::Range<u64> = 0..60;
/// How long a node is dead or stopped, or cut off from a client, in milliseconds.
const OUTAGE_MS: std::ops::Range<u64> = 5..1_200;
/// How long clients and nodes keep slots warm that move, where they do, in milliseconds.
const WARM_UP_MS: u64 = 500;
/// How long a client may take to make the deletes that it owes when it ends, in milliseconds.
const CLOSE_MS: u64 = 400;
/// How long entries live on a node that stands in for another, in milliseconds.
const GUTTER_MS: u64 = 150;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the workers counted together.
    pub counts: Counts,
    /// Reads older than what was acknowledged, where that may happen.
    pub excused: u64,
    /// Entries that nodes took over from where their slots were before, and had to the end.
    pub warmed: u64,
    /// Requests that nodes executed in place of others, those of nodes that died later left out.
    pub stood_in: u64,
    /// Topologies that were put in force.
    pub changes: u64,
    /// Nodes that died.
    pub deaths: u64,
    /// Nodes that stopped for a while.
    pub stops: u64,
    /// Times that nothing passed between a client and a node.
    pub cuts: u64,
    /// Connections that broke.
    pub losses: u64,
}

struct World {
    random: SmallRng,
    net: Net,
    nodes: BTreeMap<NodeName, Node>,
    record: SharedRecord,
    topologies: Topologies,
    topology: Arc<Topology>,
    order: Order,
    next_accident_us: u64,
    report: Report,
}

/// Plays one seed, and panics where something is wrong.
pub fn run(seed: u64) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(play(seed))
}

async fn play(seed: u64) -> Report {
    let mut random = SmallRng::seed_from_u64(seed);
    let net = Net::new(SmallRng::seed_from_u64(random.next_u64()));
    let record = SharedRecord::new(CLIENTS * WORKERS * KEYS);
    let warm_up_ms = if random.random_bool(0.6) { WARM_UP_MS } else { 0 };
    let order = if random.random_bool(0.8) { Order::Topologies } else { Order::List };
    let order = (order, warm_up_ms);
    let mut world = World::new(net.clone(), record.clone(), order, &mut random);
    let topology = Arc::clone(&world.topology);
    let work = work(net.clone(), record, topology, order, random);
    let mut work = std::pin::pin!(work);
    loop {
        let next_us = world.turn();
        tokio::select! {
            biased;
            counts = &mut work => {
                world.nodes.values().for_each(Node::check);
                let excused = world.record.lock().excused;
                let warmed = world.nodes.values_mut().map(Node::warmed).sum();
                let stood_in = world.nodes.values_mut().map(Node::stood_in).sum();
                return Report { counts, excused, warmed, stood_in, ..world.report };
            }
            () = net.sent_or(next_us) => {}
        }
    }
}

/// Connects the clients, and runs their workers to the end.
async fn work(
    net: Net,
    record: SharedRecord,
    topology: Arc<Topology>,
    (order, warm_up_ms): (Order, u64),
    mut random: SmallRng,
) -> Counts {
    let (when_down, gutter_ms) = match random.random_range(0..3) {
        0 => (WhenNodeDown::Fail, None),
        1 => (WhenNodeDown::Miss, None),
        _ => (WhenNodeDown::Gutter { ttl: Duration::from_millis(GUTTER_MS) }, Some(GUTTER_MS)),
    };
    let mut nodes: Vec<String> = topology
        .nodes()
        .iter()
        .map(|node| format!("{}={}", node.name, node.addresses[0]))
        .collect();
    if order == Order::Topologies && random.random_bool(0.7) {
        // One is enough to find the others.
        nodes.truncate(1);
    }
    let mut workers = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::builder()
            .nodes(nodes.clone())
            .connector(net.dialer(number))
            .seed(random.next_u64())
            .timeout(Duration::from_millis(TIMEOUT_MS))
            .connect_timeout(Duration::from_millis(TIMEOUT_MS / 2))
            .overdue(Duration::from_millis(TIMEOUT_MS))
            .when_node_down(when_down)
            .warm_up(Duration::from_millis(warm_up_ms));
        let client = loop {
            match client.clone().connect().await {
                Ok(client) => break client,
                // All of them may be down.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let mut all = Vec::new();
        for worker in 0..WORKERS {
            let worker = Worker {
                client: client.clone(),
                number: number * WORKERS + worker,
                random: SmallRng::seed_from_u64(random.next_u64()),
                net: net.clone(),
                record: record.clone(),
                gutter_ms,
                counts: Counts::default(),
            };
            all.push(tokio::spawn(worker.run(REQUESTS)));
        }
        let (record, net) = (record.clone(), net.clone());
        workers.push(tokio::spawn(async move {
            let mut counts = Vec::new();
            for worker in all {
                counts.push(ended(worker).await);
            }
            close(client, gutter_ms, &record, &net).await;
            counts
        }));
    }
    let mut counts = Vec::new();
    for client in workers {
        counts.extend(ended(client).await);
    }
    let mut sum = Counts::default();
    for counts in counts {
        sum.requests += counts.requests;
        sum.hits += counts.hits;
        sum.misses += counts.misses;
        sum.failed += counts.failed;
        sum.uncertain += counts.uncertain;
    }
    sum
}

/// Ends a client, which may take along what it owes to a node that another stood in for.
async fn close(client: Client, gutter_ms: Option<u64>, record: &SharedRecord, net: &Net) {
    let close_ms = Duration::from_millis(CLOSE_MS);
    let Some(gutter_ms) = gutter_ms.filter(|_| stood_in(&client)) else {
        // What failed was not acknowledged.
        let _ = client.close(close_ms).await;
        return;
    };
    let stands_in_until = |until_us: u64| {
        let known = &mut record.lock().stands_in_until_us;
        *known = until_us.max(*known);
    };
    stands_in_until(net.now_us() + (CLOSE_MS + gutter_ms + TIMEOUT_MS) * MS);
    if client.close(close_ms).await.is_err() {
        stands_in_until(u64::MAX);
    }
}

async fn ended<T>(task: JoinHandle<T>) -> T {
    task.await.unwrap_or_else(|failed| resume_unwind(failed.into_panic()))
}

impl World {
    fn new(net: Net, record: SharedRecord, order: (Order, u64), random: &mut SmallRng) -> World {
        let topologies = Topologies::new(random);
        let topology = topologies.current();
        let mut nodes = BTreeMap::new();
        for number in 0..NODES_MAX {
            let name = name(number);
            let cores = random.random_range(1..=2);
            let node = Node::new(name.clone(), cores, &topology, order, random);
            nodes.insert(name, node);
        }
        let next_accident_us = random.random_range(QUIET_MS) * MS;
        let random = SmallRng::seed_from_u64(random.next_u64());
        let report = Report::default();
        let order = order.0;
        World { random, net, nodes, record, topologies, topology, order, next_accident_us, report }
    }

    /// Does all that is due, and says when more is.
    fn turn(&mut self) -> u64 {
        let now_us = self.net.now_us();
        if self.next_accident_us <= now_us {
            self.next_accident_us = now_us + self.random.random_range(QUIET_MS) * MS;
            self.happen(now_us);
        }
        let mut next_us = self.next_accident_us;
        let mut net = self.net.lock();
        for node in self.nodes.values_mut() {
            next_us = next_us.min(node.turn(&mut net, now_us, &mut self.random));
        }
        next_us = next_us.min(net.deliver(now_us));
        drop(net);
        let settled = self.nodes.values().all(|node| node.has(&self.topology));
        let since_us = &mut self.record.lock().settled_since_us;
        *since_us = settled.then(|| since_us.unwrap_or(now_us));
        next_us
    }

    fn happen(&mut self, now_us: u64) {
        let until_us = now_us + self.random.random_range(OUTAGE_MS) * MS;
        let at = self.random.random_range(0..self.nodes.len());
        let node = self.nodes.values_mut().nth(at).expect("within their number");
        let mut net = self.net.lock();
        match self.random.random_range(0..10) {
            0..=1 if self.order == Order::Topologies => {
                self.topology = self.topologies.change(&mut self.random);
                self.report.changes += 1;
                for node in self.nodes.values_mut() {
                    let at_us = now_us + self.random.random_range(NEWS_MS) * MS;
                    node.tell(&self.topology, at_us);
                }
            }
            2 if node.runs() => {
                self.report.deaths += 1;
                node.kill(&mut net, until_us);
            }
            3 if node.runs() => {
                self.report.stops += 1;
                node.stop(until_us);
            }
            4..=5 => {
                self.report.cuts += 1;
                net.cut(self.random.random_range(0..CLIENTS), &node.name, until_us);
            }
            6..=9 if node.runs() => {
                let links = net.links_of(&node.name);
                if let Some(at) = links.len().checked_sub(1) {
                    self.report.losses += 1;
                    let link = links[self.random.random_range(0..=at)];
                    node.lose(link, &mut net, now_us);
                }
            }
            _ => {}
        }
    }
}
