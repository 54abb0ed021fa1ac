//! One suite for every driver: what [`Driver`] promises, checked against real sockets on
//! loopback. io_uring runs it twice: as it is, and with a submission queue that is full half
//! of the time, short sends, and a kernel that wants to be asked again. The last tests are
//! its own.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use corelane_engine::{DefaultTtl, Engine, EngineConfig, JitterMode, Mail, Output};
use corelane_protocol::{
    Answer, MonotonicUs, OldValue, Request, RequestHead, Set, SetCondition, Ttl, wire,
};
use corelane_ring::{Core, slot_of};
use corelane_shard::ShardConfig;
use corelane_uring::{Faults, NoFaults};
use socket2::{SockRef, Socket};

use super::listener::ACCEPTS_A_TURN;
use super::*;

/// Makes a driver, or none when the machine has no io_uring.
type Make<D> = fn(DriverConfig) -> Option<(D, Waker)>;

const CONFIG: DriverConfig =
    DriverConfig { connections_max: 1000, buffers: 64, buffer_bytes: 1024 };

/// Longest silence of a driver that has something to do. No result depends on it.
const WATCHDOG: Duration = Duration::from_secs(20);

macro_rules! suite {
    ($module:ident, $make:expr, [$($test:ident),* $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test($make);
                }
            )*
        }
    };
    ($($module:ident = $make:expr;)*) => {
        $(
            suite!($module, $make, [
                echoes_what_arrives,
                echoes_over_ipv6_and_unix_sockets,
                keeps_the_order_of_a_deep_pipeline,
                reports_a_half_close_and_still_sends,
                gives_the_buffer_back_when_the_peer_vanishes,
                receives_nothing_while_paused,
                finishes_short_sends_to_a_slow_reader,
                sends_leased_values_from_where_they_are,
                gives_up_a_stuck_send_when_closed,
                hands_a_connection_over_with_bytes_in_flight,
                drains_input_so_that_the_last_reply_arrives,
                closes_at_once_and_only_once,
                shares_few_buffers_among_many_connections,
                waits_while_all_buffers_are_held,
                ends_connections_that_wait_for_a_buffer,
                wakes_from_another_thread,
                serves_others_while_many_connect,
                stops_listening_and_goes_on_serving,
                reports_connections_made_before_listening_ended,
                refuses_connections_beyond_its_table,
                reuses_slots,
                sends_on_more_connections_than_the_queue_has_entries,
                drops_with_operations_in_flight,
            ]);
        )*
    };
}

suite! {
    uring = super::uring;
    uring_with_a_full_queue = super::uring_with_a_full_queue;
    epoll = super::epoll;
}

fn epoll(config: DriverConfig) -> Option<(EpollDriver, Waker)> {
    Some(EpollDriver::new(config).expect("epoll is everywhere"))
}

fn uring(config: DriverConfig) -> Option<(UringDriver, Waker)> {
    uring_with(config, NoFaults)
}

fn uring_with<F: Faults>(config: DriverConfig, faults: F) -> Option<(UringDriver<F>, Waker)> {
    match UringDriver::with_faults(config, faults) {
        Ok(made) => Some(made),
        Err(StartError::Unavailable(reason)) => {
            eprintln!("not run: {reason}");
            None
        }
        Err(StartError::Io(error)) => panic!("{error}"),
    }
}

fn uring_with_a_full_queue(config: DriverConfig) -> Option<(UringDriver<OftenFull>, Waker)> {
    uring_with(config, OftenFull(1))
}

/// A queue that is full half of the time, and a kernel that often wants to be asked again.
struct OftenFull(u64);

impl OftenFull {
    /// One of `choices` (the generator is Knuth's MMIX).
    fn choose(&mut self, choices: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % choices
    }
}

impl Faults for OftenFull {
    fn queue_full(&mut self) -> bool {
        self.choose(2) == 0
    }

    fn send_length(&mut self, length: usize) -> usize {
        match self.choose(4) {
            0 => length.div_ceil(2),
            1 => length.min(5000),
            _ => length,
        }
    }

    fn enter_error(&mut self) -> Option<i32> {
        let errors = [libc::EINTR, libc::EAGAIN, libc::EBUSY, libc::ETIME];
        errors.get(self.choose(16) as usize).copied()
    }
}

/// A driver, a listener, and all that was reported so far.
struct Rig<D> {
    driver: D,
    waker: Waker,
    address: SocketAddr,
    handling: Handling,
    events: Vec<Event>,
    seen: Seen,
    opened: u32,
}

/// What the rig does with received bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handling {
    /// Keeps a copy and gives the piece back.
    Copy,
    /// Also sends them back, one buffer at a time.
    Echo,
    /// Keeps a copy and the piece.
    Hold,
}

#[derive(Default)]
struct Seen {
    accepted: Vec<(usize, OwnedFd)>,
    accept_pauses: usize,
    accept_resumptions: usize,
    listening_ended: usize,
    connections: HashMap<ConnectionId, Log>,
    detached: Vec<(ConnectionId, OwnedFd)>,
    held: Vec<Piece>,
    pieces: usize,
    wakes: usize,
    turns: usize,
}

/// What was reported of one connection.
#[derive(Default)]
struct Log {
    received: Vec<u8>,
    ended: Option<Result<(), ErrorKind>>,
    sent: Vec<(Vec<u8>, Result<(), ErrorKind>)>,
    closed: usize,
    /// What waits for the send under way.
    output: Vec<u8>,
    sending: bool,
}

impl<D: Driver> Rig<D> {
    fn new((driver, waker): (D, Waker)) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut rig = Rig {
            driver,
            waker,
            address,
            handling: Handling::Copy,
            events: Vec::new(),
            seen: Seen::default(),
            opened: 0,
        };
        rig.driver.listen(listener.into()).unwrap();
        rig
    }

    fn echoing(made: (D, Waker)) -> Self {
        let mut rig = Self::new(made);
        rig.handling = Handling::Echo;
        rig
    }

    /// One turn; whether anything was reported.
    fn turn(&mut self, wait: Wait) -> bool {
        self.driver.turn(wait, &mut self.events).unwrap();
        self.seen.turns += 1;
        let events = std::mem::take(&mut self.events);
        let any = !events.is_empty();
        for event in events {
            self.handle(event);
        }
        any
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted { socket, listener } => self.seen.accepted.push((listener, socket)),
            Event::AcceptPaused { .. } => self.seen.accept_pauses += 1,
            Event::AcceptResumed => self.seen.accept_resumptions += 1,
            Event::ListeningEnded => self.seen.listening_ended += 1,
            Event::Received { connection, piece } => {
                let log = self.seen.connections.get_mut(&connection).unwrap();
                assert_eq!((log.closed, log.ended), (0, None), "bytes after the end");
                assert!(!piece.bytes().is_empty());
                log.received.extend_from_slice(piece.bytes());
                self.seen.pieces += 1;
                if self.handling == Handling::Hold {
                    self.seen.held.push(piece);
                    return;
                }
                if self.handling == Handling::Echo {
                    log.output.extend_from_slice(piece.bytes());
                }
                self.driver.recycle(piece);
                self.flush(connection);
            }
            Event::ReceiveEnded { connection, result } => {
                let log = self.seen.connections.get_mut(&connection).unwrap();
                let previous = log.ended.replace(result.map_err(|error| error.kind()));
                assert_eq!((log.closed, previous), (0, None), "a second end");
            }
            Event::Sent { connection, packet, result } => {
                let log = self.seen.connections.get_mut(&connection).unwrap();
                assert_eq!(log.closed, 0, "sent after it was closed");
                log.sent.push((packet.into_bytes(), result.map_err(|error| error.kind())));
                log.sending = false;
                self.flush(connection);
            }
            Event::Closed { connection } => {
                self.seen.connections.get_mut(&connection).unwrap().closed += 1;
            }
            Event::Detached { connection, socket } => {
                self.seen.detached.push((connection, socket));
            }
            Event::Woken => self.seen.wakes += 1,
        }
    }

    fn flush(&mut self, connection: ConnectionId) {
        let log = self.seen.connections.get_mut(&connection).unwrap();
        if !log.sending && !log.output.is_empty() {
            log.sending = true;
            let output = std::mem::take(&mut log.output);
            self.driver.send(connection, output.into());
        }
    }

    /// Turns until `done`. When nothing at all is reported for a long time, the driver has
    /// lost something.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let mut last = Instant::now();
        while !done(self) {
            // The first one tells what sends have come to, for which the second does not end.
            if self.turn(Wait::No) || self.turn(Wait::AtMost(Duration::from_millis(100))) {
                last = Instant::now();
            }
            assert!(last.elapsed() < WATCHDOG, "nothing happens any more before {what}");
        }
    }

    /// Turns until the kernel has nothing more to say of what was done so far.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 20 {
            idle = if self.turn(Wait::No) { 0 } else { idle + 1 };
        }
    }

    fn log(&mut self, connection: ConnectionId) -> &mut Log {
        self.seen.connections.get_mut(&connection).unwrap()
    }

    fn adopt(&mut self, index: u32, socket: OwnedFd) -> ConnectionId {
        self.opened += 1;
        let connection = ConnectionId { index, generation: self.opened };
        self.seen.connections.insert(connection, Log::default());
        self.driver.adopt(connection, socket).unwrap();
        connection
    }

    /// A client's socket, and the driver's connection to it in slot `index`.
    fn connect(&mut self, index: u32) -> (TcpStream, ConnectionId) {
        let client = TcpStream::connect(self.address).unwrap();
        self.until("the connection is accepted", |rig| !rig.seen.accepted.is_empty());
        let (_, socket) = self.seen.accepted.pop().unwrap();
        (client, self.adopt(index, socket))
    }

    fn close(&mut self, connection: ConnectionId, how: Closing) {
        self.driver.close(connection, how);
        self.until("the connection is closed", |rig| rig.log(connection).closed > 0);
    }
}

/// Bytes that differ from place to place: a block of prime length, repeated.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..length.min(8191)).map(|i| (i * 31 + i / 251 + seed) as u8).collect();
    let mut bytes = block.repeat(length.div_ceil(block.len()));
    bytes.truncate(length);
    bytes
}

fn read_exactly(stream: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The threads are not scoped: a test that fails must not wait for them.
fn write_in_background(stream: &TcpStream, bytes: &[u8]) -> thread::JoinHandle<()> {
    let (mut stream, bytes) = (stream.try_clone().unwrap(), bytes.to_vec());
    thread::spawn(move || stream.write_all(&bytes).unwrap())
}

/// Reads so many bytes, or all up to the end if that comes first.
fn read_in_background(stream: &TcpStream, most: usize) -> thread::JoinHandle<Vec<u8>> {
    let stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.take(most as u64).read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn echoes_what_arrives<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::echoing(made);
    let (mut client, connection) = rig.connect(7);
    for round in 0..50 {
        let message = pattern(1 + round * 40, round);
        client.write_all(&message).unwrap();
        rig.until("the echo is sent", |rig| {
            let log = rig.log(connection);
            log.sent.iter().map(|(buffer, _)| buffer.len()).sum::<usize>() >= message.len()
        });
        assert_eq!(read_exactly(&mut client, message.len()), message);
        let log = rig.log(connection);
        assert!(log.sent.iter().all(|(_, result)| result.is_ok()));
        log.sent.clear();
    }
}

fn echoes_over_ipv6_and_unix_sockets<D: Driver>(make: Make<D>) {
    fn check<D: Driver>(rig: &mut Rig<D>, listener: usize, mut client: impl Read + Write) {
        rig.until("the connection is accepted", |rig| !rig.seen.accepted.is_empty());
        let (from, socket) = rig.seen.accepted.pop().unwrap();
        assert_eq!(from, listener);
        let attributes = SockRef::from(&socket);
        assert!(attributes.nonblocking().unwrap());
        let is_unix = attributes.local_addr().unwrap().is_unix();
        assert!(is_unix || attributes.tcp_nodelay().unwrap());
        let connection = rig.adopt(0, socket);
        client.write_all(b"hello").unwrap();
        rig.until("the echo is sent", |rig| !rig.log(connection).sent.is_empty());
        assert_eq!(read_exactly(&mut client, 5), b"hello");
        rig.close(connection, Closing::Now);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::echoing(made);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    rig.driver.listen(UnixListener::bind(&path).unwrap().into()).unwrap();
    check(&mut rig, 1, UnixStream::connect(&path).unwrap());
    let client = TcpStream::connect(rig.address).unwrap();
    check(&mut rig, 0, client);
    // A host without IPv6 has nothing to check here.
    if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        let address = listener.local_addr().unwrap();
        rig.driver.listen(listener.into()).unwrap();
        check(&mut rig, 2, TcpStream::connect(address).unwrap());
    }
}

fn keeps_the_order_of_a_deep_pipeline<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::echoing(made);
    let (client, connection) = rig.connect(0);
    let message = pattern(700_000, 3);
    let writer = write_in_background(&client, &message);
    let reader = read_in_background(&client, message.len());
    rig.until("everything is echoed", |rig| {
        let log = rig.log(connection);
        log.received.len() == message.len() && log.output.is_empty() && !log.sending
    });
    assert!(rig.log(connection).received == message);
    assert!(reader.join().unwrap() == message);
    writer.join().unwrap();
}

fn reports_a_half_close_and_still_sends<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (mut client, connection) = rig.connect(0);
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    rig.until("the end is seen", |rig| rig.log(connection).ended.is_some());
    assert_eq!(rig.log(connection).ended, Some(Ok(())));
    assert_eq!(rig.log(connection).received, b"last words");
    rig.driver.send(connection, b"answer".to_vec().into());
    rig.until("it is sent", |rig| !rig.log(connection).sent.is_empty());
    // The peer has ended already, so there is nothing to drain.
    rig.close(connection, Closing::Drained);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"answer");
}

/// Makes the send of a large buffer stick, since nobody reads it.
fn stick<D: Driver>(rig: &mut Rig<D>, connection: ConnectionId) -> Vec<u8> {
    rig.log(connection).sent.clear();
    let message = pattern(16 << 20, 5);
    rig.driver.send(connection, message.clone().into());
    rig.settle();
    assert!(rig.log(connection).sent.is_empty(), "nobody has read it");
    message
}

fn gives_the_buffer_back_when_the_peer_vanishes<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (client, connection) = rig.connect(0);
    let message = stick(&mut rig, connection);
    // Closing without lingering resets the connection.
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    rig.until("both sides have failed", |rig| {
        let log = rig.log(connection);
        log.ended.is_some() && !log.sent.is_empty()
    });
    let (buffer, result) = rig.log(connection).sent.pop().unwrap();
    assert!(buffer == message);
    assert!(result.is_err());
    rig.close(connection, Closing::Now);
    rig.settle();
    assert_eq!(rig.log(connection).closed, 1);
}

fn receives_nothing_while_paused<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (mut client, connection) = rig.connect(0);
    for round in 1..10 {
        rig.driver.pause(connection);
        rig.settle();
        let before = rig.log(connection).received.len();
        client.write_all(&pattern(100, round)).unwrap();
        rig.settle();
        assert_eq!(rig.log(connection).received.len(), before);
        rig.driver.resume(connection);
        if round % 2 == 0 {
            // A change of mind before the kernel knows of the first one.
            rig.driver.pause(connection);
            rig.driver.resume(connection);
        }
        rig.until("the bytes arrive", |rig| rig.log(connection).received.len() == before + 100);
        assert!(rig.log(connection).received.ends_with(&pattern(100, round)));
    }
    // The end is not seen while paused either, and not forgotten.
    rig.driver.pause(connection);
    rig.settle();
    drop(client);
    rig.settle();
    assert_eq!(rig.log(connection).ended, None);
    rig.driver.resume(connection);
    rig.until("the end is seen", |rig| rig.log(connection).ended.is_some());
}

fn finishes_short_sends_to_a_slow_reader<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (client, connection) = rig.connect(0);
    let message = stick(&mut rig, connection);
    let reader = read_in_background(&client, message.len());
    rig.until("the whole buffer is sent", |rig| !rig.log(connection).sent.is_empty());
    let (buffer, result) = rig.log(connection).sent.pop().unwrap();
    assert_eq!(result, Ok(()));
    assert!(buffer == message);
    assert!(reader.join().unwrap() == message);
}

/// Takes the packets that an engine hands out.
struct Outbox(Vec<Packet>);

impl Output for Outbox {
    fn send(&mut self, _: ConnectionId, packet: Packet) {
        self.0.push(packet);
    }

    fn taken_by_peer(&mut self, _: ConnectionId) -> Option<u64> {
        None
    }

    fn pause(&mut self, _: ConnectionId) {}
    fn resume(&mut self, _: ConnectionId) {}
    fn close(&mut self, _: ConnectionId, _: Closing) {}
    fn detach(&mut self, _: ConnectionId) {}
    fn mail(&mut self, _: Core, _: Mail) {}
}

/// Packets in many pieces: what an engine answers to gets of values that it leases, and the
/// engine.
fn leased(value: &[u8]) -> (Engine, Vec<Packet>) {
    let now = MonotonicUs(0);
    let mut engine = Engine::new(EngineConfig {
        core: 0,
        cores: 1,
        node_name: String::new(),
        cluster: None,
        shard: ShardConfig::new(64 << 20, |key| slot_of(key).number()),
        value_bytes_max: 1 << 20,
        default_ttl: DefaultTtl::Never,
        jitter: JitterMode::Off,
        jitter_percent: 0,
        token: None,
        idle_ms_max: 1_000,
        drain_ms_max: 1_000,
        output_bytes_max: 4 << 20,
        output_bytes_total_max: 4 << 20,
        backlog_bytes_total_max: 4 << 20,
        input_bytes_total_max: 4 << 20,
        seed: 0,
        now,
        unix_ms: 1_700_000_000_000,
        dialects: Default::default(),
        about: Default::default(),
    })
    .unwrap();
    let mut outbox = Outbox(Vec::new());
    let id = engine.opened(now);
    let condition = SetCondition::Always;
    let old = OldValue::Omit;
    let ttl = Ttl::Never;
    let set = Request::Set(Set { key: b"key", value, user_flags: 0, ttl, condition, old });
    let quiet = RequestHead { answer: Answer::Never, ..RequestHead::default() };
    let mut frames = Vec::new();
    wire::encode_request(&quiet, &set, &mut frames).unwrap();
    for _ in 0..3 {
        let get = Request::Get { key: b"key", least_version: None };
        wire::encode_request(&RequestHead::default(), &get, &mut frames).unwrap();
    }
    engine.received(id, &frames, now, &mut outbox);
    while engine.counters().connections_deferred > 0 {
        engine.begin_turn(now, now);
        let _ = engine.tick(now, &mut outbox);
    }
    engine.flush_output(now, &mut outbox);
    (engine, outbox.0)
}

fn sends_leased_values_from_where_they_are<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    for (round, length) in [20_000, 150_000, 300_000].into_iter().enumerate() {
        let (client, connection) = rig.connect(round as u32);
        let (engine, packets) = leased(&pattern(length, round));
        for packet in packets {
            assert!(packet.as_slice().is_none(), "{length} bytes are not leased");
            let expected: Vec<u8> = packet.pieces().flatten().copied().collect();
            rig.driver.send(connection, packet);
            rig.settle();
            let reader = read_in_background(&client, expected.len());
            rig.until("all is sent", |rig| !rig.log(connection).sent.is_empty());
            assert!(reader.join().unwrap() == expected, "other bytes than were leased");
            assert_eq!(rig.log(connection).sent.pop().unwrap().1, Ok(()));
        }
        engine.invariants();
    }
}

fn gives_up_a_stuck_send_when_closed<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (client, connection) = rig.connect(0);
    let message = stick(&mut rig, connection);
    rig.driver.close(connection, Closing::Drained);
    rig.settle();
    let log = rig.log(connection);
    assert!(log.sent.is_empty() && log.closed == 0, "it waits for the peer");
    rig.close(connection, Closing::Now);
    let (buffer, result) = rig.log(connection).sent.pop().unwrap();
    assert!(buffer == message && result.is_err());
    drop(client);
}

fn hands_a_connection_over_with_bytes_in_flight<D: Driver>(make: Make<D>) {
    let (Some(made), Some(other)) = (make(CONFIG), make(CONFIG)) else {
        return;
    };
    let (mut rig, mut other) = (Rig::new(made), Rig::new(other));
    for round in 0..5 {
        let (client, connection) = rig.connect(0);
        let message = pattern(300_000, round);
        let writer = write_in_background(&client, &message);
        rig.until("some bytes are there", |rig| {
            rig.log(connection).received.len() > round * 20_000
        });
        rig.driver.detach(connection);
        rig.until("it is detached", |rig| !rig.seen.detached.is_empty());
        let (detached, socket) = rig.seen.detached.pop().unwrap();
        assert_eq!(detached, connection);
        rig.settle();
        let taken_over = other.adopt(round as u32, socket);
        let mut whole = std::mem::take(&mut rig.log(connection).received);
        let rest = message.len() - whole.len();
        other.until("the rest arrives", |other| other.log(taken_over).received.len() >= rest);
        whole.append(&mut other.log(taken_over).received);
        assert!(whole == message);
        other.close(taken_over, Closing::Now);
        writer.join().unwrap();
    }
}

fn drains_input_so_that_the_last_reply_arrives<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (client, connection) = rig.connect(0);
    rig.driver.pause(connection);
    let reply = pattern(100_000, 9);
    // More than fits the socket buffers, so the client needs the drain to get on.
    let writer = write_in_background(&client, &pattern(8 << 20, 1));
    rig.driver.send(connection, reply.clone().into());
    rig.driver.close(connection, Closing::Drained);
    let reader = read_in_background(&client, usize::MAX);
    rig.until("the client has all of it", |_| writer.is_finished() && reader.is_finished());
    assert!(reader.join().unwrap() == reply);
    writer.join().unwrap();
    assert_eq!(rig.log(connection).closed, 0, "the client is still there");
    drop(client);
    rig.until("it is closed", |rig| rig.log(connection).closed == 1);
    assert_eq!(rig.log(connection).sent.len(), 1);
    assert!(rig.log(connection).received.is_empty());
}

fn closes_at_once_and_only_once<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (mut client, connection) = rig.connect(0);
    rig.driver.close(connection, Closing::Now);
    rig.driver.close(connection, Closing::Now);
    rig.driver.pause(connection);
    rig.driver.resume(connection);
    rig.until("it is closed", |rig| rig.log(connection).closed > 0);
    rig.driver.close(connection, Closing::Now);
    rig.driver.resume(connection);
    rig.settle();
    assert_eq!(rig.log(connection).closed, 1);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

const FEW_BUFFERS: DriverConfig =
    DriverConfig { connections_max: 100, buffers: 4, buffer_bytes: 64 };

/// The clients and the connections of `count` slots.
fn crowd<D: Driver>(rig: &mut Rig<D>, count: u32) -> Vec<(TcpStream, ConnectionId)> {
    (0..count).map(|index| rig.connect(index)).collect()
}

fn shares_few_buffers_among_many_connections<D: Driver>(make: Make<D>) {
    let Some(made) = make(FEW_BUFFERS) else { return };
    let mut rig = Rig::new(made);
    let mut crowd = crowd(&mut rig, 60);
    for round in 0..3 {
        for (client, connection) in &mut crowd {
            let seed = connection.index as usize + round;
            client.write_all(&pattern(2000, seed)).unwrap();
        }
        rig.until("all bytes arrive", |rig| {
            crowd
                .iter()
                .all(|(_, connection)| rig.seen.connections[connection].received.len() == 2000)
        });
        for (_, connection) in &crowd {
            let seed = connection.index as usize + round;
            let log = rig.log(*connection);
            assert!(log.received == pattern(2000, seed));
            log.received.clear();
        }
    }
}

fn waits_while_all_buffers_are_held<D: Driver>(make: Make<D>) {
    let Some(made) = make(FEW_BUFFERS) else { return };
    let mut rig = Rig::new(made);
    let mut crowd = crowd(&mut rig, 10);
    rig.handling = Handling::Hold;
    for (client, _) in &mut crowd {
        client.write_all(&pattern(100, 0)).unwrap();
    }
    rig.settle();
    assert_eq!(rig.seen.held.len(), 4);
    assert!(!rig.turn(Wait::AtMost(Duration::from_millis(1))));
    while rig.seen.pieces < 20 {
        let piece = rig.seen.held.pop().unwrap();
        let before = rig.seen.pieces;
        rig.driver.recycle(piece);
        rig.until("another piece comes", |rig| rig.seen.pieces > before);
        assert_eq!(rig.seen.pieces, before + 1, "one buffer, one piece");
    }
    for (_, connection) in &crowd {
        assert!(rig.log(*connection).received == pattern(100, 0));
    }
    for piece in std::mem::take(&mut rig.seen.held) {
        rig.driver.recycle(piece);
    }
}

fn ends_connections_that_wait_for_a_buffer<D: Driver>(make: Make<D>) {
    let Some(made) = make(FEW_BUFFERS) else { return };
    let mut rig = Rig::new(made);
    let mut crowd = crowd(&mut rig, 12);
    rig.handling = Handling::Hold;
    for (client, _) in &mut crowd {
        client.write_all(&pattern(100, 0)).unwrap();
    }
    rig.settle();
    assert_eq!(rig.seen.held.len(), 4);
    let idle: Vec<_> = crowd
        .iter()
        .map(|(_, connection)| *connection)
        .filter(|connection| rig.seen.connections[connection].received.is_empty())
        .collect();
    rig.close(idle[0], Closing::Now);
    rig.driver.detach(idle[1]);
    rig.until("it is detached", |rig| !rig.seen.detached.is_empty());
    let (_, socket) = rig.seen.detached.pop().unwrap();
    assert_eq!(read_exactly(&mut Socket::from(socket), 100), pattern(100, 0));
    rig.driver.pause(idle[2]);
    rig.driver.pause(idle[3]);
    rig.driver.close(idle[4], Closing::Drained);
    rig.settle();
    rig.handling = Handling::Copy;
    for piece in std::mem::take(&mut rig.seen.held) {
        rig.driver.recycle(piece);
    }
    rig.settle();
    assert!(rig.log(idle[2]).received.is_empty());
    rig.driver.resume(idle[2]);
    let whole: Vec<_> = crowd
        .iter()
        .map(|(_, connection)| *connection)
        .filter(|connection| !idle.contains(connection) || *connection == idle[2])
        .collect();
    rig.until("the others have all their bytes", |rig| {
        whole.iter().all(|connection| rig.seen.connections[connection].received == pattern(100, 0))
    });
    assert!(rig.log(idle[3]).received.is_empty());
    assert!(rig.log(idle[4]).received.is_empty());
    crowd.clear();
    rig.until("the drained one is closed", |rig| rig.log(idle[4]).closed == 1);
}

fn wakes_from_another_thread<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    for round in 1..50 {
        let waker = rig.waker.clone();
        let thread = thread::spawn(move || {
            for _ in 0..round {
                waker.wake();
            }
        });
        rig.until("it is woken", |rig| rig.seen.wakes > 0);
        thread.join().unwrap();
        rig.settle();
        assert!(rig.seen.wakes <= round, "no more wakes than calls");
        rig.seen.wakes = 0;
    }
    // A wake before the wait is not lost.
    rig.waker.wake();
    rig.until("it is woken", |rig| rig.seen.wakes == 1);
}

/// However many connect at once, a turn takes a few of them and comes to the others.
fn serves_others_while_many_connect<D: Driver>(make: Make<D>) {
    const COUNT: usize = 6 * ACCEPTS_A_TURN;
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::echoing(made);
    let (mut client, connection) = rig.connect(0);
    client.write_all(b"in a hurry").unwrap();
    let _crowd: Vec<_> = (0..COUNT).map(|_| TcpStream::connect(rig.address).unwrap()).collect();
    let mut before = 0;
    rig.until("all are accepted", |rig| {
        let accepted = rig.seen.accepted.len();
        assert!(accepted - before <= 2 * ACCEPTS_A_TURN, "{} in two turns", accepted - before);
        before = accepted;
        // With injected faults, a turn may do nothing but accept.
        let served = !rig.log(connection).received.is_empty();
        assert!(served || accepted < COUNT - ACCEPTS_A_TURN, "nobody else is served");
        accepted == COUNT
    });
    rig.until("the echo is sent", |rig| !rig.log(connection).sent.is_empty());
    assert_eq!(read_exactly(&mut client, 10), b"in a hurry");
}

/// The kernel would reset those that are in its queue when the listener is closed.
fn reports_connections_made_before_listening_ended<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    rig.settle();
    let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(rig.address).unwrap()).collect();
    rig.driver.stop_listening();
    rig.until("listening has ended", |rig| rig.seen.listening_ended == 1);
    assert_eq!(rig.seen.accepted.len(), clients.len());
    for (_, socket) in &rig.seen.accepted {
        assert_eq!(SockRef::from(socket).take_error().unwrap().map(|e| e.kind()), None);
    }
}

fn stops_listening_and_goes_on_serving<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::echoing(made);
    let (mut client, connection) = rig.connect(0);
    rig.driver.stop_listening();
    let address = rig.address;
    rig.until("the port is closed", |rig| {
        rig.turn(Wait::No);
        TcpStream::connect(address).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    });
    rig.driver.stop_listening();
    assert_eq!(rig.seen.listening_ended, 1);
    client.write_all(b"still there").unwrap();
    rig.until("the echo is sent", |rig| !rig.log(connection).sent.is_empty());
    assert_eq!(read_exactly(&mut client, 11), b"still there");
}

fn refuses_connections_beyond_its_table<D: Driver>(make: Make<D>) {
    let config = DriverConfig { connections_max: 2, ..CONFIG };
    let Some(made) = make(config) else { return };
    let mut rig = Rig::echoing(made);
    let (mut first, connection) = rig.connect(1);
    let mut second = TcpStream::connect(rig.address).unwrap();
    rig.until("it is accepted", |rig| !rig.seen.accepted.is_empty());
    let (_, socket) = rig.seen.accepted.pop().unwrap();
    let beyond = ConnectionId { index: 2, generation: 0 };
    let error = rig.driver.adopt(beyond, socket).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(second.read(&mut [0]).unwrap(), 0, "its socket is closed");
    first.write_all(b"!").unwrap();
    rig.until("the echo is sent", |rig| !rig.log(connection).sent.is_empty());
}

fn reuses_slots<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::echoing(made);
    let mut earlier = Vec::new();
    for round in 0..100 {
        let (mut client, connection) = rig.connect(round % 3);
        client.write_all(b"ping").unwrap();
        if round % 4 != 0 {
            rig.until("the echo is sent", |rig| !rig.log(connection).sent.is_empty());
            assert_eq!(read_exactly(&mut client, 4), b"ping");
        }
        rig.close(connection, Closing::Now);
        earlier.push(connection);
    }
    rig.settle();
    for connection in earlier {
        assert_eq!(rig.log(connection).closed, 1);
    }
}

fn sends_on_more_connections_than_the_queue_has_entries<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let mut crowd = crowd(&mut rig, 600);
    for (_, connection) in &crowd {
        let message = pattern(50, connection.index as usize);
        rig.driver.send(*connection, message.into());
    }
    rig.until("all is sent", |rig| {
        crowd.iter().all(|(_, connection)| rig.seen.connections[connection].sent.len() == 1)
    });
    for (client, connection) in &mut crowd {
        let expected = pattern(50, connection.index as usize);
        assert_eq!(read_exactly(client, 50), expected);
        client.write_all(&expected).unwrap();
    }
    rig.until("all is received", |rig| {
        crowd.iter().all(|(_, connection)| rig.seen.connections[connection].received.len() == 50)
    });
}

fn drops_with_operations_in_flight<D: Driver>(make: Make<D>) {
    let Some(made) = make(CONFIG) else { return };
    let mut rig = Rig::new(made);
    let (mut client, connection) = rig.connect(0);
    let (_idle, _) = rig.connect(1);
    stick(&mut rig, connection);
    rig.handling = Handling::Hold;
    client.write_all(b"unread").unwrap();
    rig.until("a piece is out", |rig| !rig.seen.held.is_empty());
    let Rig { driver, seen, .. } = rig;
    drop(driver);
    assert_eq!(seen.held[0].bytes(), b"unread");
    // Nobody sends any more: what was on its way comes, and then the end.
    client.set_nonblocking(false).unwrap();
    while client.read(&mut [0; 65536]).is_ok_and(|length| length > 0) {}
}

/// Runs a test of this file in a process of its own with few file descriptors. Whether
/// this is that process.
fn with_few_descriptors(test: &str) -> bool {
    const CHILD: &str = "CORELANE_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 40 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

fn pauses_accepting_without_descriptors<D: Driver>(made: Option<(D, Waker)>) {
    let Some(made) = made else { return };
    let mut rig = Rig::echoing(made);
    let (mut client, connection) = rig.connect(0);
    let mut hoard = Vec::new();
    let late = TcpStream::connect(rig.address).unwrap();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    rig.until("accepting pauses", |rig| rig.seen.accept_pauses == 1);
    client.write_all(b"meanwhile").unwrap();
    rig.until("others are served", |rig| !rig.log(connection).sent.is_empty());
    assert_eq!(read_exactly(&mut client, 9), b"meanwhile");
    assert!(rig.seen.accepted.is_empty());
    drop(hoard);
    rig.until("it is accepted", |rig| !rig.seen.accepted.is_empty());
    assert_eq!((rig.seen.accept_pauses, rig.seen.accept_resumptions), (1, 1));
    drop(late);
}

#[test]
fn uring_pauses_accepting_without_descriptors() {
    if with_few_descriptors("driver::tests::uring_pauses_accepting_without_descriptors") {
        pauses_accepting_without_descriptors(uring(CONFIG));
    }
}

#[test]
fn epoll_pauses_accepting_without_descriptors() {
    if with_few_descriptors("driver::tests::epoll_pauses_accepting_without_descriptors") {
        pauses_accepting_without_descriptors(epoll(CONFIG));
    }
}

/// A queue that is full once, at the entry with a given number, and counts them all.
#[derive(Clone, Default)]
struct FullOnce {
    at: usize,
    pushed: Rc<Cell<usize>>,
}

impl Faults for FullOnce {
    fn queue_full(&mut self) -> bool {
        let number = self.pushed.get();
        self.pushed.set(number + 1);
        number == self.at
    }
}

/// A script with every operation there is, with the queue full at the first entry, then at
/// the second, and so on until the script has no more.
#[test]
fn uring_survives_a_full_queue_at_every_place() {
    for at in 0.. {
        let faults = FullOnce { at, ..FullOnce::default() };
        let Some(made) = uring_with(FEW_BUFFERS, faults.clone()) else {
            return;
        };
        let mut rig = Rig::echoing(made);
        let mut crowd = crowd(&mut rig, 6);
        for (client, connection) in &mut crowd {
            client.write_all(&pattern(150, 0)).unwrap();
            rig.driver.pause(*connection);
            rig.driver.resume(*connection);
        }
        rig.until("all is echoed", |rig| {
            let mut logs = rig.seen.connections.values();
            logs.all(|log| log.received.len() == 150 && !log.sending)
        });
        rig.waker.wake();
        rig.until("it is woken", |rig| rig.seen.wakes > 0);
        rig.driver.detach(crowd[0].1);
        rig.until("it is detached", |rig| !rig.seen.detached.is_empty());
        rig.driver.stop_listening();
        rig.close(crowd[1].1, Closing::Now);
        stick(&mut rig, crowd[2].1);
        rig.close(crowd[2].1, Closing::Now);
        rig.driver.close(crowd[3].1, Closing::Drained);
        let drained = crowd.remove(3);
        drop(drained.0);
        rig.until("it is closed", |rig| rig.log(drained.1).closed == 1);
        if faults.pushed.get() <= at {
            assert!(at > 20, "the script pushed {at} entries only");
            return;
        }
    }
}

/// With fewer buffers than connections, receives are started again about as often as
/// buffers come back, not for everyone in every turn.
#[test]
fn uring_does_not_spin_for_want_of_buffers() {
    let counter = FullOnce { at: usize::MAX, ..FullOnce::default() };
    let Some(made) = uring_with(FEW_BUFFERS, counter.clone()) else {
        return;
    };
    let mut rig = Rig::new(made);
    let mut crowd = crowd(&mut rig, 60);
    let before = counter.pushed.get();
    for (client, _) in &mut crowd {
        client.write_all(&pattern(6400, 0)).unwrap();
    }
    rig.until("all bytes arrive", |rig| rig.seen.pieces >= 6000);
    let started = counter.pushed.get() - before;
    assert!(started <= 60 + rig.seen.pieces, "{started} receives for {} pieces", rig.seen.pieces);
    assert!(rig.seen.turns <= 2 * rig.seen.pieces);
}
