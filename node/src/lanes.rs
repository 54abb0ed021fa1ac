//! One core's side of the mesh: sending without ever failing, and waking who sleeps.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use corelane_engine::Mail;
use corelane_mesh::{Drained, End, Sleep};

use crate::driver::Waker;

/// What cores send each other.
#[derive(Debug)]
pub(crate) enum CoreMail {
    /// Between engines.
    Engine(Mail),
    /// A connection that wants to be on the receiving core.
    Adopt(Box<Adoption>),
}

/// A connection on its way to another core.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) socket: OwnedFd,
    /// What it has sent so far.
    pub(crate) received: Vec<u8>,
}

const _: () = assert!(size_of::<CoreMail>() <= corelane_mesh::MAIL_BYTES_MAX);

/// Mail taken from the lanes in one turn.
const MAIL_A_TURN: usize = 256;

/// One end of the mesh, with an outbox for what does not fit a lane at the moment. Engine
/// mail is bounded by credits, and connections by their number, so the outbox is too.
pub(crate) struct Lanes {
    end: End<CoreMail>,
    wakers: Arc<[Waker]>,
    /// By receiver.
    outbox: Vec<VecDeque<CoreMail>>,
    /// Mails in all of the outbox.
    held: usize,
    pub(crate) wakes_sent: u64,
}

impl Lanes {
    pub(crate) fn new(end: End<CoreMail>, wakers: Arc<[Waker]>) -> Lanes {
        let outbox = (0..end.ends()).map(|_| VecDeque::new()).collect();
        Lanes { end, wakers, outbox, held: 0, wakes_sent: 0 }
    }

    /// Puts mail into a lane; the receiver is told of it at the next [`Lanes::flush`].
    pub(crate) fn send(&mut self, to: u16, mail: CoreMail) {
        let to = usize::from(to);
        // What was sent earlier goes first.
        let unsent = if self.outbox[to].is_empty() { self.end.post(to, mail) } else { Err(mail) };
        if let Err(mail) = unsent {
            self.outbox[to].push_back(mail);
            self.held += 1;
        }
    }

    /// Tries again what did not fit, and tells the receivers of all that was sent. Whether
    /// nothing is held back any more.
    pub(crate) fn flush(&mut self) -> bool {
        if self.held > 0 {
            self.retry();
        }
        self.end.tell(|peer| {
            self.wakes_sent += 1;
            self.wakers[peer].wake();
        });
        self.held == 0
    }

    fn retry(&mut self) {
        for (to, queue) in self.outbox.iter_mut().enumerate() {
            while let Some(mail) = queue.pop_front() {
                if let Err(mail) = self.end.post(to, mail) {
                    queue.push_front(mail);
                    break;
                }
                self.held -= 1;
            }
        }
    }

    /// Takes a bounded number of mails.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(u16, CoreMail)) -> Drained {
        self.end.drain(MAIL_A_TURN, |from, mail| each(from as u16, mail))
    }

    /// Whether mail has arrived.
    pub(crate) fn has_mail(&self) -> bool {
        self.end.has_mail()
    }

    /// Before the core blocks: whether it may.
    pub(crate) fn prepare_sleep(&mut self) -> Sleep {
        self.end.prepare_sleep()
    }

    /// After the core may have blocked.
    pub(crate) fn awake(&mut self) {
        self.end.awake();
    }
}
