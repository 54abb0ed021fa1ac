//! Commands told by their bytes alone; see [`crate::ahead`].

use super::limits::{KEY_BYTES_MAX, LINE_BYTES_MAX};
use super::line::{Words, find, find_either, without_return};
use super::time::{self, Zero};
use crate::ahead::{Ahead, Asks, Span};
use crate::step::Moment;

/// Digits of the longest value that is looked at: the work of a longer one hides the rest.
const LENGTH_DIGITS_MAX: usize = 5;

/// Commands that are their line and nothing after it.
const OF_ONE_LINE: [&[u8]; 10] =
    [b"get", b"gets", b"mg", b"md", b"ma", b"incr", b"decr", b"touch", b"delete", b"me"];

/// The command at the front of the input, and its length.
#[inline]
pub(crate) fn ahead(
    input: &[u8],
    value_bytes_max: usize,
    moment: Moment,
) -> Option<(usize, Ahead)> {
    let plain = match input.first_chunk::<4>()? {
        b"get " => get(input),
        b"set " => return set(input, value_bytes_max, moment),
        _ => None,
    };
    plain.or_else(|| other(input))
}

/// Whether the command at the front of the input takes no memory, as far as its bytes tell: true
/// where its name is not there yet, or is none.
pub fn only_reads(input: &[u8]) -> bool {
    let window = &input[..input.len().min(LINE_BYTES_MAX)];
    let line = window.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    match words.next().unwrap_or_default() {
        // It may set an expiry, or an entry where there was none.
        b"mg" => !words.skip(1).any(|flag| matches!(flag.first(), Some(b'T' | b'N'))),
        b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" | b"incr" | b"decr"
        | b"touch" | b"gat" | b"gats" | b"ms" | b"ma" => false,
        _ => true,
    }
}

/// The end of the word that begins after the name of a get or a set.
#[inline]
fn key_end(input: &[u8]) -> Option<usize> {
    let window = &input[..input.len().min(NAME_BYTES + KEY_BYTES_MAX + 2)];
    let end = NAME_BYTES + find_either(b' ', b'\n', &window[NAME_BYTES..])?;
    (end > NAME_BYTES).then_some(end)
}

const NAME_BYTES: usize = b"get ".len();

fn get(input: &[u8]) -> Option<(usize, Ahead)> {
    let end = key_end(input)?;
    if input[end] != b'\n' {
        return None;
    }
    let key_end = if input[end - 1] == b'\r' { end - 1 } else { end };
    let key = Span::new(NAME_BYTES, key_end - NAME_BYTES);
    let is_key = (1..=KEY_BYTES_MAX).contains(&(key_end - NAME_BYTES));
    is_key.then_some((end + 1, Ahead { key, asks: Asks::Get }))
}

fn set(input: &[u8], value_bytes_max: usize, moment: Moment) -> Option<(usize, Ahead)> {
    let key_end = key_end(input)?;
    let key_bytes = key_end - NAME_BYTES;
    let mut numbers = Numbers { input, at: key_end };
    let user_flags = u32::try_from(numbers.next(10)?).ok()?;
    let seconds = i32::try_from(numbers.next(10)?).ok()?;
    let length = numbers.next(LENGTH_DIGITS_MAX)? as usize;
    let start = numbers.at + 2;
    let end = start + length + 2;
    if key_bytes > KEY_BYTES_MAX
        || length > value_bytes_max
        || input.get(numbers.at..start)? != b"\r\n"
        || input.get(start + length..end)? != b"\r\n"
    {
        return None;
    }
    let (key, value) = (Span::new(NAME_BYTES, key_bytes), Span::new(start, length));
    let asks = Asks::Set { value, user_flags, ttl: time::ttl(seconds, Zero::Default, moment) };
    Some((end, Ahead { key, asks }))
}

/// Numbers, each after one space.
struct Numbers<'a> {
    input: &'a [u8],
    at: usize,
}

impl Numbers<'_> {
    #[inline]
    fn next(&mut self, digits_max: usize) -> Option<u64> {
        let rest = self.input.get(self.at..)?.strip_prefix(b" ")?;
        let (mut number, mut digits) = (0, 0);
        while let Some(digit) = rest.get(digits).map(|byte| byte.wrapping_sub(b'0'))
            && digit <= 9
            && digits < digits_max
        {
            number = number * 10 + u64::from(digit);
            digits += 1;
        }
        self.at += 1 + digits;
        (digits > 0).then_some(number)
    }
}

fn other(input: &[u8]) -> Option<(usize, Ahead)> {
    let end = find(b'\n', &input[..input.len().min(LINE_BYTES_MAX)])?;
    let line = without_return(&input[..end]);
    let mut words = Words::of(line);
    let name = words.next().filter(|name| OF_ONE_LINE.contains(name))?;
    let key = words.next()?;
    // More than one space may stand between them.
    let gap = line[name.len()..].iter().take_while(|byte| **byte == b' ').count();
    let key = line.starts_with(name).then(|| Span::new(name.len() + gap, key.len()))?;
    Some((end + 1, Ahead { key, asks: Asks::Other }))
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{MonotonicUs, Ttl};

    use super::*;

    const MOMENT: Moment = Moment { now: MonotonicUs(0), unix_ms: 1_000 };
    const VALUE_BYTES_MAX: usize = 1_000;

    /// What is told of the input, in words.
    #[track_caller]
    fn check(input: &str, expected: &str) {
        let told = match ahead(input.as_bytes(), VALUE_BYTES_MAX, MOMENT) {
            None => "nothing".to_owned(),
            Some((bytes, ahead)) => {
                let text = |span: Span| span.of(input.as_bytes()).escape_ascii().to_string();
                let key = text(ahead.key);
                match ahead.asks {
                    Asks::Get => format!("get {key}, {bytes} bytes"),
                    Asks::Set { value, user_flags, ttl } => {
                        let ttl = match ttl {
                            Ttl::After { ms, .. } => ms,
                            _ => 0,
                        };
                        format!("set {key} {} {user_flags} {ttl}, {bytes} bytes", text(value))
                    }
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
        check("get set\r\n", true);
        check("set key 0 0 1\r\n", false);
        check("gat 10 key\r\n", false);
        check("mg Key v t\r\n", true);
        check("mg key v T30\r\n", false);
        check("mg key N0\r\n", false);
        check("delete key\r\n", true);
        check("mg key v\r\nms T 1\r\n", true);
        check("se", true);
        check("", true);
    }

    #[test]
    fn plain_commands_are_told_and_others_passed_over() {
        check("get key\r\nget", "get key, 9 bytes");
        check("get key\n", "get key, 8 bytes");
        check("get k\te\r\r\n", "get k\\te\\r, 10 bytes");
        check("set key 7 2 3\r\na\nb\r\n", "set key a\\nb 7 2000, 20 bytes");
        check("set key 4294967295 0 0\r\n\r\n", "set key  4294967295 0, 26 bytes");
        check("get one two\r\n", "one?, 13 bytes");
        check("get  key\r\n", "key?, 10 bytes");
        check("incr  key 1\r\n", "key?, 13 bytes");
        check("mg key v\r\n", "key?, 10 bytes");
        for nothing in ["", "ge", "get \r\n", "add k 0 0 1\r\nx\r\n", "ms k 1\r\nx\r\n", "mn\r\n"] {
            check(nothing, "nothing");
        }
        let longest = "k".repeat(250);
        check(&format!("get {longest}\r\n"), &format!("get {longest}, 256 bytes"));
        check(&format!("get {longest}k\r\n"), &format!("{longest}k?, 257 bytes"));
    }

    #[test]
    fn what_is_not_whole_or_in_another_form_is_left_to_the_session() {
        let set = "set key 0 0 3\r\nval\r\n";
        (0..set.len()).for_each(|end| check(&set[..end], "nothing"));
        for line in ["0 0 3 noreply", "0 -1 3", "+0 0 3", "4294967296 0 3", "0  0 3", "0 0 03x"] {
            check(&format!("set key {line}\r\nval\r\n"), "nothing");
        }
        check("set key 0 0 3\r\nvalue\r\n", "nothing");
        let value = "x".repeat(1_001);
        check(&format!("set key 0 0 1001\r\n{value}\r\n"), "nothing");
    }
}
