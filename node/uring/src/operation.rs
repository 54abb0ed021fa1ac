//! What an operation is: its entry for the submission queue, and how its completion is
//! recognised.
//!
//! | bits of the user data | meaning |
//! | --- | --- |
//! | 63–56 | [`Kind`] |
//! | 55–32 | slot |
//! | 31–0 | generation |

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

/// Names one use of a slot. Completions of an earlier use carry an earlier generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Place in the table of sockets, below 2^24.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// Bits of a slot's number in the user data.
const SLOT_BITS: u32 = 24;
/// Slots that can be told apart.
pub(crate) const SLOTS_MAX: u32 = 1 << SLOT_BITS;

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Receive = 1,
    Send,
    Listen,
    Wake,
    CancelReceive,
    CancelSend,
    CancelListen,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Receive,
        Kind::Send,
        Kind::Listen,
        Kind::Wake,
        Kind::CancelReceive,
        Kind::CancelSend,
        Kind::CancelListen,
    ];

    /// What a cancellation of this kind is aimed at.
    pub(crate) fn target(self) -> Option<Kind> {
        match self {
            Kind::CancelReceive => Some(Kind::Receive),
            Kind::CancelSend => Some(Kind::Send),
            Kind::CancelListen => Some(Kind::Listen),
            Kind::Receive | Kind::Send | Kind::Listen | Kind::Wake => None,
        }
    }
}

/// Packs kind and token into an entry's user data.
#[inline]
pub(crate) fn user_data(kind: Kind, token: Token) -> u64 {
    debug_assert!(token.slot < SLOTS_MAX);
    (kind as u64) << 56 | u64::from(token.slot) << 32 | u64::from(token.generation)
}

/// Unpacks what [`user_data`] packed.
///
/// # Panics
/// When the kernel returns what was never given to it.
#[inline]
pub(crate) fn kind_and_token(user_data: u64) -> (Kind, Token) {
    let kind = Kind::ALL[(user_data >> 56) as usize - 1];
    let token =
        Token { slot: (user_data >> 32) as u32 & (SLOTS_MAX - 1), generation: user_data as u32 };
    (kind, token)
}

/// A socket as the kernel is told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Socket {
    /// Place in the registered file table.
    Fixed(u32),
    /// Ordinary file descriptor.
    Descriptor(i32),
}

/// Receives into the buffers of `group` until told otherwise.
#[inline]
pub(crate) fn receive(socket: Socket, group: u16, token: Token) -> Entry {
    let entry = match socket {
        Socket::Fixed(index) => opcode::RecvMulti::new(types::Fixed(index), group).build(),
        Socket::Descriptor(fd) => opcode::RecvMulti::new(types::Fd(fd), group).build(),
    };
    entry.user_data(user_data(Kind::Receive, token))
}

/// What a send tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Its end, for which the kernel waits until the socket has taken everything.
    End,
    /// Only that the socket did not take everything at once, and how much it took.
    Shortness,
}

/// What the kernel is to send, by address. Whoever pushes the entry keeps what is there until
/// it completes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// These bytes.
    Bytes(*const [u8]),
    /// What a message points to.
    Message(*const libc::msghdr),
}

/// Sends, whole if the connection lasts.
#[inline]
pub(crate) fn send(socket: Socket, part: Part, token: Token, report: Report) -> Entry {
    // WAITALL makes the kernel itself go on after a short send, and with DONTWAIT take one
    // for a failure: a success that may be skipped is then a whole one.
    let (flags, entry_flags) = match report {
        Report::End => (0, Flags::empty()),
        Report::Shortness => (libc::MSG_DONTWAIT, Flags::SKIP_SUCCESS),
    };
    let flags = flags | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
    let entry = match part {
        Part::Bytes(bytes) => {
            // A longer rest is sent after the first part, as any short send.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let start = bytes.cast::<u8>();
            match socket {
                Socket::Fixed(index) => {
                    opcode::Send::new(types::Fixed(index), start, length).flags(flags).build()
                }
                Socket::Descriptor(fd) => {
                    opcode::Send::new(types::Fd(fd), start, length).flags(flags).build()
                }
            }
        }
        Part::Message(header) => {
            let flags = flags as u32;
            match socket {
                Socket::Fixed(index) => {
                    opcode::SendMsg::new(types::Fixed(index), header).flags(flags).build()
                }
                Socket::Descriptor(fd) => {
                    opcode::SendMsg::new(types::Fd(fd), header).flags(flags).build()
                }
            }
        }
    };
    entry.flags(entry_flags).user_data(user_data(Kind::Send, token))
}

/// Reports once that a connection waits to be accepted.
pub(crate) fn listen(listener: i32, token: Token) -> Entry {
    opcode::PollAdd::new(types::Fd(listener), libc::POLLIN as u32)
        .build()
        .user_data(user_data(Kind::Listen, token))
}

/// Reports every write to an event descriptor. Its counter need not be read: the kernel
/// reports at the write, not while the counter stands.
pub(crate) fn wake(event: i32, token: Token) -> Entry {
    opcode::PollAdd::new(types::Fd(event), libc::POLLIN as u32)
        .multi(true)
        .build()
        .user_data(user_data(Kind::Wake, token))
}

/// Ends the operation that `kind` is aimed at.
pub(crate) fn cancel(kind: Kind, token: Token) -> Entry {
    let target = kind.target().expect("only cancellations have a target");
    opcode::AsyncCancel::new(user_data(target, token)).build().user_data(user_data(kind, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_token_survive_the_kernel() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index + 1, "ALL is in order");
            for slot in [0, 1, 0xab_cdef, SLOTS_MAX - 1] {
                for generation in [0, 1, u32::MAX] {
                    let token = Token { slot, generation };
                    assert_eq!(kind_and_token(user_data(kind, token)), (kind, token));
                }
            }
        }
    }
}
