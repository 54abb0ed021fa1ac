//! Nodes that refuse, vanish, go away, come back different, or speak nonsense.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane_client::*;
use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::{Reply, RequestId};
use corelane_ring::{Core, CoreMap, slot_of};
use tokio::io::AsyncWriteExt;

use crate::fake_node::{FakeNode, Greeting, Peer, TOKEN, failed, value};

/// A client that waits for a node that is down, and the node's end of its connection.
async fn one_core() -> (Client, Peer, FakeNode) {
    let mut node = FakeNode::start(1).await;
    let client = patient(&node).connect().await.unwrap();
    let peer = node.peer().await;
    (client, peer, node)
}

/// With time enough for a slow machine, so that only what a test is about fails.
fn patient(node: &FakeNode) -> ClientBuilder {
    Client::builder()
        .address(&node.address)
        .timeout(Duration::from_secs(60))
        .connect_timeout(Duration::from_secs(60))
        .when_down(WhenDown::Wait)
}

/// Answers the next request with its key.
async fn answer(peer: &mut Peer) {
    let frame = peer.request().await.expect("the client is still there");
    peer.reply(frame.id(), &value(&frame.key())).await;
}

async fn refusal(greeting: Greeting) -> ConnectFailure {
    let node = FakeNode::start_with(greeting).await;
    patient(&node).connect().await.unwrap_err().reason
}

#[tokio::test]
async fn hellos_are_refused_with_the_nodes_reason() {
    let full = refusal(Greeting::Refuse(Status::TooManyConnections)).await;
    assert!(matches!(full, ConnectFailure::Refused { status: Status::TooManyConnections, message }
        if &*message == "not today"));
    let unauthorized = refusal(Greeting::Refuse(Status::Unauthorized)).await;
    assert!(matches!(unauthorized, ConnectFailure::Unauthorized));
    let version = refusal(Greeting::Version(2)).await;
    assert!(matches!(version, ConnectFailure::Version(2)));
    let web = refusal(Greeting::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    assert!(matches!(web, ConnectFailure::Protocol(ProtocolError::Garbled(_))));
    let closed = refusal(Greeting::Bytes(b"")).await;
    assert!(matches!(closed, ConnectFailure::Closed));
}

#[tokio::test]
async fn a_node_that_says_nothing_is_not_waited_for_for_ever() {
    let node = FakeNode::start_with(Greeting::Silence).await;
    let limit = Duration::from_millis(20);
    let error = patient(&node).connect_timeout(limit).connect().await.unwrap_err();
    assert!(matches!(error.reason, ConnectFailure::Timeout(told) if told == limit));
    assert_eq!(&*error.address, node.address);
}

#[tokio::test]
async fn the_token_opens_the_door() {
    let mut node = FakeNode::start_with(Greeting::Refuse(Status::Unauthorized)).await;
    let client = patient(&node).token(TOKEN).connect().await.unwrap();
    let mut peer = node.peer().await;
    let (found, ()) = tokio::join!(client.get("key"), answer(&mut peer));
    assert_eq!(found.unwrap().unwrap().bytes, "key");

    let error = patient(&node).token([0; 1_025]).connect().await.unwrap_err();
    assert!(matches!(error.reason, ConnectFailure::TokenTooLong));
    assert!(!format!("{:?}", patient(&node).token(TOKEN)).contains("sesame"));
}

#[tokio::test]
async fn replies_in_any_order_reach_who_asked() {
    let (client, mut peer, _node) = one_core().await;
    let answering = async {
        let mut frames = peer.requests(3).await;
        frames.reverse();
        for frame in frames {
            peer.reply(frame.id(), &value(&frame.key())).await;
        }
    };
    let (a, b, c, ()) = tokio::join!(client.get("a"), client.get("b"), client.get("c"), answering);
    for (found, key) in [(a, "a"), (b, "b"), (c, "c")] {
        assert_eq!(found.unwrap().unwrap().bytes, key);
    }
}

#[tokio::test]
async fn a_request_that_times_out_says_what_is_known() {
    let (client, mut peer, _node) = one_core().await;
    // Long enough to be sent even from a machine that is busy with something else.
    let hasty = client.with_timeout(Duration::from_millis(250));
    let error = hasty.set("k", "v").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { executed: Executed::Maybe }), "{error}");
    let error = client.with_timeout(Duration::ZERO).get("k").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { executed: Executed::No }), "{error}");
    // The connection is as good as before.
    let late = peer.request().await.unwrap();
    let answering = async {
        let frame = peer.request().await.unwrap();
        peer.reply(late.id(), &Reply::Done { version: None }).await;
        peer.reply(frame.id(), &value(b"mine")).await;
    };
    let (found, ()) = tokio::join!(client.get("k"), answering);
    assert_eq!(found.unwrap().unwrap().bytes, "mine");
}

#[tokio::test]
async fn a_broken_connection_fails_what_is_in_flight_and_is_made_again() {
    let (client, mut peer, mut node) = one_core().await;
    let breaking = async {
        peer.requests(2).await;
        drop(peer);
    };
    let (read, written, ()) = tokio::join!(client.get("a"), client.set("b", "v"), breaking);
    for error in [read.unwrap_err(), written.unwrap_err()] {
        let Error::Disconnected { executed: Executed::Maybe, .. } = error else {
            panic!("unexpected {error:?}")
        };
    }
    let answering = async { answer(&mut node.peer().await).await };
    let (found, ()) = tokio::join!(client.get("c"), answering);
    assert_eq!(found.unwrap().unwrap().bytes, "c");
}

#[tokio::test]
async fn a_node_that_is_down_fails_requests_at_once_with_the_reason() {
    let mut node = FakeNode::start(1).await;
    let client = patient(&node).when_down(WhenDown::FailFast).connect().await.unwrap();
    let peer = node.peer().await;
    let address = node.address.clone();
    drop(node);
    drop(peer);
    // The first may still find the old connection.
    let _ = client.get("k").await;
    let error = client.get("k").await.unwrap_err();
    let Error::Unreachable(ConnectError { address: told, .. }) = &error else {
        panic!("unexpected {error:?}")
    };
    assert_eq!(**told, address);
    assert_eq!(error.executed(), Executed::No);
}

#[tokio::test]
async fn after_going_away_requests_take_a_new_connection() {
    let (client, mut peer, mut node) = one_core().await;
    let asking = async {
        let told = async {
            client.get("told").await.unwrap();
            // The notice came before this reply, so it is known now.
            client.get("after").await
        };
        tokio::join!(client.get("before"), told)
    };
    let going = async {
        let frames = peer.requests(2).await;
        peer.reply(RequestId(NOTICE_ID), &failed(Status::GoingAway)).await;
        peer.reply(frames[1].id(), &value(b"told")).await;
        let mut second = node.peer().await;
        answer(&mut second).await;
        // The first request is still answered, and then the client closes.
        peer.reply(frames[0].id(), &value(b"before")).await;
        assert!(peer.is_closed().await);
        second
    };
    let ((before, after), _open) = tokio::join!(asking, going);
    assert_eq!(before.unwrap().unwrap().bytes, "before");
    assert_eq!(after.unwrap().unwrap().bytes, "after");
}

#[tokio::test]
async fn a_read_refused_for_going_away_is_sent_once_more_and_a_write_is_not() {
    let (client, mut peer, mut node) = one_core().await;
    let refusing = async {
        let frames = peer.requests(2).await;
        for frame in &frames {
            peer.reply(frame.id(), &failed(Status::GoingAway)).await;
        }
        answer(&mut node.peer().await).await;
    };
    let (read, written, ()) = tokio::join!(client.get("a"), client.delete("b"), refusing);
    assert_eq!(read.unwrap().unwrap().bytes, "a");
    let error = written.unwrap_err();
    let Error::Disconnected { reason: Disconnect::GoingAway, executed: Executed::No } = error
    else {
        panic!("unexpected {error:?}")
    };
}

#[derive(Clone, Copy, Debug)]
enum Nonsense {
    Garbage,
    UnknownId,
    AnsweredTwice,
    WrongKind,
    Part,
    Notice,
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_the_client_goes_on() {
    let (client, mut peer, mut node) = one_core().await;
    for nonsense in [
        Nonsense::Garbage,
        Nonsense::UnknownId,
        Nonsense::AnsweredTwice,
        Nonsense::WrongKind,
        Nonsense::Part,
        Nonsense::Notice,
    ] {
        let speaking = async {
            let frames = peer.requests(2).await;
            let (first, second) = (frames[0].id(), frames[1].id());
            match nonsense {
                Nonsense::Garbage => peer.write(&[0xAA; 100]).await,
                Nonsense::UnknownId => peer.reply(RequestId(77), &value(b"")).await,
                Nonsense::AnsweredTwice => {
                    peer.reply(first, &value(b"first")).await;
                    peer.reply(first, &value(b"first")).await;
                }
                Nonsense::WrongKind => {
                    peer.reply(second, &Reply::Done { version: None }).await;
                }
                Nonsense::Part => peer.reply_part(second, 0, &value(b"")).await,
                Nonsense::Notice => peer.reply(RequestId(NOTICE_ID), &Reply::End).await,
            }
            assert!(peer.is_closed().await, "{nonsense:?}");
        };
        let (first, second, ()) = tokio::join!(client.get("a"), client.get("b"), speaking);
        if !matches!(nonsense, Nonsense::AnsweredTwice) {
            first.unwrap_err();
        }
        let Err(Error::Disconnected { reason: Disconnect::Protocol(error), .. }) = second else {
            panic!("{nonsense:?} came to {second:?}")
        };
        assert!(!error.to_string().is_empty());
        // Made again for the next round.
        let answering = async {
            peer = node.peer().await;
            answer(&mut peer).await;
        };
        let (found, ()) = tokio::join!(client.get("c"), answering);
        assert_eq!(found.unwrap().unwrap().bytes, "c");
    }
}

#[tokio::test]
async fn keys_of_many_fail_one_by_one() {
    let cores = 2;
    let mut node = FakeNode::start(cores).await;
    let client = patient(&node).connect().await.unwrap();
    let mut peers = node.peers(cores).await;
    let keys: Vec<_> = (0..40).map(|number| format!("key {number}")).collect();
    let (mut broken, mut healthy) = (peers.remove(0), peers.remove(0));
    let answering = async {
        let frame = broken.request().await.unwrap();
        // One value comes, and then nothing ever.
        broken.reply_part(frame.id(), 1, &value(b"came")).await;
        let _ = broken.stream.shutdown().await;

        let frame = healthy.request().await.unwrap();
        let corelane_protocol::Request::MultiGet(keys) = frame.get().request else {
            panic!("unexpected {frame:?}")
        };
        for (part, key) in keys.iter().enumerate() {
            let busy = Reply::Busy { retry_after_us: 10 };
            let reply = if part == 0 { busy } else { value(key) };
            healthy.reply_part(frame.id(), part as u16, &reply).await;
        }
        healthy.reply(frame.id(), &Reply::End).await;
    };
    let (results, ()) = tokio::join!(client.get_many(&keys), answering);
    let map = CoreMap::even(cores).unwrap();
    let mut seen = [0, 0];
    for (key, result) in keys.iter().zip(results) {
        let core = map.core_of(slot_of(key.as_bytes()));
        let part = seen[core.index()];
        seen[core.index()] += 1;
        match (core, part, result) {
            (Core(0), 1, Ok(Some(value))) => assert_eq!(value.bytes, "came"),
            (Core(0), _, Err(Error::Disconnected { executed: Executed::Maybe, .. })) => {}
            (Core(1), 0, Err(Error::Busy { .. })) => {}
            (Core(1), 1.., Ok(Some(value))) => assert_eq!(value.bytes, *key),
            (core, part, result) => panic!("{core:?}, part {part}: {result:?}"),
        }
    }
    assert!(seen[0] > 2 && seen[1] > 2);
}

/// Stores from a node with one number of cores to the same with another, and checks that
/// the keys go where they belong once the client has learned of it.
async fn comes_back(before: u16, after: u16) {
    let mut node = FakeNode::start(before).await;
    let client = patient(&node).connect().await.unwrap();
    let peers = node.peers(before).await;
    node.greet_with(Greeting::Welcome { cores: after });
    drop(peers);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let serving = tokio::spawn(async move {
        loop {
            let (mut peer, log) = (node.peer().await, Arc::clone(&log));
            tokio::spawn(async move {
                while let Some(frame) = peer.request().await {
                    log.lock().unwrap().push((peer.core, frame.key()));
                    peer.reply(frame.id(), &Reply::Done { version: None }).await;
                }
            });
        }
    });
    let keys: Vec<_> = (0..64).map(|number| format!("key {number}")).collect();
    // Each lane notices by itself that its connection is gone.
    while client.cores() != after {
        for key in &keys {
            let _ = client.set(key, "v").await;
        }
    }
    for key in &keys {
        let _ = client.set(key, "v").await;
    }

    seen.lock().unwrap().clear();
    for key in &keys {
        client.set(key, "v").await.unwrap();
    }
    let map = CoreMap::even(after).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), keys.len());
    for (core, key) in &*seen {
        assert_eq!(map.core_of(slot_of(key)), Core(*core));
    }
    serving.abort();
}

#[tokio::test]
async fn a_node_may_come_back_with_other_cores() {
    comes_back(4, 2).await;
    comes_back(2, 5).await;
}

#[tokio::test]
async fn a_client_that_is_dropped_closes_its_connections() {
    let cores = 3;
    let mut node = FakeNode::start(cores).await;
    let client = patient(&node).connect().await.unwrap();
    let other = client.with_timeout(Duration::from_secs(1));
    let mut peers = node.peers(cores).await;
    drop(client);
    let (answered, ()) = tokio::join!(other.get("key"), async {
        let slot = slot_of(b"key");
        let core = CoreMap::even(cores).unwrap().core_of(slot);
        answer(&mut peers[core.index()]).await;
    });
    assert!(answered.is_ok());
    drop(other);
    for mut peer in peers {
        assert!(peer.is_closed().await);
    }
}

#[test]
fn a_client_whose_runtime_has_ended_hangs_nobody() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let nodes_runtime = runtime();
    let node = nodes_runtime.block_on(FakeNode::start(1));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| nodes_runtime.block_on(stopped));
        let first = runtime();
        let builder = patient(&node).when_down(WhenDown::FailFast);
        let client = first.block_on(builder.connect()).unwrap();
        // The tasks of its connections end with the runtime.
        drop(first);
        let second = runtime();
        for _ in 0..3 {
            let error = second.block_on(client.get("key")).unwrap_err();
            assert_eq!(error.executed(), Executed::No);
        }
        stop.send(()).unwrap();
    });
}
