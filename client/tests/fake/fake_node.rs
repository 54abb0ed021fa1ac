//! A node that does what a test tells it to: it accepts connections on 127.0.0.1, answers
//! their hellos, and leaves the rest to the test.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Buf, BytesMut};
use corelane_protocol::wire::{
    DecodeLimits, Decoded, RequestFrame, decode_request, encode_reply, peek_len,
};
use corelane_protocol::{
    MonotonicUs, Redirect, Redirection, Remaining, Reply, ReplyHead, Request, RequestId,
    SetCondition, ShortEpoch, Status, Value, Version, WantVersion, Welcome,
};
use corelane_ring::{CoreMap, NodeName, Topology, slot_of};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What the node says in answer to a hello.
#[derive(Clone, Debug)]
pub(crate) enum Greeting {
    /// Welcome, on a node with so many cores.
    Welcome { cores: u16 },
    /// Welcome, in another version of the protocol.
    Version(u16),
    /// These bytes, whatever they are.
    Bytes(&'static [u8]),
    /// No.
    Refuse(Status),
    /// Nothing at all.
    Silence,
}

pub(crate) const VALUE_BYTES_MAX: u32 = 4 << 20;
pub(crate) const CLOCK: MonotonicUs = MonotonicUs(1_000_000_000);
pub(crate) const TOKEN: &[u8] = b"open sesame";

/// A connected socket of whatever sort.
pub(crate) type Stream = Box<dyn Socket>;

/// What a socket must be able to do.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl Listener {
    async fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => Ok(Box::new(listener.accept().await?.0)),
            #[cfg(unix)]
            Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// See the module. Dropped, it closes its listener and the connections nobody took.
pub(crate) struct FakeNode {
    pub(crate) address: String,
    pub(crate) greeting: Arc<Mutex<Greeting>>,
    peers: mpsc::UnboundedReceiver<Peer>,
    accepting: JoinHandle<()>,
}

impl FakeNode {
    pub(crate) async fn start(cores: u16) -> FakeNode {
        FakeNode::start_with(Greeting::Welcome { cores }).await
    }

    pub(crate) async fn start_with(greeting: Greeting) -> FakeNode {
        FakeNode::start_on("127.0.0.1:0", greeting).await
    }

    /// The same on an address, where another node may have been before.
    pub(crate) async fn start_on(address: &str, greeting: Greeting) -> FakeNode {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        FakeNode::accept_from(Listener::Tcp(listener), address, greeting)
    }

    /// The same on a socket in the file system.
    #[cfg(unix)]
    pub(crate) fn start_at(path: &std::path::Path, greeting: Greeting) -> FakeNode {
        let listener = Listener::Unix(tokio::net::UnixListener::bind(path).unwrap());
        FakeNode::accept_from(listener, format!("unix:{}", path.display()), greeting)
    }

    fn accept_from(listener: Listener, address: String, greeting: Greeting) -> FakeNode {
        let greeting = Arc::new(Mutex::new(greeting));
        let (sender, peers) = mpsc::unbounded_channel();
        let said = Arc::clone(&greeting);
        let accepting = tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                let (sender, greeting) = (sender.clone(), said.lock().unwrap().clone());
                tokio::spawn(async move {
                    if let Some(peer) = greet(stream, greeting).await {
                        // The test may be over.
                        let _ = sender.send(peer);
                    }
                });
            }
        });
        FakeNode { address, greeting, peers, accepting }
    }

    /// The next connection that was welcomed.
    pub(crate) async fn peer(&mut self) -> Peer {
        self.peers.recv().await.expect("the node still accepts")
    }

    /// The connections to so many cores, in the order of the cores.
    pub(crate) async fn peers(&mut self, cores: u16) -> Vec<Peer> {
        let mut peers = Vec::new();
        for _ in 0..cores {
            peers.push(self.peer().await);
        }
        peers.sort_by_key(|peer| peer.core);
        peers
    }

    pub(crate) fn greet_with(&self, greeting: Greeting) {
        *self.greeting.lock().unwrap() = greeting;
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn greet(stream: Stream, greeting: Greeting) -> Option<Peer> {
    let mut peer = Peer { view: None, stream, input: BytesMut::new(), core: 0 };
    let frame = peer.request().await?;
    let Request::Hello(hello) = frame.get().request else { panic!("a hello comes first") };
    let id = frame.get().head.id;
    match greeting {
        Greeting::Welcome { cores } => {
            // Who does not ask for a core lands on the last one.
            let core = hello.core.unwrap_or(cores - 1);
            peer.core = core;
            if core >= cores {
                let refusal = Reply::Failed { status: Status::NoSuchCore, message: "" };
                peer.reply(id, &refusal).await;
                return None;
            }
            peer.welcome(id, 1, core, cores).await;
            Some(peer)
        }
        Greeting::Version(version) => {
            peer.welcome(id, version, 0, 1).await;
            None
        }
        Greeting::Bytes(bytes) => {
            peer.write(bytes).await;
            None
        }
        Greeting::Refuse(status) => {
            if status == Status::Unauthorized && hello.token == TOKEN {
                peer.welcome(id, 1, 0, 1).await;
                return Some(peer);
            }
            peer.reply(id, &Reply::Failed { status, message: "not today" }).await;
            None
        }
        Greeting::Silence => {
            peer.is_closed().await;
            None
        }
    }
}

/// A request, with its bytes.
#[derive(Debug)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    pub(crate) fn get(&self) -> RequestFrame<'_> {
        let limits = DecodeLimits::agreed(16_384, 64 << 20);
        match decode_request(&self.0, &limits) {
            Decoded::Complete { frame, .. } => frame,
            other => panic!("not a request: {other:?}"),
        }
    }

    pub(crate) fn id(&self) -> RequestId {
        self.get().head.id
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        self.get().request.key().expect("the request has a key").to_vec()
    }
}

/// What a node of a cluster knows of it.
#[derive(Clone)]
pub(crate) struct View {
    /// Which of the nodes it is.
    pub(crate) name: NodeName,
    pub(crate) topology: Arc<Mutex<Topology>>,
    /// How often it was asked for the topology.
    pub(crate) fetches: Arc<AtomicU32>,
}

/// The node's end of one connection.
pub(crate) struct Peer {
    pub(crate) view: Option<View>,
    pub(crate) stream: Stream,
    input: BytesMut,
    /// The core that the client asked for.
    pub(crate) core: u16,
}

impl Peer {
    /// The next request; none when the client has closed the connection.
    pub(crate) async fn request(&mut self) -> Option<Frame> {
        loop {
            if let Some(length) = peek_len(&self.input)
                && self.input.len() >= length
            {
                return Some(Frame(self.input.split_to(length).to_vec()));
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next so many requests.
    pub(crate) async fn requests(&mut self, count: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        while frames.len() < count {
            frames.push(self.request().await.expect("the client is still there"));
        }
        frames
    }

    /// Whether the client closes the connection without a further request.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.request().await.is_none()
    }

    pub(crate) async fn reply(&mut self, id: RequestId, reply: &Reply<'_>) {
        self.reply_to(&ReplyHead { id, ..ReplyHead::default() }, reply).await;
    }

    pub(crate) async fn reply_part(&mut self, id: RequestId, part: u16, reply: &Reply<'_>) {
        self.reply_to(&ReplyHead { id, part: Some(part), ..ReplyHead::default() }, reply).await;
    }

    async fn reply_to(&mut self, head: &ReplyHead, reply: &Reply<'_>) {
        let mut head = *head;
        if let Some(view) = &self.view {
            head.epoch = ShortEpoch(view.topology.lock().unwrap().epoch().short());
        }
        let mut frame = Vec::new();
        encode_reply(&head, reply, &mut frame);
        self.write(&frame).await;
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // A client that has gone is for the test to notice.
        let _ = self.stream.write_all(bytes).await;
    }

    async fn welcome(&mut self, id: RequestId, version: u16, core: u16, cores: u16) {
        let mut core_ranges = Vec::new();
        for (first, core) in CoreMap::even(cores).unwrap().ranges() {
            core_ranges.extend_from_slice(&first.to_le_bytes());
            core_ranges.extend_from_slice(&core.to_le_bytes());
        }
        let welcome = Welcome {
            version,
            core,
            cores,
            key_bytes_max: 250,
            value_bytes_max: VALUE_BYTES_MAX,
            clock: CLOCK,
            node_name: b"fake",
            core_ranges: &core_ranges,
        };
        self.reply(id, &Reply::Welcome(welcome)).await;
    }

    /// Answers gets and sets from a map until the client goes away.
    pub(crate) async fn serve(mut self, entries: Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>) {
        while let Some(frame) = self.request().await {
            let RequestFrame { head, request } = frame.get();
            if let Some(key) = request.key()
                && let Some((slot, epoch, address)) = self.elsewhere(key)
            {
                let redirection = Redirection::Moved;
                let redirect = Redirect { redirection, slot, epoch, address: &address };
                self.reply(head.id, &Reply::Redirect(redirect)).await;
                continue;
            }
            let missing = Reply::Failed { status: Status::NotFound, message: "" };
            match request {
                Request::Get { key, .. } => {
                    let found = entries.lock().unwrap().get(key).cloned();
                    let reply = found.as_deref().map_or(missing, value);
                    self.reply(head.id, &reply).await;
                }
                Request::MultiGet(keys) => {
                    for (part, key) in keys.iter().enumerate() {
                        let found = entries.lock().unwrap().get(key).cloned();
                        let reply = found.as_deref().map_or(missing, value);
                        self.reply_part(head.id, part as u16, &reply).await;
                    }
                    self.reply(head.id, &Reply::End).await;
                }
                Request::Set(set) => {
                    let there = entries.lock().unwrap().contains_key(set.key);
                    if there && set.condition == SetCondition::Absent {
                        self.reply(head.id, &failed(Status::ConditionFailed)).await;
                        continue;
                    }
                    entries.lock().unwrap().insert(set.key.to_vec(), set.value.to_vec());
                    let version = (head.want_version == WantVersion::Yes).then_some(Version(1));
                    if head.answer == corelane_protocol::Answer::Always {
                        self.reply(head.id, &Reply::Done { version }).await;
                    }
                }
                Request::Delete { key, .. } => {
                    let reply = match entries.lock().unwrap().remove(key) {
                        Some(_) => Reply::Done { version: None },
                        None => missing,
                    };
                    self.reply(head.id, &reply).await;
                }
                Request::Exists { key } => {
                    let there = entries.lock().unwrap().contains_key(key);
                    let reply = if there { Reply::Done { version: None } } else { missing };
                    self.reply(head.id, &reply).await;
                }
                Request::TtlOf { key } => {
                    let there = entries.lock().unwrap().contains_key(key);
                    let never = Reply::Remaining(Remaining::Never);
                    self.reply(head.id, &if there { never } else { missing }).await;
                }
                Request::Topology { held_epoch } => {
                    let view = self.view.clone().expect("the node is in a cluster");
                    view.fetches.fetch_add(1, Ordering::Relaxed);
                    let topology = view.topology.lock().unwrap().clone();
                    let mut table = Vec::new();
                    topology.encode(&mut table);
                    let reply = match topology.epoch().0 > held_epoch {
                        true => Reply::Topology { table: &table },
                        false => Reply::Done { version: None },
                    };
                    self.reply(head.id, &reply).await;
                }
                Request::Ping => self.reply(head.id, &Reply::Pong { clock: CLOCK }).await,
                other => panic!("a fake node does not know {other:?}"),
            }
        }
    }

    /// Where a key belongs, if not here.
    fn elsewhere(&self, key: &[u8]) -> Option<(u16, u64, String)> {
        let view = self.view.as_ref()?;
        let topology = view.topology.lock().unwrap();
        let owner = topology.node(topology.owner(slot_of(key)));
        let address = owner.addresses[0].as_str().to_owned();
        (owner.name != view.name).then(|| (slot_of(key).number(), topology.epoch().0, address))
    }

    /// How many bytes have come that are no whole request yet.
    pub(crate) fn unread(&self) -> usize {
        self.input.remaining()
    }
}

/// A reply that carries this value.
pub(crate) fn value(bytes: &[u8]) -> Reply<'_> {
    Reply::Value(Value { bytes, user_flags: 0, version: None })
}

/// A reply that says no.
pub(crate) fn failed(status: Status) -> Reply<'static> {
    Reply::Failed { status, message: "" }
}
