//! Several nodes that share the slots by a topology.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use corelane_client::{Client, DeleteOutcome, Remaining, WhenNodeDown};
use corelane_protocol::{Request, Status};
use corelane_ring::{Topology, slot_of};
use rustix::process::Signal;

use crate::admin::{get, put};
use crate::process::{Io, Node, WAIT_MAX, eventually, run, serve};
use crate::wire::{self, What, Wire, frame};

on_both!(
    each_key_has_one_node,
    later_topologies_take_over_and_outlive_the_process,
    others_stand_in_for_a_node_that_is_dead,
);

const NAMES: [&str; 3] = ["cache-a", "cache-b", "cache-c"];

/// A topology of the nodes with these names, listening in `directory`.
fn text(directory: &Path, epoch: u64, names: &[&str]) -> String {
    let node = |name: &&str| {
        let address = directory.join(name);
        format!("[[nodes]]\nname = \"{name}\"\naddresses = [\"unix:{}\"]\n", address.display())
    };
    format!("epoch = {epoch}\n{}", names.iter().map(node).collect::<String>())
}

/// A node of two cores whose topology is the file beside its socket.
fn start(io: Io, directory: &Path, name: &str) -> Node {
    let socket = format!("unix:{}", directory.join(name).display());
    let file = directory.join(format!("{name}.toml"));
    let file = file.to_str().unwrap();
    let more = ["--listen", &socket, "--node-name", name, "--topology", file, "--cores", "2"];
    Node::start(io, &more)
}

/// All nodes, with a topology of epoch 7 that has them all.
fn start_all(io: Io, directory: &Path) -> Vec<Node> {
    let start = |name| {
        fs::write(directory.join(format!("{name}.toml")), text(directory, 7, &NAMES)).unwrap();
        start(io, directory, name)
    };
    NAMES.into_iter().map(start).collect()
}

fn keys() -> impl Iterator<Item = String> {
    (0..120).map(|number| format!("key-{number}"))
}

/// Asks for a key, without a client that would go where it is sent.
fn ask(wire: &mut Wire, key: &str) -> What {
    wire.send(&frame(1, &wire::get(key.as_bytes())));
    wire.next().what
}

fn topology_of(wire: &mut Wire) -> Topology {
    wire.send(&frame(2, &Request::Topology { held_epoch: 0 }));
    match wire.next().what {
        What::Topology(table) => Topology::decode(&table).expect("a topology"),
        other => panic!("{other:?}"),
    }
}

/// The name and address of the node that owns a key.
fn owner_of(topology: &Topology, key: &str) -> (String, String) {
    let node = topology.node(topology.owner(slot_of(key.as_bytes())));
    (node.name.to_string(), node.addresses[0].to_string())
}

fn each_key_has_one_node(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let nodes = start_all(io, directory);
    let mut wires: Vec<Wire> = nodes.iter().map(Node::connect).collect();
    let topology = topology_of(&mut wires[0]);
    assert_eq!(topology.epoch().0, 7);
    for (name, wire) in NAMES.iter().zip(&mut wires) {
        assert!(topology_of(wire) == topology);
        for key in keys() {
            let (owner, address) = owner_of(&topology, &key);
            let expected = match owner == *name {
                true => What::Failed(Status::NotFound),
                false => What::Redirect(Status::Moved, address),
            };
            assert_eq!(ask(wire, &key), expected, "{key} on {name}");
        }
    }
    let owned: u64 = nodes.iter().flat_map(|node| node.counter("slots_owned")).sum();
    assert_eq!(owned, 16_384);
}

fn later_topologies_take_over_and_outlive_the_process(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("cache-a.toml"), text(directory, 1, &NAMES[..1])).unwrap();
    let node = start(io, directory, NAMES[0]);
    let mut wire = node.connect();
    for key in keys() {
        wire.send(&frame(1, &wire::set(key.as_bytes(), b"v")));
        assert_eq!(wire.next().what, What::Done);
    }
    node.until_counter("items", |items| items == 120);

    let put = |body: &str| put(&node.admin, "/topology", body);
    let answer = put(&text(directory, 5, &NAMES));
    assert_eq!((answer.status, answer.body.as_str()), (200, "epoch 5 is in force\n"));
    let shown = get(&node.admin, "/topology");
    assert_eq!(shown.status, 200);
    let again = put(&shown.body);
    assert_eq!(again.status, 200, "what is in force may be put again: {}", again.body);
    let stale = put(&text(directory, 4, &NAMES[..1]));
    assert_eq!(stale.status, 409);
    assert_eq!(stale.body, "epoch 5 is in force, and epoch 4 is not higher\n");
    let wrong = put("epoch = 6\nnodes = []");
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("1 to 4096 nodes, not 0"), "{}", wrong.body);

    // What left is dropped; what stayed is still there.
    node.until_counter("topology_epoch", |epochs| epochs == 10);
    let topology = topology_of(&mut wire);
    let mut kept = 0;
    for key in keys() {
        let (owner, address) = owner_of(&topology, &key);
        let expected = match owner == NAMES[0] {
            true => What::Value(b"v".to_vec()),
            false => What::Redirect(Status::Moved, address),
        };
        kept += u64::from(owner == NAMES[0]);
        assert_eq!(ask(&mut wire, &key), expected, "{key}");
    }
    node.until_counter("items", |items| items == kept);
    node.until_counter("slots_leaving", |slots| slots == 0);

    node.signal(Signal::TERM);
    drop(wire);
    assert_eq!(node.ended().code(), Some(0));
    let again = start(io, directory, NAMES[0]);
    assert!(topology_of(&mut again.connect()) == topology);
    eventually("owned slots", || again.counter("slots_owned").iter().sum::<u64>() < 6_000);
}

fn others_stand_in_for_a_node_that_is_dead(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut nodes = start_all(io, directory);
    let address = format!("unix:{}", directory.join(NAMES[1]).display());
    let [dead, alive @ ..] = &mut nodes[..] else { unreachable!("there are three") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let gutter = WhenNodeDown::Gutter { ttl: Duration::from_secs(60) };
        let builder = Client::builder().nodes(address).when_node_down(gutter);
        let client = builder.timeout(WAIT_MAX).connect().await.unwrap();
        for key in keys() {
            client.set(&key, "before").await.unwrap();
        }
        dead.signal(Signal::KILL);
        let deadline = Instant::now() + WAIT_MAX;
        // Until its breaker opens, writes to it fail.
        while !client.nodes().iter().any(|node| node.is_down) {
            assert!(Instant::now() < deadline, "nobody notices that a node is dead");
            for key in keys() {
                let _ = client.set(&key, "while it dies").await;
            }
        }
        let lost: Vec<String> = keys().filter(|key| client.node_of(key) == NAMES[0]).collect();
        assert!((20..60).contains(&lost.len()), "{} of 120 keys", lost.len());
        for key in &lost {
            client.set(key, "in its place").await.unwrap();
        }
        for (key, value) in lost.iter().zip(client.get_many(&lost).await) {
            assert_eq!(&value.unwrap().unwrap().bytes[..], b"in its place", "{key}");
            let left = client.ttl(key).await.unwrap();
            assert!(matches!(left, Some(Remaining::Ms(ms)) if ms <= 60_000), "{left:?}");
            assert_eq!(client.delete(key).await.unwrap(), DeleteOutcome::Deleted);
            assert!(client.get(key).await.unwrap().is_none());
        }
    });
    for node in alive {
        node.until_counter("stood_in", |requests| requests > 0);
    }
}

/// Slots leave one core of two, and most of its memory goes to the other.
#[test]
fn memory_follows_the_slots_of_cores() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("cache-a.toml"), text(directory, 1, &NAMES[..1])).unwrap();
    let node = start(Io::Epoll, directory, NAMES[0]);
    eventually("both cores have told their memory", || {
        node.counter("memory_budget_bytes").iter().all(|bytes| *bytes > 0)
    });
    let [first, second] = node.counter("memory_budget_bytes")[..] else { panic!("two cores") };
    assert_eq!(first, second);
    let slots = "[[slots]]\nnodes = [\"cache-a\"]\nranges = \"0-8191\"\n\
                 [[slots]]\nnodes = [\"cache-b\"]\nranges = \"8192-16383\"\n";
    let body = format!("{}{slots}", text(directory, 2, &NAMES[..2]));
    let answer = put(&node.admin, "/topology", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    eventually("the memory of the core without slots goes to the other", || {
        let [more, less] = node.counter("memory_budget_bytes")[..] else { panic!("two cores") };
        more > first / 2 * 3 && less < first / 2
    });
    let sum: u64 = node.counter("memory_budget_bytes").iter().sum();
    assert!(sum <= first + second, "{sum} of {first} and {second}");
}

#[test]
fn a_file_that_is_no_topology_is_a_wrong_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "epoch = 0\nnodes = []\n").unwrap();
    let path = file.path().to_str().unwrap();
    let ended = run(serve(Io::Epoll, &["--topology", path]));
    assert_eq!(ended.code(), Some(2));
    let expected = format!("the topology file {path}: epoch 0 stands for no topology");
    assert!(ended.stderr.contains(&expected), "{}", ended.stderr);
}
