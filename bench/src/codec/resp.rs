//! RESP2, which Redis and Valkey speak
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>): commands as arrays of
//! bulk strings, replies in the order of the commands.
//!
//! | command | reply |
//! | --- | --- |
//! | `GET key` | a bulk string, or the null bulk string |
//! | `SET key value` | `+OK` |
//! | `AUTH token`, once, where there is a token | `+OK` |

use std::borrow::Cow;

use super::text::{self, push_number};
use super::{Answer, Codec, CodecError, Greeting, Opening, Reply, ReplyOrder};

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resp;

fn error(reason: impl ToString) -> CodecError {
    CodecError { protocol: "RESP", reason: reason.to_string() }
}

/// Appends a bulk string.
fn bulk(bytes: &[u8], output: &mut Vec<u8>) {
    output.push(b'$');
    push_number(bytes.len(), output);
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(bytes);
    output.extend_from_slice(b"\r\n");
}

impl Codec for Resp {
    const ORDER: ReplyOrder = ReplyOrder::AsSent;

    fn open(&mut self, opening: Opening<'_>, output: &mut Vec<u8>) {
        if !opening.token.is_empty() {
            output.extend_from_slice(b"*2\r\n$4\r\nAUTH\r\n");
            bulk(opening.token, output);
        }
    }

    fn opened(&mut self, input: &[u8]) -> Result<Option<(Greeting, usize)>, CodecError> {
        let Some(reply) = self.reply(input)? else { return Ok(None) };
        match reply.answer {
            Answer::Stored => Ok(Some((Greeting::default(), reply.length))),
            other => Err(error(format!("AUTH was answered {other:?}"))),
        }
    }

    fn get(&mut self, _: u32, key: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
        bulk(key, output);
    }

    fn set(&mut self, _: u32, key: &[u8], value: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
        bulk(key, output);
        bulk(value, output);
    }

    fn reply<'i>(&mut self, input: &'i [u8]) -> Result<Option<Reply<'i>>, CodecError> {
        let Some((line, start)) = text::line(input).map_err(error)? else { return Ok(None) };
        let (answer, length) = match line {
            b"+OK" => (Answer::Stored, start),
            b"$-1" => (Answer::Missing, start),
            [b'$', digits @ ..] => {
                let bytes = text::length(digits)
                    .ok_or_else(|| error("a bulk string with an impossible length"))?;
                let Some(value) = text::value(&input[start..], bytes).map_err(error)? else {
                    return Ok(None);
                };
                (Answer::Value(value), start + bytes + 2)
            }
            [b'-', words @ ..] => {
                let words = String::from_utf8_lossy(words).into_owned();
                (Answer::Refused(Cow::Owned(words)), start)
            }
            other => {
                let shown = String::from_utf8_lossy(&other[..other.len().min(40)]).into_owned();
                return Err(error(format!("neither GET nor SET is answered by {shown:?}")));
            }
        };
        Ok(Some(Reply { id: None, answer, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: Answer<'_>) {
        text::check_reply(&mut Resp, bytes, expected);
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut output = Vec::new();
        Resp.open(Opening { core: None, token: b"" }, &mut output);
        Resp.get(1, b"key:0000", &mut output);
        Resp.set(2, b"k", b"a\r\nvalue12", &mut output);
        let expected = "*2\r\n$3\r\nGET\r\n$8\r\nkey:0000\r\n\
                        *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\na\r\nvalue12\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        check("+OK\r\n", Answer::Stored);
        check("$-1\r\n", Answer::Missing);
        check("$5\r\nvalue\r\n", Answer::Value(b"value"));
        check("$0\r\n\r\n", Answer::Value(b""));
        check("$4\r\n\r\n$1\r\n", Answer::Value(b"\r\n$1"));
        check("-ERR unknown\r\n", Answer::Refused("ERR unknown".into()));
    }

    #[test]
    fn other_bytes_are_refused() {
        for wrong in [
            "+QUEUED\r\n",
            ":1\r\n",
            "*1\r\n",
            "\r\n",
            "+OK\n",
            "$-2\r\n",
            "$x\r\n",
            "$99999999999\r\n",
            "$5\r\nvaluexx",
            "$5\r\nvalue\rx",
        ] {
            assert!(Resp.reply(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_sent_and_its_refusal_told() {
        let mut output = Vec::new();
        Resp.open(Opening { core: None, token: b"secret" }, &mut output);
        assert_eq!(output, b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n");
        assert_eq!(Resp.opened(b"+O").unwrap().map(|(_, length)| length), None);
        assert_eq!(Resp.opened(b"+OK\r\n").unwrap().map(|(_, length)| length), Some(5));
        let refused = Resp.opened(b"-WRONGPASS no\r\n").unwrap_err();
        assert!(refused.to_string().contains("WRONGPASS no"), "{refused}");
    }
}
