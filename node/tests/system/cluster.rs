//! Several nodes that share the slots by a topology.

use std::fs;
use std::path::Path;

use corelane_client::{Error, Status, Topology};
use corelane_ring::slot_of;
use rustix::process::Signal;

use crate::admin::{get, put};
use crate::process::{Io, Node, eventually, run, serve};

on_both!(each_key_has_one_node, later_topologies_take_over_and_outlive_the_process);

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

fn keys() -> impl Iterator<Item = String> {
    (0..120).map(|number| format!("key-{number}"))
}

/// The address that a node sends the asker of a key to; none where it serves it itself.
async fn redirect(client: &corelane_client::Client, key: &str) -> Option<String> {
    match client.get(key).await {
        Ok(_) => None,
        Err(Error::Refused { status: Status::Moved, message }) => Some(message.into()),
        Err(other) => panic!("{key}: {other}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn each_key_has_one_node(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut nodes = Vec::new();
    for name in NAMES {
        fs::write(directory.join(format!("{name}.toml")), text(directory, 7, &NAMES)).unwrap();
        nodes.push(start(io, directory, name));
    }
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(node.client().await);
    }
    let topology = clients[0].topology().await.unwrap().expect("the node has one");
    assert_eq!(topology.epoch().0, 7);
    for client in &clients {
        assert!(client.topology().await.unwrap().as_ref() == Some(&topology));
    }
    for key in keys() {
        let owner = topology.owner(slot_of(key.as_bytes()));
        let address = topology.node(owner).addresses[0].to_string();
        for (index, client) in clients.iter().enumerate() {
            let expected = (index != owner.index()).then(|| address.clone());
            assert_eq!(redirect(client, &key).await, expected, "{key} on {index}");
        }
    }
    let owned: u64 = nodes.iter().flat_map(|node| node.counter("slots_owned")).sum();
    assert_eq!(owned, 16_384);
}

#[tokio::main(flavor = "current_thread")]
async fn later_topologies_take_over_and_outlive_the_process(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("cache-a.toml"), text(directory, 1, &NAMES[..1])).unwrap();
    let node = start(io, directory, NAMES[0]);
    let client = node.client().await;
    for key in keys() {
        client.set(&key, "v").await.unwrap();
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
    let topology: Topology = client.topology().await.unwrap().expect("the node has one");
    let mut kept = 0;
    for key in keys() {
        let is_ours =
            topology.node(topology.owner(slot_of(key.as_bytes()))).name.as_str() == NAMES[0];
        match client.get(&key).await {
            Ok(value) if is_ours => {
                assert_eq!(value.unwrap().bytes, "v");
                kept += 1;
            }
            Err(Error::Refused { status: Status::Moved, .. }) if !is_ours => {}
            other => panic!("{key}: {other:?}"),
        }
    }
    node.until_counter("items", |items| items == kept);
    node.until_counter("slots_leaving", |slots| slots == 0);

    node.signal(Signal::TERM);
    drop(client);
    assert_eq!(node.ended().code(), Some(0));
    let again = start(io, directory, NAMES[0]);
    let client = again.client().await;
    assert!(client.topology().await.unwrap() == Some(topology));
    eventually("owned slots", || again.counter("slots_owned").iter().sum::<u64>() < 6_000);
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
