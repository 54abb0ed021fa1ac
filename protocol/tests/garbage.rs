//! The fuzz entry points on bytes that a seeded generator makes: frames that are whole,
//! frames with a few bytes changed, cut, or repeated, and noise. The same seed gives the same
//! bytes; `CORELANE_FUZZ_ROUNDS` sets how many rounds there are.

mod support;

use corelane_protocol::wire::{
    DecodeLimits, FRAME_BYTES_MAX, REPLY_MAGIC, REQUEST_MAGIC, encode_reply, encode_request,
};
use corelane_protocol::{fuzz, limits::VALUE_BYTES_MAX};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// How many rounds a test runs; a round is one stream of up to four frames.
fn rounds() -> usize {
    std::env::var("CORELANE_FUZZ_ROUNDS")
        .map_or(100_000, |rounds| rounds.parse().expect("CORELANE_FUZZ_ROUNDS is a number"))
}

/// Well-formed frames to start from.
fn seeds(encode: impl Fn(&support::Parts) -> Vec<u8>) -> Vec<Vec<u8>> {
    let source = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), source);
    (0..500).map(|_| encode(&support::parts().new_tree(&mut runner).unwrap().current())).collect()
}

fn stream(random: &mut StdRng, seeds: &[Vec<u8>], magic: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(1..=4) {
        if random.random_ratio(1, 8) {
            let start = bytes.len();
            bytes.resize(start + random.random_range(0..64), 0);
            random.fill_bytes(&mut bytes[start..]);
            if let Some(first) = bytes.get_mut(start) {
                *first = magic;
            }
        } else {
            bytes.extend_from_slice(&seeds[random.random_range(0..seeds.len())]);
        }
    }
    for _ in 0..random.random_range(0..4) {
        if bytes.is_empty() {
            break;
        }
        // Half of all changes hit the first frame's header and options, where most
        // decisions are taken.
        let reach = if random.random() { bytes.len() } else { bytes.len().min(40) };
        let at = random.random_range(0..reach);
        match random.random_range(0..5) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.random()),
            _ => {
                bytes.remove(at);
            }
        }
    }
    bytes
}

#[test]
fn requests_keep_their_promises() {
    let seeds = seeds(|parts| {
        let (mut keys, mut bytes) = (Vec::new(), Vec::new());
        let request = parts.request(&mut keys);
        encode_request(&parts.request_head(&request), &request, &mut bytes).unwrap();
        bytes
    });
    let mut random = StdRng::seed_from_u64(0xC7);
    let tight = DecodeLimits {
        key_bytes_max: 8,
        value_bytes_max: 32,
        frame_bytes_max: 256,
        ..DecodeLimits::default()
    };
    let mut frames = 0;
    for round in 0..rounds() {
        let bytes = stream(&mut random, &seeds, REQUEST_MAGIC);
        let limits = match round % 4 {
            0 => tight,
            1 => DecodeLimits::BEFORE_HELLO,
            2 => DecodeLimits::agreed(100, VALUE_BYTES_MAX),
            _ => DecodeLimits::default(),
        };
        frames += fuzz::request(&bytes, &limits);
    }
    assert!(frames > rounds() / 2, "most streams must get past their first frame: {frames}");
}

#[test]
fn replies_keep_their_promises() {
    let seeds = seeds(|parts| {
        let (mut ranges, mut bytes) = (Vec::new(), Vec::new());
        encode_reply(&parts.reply_head(), &parts.reply(&mut ranges), &mut bytes);
        bytes
    });
    let mut random = StdRng::seed_from_u64(0xC8);
    let mut frames = 0;
    for round in 0..rounds() {
        let bytes = stream(&mut random, &seeds, REPLY_MAGIC);
        let body_bytes_max = if round % 4 == 0 { 64 } else { FRAME_BYTES_MAX };
        frames += fuzz::reply(&bytes, body_bytes_max);
    }
    assert!(frames > rounds() / 2, "most streams must get past their first frame: {frames}");
}
