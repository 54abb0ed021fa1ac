//! What is said to a server whose memory is measured: write an entry, and tell how many there
//! are. Bytes in and out, no I/O.

use std::time::Duration;

use corelane_protocol::limits::{VALUE_BYTES_MAX, VERSION};
use corelane_protocol::wire::{self, ReplyDecoded};
use corelane_protocol::{
    Hello, Jitter, OldValue, Reply, Request, RequestHead, RequestId, Set, SetCondition, Ttl,
};

/// Longest body of a reply that is waited for: a core's counters.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Corelane's own protocol.
    Native,
    /// That of Redis.
    Resp,
    /// The text protocol of memcached.
    Memcached,
}

/// An answer that was not expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server answered {0:?}")]
pub struct Unexpected(pub String);

/// An entry to write.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// How long it lives; for ever without.
    pub ttl: Option<Duration>,
}

impl Dialect {
    /// Appends what a connection says first; whether it is answered, by [`Dialect::done`].
    pub fn open(self, output: &mut Vec<u8>) -> bool {
        if self != Dialect::Native {
            return false;
        }
        let hello = Hello { version: VERSION, core: None, token: b"" };
        append(&Request::Hello(hello), output);
        true
    }

    /// Appends a request to write an entry, which [`Dialect::done`] reads the answer of.
    pub fn set(self, entry: Entry<'_>, output: &mut Vec<u8>) {
        let Entry { key, value, ttl } = entry;
        let ms = ttl.map(|ttl| ttl.as_millis() as u64);
        match self {
            Dialect::Native => {
                let ttl = ms.map_or(Ttl::Never, |ms| Ttl::After { ms, jitter: Jitter::Exact });
                let condition = SetCondition::Always;
                append(
                    &Request::Set(Set {
                        key,
                        value,
                        user_flags: 0,
                        ttl,
                        condition,
                        old: OldValue::Omit,
                    }),
                    output,
                );
            }
            Dialect::Resp => {
                let ms = ms.map(|ms| ms.to_string());
                let mut words: Vec<&[u8]> = vec![b"SET", key, value];
                if let Some(ms) = &ms {
                    words.extend([&b"PX"[..], ms.as_bytes()]);
                }
                append_words(&words, output);
            }
            Dialect::Memcached => {
                output.extend(b"set ");
                output.extend(key);
                // Zero is for ever.
                let seconds = ttl.map_or(0, |ttl| ttl.as_secs().max(1));
                output.extend(format!(" 0 {seconds} {}\r\n", value.len()).into_bytes());
                output.extend(value);
                output.extend(b"\r\n");
            }
        }
    }

    /// The length of an answer that says that it was done; nothing while it is incomplete.
    ///
    /// # Errors
    /// It was not done.
    pub fn done(self, input: &[u8]) -> Result<Option<usize>, Unexpected> {
        let expected = match self {
            Dialect::Native => {
                let Some((reply, length)) = decode(input)? else { return Ok(None) };
                return match reply {
                    Reply::Done { .. } | Reply::Welcome(_) => Ok(Some(length)),
                    other => Err(Unexpected(format!("{other:?}"))),
                };
            }
            Dialect::Resp => "+OK",
            Dialect::Memcached => "STORED",
        };
        let Some((line, length)) = line(input) else { return Ok(None) };
        if line == expected { Ok(Some(length)) } else { Err(Unexpected(line)) }
    }

    /// Appends the question for the number of entries, which [`Dialect::items`] reads the
    /// answer of.
    pub fn ask_items(self, output: &mut Vec<u8>) {
        match self {
            Dialect::Native => append(&Request::Stats, output),
            Dialect::Resp => append_words(&[b"DBSIZE"], output),
            Dialect::Memcached => output.extend(b"stats\r\n"),
        }
    }

    /// The number of entries, from the whole input; nothing while it is incomplete.
    ///
    /// # Errors
    /// It is not there.
    pub fn items(self, mut input: &[u8]) -> Result<Option<u64>, Unexpected> {
        let mut items = None;
        let mut add = |line: &str, name: &str| {
            if let Some(number) = line.strip_prefix(name).and_then(|text| text.parse::<u64>().ok())
            {
                *items.get_or_insert(0) += number;
            }
        };
        let missing = || Unexpected("its counters without the number of entries".to_owned());
        match self {
            // A part for each core, then the end.
            Dialect::Native => loop {
                let Some((reply, length)) = decode(input)? else { return Ok(None) };
                match reply {
                    Reply::Stats { text, .. } => {
                        String::from_utf8_lossy(text).lines().for_each(|line| add(line, "items "));
                    }
                    Reply::End => return items.map(Some).ok_or_else(missing),
                    other => return Err(Unexpected(format!("{other:?}"))),
                }
                input = &input[length..];
            },
            Dialect::Resp => {
                let Some((line, _)) = line(input) else { return Ok(None) };
                add(&line, ":");
                items.map(Some).ok_or(Unexpected(line))
            }
            Dialect::Memcached => loop {
                let Some((line, length)) = line(input) else { return Ok(None) };
                match line.as_str() {
                    "END" => return items.map(Some).ok_or_else(missing),
                    line if line.starts_with("STAT ") => add(line, "STAT curr_items "),
                    _ => return Err(Unexpected(line)),
                }
                input = &input[length..];
            },
        }
    }
}

fn append(request: &Request<'_>, output: &mut Vec<u8>) {
    let head = RequestHead { id: RequestId(1), ..RequestHead::default() };
    wire::encode_request(&head, request, output)
        .expect("keys and values were checked against the protocol's limits");
}

fn append_words(words: &[&[u8]], output: &mut Vec<u8>) {
    output.extend(format!("*{}\r\n", words.len()).into_bytes());
    for word in words {
        output.extend(format!("${}\r\n", word.len()).into_bytes());
        output.extend(*word);
        output.extend(b"\r\n");
    }
}

fn decode(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Unexpected> {
    const { assert!(BODY_BYTES_MAX <= VALUE_BYTES_MAX) };
    match wire::decode_reply(input, BODY_BYTES_MAX) {
        ReplyDecoded::Complete { frame, consumed } => Ok(Some((frame.reply, consumed))),
        ReplyDecoded::Incomplete { .. } => Ok(None),
        ReplyDecoded::Fatal(reason) => Err(Unexpected(reason.to_string())),
    }
}

/// The first line without its end, and its length with it.
fn line(input: &[u8]) -> Option<(String, usize)> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    Some((String::from_utf8_lossy(&input[..end]).into_owned(), end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::wire::{DecodeLimits, Decoded, decode_request};
    use corelane_protocol::{ReplyHead, ShortEpoch};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn set(dialect: Dialect, ttl: Option<Duration>) -> Vec<u8> {
        let mut output = Vec::new();
        dialect.set(Entry { key: b"key", value: b"value", ttl }, &mut output);
        output
    }

    #[test]
    fn entries_are_written_with_and_without_a_ttl() {
        let plain = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n";
        assert_eq!(set(Dialect::Resp, None), plain);
        let expiring =
            b"*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n$2\r\nPX\r\n$7\r\n3600000\r\n";
        assert_eq!(set(Dialect::Resp, Some(HOUR)), expiring);
        assert_eq!(set(Dialect::Memcached, None), b"set key 0 0 5\r\nvalue\r\n");
        assert_eq!(set(Dialect::Memcached, Some(HOUR)), b"set key 0 3600 5\r\nvalue\r\n");
        for (ttl, expected) in
            [(None, Ttl::Never), (Some(HOUR), Ttl::After { ms: 3_600_000, jitter: Jitter::Exact })]
        {
            let bytes = set(Dialect::Native, ttl);
            let Decoded::Complete { frame, .. } =
                decode_request(&bytes, &DecodeLimits::agreed(100, 100))
            else {
                panic!("no whole request");
            };
            let Request::Set(set) = frame.request else { panic!("{frame:?}") };
            assert_eq!((set.key, set.value, set.ttl), (&b"key"[..], &b"value"[..], expected));
        }
    }

    fn check_done(dialect: Dialect, answer: &[u8], refusal: &[u8]) {
        for end in 0..answer.len() {
            assert_eq!(dialect.done(&answer[..end]), Ok(None));
        }
        let more = [answer, answer].concat();
        assert_eq!(dialect.done(&more), Ok(Some(answer.len())));
        assert!(dialect.done(refusal).is_err());
    }

    fn check_items(dialect: Dialect, answer: &[u8], expected: u64, refusal: &[u8]) {
        for end in 0..answer.len() {
            assert_eq!(dialect.items(&answer[..end]), Ok(None));
        }
        assert_eq!(dialect.items(answer), Ok(Some(expected)));
        assert!(dialect.items(refusal).is_err());
    }

    fn replies(replies: &[Reply<'_>]) -> Vec<u8> {
        let head = ReplyHead { id: RequestId(1), epoch: ShortEpoch(0), part: None };
        let mut bytes = Vec::new();
        for reply in replies {
            wire::encode_reply(&head, reply, &mut bytes);
        }
        bytes
    }

    #[test]
    fn answers_are_read_when_they_are_whole() {
        check_done(Dialect::Resp, b"+OK\r\n", b"-OOM\r\n");
        check_done(Dialect::Memcached, b"STORED\r\n", b"SERVER_ERROR out of memory\r\n");
        let done = replies(&[Reply::Done { version: None }]);
        check_done(Dialect::Native, &done, &replies(&[Reply::Busy { retry_after_us: 1 }]));
        check_items(Dialect::Resp, b":123\r\n", 123, b"-ERR\r\n");
        let stats = b"STAT pid 1\r\nSTAT curr_items 77\r\nSTAT total_items 80\r\nEND\r\n";
        check_items(Dialect::Memcached, stats, 77, b"STAT pid 1\r\nEND\r\n");
        let part = |core, text| Reply::Stats { core, text };
        let parts = [part(0, &b"gets 1\nitems 20\n"[..]), part(1, &b"items 3\n"[..]), Reply::End];
        let none = replies(&[part(0, b"gets 1\n"), Reply::End]);
        check_items(Dialect::Native, &replies(&parts), 23, &none);
    }
}
