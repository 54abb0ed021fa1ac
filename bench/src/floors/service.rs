//! What the floor servers do with bytes, whatever brings them: answer with fixed replies,
//! or be a small cache.

use std::collections::HashMap;

use corelane_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_DEFAULT, VERSION};
use corelane_protocol::wire::{self, DecodeLimits, Decoded};
use corelane_protocol::{
    MonotonicUs, Reply, ReplyHead, Request, Set, ShortEpoch, Status, Value, Welcome,
};

use crate::codec::{CodecError, fixed};

/// Serves the connections of one thread.
pub trait Service: Send + 'static {
    /// Takes whole requests from the front of the input, appends their replies, and returns
    /// how many bytes of the input they were.
    ///
    /// # Errors
    /// The bytes are no requests; the connection is to be closed.
    fn serve(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, CodecError>;
}

/// Parses a length, and answers as many bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedReplies;

impl Service for FixedReplies {
    fn serve(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, CodecError> {
        let mut used = 0;
        while let Some(asked) = fixed::asked(&input[used..])? {
            fixed::answer(&asked, output);
            used += asked.request_bytes;
        }
        Ok(used)
    }
}

/// Parses Corelane's protocol, looks up in a hash table of the standard library with an
/// allocation an entry, replies. No expiry, no eviction.
#[derive(Debug, Default)]
pub struct SmallCache {
    entries: HashMap<Box<[u8]>, Box<[u8]>>,
}

impl SmallCache {
    fn execute(&mut self, head: &ReplyHead, request: &Request<'_>, output: &mut Vec<u8>) {
        let reply = match *request {
            Request::Get { key, .. } => match self.entries.get(key) {
                Some(value) => Reply::Value(Value { bytes: value, user_flags: 0, version: None }),
                None => Reply::Failed { status: Status::NotFound, message: "" },
            },
            Request::Set(Set { key, value, .. }) => {
                match self.entries.get_mut(key) {
                    Some(old) if old.len() == value.len() => old.copy_from_slice(value),
                    _ => drop(self.entries.insert(key.into(), value.into())),
                }
                Reply::Done { version: None }
            }
            Request::Hello(_) => Reply::Welcome(Welcome {
                version: VERSION,
                core: 0,
                cores: 1,
                key_bytes_max: KEY_BYTES_MAX as u16,
                value_bytes_max: VALUE_BYTES_DEFAULT as u32,
                clock: MonotonicUs(0),
                node_name: b"floor",
                core_ranges: &[0; 4],
            }),
            _ => Reply::Failed { status: Status::UnknownRequest, message: "" },
        };
        wire::encode_reply(head, &reply, output);
    }
}

impl Service for SmallCache {
    fn serve(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, CodecError> {
        let limits = DecodeLimits::agreed(KEY_BYTES_MAX, VALUE_BYTES_DEFAULT);
        let mut used = 0;
        loop {
            match wire::decode_request(&input[used..], &limits) {
                Decoded::Complete { frame, consumed } => {
                    let head = ReplyHead { id: frame.head.id, epoch: ShortEpoch(0), part: None };
                    self.execute(&head, &frame.request, output);
                    used += consumed;
                }
                Decoded::Incomplete { .. } => return Ok(used),
                other => {
                    let reason = format!("{other:?}");
                    return Err(CodecError { protocol: "Corelane's protocol", reason });
                }
            }
        }
    }
}

/// What one connection has received in part, and the replies that are not sent yet.
#[derive(Debug, Default)]
pub struct Buffers {
    partial: Vec<u8>,
    /// Replies.
    pub output: Vec<u8>,
}

impl Buffers {
    /// Serves received bytes, together with what was left of those before.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn serve(&mut self, service: &mut impl Service, bytes: &[u8]) -> Result<(), CodecError> {
        if self.partial.is_empty() {
            let used = service.serve(bytes, &mut self.output)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let used = service.serve(&self.partial, &mut self.output)?;
            self.partial.drain(..used);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::native::Native;
    use crate::codec::{Answer, Codec, Opening};

    #[test]
    fn the_small_cache_keeps_what_it_was_given() {
        let mut requests = Vec::new();
        Native.open(Opening { core: None, token: b"" }, &mut requests);
        Native.set(1, b"a", b"old", &mut requests);
        Native.set(2, b"a", b"new", &mut requests);
        Native.get(3, b"a", &mut requests);
        Native.get(4, b"b", &mut requests);
        let mut buffers = Buffers::default();
        let mut cache = SmallCache::default();
        for piece in requests.chunks(7) {
            buffers.serve(&mut cache, piece).unwrap();
        }
        let (greeting, mut at) = Native.opened(&buffers.output).unwrap().unwrap();
        assert_eq!(greeting.map.unwrap().cores(), 1);
        let mut replies = Vec::new();
        while let Some(reply) = Native.reply(&buffers.output[at..]).unwrap() {
            at += reply.length;
            replies.push((reply.id.unwrap(), reply.answer));
        }
        let expected = [
            (1, Answer::Stored),
            (2, Answer::Stored),
            (3, Answer::Value(b"new")),
            (4, Answer::Missing),
        ];
        assert_eq!(replies, expected);
    }
}
