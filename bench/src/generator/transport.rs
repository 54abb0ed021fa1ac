//! Sockets under sessions: non-blocking, on a readiness loop (epoll on Linux).
//!
//! A wait reports connections at which something arrived; [`Sockets::receive`] is then
//! called until it has no more. A read that does not fill the buffer has emptied the
//! socket, so one system call a wake-up is the rule. A write that the kernel does not
//! take whole is finished when there is room again.

use std::io::{self, Read, Write};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

/// Bytes read at once: the replies to a deep pipeline, and within the second-level cache.
const RECEIVE_BYTES: usize = 256 << 10;

/// Readiness events taken at once.
const EVENTS_MAX: usize = 1_024;

/// A connected socket of either family.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(mio::net::TcpStream),
    /// A UNIX socket.
    Unix(mio::net::UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Socket {
    stream: Stream,
    /// What the kernel has not taken yet.
    unsent: Vec<u8>,
    readable: bool,
}

/// All connections of one thread, by their index.
pub struct Sockets {
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
    buffer: Box<[u8]>,
}

impl Sockets {
    /// Watches these connections.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn new(streams: Vec<Stream>) -> io::Result<Sockets> {
        let poll = Poll::new()?;
        let mut sockets = Vec::with_capacity(streams.len());
        for (index, mut stream) in streams.into_iter().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = poll.registry();
            match &mut stream {
                Stream::Tcp(stream) => registry.register(stream, Token(index), interest)?,
                Stream::Unix(stream) => registry.register(stream, Token(index), interest)?,
            }
            sockets.push(Socket { stream, unsent: Vec::new(), readable: true });
        }
        Ok(Sockets {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            sockets,
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
        })
    }

    /// Waits for something to arrive, at most for `timeout` (rounded up to milliseconds),
    /// and appends the connections at which it did.
    ///
    /// # Errors
    /// Waiting failed, or sending the rest of what was to be sent.
    pub fn wait(&mut self, timeout: Duration, arrived: &mut Vec<usize>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        for event in &self.events {
            let index = event.token().0;
            let socket = &mut self.sockets[index];
            if event.is_writable() && !socket.unsent.is_empty() {
                let taken = write_some(&mut socket.stream, &socket.unsent)?;
                socket.unsent.drain(..taken);
            }
            if is_readable(event) {
                socket.readable = true;
                arrived.push(index);
            }
        }
        Ok(())
    }

    /// What arrived at a connection; nothing when there is no more.
    ///
    /// # Errors
    /// The connection is broken, or ([`io::ErrorKind::UnexpectedEof`]) closed by the server.
    pub fn receive(&mut self, index: usize) -> io::Result<Option<&[u8]>> {
        let socket = &mut self.sockets[index];
        if !socket.readable {
            return Ok(None);
        }
        loop {
            match socket.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    socket.readable = length == self.buffer.len();
                    return Ok(Some(&self.buffer[..length]));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.readable = false;
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends bytes, or keeps what the kernel does not take now, and clears them.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, index: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let socket = &mut self.sockets[index];
        if socket.unsent.is_empty() {
            let taken = write_some(&mut socket.stream, bytes)?;
            socket.unsent.extend_from_slice(&bytes[taken..]);
        } else {
            socket.unsent.extend_from_slice(bytes);
        }
        bytes.clear();
        Ok(())
    }
}

fn is_readable(event: &Event) -> bool {
    event.is_readable() || event.is_read_closed() || event.is_error()
}

/// Writes until the kernel takes no more; how many bytes it took.
fn write_some(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn pair() -> (Sockets, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let (far, _) = listener.accept().unwrap();
        let stream = Stream::Tcp(mio::net::TcpStream::from_std(near));
        (Sockets::new(vec![stream]).unwrap(), far)
    }

    fn receive_all(sockets: &mut Sockets, length: usize) -> Vec<u8> {
        let mut received = Vec::new();
        let mut arrived = Vec::new();
        while received.len() < length {
            arrived.clear();
            sockets.wait(PATIENCE, &mut arrived).unwrap();
            for index in &arrived {
                while let Some(bytes) = sockets.receive(*index).unwrap() {
                    received.extend_from_slice(bytes);
                }
            }
        }
        received
    }

    #[test]
    fn more_than_the_kernel_takes_at_once_arrives_whole() {
        let (mut sockets, mut far) = pair();
        let sent: Vec<u8> = (0..16u32 << 20).map(|index| (index / 7) as u8).collect();
        sockets.send(0, &mut sent.clone()).unwrap();
        assert!(!sockets.sockets[0].unsent.is_empty(), "the test should fill the socket");
        let expected = sent.clone();
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; expected.len()];
            far.read_exact(&mut received).unwrap();
            assert!(received == expected);
            far.write_all(&received[..1 << 20]).unwrap();
            far
        });
        let received = receive_all(&mut sockets, 1 << 20);
        assert!(received[..] == sent[..1 << 20]);
        drop(reader.join().unwrap());
    }

    #[test]
    fn a_server_that_closes_is_an_error() {
        let (mut sockets, far) = pair();
        drop(far);
        let mut arrived = Vec::new();
        sockets.wait(PATIENCE, &mut arrived).unwrap();
        assert_eq!(sockets.receive(0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
