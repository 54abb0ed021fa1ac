//! Too little of something: of the CPU, of buffers, of room for what clients leave half said or
//! do not read. Nobody loses a reply, memory stays as stated, and all is well again afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use corelane_engine::limits::{OUTPUT_BYTES_SCARCE, QUEUE_TARGET_US};
use corelane_protocol::{MonotonicUs, Status};
use rustix::process::Signal;

use crate::connections::{flood, raise_open_files};
use crate::process::{Io, Node, WAIT_MAX, eventually};
use crate::wire::{What, Wire, frame, frame_until, get, set};

on_both!(
    a_core_that_shares_its_cpu_loses_nothing_and_recovers,
    ten_thousand_half_frames_leave_room_for_the_others,
    more_clients_at_once_than_there_are_buffers_are_served,
    replies_that_nobody_reads_stay_below_their_caps,
);

/// What a spinner is told: on which CPU.
const SPINNER: &str = "CORELANE_TEST_SPINNER";

/// A process that wants all of one CPU.
struct Spinner(Child);

impl Spinner {
    /// Starts the running test as a process of its own that only spins; returns when it does.
    fn start(io: Io, cpu: usize) -> Spinner {
        let test = format!(
            "scarcity::a_core_that_shares_its_cpu_loses_nothing_and_recovers::on_{}",
            io.name()
        );
        let child = Command::new(std::env::current_exe().expect("it runs"))
            .args(["--exact", "--nocapture", &test])
            .env(SPINNER, cpu.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let tasks = format!("/proc/{}/task", child.id());
        eventually("the spinner is on its CPU", || {
            fs::read_dir(&tasks).expect("it runs").flatten().any(|task| {
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
                allowed.is_some_and(|list| list.trim() == cpu.to_string())
            })
        });
        Spinner(child)
    }

    /// What a spinner does: nothing, for as long as any test may take.
    fn spin(cpu: &str) {
        let id = cpu.parse().expect("a CPU");
        assert!(core_affinity::set_for_current(core_affinity::CoreId { id }));
        let until = Instant::now() + 2 * WAIT_MAX;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What became of requests, by reply.
type Outcome = BTreeMap<&'static str, u32>;

/// Sends gets for a key that is there, and takes the reply of each, in any order.
fn burst(wire: &mut Wire, count: u32, deadline: Option<MonotonicUs>) -> Outcome {
    let request = |id| match deadline {
        Some(deadline) => frame_until(id, deadline, &get(b"served")),
        None => frame(id, &get(b"served")),
    };
    wire.send(&(0..count).flat_map(request).collect::<Vec<u8>>());
    let mut owed: Vec<bool> = vec![true; count as usize];
    let mut outcome = Outcome::new();
    for _ in 0..count {
        let got = wire.next();
        assert!(std::mem::take(&mut owed[got.id as usize]), "{} is answered twice", got.id);
        let what = match got.what {
            What::Value(value) if value == b"yes" => "value",
            What::Busy => "busy",
            What::Failed(Status::TooLate) => "too late",
            other => panic!("{other:?}"),
        };
        *outcome.entry(what).or_default() += 1;
    }
    outcome
}

fn a_core_that_shares_its_cpu_loses_nothing_and_recovers(io: Io) {
    const CLIENTS: usize = 8;
    const BURST: u32 = 1_000;
    if let Ok(cpu) = std::env::var(SPINNER) {
        return Spinner::spin(&cpu);
    }
    let cpus = core_affinity::get_core_ids().expect("there is a CPU");
    let cpu = cpus.last().expect("there is a CPU").id;
    let node = Node::start(io, &["--cores", &format!("{cpu}-{cpu}"), "--pin", "on"]);
    assert_eq!(node.cpus_of_cores()[&0], cpu.to_string());
    let mut wires: Vec<Wire> = (0..CLIENTS).map(|_| node.connect()).collect();
    wires.iter_mut().for_each(Wire::assert_served);

    let spinners: Vec<Spinner> = (0..3).map(|_| Spinner::start(io, cpu)).collect();
    let refused = || node.sum("busy") + node.sum("too_late");
    let (mut rounds, mut sum) = (0, Outcome::new());
    let until = Instant::now() + WAIT_MAX;
    while rounds < 5 || refused() == 0 {
        assert!(Instant::now() < until, "nothing is refused though nobody could be in time");
        rounds += 1;
        let outcomes: Vec<(bool, Outcome)> = std::thread::scope(|scope| {
            let threads: Vec<_> = wires
                .iter_mut()
                .enumerate()
                .map(|(index, wire)| {
                    scope.spawn(move || {
                        // Half of them say how long they wait.
                        let is_patient = index % 2 == 0;
                        let clock = wire.clock();
                        let deadline = (!is_patient).then_some(MonotonicUs(clock.0 + 20_000));
                        (is_patient, burst(wire, BURST, deadline))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("all are answered")).collect()
        });
        for (is_patient, outcome) in outcomes {
            if is_patient {
                assert_eq!(outcome, Outcome::from([("value", BURST)]));
            }
            outcome.into_iter().for_each(|(what, count)| *sum.entry(what).or_default() += count);
        }
    }
    eprintln!("{rounds} rounds beside 3 spinners on {}: {sum:?}", io.name());

    drop(spinners);
    // What is asked for at leisure is served again, to the last request.
    let mut in_time = 0;
    eventually("nobody is refused any more", || {
        let wire = &mut wires[in_time % CLIENTS];
        let deadline = MonotonicUs(wire.clock().0 + 1_000_000);
        let outcome = burst(wire, 50, Some(deadline));
        in_time = if outcome == Outcome::from([("value", 50)]) { in_time + 1 } else { 0 };
        in_time == 10 * CLIENTS
    });
    node.until_counter("queue_delay_us", |us| us < QUEUE_TARGET_US);
    for gauge in ["connections_deferred", "connections_paused", "output_bytes_pending"] {
        node.until_counter(gauge, |left| left == 0);
    }
}

/// Tests that need most descriptors that there are.
static DESCRIPTORS: Mutex<()> = Mutex::new(());

fn ten_thousand_half_frames_leave_room_for_the_others(io: Io) {
    const MEMORY: u64 = 256 << 20;
    let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    // Other tests need some as well.
    let count = raise_open_files().saturating_sub(4_000).min(10_000) as usize;
    let directory = tempfile::tempdir().expect("a directory");
    // What the kernel holds of sockets of this kind counts for the sender, and is little.
    let listen = format!("unix:{}", directory.path().join("node").display());
    let connections_max = (count + 10).to_string();
    let node = Node::start(
        io,
        &[
            "--listen",
            &listen,
            "--memory",
            "256MiB",
            "--connections-max",
            &connections_max,
            "--idle-timeout",
            "2s",
        ],
    );
    let mut other = node.connect();
    other.assert_served();

    let whole = frame(1, &set(b"half", &vec![b'v'; 1 << 20]));
    let half = &whole[..whole.len() / 2];
    let mut halves: Vec<(Wire, usize)> = (0..count)
        .map(|_| {
            let wire = node.connect();
            wire.keep_little();
            (wire, 0)
        })
        .collect();
    node.until_counter("connections_open", |open| open == count as u64 + 1);
    let (mut most, mut bytes) = (0, 0);
    eventually("all halves are closed", || {
        halves.retain_mut(|(wire, sent)| {
            // Sending fails where the node has closed, of which there is something to read.
            let some = wire.try_send_some(&half[*sent..]).unwrap_or(0);
            *sent += some;
            bytes += some;
            !wire.has_input()
        });
        most = most.max(node.resident_bytes());
        other.assert_served();
        halves.is_empty()
    });
    node.until_counter("connections_open", |open| open == 1);
    eprintln!(
        "{count} half frames on {}: {} MiB sent, {} MiB resident at most; {} closed as idle, {} \
         refused",
        io.name(),
        bytes >> 20,
        most >> 20,
        node.sum("idle_closed"),
        node.sum("inputs_refused"),
    );
    assert!(most <= MEMORY, "{most} bytes resident, more than --memory");
    assert_eq!(node.sum("idle_closed") + node.sum("inputs_refused"), count as u64);
    for gauge in ["upload_bytes_promised", "input_bytes_promised", "input_bytes_held"] {
        assert_eq!(node.sum(gauge), 0, "{gauge}");
    }
    // What they took is there for others.
    other.send(&whole);
    assert_eq!(other.next().what, What::Done);
}

fn more_clients_at_once_than_there_are_buffers_are_served(io: Io) {
    const CLIENTS: u64 = 2_000;
    const ROUNDS: u64 = 3;
    // More than one buffer for each client; a core has a few hundred.
    const REQUESTS: u32 = 200;
    const KEY_BYTES: usize = 100;
    let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    raise_open_files();
    let node = Node::start(io, &["--memory", "256MiB"]);
    let mut wires: Vec<Wire> = (0..CLIENTS).map(|_| node.connect()).collect();
    let mut other = node.connect();
    for round in 0..ROUNDS {
        // All have sent before the node looks at the first.
        node.signal(Signal::STOP);
        for (index, wire) in wires.iter_mut().enumerate() {
            let mut key = vec![b'k'; KEY_BYTES];
            key[..8].copy_from_slice(&(index as u64).to_le_bytes());
            let mut requests = frame(0, &set(&key, &round.to_le_bytes()));
            requests.extend((1..REQUESTS).flat_map(|id| frame(id, &get(&key))));
            wire.send(&requests);
        }
        node.signal(Signal::CONT);
        other.assert_served();
        for wire in &mut wires {
            assert_eq!(wire.next().what, What::Done);
            for id in 1..REQUESTS {
                let got = wire.next();
                assert_eq!((got.id, got.what), (id, What::Value(round.to_le_bytes().to_vec())));
            }
        }
    }
    node.until_counter("requests_set", |sets| sets == ROUNDS * (CLIENTS + 1));
    let exhausted = node.sum("receive_buffers_exhausted");
    eprintln!("{CLIENTS} clients on {}: {exhausted} times without a buffer", io.name());
    // A client that found no buffer waits in line for one, and does not try again and again.
    let least_receives = ROUNDS * CLIENTS * 2;
    assert!(exhausted <= least_receives, "{exhausted} times");
}

fn replies_that_nobody_reads_stay_below_their_caps(io: Io) {
    const MEMORY: u64 = 256 << 20;
    const CAP: u64 = 1 << 20;
    const VALUE_BYTES: u64 = 200_000;
    const READERS: usize = 60;
    let reply_bytes = VALUE_BYTES + 64;
    let arguments = ["--memory", "256MiB", "--output-bytes-max", "1MiB", "--idle-timeout", "1h"];
    let node = Node::start(io, &arguments);
    let mut other = node.connect();
    let keys: Vec<String> = (0..8).map(|index| format!("key {index}")).collect();
    let mut write = |byte: u8| {
        for key in &keys {
            let value = vec![byte; VALUE_BYTES as usize];
            assert_eq!(other.ask(&set(key.as_bytes(), &value)), What::Done);
        }
    };
    write(0);
    let mut wires = vec![flood(&node, 0, &keys, 1_000)];
    node.until_counter("connections_paused", |paused| paused == 1);
    let pending = node.sum("output_bytes_pending");
    assert!((1..=CAP + reply_bytes).contains(&pending), "{pending} bytes wait for one");

    // All together: a part of the memory, and then little more for each.
    let total = MEMORY / 32 + READERS as u64 * (OUTPUT_BYTES_SCARCE as u64 + reply_bytes);
    assert!(total < READERS as u64 * CAP, "the total is less than what each could have");
    let (mut most, mut most_pending) = (0, 0);
    for round in 1..READERS {
        wires.push(flood(&node, 0, &keys, 1_000));
        // What waits to be sent is still there when the keys have other values.
        write(round as u8);
        most = most.max(node.resident_bytes());
        most_pending = most_pending.max(node.sum("output_bytes_pending"));
    }
    node.until_counter("connections_paused", |paused| paused == READERS as u64);
    most_pending = most_pending.max(node.sum("output_bytes_pending"));
    eprintln!(
        "{READERS} clients on {} that do not read: {} KiB pending at most, {} MiB resident",
        io.name(),
        most_pending >> 10,
        most >> 20
    );
    assert!(most_pending <= total, "{most_pending} bytes wait, more than {total}");
    assert!(most <= MEMORY, "{most} bytes resident, more than --memory");

    // Whoever reads at last gets whole values, in order, each as it was at some time.
    for wire in wires.iter_mut().step_by(7) {
        for id in 0..30 {
            let got = wire.next();
            assert_eq!(got.id, id);
            let What::Value(value) = got.what else { panic!("{:?}", got.what) };
            assert_eq!(value.len() as u64, VALUE_BYTES);
            assert!(value.iter().all(|byte| *byte == value[0]), "of two values");
        }
    }
    // Those that ask for far more than anybody may want are closed before the node has no room
    // for it, and the others are not.
    for round in 0..READERS {
        wires.push(flood(&node, 0, &keys, 50_000));
        write(round as u8);
        most = most.max(node.resident_bytes());
        let waiting = node.sum("backlog_bytes");
        assert!(waiting <= MEMORY / 32, "{waiting} bytes of requests wait");
    }
    assert!(most <= MEMORY, "{most} bytes resident, more than --memory");
    drop(wires);
    node.until_counter("connections_open", |open| open == 1);
    for gauge in ["output_bytes_pending", "backlog_bytes"] {
        node.until_counter(gauge, |left| left == 0);
    }
    write(255);
}
