//! Writes entries over one connection, batch by batch, and asks how many there are.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::wire::{Dialect, Entry, Unexpected};
use crate::workload::keys::KeyFormatError;
use crate::workload::{KeyFormat, KeyNumber, ValueFormat};

/// Requests in a batch at most; the replies to them fit into the system's buffers, so writing
/// all before reading any cannot wedge.
const BATCH_REQUESTS: u64 = 256;
/// Bytes from which on a batch is sent.
const BATCH_BYTES: usize = 128 << 10;
/// How long a server may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Entries live at least so long; none is to expire while it counts.
const TTL_LEAST_MS: u64 = 3_600_000;
/// And less than this longer, spread evenly, so that they do not expire together.
const TTL_SPREAD_MS: u64 = 3_600_000;

/// Whether entries expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// They stay.
    Never,
    /// In one to two hours.
    Later,
}

/// What a server is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// Entries.
    pub items: u64,
    /// Bytes of each key.
    pub key_bytes: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Whether they expire.
    pub expiring: Expiring,
}

/// Why a server was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The keys would not differ.
    #[error(transparent)]
    Keys(#[from] KeyFormatError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// A request was not done.
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    /// It takes too long.
    #[error("{written} entries were written in the time allowed")]
    TooSlow {
        /// So far.
        written: u64,
    },
}

/// A connection to a server that is filled.
#[derive(Debug)]
pub struct Filler {
    dialect: Dialect,
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Filler {
    /// Connects.
    ///
    /// # Errors
    /// There is no connection, or the server does not speak the dialect.
    pub fn connect(address: SocketAddr, dialect: Dialect) -> Result<Filler, FillError> {
        let stream = TcpStream::connect_timeout(&address, SILENCE_LIMIT)?;
        stream.set_read_timeout(Some(SILENCE_LIMIT))?;
        stream.set_write_timeout(Some(SILENCE_LIMIT))?;
        stream.set_nodelay(true)?;
        let mut filler = Filler { dialect, stream, input: Vec::new(), output: Vec::new() };
        if dialect.open(&mut filler.output) {
            filler.exchange(1)?;
        }
        Ok(filler)
    }

    /// Writes all entries.
    ///
    /// # Errors
    /// They are not all written before the deadline.
    pub fn fill(&mut self, filling: &Filling, deadline: Instant) -> Result<(), FillError> {
        let keys = KeyFormat::new(filling.items, filling.key_bytes)?;
        let values = ValueFormat::new(filling.value_bytes, 1);
        let (mut key, mut value) = (keys.buffer(), Vec::new());
        let mut batch = 0;
        for item in 0..filling.items {
            let number = KeyNumber(item);
            values.write(number, &mut value);
            let key = keys.write(number, &mut key);
            let ttl = ttl(item, filling.expiring);
            self.dialect.set(Entry { key, value: &value, ttl }, &mut self.output);
            batch += 1;
            let last = item + 1 == filling.items;
            if batch == BATCH_REQUESTS || self.output.len() >= BATCH_BYTES || last {
                self.exchange(batch)?;
                batch = 0;
                if Instant::now() > deadline {
                    return Err(FillError::TooSlow { written: item + 1 });
                }
            }
        }
        Ok(())
    }

    /// How many entries the server has.
    ///
    /// # Errors
    /// It does not tell.
    pub fn items(&mut self) -> Result<u64, FillError> {
        self.dialect.ask_items(&mut self.output);
        self.send()?;
        loop {
            if let Some(items) = self.dialect.items(&self.input)? {
                self.input.clear();
                return Ok(items);
            }
            self.receive()?;
        }
    }

    /// Sends what is to be sent, and waits for so many answers.
    fn exchange(&mut self, answers: u64) -> Result<(), FillError> {
        self.send()?;
        let mut read = 0;
        for _ in 0..answers {
            loop {
                if let Some(length) = self.dialect.done(&self.input[read..])? {
                    read += length;
                    break;
                }
                self.receive()?;
            }
        }
        self.input.drain(..read);
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.input.extend(&buffer[..length]);
                Ok(())
            }
        }
    }
}

/// How long an entry lives. Neighbours end far from each other.
fn ttl(item: u64, expiring: Expiring) -> Option<Duration> {
    let spread = item.wrapping_mul(0x9e37_79b9_7f4a_7c15) % TTL_SPREAD_MS;
    (expiring == Expiring::Later).then(|| Duration::from_millis(TTL_LEAST_MS + spread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server of memcached's protocol for one connection, which counts what it is sent and
    /// answers in pieces of three bytes.
    fn serve(listener: TcpListener, refuse_from: u64) -> u64 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut input = Vec::new();
        let mut items = 0;
        loop {
            let mut buffer = [0; 1_000];
            let length = stream.read(&mut buffer).unwrap();
            if length == 0 {
                return items;
            }
            input.extend(&buffer[..length]);
            let mut answers = Vec::new();
            while let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") {
                let command = String::from_utf8(input[..end].to_vec()).unwrap();
                let words: Vec<&str> = command.split(' ').collect();
                if words[0] == "stats" {
                    answers.extend(format!("STAT curr_items {items}\r\nEND\r\n").into_bytes());
                    input.drain(..end + 2);
                    continue;
                }
                let whole = end + 2 + words[4].parse::<usize>().unwrap() + 2;
                if input.len() < whole {
                    break;
                }
                input.drain(..whole);
                items += 1;
                let answer = if items < refuse_from { "STORED\r\n" } else { "NOT_STORED\r\n" };
                answers.extend(answer.as_bytes());
            }
            for piece in answers.chunks(3) {
                stream.write_all(piece).unwrap();
            }
        }
    }

    fn fill(items: u64, refuse_from: u64) -> (Result<u64, FillError>, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || serve(listener, refuse_from));
        let filling = Filling { items, key_bytes: 16, value_bytes: 64, expiring: Expiring::Later };
        let deadline = Instant::now() + SILENCE_LIMIT;
        let result = Filler::connect(address, Dialect::Memcached).and_then(|mut filler| {
            filler.fill(&filling, deadline)?;
            filler.items()
        });
        (result, server.join().unwrap())
    }

    #[test]
    fn all_entries_are_written_and_counted() {
        for items in [1, 255, 256, 257, 1_000] {
            let (result, received) = fill(items, u64::MAX);
            assert_eq!((result.unwrap(), received), (items, items));
        }
    }

    #[test]
    fn a_refused_write_is_an_error() {
        let (result, _) = fill(1_000, 600);
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "the server answered \"NOT_STORED\"");
    }

    #[test]
    fn entries_live_for_one_to_two_hours() {
        assert_eq!(ttl(5, Expiring::Never), None);
        for item in 0..1_000 {
            let seconds = ttl(item, Expiring::Later).unwrap().as_secs();
            assert!((3_600..7_200).contains(&seconds));
        }
    }
}
