//! Corelane's own protocol, through `corelane-protocol`.

use std::borrow::Cow;

use corelane_protocol::limits::{VALUE_BYTES_MAX, VERSION};
use corelane_protocol::wire::{self, ReplyDecoded, ReplyFrame};
use corelane_protocol::{
    Hello, OldValue, Reply as WireReply, Request, RequestHead, RequestId, Set, SetCondition,
    Status, Ttl, Value, Welcome,
};
use corelane_ring::CoreMap;

use super::{Answer, Codec, CodecError, Greeting, Opening, Reply, ReplyOrder};

/// The id of the hello, which is answered before anything else is sent.
const HELLO_ID: RequestId = RequestId(0);

/// Longest body of a reply: a value with its options.
const BODY_BYTES_MAX: usize = VALUE_BYTES_MAX + 256;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

fn error(reason: impl ToString) -> CodecError {
    CodecError { protocol: "Corelane's protocol", reason: reason.to_string() }
}

fn head(id: u32) -> RequestHead {
    RequestHead { id: RequestId(id), ..RequestHead::default() }
}

/// Appends a request that the run's limits have been checked for.
fn append(head: RequestHead, request: &Request<'_>, output: &mut Vec<u8>) {
    wire::encode_request(&head, request, output)
        .expect("keys, values and tokens were checked against the protocol's limits");
}

/// Reads a whole frame, if there is one.
fn decode(input: &[u8]) -> Result<Option<(ReplyFrame<'_>, usize)>, CodecError> {
    match wire::decode_reply(input, BODY_BYTES_MAX) {
        ReplyDecoded::Complete { frame, consumed } => Ok(Some((frame, consumed))),
        ReplyDecoded::Incomplete { .. } => Ok(None),
        ReplyDecoded::Fatal(reason) => Err(error(reason)),
    }
}

impl Codec for Native {
    const ORDER: ReplyOrder = ReplyOrder::ById;

    fn open(&mut self, opening: Opening<'_>, output: &mut Vec<u8>) {
        let hello =
            Request::Hello(Hello { version: VERSION, core: opening.core, token: opening.token });
        append(RequestHead { id: HELLO_ID, ..RequestHead::default() }, &hello, output);
    }

    fn opened(&mut self, input: &[u8]) -> Result<Option<(Greeting, usize)>, CodecError> {
        let Some((frame, length)) = decode(input)? else { return Ok(None) };
        match frame.reply {
            WireReply::Welcome(welcome) => Ok(Some((greeting(&welcome)?, length))),
            WireReply::Failed { status, message } => {
                Err(error(format!("the hello was answered {status:?} {message}")))
            }
            other => Err(error(format!("the hello was answered {other:?}"))),
        }
    }

    fn get(&mut self, id: u32, key: &[u8], output: &mut Vec<u8>) {
        append(head(id), &Request::Get { key, least_version: None }, output);
    }

    fn set(&mut self, id: u32, key: &[u8], value: &[u8], output: &mut Vec<u8>) {
        let set = Request::Set(Set {
            key,
            value,
            user_flags: 0,
            ttl: Ttl::Default,
            condition: SetCondition::Always,
            old: OldValue::Omit,
        });
        append(head(id), &set, output);
    }

    fn reply<'i>(&mut self, input: &'i [u8]) -> Result<Option<Reply<'i>>, CodecError> {
        let Some((frame, length)) = decode(input)? else { return Ok(None) };
        let answer = match frame.reply {
            WireReply::Value(Value { bytes, .. }) => Answer::Value(bytes),
            WireReply::Done { .. } => Answer::Stored,
            WireReply::Failed { status: Status::NotFound, .. } => Answer::Missing,
            WireReply::Failed { status: Status::GoingAway, .. } => {
                return Err(error("the node is shutting down"));
            }
            WireReply::Failed { status, message } => {
                Answer::Refused(Cow::Owned(format!("{status:?} {message}").trim_end().to_owned()))
            }
            WireReply::Busy { retry_after_us } => {
                Answer::Refused(Cow::Owned(format!("Busy, retry after {retry_after_us} us")))
            }
            other => Answer::Refused(Cow::Owned(format!("{other:?}"))),
        };
        Ok(Some(Reply { id: Some(frame.head.id.0), answer, length }))
    }
}

fn greeting(welcome: &Welcome<'_>) -> Result<Greeting, CodecError> {
    Ok(Greeting {
        core: welcome.core,
        map: Some(CoreMap::from_ranges(welcome.cores, welcome.ranges()).map_err(error)?),
        value_bytes_max: Some(welcome.value_bytes_max as usize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_DEFAULT};
    use corelane_protocol::wire::{DecodeLimits, Decoded, decode_request};
    use corelane_protocol::{MonotonicUs, ReplyHead, ShortEpoch};

    fn reply_bytes(id: u32, reply: &WireReply<'_>) -> Vec<u8> {
        let head = ReplyHead { id: RequestId(id), epoch: ShortEpoch(0), part: None };
        let mut bytes = Vec::new();
        wire::encode_reply(&head, reply, &mut bytes);
        bytes
    }

    /// Decodes what was written as a node would.
    fn request(bytes: &[u8]) -> (u32, Request<'_>) {
        match decode_request(bytes, &DecodeLimits::agreed(KEY_BYTES_MAX, VALUE_BYTES_DEFAULT)) {
            Decoded::Complete { frame, consumed } => {
                assert_eq!(consumed, bytes.len());
                (frame.head.id.0, frame.request)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_what_a_node_reads() {
        let mut output = Vec::new();
        Native.get(7, b"key", &mut output);
        assert_eq!(request(&output), (7, Request::Get { key: b"key", least_version: None }));
        output.clear();
        Native.set(8, b"key", b"value", &mut output);
        let (id, Request::Set(set)) = request(&output) else { panic!("not a set") };
        assert_eq!(
            (id, set.key, set.value, set.ttl),
            (8, &b"key"[..], &b"value"[..], Ttl::Default)
        );
        output.clear();
        Native.open(Opening { core: Some(3), token: b"secret" }, &mut output);
        let (_, Request::Hello(hello)) = request(&output) else { panic!("not a hello") };
        assert_eq!((hello.version, hello.core, hello.token), (VERSION, Some(3), &b"secret"[..]));
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        let check = |reply: WireReply<'_>, expected: Answer<'_>| {
            let bytes = reply_bytes(5, &reply);
            for end in 0..bytes.len() {
                assert_eq!(Native.reply(&bytes[..end]), Ok(None));
            }
            let more = [&bytes[..], &bytes[..]].concat();
            let length = bytes.len();
            assert_eq!(
                Native.reply(&more),
                Ok(Some(Reply { id: Some(5), answer: expected, length }))
            );
        };
        let value = Value { bytes: b"value", user_flags: 0, version: None };
        check(WireReply::Value(value), Answer::Value(b"value"));
        check(WireReply::Done { version: None }, Answer::Stored);
        check(WireReply::Failed { status: Status::NotFound, message: "" }, Answer::Missing);
        check(
            WireReply::Failed { status: Status::OutOfMemory, message: "full" },
            Answer::Refused("OutOfMemory full".into()),
        );
        check(
            WireReply::Busy { retry_after_us: 9 },
            Answer::Refused("Busy, retry after 9 us".into()),
        );
        assert!(Native.reply(b"+OK\r\n").is_err());
    }

    #[test]
    fn the_welcome_tells_who_owns_what() {
        let welcome = Welcome {
            version: 1,
            core: 1,
            cores: 2,
            key_bytes_max: 100,
            value_bytes_max: 1_000,
            clock: MonotonicUs(0),
            node_name: b"node",
            core_ranges: &[0, 0, 0, 0, 0, 0x20, 1, 0],
        };
        let bytes = reply_bytes(0, &WireReply::Welcome(welcome));
        let (greeting, length) = Native.opened(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!((greeting.core, greeting.value_bytes_max), (1, Some(1_000)));
        assert_eq!(greeting.map, Some(CoreMap::even(2).unwrap()));

        let refused = WireReply::Failed { status: Status::Unauthorized, message: "no token" };
        let error = Native.opened(&reply_bytes(0, &refused)).unwrap_err();
        assert!(error.to_string().contains("Unauthorized no token"), "{error}");
    }
}
