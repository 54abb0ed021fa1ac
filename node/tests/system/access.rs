//! Who may connect, and where.

use corelane_client::{Client, ConnectFailure};
use corelane_protocol::{Hello, Request, Status};

use crate::process::{Io, Node, block_on, corelane, run, serve};
use crate::wire::{Got, What, Wire, frame, frame_without_answer, get, hello, hello_frame, set};

const TOKEN: &str = "open sesame";

fn token_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    file
}

fn with_token(token: &[u8]) -> Hello<'_> {
    Hello { token, ..hello() }
}

on_both!(
    nothing_is_answered_before_the_token,
    a_client_proves_its_token,
    a_hello_without_a_token_does_not_stay_for_ever,
    every_kind_of_address_is_listened_on,
);

fn nothing_is_answered_before_the_token(io: Io) {
    let file = token_file();
    let arguments = ["--cores", "2", "--auth-token-file", file.path().to_str().unwrap()];
    let node = Node::start(io, &arguments).with_token(TOKEN);
    let mut inside = node.connect();
    inside.send(&hello_frame(&with_token(TOKEN.as_bytes())));
    assert!(matches!(inside.next().what, What::Welcome { .. }));
    inside.assert_served();

    let unauthorized = |id| Got { id, part: None, what: What::Failed(Status::Unauthorized) };
    let check = |bytes: &[u8], expected: Got| {
        let mut wire = node.connect();
        wire.send(bytes);
        wire.assert_ends_with(&[expected]);
    };
    let served = frame(7, &get(b"served"));
    for wrong in [&b""[..], b"open", b"open sesamf", b"open sesame\n", &[b'x'; 1024]] {
        check(&[hello_frame(&with_token(wrong)), served.clone()].concat(), unauthorized(0));
        // Wanting to be elsewhere is no way around it.
        let elsewhere = Hello { core: Some(1), ..with_token(wrong) };
        check(&[hello_frame(&elsewhere), served.clone()].concat(), unauthorized(0));
        let nowhere = Hello { core: Some(9), ..with_token(wrong) };
        check(&hello_frame(&nowhere), unauthorized(0));
    }
    for request in [get(b"served"), set(b"served", b"no"), Request::Ping, Request::Stats] {
        check(&frame(7, &request), unauthorized(7));
    }
    check(&frame(7, &Request::Flush { delay_ms: 0 }), unauthorized(7));
    // Frames of more than 16 KiB are not waited for.
    let long = frame(7, &set(b"served", &vec![0; 16 << 10]));
    check(&long[..100], Got { id: 7, part: None, what: What::Failed(Status::FrameTooLong) });
    // A write that wants no answer has no effect either.
    let mut wire = node.connect();
    wire.send(&frame_without_answer(7, &set(b"served", b"no")));
    wire.rest();
    assert_eq!(inside.ask(&get(b"served")), What::Value(b"yes".to_vec()));
    node.until_counter("unauthorized", |closed| closed >= 20);
}

fn a_client_proves_its_token(io: Io) {
    let file = token_file();
    let arguments = ["--cores", "2", "--auth-token-file", file.path().to_str().unwrap()];
    let node = Node::start(io, &arguments);
    block_on(async {
        let builder = || Client::builder().address(node.address());
        let client = builder().token(TOKEN).connect().await.unwrap();
        client.set("key", "value").await.unwrap();
        assert_eq!(client.get("key").await.unwrap().unwrap().bytes, "value");
        for wrong in ["", "open sesamf"] {
            let refused = builder().token(wrong).connect().await.expect_err("a wrong token");
            assert!(matches!(refused.reason, ConnectFailure::Unauthorized), "{refused}");
        }
        client.ping().await.unwrap();
    });
    assert!(!node.log().contains(TOKEN));
}

fn a_hello_without_a_token_does_not_stay_for_ever(io: Io) {
    let file = token_file();
    let token = ["--auth-token-file", file.path().to_str().unwrap(), "--idle-timeout", "300ms"];
    let node = Node::start(io, &token);
    let mut inside = node.connect();
    inside.send(&hello_frame(&with_token(TOKEN.as_bytes())));
    assert!(matches!(inside.next().what, What::Welcome { .. }));
    for bytes in [&b""[..], &hello_frame(&with_token(TOKEN.as_bytes()))[..20]] {
        let mut wire = node.connect();
        wire.send(bytes);
        wire.assert_ends_with(&[Got::notice(Status::IdleTooLong)]);
    }
    inside.assert_served();
}

fn every_kind_of_address_is_listened_on(io: Io) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("corelane.sock");
    let unix = format!("unix:{}", path.display());
    let mut arguments = vec!["--cores", "2", "--listen", "127.0.0.1:0", "--listen", &unix];
    // A host may have no IPv6.
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    if has_ipv6 {
        arguments.extend(["--listen", "[::1]:0"]);
    }
    arguments.extend(["--listen", "127.0.0.2:0"]);
    let node = Node::start(io, &arguments);
    assert_eq!(node.addresses.len(), if has_ipv6 { 4 } else { 3 });
    assert_eq!(node.addresses[1], unix);
    if has_ipv6 {
        assert!(node.addresses[2].starts_with("[::1]:"), "{:?}", node.addresses);
    }
    for address in &node.addresses {
        for core in 0..2 {
            Wire::on_core(address, core).assert_served();
        }
        block_on(async {
            let client = Client::connect(address).await.unwrap();
            client.set("key", address).await.unwrap();
            assert_eq!(client.get("key").await.unwrap().unwrap().bytes, *address);
        });
    }
    // The socket's file that a node leaves is no address in use.
    node.signal(rustix::process::Signal::TERM);
    assert_eq!(node.ended().code(), Some(0));
    Node::start(io, &["--listen", &unix]).assert_serves();
}

/// Loopback alone is safe without a token.
#[test]
fn other_machines_are_kept_out_without_a_token() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let ended = run(serve(Io::Epoll, &["--listen", address]));
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        let message = format!("--listen {address} can be reached from other machines");
        assert!(ended.stderr.contains(&message), "{ended:?}");
        assert!(ended.stderr.contains("--auth-token-file"), "{ended:?}");
        assert!(ended.stderr.contains("--insecure"), "{ended:?}");
        for setting in ["--admin", "--http"] {
            let ended = run(serve(Io::Epoll, &[setting, address]));
            assert_eq!(ended.code(), Some(2), "{ended:?}");
            let message = format!("{setting} {address} can be reached");
            assert!(ended.stderr.contains(&message), "{ended:?}");
        }
    }
    let file = token_file();
    let path = file.path().to_str().unwrap();
    // What would be listened on is only printed, so that nothing of a test can be reached.
    for allowed in [&["--insecure"][..], &["--auth-token-file", path]] {
        let command = corelane(&[&["config", "--listen", "0.0.0.0:0"][..], allowed].concat());
        assert_eq!(run(command).code(), Some(0), "{allowed:?}");
    }
}
