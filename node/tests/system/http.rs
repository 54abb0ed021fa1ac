//! The cache over HTTP, asked by curl.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use corelane_protocol::{Request, Status};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::{Io, Node, run, serve};
use crate::wire::{self, Got, What, frame};

/// An answer to curl.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// By name in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn tag(&self) -> &str {
        &self.headers["etag"]
    }
}

/// Runs curl on a path of a node's HTTP port.
fn curl(node: &Node, path: &str, arguments: &[&str]) -> Answer {
    let directory = tempfile::tempdir().unwrap();
    let (head, body) = (directory.path().join("head"), directory.path().join("body"));
    let status = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--path-as-is", "--dump-header"])
        .arg(&head)
        .arg("--output")
        .arg(&body)
        .args(arguments)
        .arg(format!("http://{}{path}", node.ready["http"]))
        .status()
        .expect("curl is installed");
    assert!(status.success(), "{path} {arguments:?}");
    let text = fs::read_to_string(&head).unwrap();
    // A "100 Continue" may have come before.
    let head = text.trim_end().rsplit("\r\n\r\n").next().unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Answer { status, headers, body: fs::read(&body).unwrap_or_default() }
}

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];
const OCTETS: [&str; 2] = ["-H", "Content-Type: application/octet-stream"];
const AS_OCTETS: [&str; 2] = ["-H", "Accept: application/octet-stream"];

fn put(node: &Node, path: &str, body: &str, more: &[&str]) -> Answer {
    curl(node, path, &[&["-X", "PUT", "-d", body][..], more].concat())
}

on_both!(
    entries_are_stored_read_and_deleted,
    bytes_travel_as_they_are,
    versions_are_tags_that_conditions_name,
    several_entries_are_one_object,
    what_is_wrong_has_a_status_and_words,
    a_token_is_needed_where_the_node_has_one,
    without_a_token_the_node_is_asked_by_names_of_its_own,
);

fn entries_are_stored_read_and_deleted(io: Io) {
    let node = Node::start(io, &["--cores", "3", "--memory", "256MiB"]);
    for key in ["a", "b", "c", "user/1", "user%2F2", "%20%22"] {
        let path = format!("/cache/{key}");
        let missing = curl(&node, &path, &[]);
        assert_eq!(missing.status, 404);
        assert_eq!(missing.json(), json!({"error": "there is no such entry"}));

        let stored = put(&node, &path, r#"{"value": "v\u00e4lue"}"#, &JSON);
        assert_eq!((stored.status, stored.json()), (201, json!({"status": "stored"})));
        let found = curl(&node, &path, &[]);
        let expected = json!({"value": "välue", "ttl_remaining_ms": null});
        assert_eq!((found.status, found.json()), (200, expected));
        assert_eq!(curl(&node, &path, &["--head"]).status, 200);

        let deleted = curl(&node, &path, &["-X", "DELETE"]);
        let expected = json!({"status": "deleted", "deleted": true});
        assert_eq!((deleted.status, deleted.json()), (200, expected));
        let deleted = curl(&node, &path, &["-X", "DELETE"]);
        let expected = json!({"status": "deleted", "deleted": false});
        assert_eq!((deleted.status, deleted.json()), (200, expected));
    }

    let post = ["-X", "POST", "-d", r#"{"value": "1", "ttlSeconds": 100}"#];
    assert_eq!(curl(&node, "/cache/k", &[&post[..], &JSON].concat()).status, 201);
    let remaining = |path| curl(&node, path, &[]).json()["ttl_remaining_ms"].as_u64().unwrap();
    assert!((1..=100_000).contains(&remaining("/cache/k")));
    // What curl sends by default is JSON, too.
    assert_eq!(put(&node, "/cache/k", r#"{"value": "1", "ttl_ms": 5000}"#, &[]).status, 201);
    assert!((1..=5_000).contains(&remaining("/cache/k")));

    // It is the same cache that others see.
    let mut wire = node.connect();
    assert_eq!(wire.ask(&wire::set(b"other", b"seen")), What::Done);
    assert_eq!(curl(&node, "/cache/other", &[]).json()["value"], "seen");
    put(&node, "/cache/mine", r#"{"value": "too"}"#, &JSON);
    assert_eq!(wire.ask(&wire::get(b"mine")), What::Value(b"too".to_vec()));
}

fn bytes_travel_as_they_are(io: Io) {
    let node = Node::start(io, &[]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bytes");
    for length in [0, 1, 100, 70_000, 1 << 20] {
        let bytes: Vec<u8> = (0..length).map(|n: u32| (n % 251 * n % 251) as u8).collect();
        fs::write(&file, &bytes).unwrap();
        let data = format!("@{}", file.display());
        let arguments = ["-X", "PUT", "--data-binary", &data];
        let stored = curl(&node, "/cache/%ff%00?ttl_ms=60000", &[&arguments[..], &OCTETS].concat());
        assert_eq!(stored.status, 201, "{length}");
        let found = curl(&node, "/cache/%FF%00", &AS_OCTETS);
        assert_eq!(found.status, 200);
        assert_eq!(found.headers["content-type"], "application/octet-stream");
        assert_eq!(found.headers["content-length"], length.to_string());
        let ttl: u64 = found.headers["corelane-ttl-remaining-ms"].parse().unwrap();
        assert!((1..=60_000).contains(&ttl), "{ttl}");
        assert!(found.body == bytes, "{length} bytes");
    }
    // They are no text.
    let refused = curl(&node, "/cache/%ff%00", &[]);
    assert_eq!(refused.status, 406, "{refused:?}");

    let too_long = vec![b'x'; (1 << 20) + 1];
    fs::write(&file, &too_long).unwrap();
    let data = format!("@{}", file.display());
    for chunked in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
        let arguments = [&["-X", "PUT", "--data-binary", &data][..], &OCTETS, chunked].concat();
        assert_eq!(curl(&node, "/cache/k", &arguments).status, 413);
    }
    let text = format!(r#"{{"value": "{}"}}"#, "x".repeat((1 << 20) + 1));
    fs::write(&file, text).unwrap();
    let arguments = [&["-X", "PUT", "--data-binary", &data][..], &JSON].concat();
    assert_eq!(curl(&node, "/cache/k", &arguments).status, 413);
    assert_eq!(curl(&node, "/cache/k", &[]).status, 404);
}

fn versions_are_tags_that_conditions_name(io: Io) {
    let node = Node::start(io, &["--cores", "2", "--memory", "128MiB"]);
    let write = |value: &str, more: &[&str]| {
        put(&node, "/cache/k", &json!({ "value": value }).to_string(), more)
    };
    let header = |name: &str, tag: &str| format!("{name}: {tag}");

    assert_eq!(write("1", &["-H", "If-Match: *"]).status, 412);
    let first = write("1", &["-H", "If-None-Match: *"]);
    assert_eq!(first.status, 201);
    assert_eq!(write("2", &["-H", "If-None-Match: *"]).status, 412);
    let found = curl(&node, "/cache/k", &[]);
    assert_eq!((found.tag(), found.json()["value"].as_str()), (first.tag(), Some("1")));
    assert_eq!(found.headers["vary"], "accept");

    let unchanged = curl(&node, "/cache/k", &["-H", &header("If-None-Match", first.tag())]);
    assert_eq!((unchanged.status, unchanged.body.as_slice()), (304, &b""[..]));
    assert_eq!(unchanged.tag(), first.tag());
    let both = header("If-None-Match", &format!("\"0\", W/{}", first.tag()));
    assert_eq!(curl(&node, "/cache/k", &["-H", &both]).status, 304);

    let second = write("2", &["-H", &header("If-Match", first.tag())]);
    assert_eq!(second.status, 201);
    assert_ne!(second.tag(), first.tag());
    assert_eq!(write("3", &["-H", &header("If-Match", first.tag())]).status, 412);
    assert_eq!(
        write("3", &["-H", &header("If-Match", &format!("W/{}", second.tag()))]).status,
        412
    );
    let changed = curl(&node, "/cache/k", &["-H", &header("If-None-Match", first.tag())]);
    assert_eq!((changed.status, changed.json()["value"].as_str()), (200, Some("2")));
    assert_eq!(curl(&node, "/cache/k", &["-H", &header("If-Match", first.tag())]).status, 412);
    assert_eq!(curl(&node, "/cache/none", &["-H", "If-Match: *"]).status, 412);

    let delete = |condition: &str| curl(&node, "/cache/k", &["-X", "DELETE", "-H", condition]);
    assert_eq!(delete(&header("If-Match", first.tag())).status, 412);
    assert_eq!(delete(&header("If-None-Match", "*")).status, 412);
    assert_eq!(delete(&header("If-Match", second.tag())).json()["deleted"], true);
    assert_eq!(delete("If-Match: *").status, 412);
    assert_eq!(delete(&header("If-None-Match", "*")).json()["deleted"], false);
    assert_eq!(write("1", &["-H", "If-Match: nonsense"]).status, 400);
}

fn several_entries_are_one_object(io: Io) {
    let node = Node::start(io, &["--cores", "3", "--memory", "256MiB"]);
    let mut expected = serde_json::Map::new();
    for number in 0..100 {
        let key = format!("key,{number}");
        if number % 3 > 0 {
            let body = json!({ "value": number.to_string() }).to_string();
            put(&node, &format!("/cache/{key}"), &body, &JSON);
            expected.insert(key, number.to_string().into());
        } else {
            expected.insert(key, Value::Null);
        }
    }
    let keys: Vec<String> = expected.keys().map(|key| key.replace(',', "%2C")).collect();
    let found = curl(&node, &format!("/cache?keys={}", keys.join(",")), &[]);
    assert_eq!((found.status, found.json()), (200, Value::Object(expected)));
    let once = curl(&node, "/cache?keys=no,no,no+", &[]).json();
    assert_eq!(once, json!({"no": null, "no ": null}));

    for (query, words) in [
        ("", "give keys=a,b,c in the query"),
        ("?keys=", "give keys=a,b,c in the query"),
        ("?keys=%ff", "keys of a list must be UTF-8"),
        ("?keys=%", "a % must be followed by two hexadecimal digits"),
    ] {
        let refused = curl(&node, &format!("/cache{query}"), &[]);
        assert_eq!((refused.status, refused.json()), (400, json!({ "error": words })));
    }
    let many = vec!["k"; 1_025].join(",");
    assert_eq!(curl(&node, &format!("/cache?keys={many}"), &[]).status, 400);

    // Together they may be as long as one value.
    let text = json!({ "value": "x".repeat(400_000) }).to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    fs::write(&file, text).unwrap();
    for key in ["l1", "l2", "l3"] {
        let data = format!("@{}", file.display());
        let arguments = [&["-X", "PUT", "--data-binary", &data][..], &JSON].concat();
        assert_eq!(curl(&node, &format!("/cache/{key}"), &arguments).status, 201);
    }
    assert_eq!(curl(&node, "/cache?keys=l1,l2", &[]).status, 200);
    assert_eq!(curl(&node, "/cache?keys=l1,l2,l3", &[]).status, 400);
}

fn what_is_wrong_has_a_status_and_words(io: Io) {
    let node = Node::start(io, &["--policy", "noeviction"]);
    assert_eq!(curl(&node, "/", &[]).status, 404);
    assert_eq!(curl(&node, "/cache/", &[]).status, 404);
    assert_eq!(curl(&node, "/cache/%4", &[]).status, 400);
    let long = format!("/cache/{}", "k".repeat(16_385));
    assert_eq!(curl(&node, &long, &[]).status, 414);
    let longest = format!("/cache/{}", "%6b".repeat(16_384));
    assert_eq!(put(&node, &longest, r#"{"value": ""}"#, &JSON).status, 201);
    let refused = curl(&node, "/cache/k", &["-X", "PATCH"]);
    assert_eq!(
        (refused.status, refused.headers["allow"].as_str()),
        (405, "GET,HEAD,PUT,POST,DELETE")
    );

    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"value": 1}"#,
        r#"{"value": "1", "x": 1}"#,
        r#"{"value": "1", "ttl_ms": -1}"#,
        r#"{"value": "1", "ttl_ms": 1, "ttlSeconds": 1}"#,
        r#"{"value": "1", "ttlSeconds": 18446744073709551615}"#,
    ] {
        assert_eq!(put(&node, "/cache/k", body, &JSON).status, 400, "{body}");
    }
    assert_eq!(put(&node, "/cache/k?ttl_ms=x", "", &OCTETS).status, 400);
    // A web page could have a browser send these to a node on its user's machine.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let kind = format!("Content-Type: {kind}");
        let arguments = ["-X", "POST", "-d", r#"{"value": "1"}"#, "-H", &kind];
        assert_eq!(curl(&node, "/cache/k", &arguments).status, 415, "{kind}");
    }
    assert_eq!(curl(&node, "/cache/k", &[]).status, 404);

    // The memory is full at some point.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    let data = format!("@{}", file.display());
    let arguments = [&["-X", "PUT", "--data-binary", &data][..], &OCTETS].concat();
    let full = (0..64)
        .map(|number| curl(&node, &format!("/cache/{number}"), &arguments))
        .find(|answer| answer.status != 201);
    assert_eq!(full.expect("64 MiB do not fit").status, 507);

    // A node that drains serves nobody new.
    let mut wire = node.connect();
    wire.assert_served();
    let whole = frame(1, &wire::get(b"served"));
    wire.send(&whole[..10]);
    node.until_counter("bytes_received", |bytes| bytes > 10);
    node.signal(Signal::TERM);
    assert_eq!(wire.next(), Got::notice(Status::GoingAway));
    let refused = curl(&node, "/cache/k", &[]);
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    drop(wire);
    assert_eq!(node.ended().code(), Some(0));
}

fn a_token_is_needed_where_the_node_has_one(io: Io) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "open sesame").unwrap();
    let node = Node::start(io, &["--auth-token-file", file.path().to_str().unwrap()]);
    for path in ["/cache/k", "/cache?keys=k"] {
        for wrong in ["Bearer open sesam", "Basic b3Blbg==", ""] {
            let refused = curl(&node, path, &["-H", &format!("Authorization: {wrong}")]);
            assert_eq!(
                (refused.status, refused.headers["www-authenticate"].as_str()),
                (401, "Bearer")
            );
        }
    }
    let token = ["-H", "Authorization: Bearer open sesame"];
    assert_eq!(curl(&node, "/cache/k", &token).status, 404);
    assert_eq!(curl(&node, "/openapi.json", &[]).status, 200);
}

fn without_a_token_the_node_is_asked_by_names_of_its_own(io: Io) {
    let node = Node::start(io, &["--node-name", "cache-1"]);
    let named = |path: &str, host: &str| curl(&node, path, &["-H", &format!("Host: {host}")]);
    for host in ["localhost:7402", "[::1]", "cache-1"] {
        assert_eq!(named("/cache/k", host).status, 404, "{host}");
    }
    for path in ["/cache/k", "/cache?keys=k"] {
        let refused = named(path, "rebound.example.com:7402");
        assert_eq!(refused.status, 421);
        assert!(refused.json()["error"].is_string());
    }
}

/// Every method that a path has, and no other.
#[test]
fn the_description_names_what_is_served() {
    let node = Node::start(Io::Epoll, &[]);
    let description = curl(&node, "/openapi.json", &[]).json();
    let paths = description["paths"].as_object().unwrap();
    let names: Vec<&String> = paths.keys().collect();
    assert_eq!(names, ["/cache", "/cache/{key}", "/openapi.json"]);
    for (path, operations) in paths {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"] {
            let is_described = operations.get(method.to_ascii_lowercase()).is_some();
            let answer = curl(&node, &path.replace("{key}", "k"), &["-X", method, "-d", ""]);
            assert_eq!(answer.status != 405, is_described, "{method} {path}");
            let operation = &operations[method.to_ascii_lowercase()];
            if is_described {
                let status = answer.status.to_string();
                assert!(operation["responses"].get(&status).is_some(), "{method} {path} {status}");
            }
        }
    }
    // What is referred to is there.
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(description.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_port_can_be_turned_off() {
    let node = Node::start(Io::Epoll, &["--http", "none"]);
    assert_eq!(node.ready["http"], "none");
    node.assert_serves();
    let ended = run(serve(Io::Epoll, &["--http", &node.admin]));
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let message = format!("cannot serve the HTTP port on {}: ", node.admin);
    assert!(ended.stderr.contains(&message), "{ended:?}");
    let same = "127.0.0.1:7499";
    let ended = run(serve(Io::Epoll, &["--http", same, "--admin", same]));
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("is given twice"), "{ended:?}");
}

/// The core that is asked last flushes what all of them have.
#[test]
fn requests_reach_every_core() {
    let node = Node::start(Io::Epoll, &["--cores", "4", "--memory", "256MiB"]);
    for number in 0..40 {
        assert_eq!(put(&node, &format!("/cache/{number}"), r#"{"value": "x"}"#, &JSON).status, 201);
    }
    node.until_counter("items", |items| items == 40);
    assert!(node.counter("items").iter().all(|items| *items > 0));
    assert_eq!(node.connect().ask(&Request::Flush { delay_ms: 0 }), What::Done);
    assert_eq!(curl(&node, "/cache/1", &[]).status, 404);
}
