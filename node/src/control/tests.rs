//! The control thread with a made-up node, over real sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;

use corelane_engine::Asker;

use super::*;

/// A node that records what it is told.
struct FakeNode {
    phase: Mutex<Phase>,
    snapshots: CoreSnapshots,
    calls: mpsc::Sender<&'static str>,
}

impl NodeControl for FakeNode {
    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap()
    }

    fn drain(&self) {
        *self.phase.lock().unwrap() = Phase::Draining;
        self.calls.send("drain").unwrap();
    }

    fn stop_now(&self) {
        self.calls.send("stop_now").unwrap();
    }

    fn snapshots(&self) -> &CoreSnapshots {
        &self.snapshots
    }

    fn topology(&self) -> Option<Arc<ClusterView>> {
        None
    }

    fn offer_topology(&self, topology: Topology) -> Result<Taken, RefusedTopology> {
        let epoch = topology.epoch();
        Err(RefusedTopology::Stale { in_force: epoch, offered: epoch })
    }

    fn config(&self) -> Config {
        Config { memory: 1 << 30, ..Config::default() }
    }

    fn grant(&self, _: Asker, _: Result<(), String>) {
        unreachable!("no client asks for a change")
    }

    fn change(&self, settings: &[(String, String)]) -> Result<(), ChangeError> {
        match settings {
            [(name, text)] if name == "policy" && text == "allkeys-lfu" => {
                self.calls.send("lfu").unwrap();
                Ok(())
            }
            _ => Err(ChangeError::Fixed { name: settings[0].0.clone() }),
        }
    }

    fn divide_memory(&self) {}

    fn core_of(&self, _: &[u8]) -> u16 {
        unreachable!("nothing here asks for entries")
    }

    fn ask(&self, _: u16, _: Vec<u8>) -> oneshot::Receiver<Answered> {
        unreachable!("nothing here asks for entries")
    }
}

struct Fixture {
    control: Control,
    address: SocketAddr,
    node: Arc<FakeNode>,
    calls: mpsc::Receiver<&'static str>,
    signals: watch::Sender<()>,
}

impl Fixture {
    fn start(auth_token: Option<&str>) -> Fixture {
        let listener = bind("admin", (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (signals, received) = watch::channel(());
        let control = Control::start(ControlConfig {
            listener: Some(listener),
            http: None,
            auth_token: auth_token.map(|token| Token::new(token.into()).unwrap()),
            about: About {
                version: "1.2.3",
                node_name: "cache-7".to_owned(),
                io: "epoll",
                memory: 1 << 30,
            },
            signals: Signals::Channel(received),
        })
        .unwrap();
        let (sender, calls) = mpsc::channel();
        let node = Arc::new(FakeNode {
            phase: Mutex::new(Phase::Ready),
            snapshots: CoreSnapshots::new(2),
            calls: sender,
        });
        Fixture { control, address, node, calls, signals }
    }

    fn ready(auth_token: Option<&str>) -> Fixture {
        let fixture = Fixture::start(auth_token);
        fixture.control.attach(fixture.node.clone());
        fixture
    }

    /// Sends bytes and reads until the other side closes.
    fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // A closing with unread input resets the connection; what came before still counts.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// Status and body of a request with more header lines.
    fn request(&self, line: &str, headers: &str) -> (u16, String) {
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        let answer = self.exchange(&request);
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }
}

#[test]
fn readiness_follows_the_phase_and_health_does_not() {
    let fixture = Fixture::start(None);
    assert_eq!(fixture.request("GET /readyz", ""), (503, "starting\n".to_owned()));
    assert_eq!(fixture.request("GET /healthz", ""), (200, "alive\n".to_owned()));
    fixture.control.attach(fixture.node.clone());
    assert_eq!(fixture.request("GET /readyz", ""), (200, "ready\n".to_owned()));
    *fixture.node.phase.lock().unwrap() = Phase::Draining;
    assert_eq!(fixture.request("GET /readyz", ""), (503, "draining\n".to_owned()));
    assert_eq!(fixture.request("GET /healthz", ""), (200, "alive\n".to_owned()));
    fixture.control.stop();
}

#[test]
fn what_is_not_served_is_404_or_405() {
    let fixture = Fixture::ready(None);
    assert_eq!(fixture.request("GET /", "").0, 404);
    assert_eq!(fixture.request("GET /metrics/", "").0, 404);
    assert_eq!(fixture.request("POST /healthz", "Content-Length: 0\r\n").0, 405);
    assert_eq!(fixture.request("DELETE /metrics", "").0, 405);
    fixture.control.stop();
}

#[test]
fn the_configuration_is_told_and_changed() {
    let fixture = Fixture::start(Some("secret"));
    let bearer = "Authorization: Bearer secret\r\n";
    assert_eq!(fixture.request("GET /config", "").0, 401);
    assert_eq!(fixture.request("PUT /config?policy=allkeys-lfu", "").0, 401);
    assert_eq!(fixture.request("GET /config", bearer).0, 503);
    fixture.control.attach(fixture.node.clone());
    let (status, body) = fixture.request("GET /config", bearer);
    assert_eq!(status, 200);
    assert!(body.contains("memory = \"1GiB\"\n"), "{body}");
    assert!(!body.contains("secret"), "{body}");
    let (status, body) = fixture.request("PUT /config?policy=allkeys-lfu", bearer);
    assert_eq!((status, fixture.calls.recv()), (200, Ok("lfu")));
    assert!(body.contains("policy = "), "{body}");
    let (status, body) = fixture.request("PUT /config?cores=4", bearer);
    assert_eq!(status, 400);
    assert!(body.starts_with("cores cannot be changed while the node runs"), "{body}");
    fixture.control.stop();
}

#[test]
fn metrics_carry_each_core_s_numbers() {
    let fixture = Fixture::ready(None);
    let cores = fixture.node.snapshots.cores();
    let hits = CATALOGUE.iter().position(|info| info.name == "hits").unwrap();
    let items = CATALOGUE.iter().position(|info| info.name == "items").unwrap();
    let mut values = [0; NUMBERS];
    (values[hits], values[items]) = (7, 3);
    cores[1].publish(&values);

    let (status, text) = fixture.request("GET /metrics", "");
    assert_eq!(status, 200);
    for line in [
        "# TYPE corelane_hits counter",
        "# HELP corelane_hits Reads that found an entry.",
        "corelane_hits_total{core=\"0\"} 0",
        "corelane_hits_total{core=\"1\"} 7",
        "# TYPE corelane_items gauge",
        "corelane_items{core=\"1\"} 3",
        "corelane_info{version=\"1.2.3\",node=\"cache-7\",io=\"epoll\"} 1",
        "corelane_ready 1",
        "corelane_memory_bytes 1073741824",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    assert!(text.contains("\nprocess_open_fds "), "{text}");
    assert!(text.contains("\ncorelane_uptime_seconds "), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    for info in CATALOGUE {
        assert!(text.contains(&format!("# TYPE corelane_{} ", info.name)), "{}", info.name);
    }
    fixture.control.stop();
}

#[test]
fn metrics_need_the_token_and_health_does_not() {
    let fixture = Fixture::ready(Some("secret"));
    let status = |headers: &str| fixture.request("GET /metrics", headers).0;
    assert_eq!(status(""), 401);
    assert_eq!(status("Authorization: Bearer wrong\r\n"), 401);
    assert_eq!(status("Authorization: Bearer secret2\r\n"), 401);
    assert_eq!(status("Authorization: Basic secret\r\n"), 401);
    assert_eq!(status("Authorization: Bearer secret\r\n"), 200);
    assert_eq!(status("authorization: bearer secret\r\n"), 200);
    assert_eq!(fixture.request("GET /readyz", "").0, 200);
    assert_eq!(fixture.request("GET /healthz", "").0, 200);
    fixture.control.stop();
}

#[test]
fn oversized_and_garbled_requests_only_cost_their_connection() {
    let fixture = Fixture::ready(None);
    let long = format!("X-Long: {}\r\n", "x".repeat(2 * connections::ADMIN.request_bytes_max));
    let answer =
        fixture.exchange(&format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{long}\r\n"));
    assert!(!answer.contains("alive"), "{answer}");
    let answer = fixture.exchange("\x16\x03\x01 not http at all\r\n\r\n");
    assert!(!answer.contains("alive"), "{answer}");
    assert_eq!(fixture.request("GET /healthz", "").0, 200);
    fixture.control.stop();
}

#[test]
fn connections_over_the_limit_wait_and_are_served_when_one_goes() {
    let fixture = Fixture::ready(None);
    let mut held: Vec<TcpStream> = (0..connections::ADMIN.connections_max)
        .map(|_| {
            let mut stream = TcpStream::connect(fixture.address).unwrap();
            // An answer on a connection that stays open shows that it holds its permit.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let mut waiting = TcpStream::connect(fixture.address).unwrap();
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    waiting.set_nonblocking(true).unwrap();
    let early = waiting.read(&mut [0; 1]).unwrap_err();
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
    waiting.set_nonblocking(false).unwrap();
    drop(held.pop());
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("alive\n"), "{answer}");
    fixture.control.stop();
}

#[test]
fn the_first_signal_drains_and_the_second_ends() {
    let fixture = Fixture::ready(None);
    fixture.signals.send(()).unwrap();
    assert_eq!(fixture.calls.recv(), Ok("drain"));
    fixture.signals.send(()).unwrap();
    assert_eq!(fixture.calls.recv(), Ok("stop_now"));
    assert_eq!(fixture.control.stop(), Ending::Forced);
}

#[test]
fn one_signal_is_not_forced() {
    let fixture = Fixture::ready(None);
    fixture.signals.send(()).unwrap();
    assert_eq!(fixture.calls.recv(), Ok("drain"));
    assert_eq!(fixture.control.stop(), Ending::Drained);
}

#[test]
fn a_panic_or_an_error_restarts_the_work() {
    let mut runs = 0;
    supervise(|| {
        runs += 1;
        match runs {
            1 => panic!("first"),
            2 => Err(io::Error::other("second")),
            _ => Ok(()),
        }
    });
    assert_eq!(runs, 3);
}

#[test]
fn the_port_answers_again_after_a_panic() {
    /// Panics in `drain`, which the signal handler calls on the thread itself.
    struct Fragile(CoreSnapshots, mpsc::Sender<()>);
    impl NodeControl for Fragile {
        fn phase(&self) -> Phase {
            Phase::Ready
        }
        fn drain(&self) {
            self.1.send(()).unwrap();
            panic!("a bug in the control thread");
        }
        fn stop_now(&self) {}
        fn snapshots(&self) -> &CoreSnapshots {
            &self.0
        }
        fn topology(&self) -> Option<Arc<ClusterView>> {
            None
        }
        fn offer_topology(&self, _: Topology) -> Result<Taken, RefusedTopology> {
            panic!("nobody offers one")
        }
        fn config(&self) -> Config {
            Config::default()
        }
        fn change(&self, settings: &[(String, String)]) -> Result<(), ChangeError> {
            Err(ChangeError::Fixed { name: settings[0].0.clone() })
        }
        fn divide_memory(&self) {}
        fn grant(&self, _: Asker, _: Result<(), String>) {
            unreachable!("no client asks for a change")
        }
        fn core_of(&self, _: &[u8]) -> u16 {
            unreachable!("nothing here asks for entries")
        }

        fn ask(&self, _: u16, _: Vec<u8>) -> oneshot::Receiver<Answered> {
            unreachable!("nothing here asks for entries")
        }
    }
    let fixture = Fixture::start(None);
    let (sender, panicked) = mpsc::channel();
    fixture.control.attach(Arc::new(Fragile(CoreSnapshots::new(1), sender)));
    fixture.signals.send(()).unwrap();
    panicked.recv().unwrap();
    // The connection waits in the listener's queue while the thread restarts.
    assert_eq!(fixture.request("GET /readyz", ""), (200, "ready\n".to_owned()));
    fixture.control.stop();
}

#[test]
fn a_taken_admin_address_is_named() {
    let taken = bind("admin", (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = taken.local_addr().unwrap();
    let message = bind("admin", address).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot serve the admin port on {address}: ")));
    assert!(message.contains("another process listens there"), "{message}");
}

#[test]
fn snapshots_hold_what_was_published() {
    let snapshots = CoreSnapshots::new(3);
    let values = std::array::from_fn(|index| index as u64 + 1);
    snapshots.cores()[2].publish(&values);
    assert_eq!(snapshots.cores()[2].read(), values);
    assert_eq!(snapshots.cores()[0].read(), [0; NUMBERS]);
}
