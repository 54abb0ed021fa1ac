//! The first exchange of a connection: who we are, which core we want; what the node is.

use bytes::{Buf, BytesMut};
use corelane_protocol::limits::VERSION;
use corelane_protocol::wire::{ReplyDecoded, decode_reply, encode_request};
use corelane_protocol::{
    Hello, Reply, ReplyHead, Request, RequestHead, RequestId, ShortEpoch, Status, Welcome,
};
use corelane_ring::Core;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::clock::{Clock, NodeClock};
use crate::codec::ReplyReader;
use crate::error::{ConnectFailure, ProtocolError};
use crate::limits::{READ_BYTES_MIN, REPLY_BODY_SLACK_BYTES, WELCOME_BODY_BYTES_MAX};

/// What the node said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) node_name: Box<str>,
    pub(crate) cores: u16,
    pub(crate) key_bytes_max: usize,
    pub(crate) value_bytes_max: usize,
    /// First slot and core of each range, as the wire has them, not checked.
    pub(crate) ranges: Vec<(u16, u16)>,
}

/// A connection that may take requests.
pub(crate) struct Welcomed {
    /// The epoch of the topology that the node knows; 0: none.
    pub(crate) epoch: ShortEpoch,
    pub(crate) facts: Facts,
    pub(crate) clock: NodeClock,
}

/// Says hello and waits for the welcome. What the node sent behind it is in the reader. The
/// caller limits the time.
pub(crate) async fn say_hello<S>(
    stream: &mut S,
    token: &[u8],
    core: Option<Core>,
    clock: Clock,
) -> Result<(Welcomed, ReplyReader), ConnectFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = Hello { version: VERSION, core: core.map(|core| core.0), token };
    let head = RequestHead::default();
    let mut frame = Vec::new();
    encode_request(&head, &Request::Hello(hello), &mut frame)
        .expect("the token was compared with its limit, and cores are fewer than 65535");
    let sent = clock.now();
    // A node that has no room says so and closes without reading; what it said is worth
    // more than the error that writing then gives.
    let written = stream.write_all(&frame).await;

    let mut input = BytesMut::with_capacity(READ_BYTES_MIN);
    loop {
        match decode_reply(&input, WELCOME_BODY_BYTES_MAX) {
            ReplyDecoded::Fatal(error) => return Err(ProtocolError::from(error).into()),
            ReplyDecoded::Complete { frame, consumed } => {
                let received = clock.now();
                let welcome = welcome_of(&frame.head, &frame.reply, head.id)?;
                let node_clock = NodeClock::new(sent, received, welcome.clock);
                let epoch = frame.head.epoch;
                let facts = facts_of(&welcome);
                input.advance(consumed);
                let reader =
                    ReplyReader::new(input, facts.value_bytes_max + REPLY_BODY_SLACK_BYTES);
                return Ok((Welcomed { epoch, facts, clock: node_clock }, reader));
            }
            ReplyDecoded::Incomplete { needed } => {
                input.reserve(needed.saturating_sub(input.len()));
                if stream.read_buf(&mut input).await? == 0 {
                    written?;
                    return Err(ConnectFailure::Closed);
                }
            }
        }
    }
}

fn welcome_of<'a>(
    head: &ReplyHead,
    reply: &Reply<'a>,
    asked: RequestId,
) -> Result<Welcome<'a>, ConnectFailure> {
    match *reply {
        Reply::Welcome(welcome) if head.id == asked => match welcome.version {
            1..=VERSION => Ok(welcome),
            other => Err(ConnectFailure::Version(other)),
        },
        Reply::Failed { status: Status::Unauthorized, .. } => Err(ConnectFailure::Unauthorized),
        Reply::Failed { status, message } => {
            Err(ConnectFailure::Refused { status, message: message.into() })
        }
        Reply::Busy { .. } => {
            Err(ConnectFailure::Refused { status: Status::Busy, message: "".into() })
        }
        _ => Err(ProtocolError::WrongKind { id: head.id.0 }.into()),
    }
}

fn facts_of(welcome: &Welcome<'_>) -> Facts {
    Facts {
        node_name: String::from_utf8_lossy(welcome.node_name).into(),
        cores: welcome.cores,
        key_bytes_max: usize::from(welcome.key_bytes_max),
        value_bytes_max: welcome.value_bytes_max as usize,
        ranges: welcome.ranges().collect(),
    }
}
