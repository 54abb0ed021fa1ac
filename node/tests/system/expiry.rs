//! Default times to live and their jitter, as clients observe them.

use std::time::Instant;

use corelane_client::{Client, Jitter, Remaining, SetOptions, Ttl};

use crate::process::{Io, Node, block_on};

/// Entries that a distribution is judged by.
const SAMPLES: usize = 200;

/// Sets many entries and reads what remains of them, in milliseconds. What passes meanwhile
/// is given back, so that the times are at most that much too long.
async fn remaining_ms(client: &Client, ttl: Ttl) -> (Vec<u64>, u64) {
    let start = Instant::now();
    let mut remaining = Vec::new();
    for index in 0..SAMPLES {
        let key = format!("key {index}");
        client.set_with(&key, "value", &SetOptions::new().ttl(ttl)).await.unwrap();
        match client.ttl(&key).await.unwrap() {
            Some(Remaining::Ms(ms)) => remaining.push(ms),
            other => panic!("no expiry but {other:?}"),
        }
    }
    (remaining, start.elapsed().as_millis() as u64 + 1)
}

async fn assert_exact(client: &Client, ttl: Ttl, ms: u64) {
    let (remaining, passed) = remaining_ms(client, ttl).await;
    let range = ms - passed.min(ms)..=ms;
    assert!(remaining.iter().all(|one| range.contains(one)), "{ms}: {remaining:?}");
}

/// All within `percent` of `ms` either way, and some near each end.
async fn assert_spread(client: &Client, ttl: Ttl, ms: u64, percent: u64) {
    let (remaining, passed) = remaining_ms(client, ttl).await;
    let width = ms * percent / 100;
    let range = (ms - width).saturating_sub(passed)..=ms + width;
    assert!(remaining.iter().all(|one| range.contains(one)), "{ms} ± {percent} %: {remaining:?}");
    // With times spread evenly, the chance that one of these does not hold is 2 × 0.75^200.
    assert!(remaining.iter().any(|one| *one < ms - width / 2), "{remaining:?}");
    assert!(remaining.iter().any(|one| *one > ms + width / 2), "{remaining:?}");
}

const HOUR_MS: u64 = 3_600_000;

fn after(ms: u64, jitter: Jitter) -> Ttl {
    Ttl::After { ms, jitter }
}

#[test]
fn writes_without_a_time_to_live_get_the_default() {
    let node = Node::start(Io::Epoll, &["--default-ttl", "1h"]);
    block_on(async {
        let client = node.client().await;
        assert_exact(&client, Ttl::Default, HOUR_MS).await;
        assert_exact(&client, after(HOUR_MS / 2, Jitter::Exact), HOUR_MS / 2).await;
        let never = SetOptions::new().ttl(Ttl::Never);
        client.set_with("never", "value", &never).await.unwrap();
        assert_eq!(client.ttl("never").await.unwrap(), Some(Remaining::Never));
    });
}

#[test]
fn jitter_spreads_where_it_is_asked_for() {
    let node = Node::start(Io::Epoll, &["--default-ttl", "1h"]);
    block_on(async {
        let client = node.client().await;
        assert_spread(&client, after(HOUR_MS, Jitter::Spread), HOUR_MS, 10).await;
        assert_exact(&client, after(HOUR_MS, Jitter::Exact), HOUR_MS).await;
        assert_exact(&client, Ttl::Default, HOUR_MS).await;
    });
}

#[test]
fn jitter_can_spread_everything_or_nothing() {
    let jitter = ["--default-ttl", "1h", "--ttl-jitter", "always", "--ttl-jitter-percent", "30"];
    let always = Node::start(Io::Epoll, &jitter);
    let off = Node::start(Io::Epoll, &["--default-ttl", "1h", "--ttl-jitter", "off"]);
    block_on(async {
        let client = always.client().await;
        assert_spread(&client, after(2 * HOUR_MS, Jitter::Exact), 2 * HOUR_MS, 30).await;
        assert_spread(&client, Ttl::Default, HOUR_MS, 30).await;
        let client = off.client().await;
        assert_exact(&client, after(HOUR_MS, Jitter::Spread), HOUR_MS).await;
    });
}
