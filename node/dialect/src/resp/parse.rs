//! Bytes to arguments: arrays of strings, and the inline form that people type.
//!
//! What is accepted, what is refused and in which words is Redis 7.0's (`networking.c`,
//! `processMultibulkBuffer` and `processInlineBuffer`; `sds.c`, `sdssplitargs`): a client
//! cannot tell the difference.

use crate::limits::{ARGUMENTS_MAX, LINE_BYTES_MAX};

/// Arguments of one command, checked, borrowed from the bytes they arrived in.
#[derive(Clone, Debug)]
pub(crate) struct Args<'a> {
    /// The rest of the array, from the header of the next string on.
    rest: &'a [u8],
    left: usize,
}

impl<'a> Args<'a> {
    /// The argument, where there is exactly one.
    pub(crate) fn only(&self) -> Option<&'a [u8]> {
        if self.left == 1 { self.clone().next() } else { None }
    }

    /// The arguments from the next one on, as strings of an array.
    pub(crate) fn encoded(&self) -> &'a [u8] {
        self.rest
    }

    /// What [`Args::encoded`] gave, again.
    pub(crate) fn from_encoded(rest: &'a [u8], count: usize) -> Args<'a> {
        Args { rest, left: count }
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let mut length = 0usize;
        let mut at = 1;
        loop {
            let byte = *self.rest.get(at)?;
            at += 1;
            if byte == b'\r' {
                break;
            }
            length = length * 10 + usize::from(byte - b'0');
        }
        let (bytes, rest) = self.rest.get(at + 1..)?.split_at_checked(length)?;
        self.rest = rest.get(2..)?;
        self.left -= 1;
        Some(bytes)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Args<'_> {}

/// What the front of the input is.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    /// A command; its arguments may be none, which means nothing.
    Command {
        /// Its arguments, its name first.
        args: Args<'a>,
        /// Its length in the input.
        consumed: usize,
    },
    /// A part of a command.
    Incomplete {
        /// The input's length when it may be worth looking again.
        needed: usize,
    },
    /// No command. Nothing after it can be understood.
    Broken(Broken),
}

/// Why bytes are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    InlineTooLong,
    UnbalancedQuotes,
    ArrayHeaderTooLong,
    ArrayLength,
    ArrayLengthUnauthorized,
    StringHeaderTooLong,
    NoString(u8),
    StringLength,
    StringLengthUnauthorized,
    TooLong,
}

impl Broken {
    /// What Redis says; the last is of our own.
    pub(crate) fn message(self, out: &mut Vec<u8>) {
        let text: &[u8] = match self {
            Broken::InlineTooLong => b"too big inline request",
            Broken::UnbalancedQuotes => b"unbalanced quotes in request",
            Broken::ArrayHeaderTooLong => b"too big mbulk count string",
            Broken::ArrayLength => b"invalid multibulk length",
            Broken::ArrayLengthUnauthorized => b"unauthenticated multibulk length",
            Broken::StringHeaderTooLong => b"too big bulk count string",
            Broken::NoString(byte) => {
                let message = [b"ERR Protocol error: expected '$', got '", &[byte][..], b"'"];
                return super::write::error(&message.concat(), out);
            }
            Broken::StringLength => b"invalid bulk length",
            Broken::StringLengthUnauthorized => b"unauthenticated bulk length",
            Broken::TooLong => b"command is longer than this node takes",
        };
        super::write::error(&[b"ERR Protocol error: ", text].concat(), out);
    }
}

/// How long commands may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Longest string, in bytes.
    pub(crate) string_bytes_max: usize,
    /// Longest command with all its headers, in bytes.
    pub(crate) command_bytes_max: usize,
    /// Nobody has proved who they are: only short commands are waited for.
    pub(crate) unauthorized: bool,
}

/// Redis's limits before `AUTH`.
const ARGUMENTS_UNAUTHORIZED_MAX: i64 = 10;
const STRING_BYTES_UNAUTHORIZED_MAX: i64 = 16_384;

/// Where the parser is in an array that has not arrived whole, so that it is not read again
/// from its beginning with each piece.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Where the strings begin.
    start: usize,
    /// How many there are.
    count: usize,
    /// Where the next string to be looked at begins.
    next: usize,
    /// How many are still to be looked at.
    left: usize,
}

/// Finds commands. Between two calls bytes may be added to the input; what an incomplete
/// command began with must still be there.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    position: Option<Position>,
    /// The latest inline command, as an array.
    inline: Vec<u8>,
}

impl Parser {
    /// Whether it is in the middle of a command, which it then must see to the end.
    pub(crate) fn is_midway(&self) -> bool {
        self.position.is_some()
    }

    /// Takes the front of the input apart.
    #[inline]
    pub(crate) fn parse<'a>(&'a mut self, input: &'a [u8], bounds: &Bounds) -> Parsed<'a> {
        match input.first() {
            None => Parsed::Incomplete { needed: 1 },
            Some(b'*') => self.array(input, bounds),
            Some(_) => self.inline(input),
        }
    }

    fn array<'a>(&'a mut self, input: &'a [u8], bounds: &Bounds) -> Parsed<'a> {
        let mut position = match self.position.take() {
            Some(position) => position,
            None => match array_header(input, bounds) {
                Ok(position) => position,
                Err(parsed) => return parsed,
            },
        };
        while position.left > 0 {
            let end = match string_end(input, position.next, bounds) {
                Ok(end) => end,
                Err(Stop::Broken(broken)) => return Parsed::Broken(broken),
                Err(Stop::Needs(needed)) => {
                    if needed > bounds.command_bytes_max {
                        return Parsed::Broken(Broken::TooLong);
                    }
                    self.position = Some(position);
                    return Parsed::Incomplete { needed };
                }
            };
            position.next = end;
            position.left -= 1;
        }
        let Position { start, count, next, .. } = position;
        Parsed::Command { args: Args::from_encoded(&input[start..next], count), consumed: next }
    }

    fn inline<'a>(&'a mut self, input: &[u8]) -> Parsed<'a> {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            if input.len() > LINE_BYTES_MAX {
                return Parsed::Broken(Broken::InlineTooLong);
            }
            return Parsed::Incomplete { needed: input.len() + 1 };
        };
        if end > LINE_BYTES_MAX {
            return Parsed::Broken(Broken::InlineTooLong);
        }
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.inline.clear();
        match split_line(line, &mut self.inline) {
            Some(count) => {
                Parsed::Command { args: Args::from_encoded(&self.inline, count), consumed: end + 1 }
            }
            None => Parsed::Broken(Broken::UnbalancedQuotes),
        }
    }

    /// Gives back the memory of a long inline command.
    pub(crate) fn shrink(&mut self) {
        if self.position.is_none() && self.inline.capacity() > 256 {
            self.inline = Vec::new();
        }
    }
}

/// Why a string of an array was not found.
enum Stop {
    Needs(usize),
    Broken(Broken),
}

/// Reads `*<count>\r\n`. An array of no strings is a command without arguments.
fn array_header<'a>(input: &'a [u8], bounds: &Bounds) -> Result<Position, Parsed<'a>> {
    let (count, start) = match header(input, 0, Broken::ArrayHeaderTooLong) {
        Ok(header) => header,
        Err(Stop::Needs(needed)) => return Err(Parsed::Incomplete { needed }),
        Err(Stop::Broken(broken)) => return Err(Parsed::Broken(broken)),
    };
    let broken = |broken| Err(Parsed::Broken(broken));
    match parse_integer(count) {
        None => broken(Broken::ArrayLength),
        Some(count) if count > ARGUMENTS_MAX as i64 => broken(Broken::ArrayLength),
        Some(count) if count > ARGUMENTS_UNAUTHORIZED_MAX && bounds.unauthorized => {
            broken(Broken::ArrayLengthUnauthorized)
        }
        Some(count) => {
            let count = usize::try_from(count).unwrap_or(0);
            Ok(Position { start, count, next: start, left: count })
        }
    }
}

/// The end of the string that begins at `at`, with its line break.
#[inline]
fn string_end(input: &[u8], at: usize, bounds: &Bounds) -> Result<usize, Stop> {
    let (length, start) = header(input, at, Broken::StringHeaderTooLong)?;
    if input[at] != b'$' {
        return Err(Stop::Broken(Broken::NoString(input[at])));
    }
    let length = match parse_integer(length) {
        Some(length) if length < 0 || length > bounds.string_bytes_max as i64 => {
            return Err(Stop::Broken(Broken::StringLength));
        }
        None => return Err(Stop::Broken(Broken::StringLength)),
        Some(length) => length,
    };
    if length > STRING_BYTES_UNAUTHORIZED_MAX && bounds.unauthorized {
        return Err(Stop::Broken(Broken::StringLengthUnauthorized));
    }
    let end = start + length as usize + 2;
    if end > input.len() {
        return Err(Stop::Needs(end));
    }
    Ok(end)
}

/// The digits of the header at `at`, without its first byte, and where it ends. Redis looks
/// for the carriage return alone and takes whatever follows it for the line feed.
#[inline]
fn header(input: &[u8], at: usize, too_long: Broken) -> Result<(&[u8], usize), Stop> {
    let rest = input.get(at..).unwrap_or(&[]);
    let window = &rest[..rest.len().min(LINE_BYTES_MAX + 1)];
    match window.iter().position(|&byte| byte == b'\r') {
        Some(end) if end + 2 <= rest.len() => Ok((rest.get(1..end).unwrap_or(&[]), at + end + 2)),
        Some(end) => Err(Stop::Needs(at + end + 2)),
        None if window.len() > LINE_BYTES_MAX => Err(Stop::Broken(too_long)),
        None => Err(Stop::Needs(input.len() + 1)),
    }
}

/// A signed 64-bit number in the only form that Redis takes: no plus, no spaces, no leading
/// zeros.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut number = 0u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    match (is_negative, number) {
        (false, _) => i64::try_from(number).ok(),
        (true, _) => 0i64.checked_sub_unsigned(number),
    }
}

/// Splits a line into arguments, appends them as strings of an array and counts them; none
/// where a quotation does not end.
fn split_line(line: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    // To Redis a line is a C string.
    let line = line.split(|&byte| byte == 0).next().unwrap_or(&[]);
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let mut argument = Vec::new();
    let mut count = 0;
    let mut rest = line;
    loop {
        let start = rest.iter().position(|&byte| !is_space(byte));
        let Some(start) = start else { return Some(count) };
        rest = &rest[start..];
        argument.clear();
        loop {
            match *rest {
                [] => break,
                [b' ' | b'\n' | b'\r' | b'\t', ..] => break,
                [b'"', ref quoted @ ..] => {
                    rest = double_quoted(quoted, &mut argument)?;
                    if rest.first().is_some_and(|&byte| !is_space(byte)) {
                        return None;
                    }
                    break;
                }
                [b'\'', ref quoted @ ..] => {
                    rest = single_quoted(quoted, &mut argument)?;
                    if rest.first().is_some_and(|&byte| !is_space(byte)) {
                        return None;
                    }
                    break;
                }
                [byte, ref tail @ ..] => {
                    argument.push(byte);
                    rest = tail;
                }
            }
        }
        super::write::bulk(&argument, out);
        count += 1;
    }
}

/// Reads to the closing double quote; gives what follows it.
fn double_quoted<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    let hex = |byte: u8| (byte as char).to_digit(16);
    loop {
        rest = match *rest {
            [] => return None,
            [b'"', ref tail @ ..] => return Some(tail),
            [b'\\', b'x', high, low, ref tail @ ..]
                if let (Some(high), Some(low)) = (hex(high), hex(low)) =>
            {
                argument.push((high * 16 + low) as u8);
                tail
            }
            [b'\\', byte, ref tail @ ..] => {
                argument.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                tail
            }
            [byte, ref tail @ ..] => {
                argument.push(byte);
                tail
            }
        }
    }
}

/// Reads to the closing single quote; gives what follows it.
fn single_quoted<'a>(mut rest: &'a [u8], argument: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match *rest {
            [] => return None,
            [b'\'', ref tail @ ..] => return Some(tail),
            [b'\\', b'\'', ref tail @ ..] => {
                argument.push(b'\'');
                tail
            }
            [byte, ref tail @ ..] => {
                argument.push(byte);
                tail
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { string_bytes_max: 1 << 20, command_bytes_max: 4 << 20, unauthorized: false };

    /// What the input is, in words: arguments and what follows them, or what is wrong.
    fn describe(input: &[u8], bounds: &Bounds) -> String {
        let mut parser = Parser::default();
        match parser.parse(input, bounds) {
            Parsed::Command { args, consumed } => {
                let args: Vec<String> = args.map(|arg| arg.escape_ascii().to_string()).collect();
                format!("{} [{}]", args.join(","), input[consumed..].escape_ascii())
            }
            Parsed::Incomplete { needed } => format!("needs {needed}"),
            Parsed::Broken(broken) => {
                let mut out = Vec::new();
                broken.message(&mut out);
                String::from_utf8(out).expect("ASCII").trim_end().to_owned()
            }
        }
    }

    fn check(input: &[u8], expected: &str) {
        assert_eq!(describe(input, &BOUNDS), expected, "{}", input.escape_ascii());
    }

    #[test]
    fn arrays_are_taken_apart() {
        check(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nrest", "GET,k [rest]");
        check(b"*1\r\n$0\r\n\r\n", " []");
        check(b"*0\r\nx", " [x]");
        check(b"*-7\r\nx", " [x]");
        check(b"*1\r\n$4\r\na\r\nb\r\n", "a\\r\\nb []");
        // Redis takes any byte for the line feed, and any two after a string.
        check(b"*1\rX$2\rXabXX.", "ab [.]");
    }

    #[test]
    fn what_is_not_whole_is_waited_for() {
        check(b"", "needs 1");
        check(b"*", "needs 2");
        check(b"*2\r", "needs 4");
        check(b"*2\r\n", "needs 5");
        check(b"*2\r\n$3\r\nGET\r\n$10\r\nk", "needs 30");
        check(b"PING", "needs 5");
    }

    #[test]
    fn what_cannot_be_a_command_is_refused_in_the_words_of_redis() {
        check(b"*x\r\n", "-ERR Protocol error: invalid multibulk length");
        check(b"*01\r\n", "-ERR Protocol error: invalid multibulk length");
        check(b"*2147483648\r\n", "-ERR Protocol error: invalid multibulk length");
        check(b"*1\r\n+3\r\n", "-ERR Protocol error: expected '$', got '+'");
        check(b"*1\r\n\r\n", "-ERR Protocol error: expected '$', got ' '");
        check(b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length");
        check(b"*1\r\n$1048577\r\n", "-ERR Protocol error: invalid bulk length");
        check(b"a \"b\r\n", "-ERR Protocol error: unbalanced quotes in request");
        let long = [b'a'; LINE_BYTES_MAX + 1];
        check(&long, "-ERR Protocol error: too big inline request");
        check(&[b"*", &long[..]].concat(), "-ERR Protocol error: too big mbulk count string");
        check(&[b"*1\r\n", &long[..]].concat(), "-ERR Protocol error: too big bulk count string");
    }

    #[test]
    fn strangers_may_not_send_much() {
        let bounds = Bounds { unauthorized: true, ..BOUNDS };
        let check = |input: &[u8], expected: &str| assert_eq!(describe(input, &bounds), expected);
        check(b"*11\r\n", "-ERR Protocol error: unauthenticated multibulk length");
        check(b"*1\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length");
        check(b"*10\r\n$16384\r\n", "needs 16399");
    }

    #[test]
    fn a_command_that_would_be_too_long_is_refused_before_it_has_arrived() {
        let bounds = Bounds { command_bytes_max: 100, ..BOUNDS };
        let expected = "-ERR Protocol error: command is longer than this node takes";
        assert_eq!(describe(b"*2\r\n$3\r\nGET\r\n$90\r\n", &bounds), expected);
    }

    #[test]
    fn lines_are_split_as_a_shell_would() {
        check(b"PING\r\nx", "PING [x]");
        check(b"PING\nx", "PING [x]");
        check(b"\r\nx", " [x]");
        check(b"  set \t k  v \r\n", "set,k,v []");
        check(b"a \"b c\" 'd e'\n", "a,b c,d e []");
        check(br#"a "\x41\x4G\n\"\\q" 'it\'s \n'"#.iter().chain(b"\n").copied().collect::<Vec<_>>().as_slice(),
            r#"a,Ax4G\n\"\\q,it\'s \\n []"#);
        check(b"a\"b c\"\n", "ab c []");
        check(b"a \"b\"c\n", "-ERR Protocol error: unbalanced quotes in request");
        check(b"a 'b'c\n", "-ERR Protocol error: unbalanced quotes in request");
        check(b"a \"b\\\"\n", "-ERR Protocol error: unbalanced quotes in request");
        check(b"a b\0 c\n", "a,b []");
        check(b"a ''\n", "a, []");
    }

    #[test]
    fn numbers_have_one_form() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn pieces_give_the_same_commands_as_the_whole() {
        let input = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$12\r\nvalue\r\nvalue\r\n\r\nGET \"k\"\r\n";
        for split in 0..input.len() {
            let mut parser = Parser::default();
            let mut found = Vec::new();
            let mut from = 0;
            for to in [split, input.len()] {
                while let Parsed::Command { args, consumed } =
                    parser.parse(&input[from..to], &BOUNDS)
                {
                    found.push(args.map(<[u8]>::to_vec).collect::<Vec<_>>());
                    from += consumed;
                }
            }
            assert_eq!(from, input.len());
            let counts: Vec<_> = found.iter().map(Vec::len).collect();
            assert_eq!(counts, [3, 0, 2], "split at {split}");
            assert_eq!(found[0][2], b"value\r\nvalue");
        }
    }
}
