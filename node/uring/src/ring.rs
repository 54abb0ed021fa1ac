//! The ring itself: queues, backlog, sockets, and whatever the kernel holds at the moment.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use io_uring::types::CancelBuilder;
use io_uring::{cqueue, opcode, squeue};

use crate::buffers::{Buffers, Filled, GROUP};
use crate::faults::{Faults, NoFaults};
use crate::operation::{self, Kind, Part, Report, SLOTS_MAX, Socket, Token};
use crate::payload::{Gather, Payload};
use crate::queues::Queues;
use crate::unavailable::{Facts, Unavailable, diagnose, soft_limit};

/// What a ring is made for.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Entries of the submission queue, a power of two. More operations than that in one
    /// turn cost a further system call, nothing else.
    pub queue_entries: u32,
    /// Entries of the completion queue, a power of two above `queue_entries`. The kernel
    /// keeps what does not fit and hands it over later.
    pub completion_entries: u32,
    /// Sockets at one time, below 2^24.
    pub slots: u32,
    /// Receive buffers, a power of two up to 32,768.
    pub buffers: u16,
    /// Bytes of each of them.
    pub buffer_bytes: u32,
}

/// How long a turn waits for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    AtMost(Duration),
}

/// Whether a repeating operation goes on after a completion, or has to be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    /// More completions follow.
    Still,
    /// This was the last one.
    Ended,
}

/// What a receiving operation reports.
#[derive(Debug)]
pub enum Receipt {
    /// Bytes arrived.
    Bytes(Filled),
    /// The peer will send nothing more.
    End,
    /// Bytes are there and no buffer was free for them.
    NoBuffers,
    /// The operation was cancelled.
    Cancelled,
    /// The connection is broken, or the operation failed.
    Failed(io::Error),
}

/// What the kernel has done.
#[derive(Debug)]
pub enum Completion<P = Vec<u8>> {
    /// A connection waits to be accepted, or listening was cancelled.
    Incoming {
        /// The token that listening was started with.
        token: Token,
    },
    /// Receiving has something to say.
    Received {
        /// The token that receiving was started with.
        token: Token,
        /// What.
        receipt: Receipt,
        /// Whether receiving goes on.
        armed: Armed,
    },
    /// A send is over.
    Sent {
        /// The token that it was started with.
        token: Token,
        /// What it carried.
        payload: P,
        /// Whether all of it went out.
        result: io::Result<()>,
    },
    /// Somebody wrote to the event descriptor.
    Woken,
}

/// What a ring has run short of, and what it has asked of the kernel, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations that found the submission queue full.
    pub submissions_delayed: u64,
    /// System calls after which more had completed than the completion queue holds.
    pub completions_withheld: u64,
    /// Sends of which the socket took a part only.
    pub sends_short: u64,
    /// System calls that wait or submit.
    pub system_calls: u64,
}

/// See the crate. One thread uses a ring: the one that takes its first turn.
pub struct Ring<P: Payload = Vec<u8>, F: Faults = NoFaults> {
    queues: Queues,
    stage: Stage,
    /// Entries that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Operations that will have a last completion: in the kernel, the queue or the backlog.
    in_flight: u32,
    /// How many entries the submission queue ever took.
    queued: u64,
    /// How many of them the kernel took.
    taken: u64,
    /// Sends that report nothing but shortness, in order, each with its number among the
    /// entries of the submission queue.
    silent: VecDeque<(NonZeroU64, Token)>,
    buffers: Buffers,
    slots: Vec<Slot<P>>,
    /// Emptied ones, for the next payloads of several pieces.
    gathers: Gathers,
    slots_max: u32,
    /// How many slots, from the first, are in the registered file table.
    slots_fixed: u32,
    event: Option<OwnedFd>,
    counters: Counters,
    faults: F,
}

/// The kernel knows the thread of a ring from its first turn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Built,
    Running,
}

struct Slot<P> {
    socket: Option<OwnedFd>,
    outgoing: Option<Outgoing<P>>,
}

impl<P> Default for Slot<P> {
    fn default() -> Self {
        Self { socket: None, outgoing: None }
    }
}

// An idle connection costs its slot and nothing else here.
const _: () = assert!(size_of::<Slot<Vec<u8>>>() <= 64);

/// A send under way. **The kernel reads the payload**, and the gather that points to it:
/// they are neither touched nor dropped before the completion.
struct Outgoing<P> {
    payload: P,
    gather: Option<Box<Gather>>,
    sent: usize,
    /// Of a send that is in [`Ring::silent`], its number there.
    silent: Option<NonZeroU64>,
    intent: Intent,
}

/// Longest send that reports nothing but shortness. A longer one is likely to be short.
const SILENT_BYTES_MAX: usize = 128 << 10;
/// Gathers that are kept for the next payloads.
const GATHERS_SPARE: usize = 16;

/// What to do after a short send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    SendAll,
    GiveUp,
}

impl<P: Payload> Ring<P> {
    /// A ring for the kernel as it is.
    ///
    /// # Errors
    /// Why the kernel does not give one, and what to change.
    pub fn new(config: &Config) -> Result<Self, Unavailable> {
        Self::with_faults(config, NoFaults)
    }
}

impl<P: Payload, F: Faults> Ring<P, F> {
    /// A ring that meets the faults of a test.
    ///
    /// # Errors
    /// As [`Ring::new`].
    ///
    /// # Panics
    /// When `config` asks for the impossible.
    pub fn with_faults(config: &Config, faults: F) -> Result<Self, Unavailable> {
        assert!(config.slots <= SLOTS_MAX, "a ring has at most {SLOTS_MAX} slots");
        let refused = |error: io::Error| {
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            diagnose(errno, &Facts::read())
        };
        let queues =
            Queues::new(config.queue_entries, config.completion_entries).map_err(refused)?;
        let buffers = Buffers::new(config.buffers, config.buffer_bytes);
        // SAFETY: `Ring::drop` leaks the buffers when an operation may still use them.
        unsafe { buffers.register(&queues.submitter) }.map_err(refused)?;
        // The kernel takes no larger table than the process may have files open, and a ring
        // without a table works as well: slots beyond it go by their descriptor.
        let files_max = soft_limit("Max open files").unwrap_or(u64::from(u32::MAX));
        let slots_fixed = config.slots.min(u32::try_from(files_max).unwrap_or(u32::MAX));
        let slots_fixed = match queues.submitter.register_files_sparse(slots_fixed) {
            Ok(()) => slots_fixed,
            Err(_) => 0,
        };
        Ok(Self {
            queues,
            stage: Stage::Built,
            backlog: VecDeque::new(),
            in_flight: 0,
            queued: 0,
            taken: 0,
            silent: VecDeque::new(),
            buffers,
            // Only touched as it is used, and never moved.
            slots: Vec::with_capacity(config.slots as usize),
            gathers: Vec::new(),
            slots_max: config.slots,
            slots_fixed,
            event: None,
            counters: Counters::default(),
            faults,
        })
    }

    /// Puts a socket into a free slot.
    ///
    /// # Errors
    /// There is no such slot; the socket is closed.
    ///
    /// # Panics
    /// When the slot is taken.
    pub fn install(&mut self, slot: u32, socket: OwnedFd) -> io::Result<()> {
        if slot >= self.slots_max {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("the driver has {} slots for connections", self.slots_max),
            ));
        }
        if slot < self.slots_fixed {
            let descriptor = [socket.as_raw_fd()];
            self.queues.submitter.register_files_update(slot, &descriptor)?;
        }
        let index = slot as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let previous = self.slots[index].socket.replace(socket);
        assert!(previous.is_none(), "slot {slot} has a socket already");
        Ok(())
    }

    /// Takes a socket out of its slot, which is free then. The caller has seen the last
    /// completion of every operation on it.
    ///
    /// # Panics
    /// When the slot has no socket, or a send is under way.
    pub fn uninstall(&mut self, slot: u32) -> OwnedFd {
        let entry = &mut self.slots[slot as usize];
        assert!(entry.outgoing.is_none(), "slot {slot} is sending");
        let socket = entry.socket.take().expect("the slot has a socket");
        if slot < self.slots_fixed {
            // Taking a file out of the table cannot fail for a reason that would go away,
            // and the next user of the slot replaces it in any case.
            let _ = self.queues.submitter.register_files_update(slot, &[-1]);
        }
        socket
    }

    /// The socket in a slot.
    pub fn socket(&self, slot: u32) -> Option<BorrowedFd<'_>> {
        let socket = self.slots.get(slot as usize)?.socket.as_ref()?;
        Some(socket.as_fd())
    }

    /// Begins to receive: completions follow until one says [`Armed::Ended`].
    ///
    /// # Panics
    /// When the slot has no socket.
    pub fn receive(&mut self, token: Token) {
        let entry = operation::receive(self.kernel_socket(token.slot), GROUP, token);
        self.push(entry);
    }

    /// Ends receiving; its last completion follows, if it was not there before.
    pub fn cancel_receive(&mut self, token: Token) {
        self.push(operation::cancel(Kind::CancelReceive, token));
    }

    /// Sends all of `payload`; one [`Completion::Sent`] follows. Where the socket takes all of
    /// it at once, as it mostly does, that ends no wait: it is reported with what ends the
    /// turn otherwise.
    ///
    /// # Panics
    /// When the slot has no socket, or a send is under way.
    pub fn send(&mut self, token: Token, payload: P) {
        let outgoing = &mut self.slots[token.slot as usize].outgoing;
        assert!(outgoing.is_none(), "slot {} is sending", token.slot);
        let report = match payload.length() {
            ..=SILENT_BYTES_MAX => Report::Shortness,
            _ => Report::End,
        };
        let gather = match payload.as_slice() {
            Some(_) => None,
            None => Some(self.gathers.pop().unwrap_or_else(Gather::new)),
        };
        let intent = Intent::SendAll;
        *outgoing = Some(Outgoing { payload, gather, sent: 0, silent: None, intent });
        self.push_send(token, report);
    }

    /// Gives a send up where it stands; its completion follows, if it was not there before.
    pub fn cancel_send(&mut self, token: Token) {
        if let Some(outgoing) = &mut self.slots[token.slot as usize].outgoing {
            outgoing.intent = Intent::GiveUp;
            self.push(operation::cancel(Kind::CancelSend, token));
        }
    }

    /// Reports once, as [`Completion::Incoming`], that a connection waits on a listening
    /// socket. The token need not name a slot.
    pub fn listen(&mut self, token: Token, listener: BorrowedFd<'_>) {
        self.push(operation::listen(listener.as_raw_fd(), token));
    }

    /// Ends listening, if the report was not there before; then it follows. Until then the
    /// kernel keeps the socket, also when it is closed here.
    pub fn cancel_listen(&mut self, token: Token) {
        self.push(operation::cancel(Kind::CancelListen, token));
    }

    /// Reports [`Completion::Woken`] whenever somebody writes to `event`, from now on.
    pub fn watch(&mut self, event: OwnedFd) {
        self.event = Some(event);
        self.push_watch();
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many receive buffers are not held by the caller.
    pub fn buffers_free(&self) -> u16 {
        self.buffers.free()
    }

    /// Gives a received buffer back. The kernel has it again with the next turn.
    ///
    /// # Panics
    /// When it came from another ring.
    #[inline]
    pub fn recycle(&mut self, filled: Filled) {
        self.buffers.recycle(filled);
    }

    /// Hands everything queued to the kernel and waits. Then, [`Ring::reap`].
    ///
    /// The first turn binds the ring to the calling thread.
    ///
    /// # Errors
    /// Only what no retry can mend.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        if self.stage == Stage::Built {
            self.queues.start()?;
            self.stage = Stage::Running;
        }
        self.buffers.publish();
        self.drain_backlog();
        while !self.backlog.is_empty() {
            // The queue is full, or said to be: submitting makes room.
            self.enter(Wait::No)?;
            let before = self.backlog.len();
            self.drain_backlog();
            if self.backlog.len() == before {
                // The kernel took nothing. Its completions may have to be reaped first.
                return Ok(());
            }
        }
        self.enter(wait)
    }

    /// The next completion of the last turn.
    #[inline]
    pub fn reap(&mut self) -> Option<Completion<P>> {
        while let Some(entry) = self.queues.completion.next() {
            if let Some(completion) = self.interpret(&entry) {
                return Some(completion);
            }
        }
        self.queues.completion.sync();
        self.reap_silent()
    }

    /// The next send that succeeded without a word. The kernel makes a send that may not
    /// wait while it takes the entry. So once it has taken the entry, and all that it had to
    /// say was read, silence means that everything was sent.
    fn reap_silent(&mut self) -> Option<Completion<P>> {
        if self.silent.is_empty() || self.queues.withholds_completions() {
            return None;
        }
        let taken = self.taken;
        while let Some((number, token)) = self.silent.pop_front_if(|(it, _)| it.get() <= taken) {
            let outgoing = &mut self.slots[token.slot as usize].outgoing;
            // Of one that was short, the rest is a send like any other, if it is not over.
            if let Some(outgoing) = outgoing.take_if(|it| it.silent == Some(number)) {
                self.in_flight -= 1;
                let payload = retire(outgoing, &mut self.gathers);
                return Some(Completion::Sent { token, payload, result: Ok(()) });
            }
        }
        None
    }

    fn kernel_socket(&self, slot: u32) -> Socket {
        let socket = self.slots[slot as usize].socket.as_ref();
        let socket = socket.expect("the slot has a socket");
        if slot < self.slots_fixed {
            Socket::Fixed(slot)
        } else {
            Socket::Descriptor(socket.as_raw_fd())
        }
    }

    fn push_send(&mut self, token: Token, report: Report) {
        let socket = self.kernel_socket(token.slot);
        let outgoing = self.slots[token.slot as usize].outgoing.as_mut();
        let outgoing = outgoing.expect("only a send under way is pushed");
        let left = outgoing.payload.length() - outgoing.sent;
        let most = self.faults.send_length(left);
        let (part, length) = outgoing.part(most);
        // A part is not the end, and nothing tells when the kernel takes an entry from the
        // backlog.
        if report == Report::Shortness && length == left && self.backlog.is_empty() {
            let entry = operation::send(socket, part, token, Report::Shortness);
            if self.queue(&entry) {
                self.in_flight += 1;
                let number = NonZeroU64::new(self.queued).expect("one was queued");
                self.silent.push_back((number, token));
                let outgoing = self.slots[token.slot as usize].outgoing.as_mut();
                outgoing.expect("it was there above").silent = Some(number);
                return;
            }
        }
        self.push(operation::send(socket, part, token, Report::End));
    }

    fn push_watch(&mut self) {
        if let Some(event) = &self.event {
            let token = Token { slot: 0, generation: 0 };
            let entry = operation::wake(event.as_raw_fd(), token);
            self.push(entry);
        }
    }

    /// Queues an operation, in the backlog when the queue is full. It cannot fail, so no
    /// caller can lose one.
    fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        if !self.backlog.is_empty() || !self.queue(&entry) {
            self.counters.submissions_delayed += 1;
            self.backlog.push_back(entry);
        }
    }

    /// Whether the submission queue took the entry.
    fn queue(&mut self, entry: &squeue::Entry) -> bool {
        if self.faults.queue_full() {
            return false;
        }
        // SAFETY: the entries made here point to memory in one case, a send. Its payload, which
        // keeps the bytes where they are whatever happens to itself (see `Payload`), and its
        // boxed gather stay in `Slot::outgoing` until the completion (see there), or for ever.
        let taken = unsafe { self.queues.submission.push(entry).is_ok() };
        self.queued += u64::from(taken);
        taken
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.queue(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// One system call, or none if there is nothing for the kernel to do.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let outcome = match self.faults.enter_error() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => self.queues.enter(wait, &mut self.counters),
        };
        self.taken = self.queued - self.queues.left_in_queue();
        match outcome.map_err(|error| (error.raw_os_error(), error)) {
            Ok(()) => Ok(()),
            // The time is up, or a signal came; or the kernel is short of memory, or wants
            // completions reaped first. What was not submitted is still in the queue.
            Err((Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    fn interpret(&mut self, entry: &cqueue::Entry) -> Option<Completion<P>> {
        let (kind, token) = operation::kind_and_token(entry.user_data());
        let armed = if cqueue::more(entry.flags()) {
            Armed::Still
        } else {
            self.in_flight -= 1;
            Armed::Ended
        };
        match kind {
            Kind::Receive => {
                Some(Completion::Received { token, receipt: self.receipt(entry), armed })
            }
            Kind::Send => self.progress(token, entry.result()),
            Kind::Listen => Some(Completion::Incoming { token }),
            Kind::Wake => {
                if armed == Armed::Ended {
                    self.push_watch();
                }
                Some(Completion::Woken)
            }
            Kind::CancelReceive | Kind::CancelSend | Kind::CancelListen => {
                if entry.result() == -libc::EALREADY {
                    // The operation was just running and may go on: once more.
                    self.push(operation::cancel(kind, token));
                }
                None
            }
        }
    }

    fn receipt(&mut self, entry: &cqueue::Entry) -> Receipt {
        let length = u32::try_from(entry.result()).unwrap_or(0);
        let filled = cqueue::buffer_select(entry.flags()).map(|buffer| {
            // SAFETY: this completion names the buffer, and completions are reaped once.
            unsafe { self.buffers.take(buffer, length) }
        });
        match (entry.result(), filled) {
            (1.., Some(filled)) => return Receipt::Bytes(filled),
            (1.., None) => unreachable!("bytes are received into provided buffers only"),
            (_, Some(unused)) => self.buffers.recycle(unused),
            (_, None) => {}
        }
        match -entry.result() {
            0 => Receipt::End,
            libc::ENOBUFS => Receipt::NoBuffers,
            libc::ECANCELED => Receipt::Cancelled,
            errno => Receipt::Failed(io::Error::from_raw_os_error(errno)),
        }
    }

    /// A send has come to `result`; none if it goes on.
    fn progress(&mut self, token: Token, result: i32) -> Option<Completion<P>> {
        let slot = &mut self.slots[token.slot as usize];
        let outgoing = slot.outgoing.as_mut().expect("one send completes once");
        if let Ok(length) = usize::try_from(result) {
            outgoing.sent += length;
        }
        let left = outgoing.payload.length() - outgoing.sent;
        let again = matches!(-result, libc::EAGAIN | libc::EINTR) || result > 0;
        outgoing.silent = None;
        if left > 0 && again && outgoing.intent == Intent::SendAll {
            // The socket is full: from now on the kernel waits for it.
            self.counters.sends_short += 1;
            self.push_send(token, Report::End);
            return None;
        }
        let result = match result {
            _ if left == 0 => Ok(()),
            0 => Err(io::ErrorKind::WriteZero.into()),
            1.. => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        };
        let outgoing = slot.outgoing.take().expect("it was there above");
        let payload = retire(outgoing, &mut self.gathers);
        Some(Completion::Sent { token, payload, result })
    }

    /// Cancels everything and waits, for a bounded time, until the kernel has let go.
    fn settle(&mut self) {
        self.event = None;
        for outgoing in self.slots.iter_mut().filter_map(|slot| slot.outgoing.as_mut()) {
            outgoing.intent = Intent::GiveUp;
        }
        self.in_flight -= self.backlog.len() as u32;
        self.backlog.clear();
        let everything = opcode::AsyncCancel2::new(CancelBuilder::any().all())
            .build()
            .user_data(operation::user_data(Kind::CancelReceive, Token { slot: 0, generation: 0 }));
        self.push(everything);
        // Cancelled operations complete at once; the bound is for a kernel that is stuck.
        for _ in 0..100 {
            if self.turn(Wait::AtMost(Duration::from_millis(10))).is_err() {
                return;
            }
            while let Some(completion) = self.reap() {
                if let Completion::Received { receipt: Receipt::Bytes(filled), .. } = completion {
                    self.recycle(filled);
                }
            }
            if self.in_flight == 0 {
                return;
            }
        }
    }
}

impl<P: Payload> Outgoing<P> {
    /// At most so many bytes of what is left, and how many these are.
    #[inline]
    fn part(&mut self, most: usize) -> (Part, usize) {
        match &mut self.gather {
            None => {
                let bytes = self.payload.as_slice().expect("only pieces are gathered");
                (Part::Bytes(&raw const bytes[self.sent..self.sent + most]), most)
            }
            Some(gather) => {
                let length = gather.point(&self.payload, self.sent, most);
                (Part::Message(gather.header()), length)
            }
        }
    }
}

/// Boxed: the kernel has the address of one that is in use.
type Gathers = Vec<Box<Gather>>;

/// What a send that is over carried; its gather is kept for another.
#[inline]
fn retire<P>(outgoing: Outgoing<P>, gathers: &mut Gathers) -> P {
    if let Some(gather) = outgoing.gather
        && gathers.len() < GATHERS_SPARE
    {
        gathers.push(gather);
    }
    outgoing.payload
}

impl<P: Payload, F: Faults> Drop for Ring<P, F> {
    fn drop(&mut self) {
        // Nothing reached the kernel before the first turn.
        if self.stage == Stage::Running && self.in_flight > 0 {
            self.settle();
            if self.in_flight > 0 {
                // An operation may still use its memory: give it up for good.
                for slot in &mut self.slots {
                    mem::forget(slot.outgoing.take());
                }
                self.buffers.leak();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::payload::tests::Pieces;

    const CONFIG: Config = Config {
        queue_entries: 2,
        completion_entries: 4,
        slots: 100,
        buffers: 256,
        buffer_bytes: 64,
    };

    /// A ring, or none where the machine has no io_uring.
    fn ring<P: Payload>(config: &Config) -> Option<Ring<P>> {
        Ring::new(config).inspect_err(|reason| eprintln!("not run: {reason}")).ok()
    }

    fn token(slot: u32) -> Token {
        Token { slot, generation: slot + 1 }
    }

    /// The peers of so many installed sockets.
    fn install<P: Payload>(ring: &mut Ring<P>, count: u32) -> Vec<UnixStream> {
        (0..count)
            .map(|slot| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                ring.install(slot, ours.into()).unwrap();
                theirs
            })
            .collect()
    }

    /// Turns until `count` completions were seen.
    fn completions(ring: &mut Ring, count: usize) -> Vec<Completion> {
        let mut completions = Vec::new();
        while completions.len() < count {
            ring.turn(Wait::AtMost(Duration::from_secs(10))).unwrap();
            let before = completions.len();
            completions.extend(std::iter::from_fn(|| ring.reap()));
            assert!(completions.len() > before, "nothing completes any more");
        }
        completions
    }

    #[test]
    fn more_completions_than_the_queue_holds_all_arrive() {
        let Some(mut ring) = ring(&CONFIG) else { return };
        let mut peers = install(&mut ring, 100);
        for slot in 0..100 {
            ring.receive(token(slot));
        }
        ring.turn(Wait::No).unwrap();
        for (peer, byte) in peers.iter_mut().zip(0..) {
            peer.write_all(&[byte; 3]).unwrap();
        }
        let mut seen = [false; 100];
        for completion in completions(&mut ring, 100) {
            let Completion::Received { token, receipt: Receipt::Bytes(filled), .. } = completion
            else {
                panic!("{completion:?}");
            };
            assert_eq!(token.generation, token.slot + 1);
            assert_eq!(filled.bytes(), [token.slot as u8; 3]);
            assert!(!std::mem::replace(&mut seen[token.slot as usize], true));
            ring.recycle(filled);
        }
        assert_eq!(ring.buffers_free(), CONFIG.buffers);
    }

    #[test]
    fn slots_beyond_the_registered_table_work_as_well() {
        let Some(mut ring) = ring(&CONFIG) else { return };
        ring.slots_fixed = 1;
        let mut peers = install(&mut ring, 2);
        for (slot, peer) in peers.iter_mut().enumerate() {
            ring.send(token(slot as u32), b"ping".to_vec());
            ring.turn(Wait::No).unwrap();
            let sent = ring.reap().unwrap();
            assert!(
                matches!(&sent, Completion::Sent { payload, result: Ok(()), .. } if payload == b"ping"),
                "{sent:?}"
            );
            let mut bytes = [0; 4];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"ping");
            drop(ring.uninstall(slot as u32));
            assert_eq!(peer.read(&mut bytes).unwrap(), 0, "the socket is closed");
        }
    }

    /// Sends until every one of so many sockets, which nobody reads, is full; the bytes that
    /// each of them was given. Their last sends are still under way.
    fn fill<P: Payload + Debug>(
        ring: &mut Ring<P>,
        count: u32,
        payload: impl Fn(&[u8]) -> P,
    ) -> Vec<Vec<u8>> {
        let mut given = vec![Vec::new(); count as usize];
        let mut ready: Vec<u32> = (0..count).collect();
        while !ready.is_empty() {
            for slot in ready.drain(..) {
                let given = &mut given[slot as usize];
                let start = given.len() + slot as usize;
                given.extend((start..start + 20_000).map(|place| (place % 251) as u8));
                ring.send(token(slot), payload(&given[given.len() - 20_000..]));
            }
            // What is sent at once is reported by the turns that make it, which do not wait.
            for _ in 0..count {
                ring.turn(Wait::No).unwrap();
                while let Some(completion) = ring.reap() {
                    let Completion::Sent { token, result: Ok(()), .. } = completion else {
                        panic!("{completion:?}");
                    };
                    ready.push(token.slot);
                }
            }
        }
        given
    }

    /// All but one of the sends are silent, the last is short: even where what the kernel
    /// says of it finds the completion queue full, silence is not taken for success.
    fn check_that_silence_is_success<P: Payload + Debug>(payload: impl Fn(&[u8]) -> P) {
        let Some(mut ring) = ring(&CONFIG) else { return };
        let mut peers = install(&mut ring, 20);
        let given = fill(&mut ring, 20, payload);
        assert_eq!(ring.in_flight, 20, "each has a send under way");
        for (peer, expected) in peers.iter_mut().zip(&given) {
            assert!(expected.len() > 40_000, "more than one send was silent");
            peer.set_nonblocking(true).unwrap();
            let mut bytes = Vec::new();
            while bytes.len() < expected.len() {
                let mut part = [0; 65_536];
                match peer.read(&mut part) {
                    Ok(length) => bytes.extend_from_slice(&part[..length]),
                    Err(_) => ring.turn(Wait::AtMost(Duration::from_secs(10))).unwrap(),
                }
                while let Some(completion) = ring.reap() {
                    assert!(matches!(completion, Completion::Sent { result: Ok(()), .. }));
                }
            }
            assert!(bytes == *expected, "other bytes than were sent");
        }
        ring.turn(Wait::No).unwrap();
        while ring.reap().is_some() {}
        assert_eq!(ring.in_flight, 0);
    }

    #[test]
    fn silence_is_success_and_short_sends_are_finished() {
        check_that_silence_is_success(<[u8]>::to_vec);
    }

    #[test]
    fn the_same_of_sends_in_several_pieces() {
        // Of some, there are more than one operation takes.
        for piece in [100, 3_000] {
            check_that_silence_is_success(|bytes| {
                Pieces(bytes.chunks(piece).map(<[u8]>::to_vec).collect())
            });
        }
    }

    #[test]
    fn a_silent_send_to_a_peer_that_is_gone_fails() {
        let Some(mut ring) = ring(&CONFIG) else { return };
        drop(install(&mut ring, 1));
        ring.send(token(0), b"nobody".to_vec());
        ring.turn(Wait::No).unwrap();
        let sent = ring.reap().unwrap();
        assert!(
            matches!(&sent, Completion::Sent { payload, result: Err(_), .. } if payload == b"nobody"),
            "{sent:?}"
        );
        // The slot's next send is another one, whatever the first was remembered as.
        drop(ring.uninstall(0));
        let _peer = install(&mut ring, 1);
        ring.send(token(0), b"somebody".to_vec());
        assert!(ring.reap().is_none(), "the kernel does not know of it yet");
        ring.turn(Wait::No).unwrap();
        assert!(matches!(ring.reap(), Some(Completion::Sent { result: Ok(()), .. })));
        assert!(ring.reap().is_none());
    }

    #[test]
    fn a_ring_that_settles_has_nothing_in_the_kernel() {
        let Some(mut ring) = ring(&CONFIG) else { return };
        let mut peers = install(&mut ring, 8);
        ring.watch(crate::event_descriptor().unwrap());
        for slot in 0..8 {
            ring.receive(token(slot));
            // More than a socket takes while nobody reads.
            ring.send(token(slot), vec![7; 4 << 20]);
        }
        ring.turn(Wait::No).unwrap();
        // One entry is still in the backlog when the ring goes.
        ring.cancel_receive(token(0));
        ring.settle();
        assert_eq!(ring.in_flight, 0);
        assert!(ring.slots.iter().all(|slot| slot.outgoing.is_none()));
        drop(ring);
        for peer in &mut peers {
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            assert!(rest.len() < 4 << 20, "the send was given up");
        }
    }

    #[test]
    fn an_abandoned_send_gives_its_buffer_back() {
        let Some(mut ring) = ring(&CONFIG) else { return };
        let _peers = install(&mut ring, 1);
        ring.send(token(0), vec![7; 4 << 20]);
        ring.turn(Wait::No).unwrap();
        assert!(ring.reap().is_none());
        ring.cancel_send(token(0));
        let sent = completions(&mut ring, 1).remove(0);
        let Completion::Sent { payload, result, .. } = sent else { panic!("{sent:?}") };
        assert_eq!(payload.len(), 4 << 20);
        assert!(result.is_err());
    }
}
