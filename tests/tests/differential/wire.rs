//! Replies of RESP2 and RESP3, taken from a stream as trees.

use std::fmt;
use std::io::{ErrorKind, Read, Write};

/// A reply, with the bytes that it came as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reply {
    /// Its first byte.
    pub(crate) kind: u8,
    /// What stands on its line, or the bytes of a string.
    pub(crate) text: Vec<u8>,
    /// Its elements; of a map, keys and values in turn.
    pub(crate) elements: Vec<Reply>,
}

impl Reply {
    /// Whether there is nothing, in either way of saying it.
    pub(crate) fn is_null(&self) -> bool {
        self.kind == b'_' || (matches!(self.kind, b'$' | b'*') && self.text == b"-1")
    }

    pub(crate) fn is_error(&self) -> bool {
        self.kind == b'-'
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        std::str::from_utf8(&self.text).ok()?.parse().ok()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", char::from(self.kind), self.text.escape_ascii())?;
        if !self.elements.is_empty() {
            let elements: Vec<String> = self.elements.iter().map(Reply::to_string).collect();
            write!(f, "({})", elements.join(" "))?;
        }
        Ok(())
    }
}

/// One end of a connection to a server.
pub(crate) struct Connection<S> {
    stream: S,
    received: Vec<u8>,
    start: usize,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Connection<S> {
        Connection { stream, received: Vec::new(), start: 0 }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next reply; none once the server has closed the connection, or is silent for long.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        let line = self.line()?;
        let (&kind, text) = line.split_first().expect("a reply's line is not empty");
        let number = || -> i64 {
            let text = std::str::from_utf8(text).expect("a length is text");
            text.parse().unwrap_or_else(|_| panic!("{text:?} is no length"))
        };
        let mut reply = Reply { kind, text: text.to_vec(), elements: Vec::new() };
        match kind {
            b'$' | b'=' if number() >= 0 => {
                let length = number() as usize;
                reply.text = self.bytes(length + 2)?;
                let ending = reply.text.split_off(length);
                assert_eq!(ending, b"\r\n", "the end of a string");
            }
            b'*' | b'~' | b'%' | b'>' if number() >= 0 => {
                let count = number() * if kind == b'%' { 2 } else { 1 };
                reply.elements = (0..count).map(|_| self.reply()).collect::<Option<_>>()?;
            }
            b'+' | b'-' | b':' | b'_' | b'$' | b'*' | b',' | b'#' | b'(' => {}
            _ => panic!("{} is no reply", line.escape_ascii()),
        }
        Some(reply)
    }

    /// Everything until the server closes the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        self.received.split_off(self.start)
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = &self.received[self.start..];
            if let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = rest[..end].to_vec();
                self.start += end + 2;
                return Some(line);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.received.len() - self.start < count {
            if !self.fill() {
                return None;
            }
        }
        let bytes = self.received[self.start..self.start + count].to_vec();
        self.start += count;
        Some(bytes)
    }

    fn fill(&mut self) -> bool {
        self.received.drain(..self.start);
        self.start = 0;
        let mut piece = [0; 16_384];
        match self.stream.read(&mut piece) {
            Ok(count) => {
                self.received.extend_from_slice(&piece[..count]);
                count > 0
            }
            // A server that closes with unread input resets the connection; one that does not
            // answer in time is as good as gone.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::WouldBlock | ErrorKind::TimedOut
                ) =>
            {
                false
            }
            Err(error) => panic!("no reply: {error}"),
        }
    }
}

/// A command as an array of strings.
pub(crate) fn encode(command: &[Vec<u8>], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for argument in command {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}
