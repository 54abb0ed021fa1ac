//! Several nodes seen as one cache: where keys go, and what happens while a node is down.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane_client::*;
use corelane_ring::{Address, Epoch, Node, NodeName, Topology, place};
use tokio::task::JoinHandle;

use crate::fake_node::{FakeNode, Greeting, View};

type Entries = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// A node that serves from a map, and can be killed and started again where it was.
struct Living {
    name: &'static str,
    address: String,
    entries: Entries,
    view: Option<View>,
    serving: Option<JoinHandle<()>>,
}

impl Living {
    async fn start(name: &'static str) -> Living {
        let mut living = Living {
            name,
            address: "127.0.0.1:0".to_owned(),
            entries: Entries::default(),
            view: None,
            serving: None,
        };
        living.restart().await;
        living
    }

    /// Starts again with the entries it had.
    async fn restart(&mut self) {
        let mut node = FakeNode::start_on(&self.address, Greeting::Welcome { cores: 2 }).await;
        self.address = node.address.clone();
        let (entries, view) = (Arc::clone(&self.entries), self.view.clone());
        self.serving = Some(tokio::spawn(async move {
            // Dropped with this task, they end with it.
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let mut peer = node.peer().await;
                peer.view = view.clone();
                serving.spawn(peer.serve(Arc::clone(&entries)));
            }
        }));
    }

    async fn kill(&mut self) {
        let serving = self.serving.take().expect("the node runs");
        serving.abort();
        // Over means that its sockets are closed.
        let _ = serving.await;
    }

    fn spec(&self) -> String {
        format!("{}={}", self.name, self.address)
    }

    fn has(&self, key: &str) -> bool {
        self.entries.lock().unwrap().contains_key(key.as_bytes())
    }
}

/// Makes a cluster of nodes: each knows the topology, which has the first `count` of them.
async fn cluster(nodes: &mut [Living], count: usize) -> (Arc<Mutex<Topology>>, Arc<AtomicU32>) {
    let topology = Arc::new(Mutex::new(topology(1, &nodes[..count])));
    let fetches = Arc::<AtomicU32>::default();
    for node in nodes {
        let name = NodeName::new(node.name).unwrap();
        let (topology, fetches) = (Arc::clone(&topology), Arc::clone(&fetches));
        node.kill().await;
        node.view = Some(View { name, topology, fetches });
        node.restart().await;
    }
    (topology, fetches)
}

fn topology(epoch: u64, nodes: &[Living]) -> Topology {
    let nodes = nodes.iter().map(|node| Node {
        name: NodeName::new(node.name).unwrap(),
        addresses: vec![Address::new(&node.address).unwrap()],
        weight: NonZeroU32::MIN,
        zone: String::new(),
    });
    place(Epoch(epoch), nodes.collect(), 1).unwrap()
}

async fn three() -> Vec<Living> {
    vec![Living::start("a").await, Living::start("b").await, Living::start("c").await]
}

async fn connect(nodes: &[Living], when: WhenNodeDown) -> Client {
    let nodes: Vec<String> = nodes.iter().map(Living::spec).collect();
    let builder = Client::builder().nodes(nodes).when_node_down(when);
    builder.timeout(Duration::from_secs(10)).connect().await.unwrap()
}

fn keys() -> Vec<String> {
    (0..200).map(|number| format!("key {number}")).collect()
}

/// Asks until the client takes the node to be down.
async fn until_down(client: &Client, name: &str) {
    let key = keys().into_iter().find(|key| client.node_of(key) == name).unwrap();
    while !health(client, name).is_down {
        let _ = client.get(&key).await;
        tokio::task::yield_now().await;
    }
}

async fn until_up(client: &Client, name: &str) {
    while health(client, name).is_down {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn health(client: &Client, name: &str) -> NodeHealth {
    client.nodes().into_iter().find(|node| node.name == name).unwrap()
}

#[tokio::test]
async fn each_key_lives_on_the_node_that_owns_it() {
    let nodes = three().await;
    let client = connect(&nodes, WhenNodeDown::Fail).await;
    let entries: Vec<(String, String)> =
        keys().into_iter().map(|key| (key.clone(), format!("value of {key}"))).collect();
    let (single, many) = entries.split_at(20);
    for (key, value) in single {
        client.set(key, value).await.unwrap();
    }
    for stored in client.set_many(many, &SetOptions::new()).await {
        assert!(matches!(stored, Ok(SetOutcome::Stored { .. })), "{stored:?}");
    }

    for node in &nodes {
        let owned = entries.iter().filter(|(key, _)| client.node_of(key) == node.name);
        assert!(owned.clone().count() > 30, "{}", node.name);
        assert!(owned.clone().all(|(key, _)| node.has(key)), "{}", node.name);
        assert_eq!(node.entries.lock().unwrap().len(), owned.count(), "{}", node.name);
    }
    let (key, value) = &entries[3];
    assert_eq!(client.get(key).await.unwrap().unwrap().bytes, value.as_bytes());
    let found = client.get_many(&keys()).await;
    for ((_, value), found) in entries.iter().zip(found) {
        assert_eq!(found.unwrap().unwrap().bytes, value.as_bytes());
    }
    assert!(client.ping().await.unwrap() > Duration::ZERO);
}

#[tokio::test]
async fn the_keys_of_a_node_that_is_down_are_missing_and_come_back() {
    let mut nodes = three().await;
    let client = connect(&nodes, WhenNodeDown::Miss).await;
    for key in keys() {
        client.set(&key, &key).await.unwrap();
    }
    nodes[1].kill().await;
    until_down(&client, "b").await;

    let found = client.get_many(&keys()).await;
    for (key, found) in keys().into_iter().zip(found) {
        let there = client.node_of(&key) != "b";
        assert_eq!(found.unwrap().is_some(), there, "{key}");
        assert_eq!(client.get(&key).await.unwrap().is_some(), there, "{key}");
        let stored = client.set(&key, "new").await;
        match there {
            true => stored.unwrap(),
            false => {
                let error = stored.unwrap_err();
                assert!(matches!(&error, Error::NodeDown { node } if &**node == "b"), "{error}");
                assert_eq!(error.executed(), Executed::No);
            }
        }
    }

    nodes[1].restart().await;
    until_up(&client, "b").await;
    for key in keys().iter().filter(|key| client.node_of(key) == "b") {
        assert_eq!(client.get(key).await.unwrap().unwrap().bytes, key.as_bytes());
    }
}

#[tokio::test]
async fn another_node_stands_in_for_a_while() {
    let mut nodes = three().await;
    let client = connect(&nodes, WhenNodeDown::Gutter { ttl: Duration::from_secs(5) }).await;
    let key = keys().into_iter().find(|key| client.node_of(key) == "c").unwrap();
    client.set(&key, "old").await.unwrap();
    nodes[2].kill().await;
    until_down(&client, "c").await;

    assert!(client.get(&key).await.unwrap().is_none());
    client.set(&key, "meanwhile").await.unwrap();
    assert_eq!(client.get(&key).await.unwrap().unwrap().bytes, "meanwhile");
    let found = client.get_many(&[&key]).await.remove(0);
    assert_eq!(found.unwrap().unwrap().bytes, "meanwhile");
    assert!(nodes[0].has(&key) != nodes[1].has(&key));
    client.delete(&key).await.unwrap();
    assert!(client.get(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_stand_in_was_given_is_not_read_as_it_was_before() {
    let mut nodes = three().await;
    let client = connect(&nodes, WhenNodeDown::Gutter { ttl: Duration::from_secs(5) }).await;
    let key = keys().into_iter().find(|key| client.node_of(key) == "c").unwrap();
    client.set(&key, "old").await.unwrap();
    nodes[2].kill().await;
    until_down(&client, "c").await;
    client.set(&key, "new").await.unwrap();

    // It comes back with what it had.
    nodes[2].restart().await;
    until_up(&client, "c").await;
    assert!(client.get(&key).await.unwrap().is_none());
    assert!(!nodes[2].has(&key));
}

#[tokio::test]
async fn a_failed_delete_is_made_before_its_node_is_trusted() {
    let mut nodes = three().await;
    let client = connect(&nodes, WhenNodeDown::Miss).await;
    let owned: Vec<String> = keys().into_iter().filter(|key| client.node_of(key) == "a").collect();
    let (deleted, kept) = owned.split_at(owned.len() / 2);
    for key in &owned {
        client.set(key, "old").await.unwrap();
    }
    nodes[0].kill().await;
    for key in deleted {
        client.delete(key).await.unwrap_err();
    }
    assert_eq!(health(&client, "a").deletes_owed, deleted.len());

    // Every value is back with the node, and every read until then is a miss.
    until_down(&client, "a").await;
    nodes[0].restart().await;
    assert!(owned.iter().all(|key| nodes[0].has(key)));
    while health(&client, "a").is_down {
        for key in deleted {
            assert!(client.get(key).await.unwrap().is_none(), "{key} came back");
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(health(&client, "a").deletes_owed, 0);
    assert!(deleted.iter().all(|key| !nodes[0].has(key)));
    for key in kept {
        assert_eq!(client.get(key).await.unwrap().unwrap().bytes, "old");
    }
}

#[tokio::test]
async fn a_client_that_is_closed_makes_what_it_owes_or_says_to_whom() {
    let mut nodes = three().await;
    let client = connect(&nodes, WhenNodeDown::Miss).await;
    assert_eq!(client.clone().close(Duration::ZERO).await, Ok(()), "nothing is owed");
    let owned: Vec<String> = keys().into_iter().filter(|key| client.node_of(key) == "a").collect();
    for key in &owned {
        client.set(key, "old").await.unwrap();
    }
    nodes[0].kill().await;
    for key in &owned {
        client.delete(key).await.unwrap_err();
    }
    let owed = client.clone().close(Duration::from_millis(50)).await.unwrap_err();
    let [node] = &owed.nodes[..] else { panic!("{owed}") };
    assert_eq!((node.name.as_str(), node.deletes_owed), ("a", owned.len()));

    nodes[0].restart().await;
    assert!(owned.iter().all(|key| nodes[0].has(key)));
    client.close(Duration::from_secs(60)).await.unwrap();
    assert!(!owned.iter().any(|key| nodes[0].has(key)));
}

#[tokio::test]
async fn the_list_of_nodes_may_change() {
    let mut nodes = three().await;
    let client = connect(&nodes[..2], WhenNodeDown::Miss).await;
    for key in keys() {
        client.set(&key, "1").await.unwrap();
    }
    let before: Vec<String> = keys().iter().map(|key| client.node_of(key)).collect();
    client.set_nodes([nodes[0].spec(), nodes[1].spec(), nodes[2].spec()]).unwrap();
    let mut moved = 0;
    for (key, before) in keys().iter().zip(&before) {
        let now = client.node_of(key);
        let found = client.get(key).await.unwrap();
        assert_eq!(found.is_some(), now == *before, "{key}");
        moved += usize::from(now == "c");
    }
    assert!((40..=100).contains(&moved), "{moved}");

    let error = client.set_nodes(["a=localhost:1", "a=localhost:2"]).unwrap_err();
    assert!(error.to_string().contains("two nodes are called a"), "{error}");
    assert_eq!(client.nodes().len(), 3);

    // One that left is not used any more.
    client.set_nodes([nodes[1].spec(), nodes[2].spec()]).unwrap();
    nodes[0].kill().await;
    let entries: Vec<(String, &str)> = keys().into_iter().map(|key| (key, "2")).collect();
    for stored in client.set_many(&entries, &SetOptions::new()).await {
        stored.unwrap();
    }
}

#[tokio::test]
async fn one_node_of_a_cluster_leads_to_all() {
    let mut nodes = three().await;
    let (_, fetches) = cluster(&mut nodes, 3).await;
    let client = Client::connect(&nodes[0].spec()).await.unwrap();
    for key in keys() {
        client.set(&key, &key).await.unwrap();
    }
    for node in &nodes {
        let owned = keys().into_iter().filter(|key| client.node_of(key) == node.name);
        assert!(owned.clone().count() > 30, "{}", node.name);
        assert!(owned.clone().all(|key| node.has(&key)), "{}", node.name);
    }
    assert_eq!(fetches.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_client_that_is_behind_fetches_the_topology_once() {
    let mut nodes = three().await;
    let (current, fetches) = cluster(&mut nodes, 2).await;
    let client = connect(&nodes[..2], WhenNodeDown::Miss).await;
    client.get("key").await.unwrap();
    let entries: Vec<(String, String)> = keys().into_iter().map(|key| (key.clone(), key)).collect();
    for node in &nodes[..2] {
        let of_node = entries.iter().find(|(key, _)| client.node_of(key) == node.name).unwrap();
        client.set(&of_node.0, &of_node.1).await.unwrap();
    }
    let fetched_before = fetches.load(Ordering::Relaxed);

    *current.lock().unwrap() = topology(2, &nodes);
    let (options, keys) = (SetOptions::new(), keys());
    let (stored, found, single) = tokio::join!(
        client.set_many(&entries, &options),
        client.get_many(&keys),
        client.get("key 7"),
    );
    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    single.unwrap();
    for (key, _) in &entries {
        assert!(client.get(key).await.unwrap().is_some(), "{key}");
        let owner = nodes.iter().find(|node| node.name == client.node_of(key)).unwrap();
        assert!(owner.has(key), "{key}");
    }
    assert!(client.nodes().len() == 3);
    assert_eq!(fetches.load(Ordering::Relaxed), fetched_before + 1);
}

/// What a dead node is owed is owed to the next owners of its slots too: they may be given copies.
#[tokio::test]
async fn what_a_node_is_owed_goes_with_its_slots() {
    let mut nodes = three().await;
    let (current, _) = cluster(&mut nodes, 3).await;
    let client = connect(&nodes, WhenNodeDown::Miss).await;
    client.get("key").await.unwrap();
    let mut gone = nodes.remove(0);
    let (owned, others): (Vec<String>, Vec<String>) =
        keys().into_iter().partition(|key| client.node_of(key) == gone.name);
    let copy = |node: &Living, key: &str| {
        node.entries.lock().unwrap().insert(key.as_bytes().to_vec(), b"old".to_vec());
    };
    gone.kill().await;
    for key in &owned {
        client.delete(key).await.unwrap_err();
    }

    *current.lock().unwrap() = topology(2, &nodes);
    owned.iter().for_each(|key| nodes.iter().for_each(|node| copy(node, key)));
    while client.nodes().len() == 3 {
        client.get(&others[0]).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.clone().close(Duration::from_secs(60)).await.unwrap();
    for key in &owned {
        let owner = nodes.iter().find(|node| node.name == client.node_of(key)).unwrap();
        assert!(!owner.has(key), "{key} is still at {}", owner.name);
    }
}

#[tokio::test]
async fn a_file_of_nodes_is_followed() {
    let nodes = three().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nodes");
    std::fs::write(&path, format!("# one for now\n{}\n", nodes[0].spec())).unwrap();
    let builder = Client::builder().nodes_file(&path).watch_interval(Duration::from_millis(5));
    let client = builder.connect().await.unwrap();
    let names = |client: &Client| -> Vec<String> {
        client.nodes().into_iter().map(|node| node.name).collect()
    };
    assert_eq!(names(&client), ["a"]);

    // Nonsense changes nothing, whatever follows does.
    std::fs::write(&path, "nonsense\n").unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(names(&client), ["a"]);
    let text: String = nodes.iter().map(|node| node.spec() + "\n").collect();
    std::fs::write(&path, text).unwrap();
    while names(&client) != ["a", "b", "c"] {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_name_of_nodes_is_resolved() {
    let node = Living::start("a").await;
    let client = Client::builder().nodes_dns(&node.address).connect().await.unwrap();
    client.set("key", "value").await.unwrap();
    assert_eq!(client.nodes()[0].name, node.address);
}

#[tokio::test]
async fn a_fleet_needs_one_node_that_answers() {
    let mut nodes = three().await;
    nodes[0].kill().await;
    nodes[2].kill().await;
    let client = connect(&nodes, WhenNodeDown::Miss).await;
    assert!(health(&client, "a").is_down && health(&client, "c").is_down);
    let key = keys().into_iter().find(|key| client.node_of(key) == "b").unwrap();
    client.set(&key, "value").await.unwrap();

    nodes[1].kill().await;
    let specs: Vec<String> = nodes.iter().map(Living::spec).collect();
    let error = Client::connect(specs).await.unwrap_err();
    assert!(matches!(error.reason, ConnectFailure::Io(_)), "{error}");
    let error = Client::connect(Vec::<String>::new()).await.unwrap_err();
    assert!(matches!(error.reason, ConnectFailure::Nodes(_)), "{error}");
}

#[tokio::test]
async fn what_moved_is_read_from_the_owner_before_and_copied() {
    let nodes = three().await;
    let specs: Vec<String> = nodes.iter().map(Living::spec).collect();
    let builder = Client::builder().nodes(&specs[..2]).warm_up(Duration::from_secs(600));
    let client = builder.connect().await.unwrap();
    for key in keys() {
        client.set(&key, "1").await.unwrap();
    }
    client.set_nodes(&specs[..]).unwrap();
    let moved: Vec<String> = keys().into_iter().filter(|key| client.node_of(key) == "c").collect();
    assert!(moved.len() > 30);
    let before = |key: &str| nodes[0].has(key) || nodes[1].has(key);

    // Single and many reads find everything, and leave a copy.
    for found in client.get_many(&keys()[..150]).await {
        assert_eq!(found.unwrap().unwrap().bytes, "1");
    }
    for key in &keys()[150..180] {
        assert_eq!(client.get(key).await.unwrap().unwrap().bytes, "1");
    }
    let (read, unread): (Vec<&String>, Vec<&String>) =
        moved.iter().partition(|key| nodes[2].has(key));
    assert!(read.len() > 20 && !unread.is_empty(), "{} {}", read.len(), unread.len());
    assert!(moved.iter().all(|key| before(key)));

    // What is deleted or overwritten does not come back from the owner before.
    client.delete(read[0]).await.unwrap();
    client.delete(unread[0]).await.unwrap();
    client.set(unread[1], "2").await.unwrap();
    for key in [read[0], unread[0], unread[1]] {
        assert!(!before(key), "{key}");
    }
    assert!(client.get(read[0]).await.unwrap().is_none());
    assert!(client.get(unread[0]).await.unwrap().is_none());
    assert_eq!(client.get(unread[1]).await.unwrap().unwrap().bytes, "2");
}

#[tokio::test]
async fn a_leaving_node_gives_its_entries_away_until_the_warm_up_is_over() {
    let mut nodes = three().await;
    let specs: Vec<String> = nodes.iter().map(Living::spec).collect();
    let builder = Client::builder().nodes(&specs[..]).warm_up(Duration::from_millis(300));
    let client = builder.connect().await.unwrap();
    let owned: Vec<String> = keys().into_iter().filter(|key| client.node_of(key) == "c").collect();
    for key in &owned {
        client.set(key, "1").await.unwrap();
    }
    client.set_nodes(&specs[..2]).unwrap();
    assert_eq!(client.get(&owned[0]).await.unwrap().unwrap().bytes, "1");

    // Once it is over nobody holds a connection to the node that left.
    let mut over = tokio::time::interval(Duration::from_millis(5));
    loop {
        over.tick().await;
        if client.get(&owned[1]).await.unwrap().is_none() {
            break;
        }
        nodes[0].entries.lock().unwrap().remove(owned[1].as_bytes());
        nodes[1].entries.lock().unwrap().remove(owned[1].as_bytes());
    }
    nodes[2].kill().await;
    assert_eq!(client.get(&owned[0]).await.unwrap().unwrap().bytes, "1");
}
