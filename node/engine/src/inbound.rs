//! Batches of other cores that are not done in one go, because they end in the middle of a
//! large set, or wait for room.

use std::collections::{BTreeMap, VecDeque};

use corelane_protocol::MonotonicUs;
use corelane_protocol::wire::DecodeLimits;

use crate::ConnectionId;
use crate::dispatch::Dispatcher;
use crate::front::Clients;
use crate::intake::{Begun, Intake, front_of};
use crate::limits::MAIL_REPLY_BYTES_MAX;
use crate::packet::Leases;

/// A connection of another core.
type Sender = (u16, ConnectionId);

/// See the module. A connection has at most one batch here, and credits bound how many cores
/// send; what is open is bounded by the admission of uploads.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// Sets in whose middle the last batch ended.
    open: BTreeMap<Sender, Intake>,
    /// Batches that wait.
    parked: VecDeque<Batch>,
}

/// A batch and how far it was executed.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) sender: Sender,
    pub(crate) frames: Vec<u8>,
    /// Bytes of `frames` that were executed.
    pub(crate) done: usize,
    pub(crate) replies: Vec<u8>,
    /// Large values that belong into the replies.
    pub(crate) leases: Leases,
    state: BatchState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchState {
    /// To be answered.
    Done,
    /// The shard makes room.
    WantsRoom,
    /// Others have the bytes that it wants for a large value.
    WantsAdmission,
}

impl Batch {
    pub(crate) fn new(sender: Sender, frames: Vec<u8>, replies: Vec<u8>) -> Batch {
        Batch {
            sender,
            frames,
            done: 0,
            replies,
            leases: Leases::default(),
            state: BatchState::Done,
        }
    }
}

impl Inbound {
    /// Executes a batch as far as it goes; gives it back when it is to be answered.
    pub(crate) fn execute(
        &mut self,
        mut batch: Batch,
        dispatcher: &mut Dispatcher,
        clients: &mut impl Clients,
        now: MonotonicUs,
    ) -> Option<Batch> {
        batch.state = self.advance(&mut batch, dispatcher, clients, now);
        if batch.state == BatchState::Done {
            return Some(batch);
        }
        self.parked.push_back(batch);
        None
    }

    /// Goes on with a batch that waited; gives it back when it is to be answered. Called in a
    /// turn as often as [`Inbound::parked`] says.
    pub(crate) fn go_on(
        &mut self,
        dispatcher: &mut Dispatcher,
        clients: &mut impl Clients,
        now: MonotonicUs,
    ) -> Option<Batch> {
        let batch = self.parked.pop_front()?;
        self.execute(batch, dispatcher, clients, now)
    }

    /// How many batches wait.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Whether a batch goes on in the next turn, whatever else happens.
    pub(crate) fn is_due(&self) -> bool {
        self.parked.iter().any(|batch| batch.state == BatchState::WantsRoom)
    }

    /// Drops the set in whose middle a connection is; gives back the batch that waited for it.
    pub(crate) fn abandon(&mut self, sender: Sender, dispatcher: &mut Dispatcher) -> Option<Batch> {
        if let Some(intake) = self.open.remove(&sender) {
            dispatcher.executor.abandon(intake);
        }
        let at = self.parked.iter().position(|batch| batch.sender == sender)?;
        let mut batch = self.parked.remove(at)?;
        batch.done = batch.frames.len();
        Some(batch)
    }

    fn advance(
        &mut self,
        batch: &mut Batch,
        dispatcher: &mut Dispatcher,
        clients: &mut impl Clients,
        now: MonotonicUs,
    ) -> BatchState {
        loop {
            let rest = &batch.frames[batch.done..];
            if let Some(intake) = self.open.get_mut(&batch.sender) {
                batch.done += dispatcher.feed(intake, rest, now, &mut batch.replies);
                if intake.left() > 0 {
                    let is_whole = batch.done == batch.frames.len();
                    return if is_whole { BatchState::Done } else { BatchState::WantsRoom };
                }
                self.open.remove(&batch.sender);
                continue;
            }
            batch.done += dispatcher.execute_mail(rest, now, clients, &mut batch.replies);
            batch.leases.append(0, &mut dispatcher.executor.leases);
            let rest = &batch.frames[batch.done..];
            let reply_bytes = batch.replies.len() + batch.leases.bytes();
            if rest.is_empty() || reply_bytes >= MAIL_REPLY_BYTES_MAX {
                return BatchState::Done;
            }
            if dispatcher.first_awaits_room(rest) {
                return BatchState::WantsRoom;
            }
            let front = front_of(rest, &DecodeLimits::BETWEEN_CORES)
                .expect("cores send each other whole frames, and large sets with a whole front")
                .expect("a core checks what it sends on");
            match dispatcher.begin_intake(&front, now, &mut batch.replies) {
                Begun::Yes(intake) => {
                    batch.done += front.front_bytes;
                    self.open.insert(batch.sender, intake);
                }
                Begun::NotAdmitted(_) => return BatchState::WantsAdmission,
            }
        }
    }
}
