//! Which dialect a new connection speaks, from its first bytes.

use corelane_protocol::wire::REQUEST_MAGIC;

/// Bytes within which the first word of a connection must end for it to be a memcached
/// command. No command is longer.
const FIRST_WORD_BYTES_MAX: usize = 16;

/// First byte of a TLS record with a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// First byte of a request in memcached's binary protocol.
const MEMCACHED_BINARY: u8 = 0x80;

/// What memcached's binary protocol answers to a command it does not know: the response
/// magic, status 0x0081 and those words (protocol-binary, "Response Status").
const MEMCACHED_BINARY_REFUSAL: &[u8] =
    b"\x81\0\0\0\0\0\0\x81\0\0\0\x0f\0\0\0\0\0\0\0\0\0\0\0\0Unknown command";

/// memcached's commands in its text and meta protocols.
pub(crate) const MEMCACHED_WORDS: [&[u8]; 32] = [
    b"get",
    b"gets",
    b"gat",
    b"gats",
    b"set",
    b"add",
    b"replace",
    b"append",
    b"prepend",
    b"cas",
    b"incr",
    b"decr",
    b"touch",
    b"delete",
    b"flush_all",
    b"stats",
    b"version",
    b"verbosity",
    b"quit",
    b"mg",
    b"ms",
    b"md",
    b"ma",
    b"mn",
    b"me",
    b"watch",
    b"lru",
    b"lru_crawler",
    b"slabs",
    b"shutdown",
    b"cache_memlimit",
    b"extstore",
];

/// What an HTTP request may begin with that a web page was made to send.
const HTTP_WORDS: [&[u8]; 2] = [b"POST", b"Host:"];

/// Which dialects a node speaks on its data port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects {
    /// The native binary protocol.
    pub native: bool,
    /// RESP2 and RESP3.
    pub resp: bool,
    /// memcached's text and meta protocols.
    pub memcached: bool,
}

impl Dialects {
    /// All of them.
    pub const ALL: Dialects = Dialects { native: true, resp: true, memcached: true };
}

impl Default for Dialects {
    fn default() -> Dialects {
        Dialects::ALL
    }
}

/// What the first bytes of a connection show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// The native binary protocol.
    Native,
    /// RESP, or the inline commands that a person types.
    Resp,
    /// memcached's text or meta protocol.
    Memcached,
    /// None that is spoken here: these bytes are answered (there may be none), and the
    /// connection is closed.
    Refuse(&'static [u8]),
    /// Too little has arrived to tell.
    More,
}

/// Tells the dialect of a connection by everything that it has sent so far.
///
/// A first word in lower case that is one of memcached's commands is memcached; all other
/// text is RESP, whose inline form takes any word. What looks like an HTTP request is closed
/// without an answer, as Redis does, so that a web page cannot be made to send commands.
/// Where only one dialect is allowed, it gets everything that the others do not claim and
/// gives its own error.
pub fn detect(first: &[u8], allowed: Dialects) -> Detected {
    let Some(&byte) = first.first() else { return Detected::More };
    match byte {
        REQUEST_MAGIC => return native(allowed),
        TLS_HANDSHAKE => return Detected::Refuse(b""),
        MEMCACHED_BINARY if allowed.memcached => return Detected::Refuse(MEMCACHED_BINARY_REFUSAL),
        b'*' if allowed.resp => return Detected::Resp,
        _ if !allowed.resp && !allowed.memcached => return native(allowed),
        _ => {}
    }
    let window = &first[..first.len().min(FIRST_WORD_BYTES_MAX)];
    let end = window.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
    let word = &window[..end.unwrap_or(window.len())];
    let is_whole = end.is_some() || first.len() >= FIRST_WORD_BYTES_MAX;
    let text = if is_whole {
        match word {
            _ if HTTP_WORDS.contains(&word) => return Detected::Refuse(b""),
            _ if MEMCACHED_WORDS.contains(&word) => Detected::Memcached,
            _ => Detected::Resp,
        }
    } else {
        let may_become = |known: &&[u8]| known.starts_with(word);
        if MEMCACHED_WORDS.iter().any(may_become) || HTTP_WORDS.iter().any(may_become) {
            return Detected::More;
        }
        Detected::Resp
    };
    match text {
        Detected::Memcached if !allowed.memcached => Detected::Resp,
        Detected::Resp if !allowed.resp => Detected::Memcached,
        text => text,
    }
}

fn native(allowed: Dialects) -> Detected {
    if allowed.native { Detected::Native } else { Detected::Refuse(b"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Dialects = Dialects { native: true, resp: false, memcached: false };
    const RESP: Dialects = Dialects { native: false, resp: true, memcached: false };
    const MEMCACHED: Dialects = Dialects { native: false, resp: false, memcached: true };

    fn check(first: &[u8], allowed: Dialects, expected: Detected) {
        assert_eq!(detect(first, allowed), expected, "{:?}", first.escape_ascii().to_string());
    }

    #[test]
    fn each_dialect_is_known_by_its_first_bytes() {
        let all = Dialects::ALL;
        check(b"", all, Detected::More);
        check(&[REQUEST_MAGIC], all, Detected::Native);
        check(b"*1\r\n$4\r\nPING\r\n", all, Detected::Resp);
        check(b"PING\r\n", all, Detected::Resp);
        check(b"\r\n", all, Detected::Resp);
        check(b"ping\r\n", all, Detected::Resp);
        check(b"get key\r\n", all, Detected::Memcached);
        check(b"GET key\r\n", all, Detected::Resp);
        check(b"quit\r\n", all, Detected::Memcached);
        check(b"mn\r\n", all, Detected::Memcached);
        check(b"\x80\0", all, Detected::Refuse(MEMCACHED_BINARY_REFUSAL));
        check(b"\x16\x03\x01", all, Detected::Refuse(b""));
        check(b"POST / HTTP/1.1\r\n", all, Detected::Refuse(b""));
        check(b"Host: corelane\r\n", all, Detected::Refuse(b""));
    }

    #[test]
    fn a_word_is_waited_for_while_it_could_still_be_a_command() {
        let all = Dialects::ALL;
        check(b"ge", all, Detected::More);
        check(b"get", all, Detected::More);
        check(b"getx", all, Detected::Resp);
        check(b"cache_memlimi", all, Detected::More);
        check(b"POS", all, Detected::More);
        check(b"x", all, Detected::Resp);
    }

    #[test]
    fn a_dialect_that_stands_alone_gets_all_text() {
        check(b"get key\r\n", RESP, Detected::Resp);
        check(b"PING\r\n", MEMCACHED, Detected::Memcached);
        check(b"*1\r\n", MEMCACHED, Detected::Memcached);
        check(b"\x80", RESP, Detected::Resp);
        check(b"PING\r\n", NATIVE, Detected::Native);
        check(b"\x80", NATIVE, Detected::Native);
        check(&[REQUEST_MAGIC], RESP, Detected::Refuse(b""));
    }

    #[test]
    fn every_prefix_waits_or_agrees_with_the_whole() {
        for word in MEMCACHED_WORDS {
            let line = [word, b" a 0 0 1\r\n"].concat();
            for end in 1..=line.len() {
                let detected = detect(&line[..end], Dialects::ALL);
                let expected = if end <= word.len() { Detected::More } else { Detected::Memcached };
                assert_eq!(detected, expected, "{}", line[..end].escape_ascii());
            }
        }
    }
}
