//! memcached's text protocol
//! (<https://github.com/memcached/memcached/blob/master/doc/protocol.txt>), replies in the
//! order of the commands.
//!
//! | command | reply |
//! | --- | --- |
//! | `get KEY` | `VALUE KEY FLAGS BYTES`, the value, `END`; or `END` alone |
//! | `set KEY 0 0 BYTES`, the value | `STORED` |
//! | `set auth 0 0 BYTES`, the token, once, where there is one | `STORED` |

use std::borrow::Cow;

use super::text::{self, push_number};
use super::{Answer, Codec, CodecError, Greeting, Opening, Reply, ReplyOrder};

/// What follows the value of a `get`'s reply.
const END: &[u8] = b"END\r\n";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcached;

fn error(reason: impl ToString) -> CodecError {
    CodecError { protocol: "memcached's text protocol", reason: reason.to_string() }
}

/// Reads a value and the end after it, whose line said how long it is; nothing while they
/// are incomplete.
fn value<'i>(line: &[u8], input: &'i [u8]) -> Result<Option<(&'i [u8], usize)>, CodecError> {
    let bytes = line
        .split(|byte| *byte == b' ')
        .nth(2)
        .and_then(text::length)
        .ok_or_else(|| error("a value with an impossible length"))?;
    let Some(value) = text::value(input, bytes).map_err(error)? else { return Ok(None) };
    let after = &input[bytes + 2..];
    match after.len().min(END.len()) {
        length if after[..length] != END[..length] => Err(error("a value without END after it")),
        length if length < END.len() => Ok(None),
        length => Ok(Some((value, bytes + 2 + length))),
    }
}

impl Codec for Memcached {
    const ORDER: ReplyOrder = ReplyOrder::AsSent;

    fn open(&mut self, opening: Opening<'_>, output: &mut Vec<u8>) {
        if !opening.token.is_empty() {
            self.set(0, b"auth", opening.token, output);
        }
    }

    fn opened(&mut self, input: &[u8]) -> Result<Option<(Greeting, usize)>, CodecError> {
        let Some(reply) = self.reply(input)? else { return Ok(None) };
        match reply.answer {
            Answer::Stored => Ok(Some((Greeting::default(), reply.length))),
            other => Err(error(format!("the token was answered {other:?}"))),
        }
    }

    fn get(&mut self, _: u32, key: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(b"get ");
        output.extend_from_slice(key);
        output.extend_from_slice(b"\r\n");
    }

    fn set(&mut self, _: u32, key: &[u8], value: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(b"set ");
        output.extend_from_slice(key);
        output.extend_from_slice(b" 0 0 ");
        push_number(value.len(), output);
        output.extend_from_slice(b"\r\n");
        output.extend_from_slice(value);
        output.extend_from_slice(b"\r\n");
    }

    fn reply<'i>(&mut self, input: &'i [u8]) -> Result<Option<Reply<'i>>, CodecError> {
        let Some((line, start)) = text::line(input).map_err(error)? else { return Ok(None) };
        let (answer, length) = match line {
            b"STORED" => (Answer::Stored, start),
            b"END" => (Answer::Missing, start),
            [b'V', b'A', b'L', b'U', b'E', b' ', rest @ ..] => {
                let Some((value, length)) = value(rest, &input[start..])? else { return Ok(None) };
                (Answer::Value(value), start + length)
            }
            other => {
                let words = String::from_utf8_lossy(other);
                let refusals = ["ERROR", "CLIENT_ERROR ", "SERVER_ERROR ", "NOT_STORED"];
                if !refusals.iter().any(|refusal| words.starts_with(refusal)) {
                    let shown: String = words.chars().take(40).collect();
                    return Err(error(format!("neither get nor set is answered by {shown:?}")));
                }
                (Answer::Refused(Cow::Owned(words.into_owned())), start)
            }
        };
        Ok(Some(Reply { id: None, answer, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: Answer<'_>) {
        text::check_reply(&mut Memcached, bytes, expected);
    }

    #[test]
    fn commands_are_lines() {
        let mut output = Vec::new();
        Memcached.open(Opening { core: None, token: b"" }, &mut output);
        Memcached.get(1, b"key:0000", &mut output);
        Memcached.set(2, b"k", b"a\r\nvalue12", &mut output);
        let expected = "get key:0000\r\nset k 0 0 10\r\na\r\nvalue12\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        check("STORED\r\n", Answer::Stored);
        check("END\r\n", Answer::Missing);
        check("VALUE k 0 5\r\nvalue\r\nEND\r\n", Answer::Value(b"value"));
        check("VALUE k 32 0\r\n\r\nEND\r\n", Answer::Value(b""));
        check("VALUE k 0 5 77\r\nEND\r\n\r\nEND\r\n", Answer::Value(b"END\r\n"));
        check(
            "SERVER_ERROR out of memory storing object\r\n",
            Answer::Refused("SERVER_ERROR out of memory storing object".into()),
        );
        check("ERROR\r\n", Answer::Refused("ERROR".into()));
        check("NOT_STORED\r\n", Answer::Refused("NOT_STORED".into()));
    }

    #[test]
    fn other_bytes_are_refused() {
        for wrong in [
            "+OK\r\n",
            "\r\n",
            "STORED\n",
            "VALUE k 0\r\n",
            "VALUE k 0 x\r\n",
            "VALUE k 0 99999999999\r\n",
            "VALUE k 0 5\r\nvaluexx",
            "VALUE k 0 5\r\nvalue\r\nVAL",
            "VALUE k 0 5\r\nvalue\r\nENDx",
        ] {
            assert!(Memcached.reply(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_sent_and_its_refusal_told() {
        let mut output = Vec::new();
        Memcached.open(Opening { core: None, token: b"user pass" }, &mut output);
        assert_eq!(output, b"set auth 0 0 9\r\nuser pass\r\n");
        assert_eq!(Memcached.opened(b"STORED\r\n").unwrap().map(|(_, length)| length), Some(8));
        let refused = Memcached.opened(b"CLIENT_ERROR authentication failure\r\n").unwrap_err();
        assert!(refused.to_string().contains("authentication failure"), "{refused}");
    }
}
