//! How a node ends: drained by a signal, at once by a second one, or killed; and what the next
//! one finds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use corelane_client::{Client, Executed, WhenDown};
use corelane_protocol::Status;
use rustix::process::Signal;

use crate::cores::keys_of;
use crate::process::{Io, Node, WAIT_MAX, block_on, eventually, run, serve};
use crate::wire::{End, Got, What, Wire, frame, frame_without_answer, get, set};

on_both!(
    sigterm_under_load_answers_all_that_was_received,
    connections_not_yet_accepted_at_sigterm_are_served,
    idle_connections_do_not_hold_a_node_up,
    a_client_that_never_stops_is_cut_off_in_time,
    a_second_signal_ends_at_once,
    a_killed_node_is_followed_by_another_on_its_port,
    an_address_in_use_is_named,
    a_client_finds_the_next_node,
    clients_under_load_survive_a_rolling_restart,
);

/// The kernel has made connections that the node has not seen when the signal comes.
fn connections_not_yet_accepted_at_sigterm_are_served(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    node.signal(Signal::STOP);
    let mut wires: Vec<Wire> = (0..100).map(|_| node.connect()).collect();
    for wire in &mut wires {
        wire.send(&frame(1, &set(b"key", b"value")));
    }
    node.signal(Signal::TERM);
    node.signal(Signal::CONT);
    for wire in &mut wires {
        let (got, end) = wire.rest();
        assert_eq!(end, End::Finished);
        assert!(got.iter().any(|got| got.what == What::Done), "{got:?}");
        assert!(got.contains(&Got::notice(Status::GoingAway)), "{got:?}");
    }
    drop(wires);
    assert_eq!(node.ended().code(), Some(0));
}

/// An address that no other test uses, so that its port is still there for the next node.
/// Ports of 127.0.0.1 go to outgoing connections, too.
fn own_address(last: u8, io: Io) -> String {
    format!("127.0.{}.{last}:0", if io == Io::Uring { 1 } else { 2 })
}

/// Requests of one client that wait for their replies at a time.
const WINDOW: usize = 256;
/// Requests sent at a time.
const BURST: u32 = 32;

/// Sends bursts of requests until the node says that it goes away, and takes every reply. All
/// that was sent whole must be answered, once, before the connection ends.
fn load(address: &str, core: u16, answered: &AtomicUsize) -> usize {
    let mut wire = Wire::on_core(address, core);
    let keys = [keys_of(0, 2, 20), keys_of(1, 2, 20)].concat();
    let (mut open, mut sent, mut going_away) = (HashSet::new(), 0_u32, false);
    let mut take = |wire: &mut Wire, open: &mut HashSet<u32>| match wire.try_next() {
        Ok(got) if got == Got::notice(Status::GoingAway) => {
            assert!(!going_away, "said twice");
            going_away = true;
            Ok(true)
        }
        Ok(got) => {
            assert!(open.remove(&got.id), "an answer to nothing: {got:?}");
            assert!(
                matches!(got.what, What::Done | What::Value(_) | What::Failed(Status::NotFound)),
                "{got:?}"
            );
            answered.fetch_add(1, Ordering::Relaxed);
            Ok(going_away)
        }
        Err(end) => Err(end),
    };
    loop {
        let mut requests = Vec::new();
        for _ in 0..BURST {
            let key = keys[sent as usize * 7 % keys.len()].as_bytes();
            match sent % 4 {
                0 => requests.extend(frame(sent, &set(key, b"value"))),
                1 => requests.extend(frame_without_answer(sent, &set(key, b"other"))),
                _ => requests.extend(frame(sent, &get(key))),
            }
            if sent % 4 != 1 {
                open.insert(sent);
            }
            sent += 1;
        }
        wire.send(&requests);
        let mut is_over = false;
        while !is_over && open.len() > WINDOW {
            is_over = take(&mut wire, &mut open).expect("it is not closed before it says so");
        }
        if is_over {
            break;
        }
    }
    let end = loop {
        match take(&mut wire, &mut open) {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(end, End::Finished);
    assert!(open.is_empty(), "{} of {sent} requests were not answered", open.len());
    sent as usize
}

fn sigterm_under_load_answers_all_that_was_received(io: Io) {
    let node = Node::start(io, &["--cores", "2", "--drain-timeout", "60s"]);
    let answered = AtomicUsize::new(0);
    let address = node.address();
    let sent: usize = thread::scope(|scope| {
        let answered = &answered;
        let loads: Vec<_> =
            (0..8).map(|core| scope.spawn(move || load(address, core % 2, answered))).collect();
        eventually("load", || answered.load(Ordering::Relaxed) > 20_000);
        node.signal(Signal::TERM);
        loads.into_iter().map(|load| load.join().expect("all were answered")).sum()
    });
    let ended = node.ended();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("SIGTERM: draining"), "{}", ended.stderr);
    assert!(ended.stderr.contains("drained"), "{}", ended.stderr);
    assert!(answered.into_inner() < sent, "some wanted no answer");
}

fn idle_connections_do_not_hold_a_node_up(io: Io) {
    let node = Node::start(io, &["--cores", "2", "--drain-timeout", "1h"]);
    let mut wires: Vec<Wire> = (0..20).map(|_| node.connect()).collect();
    for wire in wires.iter_mut().take(10) {
        wire.assert_served();
    }
    node.until_counter("connections_open", |open| open == 20);
    node.signal(Signal::INT);
    for wire in &mut wires {
        wire.assert_ends_with(&[Got::notice(Status::GoingAway)]);
    }
    // The clients' sides are still open, which must not hold it up for long either.
    drop(wires);
    assert_eq!(node.ended().code(), Some(0));
}

fn a_client_that_never_stops_is_cut_off_in_time(io: Io) {
    let node = Node::start(io, &["--drain-timeout", "500ms"]);
    // One has half a frame under way, one does not read, one goes on sending.
    let mut half = node.connect();
    half.send(&frame(1, &set(b"key", &vec![b'v'; 1 << 19]))[..1_000]);
    let mut deaf = node.connect();
    assert_eq!(deaf.ask(&set(b"large", &vec![b'v'; 1 << 20])), What::Done);
    let requests: Vec<u8> = (0..100).flat_map(|id| frame(id, &get(b"large"))).collect();
    deaf.send(&requests);
    let mut busy = node.connect();
    busy.assert_served();
    node.until_counter("connections_paused", |paused| paused == 1);
    node.signal(Signal::TERM);
    let ping = frame(1, &get(b"served"));
    let mut replies = 0;
    while busy.try_send(&ping).is_ok()
        && let Ok(got) = busy.try_next()
    {
        assert!(got == Got::notice(Status::GoingAway) || got.what == What::Value(b"yes".to_vec()));
        replies += 1;
    }
    assert!(replies > 0);
    assert_eq!(node.ended().code(), Some(0));
    let (replies, _) = half.rest();
    assert_eq!(replies, [Got::notice(Status::GoingAway)]);
}

fn a_second_signal_ends_at_once(io: Io) {
    let node = Node::start(io, &["--cores", "2", "--drain-timeout", "1h"]);
    let mut wire = node.connect();
    // Half a frame is waited for.
    wire.send(&frame(1, &set(b"key", b"value"))[..20]);
    node.until_counter("bytes_received", |bytes| bytes > 0);
    node.signal(Signal::TERM);
    assert_eq!(wire.next(), Got::notice(Status::GoingAway));
    node.signal(Signal::TERM);
    let ended = node.ended();
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("ending at once"), "{}", ended.stderr);
    assert!(wire.try_next().is_err());
}

fn a_killed_node_is_followed_by_another_on_its_port(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("corelane.sock").display());
    let (own, admin) = (own_address(1, io), own_address(2, io));
    let arguments = ["--listen", &own, "--listen", &unix, "--admin", &admin, "--cores", "2"];
    let node = Node::start(io, &arguments);
    let listen = node.addresses.join(",");
    let admin = node.admin.clone();
    let mut wires = Vec::new();
    for address in node.addresses.iter().cycle().take(20) {
        let mut wire = Wire::connect(address);
        wire.assert_served();
        wires.push(wire);
    }
    node.signal(Signal::KILL);
    assert_eq!(node.ended().signal(), Some(9));
    for wire in &mut wires {
        assert!(wire.try_next().is_err());
    }
    // The clients' ends of the old connections are still there.
    let node = Node::start(io, &["--listen", &listen, "--admin", &admin, "--cores", "2"]);
    assert_eq!(node.addresses.join(","), listen);
    for address in &node.addresses {
        let mut wire = Wire::connect(address);
        assert_eq!(wire.ask(&get(b"served")), What::Failed(Status::NotFound), "it starts empty");
        wire.assert_served();
        assert_eq!(wire.ask(&corelane_protocol::Request::Flush { delay_ms: 0 }), What::Done);
    }
}

fn an_address_in_use_is_named(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("corelane.sock").display());
    let node = Node::start(io, &["--listen", "127.0.0.1:0", "--listen", &unix]);
    for taken in &node.addresses {
        let ended = run(serve(io, &["--listen", taken, "--admin", "none"]));
        assert_eq!(ended.code(), Some(1));
        assert!(ended.stderr.contains(&format!("cannot listen on {taken}: ")), "{ended:?}");
        assert!(ended.stderr.contains("another process listens there"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    let ended = run(serve(io, &["--admin", &node.admin]));
    assert_eq!(ended.code(), Some(1));
    let message = format!("cannot serve the admin port on {}: ", node.admin);
    assert!(ended.stderr.contains(&message), "{ended:?}");
    for address in &node.addresses {
        Wire::connect(address).assert_served();
    }
}

fn a_client_finds_the_next_node(io: Io) {
    let node = Node::start(io, &["--listen", &own_address(3, io), "--cores", "2"]);
    let address = node.address().to_owned();
    block_on(async {
        let client = Client::builder()
            .address(&address)
            .timeout(WAIT_MAX)
            .when_down(WhenDown::Wait)
            .connect()
            .await
            .unwrap();
        client.set("key", "value").await.unwrap();
        node.signal(Signal::KILL);
        node.ended();
        let next = Node::start(io, &["--listen", &address, "--cores", "2"]);
        // Requests that were lost with the old connections may fail, the later ones not.
        while client.get("key").await.is_err() {}
        assert_eq!(client.get("key").await.unwrap(), None, "it starts empty");
        client.set("key", "again").await.unwrap();

        next.signal(Signal::TERM);
        assert_eq!(next.ended().code(), Some(0));
        // Other cores make no difference to a client that asks the node.
        let next = Node::start(io, &["--listen", &address, "--cores", "3", "--memory", "96MiB"]);
        while client.get("key").await.is_err() {}
        for key in (0..3).flat_map(|core| keys_of(core, 3, 5)) {
            client.set(&key, &key).await.unwrap();
            assert_eq!(client.get(&key).await.unwrap().unwrap().bytes, key);
        }
        assert_eq!(client.cores(), 3);
        drop(next);
    });
}

/// One node drains while clients are at work, and another takes its place. No request hangs,
/// none gets another's value, and what a node drained was answered, so none may be in doubt.
fn clients_under_load_survive_a_rolling_restart(io: Io) {
    let mut node = Node::start(io, &["--listen", &own_address(4, io), "--cores", "2"]);
    let address = node.address().to_owned();
    let (done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|client| {
            let (address, is_over) = (address.clone(), Arc::clone(&is_over));
            let (done, failed) = (Arc::clone(&done), Arc::clone(&failed));
            thread::spawn(move || {
                block_on(async {
                    let connected = Client::builder()
                        .address(&address)
                        .timeout(WAIT_MAX)
                        .when_down(WhenDown::Wait)
                        .connect()
                        .await
                        .unwrap();
                    let mut tasks = tokio::task::JoinSet::new();
                    for task in 0..20 {
                        let work = work(
                            connected.clone(),
                            format!("key {client} {task}"),
                            Arc::clone(&is_over),
                            (Arc::clone(&done), Arc::clone(&failed)),
                        );
                        tasks.spawn(work);
                    }
                    while let Some(ended) = tasks.join_next().await {
                        ended.unwrap();
                    }
                });
            })
        })
        .collect();
    for _ in 0..4 {
        let before = done.load(Ordering::Relaxed);
        eventually("load", || done.load(Ordering::Relaxed) > before + 500);
        node.signal(Signal::TERM);
        assert_eq!(node.ended().code(), Some(0));
        node = Node::start(io, &["--listen", &address, "--cores", "2"]);
    }
    let before = done.load(Ordering::Relaxed);
    eventually("load", || done.load(Ordering::Relaxed) > before + 500);
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no task failed");
    }
    eprintln!(
        "{} requests served and {} failed over four restarts on {}",
        done.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
        io.name(),
    );
}

/// Sets and gets one key, of which nobody else knows, until it is over.
async fn work(
    client: Client,
    key: String,
    is_over: Arc<AtomicBool>,
    (done, failed): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    for round in 0_u64.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let value = format!("{key} {round}");
        let outcome = match client.set(&key, &value).await {
            Ok(()) => client.get(&key).await.map(|got| {
                // A new node starts empty.
                assert!(got.is_none_or(|got| got.bytes == value), "another value of {key}");
            }),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                assert_eq!(error.executed(), Executed::No, "{error}");
                failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

#[test]
fn signals_are_handled_before_a_node_is_ready() {
    for signal in [Signal::TERM, Signal::INT] {
        let node = Node::start(Io::Epoll, &[]);
        assert!(node.catches(signal));
        node.signal(signal);
        let ended = node.ended();
        assert_eq!(ended.code(), Some(0), "{ended:?}");
    }
}

/// Connections that come while a node drains are refused by the system, since it listens no
/// more, whatever was waiting to be accepted.
#[test]
fn a_draining_node_takes_no_new_connections() {
    let node = Node::start(Io::Epoll, &["--cores", "2", "--drain-timeout", "1h"]);
    let mut wire = node.connect();
    wire.send(&frame(1, &set(b"key", b"value"))[..20]);
    node.until_counter("bytes_received", |bytes| bytes > 0);
    node.signal(Signal::TERM);
    assert_eq!(wire.next(), Got::notice(Status::GoingAway));
    eventually("refused", || Wire::try_connect(node.address()).is_err());
    drop(wire);
    assert_eq!(node.ended().code(), Some(0));
}
