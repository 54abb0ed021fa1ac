//! A raw connection: requests as frames, replies as they come, and every way to misbehave.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use corelane_protocol::limits::NOTICE_ID;
use corelane_protocol::wire::{ReplyDecoded, decode_reply, encode_request};
use corelane_protocol::{
    Answer, Hello, MonotonicUs, OldValue, Reply, Request, RequestHead, RequestId, Set,
    SetCondition, Status, Ttl,
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::process::WAIT_MAX;

/// Longest body of a reply that is read; longer than any that a node may send.
const BODY_BYTES_MAX: usize = (64 << 20) + 255;

/// A reply, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) id: u32,
    pub(crate) part: Option<u16>,
    pub(crate) what: What,
}

/// What a reply says, as far as the tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Done,
    Value(Vec<u8>),
    Number(u64),
    Welcome { core: u16, cores: u16, name: String, value_bytes_max: u32 },
    Pong,
    Busy,
    Stats { core: u16 },
    Redirect(Status, String),
    Topology(Vec<u8>),
    Other,
    End,
    Failed(Status),
}

impl Got {
    pub(crate) fn notice(status: Status) -> Got {
        Got { id: NOTICE_ID, part: None, what: What::Failed(status) }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The node shut its side down after the last reply.
    Finished,
    /// The connection was reset.
    Reset,
}

/// See the module.
pub(crate) struct Wire {
    socket: Socket,
    received: Vec<u8>,
    taken: usize,
    /// The node's clock, as the last pong told it.
    clock: MonotonicUs,
}

impl Wire {
    /// Connects to `IP:PORT` or `unix:PATH`.
    pub(crate) fn connect(address: &str) -> Wire {
        Wire::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    pub(crate) fn try_connect(address: &str) -> std::io::Result<Wire> {
        let (domain, address) = match address.strip_prefix("unix:") {
            Some(path) => (Domain::UNIX, SockAddr::unix(path)?),
            None => {
                let address: SocketAddr = address.parse().expect("an address");
                (Domain::for_address(address), address.into())
            }
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_read_timeout(Some(WAIT_MAX))?;
        socket.set_write_timeout(Some(WAIT_MAX))?;
        if domain == Domain::UNIX {
            // Only who may block waits here for room in the queue of the listener (connect(2)),
            // as long as a write may take.
            socket.connect(&address)?;
        } else {
            socket.connect_timeout(&address, WAIT_MAX)?;
            socket.set_tcp_nodelay(true)?;
        }
        Ok(Wire { socket, received: Vec::new(), taken: 0, clock: MonotonicUs(0) })
    }

    /// A connection to a core, as its hello asks for.
    pub(crate) fn on_core(address: &str, core: u16) -> Wire {
        let mut wire = Wire::connect(address);
        wire.send(&hello_frame(&Hello { core: Some(core), ..hello() }));
        match wire.next().what {
            What::Welcome { core: landed, .. } => assert_eq!(landed, core),
            other => panic!("no welcome but {other:?}"),
        }
        wire
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the node takes it");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends as much as fits at once; how much that was.
    pub(crate) fn try_send_some(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.socket.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
            Err(error) if is_over_time(&error) => Ok(0),
            result => result,
        }
    }

    /// Whether the node has said anything, or ended the connection.
    pub(crate) fn has_input(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = self.socket.recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        !matches!(peeked, Err(error) if is_over_time(&error))
    }

    /// Lets the kernel keep little of what is sent and not read.
    pub(crate) fn keep_little(&self) {
        // The kernel rounds it up to the least there may be.
        self.socket.set_send_buffer_size(1).expect("a socket");
    }

    /// Sends as much as fits without waiting for more than `patience`; how much that was.
    pub(crate) fn send_while_taken(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.socket.set_write_timeout(Some(patience)).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(length) => sent += length,
                Err(error) if is_over_time(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the node closed: {error}"),
            }
        }
        self.socket.set_write_timeout(Some(WAIT_MAX)).unwrap();
        sent
    }

    /// The next reply.
    pub(crate) fn next(&mut self) -> Got {
        self.try_next().unwrap_or_else(|end| panic!("no reply, but {end:?}"))
    }

    /// The next reply, or how the connection ended before there was one.
    pub(crate) fn try_next(&mut self) -> Result<Got, End> {
        loop {
            match decode_reply(&self.received[self.taken..], BODY_BYTES_MAX) {
                ReplyDecoded::Complete { frame, consumed } => {
                    let what = match frame.reply {
                        Reply::Done { .. } => What::Done,
                        Reply::Value(value) => What::Value(value.bytes.to_vec()),
                        Reply::Number { number, .. } => What::Number(number),
                        Reply::Pong { clock } => {
                            self.clock = clock;
                            What::Pong
                        }
                        Reply::Busy { .. } => What::Busy,
                        Reply::Welcome(welcome) => What::Welcome {
                            core: welcome.core,
                            cores: welcome.cores,
                            name: String::from_utf8_lossy(welcome.node_name).into_owned(),
                            value_bytes_max: welcome.value_bytes_max,
                        },
                        Reply::Stats { core, .. } => What::Stats { core },
                        Reply::End => What::End,
                        Reply::Failed { status, .. } => What::Failed(status),
                        Reply::Redirect(redirect) => What::Redirect(
                            redirect.redirection.status(),
                            redirect.address.to_owned(),
                        ),
                        Reply::Topology { table } => What::Topology(table.to_vec()),
                        _ => What::Other,
                    };
                    let got = Got { id: frame.head.id.0, part: frame.head.part, what };
                    self.taken += consumed;
                    return Ok(got);
                }
                ReplyDecoded::Incomplete { .. } => self.receive()?,
                ReplyDecoded::Fatal(error) => panic!("the node sends no reply: {error}"),
            }
        }
    }

    /// The next reply, if it begins to come in time.
    pub(crate) fn next_within(&mut self, time: Duration) -> Option<Got> {
        assert!(self.received.len() == self.taken, "replies were not looked at");
        self.socket.set_read_timeout(Some(time)).unwrap();
        let peeked = self.socket.peek(&mut [std::mem::MaybeUninit::uninit()]);
        self.socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
        match peeked {
            Ok(_) => Some(self.next()),
            Err(error) if is_over_time(&error) || error.kind() == ErrorKind::Interrupted => None,
            Err(error) => panic!("no reply: {error}"),
        }
    }

    fn receive(&mut self) -> Result<(), End> {
        self.received.drain(..self.taken);
        self.taken = 0;
        let mut piece = [0; 64 << 10];
        match self.socket.read(&mut piece) {
            Ok(0) => {
                assert!(self.received.is_empty(), "the end comes inside of a reply");
                Err(End::Finished)
            }
            Ok(length) => {
                self.received.extend_from_slice(&piece[..length]);
                Ok(())
            }
            // The end of a ring that this thread had may interrupt it.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) => panic!("the node does not answer: {error}"),
        }
    }

    /// The replies that come until the connection ends, and how it does.
    pub(crate) fn rest(&mut self) -> (Vec<Got>, End) {
        let mut replies = Vec::new();
        loop {
            match self.try_next() {
                Ok(got) => replies.push(got),
                Err(end) => return (replies, end),
            }
        }
    }

    /// Panics unless these are the last replies before the node shuts its side down.
    pub(crate) fn assert_ends_with(&mut self, expected: &[Got]) {
        let (replies, end) = self.rest();
        assert_eq!((replies.as_slice(), end), (expected, End::Finished));
    }

    /// One request and its reply.
    pub(crate) fn ask(&mut self, request: &Request<'_>) -> What {
        const ID: u32 = 0x00A5_4B1D;
        self.send(&frame(ID, request));
        let got = self.next();
        assert_eq!(got.id, ID);
        got.what
    }

    /// The node's clock.
    pub(crate) fn clock(&mut self) -> MonotonicUs {
        assert_eq!(self.ask(&Request::Ping), What::Pong);
        self.clock
    }

    /// Panics unless requests are served on this connection.
    pub(crate) fn assert_served(&mut self) {
        assert_eq!(self.ask(&set(b"served", b"yes")), What::Done);
        assert_eq!(self.ask(&get(b"served")), What::Value(b"yes".to_vec()));
    }

    /// Shuts the sending side down.
    pub(crate) fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("still connected");
    }

    /// The same, where the node may have closed already.
    pub(crate) fn finish_if_open(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes with a reset, as a process that was killed with unread input does.
    pub(crate) fn vanish(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

fn is_over_time(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The frame of a request.
pub(crate) fn frame(id: u32, request: &Request<'_>) -> Vec<u8> {
    encoded(&RequestHead { id: RequestId(id), ..RequestHead::default() }, request)
}

/// The frame of a write that is not to be answered.
pub(crate) fn frame_without_answer(id: u32, request: &Request<'_>) -> Vec<u8> {
    let head = RequestHead { id: RequestId(id), answer: Answer::Never, ..RequestHead::default() };
    encoded(&head, request)
}

/// The frame of a request that is not to be executed later than at a moment of the node's clock.
pub(crate) fn frame_until(id: u32, deadline: MonotonicUs, request: &Request<'_>) -> Vec<u8> {
    let id = RequestId(id);
    encoded(&RequestHead { id, deadline: Some(deadline), ..RequestHead::default() }, request)
}

fn encoded(head: &RequestHead, request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(head, request, &mut bytes).expect("a possible request");
    bytes
}

/// A hello that asks for nothing special.
pub(crate) fn hello() -> Hello<'static> {
    Hello { version: 1, core: None, token: b"" }
}

/// The frame of a hello.
pub(crate) fn hello_frame(hello: &Hello<'_>) -> Vec<u8> {
    frame(0, &Request::Hello(*hello))
}

pub(crate) fn get(key: &[u8]) -> Request<'_> {
    Request::Get { key, least_version: None }
}

pub(crate) fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request::Set(Set {
        key,
        value,
        user_flags: 0,
        ttl: Ttl::Default,
        condition: SetCondition::Always,
        old: OldValue::Omit,
    })
}
