//! The memory that a node was given is kept, whatever is written to it.

use corelane_client::{Client, Error, Status};

use crate::admin;
use crate::process::{Io, Node, block_on, eventually};

const MEMORY: u64 = 128 << 20;

/// Sets `bytes` in values of one length; how many were refused.
async fn fill(client: &Client, value_bytes: usize, bytes: u64) -> usize {
    let value = vec![b'v'; value_bytes];
    let (mut refused, mut written) = (0, 0);
    for index in 0.. {
        if written >= bytes {
            break;
        }
        match client.set(format!("{value_bytes} {index}"), &value).await {
            Ok(()) => {}
            Err(Error::Refused { status: Status::OutOfMemory, .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        written += value_bytes as u64;
    }
    refused
}

on_both!(four_times_the_memory_evicts_and_stays_within);

fn four_times_the_memory_evicts_and_stays_within(io: Io) {
    let node = Node::start(io, &["--memory", "128MiB", "--cores", "2"]);
    let mut most = 0;
    block_on(async {
        let client = node.client().await;
        for value_bytes in [20_000, 400_000, 5_000] {
            assert_eq!(fill(&client, value_bytes, 4 * MEMORY).await, 0, "nothing is refused");
            most = most.max(node.resident_bytes());
            // What was written last is there.
            let last = (4 * MEMORY).div_ceil(value_bytes as u64) - 1;
            let found = client.get(format!("{value_bytes} {last}")).await.unwrap();
            assert!(found.is_some_and(|value| value.bytes.len() == value_bytes));
        }
    });
    node.until_counter("evictions", |evictions| evictions > 1_000);
    eprintln!(
        "{} MiB written to a node of {} MiB on {}: {} MiB resident at most",
        (12 * MEMORY) >> 20,
        MEMORY >> 20,
        io.name(),
        most >> 20,
    );
    assert!(most <= MEMORY, "{most} bytes resident, more than --memory");
    let used: u64 = node.counter("memory_used_bytes").iter().sum();
    let budget: u64 = node.counter("memory_budget_bytes").iter().sum();
    assert!(used <= budget && budget < MEMORY, "{used} used of {budget}");
}

#[test]
fn without_eviction_writes_are_refused_when_memory_is_full() {
    let node = Node::start(Io::Epoll, &["--memory", "64MiB", "--policy", "noeviction"]);
    block_on(async {
        let client = node.client().await;
        client.set("first", "kept").await.unwrap();
        assert!(fill(&client, 20_000, MEMORY).await > 1_000);
        assert_eq!(client.get("first").await.unwrap().unwrap().bytes, "kept");
        // Room comes from deleting.
        for index in 0..100 {
            client.delete(format!("20000 {index}")).await.unwrap();
        }
        client.set("second", vec![b'v'; 20_000]).await.unwrap();
        client.set("first", "changed").await.unwrap();
    });
    node.until_counter("out_of_memory", |refused| refused > 1_000);
    assert_eq!(node.counter("evictions"), [0]);
    let resident = node.resident_bytes();
    assert!(resident <= 64 << 20, "{resident} bytes resident, more than --memory");
}

/// Policy and memory change under a running node: what was refused is taken, and what no longer
/// has room goes.
#[test]
fn settings_change_while_it_runs() {
    let arguments = ["--memory", "64MiB", "--memory-max", "256MiB", "--policy", "noeviction"];
    let node = Node::start(Io::Epoll, &arguments);
    let put = |query: &str| admin::put(&node.admin, &format!("/config?{query}"), "");
    block_on(async {
        let client = node.client().await;
        assert!(fill(&client, 20_000, MEMORY).await > 1_000);
        let raised = put("memory=256MiB");
        assert_eq!(raised.status, 200, "{raised:?}");
        assert!(raised.body.contains("memory = \"256MiB\"\n"), "{raised:?}");
        node.until_counter("memory_budget_bytes", |bytes| bytes > 128 << 20);
        assert_eq!(fill(&client, 20_001, 100 << 20).await, 0);
        assert_eq!(node.counter("evictions"), [0]);

        let lowered = put("policy=allkeys-lru&memory=64MiB");
        assert_eq!(lowered.status, 200, "{lowered:?}");
        assert!(lowered.body.contains("policy = \"clock\"\n"), "{lowered:?}");
        node.until_counter("evictions_by_budget", |evictions| evictions > 1_000);
        node.until_counter("memory_used_bytes", |bytes| bytes < 64 << 20);
        assert_eq!(fill(&client, 20_002, MEMORY).await, 0);
    });
    let over = put("memory=512MiB&policy=fifo");
    assert_eq!(over.status, 400);
    assert!(over.body.starts_with("--memory 512MiB is more than --memory-max 256MiB"), "{over:?}");
    assert!(admin::get(&node.admin, "/config").body.contains("policy = \"clock\"\n"));
    eventually("memory goes back to the system", || node.resident_bytes() <= 64 << 20);
}
