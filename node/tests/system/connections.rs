//! Many connections, too many, and those whose clients do not behave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corelane_client::ConnectFailure;
use corelane_protocol::{Hello, Status};
use rustix::process::{Resource, Signal};

use crate::cores::keys_of;
use crate::process::{Io, Node, WAIT_MAX, block_on, eventually, serve};
use crate::wire::{End, Got, What, Wire, frame, get, hello, hello_frame, set};

on_both!(
    a_thousand_connections_are_all_served,
    clients_without_a_wish_are_spread_over_the_cores,
    more_connections_than_may_be_are_refused,
    a_client_learns_why_it_is_refused,
    one_that_is_refused_in_the_middle_of_a_request_learns_it_too,
    established_connections_are_served_during_a_flood,
    a_node_without_descriptors_waits_for_some,
    half_closed_clients_get_their_replies,
    vanished_clients_leave_nothing_behind,
    clients_that_do_not_read_cost_a_bounded_amount,
    clients_that_never_read_are_closed_in_time,
    half_a_frame_does_not_stay_for_ever,
);

/// Lets this process have as many descriptors as it may; how many these are.
pub(crate) fn raise_open_files() -> u64 {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).expect("up to the hard limit");
    limit.maximum.unwrap_or(u64::MAX)
}

fn a_thousand_connections_are_all_served(io: Io) {
    const COUNT: u32 = 1_000;
    raise_open_files();
    let node = Node::start(io, &["--cores", "2"]);
    node.assert_serves();
    let before = node.resident_bytes();
    let mut wires: Vec<Wire> = (0..COUNT).map(|_| node.connect()).collect();
    for (index, wire) in wires.iter_mut().enumerate() {
        wire.send(&hello_frame(&Hello { core: Some(index as u16 % 2), ..hello() }));
    }
    for wire in &mut wires {
        assert!(matches!(wire.next().what, What::Welcome { .. }));
    }
    node.until_counter("connections_open", |open| open == u64::from(COUNT));
    let idle = node.resident_bytes();
    eprintln!(
        "{COUNT} idle connections on {}: {} KiB resident, {} KiB before; {} B each",
        io.name(),
        idle / 1024,
        before / 1024,
        idle.saturating_sub(before) / u64::from(COUNT),
    );
    // What is sent to all of them is under way at once.
    for (index, wire) in wires.iter_mut().enumerate() {
        let key = format!("key {index}");
        let mut requests = frame(1, &set(key.as_bytes(), key.as_bytes()));
        requests.extend(frame(2, &get(key.as_bytes())));
        wire.send(&requests);
    }
    for (index, wire) in wires.iter_mut().enumerate() {
        let value = What::Value(format!("key {index}").into_bytes());
        let mut replies = [wire.next(), wire.next()];
        replies.sort_by_key(|got| got.id);
        assert_eq!(replies.map(|got| got.what), [What::Done, value]);
    }
    drop(wires);
    node.until_counter("connections_open", |open| open == 0);
    node.assert_serves();
}

fn clients_without_a_wish_are_spread_over_the_cores(io: Io) {
    let node = Node::start(io, &["--cores", "2"]);
    let mut wires: Vec<Wire> = (0..100).map(|_| node.connect()).collect();
    wires.iter_mut().for_each(Wire::assert_served);
    node.until_counter("connections_open", |open| open == 100);
    // The kernel deals them by a hash of both addresses.
    assert!(node.counter("connections_open").iter().all(|open| *open >= 10));
    assert_eq!(node.counter("connections_steered"), [0, 0]);
    let _steered: Vec<Wire> = (0..10).map(|core| Wire::on_core(node.address(), core % 2)).collect();
    node.until_counter("connections_steered", |steered| steered == 10);
}

/// A connection that is served, if the node takes it.
fn served(node: &Node) -> Option<Wire> {
    let mut wire = node.connect();
    wire.try_send(&frame(1, &set(b"key", b"value"))).ok()?;
    wire.try_next().is_ok_and(|got| got.what == What::Done).then_some(wire)
}

fn more_connections_than_may_be_are_refused(io: Io) {
    const MOST: usize = 8;
    let node = Node::start(io, &["--connections-max", "8", "--cores", "2"]);
    let mut wires: Vec<Wire> = (0..MOST).map(|_| node.connect()).collect();
    for wire in &mut wires {
        wire.assert_served();
    }
    for _ in 0..30 {
        node.connect().assert_ends_with(&[Got::notice(Status::TooManyConnections)]);
    }
    for wire in &mut wires {
        wire.assert_served();
    }
    node.until_counter("connections_refused", |refused| refused == 30);
    // Each that ends, however it does, makes room for one.
    for round in 0..2 * MOST {
        let wire = wires.remove(0);
        if round % 2 == 0 {
            drop(wire)
        } else {
            wire.vanish()
        }
        let mut new = None;
        eventually("room", || {
            new = served(&node);
            new.is_some()
        });
        wires.extend(new);
    }
    node.connect().assert_ends_with(&[Got::notice(Status::TooManyConnections)]);
    for wire in &mut wires {
        wire.assert_served();
    }
}

fn a_client_learns_why_it_is_refused(io: Io) {
    let node = Node::start(io, &["--connections-max", "1"]);
    let mut wire = node.connect();
    wire.assert_served();
    block_on(async {
        for _ in 0..20 {
            let refused = corelane_client::Client::connect(node.address()).await;
            let reason = refused.expect_err("there is no room").reason;
            assert!(
                matches!(
                    reason,
                    ConnectFailure::Refused { status: Status::TooManyConnections, .. }
                ),
                "{reason}"
            );
        }
    });
    wire.assert_served();
}

/// Closing a socket whose input was not read resets the connection, and what was sent to the
/// client before is lost.
fn one_that_is_refused_in_the_middle_of_a_request_learns_it_too(io: Io) {
    let node = Node::start(io, &["--connections-max", "1"]);
    let mut wire = node.connect();
    wire.assert_served();
    for _ in 0..10 {
        // More than one piece, and there before the node looks at the connection.
        node.signal(Signal::STOP);
        let mut refused = node.connect();
        refused.send(&frame(1, &set(b"key", &vec![b'v'; 100_000])));
        node.signal(Signal::CONT);
        let (got, end) = refused.rest();
        assert_eq!((got, end), (vec![Got::notice(Status::TooManyConnections)], End::Finished));
    }
    node.until_counter("connections_refused", |refused| refused == 10);
    wire.assert_served();
}

fn established_connections_are_served_during_a_flood(io: Io) {
    const FLOODERS: usize = 4;
    let node = Node::start(io, &["--connections-max", "200"]);
    let address = node.address();
    let mut wire = node.connect();
    wire.assert_served();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // Some stay a while, most are gone before they are seen.
                    let flood: Vec<_> = (0..50).map(|_| Wire::try_connect(address)).collect();
                    flood.into_iter().flatten().for_each(Wire::vanish);
                }
            });
        }
        for _ in 0..1_000 {
            wire.assert_served();
        }
        over.store(true, Ordering::Relaxed);
    });
    node.until_counter("connections_open", |open| open == 1);
    node.until_counter("connections_opened", |opened| opened > 200);
    wire.assert_served();
}

fn a_node_without_descriptors_waits_for_some(io: Io) {
    // The node makes sure of its limit at start, so the shell leaves it with descriptors
    // that it knows nothing of. It reserves 151 besides its connections, and uses some 20.
    let script = "for fd in {10..159}; do eval \"exec $fd</dev/null\"; done; \
                  ulimit -n 191; exec \"$@\"";
    let direct = serve(io, &["--connections-max", "40"]);
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, "bash"]).arg(direct.get_program()).args(direct.get_args());
    for (variable, value) in direct.get_envs() {
        assert!(value.is_none(), "variables are only taken away");
        command.env_remove(variable);
    }
    let node = Node::started_by(command);

    let mut wires = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let mut wire = node.connect();
        wire.send(&frame(1, &set(b"key", b"value")));
        waiting.push(wire);
    }
    eventually("accepting pauses", || node.log().contains("accepting connections pauses"));
    // The kernel takes connections in the order of their coming.
    while wires.len() < 5 {
        let mut wire = waiting.remove(0);
        assert_eq!(wire.next().what, What::Done);
        wires.push(wire);
    }
    for wire in &mut wires {
        wire.assert_served();
    }
    // With every connection that ends another one is served, to the last.
    while !waiting.is_empty() {
        wires.remove(0);
        let mut wire = waiting.remove(0);
        assert_eq!(wire.next().what, What::Done);
        wires.push(wire);
    }
    for wire in &mut wires {
        wire.assert_served();
    }
    drop(wires);
    node.until_counter("accept_pauses", |pauses| pauses >= 1);
    assert!(node.log().contains("accepting connections goes on"));
}

fn half_closed_clients_get_their_replies(io: Io) {
    let node = Node::start(io, &["--cores", "2", "--memory", "128MiB"]);
    let mut other = node.connect();
    let value = vec![b'v'; 300_000];
    let keys = [keys_of(0, 2, 1), keys_of(1, 2, 1)].concat();
    for key in &keys {
        assert_eq!(other.ask(&set(key.as_bytes(), &value)), What::Done);
    }
    for core in 0..2 {
        // 60 MB of replies, far more than the node keeps for one connection.
        let mut requests = Vec::new();
        for id in 0..200 {
            requests.extend(frame(id, &get(keys[id as usize % 2].as_bytes())));
        }
        let mut wire = Wire::on_core(node.address(), core);
        wire.send(&requests);
        wire.finish();
        let mut ids = Vec::new();
        loop {
            match wire.try_next() {
                Ok(got) => {
                    assert!(got.what == What::Value(value.clone()), "another value");
                    ids.push(got.id);
                }
                Err(end) => {
                    assert_eq!(end, End::Finished);
                    break;
                }
            }
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..200).collect::<Vec<u32>>());
        other.assert_served();
    }
    // One that sends nothing at all.
    let mut wire = node.connect();
    wire.finish();
    wire.assert_ends_with(&[]);
}

fn vanished_clients_leave_nothing_behind(io: Io) {
    let limit = ["--cores", "2", "--memory", "128MiB", "--connections-max", "100"];
    let node = Node::start(io, &limit);
    let mut other = node.connect();
    let value = vec![b'v'; 200_000];
    let keys = [keys_of(0, 2, 1), keys_of(1, 2, 1)].concat();
    for key in &keys {
        assert_eq!(other.ask(&set(key.as_bytes(), &value)), What::Done);
    }
    node.until_counter("connections_open", |open| open == 1);
    let files = node.open_files();
    for round in 0..10 {
        let mut wires: Vec<Wire> = (0..30).map(|_| node.connect()).collect();
        for (index, wire) in wires.iter_mut().enumerate() {
            let mut requests = hello_frame(&Hello { core: Some(index as u16 % 2), ..hello() });
            for id in 0..40 {
                requests.extend(frame(id, &get(keys[id as usize % 2].as_bytes())));
            }
            requests.extend(&frame(40, &set(b"half", &value))[..1_000]);
            wire.send(&requests);
        }
        // Some wait for the first reply, so that they vanish in the middle of the others.
        for (index, mut wire) in wires.into_iter().enumerate() {
            if index % 3 == 0 {
                wire.next();
            }
            if index % 2 == 0 { wire.vanish() } else { drop(wire) }
        }
        if round % 3 == 0 {
            other.assert_served();
        }
    }
    node.until_counter("connections_open", |open| open == 1);
    node.until_counter("output_bytes_pending", |bytes| bytes == 0);
    // The descriptor of a look at the metrics may be among them for a moment.
    eventually("all descriptors are back", || node.open_files() <= files);
    other.assert_served();
    for key in &keys {
        assert_eq!(other.ask(&get(key.as_bytes())), What::Value(value.clone()));
    }
}

/// Requests for large values, as many of these as the node takes while nothing is read.
pub(crate) fn flood(node: &Node, core: u16, keys: &[String], count: u32) -> Wire {
    let mut wire = Wire::on_core(node.address(), core);
    let mut requests = Vec::new();
    for id in 0..count {
        requests.extend(frame(id, &get(keys[id as usize % keys.len()].as_bytes())));
    }
    wire.send_while_taken(&requests, Duration::from_millis(20));
    wire
}

fn clients_that_do_not_read_cost_a_bounded_amount(io: Io) {
    let arguments = ["--cores", "2", "--memory", "256MiB", "--idle-timeout", "1h"];
    let node = Node::start(io, &arguments);
    let mut other = node.connect();
    let value = vec![b'v'; 1 << 20];
    let keys = [keys_of(0, 2, 4), keys_of(1, 2, 4)].concat();
    for key in &keys {
        assert_eq!(other.ask(&set(key.as_bytes(), &value)), What::Done);
    }
    let before = node.resident_bytes();
    let mut wires = Vec::new();
    let mut most = 0;
    for index in 0..40 {
        wires.push(flood(&node, index % 2, &keys, 1_000));
        other.assert_served();
        most = most.max(node.resident_bytes());
    }
    node.until_counter("connections_paused", |paused| paused == 40);
    eprintln!(
        "40 clients on {} that do not read: {} MiB resident at most, {} MiB before",
        io.name(),
        most >> 20,
        before >> 20,
    );
    assert!(most <= 256 << 20, "{most} bytes resident, more than --memory");
    // Whoever reads at last gets everything in order.
    let mut wire = wires.pop().expect("one of them");
    for _ in 0..20 {
        assert!(wire.next().what == What::Value(value.clone()), "another value");
    }
    drop(wires);
    drop(wire);
    node.until_counter("connections_open", |open| open == 1);
    other.assert_served();
}

fn clients_that_never_read_are_closed_in_time(io: Io) {
    let node = Node::start(io, &["--memory", "128MiB", "--idle-timeout", "300ms"]);
    let mut other = node.connect();
    assert_eq!(other.ask(&set(b"key", &vec![b'v'; 1 << 20])), What::Done);
    let wires: Vec<Wire> = (0..5).map(|_| flood(&node, 0, &["key".to_owned()], 1_000)).collect();
    node.until_counter("idle_closed", |closed| closed == 5);
    node.until_counter("connections_open", |open| open == 1);
    drop(wires);
    other.assert_served();
}

fn half_a_frame_does_not_stay_for_ever(io: Io) {
    let node = Node::start(io, &["--idle-timeout", "300ms"]);
    let mut silent = node.connect();
    let mut idle = node.connect();
    idle.assert_served();

    let whole = frame(1, &set(b"half", &vec![b'v'; 100_000]));
    let too_long = [Got::notice(Status::IdleTooLong)];
    for length in [1, 15, 16, 40, 50_000] {
        let mut wire = node.connect();
        wire.send(&whole[..length]);
        wire.assert_ends_with(&too_long);
    }
    // Bytes that trickle in do not make it stay longer.
    let mut wire = node.connect();
    let mut sent = 0;
    let end = loop {
        wire.send(&whole[sent..=sent]);
        sent += 1;
        if let Some(got) = wire.next_within(Duration::from_millis(20)) {
            break got;
        }
        assert!(sent < WAIT_MAX.as_millis() as usize / 20, "it is never closed");
    };
    assert_eq!(end, too_long[0]);
    node.until_counter("idle_closed", |closed| closed == 6);
    // Those that owe nothing stay.
    silent.assert_served();
    idle.assert_served();
}
