//! Futures that are dropped at random moments, on connections whose replies come in any
//! order: whoever still waits gets the reply to what they asked.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use corelane_client::{Client, SetOptions};
use corelane_protocol::{Answer, Reply, Request};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::fake_node::{FakeNode, Peer, value};

const CORES: u16 = 2;
const TASKS: u64 = 24;
const REQUESTS: u32 = 120;

/// Answers gets with their own key, in random order and random groups.
async fn answer_at_random(mut peer: Peer, mut random: StdRng) {
    let mut waiting = Vec::new();
    loop {
        // Either one more request, or, when none comes or enough wait, some replies.
        let wanted = waiting.len() < random.random_range(1..40);
        let next = match wanted {
            true => tokio::time::timeout(Duration::from_millis(1), peer.request()).await,
            false => Ok(None),
        };
        match next {
            Ok(Some(frame)) => {
                waiting.push(frame);
                continue;
            }
            Ok(None) if wanted => return,
            Ok(None) | Err(_) => {}
        }
        waiting.shuffle(&mut random);
        let keep = random.random_range(0..=waiting.len() / 2);
        for frame in waiting.drain(keep..) {
            match frame.get().request {
                Request::Get { key, .. } => peer.reply(frame.id(), &value(key)).await,
                Request::MultiGet(keys) => {
                    let mut parts: Vec<_> = keys.iter().enumerate().collect();
                    parts.shuffle(&mut random);
                    for (part, key) in parts {
                        peer.reply_part(frame.id(), part as u16, &value(key)).await;
                    }
                    peer.reply(frame.id(), &Reply::End).await;
                }
                Request::Set(_) if frame.get().head.answer == Answer::Never => {}
                other => panic!("nobody sent {other:?}"),
            }
        }
    }
}

/// Polls a future so often at most, then drops it.
async fn for_some_polls<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        match future.as_mut().poll(context) {
            Poll::Ready(output) => return Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => return Poll::Ready(None),
            Poll::Pending => {}
        }
        left -= 1;
        // Whatever wakes this future costs it one of its polls, and so does waiting.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

async fn ask_at_random(client: Client, task: u64, mut random: StdRng, answered: Arc<AtomicU64>) {
    for number in 0..REQUESTS {
        let key = format!("{task}/{number}");
        let polls = match random.random_range(0..4) {
            0 => random.random_range(0..20),
            1 => random.random_range(0..2_000),
            _ => u32::MAX,
        };
        if random.random_bool(0.1) {
            client.set_no_reply(&key, "ignored", &SetOptions::new()).await.unwrap();
        }
        if random.random_bool(0.2) {
            let keys: Vec<_> = (0..5).map(|part| format!("{key}/{part}")).collect();
            let Some(results) = for_some_polls(client.get_many(&keys), polls).await else {
                continue;
            };
            for (key, result) in keys.iter().zip(results) {
                assert_eq!(result.unwrap().unwrap().bytes, *key);
            }
        } else {
            let Some(result) = for_some_polls(client.get(&key), polls).await else { continue };
            assert_eq!(result.unwrap().unwrap().bytes, key);
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reply_reaches_who_asked_for_it() {
    for seed in 0..4 {
        let mut node = FakeNode::start(CORES).await;
        let client = Client::builder()
            .address(&node.address)
            .timeout(Duration::from_secs(60))
            .requests_in_flight_max(16)
            .connect()
            .await
            .unwrap();
        let mut serving = Vec::new();
        for peer in node.peers(CORES).await {
            let random = StdRng::seed_from_u64(seed * 1_000 + u64::from(peer.core));
            serving.push(tokio::spawn(answer_at_random(peer, random)));
        }
        let answered = Arc::new(AtomicU64::new(0));
        let mut asking = Vec::new();
        for task in 0..TASKS {
            let random = StdRng::seed_from_u64(seed * 1_000 + 100 + task);
            let asked = ask_at_random(client.clone(), task, random, Arc::clone(&answered));
            asking.push(tokio::spawn(asked));
        }
        for task in asking {
            task.await.unwrap();
        }
        // Half of the futures were never dropped, so their requests were all answered.
        let answered = answered.load(Ordering::Relaxed);
        assert!(answered >= TASKS * u64::from(REQUESTS) / 3, "seed {seed}: {answered} answered");
        drop(client);
        for task in serving {
            task.await.unwrap();
        }
    }
}
