//! What must hold for any bytes whatever, as functions that a fuzzer and the seeded tests
//! call alike. They panic where the codec breaks a promise.

use crate::limits::{HEADER_BYTES, NOTICE_ID};
use crate::model::{Answer, Request, RequestHead, Set, Status};
use crate::wire::{
    DecodeLimits, Decoded, PlainGet, ReplyDecoded, RequestFrame, decode_reply, decode_request,
    decode_set_front, encode_reply, encode_request, look_ahead, peek_len,
};

/// Reads bytes as the requests of one connection, to the end or the first fatal error.
/// Gives back how many frames were well delimited.
pub fn request(bytes: &[u8], limits: &DecodeLimits) -> usize {
    for frame in look_ahead(bytes, limits) {
        assert_eq!(peek_len(&bytes[frame.at..]), Some(frame.bytes));
        assert!(frame.bytes >= HEADER_BYTES + frame.key.len());
        assert!(frame.at + frame.bytes <= bytes.len());
    }
    let mut frames = 0;
    let mut rest = bytes;
    loop {
        match decode_request(rest, limits) {
            Decoded::Complete { frame, consumed } => {
                assert_eq!(peek_len(rest), Some(consumed));
                let ahead = look_ahead(rest, limits).next();
                assert_eq!(ahead.map(|ahead| ahead.key), frame.request.key());
                if let Some(PlainGet { id, epoch }) = ahead.and_then(|ahead| ahead.plain_get) {
                    let key = frame.request.key().expect("a get has a key");
                    let head = RequestHead { id, epoch, ..RequestHead::default() };
                    let request = Request::Get { key, least_version: None };
                    assert_eq!(frame, RequestFrame { head, request });
                }
                assert_ne!(frame.head.id.0, NOTICE_ID);
                assert!(consumed <= limits.frame_bytes_max);
                assert_waits(&rest[..consumed], |part| match decode_request(part, limits) {
                    Decoded::Incomplete { needed } => Some(needed),
                    _ => None,
                });
                if let Some(front) = decode_set_front(rest, limits) {
                    let front = front.expect("a set that was decoded has a front");
                    assert_eq!(front.front_bytes + front.value_bytes, consumed);
                    let Request::Set(set) = frame.request else { panic!("{frame:?} is no set") };
                    assert_eq!((front.head, front.set), (frame.head, Set { value: &[], ..set }));
                }
                let mut again = Vec::new();
                encode_request(&frame.head, &frame.request, &mut again)
                    .expect("what was decoded can be encoded");
                assert_eq!(
                    decode_request(&again, limits),
                    Decoded::Complete { frame, consumed: again.len() }
                );
                rest = &rest[consumed..];
            }
            Decoded::Incomplete { needed } => {
                assert!(needed > rest.len() && needed <= limits.frame_bytes_max);
                if let Some(Ok(front)) = decode_set_front(rest, limits) {
                    assert_eq!(front.front_bytes + front.value_bytes, needed);
                }
                return frames;
            }
            Decoded::Rejected { head, refusal, frame_bytes } => {
                assert_ne!(refusal.status(), Status::Ok);
                assert_ne!(head.id.0, NOTICE_ID);
                assert!((HEADER_BYTES..=limits.frame_bytes_max).contains(&frame_bytes));
                assert_eq!(peek_len(rest), Some(frame_bytes));
                if head.answer == Answer::Never {
                    assert_eq!(rest[2] & 1, 1, "silence must have been asked for");
                }
                rest = rest.get(frame_bytes..).unwrap_or(&[]);
            }
            Decoded::Fatal { refusal, .. } => {
                assert_ne!(refusal.status(), Status::Ok);
                return frames;
            }
        }
        frames += 1;
    }
}

/// Reads bytes as the replies of one connection, to the end or the first error. Gives back
/// how many there were.
pub fn reply(bytes: &[u8], body_bytes_max: usize) -> usize {
    let mut frames = 0;
    let mut rest = bytes;
    loop {
        match decode_reply(rest, body_bytes_max) {
            ReplyDecoded::Complete { frame, consumed } => {
                assert_eq!(peek_len(rest), Some(consumed));
                assert_waits(&rest[..consumed], |part| match decode_reply(part, body_bytes_max) {
                    ReplyDecoded::Incomplete { needed } => Some(needed),
                    _ => None,
                });
                let mut again = Vec::new();
                encode_reply(&frame.head, &frame.reply, &mut again);
                assert_eq!(
                    decode_reply(&again, usize::MAX),
                    ReplyDecoded::Complete { frame, consumed: again.len() }
                );
                rest = &rest[consumed..];
                frames += 1;
            }
            ReplyDecoded::Incomplete { needed } => {
                assert!(needed > rest.len() && needed <= HEADER_BYTES + body_bytes_max);
                return frames;
            }
            ReplyDecoded::Fatal(_) => return frames,
        }
    }
}

/// A frame that lacks its last byte, or all but its first, is waited for.
fn assert_waits(frame: &[u8], needed: impl Fn(&[u8]) -> Option<usize>) {
    assert_eq!(needed(&frame[..1]), Some(HEADER_BYTES));
    assert_eq!(needed(&frame[..frame.len() - 1]), Some(frame.len()));
}
