//! A floor server on readiness: one thread, edge-triggered, a read and a write a wake-up.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::Post;
use super::service::{Buffers, Service};

/// Bytes read at once.
const RECEIVE_BYTES: usize = 256 << 10;
/// How often the order to stop is looked for.
const STOP_EVERY: Duration = Duration::from_millis(50);
/// The listener's token; connections have their index.
const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    buffers: Buffers,
}

/// Serves until told to stop.
///
/// # Errors
/// The listener or the readiness loop failed.
pub fn serve(listener: TcpListener, post: &Post, mut service: impl Service) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1_024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; RECEIVE_BYTES];
    post.ready();
    while !post.is_over() {
        match poll.poll(&mut events, Some(STOP_EVERY)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, &poll, &mut connections)?;
                continue;
            }
            let place = &mut connections[event.token().0];
            let Some(connection) = place else { continue };
            if handle(connection, &mut service, &mut buffer).is_err() {
                *place = None;
            }
        }
    }
    Ok(())
}

fn accept_all(
    listener: &mio::net::TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let index = connections.iter().position(Option::is_none).unwrap_or(connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        let connection = Some(Connection { stream, buffers: Buffers::default() });
        if index < connections.len() {
            connections[index] = connection;
        } else {
            connections.push(connection);
        }
    }
}

/// Reads and serves until there is no more, then writes what the kernel takes.
fn handle(
    connection: &mut Connection,
    service: &mut impl Service,
    buffer: &mut [u8],
) -> io::Result<()> {
    loop {
        match connection.stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                connection.buffers.serve(service, &buffer[..length]).map_err(io::Error::other)?;
                if length < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let output = &mut connection.buffers.output;
    let mut sent = 0;
    while sent < output.len() {
        match connection.stream.write(&output[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    output.drain(..sent);
    Ok(())
}
