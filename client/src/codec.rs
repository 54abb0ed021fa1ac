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
