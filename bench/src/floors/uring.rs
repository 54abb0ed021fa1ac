//! A floor server on raw io_uring, through `corelane-uring`: a multishot receive
//! into provided buffers, one send a connection a turn, one system call a turn.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use corelane_uring::{Armed, Completion, Config, Receipt, Ring, Token, Wait};

use super::Post;
use super::service::{Buffers, Service};

/// How often the order to stop is looked for.
const STOP_EVERY: Duration = Duration::from_millis(50);
/// Most connections.
const CONNECTIONS_MAX: u32 = 16_384;
/// As a node's, so that the two are compared: see its driver.
const RING: Config = Config {
    queue_entries: 1_024,
    completion_entries: 8_192,
    slots: CONNECTIONS_MAX,
    buffers: 1_024,
    buffer_bytes: 4_096,
};
/// The token of accepting; it names no slot.
const LISTENER: Token = Token { slot: CONNECTIONS_MAX, generation: 0 };

/// What a connection's slot is used for. It is free when it neither receives nor sends and
/// the connection is over.
#[derive(Default)]
struct Connection {
    buffers: Buffers,
    generation: u32,
    state: State,
    receiving: bool,
    /// The buffer to send next with; none while it is with the kernel.
    spare: Option<Vec<u8>>,
    /// Whether replies wait to be sent at the end of the turn.
    dirty: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Open,
    /// To be closed when its operations have ended.
    Over,
}

struct Server<S> {
    ring: Ring,
    service: S,
    connections: Vec<Connection>,
    /// Connections with replies to send.
    dirty: Vec<u32>,
    /// Connections whose receiving has to be begun again.
    rearm: Vec<u32>,
}

/// Serves until told to stop.
///
/// # Errors
/// There is no io_uring, or it failed.
pub fn serve(listener: TcpListener, post: &Post, service: impl Service) -> io::Result<()> {
    let ring = Ring::new(&RING).map_err(io::Error::other)?;
    let (connections, dirty, rearm) = Default::default();
    let mut server = Server { ring, service, connections, dirty, rearm };
    server.ring.listen(LISTENER, listener.as_fd());
    post.ready();
    while !post.is_over() {
        server.ring.turn(Wait::AtMost(STOP_EVERY))?;
        while let Some(completion) = server.ring.reap() {
            server.handle(completion, &listener)?;
        }
        server.end_turn();
    }
    Ok(())
}

impl<S: Service> Server<S> {
    fn handle(&mut self, completion: Completion, listener: &TcpListener) -> io::Result<()> {
        match completion {
            Completion::Incoming { .. } => {
                let (stream, _) = listener.accept()?;
                self.open(stream)?;
                self.ring.listen(LISTENER, listener.as_fd());
            }
            Completion::Received { token, receipt, armed } => self.received(token, receipt, armed),
            Completion::Sent { token, payload: mut buffer, result } => {
                let connection = &mut self.connections[token.slot as usize];
                buffer.clear();
                connection.spare = Some(buffer);
                if result.is_err() {
                    connection.state = State::Over;
                }
                self.mark_dirty(token.slot);
            }
            Completion::Woken => {}
        }
        Ok(())
    }

    fn open(&mut self, stream: TcpStream) -> io::Result<()> {
        let free = self.connections.iter().position(|one| one.state == State::Free);
        let index = free.unwrap_or_else(|| {
            self.connections.push(Connection::default());
            self.connections.len() - 1
        });
        stream.set_nodelay(true)?;
        self.ring.install(index as u32, stream.into())?;
        let connection = &mut self.connections[index];
        *connection = Connection {
            generation: connection.generation.wrapping_add(1),
            state: State::Open,
            receiving: true,
            spare: Some(Vec::new()),
            ..Connection::default()
        };
        let token = Token { slot: index as u32, generation: connection.generation };
        self.ring.receive(token);
        Ok(())
    }

    fn received(&mut self, token: Token, receipt: Receipt, armed: Armed) {
        let connection = &mut self.connections[token.slot as usize];
        match receipt {
            Receipt::Bytes(filled) => {
                let served = connection.buffers.serve(&mut self.service, filled.bytes());
                self.ring.recycle(filled);
                if served.is_err() && connection.state == State::Open {
                    connection.state = State::Over;
                    self.ring.cancel_receive(token);
                }
            }
            Receipt::NoBuffers => {}
            Receipt::End | Receipt::Cancelled | Receipt::Failed(_) => {
                connection.state = State::Over;
            }
        }
        if armed == Armed::Ended {
            connection.receiving = false;
            if connection.state == State::Open {
                self.rearm.push(token.slot);
            }
        }
        self.mark_dirty(token.slot);
    }

    fn mark_dirty(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Sends what the turn has to say, receives again where that has ended, and closes what
    /// is over.
    fn end_turn(&mut self) {
        for slot in self.rearm.drain(..) {
            let connection = &mut self.connections[slot as usize];
            if connection.state == State::Open {
                connection.receiving = true;
                self.ring.receive(Token { slot, generation: connection.generation });
            }
        }
        for slot in self.dirty.drain(..) {
            let connection = &mut self.connections[slot as usize];
            connection.dirty = false;
            if connection.state == State::Over {
                if !connection.receiving && connection.spare.is_some() {
                    drop(self.ring.uninstall(slot));
                    connection.state = State::Free;
                }
            } else if !connection.buffers.output.is_empty()
                && let Some(spare) = connection.spare.take()
            {
                let output = std::mem::replace(&mut connection.buffers.output, spare);
                self.ring.send(Token { slot, generation: connection.generation }, output);
            }
        }
    }
}
