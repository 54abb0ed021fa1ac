//! The network: streams of bytes between clients and nodes, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use corelane_client::{Connecting, Connector, Stream};
use corelane_engine::ConnectionId;
use corelane_ring::NodeName;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// All times are whole milliseconds, since that is what tokio's timers count in.
pub(super) const MS: u64 = 1_000;
/// How long bytes take, in milliseconds.
const DELAY_MS: std::ops::Range<u64> = 1..9;
/// What a lost packet costs: the time after which it is sent again, and nothing overtakes it.
const RESEND_MS: u64 = 200;
/// The share of pieces that are lost, in thousandths.
const LOST_PER_MILLE: u32 = 8;

/// One way of a stream.
#[derive(Debug, Default)]
struct Pipe {
    /// What is on its way, and when it arrives.
    pieces: VecDeque<(u64, Piece)>,
    last_us: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// Nothing follows.
    End,
}

/// How far a client is with opening a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    UntilUs(u64),
    Open,
    Refused,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: usize,
    pub(super) node: NodeName,
    opening: Opening,
    to_node: Pipe,
    to_client: Pipe,
    /// Arrived at the client.
    arrived: VecDeque<u8>,
    ended: bool,
    /// The client has dropped its end.
    dropped: bool,
    waker: Option<Waker>,
    /// Where it is at the node, once it was accepted there.
    pub(super) place: Option<(usize, ConnectionId)>,
    pub(super) was_accepted: bool,
    /// Whether the node reads.
    pub(super) reads: bool,
}

/// See the module. Everybody has a handle to the same network.
#[derive(Clone, Debug)]
pub(super) struct Net(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told whenever a client has sent something.
    sent: Notify,
}

/// What there is of the network at one time.
#[derive(Debug)]
pub(super) struct State {
    origin: Instant,
    random: SmallRng,
    /// By number, in the order of opening.
    pub(super) links: BTreeMap<u64, Link>,
    next: u64,
    /// Clients and nodes between which nothing arrives before this time.
    cuts: BTreeMap<(usize, NodeName), u64>,
}

impl Net {
    pub(super) fn new(random: SmallRng) -> Net {
        let (links, cuts) = Default::default();
        let state = State { origin: Instant::now(), random, links, next: 0, cuts };
        Net(Arc::new(Shared { state: Mutex::new(state), sent: Notify::new() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("whoever panicked has ended the run")
    }

    /// Waits until something was sent, or for a time.
    pub(super) async fn sent_or(&self, until_us: u64) {
        let until = self.lock().origin + std::time::Duration::from_micros(until_us);
        // Either way the world looks at what there is.
        let _ = tokio::time::timeout_at(until, self.0.sent.notified()).await;
    }

    pub(super) fn dialer(&self, client: usize) -> Arc<Dialer> {
        Arc::new(Dialer { net: self.clone(), client })
    }

    /// The world's time in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        self.lock().now_us()
    }
}

impl State {
    pub(super) fn now_us(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// When something sent now arrives, if nothing goes wrong with it.
    fn arrival_us(&mut self, client: usize, node: &NodeName) -> u64 {
        let now_us = self.now_us();
        let mut delay_ms = self.random.random_range(DELAY_MS);
        if self.random.random_ratio(LOST_PER_MILLE, 1_000) {
            delay_ms += RESEND_MS;
        }
        let until_us = self.cuts.get(&(client, node.clone())).copied().unwrap_or(0);
        now_us.max(until_us) + delay_ms * MS
    }

    fn put(&mut self, link: u64, way: fn(&mut Link) -> &mut Pipe, piece: Piece) {
        let Some((client, node)) = self.links.get(&link).map(|l| (l.client, l.node.clone())) else {
            return;
        };
        let at_us = self.arrival_us(client, &node);
        let pipe = way(self.links.get_mut(&link).expect("it was just there"));
        // Nothing overtakes.
        pipe.last_us = pipe.last_us.max(at_us);
        pipe.pieces.push_back((pipe.last_us, piece));
    }

    /// The node sends bytes.
    pub(super) fn put_to_client(&mut self, link: u64, bytes: Vec<u8>) {
        self.put(link, |link| &mut link.to_client, Piece::Bytes(bytes));
    }

    /// The node's end is over, and forgets the stream.
    pub(super) fn end_at_node(&mut self, link: u64) {
        self.put(link, |link| &mut link.to_client, Piece::End);
        self.leave_node(link);
    }

    fn leave_node(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.place = None;
        link.reads = false;
        if link.dropped {
            self.links.remove(&number);
        }
    }

    /// What has arrived at a node next on a stream: bytes, or none where it has ended.
    pub(super) fn take_at_node(&mut self, link: u64, now_us: u64) -> Option<Vec<u8>> {
        let link = self.links.get_mut(&link)?;
        let (at_us, _) = link.to_node.pieces.front().filter(|_| link.reads)?;
        if *at_us > now_us {
            return None;
        }
        Some(match link.to_node.pieces.pop_front().expect("it was just seen").1 {
            Piece::Bytes(bytes) => bytes,
            Piece::End => Vec::new(),
        })
    }

    /// Streams that wait to be accepted or refused by their nodes, due by now.
    pub(super) fn knocking(&self, node: &NodeName, now_us: u64) -> Vec<u64> {
        let knocks = |link: &Link| {
            link.node == *node && matches!(link.opening, Opening::UntilUs(at_us) if at_us <= now_us)
        };
        self.links.iter().filter(|(_, link)| knocks(link)).map(|(number, _)| *number).collect()
    }

    /// The node's system takes the connection (also of a process that is stopped), or refuses it.
    pub(super) fn answer(&mut self, link: u64, accepted: bool) {
        let link = self.links.get_mut(&link).expect("it knocks");
        link.opening = if accepted { Opening::Open } else { Opening::Refused };
        link.waker.take().into_iter().for_each(Waker::wake);
    }

    /// All streams to a node.
    pub(super) fn links_of(&self, node: &NodeName) -> Vec<u64> {
        let its = self.links.iter().filter(|(_, link)| link.node == *node);
        its.map(|(number, _)| *number).collect()
    }

    /// Streams to a node that its system has taken, and the node has not.
    pub(super) fn accepted_of(&mut self, node: &NodeName) -> impl Iterator<Item = &mut Link> {
        let waits = |link: &&mut Link| {
            link.node == *node
                && link.opening == Opening::Open
                && link.place.is_none()
                && !link.ended
                && !link.was_accepted
        };
        self.links.values_mut().filter(waits)
    }

    /// Lets what has arrived by now reach the clients, and forgets streams that are over at both
    /// ends. Returns when more arrives.
    pub(super) fn deliver(&mut self, now_us: u64) -> u64 {
        let mut next_us = u64::MAX;
        for link in self.links.values_mut() {
            while let Some((at_us, _)) = link.to_client.pieces.front() {
                if *at_us > now_us {
                    next_us = next_us.min(*at_us);
                    break;
                }
                match link.to_client.pieces.pop_front().expect("it was just seen").1 {
                    Piece::Bytes(bytes) => link.arrived.extend(bytes),
                    Piece::End => link.ended = true,
                }
                link.waker.take().into_iter().for_each(Waker::wake);
            }
            if let Opening::UntilUs(at_us) = link.opening {
                next_us = next_us.min(at_us);
            }
            // What has arrived at a node that is stopped waits for that.
            if let Some((at_us, _)) = link.to_node.pieces.front()
                && *at_us > now_us
            {
                next_us = next_us.min(*at_us);
            }
        }
        next_us
    }

    /// From now to then nothing passes between a client and a node; what is on its way is late.
    pub(super) fn cut(&mut self, client: usize, node: &NodeName, until_us: u64) {
        self.cuts.insert((client, node.clone()), until_us);
        for link in self.links.values_mut() {
            if link.client != client || link.node != *node {
                continue;
            }
            for pipe in [&mut link.to_node, &mut link.to_client] {
                for (at_us, _) in &mut pipe.pieces {
                    *at_us = until_us.max(*at_us);
                }
                pipe.last_us = pipe.last_us.max(until_us);
            }
        }
    }

    /// Breaks a stream, with all that is on its way.
    pub(super) fn lose(&mut self, link: u64) {
        let Some(lost) = self.links.get_mut(&link) else { return };
        lost.to_node.pieces.clear();
        lost.to_client.pieces.clear();
        lost.arrived.clear();
        lost.ended = true;
        lost.waker.take().into_iter().for_each(Waker::wake);
        self.leave_node(link);
    }
}

/// Opens the streams of one client.
#[derive(Debug)]
pub(super) struct Dialer {
    net: Net,
    client: usize,
}

impl Connector for Dialer {
    fn connect(&self, address: &str) -> Connecting {
        let (host, _) = address.split_once(':').expect("addresses have ports");
        let node = NodeName::new(host).expect("hosts are called as their nodes");
        let mut state = self.net.lock();
        let at_us = state.arrival_us(self.client, &node);
        state.next += 1;
        let number = state.next;
        let (to_node, to_client, arrived) = Default::default();
        let link = Link {
            client: self.client,
            node,
            opening: Opening::UntilUs(at_us),
            to_node,
            to_client,
            arrived,
            ended: false,
            dropped: false,
            waker: None,
            place: None,
            was_accepted: false,
            reads: false,
        };
        state.links.insert(number, link);
        drop(state);
        self.net.0.sent.notify_one();
        let stream = ClientStream { net: self.net.clone(), number };
        Box::pin(async move {
            std::future::poll_fn(|context| stream.poll_open(context)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// A client's end of a stream.
#[derive(Debug)]
struct ClientStream {
    net: Net,
    number: u64,
}

impl ClientStream {
    fn poll_open(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        let link = state.links.get_mut(&self.number).expect("it lives as long as this");
        match link.opening {
            Opening::Open => Poll::Ready(Ok(())),
            Opening::Refused => Poll::Ready(Err(ErrorKind::ConnectionRefused.into())),
            Opening::UntilUs(_) => {
                link.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        let link = state.links.get_mut(&self.number).expect("it lives as long as this");
        if link.arrived.is_empty() && !link.ended {
            link.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = link.arrived.len().min(buffer.remaining());
        let (front, back) = link.arrived.as_slices();
        let first = count.min(front.len());
        buffer.put_slice(&front[..first]);
        buffer.put_slice(&back[..count - first]);
        link.arrived.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.lock();
        let link = state.links.get(&self.number).expect("it lives as long as this");
        if link.ended {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        state.put(self.number, |link| &mut link.to_node, Piece::Bytes(bytes.to_vec()));
        drop(state);
        self.net.0.sent.notify_one();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        // Dropped while the state is looked at, the run has failed already.
        let Ok(mut state) = self.net.0.state.try_lock() else { return };
        match state.links.get(&self.number) {
            Some(link) if link.place.is_some() => {
                state.put(self.number, |link| &mut link.to_node, Piece::End);
                let link = state.links.get_mut(&self.number).expect("it was just there");
                link.dropped = true;
            }
            _ => drop(state.links.remove(&self.number)),
        }
        drop(state);
        self.net.0.sent.notify_one();
    }
}
