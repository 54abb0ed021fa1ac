//! What is encoded is what is decoded, however the bytes arrive.

mod support;

use corelane_protocol::wire::*;
use corelane_protocol::*;
use proptest::prelude::*;
use support::{Parts, parts};

fn encoded_request(parts: &Parts) -> Vec<u8> {
    let (mut keys, mut bytes) = (Vec::new(), Vec::new());
    let request = parts.request(&mut keys);
    encode_request(&parts.request_head(&request), &request, &mut bytes).unwrap();
    bytes
}

fn encoded_reply(parts: &Parts) -> Vec<u8> {
    let (mut ranges, mut bytes) = (Vec::new(), Vec::new());
    encode_reply(&parts.reply_head(), &parts.reply(&mut ranges), &mut bytes);
    bytes
}

/// Feeds bytes in pieces to a reader that keeps what is incomplete, as a connection does.
/// `decode` gives the length of the frame at the front and a description of it, or nothing.
fn feed(
    bytes: &[u8],
    cuts: &[usize],
    decode: impl Fn(&[u8]) -> Option<(usize, String)>,
) -> Vec<String> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let (mut kept, mut fed, mut frames) = (Vec::new(), 0, Vec::new());
    for cut in cuts {
        kept.extend_from_slice(&bytes[fed..cut]);
        fed = cut;
        while let Some((consumed, frame)) = decode(&kept) {
            frames.push(frame);
            kept.drain(..consumed);
        }
    }
    assert!(kept.is_empty());
    frames
}

fn read_request(bytes: &[u8]) -> Option<(usize, String)> {
    match decode_request(bytes, &DecodeLimits::default()) {
        Decoded::Complete { frame, consumed } => Some((consumed, format!("{frame:?}"))),
        Decoded::Incomplete { .. } => None,
        other => panic!("{other:?}"),
    }
}

fn read_reply(bytes: &[u8]) -> Option<(usize, String)> {
    match decode_reply(bytes, FRAME_BYTES_MAX) {
        ReplyDecoded::Complete { frame, consumed } => Some((consumed, format!("{frame:?}"))),
        ReplyDecoded::Incomplete { .. } => None,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn requests(parts in parts()) {
        let mut keys = Vec::new();
        let request = parts.request(&mut keys);
        let head = parts.request_head(&request);
        let mut bytes = b"before".to_vec();
        encode_request(&head, &request, &mut bytes).unwrap();
        let bytes = &bytes[b"before".len()..];
        prop_assert_eq!(
            decode_request(bytes, &DecodeLimits::default()),
            Decoded::Complete { frame: RequestFrame { head, request }, consumed: bytes.len() }
        );
        prop_assert_eq!(peek_len(bytes), Some(bytes.len()));
    }

    #[test]
    fn replies(parts in parts()) {
        let mut ranges = Vec::new();
        let reply = parts.reply(&mut ranges);
        let head = parts.reply_head();
        let mut bytes = b"before".to_vec();
        encode_reply(&head, &reply, &mut bytes);
        let bytes = &bytes[b"before".len()..];
        prop_assert_eq!(
            decode_reply(bytes, bytes.len()),
            ReplyDecoded::Complete { frame: ReplyFrame { head, reply }, consumed: bytes.len() }
        );
        prop_assert_eq!(peek_len(bytes), Some(bytes.len()));
    }

    #[test]
    fn values_in_pieces_are_values(parts in parts(), piece in 1usize..64) {
        let version = parts.deadline.map(Version);
        let flags = parts.numbers[0] as u32;
        let head = parts.reply_head();
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let value = Value { bytes: &parts.value, user_flags: flags, version };
        encode_reply(&head, &Reply::Value(value), &mut whole);
        let length = parts.value.len();
        write_value(&head, flags, version, length, parts.value.chunks(piece), &mut pieces);
        prop_assert_eq!(&whole, &pieces);
        pieces.clear();
        write_value_head(&head, flags, version, length, &mut pieces);
        prop_assert_eq!(&whole[..whole.len() - length], &pieces);
    }

    #[test]
    fn every_prefix_waits(parts in parts()) {
        let bytes = encoded_request(&parts);
        for length in 0..bytes.len() {
            let needed = if length < limits::HEADER_BYTES { limits::HEADER_BYTES } else { bytes.len() };
            prop_assert_eq!(
                decode_request(&bytes[..length], &DecodeLimits::default()),
                Decoded::Incomplete { needed }
            );
        }
        let bytes = encoded_reply(&parts);
        for length in 0..bytes.len() {
            let needed = if length < limits::HEADER_BYTES { limits::HEADER_BYTES } else { bytes.len() };
            prop_assert_eq!(
                decode_reply(&bytes[..length], FRAME_BYTES_MAX),
                ReplyDecoded::Incomplete { needed }
            );
        }
    }

    #[test]
    fn every_split_gives_the_same_frames(
        all in proptest::collection::vec(parts(), 1..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes: Vec<u8> = all.iter().flat_map(encoded_request).collect();
        let whole = feed(&bytes, &[], read_request);
        prop_assert_eq!(whole.len(), all.len());
        prop_assert_eq!(&whole, &feed(&bytes, &cuts, read_request));
        let one_by_one: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&whole, &feed(&bytes, &one_by_one, read_request));

        let bytes: Vec<u8> = all.iter().flat_map(encoded_reply).collect();
        let whole = feed(&bytes, &[], read_reply);
        prop_assert_eq!(whole.len(), all.len());
        prop_assert_eq!(&whole, &feed(&bytes, &cuts, read_reply));
    }
}

fn check_refused(head: RequestHead, request: Request<'_>, error: EncodeError) {
    let mut out = b"kept".to_vec();
    assert_eq!(encode_request(&head, &request, &mut out), Err(error));
    assert_eq!(out, b"kept");
}

#[test]
fn what_has_no_encoding_leaves_no_trace() {
    let head = RequestHead::default();
    let long_key = vec![0; limits::KEY_BYTES_MAX + 1];
    check_refused(head, Request::Exists { key: &long_key }, EncodeError::KeyTooLong);
    let long_value = vec![0; limits::VALUE_BYTES_MAX + 1];
    let extend =
        Request::Extend { key: b"k", value: &long_value, side: Side::Append, absent: Absent::Miss };
    check_refused(head, extend, EncodeError::ValueTooLarge);
    let hello = Hello { version: 1, core: None, token: &[] };
    let token = Hello { token: &long_key[..limits::TOKEN_BYTES_MAX + 1], ..hello };
    check_refused(head, Request::Hello(token), EncodeError::TokenTooLong);
    let core = Hello { core: Some(u16::MAX), ..hello };
    check_refused(head, Request::Hello(core), EncodeError::ReservedCore);
    let ttl = Ttl::After { ms: TTL_MS_MAX + 1, jitter: Jitter::Exact };
    check_refused(
        head,
        Request::Touch { key: b"k", ttl, condition: ExpireCondition::Always },
        EncodeError::TtlTooLong,
    );
    let notice = RequestHead { id: RequestId(limits::NOTICE_ID), ..head };
    check_refused(notice, Request::Ping, EncodeError::ReservedId);
    let silent = RequestHead { answer: Answer::Never, ..head };
    check_refused(silent, Request::Exists { key: b"k" }, EncodeError::NoReplyToRead);
}

#[test]
fn keys_and_values_at_their_limits_pass() {
    let key = vec![b'k'; limits::KEY_BYTES_MAX];
    let value = vec![b'v'; limits::VALUE_BYTES_DEFAULT];
    let head = RequestHead { deadline: Some(MonotonicUs(1)), ..RequestHead::default() };
    let set = |value| {
        Request::Set(Set {
            key: &key,
            value,
            user_flags: 1,
            ttl: Ttl::Never,
            condition: SetCondition::NewerThan(Version(9)),
            old: OldValue::Omit,
        })
    };
    let mut bytes = Vec::new();
    encode_request(&head, &set(&value), &mut bytes).unwrap();
    let limits = DecodeLimits::default();
    assert!(matches!(decode_request(&bytes, &limits), Decoded::Complete { .. }));

    // One byte more is told from the header alone.
    let longer = vec![b'v'; limits::VALUE_BYTES_DEFAULT + 1];
    bytes.clear();
    encode_request(&head, &set(&longer), &mut bytes).unwrap();
    let Decoded::Rejected { refusal, frame_bytes, .. } = decode_request(&bytes[..16], &limits)
    else {
        panic!("the value is over the limit");
    };
    assert_eq!(refusal, Refusal::ValueTooLarge);
    assert_eq!(frame_bytes, bytes.len());
}
