//! Every operation: what is sent, where it is sent, what comes of the answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane_client::*;
use corelane_protocol::limits::{MULTI_GET_BYTES_MAX, MULTI_GET_KEYS_MAX};
use corelane_protocol::{
    Absent, Answer, Direction, ExpireCondition, OldValue, Reply, Request, Side,
};
use corelane_ring::{Address, Core, CoreMap, Epoch, Node, NodeName, place, slot_of};

use crate::fake_node::{CLOCK, FakeNode, Greeting, Peer, VALUE_BYTES_MAX, failed, value};

/// A client of a node with one core, and the node's end of its connection.
async fn one_core() -> (Client, Peer, FakeNode) {
    let mut node = FakeNode::start(1).await;
    let client = Client::connect(&node.address).await.unwrap();
    let peer = node.peer().await;
    (client, peer, node)
}

/// Runs an operation against a node that expects this request and answers it so.
async fn exchange<T>(
    operation: impl AsyncFnOnce(Client) -> T,
    expected: Request<'_>,
    reply: Reply<'_>,
) -> T {
    let (client, mut peer, _node) = one_core().await;
    let answering = async {
        let frame = peer.request().await.unwrap();
        assert_eq!(frame.get().request, expected);
        peer.reply(frame.id(), &reply).await;
    };
    tokio::join!(operation(client), answering).0
}

#[tokio::test]
async fn gets() {
    let request = Request::Get { key: b"k", least_version: None };
    let found = exchange(async |client| client.get("k").await, request, value(b"v")).await;
    assert_eq!(found.unwrap().unwrap().bytes, "v");
    let missing = failed(Status::NotFound);
    let found = exchange(async |client| client.get("k").await, request, missing).await;
    assert_eq!(found.unwrap(), None);

    let request = Request::Get { key: b"k", least_version: Some(Version(5)) };
    let reply = Reply::Value(corelane_protocol::Value {
        bytes: b"v",
        user_flags: 3,
        version: Some(Version(6)),
    });
    let options = GetOptions::new().least_version(Version(5)).want_version();
    let found = exchange(async |client| client.get_with("k", &options).await, request, reply).await;
    let expected = Value { bytes: "v".into(), user_flags: 3, version: Some(Version(6)) };
    assert_eq!(found.unwrap(), Some(expected));
}

#[tokio::test]
async fn sets() {
    let ttl = Ttl::After { ms: 9, jitter: Jitter::Spread };
    let condition = SetCondition::VersionIs(Version(4));
    let options = SetOptions::new().ttl(ttl).condition(condition).user_flags(8).want_version();
    let request = Request::Set(corelane_protocol::Set {
        key: b"k",
        value: b"v",
        user_flags: 8,
        ttl,
        condition,
        old: OldValue::Omit,
    });
    let version = Some(Version(5));
    for (reply, expected) in [
        (Reply::Done { version }, SetOutcome::Stored { version }),
        (failed(Status::ConditionFailed), SetOutcome::ConditionFailed),
        (failed(Status::NotFound), SetOutcome::NotFound),
    ] {
        let set = async |client: Client| client.set_with("k", "v", &options).await;
        assert_eq!(exchange(set, request, reply).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn deletes() {
    let condition = DeleteCondition::ValueIs(b"old");
    let request = Request::Delete { key: b"k", condition };
    for (reply, expected) in [
        (Reply::Done { version: None }, DeleteOutcome::Deleted),
        (failed(Status::NotFound), DeleteOutcome::NotFound),
        (failed(Status::ConditionFailed), DeleteOutcome::ConditionFailed),
    ] {
        let delete = async |client: Client| client.delete_if("k", condition).await;
        assert_eq!(exchange(delete, request, reply).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn touches() {
    let ttl = Ttl::After { ms: 9, jitter: Jitter::Exact };
    let done = Reply::Done { version: None };
    let missing = failed(Status::NotFound);

    let request = Request::Touch { key: b"k", ttl, condition: ExpireCondition::Always };
    for (reply, expected) in [(done, TouchOutcome::Touched), (missing, TouchOutcome::NotFound)] {
        let touch = async |client: Client| client.touch("k", ttl).await;
        assert_eq!(exchange(touch, request, reply).await.unwrap(), expected);
    }

    let request = Request::GetAndTouch { key: b"k", ttl };
    let touch = async |client: Client| client.get_and_touch("k", ttl).await;
    assert_eq!(exchange(touch, request, value(b"v")).await.unwrap().unwrap().bytes, "v");
    assert_eq!(exchange(touch, request, missing).await.unwrap(), None);

    let request = Request::TtlOf { key: b"k" };
    let ttl = async |client: Client| client.ttl("k").await;
    let remaining = Reply::Remaining(Remaining::Ms(12));
    assert_eq!(exchange(ttl, request, remaining).await.unwrap(), Some(Remaining::Ms(12)));
    assert_eq!(exchange(ttl, request, missing).await.unwrap(), None);

    let request = Request::Exists { key: b"k" };
    let exists = async |client: Client| client.exists("k").await;
    assert!(exchange(exists, request, done).await.unwrap());
    assert!(!exchange(exists, request, missing).await.unwrap());
}

#[tokio::test]
async fn counts() {
    let options = CountOptions::new().initial(7).ttl(Ttl::Never).want_version();
    let count = |direction| {
        Request::Count(corelane_protocol::Count {
            key: b"k",
            delta: 3,
            direction,
            arithmetic: Arithmetic::Signed,
            initial: Some(7),
            ttl: Ttl::Never,
        })
    };
    let version = Some(Version(2));
    let reply = Reply::Number { number: (-4i64).cast_unsigned(), version };
    let decrement = async |client: Client| client.decrement("k", 3, &options).await;
    let counted = exchange(decrement, count(Direction::Decrement), reply).await.unwrap().unwrap();
    assert_eq!((counted.signed(), counted.version), (-4, version));

    let increment = async |client: Client| client.increment("k", 3, &options).await;
    let request = count(Direction::Increment);
    assert_eq!(exchange(increment, request, failed(Status::NotFound)).await.unwrap(), None);
    let refused = exchange(increment, request, failed(Status::NotANumber)).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { status: Status::NotANumber, .. }));
    assert_eq!(refused.executed(), Executed::No);
}

#[tokio::test]
async fn appends_and_prepends() {
    let append = async |client: Client| client.append("k", "v").await;
    let request =
        Request::Extend { key: b"k", value: b"v", side: Side::Append, absent: Absent::Miss };
    let done = exchange(append, request, Reply::Done { version: None }).await;
    assert_eq!(done.unwrap(), ExtendOutcome::Extended);
    let prepend = async |client: Client| client.prepend("k", "v").await;
    let request =
        Request::Extend { key: b"k", value: b"v", side: Side::Prepend, absent: Absent::Miss };
    let missing = exchange(prepend, request, failed(Status::NotFound)).await;
    assert_eq!(missing.unwrap(), ExtendOutcome::NotFound);
}

#[tokio::test]
async fn flushes() {
    let flush = async |client: Client| client.flush(Duration::from_secs(2)).await;
    let request = Request::Flush { delay_ms: 2_000 };
    exchange(flush, request, Reply::Done { version: None }).await.unwrap();

    let (client, _peer, _node) = one_core().await;
    let error = client.flush(Duration::from_secs(1 << 40)).await.unwrap_err();
    assert!(matches!(error, Error::TimeOutOfRange));
}

#[tokio::test]
async fn stats_are_read_core_by_core() {
    let (client, mut peer, _node) = one_core().await;
    let answering = async {
        let frame = peer.request().await.unwrap();
        assert_eq!(frame.get().request, Request::Stats);
        for core in [1u16, 0] {
            let text = format!("hits {core}\nmisses 5\n");
            let reply = Reply::Stats { core, text: text.as_bytes() };
            peer.reply_part(frame.id(), core, &reply).await;
        }
        peer.reply(frame.id(), &Reply::End).await;
    };
    let (stats, ()) = tokio::join!(client.stats(), answering);
    let stats = stats.unwrap();
    assert_eq!(stats.iter().map(|stats| stats.core).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(stats[1].iter().collect::<Vec<_>>(), [("hits", "1"), ("misses", "5")]);
}

#[tokio::test]
async fn writes_without_reply_are_sent_and_not_waited_for() {
    let (client, mut peer, _node) = one_core().await;
    client.set_no_reply("a", "1", &SetOptions::new()).await.unwrap();
    client.delete_no_reply("b").await.unwrap();
    client.touch_no_reply("c", Ttl::Never).await.unwrap();
    for (frame, key) in peer.requests(3).await.iter().zip(["a", "b", "c"]) {
        assert_eq!(frame.get().head.answer, Answer::Never);
        assert_eq!(frame.key(), key.as_bytes());
    }
}

#[tokio::test]
async fn deadlines_are_told_in_the_nodes_clock() {
    let (client, mut peer, _node) = one_core().await;
    let answering = async {
        let frame = peer.request().await.unwrap();
        peer.reply(frame.id(), &failed(Status::TooLate)).await;
        frame.get().head.deadline.expect("deadlines are on by default").0 - CLOCK.0
    };
    let client = client.with_timeout(Duration::from_secs(3_600));
    let (result, told) = tokio::join!(client.get("k"), answering);
    // An hour from when the request was made, by the clock that the hello told.
    assert!((3_600_000_000..3_660_000_000).contains(&told), "{told}");
    assert!(matches!(result, Err(Error::Timeout { executed: Executed::No })));
}

#[tokio::test]
async fn requests_go_to_the_core_that_owns_the_key() {
    let cores = 4;
    let mut node = FakeNode::start(cores).await;
    let client = Client::connect(&node.address).await.unwrap();
    assert_eq!((client.node_name().as_str(), client.cores()), ("fake", 4));
    let map = CoreMap::even(cores).unwrap();
    let mut serving = Vec::new();
    for mut peer in node.peers(cores).await {
        let map = map.clone();
        serving.push(tokio::spawn(async move {
            let mut seen = 0;
            while let Some(frame) = peer.request().await {
                assert_eq!(map.core_of(slot_of(&frame.key())), Core(peer.core));
                peer.reply(frame.id(), &value(&frame.key())).await;
                seen += 1;
            }
            seen
        }));
    }
    for number in 0..200 {
        let key = format!("key {number}");
        assert_eq!(client.get(&key).await.unwrap().unwrap().bytes, key);
    }
    drop(client);
    let mut seen = 0;
    for serving in serving {
        seen += serving.await.unwrap();
    }
    assert_eq!(seen, 200);
}

#[tokio::test]
async fn several_connections_a_core_share_its_slots() {
    let mut node = FakeNode::start(2).await;
    let client =
        Client::builder().address(&node.address).connections_per_core(3).connect().await.unwrap();
    let mut peers = node.peers(6).await;
    let cores: Vec<_> = peers.iter().map(|peer| peer.core).collect();
    assert_eq!(cores, [0, 0, 0, 1, 1, 1]);
    let entries = Arc::new(Mutex::new(HashMap::new()));
    let serving: Vec<_> =
        peers.drain(..).map(|peer| tokio::spawn(peer.serve(Arc::clone(&entries)))).collect();
    for number in 0..100 {
        client.set(format!("key {number}"), "v").await.unwrap();
    }
    assert_eq!(entries.lock().unwrap().len(), 100);
    client.ping().await.unwrap();
    drop(client);
    for serving in serving {
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn many_keys_are_read_at_once_from_all_cores() {
    let cores = 3;
    let mut node = FakeNode::start(cores).await;
    let client = Client::connect(&node.address).await.unwrap();
    let entries = Arc::new(Mutex::new(HashMap::new()));
    for peer in node.peers(cores).await {
        tokio::spawn(peer.serve(Arc::clone(&entries)));
    }
    // More than one multi-get takes, some missing, some twice, one that cannot be.
    let mut keys: Vec<String> =
        (0..4 * MULTI_GET_KEYS_MAX).map(|number| format!("key {}", number / 2)).collect();
    keys.push("x".repeat(251));
    for key in keys.iter().step_by(6) {
        entries.lock().unwrap().insert(key.clone().into_bytes(), key.clone().into_bytes());
    }
    let results = client.get_many(&keys).await;
    assert_eq!(results.len(), keys.len());
    let (too_long, results) = results.split_last().unwrap();
    assert!(matches!(too_long, Err(Error::KeyTooLong { bytes: 251, limit: 250 })));
    for (key, result) in keys.iter().zip(results) {
        let found = result.as_ref().unwrap().as_ref();
        let expected = entries.lock().unwrap().get(key.as_bytes()).cloned();
        assert_eq!(found.map(|value| value.bytes.to_vec()), expected, "{key}");
    }
    assert!(client.get_many::<&str>(&[]).await.is_empty());
    const { assert!(MULTI_GET_BYTES_MAX >= MULTI_GET_KEYS_MAX * 252) };
}

#[tokio::test]
async fn what_is_over_the_nodes_limits_is_not_sent() {
    let (client, mut peer, _node) = one_core().await;
    let error = client.get("x".repeat(251)).await.unwrap_err();
    assert!(matches!(error, Error::KeyTooLong { bytes: 251, limit: 250 }));
    let limit = VALUE_BYTES_MAX as usize;
    let error = client.set("k", vec![0; limit + 1]).await.unwrap_err();
    assert!(matches!(error, Error::ValueTooLarge { bytes, limit: told }
        if bytes == limit + 1 && told == limit));
    let error = client.append("k", vec![0; limit + 1]).await.unwrap_err();
    assert!(matches!(error, Error::ValueTooLarge { .. }));
    let ttl = Ttl::After { ms: u64::MAX, jitter: Jitter::Exact };
    let error = client.touch("k", ttl).await.unwrap_err();
    assert!(matches!(error, Error::TimeOutOfRange));
    drop(client);
    assert!(peer.is_closed().await);
    assert_eq!(peer.unread(), 0);
}

#[tokio::test]
async fn large_values_pass_both_ways() {
    let (client, peer, _node) = one_core().await;
    let entries = Arc::new(Mutex::new(HashMap::new()));
    let serving = tokio::spawn(peer.serve(Arc::clone(&entries)));
    let large: Vec<u8> = (0..VALUE_BYTES_MAX).map(|number| (number / 7) as u8).collect();
    client.set("large", &large).await.unwrap();
    client.set("small", "s").await.unwrap();
    let (first, small, second) =
        tokio::join!(client.get("large"), client.get("small"), client.get("large"));
    assert!(first.unwrap().unwrap().bytes == large);
    assert_eq!(small.unwrap().unwrap().bytes, "s");
    assert!(second.unwrap().unwrap().bytes == large);
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn busy_says_when_to_try_again() {
    let request = Request::Get { key: b"k", least_version: None };
    let busy = Reply::Busy { retry_after_us: 1_500 };
    let error = exchange(async |client| client.get("k").await, request, busy).await.unwrap_err();
    assert!(matches!(error, Error::Busy { retry_after } if retry_after.as_micros() == 1_500));
    assert_eq!(error.executed(), Executed::No);
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets_work_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.sock");
    let mut node = FakeNode::start_at(&path, Greeting::Welcome { cores: 1 });
    let client = Client::connect(&node.address).await.unwrap();
    let entries = Arc::new(Mutex::new(HashMap::new()));
    tokio::spawn(node.peer().await.serve(entries));
    client.set("k", "v").await.unwrap();
    assert_eq!(client.get("k").await.unwrap().unwrap().bytes, "v");

    let error = Client::connect("unix:/nowhere/missing.sock").await.unwrap_err();
    assert!(matches!(error.reason, ConnectFailure::Io(_)), "{error}");
    assert!(error.to_string().contains("missing.sock"), "{error}");
}

#[tokio::test]
async fn topologies() {
    let ask = async |client: Client| client.topology().await;
    let request = Request::Topology { held_epoch: 0 };
    let none = exchange(ask, request, Reply::Done { version: None }).await;
    assert!(none.unwrap().is_none());

    let node = Node {
        name: NodeName::new("a").unwrap(),
        addresses: vec![Address::new("a.example:7400").unwrap()],
        weight: 100.try_into().unwrap(),
        zone: String::new(),
    };
    let topology = place(Epoch(7), vec![node], 1).unwrap();
    let mut table = Vec::new();
    topology.encode(&mut table);
    let fetched = exchange(ask, request, Reply::Topology { table: &table }).await;
    assert!(fetched.unwrap().unwrap() == topology);

    let nonsense = exchange(ask, request, Reply::Topology { table: b"nonsense" }).await;
    assert!(matches!(nonsense, Err(Error::Topology(_))));
}
