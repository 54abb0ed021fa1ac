//! The admin port over plain sockets.

use std::io::Write;
use std::net::TcpStream;

use corelane_protocol::Status;
use rustix::process::Signal;

use crate::process::{Io, Node, WAIT_MAX, read_to_end};
use crate::wire::{self, Got, frame};

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks the admin port at `address` for `path`.
pub(crate) fn get(address: &str, path: &str) -> Answer {
    get_with(address, path, "")
}

/// Puts a body there.
pub(crate) fn put(address: &str, path: &str, body: &str) -> Answer {
    let length = format!("Content-Length: {}\r\n", body.len());
    exchange(address, &format!("PUT {path}"), &length, body)
}

/// The same as [`get`] with further header lines, each with its CRLF.
pub(crate) fn get_with(address: &str, path: &str, headers: &str) -> Answer {
    exchange(address, &format!("GET {path}"), headers, "")
}

fn exchange(address: &str, what: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the admin port listens");
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let request =
        format!("{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).expect("it reads");
    let text = String::from_utf8(read_to_end(stream)).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer over HTTP");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

on_both!(health_and_metrics_follow_the_node, a_token_protects_the_metrics_alone);

fn health_and_metrics_follow_the_node(io: Io) {
    let node = Node::start(io, &["--drain-timeout", "60s", "--node-name", "cache-7"]);
    let mut wire = node.connect();
    wire.assert_served();

    let health = get(&node.admin, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "alive\n"));
    let readiness = get(&node.admin, "/readyz");
    assert_eq!((readiness.status, readiness.body.as_str()), (200, "ready\n"));
    assert_eq!(get(&node.admin, "/nothing").status, 404);

    let metrics = get(&node.admin, "/metrics");
    assert!(metrics.head.contains("content-type: application/openmetrics-text"), "{metrics:?}");
    let info =
        format!("corelane_info{{version=\"0.1.0\",node=\"cache-7\",io=\"{}\"}} 1", io.name());
    assert!(metrics.body.contains(&info), "{}", metrics.body);
    assert!(metrics.body.contains("\nprocess_resident_memory_bytes "), "{}", metrics.body);
    assert!(metrics.body.ends_with("# EOF\n"), "{}", metrics.body);
    node.until_counter("hits", |hits| hits == 1);
    node.until_counter("items", |items| items == 1);
    node.until_counter("connections_open", |open| open == 1);

    // Half a frame under way keeps the node from ending, and so in sight.
    let whole = frame(1, &wire::get(b"served"));
    wire.send(&whole[..10]);
    node.until_counter("bytes_received", |bytes| bytes > 10);
    node.signal(Signal::TERM);
    assert_eq!(wire.next(), Got::notice(Status::GoingAway));
    let readiness = get(&node.admin, "/readyz");
    assert_eq!((readiness.status, readiness.body.as_str()), (503, "draining\n"));
    assert_eq!(get(&node.admin, "/healthz").status, 200);
    assert!(get(&node.admin, "/metrics").body.contains("\ncorelane_ready 0\n"));
    drop(wire);
    assert_eq!(node.ended().code(), Some(0));
}

fn a_token_protects_the_metrics_alone(io: Io) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "open sesame").unwrap();
    let node = Node::start(io, &["--auth-token-file", file.path().to_str().unwrap()]);
    assert_eq!(get(&node.admin, "/healthz").status, 200);
    assert_eq!(get(&node.admin, "/readyz").status, 200);
    let refused = get(&node.admin, "/metrics");
    assert_eq!(refused.status, 401);
    assert!(refused.head.contains("www-authenticate: Bearer"), "{refused:?}");
    for wrong in ["Bearer open sesam", "Bearer open sesame2", "Bearer", "open sesame", ""] {
        let header = format!("Authorization: {wrong}\r\n");
        assert_eq!(get_with(&node.admin, "/metrics", &header).status, 401, "{wrong:?}");
    }
    let header = "Authorization: Bearer open sesame\r\n";
    assert_eq!(get_with(&node.admin, "/metrics", header).status, 200);
}
