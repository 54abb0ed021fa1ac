//! Setting up the kernel's side, and the two queues shared with it.

use std::io;
use std::ptr::NonNull;
use std::thread::{self, ThreadId};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, Probe, SubmissionQueue, Submitter, opcode};

use crate::ring::{Counters, Wait};

/// The queues and the submitter of one `IoUring`, kept for its whole life: the submitter
/// remembers the registered ring descriptor, which saves every call a look-up.
///
/// The fields borrow from the heap allocation in `owner`, which is dropped last (fields are
/// dropped in order) and does not move.
pub(crate) struct Queues {
    pub(crate) submitter: Submitter<'static>,
    pub(crate) submission: SubmissionQueue<'static>,
    pub(crate) completion: CompletionQueue<'static>,
    /// The thread in whose table the ring descriptor is registered.
    registered: Option<ThreadId>,
    owner: Owner,
}

// SAFETY: the raw pointers inside lead to the kernel's shared memory and to the heap
// allocation in `owner`, both of which move along.
unsafe impl Send for Queues {}

/// Frees the `IoUring` that the rest borrows from.
struct Owner(NonNull<IoUring>);

impl Owner {
    fn uring(&self) -> &IoUring {
        // SAFETY: the allocation lives as long as this value, and nobody has it mutably:
        // the queues use it through shared pointers.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw`, and the borrowers are gone.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Queues {
    /// Queues that belong to no thread yet; see [`Queues::start`].
    pub(crate) fn new(entries: u32, completion_entries: u32) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_cqsize(completion_entries)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_r_disabled()
            .build(entries)?;
        let owner = Owner(NonNull::from(Box::leak(Box::new(uring))));
        // SAFETY: the allocation outlives the borrows (see the struct), and `split` is
        // called once, so there is one queue of each kind.
        let (submitter, submission, completion) = unsafe { (*owner.0.as_ptr()).split() };
        let queues = Self { submitter, submission, completion, registered: None, owner };
        queues.check()?;
        Ok(queues)
    }

    /// Whether the kernel has what is used beyond the flags above.
    fn check(&self) -> io::Result<()> {
        let parameters = self.owner.uring().params();
        let mut probe = Probe::new();
        self.submitter.register_probe(&mut probe)?;
        let operations = [
            opcode::RecvMulti::CODE,
            opcode::Send::CODE,
            opcode::SendMsg::CODE,
            opcode::AsyncCancel2::CODE,
            opcode::PollAdd::CODE,
        ];
        let complete = operations.iter().all(|code| probe.is_supported(*code))
            && parameters.is_feature_nodrop()
            && parameters.is_feature_skip_cqe_on_success()
            && parameters.is_feature_ext_arg();
        if complete { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)) }
    }

    /// Binds the queues to the calling thread, the only one to use them from now on.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.submitter.register_enable_rings()?;
        // A thread has room for 16 registered rings; without, each call looks its file up.
        if self.submitter.register_ring_fd().is_ok() {
            self.registered = Some(thread::current().id());
        }
        Ok(())
    }

    /// Submits, runs the kernel's deferred work, and waits for a completion.
    pub(crate) fn enter(&mut self, wait: Wait, counters: &mut Counters) -> io::Result<()> {
        self.submission.sync();
        let queued = self.submission.len() as u32;
        let (want, timeout) = match wait {
            Wait::No => {
                let idle = !self.submission.taskrun() && !self.submission.cq_overflow();
                if queued == 0 && idle {
                    self.completion.sync();
                    return Ok(());
                }
                (0, Timespec::new())
            }
            Wait::AtMost(time) => (1, Timespec::from(time)),
        };
        let arguments = SubmitArgs::new().timespec(&timeout);
        // GETEVENTS always: without it the deferred work is not run, and what overflowed
        // the completion queue is not handed over.
        let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        // SAFETY: the queue holds entries whose memory is kept (see `Ring::queue`), and the
        // arguments live through the call.
        let outcome = unsafe { self.submitter.enter(queued, want, flags.bits(), Some(&arguments)) };
        self.submission.sync();
        self.completion.sync();
        counters.system_calls += 1;
        counters.completions_withheld += u64::from(self.withholds_completions());
        outcome.map(drop)
    }

    /// How many entries the kernel has left in the submission queue, as of the last entering.
    #[inline]
    pub(crate) fn left_in_queue(&self) -> u64 {
        self.submission.len() as u64
    }

    /// Whether there are completions that found their queue full. The kernel hands them over
    /// when it is entered again.
    #[inline]
    pub(crate) fn withholds_completions(&self) -> bool {
        self.submission.cq_overflow()
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        // The kernel's table of the thread would keep the ring, and with it all registered
        // sockets, until the thread ends. (Another thread has a table of its own; there,
        // the number may be another ring's.)
        if self.registered == Some(thread::current().id()) {
            let _ = self.submitter.unregister_ring_fd();
        }
    }
}
