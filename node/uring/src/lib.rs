//! The only crate that knows io_uring: typed operations on sockets, without a pointer or a
//! lifetime that the caller could get wrong.
//!
//! ```text
//! install, receive, send, cancel, listen …   build an entry; a full queue puts it into the
//!        │                                   backlog, so that nothing is ever lost
//!        ▼
//! Ring::turn                                 one system call: submit all, wait, run the
//!        │                                   kernel's deferred work
//!        ▼
//! Ring::next ─► Completion                   received bytes come in provided buffers
//!                                            ([`Filled`]), sent ones are given back
//! ```
//!
//! Two rules keep this sound whatever the caller does. A buffer that the kernel may read or
//! write belongs to the [`Ring`] until the completion is there, also when the connection is
//! long gone and also when the ring is dropped. And a received buffer is the kernel's again
//! only when its [`Filled`], of which there is one, came back.
//!
//! Sockets stand in numbered slots, in a registered file table as far as the limit of open
//! files allows. Operations carry a [`Token`], slot and generation, so that a completion is
//! never taken for one of the slot's next user.

mod unavailable;

mod buffers;

mod operation;

mod payload;

mod queues;

mod ring;

mod faults;

mod event;

pub use buffers::Filled;
pub use event::event_descriptor;
pub use faults::{Faults, NoFaults};
pub use operation::Token;
pub use payload::Payload;
pub use ring::{Armed, Completion, Config, Counters, Receipt, Ring, Wait};
pub use unavailable::{Facts, KERNEL_MIN, Unavailable, diagnose};
