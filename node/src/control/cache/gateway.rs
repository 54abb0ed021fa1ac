//! The way to the cores: requests of the model, as the cores of a node exchange them.

use std::sync::Arc;

use corelane_protocol::wire::{ReplyDecoded, between_cores};
use corelane_protocol::{Reply, Request, RequestHead, RequestId};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::Problem;
use super::limits::bytes_under_way;
use crate::control::{NodeControl, Phase, Shared};

/// Bytes that one permit stands for.
const PERMIT_BYTES: usize = 1 << 10;

/// See the module.
pub(super) struct Gateway {
    shared: Arc<Shared>,
    value_bytes_max: usize,
    /// Bytes that may be under way, in units of [`PERMIT_BYTES`].
    room: Semaphore,
    permits: usize,
}

/// Requests for one core.
#[derive(Debug, Default)]
pub(super) struct Batch {
    frames: Vec<u8>,
}

impl Batch {
    /// Adds a request; its reply carries the number.
    pub(super) fn push(&mut self, number: u32, head: RequestHead, request: &Request<'_>) {
        let head = RequestHead { id: RequestId(number), ..head };
        between_cores::encode_request(&head, request, &mut self.frames)
            .expect("keys and values were checked against the limits");
    }
}

impl Gateway {
    pub(super) fn new(shared: Arc<Shared>, value_bytes_max: usize) -> Gateway {
        let permits = bytes_under_way(value_bytes_max).div_ceil(PERMIT_BYTES);
        Gateway { shared, value_bytes_max, room: Semaphore::new(permits), permits }
    }

    /// Longest value, in bytes.
    pub(super) fn value_bytes_max(&self) -> usize {
        self.value_bytes_max
    }

    /// Waits until so many more bytes may be under way.
    pub(super) async fn room(&self, bytes: usize) -> SemaphorePermit<'_> {
        let permits = bytes.div_ceil(PERMIT_BYTES).clamp(1, self.permits);
        let permits = u32::try_from(permits).expect("values are under 4 TiB");
        self.room.acquire_many(permits).await.expect("the semaphore is never closed")
    }

    /// The node, while it serves.
    fn node(&self) -> Result<&Arc<dyn NodeControl>, Problem> {
        match (self.shared.node.get(), self.shared.phase()) {
            (Some(node), Phase::Ready) => Ok(node),
            (_, Phase::Draining | Phase::Stopped) => {
                Err(Problem::Unavailable("the node is shutting down"))
            }
            (_, Phase::Starting | Phase::Ready) => {
                Err(Problem::Unavailable("the node has not started yet"))
            }
        }
    }

    /// The core that owns a key.
    pub(super) fn core_of(&self, key: &[u8]) -> Result<u16, Problem> {
        Ok(self.node()?.core_of(key))
    }

    /// Has one request executed; `then` makes the answer of its reply.
    pub(super) async fn ask<T>(
        &self,
        head: RequestHead,
        request: Request<'_>,
        then: impl FnOnce(Reply<'_>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let key = request.key().expect("HTTP asks for nothing without a key");
        let core = self.core_of(key)?;
        let mut batch = Batch::default();
        batch.push(0, head, &request);
        let mut then = Some(then);
        let mut made = None;
        self.exchange(core, batch, |_, reply| {
            let then = then.take().expect("one request has one reply");
            made = Some(then(reply)?);
            Ok(())
        })
        .await?;
        made.ok_or(Problem::Unavailable("the node is shutting down"))
    }

    /// Has requests executed at one core; `each` gets every reply with its number.
    pub(super) async fn exchange(
        &self,
        core: u16,
        batch: Batch,
        mut each: impl FnMut(u32, Reply<'_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut frames = batch.frames;
        while !frames.is_empty() {
            let answered = self.node()?.ask(core, frames).await;
            let answered =
                answered.map_err(|_| Problem::Unavailable("the node is shutting down"))?;
            frames = answered.rest;
            let mut replies = Vec::new();
            for packet in &answered.packets {
                packet.pieces().for_each(|piece| replies.extend_from_slice(piece));
            }
            let mut rest = &replies[..];
            while !rest.is_empty() {
                let ReplyDecoded::Complete { frame, consumed } = between_cores::decode_reply(rest)
                else {
                    unreachable!("a core writes whole replies");
                };
                each(frame.head.id.0, frame.reply)?;
                rest = &rest[consumed..];
            }
        }
        Ok(())
    }
}
