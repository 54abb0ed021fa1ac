//! Every operation through the client crate, on a node of two cores.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_client::{
    Arithmetic, Client, CountOptions, DeleteCondition, DeleteOutcome, Error, ExtendOutcome,
    GetOptions, Jitter, Remaining, SetCondition, SetOptions, SetOutcome, Status, TouchOutcome, Ttl,
    Version,
};

use crate::process::{Io, Node, block_on, eventually};

/// Runs a test's asynchronous body with a client of a new node of two cores.
fn with_client(io: Io, test: impl AsyncFnOnce(&Node, Client)) {
    let node = Node::start(io, &["--cores", "2"]);
    block_on(async {
        let client = node.client().await;
        assert_eq!(client.cores(), 2);
        test(&node, client).await;
    });
}

async fn bytes(client: &Client, key: &str) -> Option<Vec<u8>> {
    client.get(key).await.unwrap().map(|value| value.bytes.to_vec())
}

async fn ttl_ms(client: &Client, key: &str) -> u64 {
    match client.ttl(key).await.unwrap() {
        Some(Remaining::Ms(ms)) => ms,
        other => panic!("{key} has no expiry but {other:?}"),
    }
}

fn status(error: Error) -> Status {
    match error {
        Error::Refused { status, .. } => status,
        other => panic!("refused by no status: {other}"),
    }
}

on_both!(
    values_of_all_lengths_are_kept,
    sets_under_every_condition,
    versions_of_the_caller,
    expiry_in_every_form,
    deletes_under_every_condition,
    numbers,
    lengthening,
    many_keys,
    writes_without_a_reply,
    flush_stats_and_ping,
    futures_may_be_dropped_at_any_time,
);

fn values_of_all_lengths_are_kept(io: Io) {
    with_client(io, async |_, client| {
        let lengths = [0, 1, 15, 16, 255, 4096, 16_383, 16_384, 65_535, 65_536, 300_000, 1 << 20];
        for length in lengths {
            let value: Vec<u8> = (0..length).map(|index| (index * 7 + length) as u8).collect();
            let key = format!("length {length}");
            client.set(&key, &value).await.unwrap();
            let got = client.get(&key).await.unwrap().expect("it was set");
            assert!(got.bytes == value, "{length} bytes came back changed");
            assert_eq!((got.user_flags, got.version), (0, None));
        }
        // The longest key, the shortest, and one of any bytes.
        for key in [vec![b'k'; 16_384], Vec::new(), vec![0, 255, b'\r', b'\n', b'{', b'}']] {
            client.set(&key, b"here").await.unwrap();
            assert!(client.exists(&key).await.unwrap());
            assert_eq!(client.get(&key).await.unwrap().unwrap().bytes, &b"here"[..]);
        }
        assert!(matches!(
            client.set(vec![b'k'; 16_385], b"").await,
            Err(Error::KeyTooLong { bytes: 16_385, limit: 16_384 })
        ));
        assert!(matches!(
            client.set("key", vec![0; (1 << 20) + 1]).await,
            Err(Error::ValueTooLarge { .. })
        ));
        let flagged = SetOptions::new().user_flags(0xDEAD_BEEF);
        client.set_with("flagged", b"", &flagged).await.unwrap();
        assert_eq!(client.get("flagged").await.unwrap().unwrap().user_flags, 0xDEAD_BEEF);
    });
}

fn sets_under_every_condition(io: Io) {
    with_client(io, async |_, client| {
        let options = |condition| SetOptions::new().condition(condition);
        let stored = SetOutcome::Stored { version: None };
        let set = async |value: &str, options: SetOptions| {
            client.set_with("key", value, &options).await.unwrap()
        };

        let condition = options(SetCondition::Present);
        assert_eq!(set("a", condition).await, SetOutcome::ConditionFailed);
        assert_eq!(
            set("b", options(SetCondition::VersionIs(Version(1)))).await,
            SetOutcome::NotFound
        );
        assert_eq!(bytes(&client, "key").await, None);
        assert_eq!(set("c", options(SetCondition::Absent)).await, stored);
        assert_eq!(set("d", options(SetCondition::Absent)).await, SetOutcome::ConditionFailed);
        assert_eq!(bytes(&client, "key").await, Some(b"c".to_vec()));
        assert_eq!(set("e", options(SetCondition::Present)).await, stored);

        // Compare and set: with the version that a get told, once.
        let options_of_get = GetOptions::new().want_version();
        let seen = client.get_with("key", &options_of_get).await.unwrap().unwrap();
        let version = seen.version.expect("it was asked for");
        let compare = options(SetCondition::VersionIs(version)).want_version();
        let SetOutcome::Stored { version: Some(next) } = set("f", compare).await else {
            panic!("nobody wrote in between");
        };
        assert_ne!(next, version);
        assert_eq!(set("g", compare).await, SetOutcome::ConditionFailed);
        // A plain set drops the version, and the next one asked for is another.
        client.set("key", "h").await.unwrap();
        let compare = options(SetCondition::VersionIs(next));
        assert_eq!(set("i", compare).await, SetOutcome::ConditionFailed);
        assert_eq!(bytes(&client, "key").await, Some(b"h".to_vec()));
    });
}

fn versions_of_the_caller(io: Io) {
    with_client(io, async |_, client| {
        let newer =
            |version| SetOptions::new().condition(SetCondition::NewerThan(Version(version)));
        let stored = SetOutcome::Stored { version: None };
        assert_eq!(client.set_with("key", "5", &newer(5)).await.unwrap(), stored);
        assert_eq!(
            client.set_with("key", "4", &newer(4)).await.unwrap(),
            SetOutcome::ConditionFailed
        );
        assert_eq!(
            client.set_with("key", "5 again", &newer(5)).await.unwrap(),
            SetOutcome::ConditionFailed
        );
        assert_eq!(client.set_with("key", "7", &newer(7)).await.unwrap(), stored);
        assert_eq!(bytes(&client, "key").await, Some(b"7".to_vec()));

        let least = |version| GetOptions::new().least_version(Version(version));
        for (version, found) in [(6, true), (7, true), (8, false)] {
            let got = client.get_with("key", &least(version)).await.unwrap();
            assert_eq!(got.is_some(), found, "least version {version}");
        }
        // An entry without a caller's version counts as oldest.
        client.set("plain", "value").await.unwrap();
        assert_eq!(client.get_with("plain", &least(1)).await.unwrap(), None);
        assert_eq!(client.set_with("plain", "newer", &newer(1)).await.unwrap(), stored);
    });
}

fn expiry_in_every_form(io: Io) {
    with_client(io, async |_, client| {
        let after = |ms| Ttl::After { ms, jitter: Jitter::Exact };
        let set = async |key: &str, ttl| {
            client.set_with(key, "value", &SetOptions::new().ttl(ttl)).await.unwrap();
        };
        for (key, ttl) in [("default", Ttl::Default), ("never", Ttl::Never), ("keep", Ttl::Keep)] {
            set(key, ttl).await;
            assert_eq!(client.ttl(key).await.unwrap(), Some(Remaining::Never), "{key}");
        }
        assert_eq!(client.ttl("absent").await.unwrap(), None);

        set("key", after(1_000_000)).await;
        let first = ttl_ms(&client, "key").await;
        assert!((900_000..=1_000_000).contains(&first), "{first}");
        set("key", Ttl::Keep).await;
        assert!(ttl_ms(&client, "key").await <= first, "kept, and going down");
        assert_eq!(client.touch("key", after(5_000_000)).await.unwrap(), TouchOutcome::Touched);
        assert!(ttl_ms(&client, "key").await > 4_000_000);
        let value = client.get_and_touch("key", after(9_000_000)).await.unwrap().unwrap();
        assert_eq!(value.bytes, "value");
        assert!(ttl_ms(&client, "key").await > 8_000_000);
        assert_eq!(client.touch("key", Ttl::Never).await.unwrap(), TouchOutcome::Touched);
        assert_eq!(client.ttl("key").await.unwrap(), Some(Remaining::Never));
        // Times of more than 49 days do not fit 32 bits.
        client.touch("key", after(10_000_000_000)).await.unwrap();
        assert!(ttl_ms(&client, "key").await > 9_000_000_000);

        assert_eq!(client.touch("absent", after(5)).await.unwrap(), TouchOutcome::NotFound);
        assert_eq!(client.get_and_touch("absent", after(5)).await.unwrap(), None);
        set("key", after(0)).await;
        assert_eq!(bytes(&client, "key").await, None, "0 expires at once");
        set("short", after(30)).await;
        while client.exists("short").await.unwrap() {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.ttl("short").await.unwrap(), None);
    });
}

fn deletes_under_every_condition(io: Io) {
    with_client(io, async |_, client| {
        assert_eq!(client.delete("key").await.unwrap(), DeleteOutcome::NotFound);
        client.set("key", "value").await.unwrap();
        assert_eq!(client.delete("key").await.unwrap(), DeleteOutcome::Deleted);
        assert_eq!(bytes(&client, "key").await, None);

        let delete_if = async |condition: DeleteCondition<'_>| {
            client.delete_if("key", condition).await.unwrap()
        };
        assert_eq!(delete_if(DeleteCondition::ValueIs(b"v")).await, DeleteOutcome::NotFound);
        client.set("key", "value").await.unwrap();
        assert_eq!(delete_if(DeleteCondition::ValueIs(b"v")).await, DeleteOutcome::ConditionFailed);
        assert_eq!(delete_if(DeleteCondition::ValueIs(b"value")).await, DeleteOutcome::Deleted);

        let options = SetOptions::new().want_version();
        let SetOutcome::Stored { version: Some(version) } =
            client.set_with("key", "value", &options).await.unwrap()
        else {
            panic!("a version was asked for");
        };
        let other = DeleteCondition::VersionIs(Version(version.0 + 1));
        assert_eq!(delete_if(other).await, DeleteOutcome::ConditionFailed);
        let same = DeleteCondition::VersionIs(version);
        assert_eq!(delete_if(same).await, DeleteOutcome::Deleted);
        assert_eq!(delete_if(same).await, DeleteOutcome::NotFound);
    });
}

fn numbers(io: Io) {
    with_client(io, async |_, client| {
        let plain = CountOptions::new();
        assert_eq!(client.increment("count", 1, &plain).await.unwrap(), None);
        let initial = CountOptions::new().initial(40).want_version();
        let made = client.increment("count", 2, &initial).await.unwrap().unwrap();
        assert_eq!((made.signed(), made.version.is_some()), (40, true));
        assert_eq!(client.increment("count", 2, &initial).await.unwrap().unwrap().signed(), 42);
        assert_eq!(client.decrement("count", 50, &plain).await.unwrap().unwrap().signed(), -8);
        assert_eq!(bytes(&client, "count").await, Some(b"-8".to_vec()));

        client.set("count", i64::MAX.to_string()).await.unwrap();
        let error = client.increment("count", 1, &plain).await.unwrap_err();
        assert_eq!(status(error), Status::OutOfRange);
        let unsigned = CountOptions::new().arithmetic(Arithmetic::Unsigned64);
        let counted = client.increment("count", 1, &unsigned).await.unwrap().unwrap();
        assert_eq!(counted.unsigned(), 1 << 63);
        client.set("count", u64::MAX.to_string()).await.unwrap();
        let wrapped = client.increment("count", 3, &unsigned).await.unwrap().unwrap();
        assert_eq!(wrapped.unsigned(), 2);
        let stopped = client.decrement("count", 3, &unsigned).await.unwrap().unwrap();
        assert_eq!(stopped.unsigned(), 0);

        client.set("count", "forty").await.unwrap();
        let error = client.increment("count", 1, &plain).await.unwrap_err();
        assert_eq!(status(error), Status::NotANumber);
        assert_eq!(bytes(&client, "count").await, Some(b"forty".to_vec()), "nothing changed");

        let expiring =
            CountOptions::new().initial(1).ttl(Ttl::After { ms: 1_000_000, jitter: Jitter::Exact });
        client.increment("expiring", 1, &expiring).await.unwrap();
        client.increment("expiring", 1, &plain).await.unwrap();
        assert!(ttl_ms(&client, "expiring").await > 900_000, "counting keeps the expiry");
    });
}

fn lengthening(io: Io) {
    with_client(io, async |_, client| {
        assert_eq!(client.append("key", "end").await.unwrap(), ExtendOutcome::NotFound);
        assert_eq!(client.prepend("key", "start").await.unwrap(), ExtendOutcome::NotFound);
        let options = SetOptions::new()
            .user_flags(9)
            .ttl(Ttl::After { ms: 1_000_000, jitter: Jitter::Exact });
        client.set_with("key", "middle", &options).await.unwrap();
        assert_eq!(client.append("key", " end").await.unwrap(), ExtendOutcome::Extended);
        assert_eq!(client.prepend("key", "start ").await.unwrap(), ExtendOutcome::Extended);
        let value = client.get("key").await.unwrap().unwrap();
        assert_eq!((&value.bytes[..], value.user_flags), (&b"start middle end"[..], 9));
        assert!(ttl_ms(&client, "key").await > 900_000, "lengthening keeps the expiry");

        client.set("long", vec![b'x'; (1 << 20) - 3]).await.unwrap();
        assert_eq!(client.append("long", "yyy").await.unwrap(), ExtendOutcome::Extended);
        let error = client.append("long", "z").await.unwrap_err();
        assert_eq!(status(error), Status::ValueTooLarge);
        assert_eq!(bytes(&client, "long").await.unwrap().len(), 1 << 20);
    });
}

fn many_keys(io: Io) {
    with_client(io, async |_, client| {
        let keys: Vec<String> = (0..500).map(|index| format!("key-{index}")).collect();
        for key in keys.iter().step_by(2) {
            client.set(key, format!("value of {key}")).await.unwrap();
        }
        let values = client.get_many(&keys).await;
        for (index, (key, value)) in keys.iter().zip(values).enumerate() {
            let expected = (index % 2 == 0).then(|| format!("value of {key}").into_bytes());
            assert_eq!(value.unwrap().map(|value| value.bytes.to_vec()), expected, "{key}");
        }
        let twice = client.get_many(&["key-0", "key-1", "key-0"]).await;
        let found: Vec<bool> = twice.into_iter().map(|value| value.unwrap().is_some()).collect();
        assert_eq!(found, [true, false, true]);
        assert!(client.get_many::<&str>(&[]).await.is_empty());
    });
}

fn writes_without_a_reply(io: Io) {
    with_client(io, async |_, client| {
        let ttl = Ttl::After { ms: 1_000_000, jitter: Jitter::Exact };
        client.set_no_reply("key", "value", &SetOptions::new()).await.unwrap();
        // Requests on one key take effect in the order sent, so the next one tells.
        assert_eq!(bytes(&client, "key").await, Some(b"value".to_vec()));
        client.touch_no_reply("key", ttl).await.unwrap();
        assert!(ttl_ms(&client, "key").await > 900_000);
        client.delete_no_reply("key").await.unwrap();
        assert_eq!(bytes(&client, "key").await, None);
    });
}

fn flush_stats_and_ping(io: Io) {
    with_client(io, async |node, client| {
        for index in 0..100 {
            client.set(format!("key-{index}"), "value").await.unwrap();
        }
        let stats = client.stats().await.unwrap();
        let cores: BTreeSet<u16> = stats.iter().map(|core| core.core).collect();
        assert_eq!((stats.len(), cores), (2, BTreeSet::from([0, 1])));
        let sum = |name: &str| -> u64 {
            let of_core = |core: &corelane_client::CoreStats| -> u64 {
                let value = core.iter().find(|(other, _)| *other == name).expect("a counter").1;
                value.parse().expect("a number")
            };
            stats.iter().map(of_core).sum()
        };
        assert_eq!((sum("items"), sum("requests_set"), sum("forwarded_out")), (100, 100, 0));

        client.ping().await.unwrap();
        // A flush that is to come later leaves everything as it is.
        client.flush(Duration::from_secs(3_600)).await.unwrap();
        assert!(client.exists("key-0").await.unwrap());
        client.flush(Duration::from_millis(20)).await.unwrap();
        eventually("flushed", || node.counter("items").iter().sum::<u64>() == 0);
        client.set("key", "value").await.unwrap();
        client.flush(Duration::ZERO).await.unwrap();
        assert_eq!(bytes(&client, "key").await, None);
    });
}

/// Whatever becomes of the requests around it, each that is waited for gets its own reply.
fn futures_may_be_dropped_at_any_time(io: Io) {
    with_client(io, async |_, client| {
        let keys: Vec<String> = (0..64).map(|index| format!("key {index}")).collect();
        for key in &keys {
            client.set(key, key).await.unwrap();
        }
        for round in 0..300_usize {
            let mut kept = tokio::task::JoinSet::new();
            for (index, key) in keys.iter().enumerate() {
                let (client, key) = (client.clone(), key.clone());
                let dropped_after = (round * 7 + index * 13) % 5;
                kept.spawn(async move {
                    let got = client.get(&key);
                    if dropped_after == 4 {
                        assert_eq!(got.await.unwrap().unwrap().bytes, key);
                        return;
                    }
                    // Dropped before it is sent, after that, or when its reply is there.
                    tokio::select! {
                        biased;
                        () = yields(dropped_after) => {}
                        value = got => assert_eq!(value.unwrap().unwrap().bytes, key),
                    }
                });
            }
            while let Some(ended) = kept.join_next().await {
                ended.unwrap();
            }
        }
    });
}

async fn yields(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}
