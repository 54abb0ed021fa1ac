//! Bytes to replies: collects what arrives, in whatever pieces, and hands out whole replies.
//!
//! Small values are copied out, so that a value kept for long keeps nothing else alive;
//! large ones share the memory they were received into.

use bytes::{Bytes, BytesMut};
use corelane_protocol::ReplyHead;
use corelane_protocol::limits::HEADER_BYTES;
use corelane_protocol::wire::{ReplyDecoded, ReplyError, ReplyFrame, decode_reply};

use crate::limits::{READ_BYTES_MAX, READ_BYTES_MIN, SHARED_VALUE_BYTES_MIN};
use crate::reply::OwnedReply;

/// What arrived on one connection and was not decoded yet.
#[derive(Debug)]
pub(crate) struct ReplyReader {
    input: BytesMut,
    /// Bytes that must be there before decoding is worth a try.
    needed: usize,
    /// How much room to offer the next read.
    room: usize,
    body_bytes_max: usize,
}

impl ReplyReader {
    /// Begins with bytes that arrived already; bodies may be so long.
    pub(crate) fn new(input: BytesMut, body_bytes_max: usize) -> ReplyReader {
        ReplyReader { input, needed: HEADER_BYTES, room: READ_BYTES_MIN, body_bytes_max }
    }

    /// The buffer to read into, with room at its end: at least for the rest of the frame that
    /// has begun, so that a large value is not moved again and again.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        let rest_of_frame = self.needed.saturating_sub(self.input.len());
        if self.input.capacity() - self.input.len() < rest_of_frame.max(READ_BYTES_MIN / 2) {
            self.input.reserve(rest_of_frame.max(self.room));
        }
        &mut self.input
    }

    /// Tells that a read filled the buffer to its end or did not, which is what tells a busy
    /// connection from a quiet one.
    pub(crate) fn adapt_room(&mut self) {
        if self.input.len() == self.input.capacity() {
            self.room = (self.room * 2).min(READ_BYTES_MAX);
        }
    }

    /// The next whole reply.
    ///
    /// # Errors
    /// The bytes are not a reply; nothing after them can be read.
    pub(crate) fn next(&mut self) -> Result<Option<(ReplyHead, OwnedReply)>, ReplyError> {
        if self.input.len() < self.needed {
            // The magic is worth a look before the header is whole: a peer that speaks
            // something else may never send sixteen bytes.
            if let ReplyDecoded::Fatal(error) = decode_reply(&self.input, self.body_bytes_max) {
                return Err(error);
            }
            return Ok(None);
        }
        match decode_reply(&self.input, self.body_bytes_max) {
            ReplyDecoded::Complete { consumed, frame } if consumed < SHARED_VALUE_BYTES_MIN => {
                let owned = own(&frame, Bytes::copy_from_slice);
                bytes::Buf::advance(&mut self.input, consumed);
                self.needed = HEADER_BYTES;
                Ok(Some(owned))
            }
            ReplyDecoded::Complete { consumed, .. } => {
                let whole = self.input.split_to(consumed).freeze();
                self.needed = HEADER_BYTES;
                match decode_reply(&whole, self.body_bytes_max) {
                    ReplyDecoded::Complete { frame, .. } => {
                        Ok(Some(own(&frame, |bytes| whole.slice_ref(bytes))))
                    }
                    ReplyDecoded::Incomplete { .. } | ReplyDecoded::Fatal(_) => {
                        unreachable!("the same bytes were a whole reply before")
                    }
                }
            }
            ReplyDecoded::Incomplete { needed } => {
                self.needed = needed;
                Ok(None)
            }
            ReplyDecoded::Fatal(error) => Err(error),
        }
    }

    /// Gives memory back that a quiet connection does not need.
    pub(crate) fn release(&mut self) {
        self.room = READ_BYTES_MIN;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }
}

fn own(frame: &ReplyFrame<'_>, bytes: impl FnOnce(&[u8]) -> Bytes) -> (ReplyHead, OwnedReply) {
    (frame.head, OwnedReply::from_borrowed(&frame.reply, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::wire::encode_reply;
    use corelane_protocol::{MonotonicUs, Remaining, Reply, RequestId, Status, Value, Version};

    const BODY_BYTES_MAX: usize = 1 << 20;

    fn reader(input: &[u8]) -> ReplyReader {
        ReplyReader::new(BytesMut::from(input), BODY_BYTES_MAX)
    }

    /// One reply of each kind, each with its own id, and the last one large enough to be shared.
    fn stream(large: &[u8]) -> (Vec<u8>, Vec<String>) {
        let value = |bytes| Value { bytes, user_flags: 3, version: Some(Version(9)) };
        let replies = [
            Reply::Done { version: None },
            Reply::Value(value(b"")),
            Reply::Value(value(b"small")),
            Reply::Number { number: 5, version: None },
            Reply::Remaining(Remaining::Ms(10)),
            Reply::Pong { clock: MonotonicUs(77) },
            Reply::Busy { retry_after_us: 250 },
            Reply::Failed { status: Status::OutOfMemory, message: "full" },
            Reply::Stats { core: 2, text: b"hits 1\n" },
            Reply::Value(value(large)),
            Reply::End,
        ];
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (number, reply) in replies.iter().enumerate() {
            let head = ReplyHead { id: RequestId(number as u32), ..ReplyHead::default() };
            encode_reply(&head, reply, &mut bytes);
            let owned = OwnedReply::from_borrowed(reply, Bytes::copy_from_slice);
            expected.push(format!("{:?}", (head, owned)));
        }
        (bytes, expected)
    }

    fn read_all(reader: &mut ReplyReader, into: &mut Vec<String>) {
        while let Some(reply) = reader.next().unwrap() {
            into.push(format!("{reply:?}"));
        }
    }

    #[test]
    fn replies_are_the_same_wherever_the_bytes_are_split() {
        let large = vec![b'x'; SHARED_VALUE_BYTES_MIN];
        let (bytes, expected) = stream(&large);
        // Every boundary but those inside of the large value, where only some matter.
        let inside = bytes.len() - SHARED_VALUE_BYTES_MIN..bytes.len() - HEADER_BYTES - 64;
        for split in (0..=bytes.len()).filter(|at| !inside.contains(at) || at % 1_021 == 0) {
            let mut reader = reader(&[]);
            let mut replies = Vec::new();
            for piece in [&bytes[..split], &bytes[split..]] {
                reader.buffer().extend_from_slice(piece);
                read_all(&mut reader, &mut replies);
            }
            assert_eq!(replies, expected, "split at {split}");
        }
    }

    #[test]
    fn replies_are_the_same_byte_by_byte() {
        let (bytes, expected) = stream(b"not so large");
        let mut reader = reader(&[]);
        let mut replies = Vec::new();
        for byte in &bytes {
            reader.buffer().extend_from_slice(&[*byte]);
            read_all(&mut reader, &mut replies);
        }
        assert_eq!(replies, expected);
    }

    #[test]
    fn bytes_that_are_no_reply_are_noticed_at_once() {
        for garbage in [&b"H"[..], b"HTTP/1.1 400 Bad Request\r\n", &[0xFF; 40]] {
            assert_eq!(reader(garbage).next().unwrap_err(), ReplyError::NotAReply);
        }
    }

    #[test]
    fn a_body_over_the_limit_is_refused_from_its_header() {
        let mut bytes = Vec::new();
        let value = Value { bytes: &[0; 100], user_flags: 0, version: None };
        encode_reply(&ReplyHead::default(), &Reply::Value(value), &mut bytes);
        let mut reader = ReplyReader::new(BytesMut::from(&bytes[..HEADER_BYTES]), 99);
        assert_eq!(reader.next().unwrap_err(), ReplyError::TooLong);
    }

    #[test]
    fn room_for_a_large_frame_is_made_once() {
        let large = vec![7; 300_000];
        let mut bytes = Vec::new();
        let value = Value { bytes: &large, user_flags: 0, version: None };
        encode_reply(&ReplyHead::default(), &Reply::Value(value), &mut bytes);
        let mut reader = reader(&bytes[..20]);
        assert!(reader.next().unwrap().is_none());
        assert!(reader.buffer().capacity() >= bytes.len());
        reader.buffer().extend_from_slice(&bytes[20..]);
        let (_, reply) = reader.next().unwrap().unwrap();
        assert!(matches!(reply, OwnedReply::Value(value) if value.bytes == large));
    }

    #[test]
    fn a_quiet_reader_keeps_little() {
        let (bytes, _) = stream(&vec![b'x'; 200_000]);
        let mut reader = reader(&bytes);
        read_all(&mut reader, &mut Vec::new());
        reader.release();
        assert!(reader.buffer().capacity() <= READ_BYTES_MIN);
    }
}
