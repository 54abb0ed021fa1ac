//! Commands told by their bytes alone; see [`crate::ahead`].

use corelane_protocol::Ttl;
use corelane_protocol::limits::KEY_BYTES_MAX;

use super::table::{Flags, by_name};
use crate::ahead::{Ahead, Asks, Span};

/// Digits of the longest string that is looked at: the work of a longer one hides the rest.
const LENGTH_DIGITS_MAX: usize = 5;

/// The command at the front of the input, and its length.
#[inline]
pub(crate) fn ahead(input: &[u8], value_bytes_max: usize) -> Option<(usize, Ahead)> {
    let (header, rest) = input.split_first_chunk::<8>()?;
    let name = rest.first_chunk::<4>();
    let mut strings = Strings { input, at: 4 };
    match (header, name.map(|name| u32::from_le_bytes(*name) | LOWER_CASE)) {
        (b"*2\r\n$3\r\n", Some(GET)) => {
            strings.at = AFTER_NAME;
            let key = strings.next()?;
            let whole = key.bytes as usize <= KEY_BYTES_MAX;
            whole.then_some((strings.at, Ahead { key, asks: Asks::Get }))
        }
        (b"*3\r\n$3\r\n", Some(SET)) => {
            strings.at = AFTER_NAME;
            let (key, value) = (strings.next()?, strings.next()?);
            let asks = Asks::Set { value, user_flags: 0, ttl: Ttl::Default };
            let whole =
                key.bytes as usize <= KEY_BYTES_MAX && value.bytes as usize <= value_bytes_max;
            whole.then_some((strings.at, Ahead { key, asks }))
        }
        ([b'*', count @ b'2'..=b'9', b'\r', b'\n', ..], _) => {
            strings.next()?;
            let key = strings.next()?;
            for _ in b'2'..*count {
                strings.next()?;
            }
            Some((strings.at, Ahead { key, asks: Asks::Other }))
        }
        _ => None,
    }
}

/// Bytes at the front of a command in which its name is looked for.
const NAME_WINDOW_BYTES: usize = 64;

/// Whether the command at the front of the input changes nothing, as far as its bytes tell: true
/// where its name is not there yet, or is none.
pub fn only_reads(input: &[u8]) -> bool {
    let mut words = input[..input.len().min(NAME_WINDOW_BYTES)]
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let name = match input.first() {
        Some(b'*') => words.nth(2),
        _ => words.next(),
    };
    let command = name.and_then(by_name);
    // What a transaction does was queued before.
    command.is_none_or(|command| !command.flags.has(Flags::WRITE) && command.name != "exec")
}

/// Makes the letters of a name of three, which a carriage return follows, lower case.
const LOWER_CASE: u32 = u32::from_le_bytes(*b"   \0");
const GET: u32 = u32::from_le_bytes(*b"get\r");
const SET: u32 = u32::from_le_bytes(*b"set\r");

/// Where the string after such a name begins.
const AFTER_NAME: usize = b"*2\r\n$3\r\nGET\r\n".len();

/// The strings of an array, one after the other, with lengths as clients write them.
struct Strings<'a> {
    input: &'a [u8],
    at: usize,
}

impl Strings<'_> {
    #[inline]
    fn next(&mut self) -> Option<Span> {
        let rest = self.input.get(self.at..)?;
        let (header_bytes, length) = match *rest {
            [b'$', ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', b'\n', ..] => {
                (5, usize::from(ten - b'0') * 10 + usize::from(one - b'0'))
            }
            [b'$', one @ b'0'..=b'9', b'\r', b'\n', ..] => (4, usize::from(one - b'0')),
            [b'$', b'1'..=b'9', ..] => long_header(rest)?,
            _ => return None,
        };
        let start = self.at + header_bytes;
        let end = start + length + 2;
        if end > self.input.len() {
            return None;
        }
        self.at = end;
        Some(Span::new(start, length))
    }
}

/// The bytes of a string's header and the length that it tells.
fn long_header(rest: &[u8]) -> Option<(usize, usize)> {
    let digits = rest[1..].iter().take(LENGTH_DIGITS_MAX).take_while(|byte| byte.is_ascii_digit());
    let (count, length) = digits.fold((0, 0), |(count, length), digit| {
        (count + 1, length * 10 + usize::from(digit - b'0'))
    });
    rest[1 + count..].starts_with(b"\r\n").then_some((count + 3, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE_BYTES_MAX: usize = 1_000;

    /// What is told of the input, in words.
    #[track_caller]
    fn check(input: &str, expected: &str) {
        let told = match ahead(input.as_bytes(), VALUE_BYTES_MAX) {
            None => "nothing".to_owned(),
            Some((bytes, ahead)) => {
                let text = |span: Span| span.of(input.as_bytes()).escape_ascii().to_string();
                let key = text(ahead.key);
                match ahead.asks {
                    Asks::Get => format!("get {key}, {bytes} bytes"),
                    Asks::Set { value, .. } => format!("set {key} {}, {bytes} bytes", text(value)),
                    Asks::Other => format!("{key}?, {bytes} bytes"),
                }
            }
        };
        assert_eq!(told, expected, "{}", input.escape_debug());
    }

    #[test]
    fn what_takes_no_memory_is_told_by_its_name() {
        let check = |input: &str, expected| {
            assert_eq!(only_reads(input.as_bytes()), expected, "{}", input.escape_debug());
        };
        check("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", true);
        check("*2\r\n$4\r\nMGET\r\n$3\r\nset\r\n", true);
        check("*3\r\n$3\r\nSeT\r\n$3\r\nkey", false);
        check("*3\r\n$6\r\nAPPEND\r\n$3\r\nkey", false);
        check("*1\r\n$4\r\nexec\r\n", false);
        check("set key value\r\n", false);
        check("get set\r\n", true);
        check("*3\r\n$3\r\nSE", true);
        check("*3\r\n", true);
        check("", true);
    }

    #[test]
    fn plain_commands_are_told_and_others_passed_over() {
        check("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n+", "get key, 22 bytes");
        check("*2\r\n$3\r\ngEt\r\n$0\r\n\r\n", "get , 19 bytes");
        check("*2\r\n$3\r\nGET\r\n$12\r\nkey\r\n7890k12\r\n", "get key\\r\\n7890k12, 32 bytes");
        check("*3\r\n$3\r\nset\r\n$1\r\nk\r\n$2\r\n\r\n\r\n", "set k \\r\\n, 28 bytes");
        check("*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n", "k?, 20 bytes");
        check("*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nv\r\n", "k?, 27 bytes");
        check("*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nNX\r\n", "k?, 35 bytes");
        for nothing in ["", "*", "GET key\r\n", "*1\r\n$4\r\nPING\r\n", "*10\r\n$3\r\nDEL\r\n"] {
            check(nothing, "nothing");
        }
    }

    #[test]
    fn what_is_not_whole_or_in_another_form_is_left_to_the_session() {
        let set = "*3\r\n$3\r\nSET\r\n$12\r\nkey:00000000\r\n$3\r\nval\r\n";
        (0..set.len()).for_each(|end| check(&set[..end], "nothing"));
        for other in ["$03", "$-1", "$x", "$3\n", "$123456"] {
            check(&format!("*2\r\n$3\r\nGET\r\n{other}\r\nkey\r\n"), "nothing");
        }
        let long = |bytes: usize| format!("${bytes}\r\n{}\r\n", "x".repeat(bytes));
        check(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n{}", long(1_001)), "nothing");
        check(&format!("*2\r\n$3\r\nGET\r\n{}", long(16_385)), "nothing");
        let (key, bytes) = ("x".repeat(16_384), 13 + 8 + 16_384 + 2);
        check(
            &format!("*2\r\n$3\r\nGET\r\n{}", long(16_384)),
            &format!("get {key}, {bytes} bytes"),
        );
    }
}
